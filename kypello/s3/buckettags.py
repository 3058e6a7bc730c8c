# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The tags of buckets.
"""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from kypello.s3.bucketsettings import BucketSetting
from kypello.s3.tagging import read_tag_set, read_tagging_document, tagging_document

#: How many tags a bucket may have.
MAX_TAGS = 50

_KIND = "Bucket"

#: The tags of a bucket.
TAGS = BucketSetting(
    "tags",
    ("NoSuchTagSet", "The TagSet does not exist"),
    lambda call, body: tagging_document(read_tagging_document(body, MAX_TAGS, _KIND)),
    status=204,
)


def read_new_tags(tag_set: Element) -> Mapping[str, bytes]:
    """
    The setting with the tags of a new bucket; empty when it has none.

    :raises Refused: ``MalformedXML``, ``InvalidTag`` or ``BadRequest``.
    """
    tags = read_tag_set(tag_set, MAX_TAGS, _KIND)
    return {TAGS.name: tagging_document(tags)} if tags else {}

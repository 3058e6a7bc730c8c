# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The source of a copy: how a request names it, and how it is opened.
"""

import re
from urllib.parse import unquote_to_bytes

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.interfaces import IOpenObject
from kypello.model import CustomerKey
from kypello.s3.call import Call
from kypello.s3.conditions import check_source
from kypello.s3.encryption import read_source_key
from kypello.s3.errors import invalid_argument, not_implemented
from kypello.s3.names import check_bucket_name, check_key

#: The header that names the source, and makes a PUT a copy.
COPY_SOURCE = "x-amz-copy-source"

_VERSION = "?versionId="
_ARN = "arn:"
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


@frozen
class Source:
    """
    The object that is copied.

    :ivar versioned: The client has named the version.
    :ivar customer_key: The key that the client brings for it.
    """

    bucket: str
    key: str
    versioned: bool
    customer_key: CustomerKey | None


def read_source(head: RequestHead) -> Source:
    """
    Read what is copied.

    :raises Refused: ``InvalidArgument``, ``InvalidBucketName``, ``KeyTooLongError``,
        ``InvalidURI``, ``NotImplemented``, and what a wrong key gets.
    """
    stated = head.header(COPY_SOURCE) or ""
    name, mark, version_id = stated.partition(_VERSION)
    if mark and version_id not in ("", "null"):
        raise not_implemented("versionId")
    if name.startswith(_ARN):
        raise not_implemented(COPY_SOURCE)
    try:
        path = unquote_to_bytes(name.encode("latin-1")).decode()
    except UnicodeDecodeError:
        path = ""
    if _BAD_ESCAPE.search(name) or (name and not path):
        raise invalid_argument(COPY_SOURCE, stated, "Invalid copy source encoding")
    bucket, _slash, key = path.removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(
            COPY_SOURCE,
            stated,
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey.",
        )
    check_bucket_name(bucket)
    check_key(key)
    return Source(bucket, key, bool(version_id), read_source_key(head))


async def open_source(call: Call, source: Source) -> IOpenObject:
    """
    Open what is copied, if the client may read it and its conditions hold.  The caller closes
    it.

    :raises Refused: ``AccessDenied``, also when there is no such object.
    :raises PreconditionFailed:
    :raises KypelloError: As :meth:`IObjectStore.open`.
    """
    front = call.front
    await call.require("s3:GetObject", source.bucket, source.key)
    opened = await front.store.open(source.bucket, source.key, source.customer_key)
    try:
        check_source(call.head, opened.info, front.clock.seconds())
        await call.require_decryption(opened.info.metadata.sealing)
    except BaseException:
        opened.close()
        raise
    return opened


def too_large(limit: int) -> Refused:
    """
    The refusal of a source of more bytes than *limit*.
    """
    return Refused(
        "InvalidRequest",
        "The specified copy source is larger than the maximum allowable size for a copy source:"
        f" {limit}",
    )

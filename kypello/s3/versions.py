# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Versions in requests and answers.
"""

from collections.abc import Iterator, Mapping

from kypello.auth.request import RequestHead
from kypello.model import NULL_VERSION, Deletion
from kypello.s3.errors import DELETE_MARKER, VERSION_ID, invalid_argument
from kypello.versioning import SETTING, is_version_id

_PARAMETER = "versionId"


def read_version(head: RequestHead) -> str:
    """
    The version that a request names; empty for none.

    :raises Refused: ``InvalidArgument``.
    """
    return check_version(head.parameter(_PARAMETER) or "")


def check_version(version_id: str, name: str = _PARAMETER) -> str:
    """
    See that a version may have this id.

    :param version_id: Empty for none.
    :param name: What the client has named it by.
    :raises Refused: ``InvalidArgument``.
    """
    if version_id and not is_version_id(version_id):
        raise invalid_argument(name, version_id, "Invalid version id specified")
    return version_id


def version_headers(
    settings: Mapping[str, bytes], version_id: str, name: str = VERSION_ID
) -> Iterator[tuple[str, str]]:
    """
    The header that tells a version; none in a bucket that never had any.

    :param settings: Of the bucket.
    """
    if version_id != NULL_VERSION or SETTING in settings:
        yield name, version_id


def deletion_headers(
    settings: Mapping[str, bytes], deletion: Deletion
) -> Iterator[tuple[str, str]]:
    """
    The headers that tell what a deletion has done.

    :param settings: Of the bucket.
    """
    if deletion.version_id:
        yield from version_headers(settings, deletion.version_id)
    if deletion.marker:
        yield DELETE_MARKER, "true"

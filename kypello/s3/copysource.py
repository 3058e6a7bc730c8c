# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The source of a copy: how a request names it, and how it is opened.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.errors import IsDeleteMarker, NoSuchKey, Refused
from kypello.interfaces import IOpenObject
from kypello.model import CustomerKey, ObjectInfo
from kypello.s3.call import Call, settings_of
from kypello.s3.conditions import check_source
from kypello.s3.encryption import read_source_key
from kypello.s3.errors import invalid_argument, not_implemented
from kypello.s3.names import check_bucket_name, check_key
from kypello.s3.versions import check_version, version_headers

#: The header that names the source, and makes a PUT a copy.
COPY_SOURCE = "x-amz-copy-source"

_VERSION = "?versionId="
_COPIED_VERSION = "x-amz-copy-source-version-id"
_ARN = "arn:"
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


@frozen
class Source:
    """
    The object that is copied.

    :ivar version_id: The version that the client has named; empty for the current one.
    :ivar customer_key: The key that the client brings for it.
    """

    bucket: str
    key: str
    version_id: str
    customer_key: CustomerKey | None

    def action(self, action: str) -> str:
        """
        What a policy must allow for the version that is named.
        """
        return action.replace("Object", "ObjectVersion") if self.version_id else action


def read_source(head: RequestHead) -> Source:
    """
    Read what is copied.

    :raises Refused: ``InvalidArgument``, ``InvalidBucketName``, ``KeyTooLongError``,
        ``InvalidURI``, ``NotImplemented``, and what a wrong key gets.
    """
    stated = head.header(COPY_SOURCE) or ""
    name, _mark, version_id = stated.partition(_VERSION)
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
    check_version(version_id, COPY_SOURCE)
    return Source(bucket, key, version_id, read_source_key(head))


async def open_source(call: Call, source: Source) -> IOpenObject:
    """
    Open what is copied, if the client may read it and its conditions hold.  The caller closes
    it.

    :raises Refused: ``AccessDenied``, also when there is no such object.
    :raises PreconditionFailed:
    :raises KypelloError: As :meth:`IObjectStore.open`.
    """
    front, where = call.front, (source.bucket, source.key)
    await call.require(source.action("s3:GetObject"), *where)
    try:
        opened = await front.store.open(*where, source.customer_key, source.version_id)
    except IsDeleteMarker as error:
        raise Refused(
            "InvalidRequest",
            "The source of a copy request may not specifically refer to a delete marker by version"
            " id.",
        ) from error
    except NoSuchKey as error:
        # The answer is about the target: it does not tell of delete markers elsewhere.
        raise NoSuchKey(*where) from error
    try:
        check_source(call.head, opened.info, front.clock.seconds())
        await call.require_decryption(opened.info.metadata.sealing)
    except BaseException:
        opened.close()
        raise
    return opened


async def source_headers(call: Call, info: ObjectInfo) -> list[tuple[str, str]]:
    """
    The header that tells which version was copied.
    """
    settings: Mapping[str, bytes] | None = call.settings
    if info.bucket != call.bucket:
        settings = await settings_of(call.front.store, info.bucket)
    return list(version_headers(settings or {}, info.version_id, _COPIED_VERSION))


def too_large(limit: int) -> Refused:
    """
    The refusal of a source of more bytes than *limit*.
    """
    return Refused(
        "InvalidRequest",
        "The specified copy source is larger than the maximum allowable size for a copy source:"
        f" {limit}",
    )

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Operations on one object.
"""

from functools import partial

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.errors import NoSuchKey, Refused
from kypello.http.response import Response
from kypello.interfaces import Condition
from kypello.model import CustomerKey, EncryptionRequest, ObjectInfo, ObjectMetadata
from kypello.s3.bucketconfig import check_encryption
from kypello.s3.call import Call
from kypello.s3.conditions import delete_condition, is_not_modified, write_condition
from kypello.s3.encryption import (
    is_opaque,
    read_customer_key,
    read_write_encryption,
    sealing_headers,
)
from kypello.s3.errors import not_implemented
from kypello.s3.headers import (
    StoredHeaders,
    checksum_headers,
    object_headers,
    overridden,
    read_overrides,
    read_stored_headers,
)
from kypello.s3.payload import Payload
from kypello.s3.ranges import content_range, wanted_part, wanted_range

#: The headers of an object that come with "304 Not Modified" (RFC 9110, section 15.4.5).
_UNCHANGED = frozenset({"ETag", "Last-Modified", "Cache-Control", "Expires"})

#: Conditions that would be lost, and with them perhaps the object.
_UNSUPPORTED_CONDITIONS = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size")


@frozen
class _Put:
    """
    What a PUT asks for.
    """

    headers: StoredHeaders
    encryption: EncryptionRequest | None
    condition: Condition | None
    payload: Payload

    def describe(self, _size: int) -> ObjectMetadata:
        """
        The metadata, once the payload is read and verified.
        """
        return self.headers.describe(self.payload.md5 or "", self.payload.checksums)


async def put_object(call: Call) -> Response:
    """
    Store an object.
    """
    put = await call.check(partial(_read_put, call))
    if put.headers.tags:
        await call.require("s3:PutObjectTagging")
    await check_encryption(call, put.encryption)
    await check_early(call, put.condition)
    info = await call.front.store.put(
        call.bucket, call.key, put.payload, put.describe, put.encryption, put.condition
    )
    sealing = sealing_headers(info.metadata.sealing, context=True)
    headers = [("ETag", f'"{info.etag}"'), *sealing]
    return Response(200, [*headers, *checksum_headers(info.metadata)])


async def check_early(call: Call, condition: Condition | None) -> None:
    """
    Check the condition of a write, to spare the client the upload.  It is checked again in the
    commit.

    :raises KypelloError: What the condition raises.
    """
    if condition is None:
        return
    try:
        current = await call.front.store.head(call.bucket, call.key)
    except NoSuchKey:
        condition(None)
    except Refused:
        # It was stored with a key that this request need not know; the commit needs none.
        return
    else:
        condition(current)


async def get_object(call: Call) -> Response:
    """
    Read an object, or a range of it.
    """
    overrides, key = await call.check(partial(_read_get, call))
    opened = await call.front.store.open(call.bucket, call.key, key)
    try:
        info, head = opened.info, call.head
        await call.require_decryption(info.metadata.sealing)
        if is_not_modified(head, info, call.front.clock.seconds()):
            return _not_modified(info)
        wanted = wanted_range(head, info)
        headers = overridden(_answer_headers(head, info), overrides)
        if wanted is None:
            return Response(200, headers, await opened.read(None))
        headers.append(content_range(wanted, info.size))
        return Response(206, headers, await opened.read(wanted))
    finally:
        opened.close()


async def head_object(call: Call) -> Response:
    """
    Tell about an object what reading it would tell.
    """
    overrides, key = await call.check(partial(_read_get, call))
    info = await call.front.store.head(call.bucket, call.key, key)
    head = call.head
    if is_not_modified(head, info, call.front.clock.seconds()):
        return _not_modified(info)
    wanted = wanted_range(head, info)
    headers = overridden(_answer_headers(head, info), overrides)
    if wanted is None:
        return Response(200, [*headers, ("Content-Length", str(info.size))])
    length = ("Content-Length", str(wanted.size))
    return Response(206, [*headers, content_range(wanted, info.size), length])


async def delete_object(call: Call) -> Response:
    """
    Remove an object; one that does not exist is removed already.
    """
    condition = await call.check(partial(_read_delete, call.head))
    await call.front.store.delete(call.bucket, call.key, condition)
    return Response(204)


def _read_put(call: Call) -> _Put:
    head = call.head
    check_version(head)
    headers = read_stored_headers(head, call.front.storage_classes)
    encryption = read_write_encryption(head, loopback=call.front.allow_insecure_customer_keys)
    if head.header("content-length") is None and head.header("transfer-encoding") is None:
        raise Refused("MissingContentLength", "You must provide the Content-Length HTTP header.")
    payload = call.payload(want_md5=not is_opaque(encryption))
    limit = call.front.max_object
    if payload.size is not None and payload.size > limit:
        raise Refused(
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed object size.",
            {"ProposedSize": str(payload.size), "MaxSizeAllowed": str(limit)},
        )
    return _Put(headers, encryption, write_condition(head, call.bucket, call.key), payload)


def _read_get(call: Call) -> tuple[dict[str, str], CustomerKey | None]:
    """
    Check what a read asks for; give the headers that it wants to be answered with, and the key
    that it brings.
    """
    check_version(call.head)
    key = read_customer_key(call.head, loopback=call.front.allow_insecure_customer_keys)
    return read_overrides(call.head), key


def _read_delete(head: RequestHead) -> Condition | None:
    check_version(head)
    for name in _UNSUPPORTED_CONDITIONS:
        if head.header(name) is not None:
            raise not_implemented(name)
    return delete_condition(head.header("if-match"))


def check_version(head: RequestHead) -> None:
    """
    See that a request asks for no version but the only one.

    :raises Refused: ``NotImplemented``.
    """
    version_id = head.parameter("versionId")
    if version_id not in (None, "", "null"):
        raise not_implemented("versionId")


def _answer_headers(head: RequestHead, info: ObjectInfo) -> list[tuple[str, str]]:
    headers = object_headers(info)
    part = wanted_part(head, info)
    if part is not None:
        headers.append(("x-amz-mp-parts-count", str(len(info.parts))))
    enabled = (head.header("x-amz-checksum-mode") or "").upper() == "ENABLED"
    if enabled and head.header("range") is None:
        headers.extend(checksum_headers(info.metadata if part is None else part.metadata))
    return headers


def _not_modified(info: ObjectInfo) -> Response:
    return Response(304, [pair for pair in object_headers(info) if pair[0] in _UNCHANGED])

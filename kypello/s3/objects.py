# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Operations on one object.
"""

from functools import partial

from attrs import define, frozen

from kypello.auth.request import RequestHead
from kypello.errors import NoSuchKey, Refused
from kypello.http.response import Response
from kypello.interfaces import Condition
from kypello.model import (
    NO_LOCK,
    CustomerKey,
    Deletion,
    EncryptionRequest,
    Lock,
    ObjectInfo,
    ObjectMetadata,
)
from kypello.s3.bucketconfig import check_encryption
from kypello.s3.call import Call
from kypello.s3.conditions import delete_condition, is_not_modified, write_condition
from kypello.s3.encryption import (
    is_opaque,
    read_customer_key,
    read_write_encryption,
    sealing_headers,
)
from kypello.s3.errors import invalid_argument, not_implemented
from kypello.s3.headers import (
    StoredHeaders,
    checksum_headers,
    object_headers,
    overridden,
    read_overrides,
    read_stored_headers,
)
from kypello.s3.lifecycle import expiration_headers
from kypello.s3.locking import lock_headers, read_lock, removal_guard, require_lock, with_lock
from kypello.s3.payload import Payload
from kypello.s3.ranges import content_range, wanted_part, wanted_range
from kypello.s3.versions import deletion_headers, read_version, version_headers

#: The headers of an object that come with "304 Not Modified" (RFC 9110, section 15.4.5).
_UNCHANGED = frozenset({"ETag", "Last-Modified", "Cache-Control", "Expires"})

#: Conditions that would be lost, and with them perhaps the object.
_UNSUPPORTED_CONDITIONS = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size")


@define
class _Put:
    """
    What a PUT asks for.
    """

    headers: StoredHeaders
    lock: Lock
    encryption: EncryptionRequest | None
    condition: Condition | None
    payload: Payload

    def describe(self, _size: int) -> ObjectMetadata:
        """
        The metadata, once the payload is read and verified.
        """
        return self.headers.describe(self.payload.md5 or "", self.payload.checksums)


@frozen
class _Get:
    """
    What a read asks for.

    :ivar overrides: The headers that it wants to be answered with.
    :ivar customer_key: The key that it brings.
    :ivar version_id: Empty for the current version.
    """

    overrides: dict[str, str]
    customer_key: CustomerKey | None
    version_id: str


async def put_object(call: Call) -> Response:
    """
    Store an object.
    """
    put = await call.check(partial(_read_put, call))
    if put.headers.tags:
        await call.require("s3:PutObjectTagging")
    await require_lock(call, put.lock)
    await check_encryption(call, put.encryption)
    await check_early(call, put.condition)

    def describe(size: int) -> ObjectMetadata:
        """
        The metadata with the lock that counts from now on.
        """
        return with_lock(call, put.lock, put.describe(size))

    info = await call.front.store.put(
        call.bucket, call.key, put.payload, describe, put.encryption, put.condition
    )
    await call.announce("s3:ObjectCreated:Put", info)
    sealing = sealing_headers(info.metadata.sealing, context=True)
    headers = [("ETag", f'"{info.etag}"'), *sealing, *checksum_headers(info.metadata)]
    headers.extend(expiration_headers(call, info))
    return Response(200, [*headers, *version_headers(call.settings, info.version_id)])


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
    get = await call.check(partial(_read_get, call))
    opened = await call.front.store.open(call.bucket, call.key, get.customer_key, get.version_id)
    try:
        info, head = opened.info, call.head
        await call.require_decryption(info.metadata.sealing)
        if is_not_modified(head, info, call.front.clock.seconds()):
            return _not_modified(call, info)
        wanted = wanted_range(head, info)
        headers = overridden(await _answer_headers(call, info), get.overrides)
        if wanted is not None:
            headers.append(content_range(wanted, info.size))
        source = await opened.read(wanted)
        await call.announce("s3:ObjectAccessed:Get", info)
        return Response(200 if wanted is None else 206, headers, source)
    finally:
        opened.close()


async def head_object(call: Call) -> Response:
    """
    Tell about an object what reading it would tell.
    """
    get = await call.check(partial(_read_get, call))
    info = await call.front.store.head(call.bucket, call.key, get.customer_key, get.version_id)
    head = call.head
    if is_not_modified(head, info, call.front.clock.seconds()):
        return _not_modified(call, info)
    wanted = wanted_range(head, info)
    headers = overridden(await _answer_headers(call, info), get.overrides)
    await call.announce("s3:ObjectAccessed:Head", info)
    if wanted is None:
        return Response(200, [*headers, ("Content-Length", str(info.size))])
    length = ("Content-Length", str(wanted.size))
    return Response(206, [*headers, content_range(wanted, info.size), length])


async def delete_object(call: Call) -> Response:
    """
    Remove an object, or a version; what does not exist is removed already.
    """
    condition, version_id = await call.check(partial(_read_delete, call.head))
    guard = await removal_guard(call, call.key, version_id)
    deletion = await call.front.store.delete(call.bucket, call.key, condition, version_id, guard)
    await announce_removal(call, call.key, version_id, deletion)
    return Response(204, list(deletion_headers(call.settings, deletion)))


async def announce_removal(call: Call, key: str, version_id: str, deletion: Deletion) -> None:
    """
    Tell what was removed, or hidden under a delete marker.

    :param version_id: Of what was to be removed; empty for the object.
    """
    kind = "DeleteMarkerCreated" if deletion.marker and not version_id else "Delete"
    await call.announce(f"s3:ObjectRemoved:{kind}", key=key, version_id=deletion.version_id)


def _read_put(call: Call) -> _Put:
    head = call.head
    version_id = head.parameter("versionId")
    if version_id:
        raise invalid_argument(
            "versionId", version_id, "This operation does not accept a version-id."
        )
    headers = read_stored_headers(head, call.front.storage_classes)
    lock = read_lock(call)
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
    condition = write_condition(head, call.bucket, call.key)
    return _Put(headers, lock, encryption, condition, payload)


def _read_get(call: Call) -> _Get:
    """
    Check what a read asks for.
    """
    loopback = call.front.allow_insecure_customer_keys
    return _Get(
        read_overrides(call.head),
        read_customer_key(call.head, loopback=loopback),
        read_version(call.head),
    )


def _read_delete(head: RequestHead) -> tuple[Condition | None, str]:
    for name in _UNSUPPORTED_CONDITIONS:
        if head.header(name) is not None:
            raise not_implemented(name)
    return delete_condition(head.header("if-match")), read_version(head)


async def _answer_headers(call: Call, info: ObjectInfo) -> list[tuple[str, str]]:
    head = call.head
    headers = [*object_headers(info), *version_headers(call.settings, info.version_id)]
    headers.extend(expiration_headers(call, info))
    part = wanted_part(head, info)
    if part is not None:
        headers.append(("x-amz-mp-parts-count", str(len(info.parts))))
    if info.metadata.lock is not NO_LOCK:
        headers.extend(await lock_headers(call, info.metadata.lock))
    enabled = (head.header("x-amz-checksum-mode") or "").upper() == "ENABLED"
    if enabled and head.header("range") is None:
        headers.extend(checksum_headers(info.metadata if part is None else part.metadata))
    return headers


def _not_modified(call: Call, info: ObjectInfo) -> Response:
    unchanged = [pair for pair in object_headers(info) if pair[0] in _UNCHANGED]
    return Response(304, [*unchanged, *version_headers(call.settings, info.version_id)])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Copies of objects.

A copy reads its source, pinned, and writes its target as a PUT does, so it holds no lock: others
may write both meanwhile, and nothing of an unfinished copy is ever seen.
"""

from collections.abc import Mapping
from functools import partial

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.interfaces import Condition
from kypello.model import CustomerKey, EncryptionRequest, Lock, ObjectInfo, ObjectMetadata
from kypello.s3.announced import read_algorithm
from kypello.s3.bucketconfig import check_encryption
from kypello.s3.call import Call
from kypello.s3.conditions import write_condition
from kypello.s3.copysource import Source, open_source, read_source, source_headers, too_large
from kypello.s3.dates import xml_date
from kypello.s3.digests import DigestedSource, digested
from kypello.s3.encryption import is_opaque, read_write_encryption, sealing_headers
from kypello.s3.errors import invalid_argument
from kypello.s3.headers import (
    REDIRECT,
    checksum_elements,
    checksum_headers,
    read_placement,
    read_replaced,
)
from kypello.s3.lifecycle import expiration_headers
from kypello.s3.locking import read_lock, require_lock, with_lock
from kypello.s3.objects import check_early
from kypello.s3.patience import answer_patiently
from kypello.s3.reencryption import exchange_key
from kypello.s3.tagging import read_tagging_header
from kypello.s3.versions import version_headers
from kypello.s3.xml import CONTENT_TYPE, document
from kypello.versioning import SETTING as VERSIONING

#: The checksum of a copy whose source has none.
_CHECKSUM = "crc64nvme"

_ALGORITHM = "x-amz-checksum-algorithm"
_DIRECTIVES = {
    "x-amz-metadata-directive": "Unknown metadata directive.",
    "x-amz-tagging-directive": "Unknown tagging directive.",
}


@frozen
class _Copy:
    """
    What a copy asks for.

    :ivar redirect: Of the target; a system header if there is one.
    :ivar replaced: Other system headers and user metadata; ``None`` for those of the source.
    :ivar tags: ``None`` for those of the source.
    :ivar algorithm: Of the checksum; empty to keep that of the source.
    :ivar changes: Even a copy onto itself has a purpose, whatever its storage class.
    """

    source: Source
    redirect: Mapping[str, str]
    storage_class: str
    replaced: tuple[Mapping[str, str], Mapping[str, str]] | None
    tags: Mapping[str, str] | None
    algorithm: str
    lock: Lock
    encryption: EncryptionRequest | None
    condition: Condition | None
    changes: bool

    def check(self, bucket: str, key: str, info: ObjectInfo, limit: int) -> None:
        """
        See that the source can be copied to the target.

        :raises Refused: ``InvalidRequest``.
        """
        if info.size > limit:
            raise too_large(limit)
        itself = (self.source.bucket, self.source.key) == (bucket, key)
        kept = self.storage_class == info.metadata.storage_class
        if itself and kept and not self.changes:
            raise Refused(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself"
                " without changing the object's metadata, storage class, website redirect"
                " location or encryption attributes.",
            )

    def exchanged(self, call: Call, info: ObjectInfo) -> tuple[CustomerKey, CustomerKey] | None:
        """
        The old and the new key of a client, when nothing else changes: such a copy of an object
        onto itself seals its key anew, and leaves the content alone.

        Where there are versions a copy makes a new one, which has a key of its own.
        """
        old = self.source.customer_key
        new = None if self.encryption is None else self.encryption.customer_key
        itself = (self.source.bucket, self.source.key) == (call.bucket, call.key)
        plain = not self.source.version_id and VERSIONING not in call.settings
        asked = self.replaced, self.tags, self.algorithm or None
        metadata = info.metadata
        same = (self.storage_class, self.redirect) == (
            metadata.storage_class,
            {name: value for name, value in metadata.headers.items() if name == REDIRECT},
        )
        if old is None or new is None or not (itself and plain and same and asked == (None,) * 3):
            return None
        return old, new

    def algorithms(self, source: ObjectMetadata) -> tuple[str, ...]:
        """
        The checksums that the target gets.
        """
        return (self.algorithm,) if self.algorithm else tuple(source.checksums) or (_CHECKSUM,)

    def describe(self, source: ObjectMetadata, body: DigestedSource, _size: int) -> ObjectMetadata:
        """
        The metadata of the target, once all of the content has passed.
        """
        system, user = self.replaced or (source.headers, source.user)
        kept = {name: value for name, value in system.items() if name != REDIRECT}
        return ObjectMetadata(
            etag=body.md5,
            headers={**kept, **self.redirect},
            user=user,
            checksums=body.checksums,
            checksum_type="FULL_OBJECT",
            tags=source.tags if self.tags is None else self.tags,
            storage_class=self.storage_class,
        )


async def copy_object(call: Call) -> Response:
    """
    Store a copy of an object.
    """
    copy = await call.check(partial(_read_copy, call))
    return await answer_patiently(call, _copy(call, copy))


async def _copy(call: Call, copy: _Copy) -> Response:
    front = call.front
    opened = await open_source(call, copy.source)
    try:
        source = opened.info
        if copy.tags is None and source.metadata.tags:
            action = copy.source.action("s3:GetObjectTagging")
            await call.require(action, source.bucket, source.key)
        if source.metadata.tags if copy.tags is None else copy.tags:
            await call.require("s3:PutObjectTagging")
        await require_lock(call, copy.lock)
        copy.check(call.bucket, call.key, source, front.max_part)
        await check_encryption(call, copy.encryption)
        await check_early(call, copy.condition)
        keys = copy.exchanged(call, source)
        if keys is not None:
            info = await exchange_key(call, source, *keys, copy.condition)
        else:
            body = digested(
                await opened.read(None),
                front.lanes,
                copy.algorithms(source.metadata),
                want_md5=not is_opaque(copy.encryption),
            )

            def describe(size: int) -> ObjectMetadata:
                """
                The metadata with the lock that counts from now on.
                """
                return with_lock(call, copy.lock, copy.describe(source.metadata, body, size))

            info = await front.store.put(
                call.bucket,
                call.key,
                body,
                describe,
                copy.encryption,
                copy.condition,
            )
    finally:
        opened.close()
    await call.announce("s3:ObjectCreated:Copy", info)
    metadata = info.metadata
    content = (
        f"<LastModified>{xml_date(info.modified)}</LastModified>"
        f"<ETag>&#34;{info.etag}&#34;</ETag>"
        f"<ChecksumType>{metadata.checksum_type}</ChecksumType>"
        f"{checksum_elements(metadata.checksums)}"
    )
    headers = [
        CONTENT_TYPE,
        *sealing_headers(metadata.sealing, context=True),
        *checksum_headers(metadata),
        *version_headers(call.settings, info.version_id),
        *expiration_headers(call, info),
        *await source_headers(call, source),
    ]
    return Response(200, headers, document("CopyObjectResult", content))


def _read_copy(call: Call) -> _Copy:
    head, front = call.head, call.front
    encryption = read_write_encryption(
        head, loopback=front.allow_insecure_customer_keys, copying=True
    )
    replaces, replaces_tags = (_replaces(head, name) for name in _DIRECTIVES)
    redirect, storage_class = read_placement(head, front.storage_classes)
    lock = read_lock(call)
    algorithm = head.header(_ALGORITHM)
    source = read_source(head)
    asked = (replaces, replaces_tags, source.version_id, redirect, algorithm, encryption)
    return _Copy(
        source=source,
        redirect=redirect,
        storage_class=storage_class,
        replaced=read_replaced(head) if replaces else None,
        tags=read_tagging_header(head) if replaces_tags else None,
        algorithm=read_algorithm(algorithm) if algorithm else "",
        lock=lock,
        encryption=encryption,
        condition=write_condition(head, call.bucket, call.key),
        changes=any(asked),
    )


def _replaces(head: RequestHead, name: str) -> bool:
    stated = head.header(name) or "COPY"
    if stated not in ("COPY", "REPLACE"):
        raise invalid_argument(name, stated, _DIRECTIVES[name])
    return stated == "REPLACE"

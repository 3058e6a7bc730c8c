# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests of the encrypting store have in common.
"""

import base64
import hashlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve
from twisted.internet.task import Clock

from kypello.interfaces import Assemble, Condition, IBodySource
from kypello.kmsconfig import Reuse
from kypello.model import (
    DSSE,
    SSE_C,
    Assembly,
    ByteRange,
    CustomerKey,
    EncryptionRequest,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    Sealing,
    UploadInfo,
)
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.objects.keyservice import MemoryKMS

SSE_S3 = EncryptionRequest("AES256")
DATA = os.urandom(3 * 65536 + 100)
SEALING = Sealing("AES256", "my-key")

KMS = EncryptionRequest("aws:kms")
DUAL = EncryptionRequest(DSSE)
CUSTOMER_KEY = CustomerKey(bytes(range(100, 132)), "bWQ1")
CUSTOMER = EncryptionRequest(SSE_C, customer_key=CUSTOMER_KEY)
OTHER_KEY = CustomerKey(bytes(range(32)), "b3RoZXI=")

#: One request for each kind of encryption.
KINDS = (SSE_S3, KMS, CUSTOMER, DUAL)

#: What is known of an object when its upload begins.
PLANNED = ObjectMetadata(
    headers={"content-type": "text/plain"},
    user={"colour": "blue"},
    tags={"tag": "value"},
    storage_class="REDUCED_REDUNDANCY",
)


def metadata(data: bytes) -> ObjectMetadata:
    """
    What a front would keep of *data*.
    """
    return ObjectMetadata(
        hashlib.md5(data).hexdigest(),
        {"content-type": "text/plain"},
        {"colour": "blue"},
        {"crc32": "AAAAAA=="},
        "FULL_OBJECT",
        {"tag": "value"},
    )


def described(data: bytes) -> Callable[[int], ObjectMetadata]:
    """
    A callback that checks the size told to it.
    """

    def describe(size: int) -> ObjectMetadata:
        """
        Give the metadata of *data*.
        """
        assert size == len(data), (size, len(data))
        return metadata(data)

    return describe


class EncryptedCase(AsyncCase):
    """
    A test with an encrypting store over a store in memory.
    """

    auto_encryption = False

    async def prepare(self) -> None:
        """
        Make the bucket ``b``.
        """
        self.blobs_below = MemoryBlobs()
        self.clock_below = Clock()
        self.below = LayoutStore(MemoryIndex(), self.blobs_below, self.clock_below, os.urandom)
        self.kms = MemoryKMS.with_default_key()
        self.clock = Clock()
        self.store = self.process()
        await self.store.create_bucket("b", {})

    def process(self, *, configured: bool = True, **reuse: float) -> EncryptedStore:
        """
        A process that starts over the same data.
        """
        keys = DataKeys(self.kms, self.clock, Reuse(**reuse)) if configured else None
        return EncryptedStore(self.below, keys, os.urandom, self.auto_encryption)

    async def put(
        self,
        key: str,
        data: bytes = b"data",
        encryption: EncryptionRequest | None = SSE_S3,
        store: EncryptedStore | None = None,
        bucket: str = "b",
        **options: object,
    ) -> ObjectInfo:
        """
        Store an object.
        """
        body = BytesSource([data[start : start + 50_000] for start in range(0, len(data), 50_000)])
        try:
            return await (store or self.store).put(
                bucket, key, body, described(data), encryption, **options
            )
        finally:
            self.assertTrue(body.closed)

    async def get(
        self,
        key: str,
        wanted: ByteRange | None = None,
        store: EncryptedStore | None = None,
        customer_key: CustomerKey | None = None,
    ) -> bytes:
        """
        Read an object.
        """
        opened = await (store or self.store).open("b", key, customer_key)
        try:
            return await self.drain(await opened.read(wanted))
        finally:
            opened.close()

    async def drain(self, source: IBodySource) -> bytes:
        """
        Read a source to its end.
        """
        blocks = []
        while block := await source.read():
            blocks.append(bytes(block))
        self.assertEqual(source.size, sum(map(len, blocks)))
        return b"".join(blocks)

    async def raw(self, key: str) -> tuple[ObjectInfo, bytes]:
        """
        What the store below holds.
        """
        opened = await self.below.open("b", key)
        source = await opened.read(None)
        data = b""
        while block := await source.read():
            data += block
        opened.close()
        return opened.info, data

    async def plant(self, key: str, data: bytes, stored: ObjectMetadata) -> None:
        """
        Change what the store below holds.
        """
        await self.below.put("b", key, BytesSource([data]), lambda _size: stored)

    async def upload(
        self,
        parts: Mapping[int, bytes],
        encryption: EncryptionRequest | None = SSE_S3,
        key: str = "k",
        checksum: str = "",
    ) -> UploadInfo:
        """
        Begin an upload, and send parts in the order given.
        """
        began = await self.store.create_upload("b", key, PLANNED, checksum, encryption)
        for number, data in parts.items():
            await self.part(began, number, data, customer(encryption))
        return began

    async def part(
        self,
        upload: UploadInfo,
        number: int,
        data: bytes,
        customer_key: CustomerKey | None = None,
        store: EncryptedStore | None = None,
    ) -> PartInfo:
        """
        Send a part.
        """
        body = BytesSource([data[start : start + 50_000] for start in range(0, len(data), 50_000)])
        try:
            return await (store or self.store).put_part(
                "b",
                upload.key,
                upload.upload_id,
                number,
                body,
                lambda size: part_metadata(data, size),
                customer_key,
            )
        finally:
            self.assertTrue(body.closed)

    async def complete(
        self,
        upload: UploadInfo,
        numbers: Sequence[int],
        customer_key: CustomerKey | None = None,
        store: EncryptedStore | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Complete an upload as a front does.
        """
        return await (store or self.store).complete_upload(
            "b",
            upload.key,
            upload.upload_id,
            repr(numbers).encode(),
            assembling(*numbers),
            condition,
            customer_key,
        )

    async def replace(self, key: str, stored: ObjectInfo, raw: Sequence[bytes]) -> None:
        """
        Put below what an attacker makes of an object: its metadata, and its parts one by one.

        :param stored: With the parts that shall be told.
        """
        began = await self.below.create_upload("b", key, ObjectMetadata())
        for part, data in zip(stored.parts, raw, strict=True):
            await self.below.put_part(
                "b",
                key,
                began.upload_id,
                part.number,
                BytesSource([data]),
                lambda _size, part=part: part.metadata,
            )
        numbers = tuple(part.number for part in stored.parts)
        await self.below.complete_upload(
            "b", key, began.upload_id, b"", lambda *_: Assembly(numbers, stored.metadata)
        )


def part_metadata(data: bytes, size: int) -> ObjectMetadata:
    """
    What a front would keep of a part.
    """
    assert size == len(data), (size, len(data))
    checksums = {"crc32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}
    return ObjectMetadata(hashlib.md5(data).hexdigest(), checksums=checksums)


def customer(encryption: EncryptionRequest | None) -> CustomerKey | None:
    """
    The key that a client brings along.
    """
    return None if encryption is None else encryption.customer_key


def assembling(*numbers: int) -> Assemble:
    """
    A callback that makes an object of some parts, as a front does.
    """

    def assemble(upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Choose them, and make the ETag.
        """
        by_number = {part.number: part for part in parts}
        etags = b"".join(bytes.fromhex(by_number[number].etag) for number in numbers)
        etag = f"{hashlib.md5(etags).hexdigest()}-{len(numbers)}"
        checksums = {"crc32": f"AAAAAA==-{len(numbers)}"} if upload.checksum else {}
        return Assembly(numbers, evolve(upload.metadata, etag=etag, checksums=checksums))

    return assemble

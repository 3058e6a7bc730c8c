# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests of the encrypting store have in common.
"""

import hashlib
import os
from collections.abc import Callable

from twisted.internet.task import Clock

from kypello.interfaces import IBodySource
from kypello.model import (
    ByteRange,
    CustomerKey,
    EncryptionRequest,
    ObjectInfo,
    ObjectMetadata,
    Sealing,
)
from kypello.objects.datakeys import DataKeys, Reuse
from kypello.objects.encrypted import EncryptedStore
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.objects.keyservice import MemoryKMS

SSE_S3 = EncryptionRequest("AES256")
DATA = os.urandom(3 * 65536 + 100)
SEALING = Sealing("AES256", "my-key")


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
        self.below = LayoutStore(MemoryIndex(), MemoryBlobs(), Clock(), os.urandom)
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

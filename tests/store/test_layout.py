# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.layout`` in memory.
"""

import os

from twisted.internet.task import Clock

from kypello.errors import Damaged, KMSNotConfigured
from kypello.model import EncryptionRequest
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.object_store import ObjectStoreContract, metadata_of, pattern


class MemoryLayoutTests(ObjectStoreContract, AsyncCase):
    """
    The contract of an object store, in memory.
    """

    async def make_store(self) -> LayoutStore:
        """
        An empty store.
        """
        self.index, self.blobs, self.clock = MemoryIndex(), MemoryBlobs(), Clock()
        return LayoutStore(self.index, self.blobs, self.clock, os.urandom)

    async def test_encryption(self) -> None:
        """
        A store that encrypts nothing refuses a request for encryption before it reads.
        """
        store = await self.with_bucket()
        body = BytesSource([b"data"])
        with self.assertRaises(KMSNotConfigured):
            await store.put("b", "k", body, lambda _: metadata_of(b""), EncryptionRequest("AES256"))
        self.assertEqual((body.reads, body.closed), (0, True))

    async def test_damaged(self) -> None:
        """
        An object whose blob is missing is damaged; it can be told, listed and replaced.
        """
        store = await self.with_bucket()
        await self.put(store, "k", pattern(100_000))
        (name,) = await self.blobs.names("", 10)
        await self.blobs.delete(name)
        with self.assertRaises(Damaged):
            await store.open("b", "k")
        self.assertEqual((await store.head("b", "k")).size, 100_000)
        self.assertEqual(await self.keys(store), ["k"])
        await self.put(store, "k", b"new")
        self.assertEqual(await self.get(store, "k"), b"new")

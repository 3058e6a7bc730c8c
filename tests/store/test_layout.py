# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.layout`` in memory.
"""

import os
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from kypello.errors import Damaged, KMSNotConfigured
from kypello.interfaces import IBodySource, IObjectStore
from kypello.model import EncryptionRequest, ListQuery, Write
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.object_store import ObjectStoreContract, metadata_of, pattern
from tests.contracts.uploads import UploadsContract


class MemoryLayoutTests(ObjectStoreContract, UploadsContract, AsyncCase):
    """
    The contract of an object store, in memory.
    """

    async def make_store(self) -> LayoutStore:
        """
        An empty store.
        """
        self.index, self.blobs, self.clock = MemoryIndex(), MemoryBlobs(), Clock()
        store = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        self.sweeper = Sweeper(self.index, self.blobs, store.intents, store.pins)
        return store

    async def settle(self, store: IObjectStore) -> None:
        """
        Sweep.
        """
        await self.sweeper.sweep()

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


@define(eq=False)
class SlowIndex(MemoryIndex):
    """
    An index that takes a second before and after each commit.
    """

    clock: Clock = field(kw_only=True)

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Commit slowly.
        """
        await deferLater(self.clock, 1)
        await super().commit(space, writes, expect, empty)
        await deferLater(self.clock, 1)


@define(eq=False)
class SlowBlobs(MemoryBlobs):
    """
    Blobs that take a second before they are written.
    """

    clock: Clock = field(kw_only=True)

    async def write(self, name: str, body: IBodySource, describe: Callable[[int], bytes]) -> int:
        """
        Write slowly.
        """
        try:
            await deferLater(self.clock, 1)
            return await super().write(name, body, describe)
        finally:
            body.close()


class CancelledTests(AsyncCase):
    """
    Writes that are cancelled at any moment.
    """

    async def moments(
        self, write: Callable[[LayoutStore], Deferred[object]], duration: int
    ) -> list[bool]:
        """
        Cancel a write at each moment of its life, and check that it happened or left nothing.

        :param duration: Of the write, in seconds.
        :return: For each second, whether the write happened.
        """
        happened = []
        for moment in range(duration):
            clock = Clock()
            index, blobs = SlowIndex(clock=clock), SlowBlobs(clock=clock)
            store = LayoutStore(index, blobs, clock, os.urandom)
            making = Deferred.fromCoroutine(store.create_bucket("b", {}))
            clock.pump([1] * 10)
            await making
            writing = write(store)
            clock.pump([1] * moment)
            self.assertFalse(writing.called)
            writing.cancel()
            clock.pump([1] * 20)
            try:
                await writing
            except CancelledError:
                happened.append(False)
            else:
                happened.append(True)
            objects = (await store.list("b", ListQuery())).objects
            self.assertEqual(len(objects), happened[-1])
            left = [
                key
                for space in await index.spaces()
                for key, _ in await index.scan(space, b"", None, 100)
                if key[:1] in (b"i", b"g", b"c")
            ]
            held = len(await blobs.names("", 100))
            # The content of a small object is a record, that of a large one a blob.
            self.assertEqual(len(left) + held, len(objects))
        return happened

    async def test_small(self) -> None:
        """
        A small object whose commit was sent is stored although nobody waits for it.
        """

        def write(store: LayoutStore) -> Deferred[object]:
            """
            Store some bytes.
            """
            put = store.put("b", "k", BytesSource([b"data"]), lambda _: metadata_of(b"data"))
            return Deferred.fromCoroutine(put)

        self.assertEqual(await self.moments(write, 2), [True, True])

    async def test_large(self) -> None:
        """
        A large object is given up until its last commit, with its intent and its blob.
        """

        def write(store: LayoutStore) -> Deferred[object]:
            """
            Store many bytes.
            """
            body = BytesSource([pattern(100_000)])
            return Deferred.fromCoroutine(store.put("b", "k", body, lambda _: metadata_of(b"")))

        expected = [False, False, False, True, True]
        self.assertEqual(await self.moments(write, 5), expected)

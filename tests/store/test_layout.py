# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.layout`` in memory.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, deferLater

from kypello.errors import Damaged, KMSNotConfigured
from kypello.interfaces import IBodySource, IObjectStore
from kypello.model import (
    NULL_VERSION,
    Deletion,
    EncryptionRequest,
    ListQuery,
    UploadInfo,
    UploadQuery,
    Write,
)
from kypello.store.layout import INLINE, LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.records import SYSTEM
from kypello.store.remembering import RememberingIndex
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.inneruploads import InnerUploadsContract
from tests.contracts.locks import LocksContract
from tests.contracts.object_store import ObjectStoreCase, ObjectStoreContract, metadata_of, pattern
from tests.contracts.uploads import UploadsCase, UploadsContract
from tests.contracts.versions import VersionsCase, VersionsContract
from tests.store.faults import whats_wrong


class MemoryLayoutTests(
    ObjectStoreContract,
    UploadsContract,
    InnerUploadsContract,
    VersionsContract,
    LocksContract,
    AsyncCase,
):
    """
    The contract of an object store, in memory.
    """

    async def make_store(self) -> LayoutStore:
        """
        An empty store.
        """
        self.index, self.blobs, self.clock = MemoryIndex(), MemoryBlobs(), Clock()
        store = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        self.sweeper = Sweeper(self.index, self.blobs, store.intents)
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

    async def test_wrapping(self) -> None:
        """
        What an encryption keeps of a version can be replaced as a whole: in the index and in blobs,
        current or not; all else stays, and the content.
        """
        store = await self.with_bucket()
        sealing = {"sealed": b"new", "internal": {"key": "new"}, "storage_class": "STANDARD_IA"}
        for size in (20, 100_000):
            await self.put(store, "k", pattern(size))
            before = await store.head("b", "k")
            wanted = evolve(before.metadata, **sealing)
            made = await store.change_version("b", "k", "null", lambda _, new=wanted: new)
            self.assertEqual(made, evolve(before, metadata=wanted))
            self.assertEqual(await store.head("b", "k"), made)
            (listed,) = (await store.list("b", ListQuery())).objects
            self.assertEqual(listed, made)
            opened = await store.open("b", "k")
            self.assertEqual(await self.drain(opened), pattern(size))

    async def test_damaged(self) -> None:
        """
        An object whose blob is missing is damaged; it can be told, listed and replaced.
        """
        store = await self.with_bucket()
        before = await self.blobs.names("", 10)
        await self.put(store, "k", pattern(100_000))
        (name,) = set(await self.blobs.names("", 10)) - set(before)
        await self.blobs.delete([name])
        with self.assertRaises(Damaged):
            await store.open("b", "k")
        self.assertEqual((await store.head("b", "k")).size, 100_000)
        self.assertEqual(await self.keys(store), ["k"])
        await self.put(store, "k", b"new")
        self.assertEqual(await self.get(store, "k"), b"new")


class VersionTests(VersionsCase, AsyncCase):
    """
    What only the layout can be seen to do with versions.
    """

    async def make_store(self) -> LayoutStore:
        """
        An empty store.
        """
        self.index, self.clock = MemoryIndex(), Clock()
        self.clock.advance(1_000)
        return LayoutStore(self.index, MemoryBlobs(), self.clock, os.urandom)

    async def rows(self, kind: bytes) -> dict[bytes, bytes]:
        """
        All rows of a kind.
        """
        (space,) = [name for name in await self.index.spaces() if name != SYSTEM]
        return dict(await self.index.scan(space, kind, kind + b"\xff", 1000))

    async def test_clock_back(self) -> None:
        """
        When the clock goes back, times and places of versions do not.
        """
        store = await self.versioned()
        ids = []
        for step in (5, -900, 3):
            self.clock.rightNow += step
            ids.append((await self.put(store, "k", pattern(20_000, step))).version_id)
        self.assertEqual(await self.stack(store), ids[::-1])

    async def test_places_lost(self) -> None:
        """
        A version that is not where it is told to be is damaged, and nothing waits for it.
        """
        store = await self.with_bucket()
        await self.put(store, "k")
        await self.switch(store, "Enabled")
        await self.put(store, "k")
        (space,) = [name for name in await self.index.spaces() if name != SYSTEM]
        oldest = max(await self.rows(b"v"))
        await self.index.commit(space, [Write(oldest, None)], {}, ())
        await self.raises(Damaged, store.head("b", "k", None, NULL_VERSION))
        await self.switch(store, "Suspended")
        await self.raises(Damaged, self.put(store, "k"))
        self.assertEqual(await self.get(store, "k"), b"data")

    async def test_interrupted_switch(self) -> None:
        """
        A change of versioning whose process ended before it was copied to the versions counts
        from the next write on.
        """
        store = await self.versioned()
        first = await self.put(store, "k")
        (state,) = (await self.rows(b"s")).items()
        await self.switch(store, "Suspended")
        (space,) = [name for name in await self.index.spaces() if name != SYSTEM]
        await self.index.commit(space, [Write(*state)], {}, ())
        self.assertEqual(await store.delete("b", "k"), Deletion(NULL_VERSION, True))
        self.assertEqual(await self.stack(store), [NULL_VERSION, first.version_id])


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


class CancelledTests(UploadsCase, AsyncCase):
    """
    Writes that are cancelled at any moment.
    """

    def setUp(self) -> None:
        """
        There are no parts to be stored first.
        """
        self.count = 0

    async def prepared(self, clock: Clock) -> tuple[LayoutStore, UploadInfo, SlowIndex, SlowBlobs]:
        """
        A store with an upload that has some parts.
        """
        index, blobs = SlowIndex(clock=clock), SlowBlobs(clock=clock)
        store = LayoutStore(index, blobs, clock, os.urandom)

        async def prepare() -> UploadInfo:
            """
            Make all of it.
            """
            await store.create_bucket("b", {})
            upload = await self.begin(store)
            for number in range(1, self.count + 1):
                await self.put_part(store, upload, number, pattern(100_000))
            return upload

        preparing = Deferred.fromCoroutine(prepare())
        clock.pump([1] * (20 + 10 * self.count))
        return store, await preparing, index, blobs

    async def moments(
        self,
        write: Callable[[LayoutStore, UploadInfo], Awaitable[object]],
        duration: int,
        happened: Callable[[LayoutStore, UploadInfo], Awaitable[bool]],
    ) -> list[bool]:
        """
        Cancel a write at each moment of its life, and check that it happened or left nothing.

        :param duration: Of the write, in seconds.
        :param happened: Tells whether it has.
        :return: For each second, whether the write happened.
        """
        outcomes = []
        for moment in range(duration):
            clock = Clock()
            store, upload, index, blobs = await self.prepared(clock)
            writing = Deferred.fromCoroutine(write(store, upload))
            clock.pump([1] * moment)
            self.assertFalse(writing.called)
            writing.cancel()
            clock.pump([1] * 20)
            try:
                await writing
            except CancelledError:
                outcomes.append(False)
            else:
                outcomes.append(True)
            self.assertEqual(await happened(store, upload), outcomes[-1])
            self.assertEqual(await whats_wrong(index, blobs), [])
        return outcomes

    async def stored(self, store: LayoutStore, _: UploadInfo) -> bool:
        """
        Whether there is an object.
        """
        return bool((await store.list("b", ListQuery())).objects)

    async def test_small(self) -> None:
        """
        A small object whose commit was sent is stored although nobody waits for it.
        """

        async def write(store: LayoutStore, _: UploadInfo) -> None:
            """
            Store some bytes.
            """
            await self.put(store, "k", b"data")

        self.assertEqual(await self.moments(write, 2, self.stored), [True, True])

    async def test_large(self) -> None:
        """
        A large object is given up until its last commit, with its intent and its blob.
        """

        async def write(store: LayoutStore, _: UploadInfo) -> None:
            """
            Store many bytes.
            """
            body = BytesSource([pattern(100_000)])
            await store.put("b", "k", body, lambda _: metadata_of(b""))

        expected = [False, False, False, True, True]
        self.assertEqual(await self.moments(write, 5, self.stored), expected)

    async def test_part(self) -> None:
        """
        A part is given up until its last commit, with its intent and its blob.
        """

        async def write(store: LayoutStore, upload: UploadInfo) -> None:
            """
            Store a part.
            """
            body = BytesSource([pattern(100_000)])
            where = "b", "k", upload.upload_id, 1
            await store.put_part(*where, body, lambda _: metadata_of(b""))

        async def there(store: LayoutStore, upload: UploadInfo) -> bool:
            """
            Whether it is stored.
            """
            return bool(await self.parts(store, upload))

        expected = [False, False, False, True, True]
        self.assertEqual(await self.moments(write, 5, there), expected)

    async def test_complete(self) -> None:
        """
        To complete an upload is given up until its last commit, with its intent and its manifest.
        """
        for self.count in (1, 20):

            async def write(store: LayoutStore, upload: UploadInfo) -> None:
                """
                Complete it.
                """
                await self.complete(store, upload)

            expected = [False, False, False, True, True]
            self.assertEqual(await self.moments(write, 5, self.stored), expected)

    async def test_begin_and_abort(self) -> None:
        """
        An upload is begun, and aborted, although nobody waits for it.
        """

        async def write(store: LayoutStore, _: UploadInfo) -> None:
            """
            Begin another one.
            """
            await self.begin(store, "k2")

        async def begun(store: LayoutStore, _: UploadInfo) -> bool:
            """
            Whether there are two.
            """
            return len((await store.uploads("b", UploadQuery())).uploads) == 2

        async def ended(store: LayoutStore, _: UploadInfo) -> bool:
            """
            Whether there is none.
            """
            return not (await store.uploads("b", UploadQuery())).uploads

        self.assertEqual(await self.moments(write, 2, begun), [True, True])
        self.assertEqual(await self.moments(self.abort, 2, ended), [True, True])


@define(eq=False)
class CountingIndex(SlowIndex):
    """
    A slow index that counts commits.
    """

    commits: int = 0

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Count one.
        """
        self.commits += 1
        await super().commit(space, writes, expect, empty)


@define(eq=False)
class AskedIndex(MemoryIndex):
    """
    An index that counts how often it is read.
    """

    asked: int = 0

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Count one.
        """
        self.asked += 1
        return await super().get(space, keys)


class RememberedTests(ObjectStoreCase, AsyncCase):
    """
    A store over an index that remembers.
    """

    async def test_largest(self) -> None:
        """
        The largest content that lies in the index is remembered, too.
        """
        asked = AskedIndex()
        store = LayoutStore(RememberingIndex(asked), MemoryBlobs(), Clock(), os.urandom)
        await store.create_bucket("b", {})
        await self.put(store, "k", pattern(INLINE))
        before = asked.asked
        self.assertEqual(await self.get(store, "k"), pattern(INLINE))
        self.assertEqual(asked.asked, before)


class ManyWritersTests(ObjectStoreCase, AsyncCase):
    """
    Many writers of one key at once.
    """

    async def test_commits(self) -> None:
        """
        No commit of theirs is in vain: there is one for each writer, and one of them is last.
        """
        clock = Clock()
        index = CountingIndex(clock=clock)
        store = LayoutStore(index, MemoryBlobs(), clock, os.urandom)
        making = Deferred.fromCoroutine(store.create_bucket("b", {}))
        clock.pump([1] * 10)
        await making
        index.commits = 0
        writing = [
            Deferred.fromCoroutine(self.put(store, "k", b"%d" % number)) for number in range(50)
        ]
        removing = Deferred.fromCoroutine(store.delete("b", "k"))
        clock.pump([1] * 101)
        self.assertFalse(removing.called)
        clock.pump([1])
        await gatherResults([*writing, removing])
        self.assertEqual(index.commits, 51)
        self.assertEqual((await store.list("b", ListQuery())).objects, ())

    async def test_cancelled(self) -> None:
        """
        A writer that is cancelled before its turn stores nothing and holds up nobody.
        """
        clock = Clock()
        index = CountingIndex(clock=clock)
        store = LayoutStore(index, MemoryBlobs(), clock, os.urandom)
        making = Deferred.fromCoroutine(store.create_bucket("b", {}))
        clock.pump([1] * 10)
        await making
        index.commits = 0
        first, second, third = (
            Deferred.fromCoroutine(self.put(store, "k", content))
            for content in (b"first", b"second", b"third")
        )
        second.cancel()
        clock.pump([1] * 4)
        await gatherResults([first, third])
        with self.assertRaises(CancelledError):
            await second
        self.assertEqual((index.commits, await self.get(store, "k")), (2, b"third"))

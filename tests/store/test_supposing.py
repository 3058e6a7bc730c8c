# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for what a store supposes of keys that it knows nothing of: two processes on one index.
"""

import os
from collections.abc import Mapping, Sequence

from attrs import define
from twisted.internet.task import Clock

from kypello.errors import NoSuchBucket, PreconditionFailed, StorageFull
from kypello.model import ListQuery, ObjectInfo, Write
from kypello.store.changes import Changes, shared_table
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.remembering import RememberingIndex
from kypello.store.sweep import Sweeper
from kypello.store.versions import _WARY
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.object_store import ObjectStoreCase, metadata_of, pattern
from tests.store.faults import whats_wrong

_SMALL, _LARGE = pattern(100), pattern(100_000)


@define(eq=False)
class BusyIndex(MemoryIndex):
    """
    An index that counts reads and commits, and may have no room.
    """

    reads: int = 0
    commits: int = 0
    full: bool = False

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Count one.
        """
        self.reads += 1
        return await super().get(space, keys)

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Count one; on a full disk nothing is written that was not there before.
        """
        self.commits += 1
        if self.full and any(expect.get(write.key, b"") is None for write in writes):
            raise StorageFull()
        await super().commit(space, writes, expect, empty)


class SupposingTests(ObjectStoreCase, AsyncCase):
    """
    Content for keys that are new, or only unknown.
    """

    async def setUp(self) -> None:
        """
        Two processes know the bucket.
        """
        self.index, self.blobs, self.clock = BusyIndex(), MemoryBlobs(), Clock()
        table = shared_table(2)
        self.addCleanup(os.close, table)
        self.ours, self.theirs = (
            LayoutStore(
                RememberingIndex(self.index, changes=Changes(number, 2, table)),
                self.blobs,
                self.clock,
                os.urandom,
            )
            for number in range(2)
        )
        await self.ours.create_bucket("b", {})
        for number, store in enumerate((self.ours, self.theirs)):
            await self.put(store, f"first-{number}", _SMALL)
        self.index.reads = self.index.commits = 0

    async def assert_sound(self) -> None:
        """
        Check that nothing is left of what was replaced.
        """
        await Sweeper(self.index, self.blobs, self.ours.intents).sweep()
        self.assertEqual(await whats_wrong(self.index, self.blobs), [])

    async def test_new(self) -> None:
        """
        A new object that is small takes one commit, and nothing is read.
        """
        for number in range(10):
            await self.put(self.ours, f"k{number}", _SMALL)
        self.assertEqual((self.index.reads, self.index.commits), (0, 10))
        await self.put(self.ours, "k3", b"again")
        self.assertEqual((self.index.reads, self.index.commits), (0, 11))
        self.assertEqual(await self.get(self.theirs, "k3"), b"again")
        await self.assert_sound()

    async def test_unknown(self) -> None:
        """
        What another process has stored is replaced as if it were known, be it large or small.
        """
        for before in (_SMALL, _LARGE):
            for after in (b"new", _LARGE[:80_000]):
                key = f"{len(before)}-{len(after)}"
                await self.put(self.theirs, key, before)
                old = await self.theirs.head("b", key)
                await self.put(self.ours, key, after)
                for store in (self.ours, self.theirs):
                    self.assertEqual(await self.get(store, key), after)
                    self.assertGreater((await store.head("b", key)).modified, old.modified)
        await self.assert_sound()

    async def test_wary(self) -> None:
        """
        Who was wrong looks first for a while.
        """
        for number in range(_WARY + 2):
            await self.put(self.theirs, f"k{number}", _SMALL)
        self.index.commits = 0
        await self.put(self.ours, "k0", b"new")
        self.assertEqual(self.index.commits, 2)
        for number in range(_WARY):
            await self.put(self.ours, f"k{number + 1}", b"new")
        self.assertEqual(self.index.commits, _WARY + 2)
        self.index.reads = 0
        await self.put(self.ours, "k", b"new")
        self.assertEqual(self.index.reads, 0)
        await self.assert_sound()

    async def test_condition(self) -> None:
        """
        Nothing is supposed where it matters what there is.
        """
        await self.put(self.theirs, "k", _SMALL)
        seen: list[ObjectInfo | None] = []

        def condition(current: ObjectInfo | None) -> None:
            """
            Allow nothing.
            """
            seen.append(current)
            raise PreconditionFailed("If-None-Match")

        with self.assertRaises(PreconditionFailed):
            await self.ours.put(
                "b", "k", BytesSource([b"new"]), lambda _: metadata_of(b"new"), None, condition
            )
        self.assertEqual([info and info.size for info in seen], [len(_SMALL)])
        self.assertEqual(await self.get(self.ours, "k"), _SMALL)

    async def test_versions(self) -> None:
        """
        Nothing is supposed where there are versions.
        """
        for store in (self.ours, self.theirs):
            await store.change_bucket("b", lambda _: {"versioning": b'{"status":"Enabled"}'})
            await self.put(store, "other", _SMALL)
        await self.put(self.theirs, "k", b"old")
        self.index.commits = 0
        await self.put(self.ours, "k", b"new")
        self.assertEqual(self.index.commits, 1)
        self.assertEqual(len((await self.ours.list("b", ListQuery(prefix="k"))).objects), 1)

    async def test_full(self) -> None:
        """
        Where there is room for nothing new, what is there can still be replaced.
        """
        await self.put(self.theirs, "k", _SMALL)
        self.index.full = True
        await self.put(self.ours, "k", _SMALL[::-1])
        self.assertEqual(await self.get(self.theirs, "k"), _SMALL[::-1])
        with self.assertRaises(StorageFull):
            await self.put(self.ours, "new", _SMALL)

    async def test_bucket_replaced(self) -> None:
        """
        Content for a bucket that another process has removed is refused; when it has been made
        anew, it is as good as any.
        """
        for content in (_SMALL, _LARGE):
            for listed in (await self.theirs.list("b", ListQuery())).objects:
                await self.theirs.delete("b", listed.key)
            await self.theirs.delete_bucket("b")
            with self.assertRaises(NoSuchBucket):
                await self.ours.put("b", "k", BytesSource([content]), lambda _: metadata_of(b""))
            await self.theirs.create_bucket("b", {})
            await self.put(self.ours, "k", content)
            self.assertEqual(await self.get(self.theirs, "k"), content)
        await self.assert_sound()

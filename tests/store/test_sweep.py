# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.sweep`` and ``kypello.store.intents``.
"""

import os
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kypello.errors import NoSuchBucket, StorageFailed
from kypello.interfaces import IBodySource
from kypello.model import ListQuery, Write
from kypello.store.layout import LayoutStore
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.object_store import StuckSource, blocks, metadata_of, pattern
from tests.store.faults import FailingBlobs, FailingIndex, InterruptedIndex, Killed

BIG = 100_000


class SweeperTests(AsyncCase):
    """
    What is left over, and what becomes of it.
    """

    def setUp(self) -> None:
        """
        An empty store.
        """
        self.index, self.blobs, self.clock = FailingIndex(), FailingBlobs(), Clock()
        self.store, self.sweeper = self.process()

    def process(self, worker: int = 0, workers: int = 1) -> tuple[LayoutStore, Sweeper]:
        """
        A process that starts over the same data.
        """
        store = LayoutStore(self.index, self.blobs, self.clock, os.urandom, worker, workers)
        return store, Sweeper(self.index, self.blobs, store.intents)

    async def put(self, key: str = "k", size: int = BIG, store: LayoutStore | None = None) -> None:
        """
        Store an object.
        """
        body = BytesSource(blocks(pattern(size)))
        await (store or self.store).put("b", key, body, lambda _: metadata_of(b""))

    def put_slowly(self, store: LayoutStore | None = None) -> tuple[StuckSource, Deferred[object]]:
        """
        Begin to store an object whose body waits.
        """
        body = StuckSource(blocks(pattern(BIG)))
        putting = (store or self.store).put("b", "slow", body, lambda _: metadata_of(b""))
        return body, Deferred.fromCoroutine(putting)

    async def residue(self) -> list[bytes]:
        """
        All intents and garbage.
        """
        return [
            key
            for space in await self.index.spaces()
            for key, _ in await self.index.scan(space, b"", None, 10_000)
            if key[:1] in (b"i", b"g")
        ]

    async def assert_clean(self, objects: int) -> None:
        """
        Nothing is left but *objects* and buckets with one blob each, and the spaces of these.
        """
        self.assertEqual(await self.residue(), [])
        buckets = await self.store.buckets()
        self.assertEqual(len(await self.blobs.names("", 1000)), objects + len(buckets))
        self.assertEqual(len(await self.index.spaces()) - 1, len(buckets))

    async def test_overwritten(self) -> None:
        """
        The blobs of replaced and deleted versions go with the next sweep.
        """
        await self.store.create_bucket("b", {})
        await self.sweeper.sweep()
        for key in ("k", "k", "k", "other", "other", "gone"):
            await self.put(key)
        await self.put("k", 5)
        await self.store.delete("b", "gone")
        self.assertEqual(len(await self.blobs.names("", 100)), 7)
        await self.sweeper.sweep()
        await self.assert_clean(1)

    async def test_many(self) -> None:
        """
        One sweep removes as much as there is.
        """
        await self.store.create_bucket("b", {})
        for _ in range(200):
            await self.put()
        await self.sweeper.sweep()
        await self.assert_clean(1)

    async def test_other_spaces(self) -> None:
        """
        What others keep in spaces of theirs is no garbage, whatever its keys.
        """
        for key in (b"group/a", b"internal-key"):
            await self.index.commit("others", [Write(key, b"theirs")], {}, ())
        await self.sweeper.sweep()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(await self.index.scan("others", b"", None, 10)), 2)
        self.assertNotIn("others", self.store.intents.left)

    async def test_nothing_to_do(self) -> None:
        """
        A sweep after which nothing was left looks nowhere.
        """
        await self.store.create_bucket("b", {})
        await self.put()
        await self.sweeper.sweep()
        self.assertEqual(self.store.intents.left, set())

    async def test_under_way(self) -> None:
        """
        A write that is under way is left alone, by this process and by another one.
        """
        await self.store.create_bucket("b", {})
        body, putting = self.put_slowly()
        for sweeper in (self.sweeper, self.process(1, 2)[1]):
            await sweeper.sweep()
        self.assertEqual(len(await self.residue()), 1)
        body.waiting.callback(b"")
        await putting
        await self.assert_clean(1)

    async def test_successor(self) -> None:
        """
        What a process left is for the next one of its number, or for the first when there are
        fewer now; the others leave it alone.
        """
        await self.store.create_bucket("b", {})
        for quiet, successor in (((0, 3), (2, 3)), ((1, 2), (0, 2))):
            store, _ = self.process(2, 3)
            _, putting = self.put_slowly(store)
            await self.process(*quiet)[1].sweep()
            self.assertEqual(len(await self.residue()), 1)
            await self.process(*successor)[1].sweep()
            await self.assert_clean(0)
            putting.addErrback(lambda _: None)
            putting.cancel()

    async def test_given_up(self) -> None:
        """
        A write whose intent was given up fails and leaves nothing.
        """
        await self.store.create_bucket("b", {})
        body, putting = self.put_slowly(self.process(1, 2)[0])
        await self.process(0, 1)[1].sweep()
        body.waiting.callback(b"")
        with self.assertRaises(StorageFailed):
            await putting
        self.assertEqual((await self.store.list("b", ListQuery())).objects, ())
        await self.assert_clean(0)

    async def test_killed(self) -> None:
        """
        Whichever commit a process is killed at, before it happens or after, the next process
        finds each object old or new and whole, and removes the rest.
        """
        for after in (False, True):
            at = 0
            while True:
                self.setUp()
                await self.store.create_bucket("b", {})
                await self.put("k", 300)
                at += 1
                self.index.commits, self.index.at, self.index.after = 0, at, after
                steps: list[Callable[[], object]] = [
                    lambda: self.put("k"),
                    lambda: self.put("k", BIG + 1),
                    lambda: self.put("k", 5),
                    lambda: self.store.delete("b", "k"),
                    lambda: self.store.delete_bucket("b"),
                    lambda: self.store.create_bucket("b", {}),
                ]
                try:
                    for step in steps:
                        await step()
                except Killed:
                    pass
                else:
                    break
                self.store, sweeper = self.process()
                await sweeper.sweep()
                await sweeper.sweep()
                await self.check_whole()
            self.assertEqual(at, 12)

    async def check_whole(self) -> None:
        """
        The bucket, if it exists, can be used, and its object is whole.
        """
        try:
            listing = await self.store.list("b", ListQuery())
        except NoSuchBucket:
            await self.assert_clean(0)
            await self.store.create_bucket("b", {})
            return
        await self.assert_clean(sum(info.size > 300 for info in listing.objects))
        for info in listing.objects:
            opened = await self.store.open("b", info.key)
            source: IBodySource = await opened.read(None)
            self.assertEqual(bytes(await source.read()), pattern(info.size))
            source.close()
            opened.close()
        await self.put("k")

    async def test_failed_commit(self) -> None:
        """
        A commit that fails, whether it happened or not, leaves an object that is whole, and
        nothing that the next sweep does not remove.
        """
        for after in (False, True):
            for at in (1, 2):
                self.setUp()
                await self.store.create_bucket("b", {})
                await self.put()
                self.index.commits, self.index.at, self.index.after = 0, at, after
                self.index.error = lambda: StorageFailed("the device")
                with self.assertRaises(StorageFailed):
                    await self.put("k", BIG + 1)
                await self.sweeper.sweep()
                await self.assert_clean(1)
                opened = await self.store.open("b", "k")
                self.assertEqual(opened.info.size, BIG + 1 if after and at == 2 else BIG)

    async def test_failed_cleanup(self) -> None:
        """
        A write whose own cleaning up fails, too, is cleaned up by a later sweep.
        """
        await self.store.create_bucket("b", {})
        await self.sweeper.sweep()
        body, putting = self.put_slowly()
        self.blobs.broken = True
        putting.cancel()
        with self.assertRaises(CancelledError):
            await putting
        self.assertTrue(body.closed)
        await self.sweeper.sweep()
        self.assertEqual(len(await self.residue()), 1)
        self.blobs.broken = False
        await self.sweeper.sweep()
        await self.assert_clean(0)

    async def test_deleted_bucket(self) -> None:
        """
        The space of a deleted bucket goes with the next sweep, with the garbage in it.
        """
        await self.store.create_bucket("b", {})
        await self.put()
        await self.store.delete("b", "k")
        await self.store.delete_bucket("b")
        await self.sweeper.sweep()
        await self.assert_clean(0)

    async def test_deleted_under_a_write(self) -> None:
        """
        The space of a deleted bucket stays until the writes into it have failed.
        """
        await self.store.create_bucket("b", {})
        body, putting = self.put_slowly()
        await self.store.delete_bucket("b")
        await self.sweeper.sweep()
        self.assertEqual(len(await self.index.spaces()), 2)
        body.waiting.callback(b"")
        with self.assertRaises(NoSuchBucket):
            await putting
        await self.sweeper.sweep()
        await self.assert_clean(0)

    async def test_half_deleted(self) -> None:
        """
        A bucket whose deletion was interrupted exists no more: deleting it again says so, and
        its name is free.
        """
        for again in (False, True):
            self.setUp()
            await self.store.create_bucket("b", {})
            self.index.commits, self.index.at = 0, 2
            with self.assertRaises(Killed):
                await self.store.delete_bucket("b")
            self.store, sweeper = self.process()
            if again:
                await self.store.create_bucket("b", {"new": b""})
                self.assertEqual((await self.store.bucket("b")).settings, {"new": b""})
                await self.put()
            else:
                with self.assertRaises(NoSuchBucket):
                    await self.store.delete_bucket("b")
                self.assertEqual(list(await self.store.buckets()), [])
            await sweeper.sweep()
            await self.assert_clean(again)

    async def test_delete_while_sweeping(self) -> None:
        """
        A deletion that a sweeper makes up for before its own second commit has succeeded, and
        one that another deletion makes up for.
        """
        for swept in (False, True):
            self.index = InterruptedIndex()
            self.store, sweeper = self.process()
            other = self.process(worker=1)[0]
            await self.store.create_bucket("b", {})

            async def delete(other: LayoutStore = other) -> None:
                """
                Delete it, too.
                """
                with self.assertRaises(NoSuchBucket):
                    await other.delete_bucket("b")

            self.index.commits = 2
            self.index.meanwhile = sweeper.sweep if swept else delete
            await self.store.delete_bucket("b")
            self.assertEqual(list(await self.store.buckets()), [])
            await sweeper.sweep()
            await self.assert_clean(0)

    async def test_sweep_fails(self) -> None:
        """
        What a sweep could not remove, the first one or a later one, the next one removes.
        """
        await self.store.create_bucket("b", {})
        _, putting = self.put_slowly()
        putting.addErrback(lambda failure: failure.trap(CancelledError))
        self.addCleanup(putting.cancel)
        self.store, sweeper = self.process()
        self.index.error = lambda: StorageFailed("the device")
        for at in (1, 2):
            self.index.commits, self.index.at = 0, at
            await sweeper.sweep()
            self.assertEqual(len(await self.residue()), 1)
        await sweeper.sweep()
        await self.assert_clean(0)

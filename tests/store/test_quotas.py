# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.limited``, ``kypello.store.quotas`` and ``kypello.store.quotaledger``.
"""

import os

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from kypello.errors import BodyTruncated, QuotaExceeded, StorageFailed
from kypello.interfaces import IBodySource, IObjectStore
from kypello.model import (
    Assembly,
    BucketInfo,
    Buffer,
    PartInfo,
    UploadInfo,
    VersionListing,
    VersionQuery,
)
from kypello.quota import SETTING, Quota
from kypello.store.layout import INLINE
from kypello.store.limited import LimitedStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.quotaledger import Ledger, shared_ledger
from kypello.store.quotas import Quotas, Room
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from kypello.versioning import SETTING as VERSIONING
from kypello.versioning import Versioning
from tests.cases import AsyncCase, SyncCase
from tests.contracts.inneruploads import InnerUploadsContract
from tests.contracts.object_store import ObjectStoreContract, metadata_of
from tests.contracts.uploads import UploadsContract
from tests.contracts.versions import VersionsContract


class _Roomy(Quotas):
    """
    Room in buckets that all have a quota which is never reached.
    """

    async def room(self, info: BucketInfo, size: int | None = None) -> Room | None:
        """
        Begin to write.
        """
        return await super().room(_limited(info), size)

    def watch(self, info: BucketInfo) -> Room | None:
        """
        Begin to remove something.
        """
        return super().watch(_limited(info))


def _limited(info: BucketInfo) -> BucketInfo:
    return evolve(info, settings={**info.settings, SETTING: Quota(1 << 40, 1).to_bytes()})


class ContractTests(
    ObjectStoreContract, UploadsContract, InnerUploadsContract, VersionsContract, AsyncCase
):
    """
    The contract of an object store, where every bucket has a quota that is never reached.
    """

    async def make_store(self) -> LimitedStore:
        """
        An empty store.
        """
        self.index, self.blobs, self.clock = MemoryIndex(), MemoryBlobs(), Clock()
        store = LimitedStore(self.index, self.blobs, self.clock, os.urandom)
        store.quotas = _Roomy(self.clock, store.list_versions)
        self.sweeper = Sweeper(self.index, self.blobs, store.intents)
        return store

    async def settle(self, store: IObjectStore) -> None:
        """
        Sweep.
        """
        await self.sweeper.sweep()


@implementer(IBodySource)
@define(eq=False)
class _Unsized:
    """
    A body whose size nobody knows before its end.

    :ivar reads: How many blocks were read.
    """

    _data: bytes
    _block: int = 1000
    size: int | None = None
    reads: int = 0
    _at: int = field(init=False, default=0)

    async def read(self) -> Buffer:
        """
        Give the next block.
        """
        self.reads += 1
        block = self._data[self._at : self._at + self._block]
        self._at += len(block)
        return block

    def close(self) -> None:
        """
        There is nothing to give up.
        """


class LimitedStoreTests(AsyncCase):
    """
    A bucket ``b`` with a quota of 10 000 bytes, in the stores of two workers.
    """

    async def prepare(self, versions: str = "") -> None:
        """
        Make the bucket.
        """
        self.clock = Clock()
        self.clock.advance(1_000)
        self.index, blobs = MemoryIndex(), MemoryBlobs()
        descriptor = shared_ledger(2)
        self.addCleanup(os.close, descriptor)
        self.store, self.other = (
            LimitedStore(
                self.index,
                blobs,
                self.clock,
                os.urandom,
                worker,
                2,
                ledger=Ledger(worker, 2, descriptor),
            )
            for worker in range(2)
        )
        settings = {SETTING: Quota(10_000, 1).to_bytes()}
        if versions == "Enabled":
            settings[VERSIONING] = Versioning("Enabled").to_bytes()
        await self.store.create_bucket("b", settings)

    async def put(self, key: str, size: int, store: LimitedStore | None = None) -> str:
        """
        Store so many bytes; give the id of the version.
        """
        body = BytesSource([bytes(size)])
        made = await (store or self.store).put("b", key, body, lambda _: metadata_of(b""))
        return made.version_id

    async def refused(self, key: str, size: int, store: LimitedStore | None = None) -> None:
        """
        See that so many bytes are not stored.
        """
        with self.assertRaises(QuotaExceeded):
            await self.put(key, size, store)

    async def used(self, store: LimitedStore | None = None) -> int | None:
        """
        How full the bucket is.
        """
        store = store or self.store
        return await store.quotas.used(await store.bucket("b"))

    async def test_full(self) -> None:
        """
        A bucket takes as much as its quota, from both workers together, and not a byte more.
        """
        await self.prepare()
        await self.put("one", 6_000)
        await self.refused("two", 4_001, self.other)
        await self.put("two", 4_000, self.other)
        await self.refused("three", 1)
        await self.put("empty", 0)
        self.assertEqual((await self.used(), await self.used(self.other)), (10_000, 10_000))

    async def test_before_the_body(self) -> None:
        """
        What is too large is refused before anything of it is read.
        """
        await self.prepare()
        body = BytesSource([bytes(10_001)])
        with self.assertRaises(QuotaExceeded):
            await self.store.put("b", "k", body, lambda _: metadata_of(b""))
        self.assertEqual((body.reads, body.closed), (0, True))

    async def test_unknown_size(self) -> None:
        """
        A body of unknown size is refused when it has become too large, and leaves nothing.
        """
        await self.prepare()
        body = _Unsized(bytes(1_000_000))
        with self.assertRaises(QuotaExceeded):
            await self.store.put("b", "k", body, lambda _: metadata_of(b""))
        self.assertEqual(body.reads, 11)
        self.assertEqual(await self.used(), 0)
        await self.store.put("b", "k", _Unsized(bytes(10_000)), lambda _: metadata_of(b""))
        self.assertEqual(await self.used(), 10_000)

    async def test_failure(self) -> None:
        """
        Whoever fails, or goes away, gives back the room.
        """
        await self.prepare()

        def fail(_size: int) -> None:
            """
            Refuse what has come.
            """
            raise BodyTruncated()

        with self.assertRaises(BodyTruncated):
            await self.store.put("b", "k", BytesSource([bytes(9_000)]), fail)  # type: ignore[arg-type]
        self.assertEqual(await self.used(), 0)
        await self.put("k", 9_000)

    async def test_held(self) -> None:
        """
        Room is taken while something is under way, as the other worker sees it.
        """
        await self.prepare()
        room = await self.store.quotas.room(await self.store.bucket("b"), 6_000)
        await self.refused("two", 5_000, self.other)
        assert room is not None
        room.settle()
        await self.put("two", 5_000, self.other)

    async def test_replaced(self) -> None:
        """
        What takes the place of something needs room beside it, and then leaves its room.
        """
        await self.prepare()
        await self.put("k", 4_000)
        await self.put("k", 5_000, self.other)
        self.assertEqual(await self.used(), 5_000)
        await self.refused("k", 5_001)
        await self.put("k", 100)
        self.assertEqual(await self.used(), 100)

    async def test_removed(self) -> None:
        """
        What is removed leaves its room at once; what was not there leaves nothing.
        """
        await self.prepare()
        await self.put("k", 10_000)
        for _ in range(2):
            await self.other.delete("b", "k")
            self.assertEqual(await self.used(), 0)

    async def test_versions(self) -> None:
        """
        All versions count, a delete marker leaves no room, and a removed version does.
        """
        await self.prepare("Enabled")
        first = await self.put("k", 4_000)
        await self.put("k", 4_000)
        marker = await self.store.delete("b", "k")
        self.assertEqual(await self.used(), 8_000)
        await self.refused("k", 4_000)
        for _ in range(2):
            await self.other.delete("b", "k", None, first)
        await self.store.delete("b", "k", None, marker.version_id)
        self.assertEqual(await self.used(), 4_000)
        await self.put("k", 6_000)

    async def test_suspended(self) -> None:
        """
        When it is not seen how large something was that is gone, the bucket is counted again
        before a write is refused.
        """
        await self.prepare()
        await self.put("k", 3_000)
        for status in ("Enabled", "Suspended"):
            value = Versioning(status).to_bytes()  # type: ignore[arg-type]
            await self.store.change_bucket("b", lambda old, value=value: {**old, VERSIONING: value})
            await self.put("k", 3_000)
        self.assertEqual(await self.used(), 9_000)
        await self.refused("k", 4_000)
        self.clock.advance(1)
        await self.put("k", 4_000)
        self.assertEqual(await self.used(), 7_000)

    async def test_uploads(self) -> None:
        """
        Parts are refused that could not be completed, and an object that there is no room for is
        not made; its upload stays.
        """
        await self.prepare()

        def assemble(_upload: UploadInfo, parts: list[PartInfo]) -> Assembly:
            """
            Take the parts but the last one.
            """
            return Assembly(tuple(part.number for part in parts[:-1]), metadata_of(b""))

        upload = (await self.store.create_upload("b", "k", metadata_of(b""))).upload_id

        async def part(number: int, size: int) -> None:
            """
            Store a part.
            """
            body = BytesSource([bytes(size)])
            await self.store.put_part("b", "k", upload, number, body, lambda _: metadata_of(b""))

        with self.assertRaises(QuotaExceeded):
            await part(1, 10_001)
        for number in (1, 2, 3):
            await part(number, 5_000)
        self.assertEqual(await self.used(), 0)
        await self.put("other", 1)
        with self.assertRaises(QuotaExceeded):
            await self.other.complete_upload("b", "k", upload, b"", assemble)  # type: ignore[arg-type]
        self.assertEqual(await self.used(), 1)
        await self.store.delete("b", "other")
        for store in (self.other, self.store):
            made = await store.complete_upload("b", "k", upload, b"", assemble)  # type: ignore[arg-type]
            self.assertEqual((made.size, await self.used()), (10_000, 10_000))

    async def test_set_later(self) -> None:
        """
        A bucket is counted when its quota is set, whatever was known of it before.
        """
        await self.prepare()
        await self.put("k", 5_000)
        await self.store.change_bucket("b", lambda old: {})
        await self.put("l", INLINE + 1)
        self.assertIsNone(await self.used())
        limited = Quota(200_000, 2).to_bytes()
        await self.store.change_bucket("b", lambda old: {SETTING: limited})
        self.assertEqual(await self.used(), 5_000 + INLINE + 1)

    async def test_count(self) -> None:
        """
        Whoever writes waits while the bucket is counted: by one, even when the first one who
        wanted it goes away.  What is written meanwhile by those who need not wait is added.
        """
        await self.prepare()
        pages: list[Deferred[VersionListing]] = []
        listing = await self.store.list_versions("b", VersionQuery())

        def list_versions(_bucket: str, _query: VersionQuery) -> Deferred[VersionListing]:
            """
            Give a page when the test does.
            """
            pages.append(Deferred())
            return pages[-1]

        self.store.quotas._list = list_versions  # type: ignore[assignment]
        first = Deferred.fromCoroutine(self.put("one", 4_000))
        second = Deferred.fromCoroutine(self.put("two", 4_000))
        await self.put("three", 4_000, self.other)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertNoResult(second)
        (page,) = pages
        page.callback(listing)
        await second
        self.assertEqual(await self.used(), 8_000)

    async def test_count_fails(self) -> None:
        """
        Where a bucket cannot be counted nothing is stored, and the next one tries it again.
        """
        await self.prepare()
        listing = self.store.quotas._list

        async def fail(_bucket: str, _query: VersionQuery) -> VersionListing:
            """
            Fail like a disk.
            """
            raise StorageFailed("the disk")

        self.store.quotas._list = fail
        with self.assertRaises(StorageFailed):
            await self.put("k", 1)
        self.store.quotas._list = listing
        await self.put("k", 1)

    async def test_stop(self) -> None:
        """
        A count that is being made ends with the server.
        """
        await self.prepare()
        self.store.quotas._list = lambda *_: Deferred()  # type: ignore[assignment,return-value]
        waiting = Deferred.fromCoroutine(self.put("k", 1))
        self.store.quotas.stop()
        self.failureResultOf(waiting, CancelledError)


class LedgerTests(SyncCase):
    """
    What processes tell each other.
    """

    def setUp(self) -> None:
        """
        Make a ledger for two.
        """
        self.descriptor = shared_ledger(2)
        self.addCleanup(os.close, self.descriptor)
        self.one, self.two = (Ledger(worker, 2, self.descriptor) for worker in range(2))

    def test_killed(self) -> None:
        """
        What a process held that was killed counts as written, since it may have been.
        """
        mark = self.one.mark(b"bucket")
        self.one.count(mark, 0, 1.0, 0.0)
        self.assertTrue(self.one.hold(mark, 70, 100))
        again = Ledger(0, 2, self.descriptor)
        self.assertEqual(self.two.used(mark), 70)
        self.assertFalse(again.hold(mark, 31, 100))
        self.assertTrue(again.hold(mark, 30, 100))

    def test_removed_meanwhile(self) -> None:
        """
        What began to be removed before a count ended may not have been counted, and so leaves no
        room; it is known that there may be more.
        """
        before = self.one.mark(b"bucket")
        self.one.count(before, 50, 1.0, 0.0)
        during = self.two.mark(b"bucket")
        self.one.count(self.one.mark(b"bucket"), 20, 2.0, 0.0)
        self.two.settle(during, 0, removed=30)
        self.assertEqual(self.one.used(during), 20)
        self.assertFalse(self.one.doubt(during, 2.5))
        self.assertTrue(self.one.doubt(during, 3.5))

    def test_written_meanwhile(self) -> None:
        """
        What was written while a bucket is counted is added, whether or not it was counted.
        """
        mark = self.one.mark(b"bucket")
        writing = self.two.mark(b"bucket")
        self.assertTrue(self.two.hold(writing, 5, 100))
        self.two.settle(writing, 5, written=5)
        self.one.count(mark, 20, 1.0, 0.0)
        self.assertEqual(self.two.used(writing), 25)

    def test_many(self) -> None:
        """
        With more buckets than there is room for, those that were counted first are forgotten,
        but none in which somebody writes.
        """
        held = self.one.mark(b"held")
        self.one.count(held, 7, 0.001, 0.0)
        self.assertTrue(self.one.hold(held, 1, 100))
        for number in range(3 * 4096):
            mark = self.two.mark(b"%d" % number)
            self.assertFalse(mark.known)
            self.two.count(mark, number, 1.0 + number, 0.0)
        self.assertTrue(self.two.mark(b"held").known)
        self.assertEqual(self.two.used(held), 8)
        last = self.one.mark(b"%d" % number)
        self.assertEqual((last.known, self.one.used(last)), (True, number))
        self.assertFalse(self.one.mark(b"0").known)

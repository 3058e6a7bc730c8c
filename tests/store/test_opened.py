# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.opened``: objects of several blobs, and small ones.
"""

from attrs import define, field
from awscrt.checksums import crc32c
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from kypello.errors import Damaged
from kypello.interfaces import IBlob
from kypello.model import ByteRange, ObjectInfo, ObjectMetadata
from kypello.store.files import FileBlobs
from kypello.store.memory import MemoryBlobs
from kypello.store.opened import PartsObject, SharedPin, SmallObject, SmallObjects
from kypello.store.parts import KnownParts, Parts
from kypello.store.records import PartRecord
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase, SyncCase
from tests.contracts.object_store import pattern
from tests.store.disk import DiskCase, held_open


def name_of(number: int) -> str:
    """
    The name of a blob.
    """
    return f"{number:032x}"


@define(eq=False)
class StuckBlobs(MemoryBlobs):
    """
    Blobs that are opened when the test says so.

    :ivar waiting: Those who wait, in order.
    :ivar opened: How many were asked for.
    """

    waiting: "list[Deferred[None]]" = field(init=False, factory=list)
    opened: int = field(init=False, default=0)

    async def open(self, name: str) -> IBlob:
        """
        Wait, then open.
        """
        self.opened += 1
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting
        return await super().open(name)


async def opened(blobs: MemoryBlobs | FileBlobs, sizes: list[int]) -> PartsObject:
    """
    An object of parts.
    """
    records = []
    for number, size in enumerate(sizes):
        await blobs.write(name_of(number), BytesSource([pattern(size, number)]), lambda _: b"")
        records.append(PartRecord(number + 1, size, name_of(number)))
    info = ObjectInfo("b", "k", "null", sum(sizes), 0, ObjectMetadata())
    return PartsObject(info, blobs, Parts(tuple(records)), SharedPin(await blobs.pin(name_of(0))))


class RangeTests(SyncCase):
    """
    Ranges over parts.
    """

    @given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.data())
    def test_ranges(self, sizes: list[int], data: st.DataObject) -> None:
        """
        Every range is cut from the right parts, and no blob is opened but those it lies in.
        """
        whole = b"".join(pattern(size, number) for number, size in enumerate(sizes))
        start = data.draw(st.integers(0, len(whole)))
        stop = data.draw(st.integers(start, len(whole)))
        wanted = ByteRange(start, stop) if start < stop else None
        blobs = MemoryBlobs()

        async def read() -> bytes:
            """
            Read it.
            """
            parts = await opened(blobs, sizes)
            source = await parts.read(wanted)
            parts.close()
            self.assertEqual(source.size, len(whole) if wanted is None else wanted.size)
            found = b""
            while block := await source.read():
                found += block
            return found

        found = self.successResultOf(Deferred.fromCoroutine(read()))
        self.assertEqual(found, whole if wanted is None else whole[start:stop])
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(blobs.delete([name_of(0)]))), []
        )


class OpeningTests(AsyncCase):
    """
    Blobs that take long to open.
    """

    async def begun(self) -> tuple[StuckBlobs, "Deferred[object]", object]:
        """
        A source of which the first block is awaited.
        """
        blobs = StuckBlobs()
        parts = await opened(blobs, [5, 5, 5])
        source = await parts.read(None)
        parts.close()
        return blobs, Deferred.fromCoroutine(source.read()), source

    async def test_ahead(self) -> None:
        """
        The next blob is opened while one is read, and no other one.
        """
        blobs, reading, source = await self.begun()
        self.assertEqual(blobs.opened, 1)
        blobs.waiting[0].callback(None)
        self.assertEqual(await reading, pattern(5, 0))
        self.assertEqual(blobs.opened, 2)
        blobs.waiting[1].callback(None)
        self.assertEqual(await source.read(), pattern(5, 1))
        self.assertEqual(blobs.opened, 3)
        self.assertEqual(await blobs.delete([name_of(0)]), [name_of(0)])
        source.close()
        self.assertEqual(await blobs.delete([name_of(0)]), [])
        blobs.waiting[2].callback(None)
        self.assertEqual(await source.read(), b"")

    async def test_cancelled(self) -> None:
        """
        Who waits for a blob to be opened may be cancelled; all is let go of.
        """
        blobs, reading, source = await self.begun()
        reading.cancel()
        with self.assertRaises(CancelledError):
            await reading
        self.assertEqual(await blobs.delete([name_of(0)]), [])
        self.assertEqual(await source.read(), b"")
        self.assertEqual(blobs.opened, 1)

    async def test_closed_meanwhile(self) -> None:
        """
        A source that is closed while a blob is opened gives nothing more.
        """
        blobs, reading, source = await self.begun()
        source.close()
        blobs.waiting[0].callback(None)
        self.assertEqual(await reading, b"")
        self.assertEqual(await blobs.delete([name_of(0)]), [])
        self.assertEqual(blobs.opened, 1)

    async def test_fails_ahead(self) -> None:
        """
        A blob that is missing spoils what is read of it, and nothing when nobody reads so far.
        """
        for far in (False, True):
            blobs, reading, source = await self.begun()
            await blobs.delete([name_of(1)])
            blobs.waiting[0].callback(None)
            self.assertEqual(await reading, pattern(5, 0))
            blobs.waiting[1].callback(None)
            if far:
                with self.assertRaises(Damaged):
                    await source.read()
            source.close()


class DescriptorTests(DiskCase):
    """
    Files that are open.
    """

    async def test_few(self) -> None:
        """
        Beside the pinned blob two at most are open, however many parts there are, and none in
        the end.
        """
        path = self.directory()
        blobs = FileBlobs(path, self.lanes)
        parts = await opened(blobs, [10] * 50)
        self.assertEqual(len(held_open(path)), 1)
        source = await parts.read(None)
        most = 0
        while await source.read():
            most = max(most, len(held_open(path)))
        self.assertLessEqual(most, 4)
        source = await parts.read(None)
        await source.read()
        source.close()
        parts.close()
        await self.lanes.lane().run(len, "")
        while held_open(path):
            await self.lanes.lane().run(len, "")


class KnownPartsTests(SyncCase):
    """
    Parts at hand.
    """

    def test_bounded(self) -> None:
        """
        What was used last is kept, up to a number of parts.
        """
        known = KnownParts()
        parts = [Parts((PartRecord(1, 1, "aa"),) * 9000) for _ in range(3)]
        for number in (0, 1, 0):
            known.add(b"%d" % number, parts[number])
            self.assertIs(known.get(b"%d" % number), parts[number])
        known.add(b"2", parts[2])
        self.assertEqual(
            [known.get(b"%d" % number) for number in range(3)], [parts[0], None, parts[2]]
        )


class SmallObjectsTests(SyncCase):
    """
    Small objects that were read before.
    """

    def test_same_record(self) -> None:
        """
        An object is known by its record, byte for byte, and opened with the content of now.
        """
        known = SmallObjects()
        info = ObjectInfo("b", "k", "null", 3, 1, ObjectMetadata())
        known.put(b"record", info, None)
        for content in (b"abc", b"xyz"):
            found = known.open("b", "k", b"record", content)
            assert found is not None
            self.assertIs(found.info, info)
            block = self.successResultOf(read_whole(found))
            self.assertEqual(block, content)
        for record, content in (
            (b"other", b"abc"),
            (None, b"abc"),
            (b"record", None),
            (b"record", b"ab"),
        ):
            known.put(b"record", info, None)
            self.assertTrue(known.knows("b", "k"))
            self.assertIs(known.info("b", "k", b"record"), info)
            self.assertIsNone(known.open("b", "k", record, content))
        self.assertIsNone(known.info("b", "k", b"other"))
        self.assertFalse(known.knows("b", "other"))
        self.assertIsNone(known.open("b", "other", b"record", b"abc"))
        self.assertIsNone(known.open("other", "k", b"record", b"abc"))

    def test_damaged(self) -> None:
        """
        Content that has another checksum than its record tells is not given from memory.
        """
        known = SmallObjects()
        known.put(b"record", ObjectInfo("b", "k", "null", 3, 1, ObjectMetadata()), crc32c(b"abc"))
        self.assertIsNone(known.open("b", "k", b"record", b"abd"))
        self.assertIsNotNone(known.open("b", "k", b"record", b"abc"))

    def test_last_used(self) -> None:
        """
        Those that were used last are kept, up to a number.
        """
        known = SmallObjects(2)
        infos = [ObjectInfo("b", key, "null", 1, 1, ObjectMetadata()) for key in "abc"]
        for info in infos[:2]:
            known.put(b"record", info, None)
        known.open("b", "a", b"record", b"x")
        known.put(b"record", infos[2], None)
        found = [known.open("b", key, b"record", b"x") is not None for key in "abc"]
        self.assertEqual(found, [True, False, True])


def read_whole(small: SmallObject) -> "Deferred[bytes]":
    """
    The content of a small object.
    """

    async def read() -> bytes:
        return bytes(await (await small.read(None)).read())

    return Deferred.fromCoroutine(read())

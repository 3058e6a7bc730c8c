# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.files`` and ``kypello.store.blobfile``, and the contract of blobs in
memory.
"""

import errno
import os
from pathlib import Path
from threading import current_thread, main_thread

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from kypello.errors import BodyTruncated, Damaged, StorageFailed, StorageFull
from kypello.model import Buffer
from kypello.store.blobfile import CHUNK
from kypello.store.filecalls import FileCalls
from kypello.store.files import FileBlobs
from kypello.store.memory import MemoryBlobs
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.blobs import BlobsContract, LazySource, name_of
from tests.contracts.object_store import blocks, pattern
from tests.store.disk import DiskCase, held_open

NAME = name_of(1)


class MemoryBlobsTests(BlobsContract, AsyncCase):
    """
    The contract of blobs, in memory.
    """

    async def make_blobs(self) -> MemoryBlobs:
        """
        An empty store of blobs.
        """
        return MemoryBlobs()


@define
class FaultyCalls(FileCalls):
    """
    A device that fails when it is told to.

    :ivar room: How many bytes it takes.
    :ivar failing: The call that fails with an error of the device.
    :ivar cold: Whether nothing is in memory, so that the device is always asked.
    :ivar begun: The ranges that the device was asked to begin with.
    """

    room: int = 1 << 62
    failing: str = ""
    cold: bool = False
    begun: list[tuple[int, int]] = field(factory=list)

    def begin_sync(self, descriptor: int, offset: int, size: int) -> None:
        """
        Note where it begins and ends.
        """
        self.begun.append((offset, offset + size))

    def read_cached(self, descriptor: int, into: Buffer, offset: int) -> int:
        """
        Read what the device is not needed for.
        """
        if self.cold or self.failing == "read":
            return 0
        return super().read_cached(descriptor, into, offset)

    def write(self, descriptor: int, data: Buffer, offset: int) -> int:
        """
        Write in small pieces while there is room.
        """
        self.check("write")
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        piece = memoryview(data)[: min(50_000, self.room)]
        self.room -= len(piece)
        return super().write(descriptor, piece, offset)

    def read(self, descriptor: int, into: Buffer, offset: int) -> int:
        """
        Read in small pieces.
        """
        self.check("read")
        return super().read(descriptor, memoryview(into)[:50_000], offset)

    def sync(self, descriptor: int) -> None:
        """
        Sync.
        """
        self.check("sync")
        super().sync(descriptor)

    def unlink(self, path: Path) -> None:
        """
        Remove.
        """
        self.check("unlink")
        super().unlink(path)

    def check(self, call: str) -> None:
        """
        Fail if it is the turn of this call.
        """
        if call == self.failing:
            raise OSError(errno.EIO, "Input/output error")


class FileBlobsTests(BlobsContract, DiskCase):
    """
    The contract of blobs, in files, and what is particular to them.
    """

    async def make_blobs(self) -> FileBlobs:
        """
        An empty store of blobs.
        """
        self.path = self.directory()
        self.calls = FaultyCalls()
        return FileBlobs(self.path, self.lanes, self.calls)

    async def turn(self) -> None:
        """
        Let the reactor turn.
        """
        await deferLater(reactor, 0)

    def file(self) -> Path:
        """
        The one file there is.
        """
        (path,) = self.path.glob("*/*")
        return path

    async def closed(self) -> bool:
        """
        Whether all files are closed, once the lanes have done what they were given.
        """
        for _ in range(50):
            if not held_open(self.path):
                return True
            await self.turn()
        return False

    async def test_format(self) -> None:
        """
        The content lies at the beginning of a file that only its owner may read.
        """
        blobs = await self.make_blobs()
        data = pattern(100_000)
        await self.write(blobs, NAME, data, b"described")
        path = self.file()
        self.assertEqual(path, self.path / NAME[:2] / NAME)
        raw = path.read_bytes()
        self.assertEqual(raw[: len(data)], data)
        self.assertEqual(len(raw), len(data) + 2 * 4 + len(b"described") + 28)
        self.assertEqual(path.stat().st_mode & 0o077, 0)
        self.assertEqual(path.parent.stat().st_mode & 0o077, 0)

    async def test_full(self) -> None:
        """
        A write for which there is no room says so and leaves no file.
        """
        blobs = await self.make_blobs()
        for room in (0, 100_000, 3_000_000):
            self.calls.room = room
            body = BytesSource(blocks(pattern(3_000_000)))
            with self.assertRaises(StorageFull):
                await blobs.write(NAME, body, lambda _: b"")
            self.assertTrue(body.closed)
            self.assertEqual(list(self.path.glob("*/*")), [])
        self.assertTrue(await self.closed())
        self.calls.room = 1 << 30
        await self.write(blobs, NAME, pattern(3_000_000))

    async def test_device_fails(self) -> None:
        """
        A device that fails while it writes or syncs fails the write, which leaves no file.
        """
        blobs = await self.make_blobs()
        for call in ("write", "sync"):
            self.calls.failing = call
            with self.assertRaises(StorageFailed):
                await blobs.write(NAME, BytesSource(blocks(pattern(200_000))), lambda _: b"")
            self.assertEqual(list(self.path.glob("*/*")), [])
        self.assertTrue(await self.closed())

    async def test_read_fails(self) -> None:
        """
        A device that fails while it reads is not mistaken for damage.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, NAME, pattern(3_000_000))
        blob = await blobs.open(NAME)
        source = blob.read(0, 3_000_000)
        await source.read()
        self.calls.failing = "read"
        with self.assertRaises(StorageFailed):
            await self.drain(source)
        blob.close()
        for call in (blobs.open(NAME), blobs.describe(NAME)):
            with self.assertRaises(StorageFailed):
                await call
        self.assertTrue(await self.closed())

    async def test_delete_fails(self) -> None:
        """
        A blob that cannot be removed is not taken for removed.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, NAME, b"data")
        self.calls.failing = "unlink"
        with self.assertRaises(StorageFailed):
            await blobs.delete([NAME])
        self.assertEqual(list(await blobs.names("", 10)), [NAME])

    async def test_damaged(self) -> None:
        """
        Whatever byte of a file is changed, reading says so and never gives it.
        """
        blobs = await self.make_blobs()
        data = pattern(70_000)
        await self.write(blobs, NAME, data, b"described")
        path = self.file()
        raw = path.read_bytes()
        for at in (0, 65_535, 65_536, 69_999, *range(70_000, len(raw))):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
            with self.assertRaises(Damaged):
                await blobs.describe(NAME)
                blob = await blobs.open(NAME)
                try:
                    await self.drain(blob.read(0, len(data)))
                finally:
                    blob.close()
        self.assertTrue(await self.closed())

    async def test_damage_is_local(self) -> None:
        """
        What lies beside a damaged place can be read.
        """
        blobs = await self.make_blobs()
        data = pattern(200_000)
        await self.write(blobs, NAME, data)
        path = self.file()
        path.write_bytes(b"x" + path.read_bytes()[1:])
        blob = await blobs.open(NAME)
        with self.assertRaises(Damaged):
            await self.drain(blob.read(60_000, 60_001))
        self.assertEqual(await self.drain(blob.read(CHUNK, 200_000)), data[CHUNK:])
        blob.close()

    async def test_cut_short(self) -> None:
        """
        A file that is cut, or has grown, is damaged.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, NAME, pattern(1000))
        raw = self.file().read_bytes()
        for changed in (b"", raw[:10], raw[:-1], raw[1:], raw + b"x", raw[:1000]):
            self.file().write_bytes(changed)
            for call in (blobs.open(NAME), blobs.describe(NAME)):
                with self.assertRaises(Damaged):
                    await call
        self.assertTrue(await self.closed())

    async def test_cut_while_open(self) -> None:
        """
        A file that is cut while it is read is damaged.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, NAME, pattern(3_000_000))
        blob = await blobs.open(NAME)
        os.truncate(self.file(), 100_000)
        with self.assertRaises(Damaged):
            await self.drain(blob.read(0, 3_000_000))
        blob.close()

    async def test_no_leak(self) -> None:
        """
        Files are closed, however reading ends.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, NAME, pattern(3_000_000))
        blob = await blobs.open(NAME)
        whole, early, never = (blob.read(0, 3_000_000) for _ in range(3))
        await self.drain(whole)
        await early.read()
        early.close()
        self.calls.cold = True
        reading = Deferred.fromCoroutine(never.read())
        reading.cancel()
        with self.assertRaises(CancelledError):
            await reading
        self.assertEqual(len(held_open(self.path)), 1)
        blob.close()
        self.assertTrue(await self.closed())

    async def test_cancelled_open(self) -> None:
        """
        Opening that is cancelled leaves no file open.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, NAME, b"data")
        opening = Deferred.fromCoroutine(blobs.open(NAME))
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        self.assertTrue(await self.closed())

    async def test_bounded(self) -> None:
        """
        However slow the device, few blocks wait for it.
        """
        blobs = await self.make_blobs()
        body = BytesSource([bytes(1000) for _ in range(100)])
        lane = self.lanes.lane()
        started = Deferred.fromCoroutine(lane.run(lambda: None))
        writing = Deferred.fromCoroutine(blobs.write(NAME, body, lambda _: b""))
        self.assertTrue(body.reads <= 4)
        await started
        self.assertEqual(await writing, 100_000)

    async def test_write_back(self) -> None:
        """
        The device begins to write a large blob early: every 4 MiB, and the rest when at most a
        chunk is to come, if that is known.
        """
        blobs = await self.make_blobs()
        whole = [bytes(1 << 20)] * 6
        for number, (body, begun) in enumerate(
            (
                (BytesSource(whole[:3]), []),
                (BytesSource(whole), [(0, 4 << 20), (4 << 20, 6 << 20)]),
                (
                    BytesSource([*whole, bytes(CHUNK)]),
                    [(0, 4 << 20), (4 << 20, 6 << 20), (6 << 20, (6 << 20) + CHUNK)],
                ),
                (
                    BytesSource([*whole, bytes(CHUNK + 1)]),
                    [(0, 4 << 20), (4 << 20, (6 << 20) + CHUNK + 1)],
                ),
            )
        ):
            self.calls.begun.clear()
            await blobs.write(name_of(number), body, lambda _: b"")
            self.assertEqual(self.calls.begun, begun)
        body = BytesSource(whole)
        body.size = None
        self.calls.begun.clear()
        await blobs.write(name_of(9), body, lambda _: b"")
        self.assertEqual(self.calls.begun, [(0, 4 << 20)])

    async def test_lazy_elsewhere(self) -> None:
        """
        Blocks that have yet to be made are made off the reactor's thread.
        """
        blobs = await self.make_blobs()
        threads = []

        class Watched(LazySource):
            """
            Notes where it is called.
            """

            def _make(self, number: int, block: Buffer) -> Buffer:
                threads.append(current_thread())
                return super()._make(number, block)

        await blobs.write(NAME, Watched([b"a", b"b"]), lambda _: b"")
        self.assertEqual(len(threads), 2)
        self.assertNotIn(main_thread(), threads)

    async def test_lazy_fails(self) -> None:
        """
        A block that cannot be made fails the write, which leaves no file.
        """
        blobs = await self.make_blobs()
        body = LazySource([b"a" * 1000] * 20, BodyTruncated())
        with self.assertRaises(BodyTruncated):
            await blobs.write(NAME, body, lambda _: b"")
        self.assertEqual((body.closed, list(self.path.glob("*/*"))), (True, []))

    async def test_no_directory(self) -> None:
        """
        A directory that is not there, such as a disk that is not mounted, fails a write.
        """
        blobs = await self.make_blobs()
        self.path.rmdir()
        with self.assertRaises(StorageFailed):
            await blobs.write(NAME, BytesSource([b"data"]), lambda _: b"")


class ColdFileBlobsTests(BlobsContract, DiskCase):
    """
    The contract of blobs, in files of which nothing is in memory.
    """

    async def make_blobs(self) -> FileBlobs:
        """
        An empty store of blobs.
        """
        return FileBlobs(self.directory(), self.lanes, FaultyCalls(cold=True))

    async def turn(self) -> None:
        """
        Let the reactor turn.
        """
        await deferLater(reactor, 0)

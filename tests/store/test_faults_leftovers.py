# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the model and faults of the disk have found, one by one.
"""

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import Damaged, PreconditionFailed, StorageFailed
from kypello.model import ListQuery
from kypello.store.blobfile import remove
from kypello.store.files import FileBlobs
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.cases import AsyncCase
from tests.contracts.blobs import name_of
from tests.contracts.object_store import StuckSource, blocks, if_none_match, metadata_of, pattern
from tests.store.device import Device, DeviceCalls
from tests.store.faults import whats_wrong


class LeftoverTests(AsyncCase):
    """
    What is left, and what must not be removed.
    """

    def setUp(self) -> None:
        """
        An empty store with a bucket.
        """
        self.index, self.blobs, self.clock = MemoryIndex(), MemoryBlobs(), Clock()

    def process(self, worker: int, workers: int = 1) -> tuple[LayoutStore, Sweeper]:
        """
        A process over the data.
        """
        store = LayoutStore(self.index, self.blobs, self.clock, os.urandom, worker, workers)
        return store, Sweeper(self.index, self.blobs, store.intents)

    async def test_given_up_and_refused(self) -> None:
        """
        A write whose intent was given up before its blob was there, and that is refused after
        that, leaves nothing.
        """
        store, _ = self.process(1, 2)
        other, sweeper = self.process(0)
        await store.create_bucket("b", {})
        body = StuckSource(blocks(pattern(100_000)))
        putting = Deferred.fromCoroutine(
            store.put("b", "k", body, lambda _: metadata_of(b""), condition=if_none_match)
        )
        await other.put("b", "k", BytesSource([b"small"]), lambda _: metadata_of(b""))
        await sweeper.sweep()
        assert body.waiting is not None
        body.waiting.callback(b"")
        with self.assertRaises(PreconditionFailed):
            await putting
        self.assertEqual(await whats_wrong(self.index, self.blobs), [])

    async def test_lost_space(self) -> None:
        """
        A bucket whose database is lost keeps its record, which has its settings.
        """
        store, _ = self.process(0)
        await store.create_bucket("b", {"metadata-key": b"sealed"})
        (space,) = set(await self.index.spaces()) - {"system"}
        await self.index.drop(space)
        store, sweeper = self.process(0)
        await sweeper.sweep()
        self.assertEqual((await store.bucket("b")).settings, {"metadata-key": b"sealed"})
        for call in (
            store.create_bucket("b", {}),
            store.delete_bucket("b"),
            store.head("b", "k"),
            store.list("b", ListQuery()),
        ):
            with self.assertRaises(Damaged):
                await call
        self.assertEqual((await store.bucket("b")).settings, {"metadata-key": b"sealed"})


class Noting(Device):
    """
    A device that tells what it did.
    """

    def __init__(self) -> None:
        """
        Nothing yet.
        """
        self.calls: list[tuple[str, Path]] = []

    def after(self, call: str, path: Path, offset: int, data: bytes) -> None:
        """
        Note a call.
        """
        self.calls.append((call, path))


class DurableNamesTests(AsyncCase):
    """
    Names that somebody made or removed who may have been killed before that was durable.
    """

    def setUp(self) -> None:
        """
        An empty directory.
        """
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir(parents=True)
        self.device = Noting()
        self.calls = DeviceCalls(self.device)

    async def test_directory(self) -> None:
        """
        The first blob below a directory that is there makes the name of the directory durable.
        """
        blobs = FileBlobs(self.path, InlineLanes(), self.calls)
        directory = self.path / name_of(1)[:2]
        directory.mkdir()
        await blobs.write(name_of(1), BytesSource([b"data"]), lambda _: b"")
        self.assertIn(("sync_directory", self.path), self.device.calls)

    def test_removed(self) -> None:
        """
        A blob that is absent was perhaps removed just now: that is made durable.
        """
        directory = self.path / "aa"
        directory.mkdir()
        remove(directory / "aaaa", self.calls)
        self.assertEqual(self.device.calls[-1], ("sync_directory", directory))

    async def test_not_mounted(self) -> None:
        """
        A blob whose disk is not there is neither removed nor damaged.
        """
        blobs = FileBlobs(self.path / "away", InlineLanes())
        for call in (blobs.delete([name_of(1)]), blobs.open(name_of(1))):
            with self.assertRaises(StorageFailed):
                await call

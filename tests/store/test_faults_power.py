# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an index has acknowledged outlasts the power, whatever failed or died before.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

from kypello.errors import StorageFailed
from kypello.model import Write
from kypello.store.database import Database
from kypello.store.reserve import Reserve
from kypello.store.transactions import Commit, Get
from tests.cases import SyncCase
from tests.store.device import DeviceCalls, DeviceVFS
from tests.store.faults import Killed
from tests.store.powercut import PowerCutDevice

#: How many times the power is cut, each time with another luck.
_CUTS = 12


class DyingDevice(PowerCutDevice):
    """
    A disk whose user dies when it is about to make names durable.

    :ivar dying: Whether that is so.
    """

    dying = False

    def before(self, call: str, path: Path, offset: int) -> None:
        """
        Die if it is time.
        """
        if call == "sync_directory" and self.dying:
            raise Killed
        super().before(call, path, offset)


class PowerTests(SyncCase):
    """
    Two processes, one after the other, and a cut.
    """

    def begin(self) -> None:
        """
        An empty directory on a disk.
        """
        self.work = Path(self.mktemp()).absolute()
        root = self.work / "before"
        root.mkdir(parents=True)
        self.device = DyingDevice(root)

    def database(self, device: PowerCutDevice) -> Database:
        """
        What a process opens.
        """
        vfs, calls = DeviceVFS(device), DeviceCalls(device)
        self.addCleanup(vfs.close)
        reserve = Reserve(device.root / "reserve", calls)
        file = device.root / "a" / "a.sqlite"
        database = Database(device.root, file, vfs.connect, calls, reserve)
        self.addCleanup(database.close)
        return database

    def outlasts(self, fault: Callable[[Database], None]) -> None:
        """
        Have one process go through a fault and another one commit; then cut the power.
        """
        for seed in range(_CUTS):
            self.begin()
            fault(self.database(self.device))
            commit = Commit([Write(b"acknowledged", b"value")], {}, ())
            self.assertEqual(self.database(self.device).commit([commit]), [None])
            left = self.database(self.device.cut(Random(seed), self.work / "after"))
            self.assertEqual(left.read([Get([b"acknowledged"])]), [[b"value"]])

    def test_nothing(self) -> None:
        """
        Nothing has happened before.
        """
        self.outlasts(lambda _: None)

    def test_made(self) -> None:
        """
        The one that made the database is killed before its name is durable.
        """

        def fault(database: Database) -> None:
            """
            Die.
            """
            self.device.dying = True
            with self.assertRaises(Killed):
                database.commit([Commit([Write(b"k", b"")], {}, ())])
            self.device.dying = False

        self.outlasts(fault)

    def test_failed_sync(self) -> None:
        """
        A sync has failed: what was written can be read, and is on the disk in part.
        """

        def fault(database: Database) -> None:
            """
            Fail to sync.
            """
            database.commit([Commit([Write(b"first", b"")], {}, ())])
            self.device.failing = True
            with self.assertRaises(StorageFailed):
                database.commit([Commit([Write(b"k", bytes(5000))], {}, ())])
            self.device.failing = False

        self.outlasts(fault)

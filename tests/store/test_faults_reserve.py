# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.reserve``, and what the index does with it.
"""

import errno
import sqlite3
from pathlib import Path
from typing import Any

from kypello.errors import Damaged, StorageFull
from kypello.model import Write
from kypello.store.database import Database
from kypello.store.filecalls import FileCalls
from kypello.store.reserve import SIZE, Reserve
from kypello.store.transactions import Commit, Get
from tests.cases import SyncCase
from tests.store.device import DeviceCalls
from tests.store.faultyfront import FaultyDevice


class ReserveTests(SyncCase):
    """
    A file that takes room.
    """

    def setUp(self) -> None:
        """
        Nothing is taken yet.
        """
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir(parents=True)
        self.device = FaultyDevice()
        self.file = self.path / "reserve"
        self.reserve = Reserve(self.file, DeviceCalls(self.device))

    def size(self) -> int:
        """
        How much is taken, in bytes: not only by the size of the file.
        """
        status = self.file.stat()
        self.assertGreaterEqual(status.st_blocks * 512, status.st_size)
        return status.st_size

    def test_keep_and_give(self) -> None:
        """
        Room is taken once, given up in pieces, and taken again.
        """
        for _ in range(2):
            self.reserve.keep()
            whole = self.size()
            self.assertTrue(0 < whole <= SIZE)
            self.reserve.keep()
            left = [whole]
            while self.reserve.give():
                left.append(self.size())
            self.assertEqual(left, sorted(left, reverse=True))
            self.assertEqual((len(left), left[-1]), (5, 0))

    def test_full(self) -> None:
        """
        A disk without room is told of, and what is held stays.
        """
        for number in (errno.ENOSPC, errno.EDQUOT):
            self.assertFalse(self.reserve.full())
            held = self.size()
            self.device.break_(number, calls=("allocate",))
            self.assertTrue(self.reserve.full())
            self.reserve.keep()
            self.assertEqual(self.size(), held)
            self.reserve.give()
            held = self.size()
            with self.assertRaises(StorageFull):
                self.reserve.keep()
            self.assertEqual(self.size(), held)
            self.device.mend()

    def test_other_errors(self) -> None:
        """
        Another error is not taken for a full disk.
        """
        self.device.break_(errno.EIO, calls=("allocate",))
        for call in (self.reserve.keep, self.reserve.full):
            with self.assertRaises(OSError):
                call()


class DatabaseTests(SyncCase):
    """
    A database that has no room.
    """

    def setUp(self) -> None:
        """
        A database with some records, that cannot grow.
        """
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir(parents=True)

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            """
            Connect to a database of some KiB at most.
            """
            connection = sqlite3.connect(*arguments, **options)
            connection.execute("PRAGMA max_page_count = 16")
            return connection

        calls = FileCalls()
        reserve = Reserve(self.path / "reserve", calls)
        self.file = self.path / "a" / "a.sqlite"
        self.database = Database(self.path, self.file, connect, calls, reserve)
        self.addCleanup(self.database.close)
        first = Commit([Write(b"a", b"1"), Write(b"b", b"2")], {}, ())
        self.assertEqual(self.database.commit([first]), [None])

    def test_mixed(self) -> None:
        """
        Of changes that come together, those that free room are made; the others fail.
        """
        requests = [
            Commit([Write(b"a", None)], {b"a": b"1"}, ()),
            Commit([Write(b"c", bytes(200_000))], {}, ()),
            Commit([Write(b"b", b"3")], {b"b": b"2"}, ()),
        ]
        outcomes = self.database.commit(requests)
        self.assertEqual([outcomes[0], outcomes[2]], [None, None])
        self.assertIsInstance(outcomes[1], StorageFull)
        self.assertEqual(self.database.read([Get([b"a", b"b", b"c"])]), [[None, b"3", None]])

    def test_frees(self) -> None:
        """
        What removes, or makes nothing longer, frees room; what adds does not.
        """
        for writes, expect, frees in (
            ([Write(b"o", None), Write(b"g", b"garbage")], {}, True),
            ([Write(b"m", b"closed")], {b"m": b"opened"}, True),
            ([], {}, True),
            ([Write(b"m", b"longer")], {b"m": b"short"}, False),
            ([Write(b"o", b"new")], {b"o": None}, False),
            ([Write(b"c", None), Write(b"c", b"again")], {}, False),
        ):
            self.assertEqual(Commit(writes, expect, ()).frees, frees, writes)

    def test_empty_file(self) -> None:
        """
        A file without content, in the place of a database, is damage and not an empty one.
        """
        self.database.close()
        self.file.write_bytes(b"")
        with self.assertRaises(Damaged):
            self.database.read([Get([b"a"])])
        with self.assertRaises(Damaged):
            self.database.commit([Commit([Write(b"x", b"y")], {}, ())])
        self.assertEqual(self.file.read_bytes(), b"")

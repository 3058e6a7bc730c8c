# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.sqlite``, and the contract of the index in memory.
"""

import sqlite3
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from kypello.errors import Damaged, StorageFailed, StorageFull
from kypello.model import Write
from kypello.store.memory import MemoryIndex
from kypello.store.readonly import ReadOnly, connect_beside
from kypello.store.sqlite import SQLiteIndex
from kypello.store.trimming import KEPT, PIECE
from tests.cases import AsyncCase
from tests.contracts.index import IndexContract
from tests.store.disk import DiskCase, held_open


class MemoryIndexTests(IndexContract, AsyncCase):
    """
    The contract of an index, in memory.
    """

    async def make_index(self) -> MemoryIndex:
        """
        An empty index.
        """
        return MemoryIndex()


class SQLiteIndexTests(IndexContract, DiskCase):
    """
    The contract of an index, in SQLite, and what is particular to it.
    """

    async def make_index(self) -> SQLiteIndex:
        """
        An empty index.
        """
        self.path = self.directory()
        return self.open()

    def open(self, **options: Any) -> SQLiteIndex:
        """
        An index over what is in the directory.
        """
        index = SQLiteIndex(self.path, self.lanes, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(index.close()))
        return index

    def database(self, space: str = "here") -> Path:
        """
        Where the database of a space is.
        """
        return self.path / space[:2] / f"{space}.sqlite"

    async def test_again(self) -> None:
        """
        What was committed is there when the index is opened again, and beside another one.
        """
        index = await self.filled(b"a")
        other = self.open()
        self.assertEqual(list(await other.get("here", [b"a"])), [b"a"])
        await other.commit("here", [Write(b"a", b"2")], {b"a": b"a"}, ())
        self.assertEqual(list(await index.get("here", [b"a"])), [b"2"])
        await index.close()
        self.assertEqual(list(await self.open().get("here", [b"a"])), [b"2"])

    async def test_durable(self) -> None:
        """
        Databases write ahead and sync every commit.
        """
        await self.filled(b"a")
        connection = sqlite3.connect(self.database())
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        connection.close()
        opened: list[sqlite3.Connection] = []

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            """
            Connect, and keep the connection.
            """
            opened.append(sqlite3.connect(*arguments, **options))
            return opened[-1]

        index = self.open(connect=connect)
        await index.commit("here", [Write(b"b", b"b")], {}, ())
        self.assertEqual(opened[0].execute("PRAGMA synchronous").fetchone(), (2,))

    async def test_closed_behind(self) -> None:
        """
        To close an index waits for what has not begun yet, be it that nobody wants it any more,
        and leaves nothing open.
        """
        await (await self.filled(b"a")).close()
        begun, go_on = Event(), Event()

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            """
            Connect when told to.
            """
            begun.set()
            self.assertTrue(go_on.wait(60))
            return sqlite3.connect(*arguments, **options)

        index = self.open(connect=connect)
        first = Deferred.fromCoroutine(index.get("here", [b"a"]))
        self.assertTrue(begun.wait(60))
        later = Deferred.fromCoroutine(index.get("here", [b"a"]))
        unwanted = Deferred.fromCoroutine(index.get("here", [b"a"]))
        unwanted.cancel()
        closing = Deferred.fromCoroutine(index.close())
        go_on.set()
        await closing
        self.failureResultOf(unwanted, CancelledError)
        for outcome in (first, later):
            self.assertEqual(list(self.successResultOf(outcome)), [b"a"])
        self.assertEqual(held_open(self.path), [])

    async def trimmed(self, index: SQLiteIndex, most: int) -> None:
        """
        Wait until the file of a space that is read now and then has no more bytes than that.
        """
        lane = self.lanes.lane()
        for _ in range(3000):
            await index.scan("here", b"", None, 1)
            if self.database().stat().st_size <= most:
                return
            await lane.run(sleep, 0.01)
        self.fail(f"{self.database()} keeps {self.database().stat().st_size} bytes")

    async def test_room_given_back(self) -> None:
        """
        The room of records that were removed goes back to the disk, whichever they were, and the
        others stay as they are.
        """
        index = await self.make_index()
        content = {b"%03d" % number: bytes([number]) * 60_000 for number in range(250)}
        await index.commit("here", [Write(*each) for each in content.items()], {}, ())
        (await self.closed(index)).close()
        full = self.database().stat().st_size
        index = self.open()
        for key in [key for key in content if int(key) % 5]:
            await index.commit("here", [Write(key, None)], {key: content.pop(key)}, ())
        await self.trimmed(index, full // 5 + (2 * KEPT + PIECE) * 4096)
        self.assertEqual(dict(await index.scan("here", b"", None, 1000)), content)
        connection = await self.closed(index)
        self.assertEqual(connection.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        connection.close()

    async def test_room_found(self) -> None:
        """
        What a process did not give back before it was killed, the next one does that reads there.
        """
        index = await self.make_index()
        writes = [Write(b"%03d" % number, bytes(60_000)) for number in range(100)]
        await index.commit("here", writes, {}, ())
        connection = await self.closed(index)
        connection.execute("DELETE FROM records WHERE key > ?", (b"001",))
        connection.commit()
        connection.close()
        full = self.database().read_bytes()
        self.assertGreater(len(full), 6_000_000)
        for connect in (ReadOnly().connect, connect_beside):
            # Who only reads leaves it as it is.
            index = self.open(connect=connect)
            for _ in range(10):
                self.assertEqual(len(await index.scan("here", b"", None, 1000)), 2)
                await self.lanes.lane().run(sleep, 0.01)
            self.assertEqual(index._spaces["here"]._connections[1][1].loose, 0)
            await index.close()
            self.assertEqual(self.database().read_bytes(), full)
        await self.trimmed(self.open(), 2_000_000)

    async def test_room_of_old(self) -> None:
        """
        A database whose pages cannot be moved keeps its room, and is used as any other.
        """
        index = await self.make_index()
        writes = [Write(b"%03d" % number, bytes(60_000)) for number in range(100)]
        await index.commit("here", writes, {}, ())
        connection = await self.closed(index)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        index = self.open()
        removed = [Write(write.key, None) for write in writes]
        await index.commit("here", removed, {}, ())
        self.assertEqual(list(await index.scan("here", b"", None, 1)), [])
        await index.commit("here", writes, {}, ())
        self.assertEqual(len(await index.scan("here", b"", None, 1000)), 100)

    async def closed(self, index: SQLiteIndex) -> sqlite3.Connection:
        """
        Close an index; a connection to its database.
        """
        await index.close()
        return sqlite3.connect(self.database())

    async def test_private(self) -> None:
        """
        Only the owner may read what the index keeps.
        """
        await self.filled(b"a")
        for path in (self.database(), self.database().parent):
            self.assertEqual(path.stat().st_mode & 0o077, 0)

    async def test_dropped_elsewhere(self) -> None:
        """
        A space that another process drops, and makes again, is seen to be another.
        """
        index = await self.filled(b"a")
        other = self.open()
        await other.get("here", [b"a"])
        await index.drop("here")
        self.assertEqual(list(await other.get("here", [b"a"])), [None])
        await index.commit("here", [Write(b"b", b"b")], {}, ())
        self.assertEqual(list(await other.get("here", [b"a", b"b"])), [None, b"b"])

    async def test_writers_in_turn(self) -> None:
        """
        Two writers of one database lose nothing and wait for each other.
        """
        both = await self.filled(b"a"), self.open()

        async def write(index: SQLiteIndex, name: bytes) -> None:
            """
            Commit and commit.
            """
            for number in range(30):
                await index.commit("here", [Write(name + b"%02d" % number, b"")], {}, ())

        await gatherResults(
            [Deferred.fromCoroutine(write(both[n % 2], b"w%d-" % n)) for n in range(4)]
        )
        self.assertEqual(len(await both[0].scan("here", b"w", None, 1000)), 120)

    async def test_few_open(self) -> None:
        """
        However many spaces are used, only so many stay open.
        """
        await self.make_index()
        index = self.open(most=3)
        for turn in range(2):
            for number in range(12):
                await index.commit(f"space{number}", [Write(b"%d" % turn, b"")], {}, ())
        await self.lanes.lane().run(lambda: None)
        databases = {path for path in held_open(self.path) if path.suffix == ".sqlite"}
        self.assertTrue(len(databases) <= 4, databases)
        for number in range(12):
            rows = await index.scan(f"space{number}", b"", None, 10)
            self.assertEqual([key for key, _ in rows], [b"0", b"1"])

    async def test_names(self) -> None:
        """
        A space whose name is no file name of ours is a mistake of the caller.
        """
        index = await self.make_index()
        for name in ("", "a", "../x", "A/B", "x" * 65):
            with self.assertRaises(ValueError):
                await index.get(name, [b"a"])

    async def test_damaged(self) -> None:
        """
        A file that is no database is reported, and never written over.
        """
        index = await self.filled(b"a")
        await index.close()
        self.database().write_bytes(b"no database" * 1000)
        index = self.open()
        for call in (
            index.get("here", [b"a"]),
            index.scan("here", b"", None, 1),
            index.commit("here", [Write(b"a", b"b")], {}, ()),
        ):
            with self.assertRaises(Damaged):
                await call
        self.assertEqual(self.database().read_bytes(), b"no database" * 1000)

    async def test_later_schema(self) -> None:
        """
        A database of a later release is left alone.
        """
        index = await self.filled(b"a")
        await index.close()
        connection = sqlite3.connect(self.database())
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with self.assertRaises(StorageFailed):
            await self.open().get("here", [b"a"])

    async def test_full(self) -> None:
        """
        A commit for which there is no room changes nothing; small ones go on.
        """
        index = await self.filled(b"a")

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            """
            Connect to a database that cannot grow beyond some KiB.
            """
            connection = sqlite3.connect(*arguments, **options)
            connection.execute("PRAGMA max_page_count = 16")
            return connection

        index = self.open(connect=connect)
        with self.assertRaises(StorageFull):
            await index.commit("here", [Write(b"a", b"new"), Write(b"b", bytes(200_000))], {}, ())
        self.assertEqual(list(await index.scan("here", b"", None, 10)), [(b"a", b"a")])
        await index.commit("here", [Write(b"a", b"new")], {}, ())
        self.assertEqual(list(await index.get("here", [b"a"])), [b"new"])

    async def test_no_directory(self) -> None:
        """
        An index whose directory is not there, such as a disk that is not mounted, fails.
        """
        await self.make_index()
        self.path.rmdir()
        index = self.open()
        for call in (
            index.commit("here", [Write(b"a", b"b")], {}, ()),
            index.commit("system", [Write(b"a", b"b")], {}, ()),
            index.get("here", [b"a"]),
            index.scan("system", b"", None, 1),
            index.spaces(),
        ):
            with self.assertRaises(StorageFailed):
                await call

    async def test_dropped_halfway(self) -> None:
        """
        What making or dropping a space left when it was interrupted goes with the next drop.
        """
        index = await self.filled(b"a")
        await index.close()
        path = self.database()
        for name in ("here.sqlite-wal", "here.sqlite-shm", "here.new", "here.new-journal"):
            path.with_name(name).touch()
        path.unlink()
        await self.open().drop("here")
        self.assertEqual([each.name for each in path.parent.iterdir()], ["lock"])

    async def test_stopped(self) -> None:
        """
        Calls after the lanes have stopped fail; none hangs.
        """
        index = await self.filled(b"a")
        await self.lanes.stop()
        for _ in range(2):
            with self.assertRaises(StorageFailed):
                await index.get("here", [b"a"])
        self.lanes.start()

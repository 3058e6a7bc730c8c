# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.salvage``, with its pages and its log, over files of SQLite.
"""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

from kypello.store.readonly import ReadOnly
from kypello.store.salvage import Salvage, found_databases
from kypello.store.sqlitelog import read_log
from kypello.store.sqlitepages import opened_pages
from kypello.store.trimming import make_trimmable
from tests.cases import SyncCase

PAGE = 4096

#: Where a frame of a log begins, and how long one is.
HEADER, FRAME = 32, 24 + PAGE

UPSERT = "INSERT INTO records VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class SalvageCase(SyncCase):
    """
    A test with a database and its log, as a process leaves them that is killed.

    :cvar movable: Whether its pages can be moved.
    :cvar root: Which page is the root of the table, from 0.
    """

    movable = True
    root = 2

    def make(self, seed: int, changes: int, checkpoint: int = 200) -> dict[bytes, bytes]:
        """
        Make them at ``self.path``.

        :param checkpoint: How many frames the log has before it is written to the database.
        :return: The rows.
        """
        chance = random.Random(seed)
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path, self.log = folder / "a.sqlite", folder / "a.sqlite-wal"
        made = folder / "made"
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            if self.movable:
                make_trimmable(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
            connection.execute(
                "CREATE TABLE records (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)"
            )
            for _ in range(changes):
                # Keys that the index of the table keeps in overflow pages, too.
                key = b"o%d" % chance.randrange(2000) + b"x" * chance.choice((0, 0, 0, 1100))
                if chance.random() < 0.3:
                    connection.execute("DELETE FROM records WHERE key = ?", (key,))
                else:
                    # Around what a page takes of a row.
                    size = chance.choice((0, 50, 200, 4000, 4050, 4060, 4061, 4062, 8156, 16_000))
                    connection.execute(UPSERT, (key, chance.randbytes(size)))
            rows = dict(connection.execute("SELECT key, value FROM records"))
            self.path.write_bytes(made.read_bytes())
            self.log.write_bytes((folder / "made-wal").read_bytes())
        made.unlink()
        return rows

    def salvaged(self) -> tuple[dict[bytes, bytes], bool]:
        """
        What is read of the database, and whether it is damaged.
        """
        salvage = Salvage(self.path, databases := ReadOnly())
        rows: dict[bytes, bytes] = {}
        for key, value in salvage.rows():
            rows.setdefault(key, value)
        databases.clean()
        return rows, salvage.damaged

    def change(self, path: Path, at: int, content: bytes) -> None:
        """
        Overwrite some bytes of a file.
        """
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content)


class PagesTests(SalvageCase):
    """
    Databases.
    """

    def test_sound(self) -> None:
        """
        The pages of a database that is sound tell what SQLite tells, whatever they look like.
        """
        for seed, changes in enumerate((0, 1, 5, 40, 300, 1000, 2000)):
            rows = self.make(seed, changes)
            with opened_pages(self.path) as pages:
                found = list(pages.rows())
            self.assertEqual(len(found), len(rows))
            self.assertEqual(dict(found), rows)
            self.assertEqual(self.salvaged(), (rows, False))

    def test_page(self) -> None:
        """
        A page that is zeroed or overwritten costs the rows that touch it, and no others.
        """
        rows = self.make(1, 2000, 1)
        self.log.unlink()
        content = self.path.read_bytes()
        chance = random.Random(1)
        costs = []
        for number in chance.sample(range(len(content) // PAGE), 12):
            for junk in (bytes(PAGE), chance.randbytes(PAGE)):
                self.path.write_bytes(content)
                self.change(self.path, number * PAGE, junk)
                found, _ = self.salvaged()
                # A long key goes on in another page, too.
                self.assertLessEqual(len(set(found) - set(rows)), 1)
                costs.append(len(rows) - sum(found.get(key) == rows[key] for key in rows))
        # The largest rows have four pages; the smallest are seventy on one.
        self.assertLess(max(costs), 90)
        self.assertLess(sum(costs) / len(costs), 5)

    def test_tree(self) -> None:
        """
        Without the first page, or the root of the table, all rows are found.
        """
        rows = self.make(2, 3000, 1)
        self.log.unlink()
        content = self.path.read_bytes()
        for number in (0, self.root):
            self.path.write_bytes(content)
            self.change(self.path, number * PAGE, bytes(PAGE))
            self.assertEqual(self.salvaged(), (rows, True))

    def test_removed(self) -> None:
        """
        Rows that were removed do not come back from free pages when the tree is torn.
        """
        rows = self.make(3, 3000, 1)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DELETE FROM records WHERE rowid % 10 < 8")
            rows = dict(connection.execute("SELECT key, value FROM records"))
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        self.assertGreater(free, 100)
        self.change(self.path, self.root * PAGE, bytes(PAGE))
        self.assertEqual(self.salvaged(), (rows, True))

    def test_cut_short(self) -> None:
        """
        What is left of a database that was cut short is read, also in the middle of a page.
        """
        rows = self.make(4, 3000, 1)
        self.log.unlink()
        os.truncate(self.path, self.path.stat().st_size // 2 + 100)
        found, damaged = self.salvaged()
        self.assertTrue(damaged)
        # Some that were removed come back: the list of free pages was cut off, too.
        right = [key for key in found if rows.get(key) == found[key]]
        self.assertGreater(len(right), len(rows) // 3)
        os.truncate(self.path, 0)
        self.assertEqual(self.salvaged(), ({}, True))

    def test_nonsense(self) -> None:
        """
        What is no database has no rows, and ends the reading in no other way.
        """
        self.make(5, 3000, 1)
        self.log.unlink()
        content = bytearray(self.path.read_bytes())
        chance = random.Random(5)
        for _ in range(300):
            at = chance.randrange(len(content) // PAGE) * PAGE
            # The headers of pages, where they are told apart, and where cells are.
            content[at + chance.randrange(40)] = chance.randrange(256)
        self.path.write_bytes(content)
        self.assertTrue(self.salvaged()[1])
        self.path.write_bytes(chance.randbytes(100_000))
        self.assertEqual(self.salvaged(), ({}, True))

    def test_found(self) -> None:
        """
        All databases of an index are found, also one of which only the log is there.
        """
        folder = Path(self.mktemp())
        (folder / "ab").mkdir(parents=True)
        self.assertEqual(found_databases(folder / "missing"), {})
        for name in (
            "system.sqlite",
            "lock",
            "ab/abc.sqlite-wal",
            "ab/abd.sqlite",
            "ab/abe.new",
            "A b.sqlite",
            "system.sqlite.bak",
        ):
            (folder / name).touch()
        self.assertEqual(
            found_databases(folder),
            {
                "abc": folder / "ab" / "abc.sqlite",
                "abd": folder / "ab" / "abd.sqlite",
                "system": folder / "system.sqlite",
            },
        )


class OldPagesTests(PagesTests):
    """
    Databases that were made before their pages could be moved.
    """

    movable = False
    root = 1


class LogTests(SalvageCase):
    """
    Logs.
    """

    def setUp(self) -> None:
        """
        All rows are in the log; the last commit puts one.
        """
        self.rows = self.make(6, 100, 100_000)
        self.frames = (self.log.stat().st_size - HEADER) // FRAME
        commits = [number for number in range(self.frames) if self.frame(number)[4:8] != bytes(4)]
        self.last = commits[-2] + 1

    def frame(self, number: int) -> bytes:
        """
        The header of a frame.
        """
        at = HEADER + number * FRAME
        return self.log.read_bytes()[at : at + 24]

    def test_sound(self) -> None:
        """
        SQLite reads a log that is sound.
        """
        self.assertEqual(self.salvaged(), (self.rows, False))
        self.assertEqual(read_log(self.path, PAGE).pages, {})

    def test_frame(self) -> None:
        """
        A frame that is changed, in its header or in its page, costs what only that page told;
        SQLite alone would lose all that follows.
        """
        content = self.log.read_bytes()
        for number in (10, self.last - 30):
            for within in (2, 20, 24 + 100):
                self.log.write_bytes(content)
                at = HEADER + number * FRAME + within
                self.change(self.log, at, bytes([content[at] ^ 1]))
                found, damaged = self.salvaged()
                self.assertTrue(damaged)
                right = sum(found.get(key) == value for key, value in self.rows.items())
                self.assertGreaterEqual(right, len(self.rows) - 3)

    def test_header(self) -> None:
        """
        A log is read, but for its first frame, when its header is damaged.
        """
        self.change(self.log, 0, bytes(HEADER))
        found, damaged = self.salvaged()
        self.assertTrue(damaged)
        self.assertEqual(found, self.rows)

    def test_torn(self) -> None:
        """
        A last commit that is torn, or has no end, never happened: so it is after a power cut.
        """
        content = self.log.read_bytes()
        self.change(self.log, HEADER + self.last * FRAME + 100, b"torn")
        torn = self.salvaged()
        self.assertFalse(torn[1])
        changed = {key for key, _ in set(self.rows.items()) ^ set(torn[0].items())}
        self.assertEqual(len(changed), 1)
        self.log.write_bytes(content[:-10])
        self.assertEqual(self.salvaged(), torn)

    def test_database_lost(self) -> None:
        """
        A log tells all it has, when its database is lost.
        """
        self.path.unlink()
        self.assertEqual(self.salvaged(), (self.rows, True))

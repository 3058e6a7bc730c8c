# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The rows that can still be read of the databases of an index, however damaged they are; blocking.
"""

import re
import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path

from attrs import define, field

from kypello.store.readonly import ReadOnly
from kypello.store.sqlitelog import read_log
from kypello.store.sqlitepages import opened_pages

#: What names of spaces are like; other files are none of ours.
_SPACE = re.compile("[0-9a-z-]{2,64}")

#: How many rows SQLite gives at once.
_ROWS = 256


@define(eq=False)
class Salvage:
    """
    One database.

    :ivar damaged: Whether it is; known when all rows were read.
    """

    _path: Path
    _databases: ReadOnly
    damaged: bool = field(init=False, default=False)

    def rows(self) -> Generator[tuple[bytes, bytes], None, None]:
        """
        Keys and values.  Those of a damaged database may come more than once: the first counts.

        :raises OSError: A file is there and cannot be opened.
        """
        if not read_log(Path(f"{self._path}-wal"), 0).damaged:
            try:
                yield from self._sound()
                return
            except (sqlite3.Error, MemoryError):
                # A damaged size asks for any amount of memory.
                pass
        self.damaged = True
        with opened_pages(self._path) as pages:
            yield from pages.rows()

    def _sound(self) -> Iterator[tuple[bytes, bytes]]:
        """
        Read what SQLite takes for sound.
        """
        connection = self._databases.connect_to(self._path)
        try:
            (told,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if told != "ok":
                raise sqlite3.DatabaseError(told)
            cursor = connection.execute("SELECT key, value FROM records")
            while rows := cursor.fetchmany(_ROWS):
                yield from rows
        finally:
            connection.close()


def found_databases(directory: Path) -> dict[str, Path]:
    """
    The databases of an index, by their spaces, also those of which only the log is there.

    :raises OSError:
    """
    found = {
        path.name.partition(".")[0]: path.with_name(path.name.removesuffix("-wal"))
        for pattern in ("*.sqlite", "*.sqlite-wal", "??/*.sqlite", "??/*.sqlite-wal")
        for path in directory.glob(pattern)
    }
    return {space: found[space] for space in sorted(found) if _SPACE.fullmatch(space)}

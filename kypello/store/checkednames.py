# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The names that a check of a store has met.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from attrs import define, field

from kypello.interfaces import ILane
from kypello.store.failures import storage_error

#: Of what form the names of blobs and of the spaces of buckets are, and MD5 digests.
HEX = re.compile("[0-9a-f]{32}")

#: How many parameters a statement has at most.
_PARAMETERS = 900


@define(eq=False)
class CheckedNames:
    """
    Names of blobs and uploads, in a temporary table, on disk when it grows.

    All methods raise :class:`StorageFailed` and :class:`StorageFull`.

    :ivar _lane: Where the table is used.
    """

    _lane: ILane
    _table: sqlite3.Connection = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was met yet.
        """
        # The lane sees to it that no two threads use it at once.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA cache_size = -32768",
            "CREATE TABLE met (name TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID",
            "BEGIN",
        ):
            self._table.execute(statement)

    async def add(self, names: Iterable[tuple[str, str]]) -> set[str]:
        """
        Add names, each with the key of an object.

        :return: Those that were met before.
        """
        met: set[str] = await self._lane.run(self._add, names)
        return met

    async def known(self, names: Sequence[str]) -> dict[str, str]:
        """
        Those that were met, with their keys.
        """
        found: dict[str, str] = await self._lane.run(self._known, names)
        return found

    async def close(self) -> None:
        """
        Forget all.
        """
        await self._lane.run(self._table.close)

    def _add(self, names: Iterable[tuple[str, str]]) -> set[str]:
        insert = "INSERT OR IGNORE INTO met VALUES (?, ?)"
        with _reporting():
            return {pair[0] for pair in names if not self._table.execute(insert, pair).rowcount}

    def _known(self, names: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        with _reporting():
            for start in range(0, len(names), _PARAMETERS):
                some = names[start : start + _PARAMETERS]
                marks = ",".join("?" * len(some))
                found |= self._table.execute(
                    f"SELECT name, key FROM met WHERE name IN ({marks})",  # noqa: S608
                    some,
                )
        return found


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error(error, "a temporary table") from error

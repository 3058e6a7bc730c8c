# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a rebuild of an index has to remember, in temporary tables, on disk when they grow.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar

from attrs import astuple, define, field, frozen

from kypello.interfaces import ILane
from kypello.store.failures import storage_error

_TABLES = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA cache_size = -32768",
    "CREATE TABLE named (blob TEXT PRIMARY KEY, use INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE uploads (upload TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE lost (space TEXT, row BLOB, what TEXT, PRIMARY KEY (space, row)) WITHOUT ROWID",
    "CREATE TABLE described (bucket TEXT, key TEXT, upload TEXT, number INTEGER, rank INTEGER,"
    " blob TEXT, size INTEGER, PRIMARY KEY (bucket, key, upload, number, rank, blob))"
    " WITHOUT ROWID",
    "BEGIN",
)

#: How many rows are read at once.
_PAGE = 256

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]


class Use(IntEnum):
    """
    Why a blob is named.
    """

    #: Something consists of it.
    LIVE = 0
    #: It is to be removed, or was not finished.
    LEFT = 1


@frozen(order=True)
class Described:
    """
    A blob that nothing names, as its description tells.

    :ivar upload: Of which it is a part; empty for objects.
    :ivar rank: When it began to be written, nanoseconds since the epoch; for parts before the
        epoch, so that the newest of one part comes first.
    :ivar size: Bytes of content.
    """

    bucket: str
    key: str
    upload: str
    number: int
    rank: int
    blob: str
    size: int


@define(eq=False)
class RebuiltNames:
    """
    Names of blobs and uploads, rows that are lost, and blobs that are described.

    All methods raise :class:`StorageFailed` and :class:`StorageFull`.

    :ivar _lane: Where the tables are used.
    """

    _lane: ILane
    _tables: sqlite3.Connection = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing is known yet.
        """
        # The lane sees to it that no two threads use it at once.
        self._tables = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in _TABLES:
            self._tables.execute(statement)

    async def close(self) -> None:
        """
        Forget all.
        """
        await self._lane.run(self._tables.close)

    async def leave(self, blobs: Sequence[str]) -> None:
        """
        Note blobs that are to be removed, unless something consists of them.
        """
        rows = [(blob, Use.LEFT) for blob in blobs]
        await self._many("INSERT OR IGNORE INTO named VALUES (?, ?)", rows)

    async def take(self, groups: Sequence[Sequence[str]]) -> Sequence[Use | None]:
        """
        Note that things consist of these blobs, each of its group.

        :return: For each group ``None``, or, if a blob of it is named already, why; then none of
            the group was noted.
        """
        return await self._run(lambda: [self._take(group) for group in groups])

    async def release(self, blobs: Sequence[str]) -> None:
        """
        Forget that anything consists of these blobs.
        """
        await self._many("DELETE FROM named WHERE blob = ?", [(blob,) for blob in blobs])

    async def named(self, blobs: Sequence[str]) -> dict[str, Use]:
        """
        Those of the blobs that are named.
        """
        select = "SELECT use FROM named WHERE blob = ?"

        def read() -> dict[str, Use]:
            """
            Read them, in the lane.
            """
            found = ((blob, self._tables.execute(select, (blob,)).fetchone()) for blob in blobs)
            return {blob: Use(row[0]) for blob, row in found if row is not None}

        return await self._run(read)

    async def add_uploads(self, uploads: Sequence[tuple[str, str]]) -> None:
        """
        Note uploads, each with the key of its object.
        """
        await self._many("INSERT OR IGNORE INTO uploads VALUES (?, ?)", uploads)

    async def upload_keys(self, uploads: Iterable[str]) -> dict[str, str]:
        """
        Those of the uploads that are noted, with their keys.
        """
        select = "SELECT upload, key FROM uploads WHERE upload = ?"

        def read() -> dict[str, str]:
            """
            Read them, in the lane.
            """
            found = (self._tables.execute(select, (upload,)).fetchone() for upload in uploads)
            return dict(row for row in found if row is not None)

        return await self._run(read)

    async def lose(self, space: str, rows: Sequence[tuple[bytes, str]]) -> None:
        """
        Note rows of a space that are lost unless they can be made again, and what is wrong.
        """
        lost = [(space, row, what) for row, what in rows]
        await self._many("INSERT OR IGNORE INTO lost VALUES (?, ?, ?)", lost)

    async def lost(self, after: tuple[str, bytes]) -> Sequence[tuple[str, bytes, str]]:
        """
        The next rows that are lost.
        """
        statement = "SELECT * FROM lost WHERE (space, row) > (?, ?) ORDER BY space, row"
        return await self._page(statement, after)

    async def describe(self, found: Sequence[Described]) -> None:
        """
        Note blobs that are described.
        """
        rows = [astuple(each) for each in found]
        await self._many("INSERT OR IGNORE INTO described VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    async def described(self, after: Described, upload: bool) -> Sequence[Described]:
        """
        The next of those, in order.

        :param upload: Whether the parts of uploads are wanted, or all else.
        """
        statement = (
            "SELECT * FROM described WHERE (bucket, key, upload, number, rank, blob)"
            " > (?, ?, ?, ?, ?, ?) AND (upload != '') = ?"
            " ORDER BY bucket, key, upload, number, rank, blob"
        )
        rows = await self._page(statement, (*astuple(after)[:6], upload))
        return [Described(*row) for row in rows]

    async def described_buckets(self) -> Sequence[str]:
        """
        The buckets of those.
        """
        statement = "SELECT DISTINCT bucket FROM described"
        return await self._run(lambda: [name for (name,) in self._tables.execute(statement)])

    def _take(self, blobs: Sequence[str]) -> Use | None:
        for blob in blobs:
            row = self._tables.execute("SELECT use FROM named WHERE blob = ?", (blob,)).fetchone()
            if row is not None:
                return Use(row[0])
        rows = [(blob, Use.LIVE) for blob in blobs]
        self._tables.executemany("INSERT OR IGNORE INTO named VALUES (?, ?)", rows)
        return None

    async def _many(self, statement: str, rows: Sequence[Row]) -> None:
        def write() -> None:
            """
            Write them, in the lane.  The cursor ends there, too: it resets its statement, which the
            next call uses again.
            """
            self._tables.executemany(statement, rows).close()

        await self._run(write)

    async def _page(self, statement: str, parameters: Row) -> list[Any]:
        wanted = f"{statement} LIMIT {_PAGE}"
        return await self._run(lambda: self._tables.execute(wanted, parameters).fetchall())

    async def _run(self, work: Callable[[], T]) -> T:
        def reporting() -> T:
            """
            Do it, in the lane.
            """
            with _reporting():
                return work()

        result: T = await self._lane.run(reporting)
        return result


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error(error, "a temporary table") from error

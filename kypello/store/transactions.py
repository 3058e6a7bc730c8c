# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is read from one database, and changed in it; blocking, for lanes.

Each step of a statement gives up the interpreter's lock and has to get it back from a busy
reactor.  So a batch takes few steps, however many records it touches: rows come packed into
one, and all changes of a batch are made by one statement for each kind.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from attrs import define
from msgspec.json import Decoder

from kypello.errors import Conflict, Damaged, StorageFailed, StorageFull
from kypello.model import Write

T = TypeVar("T")

#: What a database goes through from one schema version to the next.  The rows lie in the order
#: of their making, which makes writes of any order of keys cheap.
_STEPS = ("CREATE TABLE records (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)",)

#: How many parameters one statement has at most.
_PARAMETERS = 900

#: Lengths with commas between them, and what has them.
_PACKED = (
    "SELECT group_concat(length(key)), group_concat(key, ''), "
    "group_concat(length(value)), group_concat(value, '') "
    "FROM (SELECT key, value FROM records WHERE "
)

_read_lengths = Decoder(list[int]).decode


@define
class Get:
    """
    Read several keys.
    """

    keys: Sequence[bytes]


@define
class Scan:
    """
    Read the first records of a range; *stop* is ``None`` for the end of the space.
    """

    start: bytes
    stop: bytes | None
    limit: int


@define
class Commit:
    """
    Change records; see :meth:`IIndex.commit`.
    """

    writes: Sequence[Write]
    expect: Mapping[bytes, bytes | None]
    empty: Sequence[tuple[bytes, bytes]]

    @property
    def frees(self) -> bool:
        """
        Whether it removes a record, or makes none and none longer: it works on a full disk.
        """
        changes = {write.key: write.value for write in self.writes}
        return None in changes.values() or all(
            len(value or b"") <= len(self.expect.get(key) or b"") for key, value in changes.items()
        )


def migrate(connection: sqlite3.Connection, *, fresh: bool) -> None:
    """
    Bring a database to the present schema.

    :param fresh: It has just been made.
    :raises Damaged: It is empty and should not be.
    :raises StorageFailed: A later release has made it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not version and not fresh:
        raise Damaged("an empty database of the index")
    if version > len(_STEPS):
        raise StorageFailed(f"the index has schema {version}, made by a later release")
    if version == len(_STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in _STEPS[version:]:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {len(_STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_all(connection: sqlite3.Connection, requests: Sequence[Get | Scan]) -> list[object]:
    """
    Read for several.

    :return: For a ``Get`` the values, for a ``Scan`` keys with values.
    """
    wanted = {key for each in requests if isinstance(each, Get) for key in each.keys}
    # One statement is one instant; several need a transaction.
    several = len(wanted) > _PARAMETERS
    if several:
        connection.execute("BEGIN")
    try:
        values = _values(connection, wanted)
        return [
            [values.get(key) for key in each.keys]
            if isinstance(each, Get)
            else _scan(connection, each)
            for each in requests
        ]
    finally:
        if several:
            connection.execute("ROLLBACK")


def commit_all(
    connection: sqlite3.Connection, requests: Sequence[Commit]
) -> list[Conflict | StorageFull | None]:
    """
    Make the changes of several in one transaction, in order; those that conflict make none.

    :return: What each of them gets.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        values: dict[bytes, bytes | None] = {}
        values |= _values(connection, {key for each in requests for key in each.expect})
        changes: dict[bytes, bytes | None] = {}
        outcomes: list[Conflict | StorageFull | None] = []
        for each in requests:
            conflict = _unexpected(each, values)
            if conflict is None and each.empty:
                _apply(connection, changes)
                changes.clear()
                conflict = _occupied(connection, each)
            outcomes.append(conflict)
            if conflict is None:
                for write in each.writes:
                    values[write.key] = changes[write.key] = write.value
        _apply(connection, changes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _unexpected(request: Commit, values: Mapping[bytes, bytes | None]) -> Conflict | None:
    for key, value in request.expect.items():
        if values.get(key) != value:
            return Conflict(key)
    return None


def _occupied(connection: sqlite3.Connection, request: Commit) -> Conflict | None:
    for start, stop in request.empty:
        for key, _ in _scan(connection, Scan(start, stop, 1)):
            return Conflict(key)
    return None


def can_begin(request: Commit) -> bool:
    """
    Whether a change expects nothing to be there, so that it may make a database.
    """
    return all(value is None for value in request.expect.values())


def refused(request: Commit) -> Conflict | None:
    """
    What a change gets where there is no database.
    """
    return _unexpected(request, {})


def _apply(connection: sqlite3.Connection, changes: Mapping[bytes, bytes | None]) -> None:
    removed = [key for key, value in changes.items() if value is None]
    for some in _cut(removed, _PARAMETERS):
        connection.execute(f"DELETE FROM records WHERE key IN ({_marks(len(some))})", some)  # noqa: S608
    stored = [(key, value) for key, value in changes.items() if value is not None]
    for rows in _cut(stored, _PARAMETERS // 2):
        connection.execute(
            f"INSERT INTO records VALUES {','.join(['(?,?)'] * len(rows))} "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [item for row in rows for item in row],
        )


def _values(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for some in _cut(list(keys), _PARAMETERS):
        found |= _rows(connection, f"key IN ({_marks(len(some))}))", some)
    return found


def _scan(connection: sqlite3.Connection, request: Scan) -> list[tuple[bytes, bytes]]:
    if request.stop is None:
        return _rows(connection, "key >= ? ORDER BY key LIMIT ?)", (request.start, request.limit))
    return _rows(
        connection,
        "key >= ? AND key < ? ORDER BY key LIMIT ?)",
        (request.start, request.stop, request.limit),
    )


def _rows(
    connection: sqlite3.Connection, where: str, parameters: Sequence[object]
) -> list[tuple[bytes, bytes]]:
    lengths, keys, sizes, values = connection.execute(_PACKED + where, parameters).fetchone()
    if lengths is None:
        return []
    try:
        return list(zip(_pieces(lengths, keys), _pieces(sizes, values), strict=True))
    except (TypeError, ValueError) as error:
        # A column has lost some of what it had.
        raise Damaged("rows of the index") from error


def _pieces(lengths: bytes, packed: bytes) -> list[bytes]:
    """
    Cut what is packed.

    :raises ValueError: It has another length.
    """
    end = 0
    pieces = [packed[end : (end := end + length)] for length in _read_lengths(b"[%b]" % lengths)]
    if end != len(packed):
        raise ValueError("lengths do not add up")
    return pieces


def _cut(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _marks(count: int) -> str:
    return ",".join("?" * count)

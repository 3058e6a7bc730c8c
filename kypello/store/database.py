# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One space of the index as one SQLite database; blocking, for lanes.

Each step of a statement gives up the interpreter's lock and has to get it back from a busy
reactor.  So a batch takes few steps, however many records it touches: rows come packed into
one, and all changes of a batch are made by one statement for each kind.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from attrs import define, field, frozen

from kypello.errors import Conflict, Damaged, KypelloError, StorageFailed
from kypello.model import Write
from kypello.store.failures import storage_error

#: Opens a database: ``sqlite3.connect`` outside of tests.
Connect: TypeAlias = Callable[..., sqlite3.Connection]

T = TypeVar("T")

#: What a database goes through from one schema version to the next.  The rows lie in the order
#: of their making, which makes writes of any order of keys cheap.
_STEPS = ("CREATE TABLE records (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)",)

#: How many parameters one statement has at most.
_PARAMETERS = 900

_PACKED = (
    "SELECT group_concat(length(key) || ' ' || length(value), ' '), "
    "group_concat(key || value, '') FROM (SELECT key, value FROM records WHERE "
)


@frozen
class Get:
    """
    Read several keys.
    """

    keys: Sequence[bytes]


@frozen
class Scan:
    """
    Read the first records of a range; *stop* is ``None`` for the end of the space.
    """

    start: bytes
    stop: bytes | None
    limit: int


@frozen
class Commit:
    """
    Change records; see :meth:`IIndex.commit`.
    """

    writes: Sequence[Write]
    expect: Mapping[bytes, bytes | None]
    empty: Sequence[tuple[bytes, bytes]]


@define(eq=False)
class Database:
    """
    A connection to one database, used by one thread at a time.

    :ivar _root: Holds all databases.  It is made with the store: when it is not there, the disk
        is not mounted, and nothing may look like an empty index.
    :ivar _inode: Of the file that is open: another one may have taken its place.
    """

    _root: Path
    _path: Path
    _connect: Connect
    _connection: sqlite3.Connection | None = field(init=False, default=None)
    _inode: int = field(init=False, default=0)

    def read(self, requests: Sequence[Get | Scan]) -> list[object]:
        """
        Read for several at once.

        :return: For a ``Get`` the values, for a ``Scan`` keys with values.
        :raises KypelloError: For all of them.
        """
        with self._reporting():
            connection = self._opened()
            if connection is None:
                return [
                    [None] * len(each.keys) if isinstance(each, Get) else [] for each in requests
                ]
            return _read(connection, requests)

    def commit(self, requests: Sequence[Commit]) -> list[Conflict | None]:
        """
        Make the changes of several in one transaction, in order; those that conflict make none.

        :return: What each of them gets.
        :raises KypelloError: For all of them.
        """
        with self._reporting():
            directory = self._path.parent
            if self._opened() is None:
                if not any(map(_can_begin, requests)):
                    return list(map(_refused, requests))
                directory.mkdir(mode=0o700, exist_ok=True)
            with _locked(directory / "lock"):
                connection = self._opened()
                if connection is None:
                    # Nobody has made it, or somebody has dropped it, meanwhile.
                    if not any(map(_can_begin, requests)):
                        return list(map(_refused, requests))
                    connection = self._create()
                return _commit(connection, requests)

    def drop(self) -> None:
        """
        Remove the database.

        :raises KypelloError: It may be there still.
        """
        with self._reporting():
            self.close()
            if not self._path.parent.exists():
                return
            with _locked(self._path.parent / "lock"):
                _unlink(self._path)
                _unlink(self._new)
                sync_directory(self._path.parent)

    def close(self) -> None:
        """
        Close the connection; a later call opens it again.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection | None:
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            self.close()
            if not self._root.is_dir():
                raise StorageFailed(f"{self._root} is not there") from None
            return None
        if inode != self._inode:
            self.close()
        if self._connection is None:
            self._connection = self._open(self._path)
            self._inode = inode
        return self._connection

    @property
    def _new(self) -> Path:
        return self._path.with_suffix(".new")

    def _open(self, path: Path) -> sqlite3.Connection:
        connection = self._connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.text_factory = bytes
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> sqlite3.Connection:
        # Nobody ever sees a database that is not whole: it gets its name last.
        path = self._new
        _unlink(path)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = self._open(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        path.rename(self._path)
        for directory in (self._path.parent, self._root):
            sync_directory(directory)
        made = self._opened()
        if made is None:
            raise StorageFailed(f"{self._path} vanished")
        return made

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            # What is wrong may be the connection.
            with suppress(sqlite3.Error):
                self.close()
            raise storage_error(error, str(self._path)) from error
        except KypelloError:
            with suppress(sqlite3.Error):
                self.close()
            raise


def sync_directory(path: Path) -> None:
    """
    Make the names in a directory durable.

    :raises OSError:
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # SQLite's own waiting sleeps and is unfair: processes that write queue here instead.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
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


def _read(connection: sqlite3.Connection, requests: Sequence[Get | Scan]) -> list[object]:
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


def _commit(connection: sqlite3.Connection, requests: Sequence[Commit]) -> list[Conflict | None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        values: dict[bytes, bytes | None] = {}
        values |= _values(connection, {key for each in requests for key in each.expect})
        changes: dict[bytes, bytes | None] = {}
        outcomes: list[Conflict | None] = []
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


def _can_begin(request: Commit) -> bool:
    return all(value is None for value in request.expect.values())


def _refused(request: Commit) -> Conflict | None:
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
    lengths, packed = connection.execute(_PACKED + where, parameters).fetchone()
    if lengths is None:
        return []
    rows: list[tuple[bytes, bytes]] = []
    sizes = map(int, lengths.split())
    at = 0
    for key_size, value_size in zip(sizes, sizes, strict=True):
        middle = at + key_size
        end = middle + value_size
        rows.append((packed[at:middle], packed[middle:end]))
        at = end
    if at != len(packed):
        raise Damaged("rows of the index")
    return rows


def _cut(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _marks(count: int) -> str:
    return ",".join("?" * count)

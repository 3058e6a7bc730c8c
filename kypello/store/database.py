# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One space of the index as one SQLite database; blocking, for lanes.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from attrs import define, field
from twisted.logger import Logger

from kypello.errors import Conflict, KypelloError, StorageFailed, StorageFull
from kypello.store.failures import storage_error
from kypello.store.filecalls import FileCalls
from kypello.store.reserve import Reserve
from kypello.store.transactions import (
    Commit,
    Get,
    Scan,
    can_begin,
    commit_all,
    migrate,
    read_all,
    refused,
)
from kypello.store.trimming import KEPT, loose_pages, make_trimmable, removes, shorten, trim

#: Opens a database: ``sqlite3.connect`` outside of tests.
Connect: TypeAlias = Callable[..., sqlite3.Connection]

T = TypeVar("T")

#: Codes of SQLite that do not tell whether the disk is full.  Nothing was changed when they are
#: raised.
_UNTOLD = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
)

_log = Logger()


@define(eq=False)
class Database:
    """
    A connection to one database, used by one thread at a time.

    :ivar _root: Holds all databases.  It is made with the store: when it is not there, the disk
        is not mounted, and nothing may look like an empty index.
    :ivar _reserve: Room for what frees some.
    :ivar _inode: Of the file that is open: another one may have taken its place.
    :ivar _durable: Whether what can be read is known to be durable.
    :ivar _unsure: Whether a commit has failed that may be in the log.
    :ivar loose: How many pages :meth:`trim` can give back to the disk, as far as is known.
    """

    _root: Path
    _path: Path
    _connect: Connect
    _calls: FileCalls
    _reserve: Reserve
    _connection: sqlite3.Connection | None = field(init=False, default=None)
    _inode: int = field(init=False, default=0)
    _durable: bool = field(init=False, default=False)
    _unsure: bool = field(init=False, default=False)
    loose: int = field(init=False, default=0)

    def read(self, requests: Sequence[Get | Scan]) -> list[object]:
        """
        Read for several at once.

        :return: For a ``Get`` the values, for a ``Scan`` keys with values.
        :raises KypelloError: For all of them.
        """
        try:
            return self._try_read(requests)
        except StorageFull:
            # To open a database takes room, too.
            return self._with_room(lambda: self._try_read(requests))

    def _try_read(self, requests: Sequence[Get | Scan]) -> list[object]:
        with self._reporting():
            connection = self._opened()
            if connection is None:
                return [
                    [None] * len(each.keys) if isinstance(each, Get) else [] for each in requests
                ]
            return read_all(connection, requests)

    def commit(self, requests: Sequence[Commit]) -> list[Conflict | StorageFull | None]:
        """
        Make the changes of several in one transaction, in order; those that conflict make none,
        nor do those for which there is no room.

        :return: What each of them gets.
        :raises KypelloError: For all of them.
        """
        freeing = [each for each in requests if each.frees]
        try:
            if len(freeing) < len(requests):
                with self._reporting():
                    self._reserve.keep()
            return self._try_commit(requests)
        except StorageFull as full:
            if not freeing:
                raise
            done = iter(self._with_room(lambda: self._try_commit(freeing)))
            return [next(done) if each.frees else full for each in requests]

    def trim(self) -> None:
        """
        Give some of the room back to the disk that records have left which were removed; a short
        transaction.

        What fails is not tried again before something is removed, or the database is opened.
        """
        pages, self.loose = self.loose, 0
        try:
            try:
                self._try_trim(pages)
            except StorageFull:
                self._with_room(lambda: self._try_trim(pages))
        except StorageFull:
            # Who wants to store something is told.
            return
        except KypelloError as error:
            _log.warn("{path} keeps room: {error}", path=str(self._path), error=error)

    def _try_trim(self, pages: int) -> None:
        with self._reporting(), self._alone() as connection:
            if connection is None:
                return
            if not self._durable:
                self._make_durable(connection)
            trim(connection, pages)
            left = loose_pages(connection)
            # Where there is no progress, as others remove as much, it is left to them.
            self.loose = left if left < pages else 0
            if not self.loose:
                shorten(connection)

    def _with_room(self, work: Callable[[], T]) -> T:
        while True:
            with self._reporting():
                given = self._reserve.give()
            try:
                return work()
            except StorageFull:
                if not given:
                    raise

    def _try_commit(self, requests: Sequence[Commit]) -> list[Conflict | StorageFull | None]:
        try:
            return self._commit(requests)
        except StorageFailed:
            if self._unsure:
                self._take_back()
            raise

    def _take_back(self) -> None:
        """
        Empty the log, after a commit that failed.

        If it was the sync that failed, all of the commit is in the log.  Nobody sees it, but who
        opens the database after a crash would, and somebody may have been told meanwhile that
        it is deleted.  When this fails, too, it is tried again with the next commit.
        """
        with suppress(KypelloError), self._reporting(), self._alone() as connection:
            if connection is None:
                return
            self._make_durable(connection)
            log = os.open(f"{self._path}-wal", os.O_RDWR | os.O_CLOEXEC)
            try:
                self._calls.sync(log)
            finally:
                os.close(log)
            self._unsure = False

    def _commit(self, requests: Sequence[Commit]) -> list[Conflict | StorageFull | None]:
        with self._reporting():
            directory = self._path.parent
            if self._opened() is None:
                if not any(map(can_begin, requests)):
                    return list(map(refused, requests))
                self._calls.make_directory(directory)
            with _locked(directory / "lock"):
                connection = self._opened()
                if connection is None:
                    # Nobody has made it, or somebody has dropped it, meanwhile.
                    if not any(map(can_begin, requests)):
                        return list(map(refused, requests))
                    connection = self._create()
                if not self._durable:
                    self._make_durable(connection)
                self._unsure = True
                outcomes = commit_all(connection, requests)
                self._unsure = False
                if any(removes(each.writes) for each in requests):
                    # What was committed is so, whatever comes of the question.
                    with suppress(sqlite3.Error):
                        loose = loose_pages(connection)
                        # Many at once, or each small removal would be followed by a checkpoint.
                        if self.loose or loose > KEPT:
                            self.loose = loose
                return outcomes

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
                self._unlink(self._path)
                self._unlink(self._new)
                self._calls.sync_directory(self._path.parent)

    def close(self) -> None:
        """
        Close the connection; a later call opens it again.
        """
        connection, self._connection = self._connection, None
        self._durable = False
        if connection is not None:
            connection.close()

    def leave(self) -> None:
        """
        Close the connection while no other process does: the last to go takes the log away.
        """
        if self._connection is None:
            return
        try:
            with _locked(self._path.parent / "lock"):
                self.close()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS):
                raise
            # The directory is gone, and the log with it; or nobody can take the log away.
            self.close()

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

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection | None]:
        """
        Keep all others from writing; gives ``None`` when there is no database.
        """
        if self._opened() is None:
            yield None
            return
        with _locked(self._path.parent / "lock"):
            # Somebody may have dropped it meanwhile.
            yield self._opened()

    def _make_durable(self, connection: sqlite3.Connection) -> None:
        # Who made the files may have been killed before their names were durable.
        for directory in (self._path.parent, self._root):
            self._calls.sync_directory(directory)
        # What was written ahead may be in memory only, as a sync has failed before: to the system
        # it looks as if it were on the disk.  So it is written once more, into the database.
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageFailed(f"{self._path} is being read without an end")
        self._durable = True

    @property
    def _new(self) -> Path:
        return self._path.with_suffix(".new")

    def _open(self, path: Path, *, fresh: bool = False) -> sqlite3.Connection:
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
            # Some systems have SQLite write zeros over all that is removed, which takes as much
            # room as to write it: on a full disk nothing large could be deleted.
            connection.execute("PRAGMA secure_delete = FAST")
            if fresh:
                make_trimmable(connection)
            migrate(connection, fresh=fresh)
            self.loose = loose_pages(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> sqlite3.Connection:
        # Nobody ever sees a database that is not whole: it gets its name last.
        path = self._new
        self._unlink(path)
        os.close(self._calls.make(path))
        connection = self._open(path, fresh=True)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        self._calls.rename(path, self._path)
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
            if getattr(error, "sqlite_errorcode", 0) in _UNTOLD and self._full():
                raise StorageFull() from error
            raise storage_error(error, str(self._path)) from error
        except KypelloError:
            with suppress(sqlite3.Error):
                self.close()
            raise

    def _full(self) -> bool:
        try:
            return self._reserve.full()
        except OSError:
            # Something else is wrong, and is told.
            return False

    def _unlink(self, path: Path) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._calls.unlink(Path(f"{path}{suffix}"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # SQLite's own waiting sleeps and is unfair: processes that write queue here instead.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

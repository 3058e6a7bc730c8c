# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The index in SQLite: one database for each space.

Calls for one space that come while it is busy are done together: readers share a statement,
writers a transaction and its sync.
"""

import re
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import KypelloError, StorageFailed
from kypello.interfaces import IIndex, ILane, ILanes
from kypello.model import Write
from kypello.store.database import Connect, Database
from kypello.store.filecalls import FileCalls
from kypello.store.records import SYSTEM
from kypello.store.reserve import Reserve
from kypello.store.transactions import Commit, Get, Scan

#: The most calls that are done together.
_TOGETHER = 256

#: With so many free pages in a database, who writes waits until there are fewer: the more there
#: are, the longer it takes to give back each of them.
_LOOSE = 8192

_SUFFIX = ".sqlite"
_NAME = re.compile("[0-9a-z-]{2,64}")

R = TypeVar("R")


@define(eq=False)
class _Batches(Generic[R]):
    """
    Calls of one kind for one space, in order.

    :ivar _work: Does several; gives what each of them gets, an error being raised.
    :ivar _left: How much there is to tidy up afterwards.
    :ivar _tidy: Tidies up some of it.
    :ivar busy: Whether any are being done or wait.
    :ivar _idle: Who waits until none are.
    """

    _lane: ILane
    _work: Callable[[Sequence[R]], Sequence[object]]
    _left: Callable[[], int]
    _tidy: Callable[[], None]
    busy: bool = field(init=False, default=False)
    _idle: "list[Deferred[None]]" = field(init=False, factory=list)
    _waiting: "deque[tuple[R, Deferred[Any]]]" = field(init=False, factory=deque)

    async def submit(self, request: R) -> Any:
        """
        Do one, together with others.
        """
        outcome: Deferred[Any] = Deferred()
        self._waiting.append((request, outcome))
        if not self.busy:
            self._begin()
        return await outcome

    async def idle(self) -> None:
        """
        Wait until none are being done or wait, also of those that nobody waits for any more.
        """
        if self.busy:
            waiting: Deferred[None] = Deferred()
            self._idle.append(waiting)
            await waiting

    def tidy(self) -> None:
        """
        Tidy up, if there is anything to do and nobody waits.
        """
        if not self.busy:
            self._go_on()

    def _begin(self) -> None:
        self.busy = True
        Deferred.fromCoroutine(self._lane.run(self._batch)).addCallbacks(self._end, self._fail)

    def _batch(self) -> list[tuple["Deferred[Any]", object]]:
        # In the lane: what came until now goes along.
        count = min(len(self._waiting), _TOGETHER)
        batch = [self._waiting.popleft() for _ in range(count)]
        results: Sequence[object]
        try:
            results = self._work([request for request, _ in batch])
        except Exception:
            results = [Failure()] * count
        return [(outcome, result) for (_, outcome), result in zip(batch, results, strict=True)]

    def _end(self, results: list[tuple["Deferred[Any]", object]]) -> None:
        more = bool(self._waiting)
        if more:
            self._go_on()
        for outcome, result in results:
            if isinstance(result, KypelloError):
                outcome.errback(result)
            else:
                outcome.callback(result)
        if not more:
            self._go_on()

    def _fail(self, failure: Failure) -> None:
        # The lane itself refuses: it has been stopped.
        self._rest()
        while self._waiting:
            self._waiting.popleft()[1].errback(failure)

    def _go_on(self) -> None:
        # Who got an outcome may have asked for more.
        left = self._left()
        if left and not self._idle and (left > _LOOSE or not self._waiting):
            self.busy = True
            tidying = Deferred.fromCoroutine(self._lane.run(self._tidy))
            tidying.addCallbacks(lambda _: self._go_on(), self._fail)
        elif self._waiting:
            self._begin()
        else:
            self._rest()

    def _rest(self) -> None:
        self.busy = False
        idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.callback(None)


@define(eq=False)
class _Space:
    """
    An open space: readers and writers have a connection and a lane each.
    """

    _lanes: ILanes
    _root: Path
    _path: Path
    _connect: Connect
    _calls: FileCalls
    _reserve: Reserve
    reader: _Batches[Get | Scan] = field(init=False)
    writer: _Batches[Commit] = field(init=False)
    _connections: tuple[tuple[ILane, Database], tuple[ILane, Database]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing is connected yet.
        """
        reading = self._lanes.lane(), self._database()
        writing = self._lanes.lane(), self._database()
        self.reader = _Batches(reading[0], reading[1].read, lambda: 0, reading[1].trim)
        self.writer = _Batches(
            writing[0], writing[1].commit, lambda: writing[1].loose, writing[1].trim
        )
        self._connections = reading, writing

    def _database(self) -> Database:
        return Database(self._root, self._path, self._connect, self._calls, self._reserve)

    @property
    def busy(self) -> bool:
        """
        Whether any call is not answered yet.
        """
        return self.reader.busy or self.writer.busy

    def tidy(self) -> None:
        """
        Give back room that was found to be free when the database was opened for reading.
        """
        (_, reading), (_, writing) = self._connections
        if reading.loose:
            writing.loose, reading.loose = reading.loose, 0
            self.writer.tidy()

    async def close(self) -> None:
        """
        Close both connections, behind what is under way.
        """
        # A batch that followed would open its connection again, and leave it so.
        await self.reader.idle()
        await self.writer.idle()
        for lane, database in self._connections:
            await lane.run(database.leave)

    async def drop(self) -> None:
        """
        Remove the database, behind what is under way.
        """
        await self.close()
        lane, database = self._connections[1]
        await lane.run(database.drop)


@implementer(IIndex)
@define(eq=False)
class SQLiteIndex:
    """
    Spaces in one directory: ``system.sqlite``, and the others under the first two letters of
    their names.

    :ivar _directory: It exists.
    :ivar reserve: Room that is kept for what frees some.
    :ivar _most: How many spaces stay open when nobody uses them.
    :ivar _spaces: Open ones; the one that was used last comes last.
    """

    _directory: Path
    _lanes: ILanes
    _most: int = 64
    _connect: Connect = sqlite3.connect
    _calls: FileCalls = field(factory=FileCalls)
    reserve: Reserve = field(init=False)
    _spaces: "OrderedDict[str, _Space]" = field(init=False, factory=OrderedDict)
    _log: Logger = field(init=False, factory=Logger)

    def __attrs_post_init__(self) -> None:
        """
        Nothing is open.
        """
        self.reserve = Reserve(self._directory / "reserve", self._calls)

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys.

        :raises Damaged: The database is not what was written.
        """
        values: Sequence[bytes | None] = await self._space(space).reader.submit(Get(keys))
        return values

    def recall(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """
        Nothing is remembered.
        """
        return None

    def knows(self, space: str, key: bytes) -> bool:
        """
        Nothing is remembered.
        """
        return False

    async def scan(
        self, space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        The first records of a range.

        :raises Damaged: The database is not what was written.
        """
        opened = self._space(space)
        rows: Sequence[tuple[bytes, bytes]] = await opened.reader.submit(Scan(start, stop, limit))
        # The first sweep of a process scans all spaces: that is when it is known.
        opened.tidy()
        return rows

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Make all changes or none.

        :raises Damaged: The database is not what was written; nothing was changed.
        """
        await self._space(space).writer.submit(Commit(writes, expect, empty))

    async def drop(self, space: str) -> None:
        """
        Remove a space.
        """
        await self._space(space).drop()

    async def spaces(self) -> Sequence[str]:
        """
        The names of all spaces, sorted.
        """
        names: Sequence[str] = await self._lanes.lane().run(self._names)
        return names

    async def close(self) -> None:
        """
        Close all databases.
        """
        while self._spaces:
            await self._spaces.popitem()[1].close()

    def _space(self, name: str) -> _Space:
        space = self._spaces.get(name)
        if space is None:
            self._close_unused()
            space = self._spaces[name] = _Space(
                self._lanes,
                self._directory,
                self._path(name),
                self._connect,
                self._calls,
                self.reserve,
            )
        self._spaces.move_to_end(name)
        return space

    def _close_unused(self) -> None:
        for name in [name for name, space in self._spaces.items() if not space.busy]:
            if len(self._spaces) < self._most:
                return
            closing = Deferred.fromCoroutine(self._spaces.pop(name).close())
            closing.addErrback(
                lambda failure: self._log.failure("closing a database", failure=failure)
            )

    def _path(self, space: str) -> Path:
        if not _NAME.fullmatch(space):
            raise ValueError(f"no name of a space: {space!r}")
        directory = self._directory if space == SYSTEM else self._directory / space[:2]
        return directory / (space + _SUFFIX)

    def _names(self) -> list[str]:
        if not self._directory.is_dir():
            raise StorageFailed(f"{self._directory} is not there")
        paths = [*self._directory.glob(f"??/*{_SUFFIX}"), *self._directory.glob(f"*{_SUFFIX}")]
        return sorted(path.name.removesuffix(_SUFFIX) for path in paths)

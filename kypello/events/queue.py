# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Events that wait for their targets: records of the index, in a space of their own.

A key is the name of the target, NUL, and what orders its events: when the event was told, in
nanoseconds as 8 bytes, and the number of the process that told it, as 2.  Each process gives each
event a later time than the one before.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.errors import Damaged
from kypello.events.sealing import unpack
from kypello.interfaces import IIndex
from kypello.model import Write

#: The space of the index.
SPACE = "events"

#: How many changes are committed at once at most.
_AT_ONCE = 1000

_log = Logger()


@define(eq=False)
class Queue:
    """
    What waits, as one process sees it.

    Changes that come while others are being committed are committed together.

    :ivar _worker: The number of this process.
    """

    _index: IIndex
    _clock: IReactorTime
    _worker: int = 0
    _last: int = field(init=False, default=0)
    _waiting: list[tuple[Sequence[Write], Deferred[None]]] = field(
        init=False, factory=list, repr=False
    )
    _working: bool = field(init=False, default=False)

    def place(self, target: str) -> bytes:
        """
        Where the next event for a target is kept.
        """
        self._last = max(int(self._clock.seconds() * 1e9), self._last + 1)
        order = self._last.to_bytes(8, "big") + self._worker.to_bytes(2, "big")
        return _prefix(target) + order

    async def change(self, writes: Sequence[Write]) -> None:
        """
        Keep events, or remove them, durably.

        :raises KypelloError: As :meth:`IIndex.commit`.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append((writes, done))
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._work()).addErrback(
                lambda failure: _log.failure("events are not kept", failure)
            )
        await done

    async def page(self, target: str, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """
        Events of a target in their order, with where they are kept.

        :param after: Only those that are kept behind this place; empty for all.
        :raises StorageFailed:
        """
        prefix = _prefix(target)
        start = after + b"\0" if after else prefix
        return await self._index.scan(SPACE, start, prefix[:-1] + b"\1", limit)

    async def _work(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                writes = [write for some, _done in taken for write in some]
                try:
                    await self._index.commit(SPACE, writes, {}, [])
                except Exception as error:
                    for _writes, done in taken:
                        done.errback(error)
                else:
                    for _writes, done in taken:
                        done.callback(None)
        finally:
            self._working = False


async def waiting_keys(index: IIndex) -> AsyncIterator[Mapping[str, int]]:
    """
    How many events wait that need a master key, by its name, page by page; those that cannot be
    read count for the empty name.

    :raises StorageFailed:
    """
    start = b""
    while rows := await index.scan(SPACE, start, None, _AT_ONCE):
        yield Counter(name for _, value in rows if (name := _key_name(value)) is not None)
        start = rows[-1][0] + b"\0"


def _key_name(value: bytes) -> str | None:
    try:
        kept = unpack(value)
    except Damaged:
        return ""
    return kept.key_name if kept.data_key else None


def _prefix(target: str) -> bytes:
    return target.encode() + b"\0"

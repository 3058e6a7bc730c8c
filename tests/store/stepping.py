# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Processes over the same data that go on step by step, and die between any two steps.

A step ends before each call of a seam, and before its answer arrives.  So a process that is
killed has made its last call or has not, and whatever it was about to do does not happen.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from kypello.interfaces import IBlob, IBlobs, IBodySource, IIndex, IPin
from kypello.model import Buffer, Write

#: How many steps any work takes at most; more is a loop.
_MOST = 5000


@define(eq=False)
class Gate:
    """
    What all calls of one process have to pass.

    :ivar parked: Who waits, the one that came last at the end.
    :ivar dead: Whether nobody passes any more.
    """

    parked: "list[Deferred[None]]" = field(init=False, factory=list)
    dead: bool = False

    async def step(self) -> None:
        """
        Wait for a step.
        """
        waiting: Deferred[None] = Deferred()
        self.parked.append(waiting)
        await waiting

    async def call(self, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
        """
        Make a call between two steps.
        """
        await self.step()
        try:
            result = await call(*arguments)
        except Exception:
            await self.step()
            raise
        await self.step()
        return result

    def go(self, which: int = -1) -> None:
        """
        Let one of those who wait take a step.
        """
        assert not self.dead
        self.parked.pop(which % len(self.parked)).callback(None)

    def finish(self, task: "Deferred[Any]") -> None:
        """
        Let those who wait take steps until *task* is done, those first who came last.
        """
        for _ in range(_MOST):
            if task.called:
                return
            self.go()
        raise AssertionError("it does not end")


@implementer(IIndex)
@define(eq=False)
class SteppedIndex:
    """
    An index whose calls are steps; commits are answered in the order in which they were made.

    :ivar _last: Fires when the commit that was made last has been answered.
    """

    _index: IIndex
    _gate: Gate
    _last: "Deferred[None]" = field(init=False, factory=lambda: succeed(None))

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys.
        """
        values: Sequence[bytes | None] = await self._gate.call(self._index.get, space, keys)
        return values

    def recall(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """
        What is in memory.
        """
        return self._index.recall(space, keys)

    def knows(self, space: str, key: bytes) -> bool:
        """
        Whether anything is in memory of a key.
        """
        return self._index.knows(space, key)

    async def scan(
        self, space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        Read a range.
        """
        rows: Sequence[tuple[bytes, bytes]]
        rows = await self._gate.call(self._index.scan, space, start, stop, limit)
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
        """
        await self._gate.step()
        before, self._last = self._last, Deferred()
        answered = self._last
        failed: Exception | None = None
        try:
            await self._index.commit(space, writes, expect, empty)
        except Exception as error:
            failed = error
        await self._gate.step()
        await before
        answered.callback(None)
        if failed is not None:
            raise failed

    async def drop(self, space: str) -> None:
        """
        Remove a space.
        """
        await self._gate.call(self._index.drop, space)

    async def spaces(self) -> Sequence[str]:
        """
        The names of all spaces.
        """
        names: Sequence[str] = await self._gate.call(self._index.spaces)
        return names


@implementer(IBlobs)
@define(eq=False)
class SteppedBlobs:
    """
    Blobs whose calls are steps.

    :ivar _pins: All that were given out.
    """

    _blobs: IBlobs
    _gate: Gate
    _pins: list[IPin] = field(init=False, factory=list)

    async def write(self, name: str, body: IBodySource, describe: Callable[[int], bytes]) -> int:
        """
        Write a blob.
        """
        size: int = await self._gate.call(self._blobs.write, name, body, describe)
        return size

    async def open(self, name: str) -> IBlob:
        """
        Open a blob.
        """
        blob: IBlob = await self._gate.call(self._blobs.open, name)
        return blob

    async def describe(self, name: str) -> bytes:
        """
        Read what was kept beside the content.
        """
        described: bytes = await self._gate.call(self._blobs.describe, name)
        return described

    async def pin(self, name: str) -> IPin:
        """
        Pin a blob.
        """
        pin: IPin = await self._gate.call(self._pin, name)
        return pin

    async def _pin(self, name: str) -> IPin:
        pin: IPin = await self._blobs.pin(name)
        self._pins.append(pin)
        return pin

    def die(self) -> None:
        """
        Let go of all pins, as the system does for a process that is no more.
        """
        for pin in self._pins:
            pin.release()

    async def delete(self, names: Sequence[str]) -> Sequence[str]:
        """
        Remove blobs.
        """
        pinned: Sequence[str] = await self._gate.call(self._blobs.delete, names)
        return pinned

    async def names(self, after: str, limit: int) -> Sequence[str]:
        """
        The next names.
        """
        names: Sequence[str] = await self._gate.call(self._blobs.names, after, limit)
        return names


@implementer(IBodySource)
@define(eq=False)
class SteppedSource:
    """
    A body that comes in two pieces, each with a step.
    """

    _data: bytes = field(repr=False)
    _gate: Gate
    size: int | None = field(init=False)
    _at: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self.size = len(self._data)

    async def read(self) -> Buffer:
        """
        Give the next piece.
        """
        await self._gate.step()
        piece = self._data[self._at : self._at + max(1, len(self._data) // 2 + 1)]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        """
        There is nothing to release.
        """

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The smallest providers of the seams that tests of a single module need.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, field
from zope.interface import implementer

from kypello.interfaces import IBodySource, IEventSink, ILane, ILanes, IStorageProbe
from kypello.model import Buffer, Event


@implementer(ILane)
@define
class InlineLane:
    """
    A lane that runs each call at once, in the thread of the caller.

    :ivar calls: How many calls it ran.
    """

    calls: int = 0

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """
        Run *call* now.
        """
        self.calls += 1
        return call(*arguments)


@implementer(ILanes)
@define
class InlineLanes:
    """
    Lanes without threads.

    :ivar made: All lanes given out, in order.
    """

    made: list[InlineLane] = field(factory=list)

    def lane(self, *, bulk: bool = False) -> ILane:
        """
        A new lane that runs its calls at once.
        """
        lane = InlineLane()
        self.made.append(lane)
        return lane


@implementer(IBodySource)
@define
class BytesSource:
    """
    A body made of blocks that are in memory already.

    :ivar size: Of all blocks together.
    :ivar closed: Whether :meth:`close` was called.
    :ivar reads: How often a block was asked for.
    """

    size: int | None
    closed: bool
    reads: int
    _blocks: list[Buffer]
    _failure: Exception | None

    def __init__(self, blocks: Iterable[Buffer], failure: Exception | None = None) -> None:
        """
        :param blocks: Empty ones are left out.
        :param failure: Raised instead of the end.
        """
        self._blocks = [block for block in blocks if len(block)]
        self._failure = failure
        self.size = sum(len(block) for block in self._blocks) if failure is None else None
        self.closed = False
        self.reads = 0

    async def read(self) -> Buffer:
        """
        The next block.
        """
        self.reads += 1
        if self._blocks and not self.closed:
            return self._blocks.pop(0)
        if self._failure is not None:
            raise self._failure
        return b""

    def close(self) -> None:
        """
        Drop what is left.
        """
        self.closed = True
        self._blocks.clear()


@implementer(IStorageProbe)
@define
class FakeStorage:
    """
    A storage that works, or fails.

    :ivar unreadable: Why it cannot be read; ``None`` when it can.
    :ivar unwritable: Why it cannot be written; ``None`` when it can.
    """

    unreadable: Exception | None = None
    unwritable: Exception | None = None

    async def read(self) -> None:
        """
        Look something up.
        """
        if self.unreadable is not None:
            raise self.unreadable

    async def write(self) -> None:
        """
        Store something.
        """
        await self.read()
        if self.unwritable is not None:
            raise self.unwritable


@implementer(IEventSink)
@define
class RecordingSink:
    """
    Keeps the events of buckets that have a setting.

    :ivar setting: Its name; empty to keep those of all buckets.
    :ivar told: What it was told, in order.
    """

    setting: str = ""
    told: list[Event] = field(factory=list)

    def wanted(self, settings: Mapping[str, bytes]) -> bool:
        """
        Whether the bucket has the setting.
        """
        return not self.setting or self.setting in settings

    async def tell(self, event: Event, settings: Mapping[str, bytes]) -> None:
        """
        Keep an event.
        """
        if self.wanted(settings):
            self.told.append(event)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is open for reading, so that the sweeper leaves it alone.

An object of thousands of parts is read blob by blob, each opened when its turn comes.  Until
then only its pin keeps them: what was deleted meanwhile is in the garbage queue and waits there.

A pin lives in one process.  Where several share the data, each sweeper has to leave garbage
alone, too, that is younger than any reading lasts: entries of the queue will tell their age.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class Pins:
    """
    The pins of this process.

    :ivar _held: How often each blob is pinned.
    :ivar _opening: Fire when those who open something now have pinned it.
    """

    _held: Counter[str] = field(init=False, factory=Counter)
    _opening: "set[Deferred[None]]" = field(init=False, factory=set)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """
        Read what is current in here, and pin it before the end.
        """
        ended: Deferred[None] = Deferred()
        self._opening.add(ended)
        try:
            yield
        finally:
            self._opening.discard(ended)
            ended.callback(None)

    async def opened(self) -> None:
        """
        Wait for those who are opening something now.

        Whoever begins later does not find any more what is garbage already.
        """
        for ended in tuple(self._opening):
            await ended

    def hold(self, blob: str) -> "Pin":
        """
        Pin a version by the first of its blobs.
        """
        return Pin(self._held, blob)

    def held(self, blobs: Iterable[str]) -> bool:
        """
        Whether a version that has these blobs is pinned.
        """
        return bool(self._held) and any(blob in self._held for blob in blobs)


@define(eq=False)
class Pin:
    """
    One reason to keep the blobs of a version.
    """

    _held: Counter[str]
    _blob: str
    _released: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Hold it.
        """
        self._held[self._blob] += 1

    def again(self) -> "Pin":
        """
        Another one for the same version.
        """
        return Pin(self._held, self._blob)

    def release(self) -> None:
        """
        Let go.  Idempotent.
        """
        if self._released:
            return
        self._released = True
        self._held[self._blob] -= 1
        if not self._held[self._blob]:
            del self._held[self._blob]

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Turns: who wants to change the same thing does it one after the other.

Commits that compare and set need no lock to be right.  But of many that change one record at
once all but one fail, have to look again, and fail again: what is done in vain grows with the
square of their number.
"""

from collections import deque
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class _Queue:
    """
    Those who want to change one thing.

    :ivar taken: Whether it is the turn of one of them.
    :ivar passing: Whether the turn is being passed on.
    """

    taken: bool = True
    passing: bool = False
    waiting: "deque[Deferred[None]] | None" = None


@define(eq=False)
class Turns:
    """
    The turns of one process.  A place at which nobody is costs nothing.
    """

    _queues: dict[Hashable, _Queue] = field(init=False, factory=dict)

    def turn(self, place: Hashable) -> AbstractAsyncContextManager[bool]:
        """
        Wait for one's turn, in the order of arrival; it lasts as long as this context.

        Who is cancelled while it waits is no more in the queue.  The context tells whether
        somebody else has had a turn meanwhile.
        """
        return _Turn(self._queues, place)


@define(eq=False)
class _Turn(AbstractAsyncContextManager[bool]):
    """
    The turn of one of them.
    """

    _queues: dict[Hashable, _Queue]
    _place: Hashable

    async def __aenter__(self) -> bool:
        """
        Wait for it.
        """
        queue = self._queues.get(self._place)
        if queue is None:
            self._queues[self._place] = _Queue()
            return False
        turn: Deferred[None] = Deferred()
        if queue.waiting is None:
            queue.waiting = deque()
        queue.waiting.append(turn)
        await turn
        return True

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """
        Pass it on.
        """
        # What the collector finds is over, and so are those who wait for it.
        if kind is not GeneratorExit:
            self._pass_on()

    def _pass_on(self) -> None:
        queue = self._queues[self._place]
        queue.taken = False
        if queue.passing:
            # Whose turn ends at once comes here from below: however many they are, nothing is
            # nested.
            return
        queue.passing = True
        while queue.waiting and not queue.taken:
            turn = queue.waiting.popleft()
            # One that was cancelled has been called already.
            if not turn.called:
                queue.taken = True
                turn.callback(None)
        queue.passing = False
        if not queue.taken:
            del self._queues[self._place]

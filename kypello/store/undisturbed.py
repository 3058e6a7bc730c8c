# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Work that goes to its end although its caller is cancelled, and work that has to end.
"""

from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: How long work has to heed a cancellation before it is cancelled again, in seconds.
_AGAIN = 0.1

T = TypeVar("T")


class _Shield(Deferred[Any]):
    """
    Waits for another Deferred, and keeps from it that nobody is interested any more.

    :ivar cancelled: Whether there was a cancellation.
    """

    cancelled = False

    def cancel(self) -> None:
        """
        Called by Twisted: take note, and go on waiting.
        """
        self.cancelled = True


@coroutine
def undisturbed(
    work: Coroutine["Deferred[Any]", Any, T],
) -> Generator["Deferred[Any]", Any, tuple[T, bool]]:
    """
    Await *work*; a cancellation meanwhile does not reach it and does not end the waiting.

    A commit that was sent may happen; only its answer tells.  So what begins to commit waits
    for the answer, whoever has lost interest.

    :return: The result, and whether there was a cancellation that the caller may heed now.
    """
    step: Callable[[Any], Deferred[Any]] = work.send
    came: Any = None
    cancelled = False
    while True:
        try:
            waited_for = step(came)
        except StopIteration as end:
            return end.value, cancelled
        finally:
            # An error holds the frames that it came through.
            came = None
        # One shield suffices for all who are undisturbed within each other.
        shield = waited_for if isinstance(waited_for, _Shield) else _shield(waited_for)
        try:
            step, came = work.send, (yield shield)
        except Exception as error:
            step, came = work.throw, error
        if shield.cancelled:
            # Whoever is undisturbed within this is not told.
            cancelled, shield.cancelled = True, False


async def given_up(running: "Deferred[None]", clock: IReactorTime) -> None:
    """
    Cancel *running* until it has ended.

    Once may not be enough.  What is undisturbed and fails tells of its failure, not of the
    cancellation; and who takes that for a reason to try again never hears of it.
    """
    cancelling = LoopingCall(running.cancel)
    cancelling.clock = clock
    cancelling.start(_AGAIN)
    try:
        await running
    except CancelledError:
        pass
    finally:
        cancelling.stop()


def _shield(waited_for: "Deferred[Any]") -> _Shield:
    shield = _Shield()
    waited_for.addBoth(shield.callback)
    return shield

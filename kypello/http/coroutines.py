# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Coroutines that rarely wait.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def begin(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T] | None:
    """
    Run a coroutine to its end, or to where it has to wait.

    What never waits costs a call then, and no Deferred.

    :return: ``None`` when it has ended; else what fires at its end, and cancels it.
    :raises Exception: What it raises before it waits.
    """
    try:
        waited_for = coroutine.send(None)
    except StopIteration:
        return None
    running = _Running(coroutine)
    running.wait_for(waited_for)
    return running


class _Running(Deferred[T]):
    """
    What is left of a coroutine that waits; fires at its end.

    It does what ``Deferred.fromCoroutine`` does in a third of the time: most requests that store
    something wait once.  Variables of context are those of whoever ends the waiting.

    :ivar _waited_for: What it waits for.
    :ivar _asking: It is being asked whether that has come already.
    :ivar _came: What has come, until it is handed on.
    """

    def __init__(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> None:
        super().__init__()
        self._coroutine = coroutine
        self._waited_for: Deferred[Any] | None = None
        self._asking = False
        self._came: Any = None

    def cancel(self) -> None:
        """
        Cancel what it waits for; the coroutine makes of that what it likes.
        """
        if self._waited_for is None:
            super().cancel()
        else:
            self._waited_for.cancel()

    def wait_for(self, waited_for: Deferred[Any] | None) -> None:
        """
        Go on when something comes, however often it is there already.
        """
        while waited_for is not None:
            self._waited_for, self._asking = waited_for, True
            waited_for.addBoth(self._arrived)
            if self._asking:
                self._asking = False
                return
            waited_for = self._step()

    def _arrived(self, came: Any) -> None:
        self._came = came
        if self._asking:
            # From below, where it goes on: nothing is nested.
            self._asking = False
        else:
            self.wait_for(self._step())

    def _step(self) -> Deferred[Any] | None:
        """
        Hand on what has come.

        :return: What the coroutine waits for next; ``None`` at its end.
        """
        came, self._came, self._waited_for = self._came, None, None
        try:
            if isinstance(came, Failure):
                waiting: Deferred[Any] = came.throwExceptionIntoGenerator(self._coroutine)
            else:
                waiting = self._coroutine.send(came)
        except StopIteration as end:
            value = end.value
        except BaseException:
            self.errback()
            return None
        else:
            return waiting
        finally:
            # An error holds the frames that it came through, and they hold the request.
            del came
        self.callback(value)
        return None

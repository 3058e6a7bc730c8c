# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What becomes of waiting when somebody sets the clock of the machine.

The reactor goes by the time of day.  Set back by an hour, it would do nothing that it has to do
later for an hour: no sweeper would go on, and no time would be over.  Set forward, all times would
be over at once.
"""

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.logger import Logger

#: How often to look, in seconds.
_LOOK = 1.0

#: What is no more than that was not set but drifts, in seconds.
_STEP = 1.0

_log = Logger()


@define(eq=False)
class Clocks:
    """
    The time of day, beside one that nobody sets.

    :ivar _day: Tells the time of day, in seconds.
    :ivar _steady: Tells the other.
    """

    _day: Callable[[], float] = time.time
    _steady: Callable[[], float] = time.monotonic
    _apart: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nobody has set it yet.
        """
        self._apart = self._day() - self._steady()

    def step(self) -> float:
        """
        By how much the time of day was set since this was asked last, in seconds; below 0 if it
        was set back, and 0 when it was not.
        """
        apart = self._day() - self._steady()
        step = apart - self._apart
        if abs(step) <= _STEP:
            return 0.0
        self._apart = apart
        return step


def postpone(reactor: Any, step: float) -> None:
    """
    Have all that is to be done later be done as much later, or sooner, as the clock was set.
    """
    _log.warn("the clock was set by {step:+.1f} s", step=step)
    for call in reactor.getDelayedCalls():
        call.delay(step)


class ClockWatch(Service):
    """
    Looks at the clock, in a thread: a reactor that waits for an hour would not.
    """

    def __init__(self, reactor: Any, clocks: Clocks | None = None, look: float = _LOOK) -> None:
        """
        Watch the clock of a reactor.

        :param look: How often, in seconds.
        """
        self._reactor = reactor
        self._clocks = clocks or Clocks()
        self._look = look
        self._ended = Event()
        self._thread: Thread | None = None

    def startService(self) -> None:
        """
        Called by Twisted: begin to look.
        """
        Service.startService(self)
        self._thread = Thread(target=self._watch, name="kypello-clock", daemon=True)
        self._thread.start()

    def stopService(self) -> None:
        """
        Called by Twisted: look no more.
        """
        Service.stopService(self)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._ended.wait(self._look):
            step = self._clocks.step()
            if step:
                self._reactor.callFromThread(postpone, self._reactor, step)

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
from typing import Any

from attrs import define, field
from twisted.logger import Logger

#: What is no more than that was not set but drifts, in seconds.
_STEP = 1.0

_log = Logger()


@define(eq=False)
class SteadyWaiting:
    """
    Tells a reactor the time of day; when that was set, first moves all that waits by as much.

    The reactor asks for the time before it does anything that was to be done later, and whenever
    something is to be done later.  So nothing waits that was counted from the new time.

    :ivar _day: Tells the time of day, in seconds.
    :ivar _steady: Tells a time that nobody sets.
    :ivar _apart: How much the one is ahead of the other.
    """

    _reactor: Any
    _day: Callable[[], float]
    _steady: Callable[[], float]
    _apart: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nobody has set it yet.
        """
        self._apart = self._day() - self._steady()

    def seconds(self) -> float:
        """
        The time of day.
        """
        now = self._day()
        step = now - self._steady() - self._apart
        if not -_STEP <= step <= _STEP:
            self._apart += step
            _log.warn("the clock was set by {step:+.1f} s", step=step)
            for call in self._reactor.getDelayedCalls():
                call.delay(step)
        return now


def heed_clock(
    reactor: Any,
    day: Callable[[], float] = time.time,
    steady: Callable[[], float] = time.monotonic,
) -> None:
    """
    Have a reactor wait as long as it is asked to, also when somebody sets the clock.

    :param day: Tells the time of day, in seconds.
    :param steady: Tells a time that nobody sets.
    """
    waiting, timeout = SteadyWaiting(reactor, day, steady), reactor.timeout

    def sleep() -> float | None:
        """
        How long the reactor may sleep: it looks at what waits before it asks for the time.
        """
        waiting.seconds()
        found: float | None = timeout()
        return found

    reactor.seconds, reactor.timeout = waiting.seconds, sleep

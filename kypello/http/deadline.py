# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A deadline that moves often and comes due rarely.
"""

from collections.abc import Callable

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@define(eq=False)
class Deadline:
    """
    Calls a function once, unless it is moved or cleared before.

    Moving it later, or clearing it, touches no timer: the timer that runs finds out when it
    fires.

    :ivar _expired: What to call.
    :ivar _left: How long after the timer it comes due, in seconds; ``None`` for never.  A point of
        time would be wrong as soon as somebody sets the clock: timers are moved then.
    """

    _clock: IReactorTime
    _expired: Callable[[], None]
    _left: float | None = None
    _timer: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """
        Come due in some seconds, in place of any other time.
        """
        timer = self._timer
        if timer is not None:
            left = self._clock.seconds() + seconds - timer.getTime()
            if left >= 0:
                self._left = left
                return
            timer.cancel()
        self._start(seconds)

    def clear(self) -> None:
        """
        Do not come due.
        """
        self._left = None

    def stop(self) -> None:
        """
        Clear it and leave no timer behind.
        """
        self._left = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _start(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self._fire)
        self._left = 0.0

    def _fire(self) -> None:
        self._timer = None
        left, self._left = self._left, None
        if left is None:
            return
        if left > 0:
            self._start(left)
        else:
            self._expired()

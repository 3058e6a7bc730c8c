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
    """

    _clock: IReactorTime
    _expired: Callable[[], None]
    _at: float | None = None
    _timer: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """
        Come due in some seconds, in place of any other time.
        """
        self._at = self._clock.seconds() + seconds
        if self._timer is not None:
            if self._timer.getTime() <= self._at:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._fire)

    def clear(self) -> None:
        """
        Do not come due.
        """
        self._at = None

    def stop(self) -> None:
        """
        Clear it and leave no timer behind.
        """
        self._at = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        left = self._at - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._fire)
        else:
            self._at = None
            self._expired()

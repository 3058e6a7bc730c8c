# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Secrets that one process keeps for a while.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

V = TypeVar("V")


@define(eq=False)
class Expiring(Generic[V]):
    """
    Secrets that are forgotten some time after they came, or when there are too many.

    What has expired is dropped at the next use of any of them.

    :ivar _seconds: How long they are kept at most; zero for not at all.
    :ivar _limit: How many are kept at most.
    """

    _clock: IReactorTime
    _seconds: float
    _limit: int
    _values: dict[object, tuple[float, V]] = field(factory=dict, repr=False)

    def get(self, key: object) -> V | None:
        """
        What came under *key*, unless it is forgotten.
        """
        now = self.expire()
        found = self._values.get(key)
        return None if found is None or found[0] <= now else found[1]

    def put(self, key: object, value: V, until: float | None = None) -> None:
        """
        Keep *value* in place of what was there.

        :param until: Not longer than this.
        """
        self._values.pop(key, None)
        if self._seconds > 0 and self._limit > 0:
            latest = self._clock.seconds() + self._seconds
            self._values[key] = (latest if until is None else min(until, latest), value)
        self.expire()

    def drop(self, unwanted: Callable[[Any], bool]) -> None:
        """
        Forget what came under keys of some kind.
        """
        for key in [key for key in self._values if unwanted(key)]:
            del self._values[key]

    def expire(self) -> float:
        """
        Drop what has expired.

        :return: The time.
        """
        # All are kept for about the same time, so the order of arrival is nearly that of expiry,
        # and nothing stays for longer than that time.
        now = self._clock.seconds()
        values = self._values
        while values:
            oldest = next(iter(values))
            if values[oldest][0] > now and len(values) <= self._limit:
                break
            del values[oldest]
        return now

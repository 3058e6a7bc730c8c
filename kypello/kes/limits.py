# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How many requests a key server takes.
"""

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

#: Who waits as long as told must not be refused for the last bit of a fraction.
_ROUNDING = 1e-6


@frozen
class Limits:
    """
    Requests per second, of which those of one second may come at once; ``0`` for any number.

    :ivar total: Of all clients together.
    :ivar each: Of each identity that has a policy, and of the administrator.  All others share
        what one of them has.
    """

    total: float = 0.0
    each: float = 0.0


@define(eq=False)
class _Bucket:
    """
    What may come now: it fills with time, up to the requests of one second.

    :ivar _rate: Requests per second.
    :ivar _level: How many may come, as of *_at* in seconds of the clock.
    """

    _rate: float
    _at: float
    _level: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Begin full.
        """
        self._level = max(1.0, self._rate)

    def wait(self, now: float) -> float:
        """
        How long until there is room for one more, in seconds.
        """
        self._level = min(max(1.0, self._rate), self._level + (now - self._at) * self._rate)
        self._at = now
        missing = 1.0 - self._level
        return missing / self._rate if missing > _ROUNDING else 0.0

    def take(self) -> None:
        """
        Make use of the room for one.
        """
        self._level -= 1.0


@define(eq=False)
class RateLimiter:
    """
    Tells which requests are too many.

    :ivar _buckets: By identity; the empty one is of all that have none of their own.
    """

    _limits: Limits
    _known: frozenset[str]
    _clock: IReactorTime
    _total: _Bucket | None = field(init=False)
    _buckets: dict[str, _Bucket] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Make as many buckets as there will ever be.
        """
        now, limits = self._clock.seconds(), self._limits
        self._total = _Bucket(limits.total, now) if limits.total else None
        self._buckets = (
            {name: _Bucket(limits.each, now) for name in (*self._known, "")} if limits.each else {}
        )

    def admit(self, identity: str) -> float:
        """
        Count a request.

        :return: ``0`` when it may come; else after how many seconds it may be tried again.
            A request that may not come takes nothing from anybody.
        """
        now = self._clock.seconds()
        own = self._buckets.get(identity) or self._buckets.get("")
        asked = [bucket for bucket in (self._total, own) if bucket is not None]
        wait = max((bucket.wait(now) for bucket in asked), default=0.0)
        if not wait:
            for bucket in asked:
                bucket.take()
        return wait

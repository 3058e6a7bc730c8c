# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is good for a limited time, and got anew before that is over: tokens and credentials.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kypello.errors import KypelloError

T = TypeVar("T")

#: The part of its life after which a value is not used any more: a request takes time, too.
_USE = 0.95

#: The part of its life that a value has left when the next one is got, and the longest such time
#: in seconds.
_LEFT, _EARLY = 0.2, 300.0

#: How soon it is tried again to get the next value, in seconds.
_PAUSE = 10.0

_log = Logger()


@frozen
class Lease(Generic[T]):
    """
    A value and how long it is good.

    :ivar value: Secret.
    :ivar seconds: From the moment that it was asked for; infinite for ever.
    """

    value: T = field(repr=False)
    seconds: float = float("inf")


@define(eq=False)
class Renewed(Generic[T]):
    """
    Keeps a value that expires.

    It is got when it is needed first.  While it is good, nobody waits for the next one; all who
    need it at the same time wait for one call.

    :ivar _get: Gets a value.
    :ivar _now: Seconds since the epoch: a machine that was suspended has a value that is older.
    :ivar _until: When the value is not good any more.
    :ivar _next: When another one is to be got.
    """

    _get: Callable[[], Awaitable[Lease[T]]]
    _now: Callable[[], float]
    _lease: Lease[T] | None = field(default=None, repr=False)
    _until: float = 0.0
    _next: float = 0.0
    _running: "Deferred[None] | None" = None
    _waiting: "list[Deferred[None]]" = field(factory=list)

    async def value(self) -> T:
        """
        The value; raises what getting it raises.
        """
        if self._lease is None or self._now() >= self._until:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            self._begin()
            await waiter
        elif self._now() >= self._next:
            self._begin()
        assert self._lease is not None
        return self._lease.value

    def forget(self, value: T) -> None:
        """
        Use a value no more, as the service refuses it.
        """
        if self._lease is not None and self._lease.value is value:
            self._lease = None

    def close(self) -> None:
        """
        Give up what is under way.
        """
        if self._running is not None:
            self._running.cancel()

    def _begin(self) -> None:
        if self._running is None:
            running = self._running = Deferred.fromCoroutine(self._renew())
            running.addBoth(self._end)

    async def _renew(self) -> None:
        began = self._now()
        self._next = began + _PAUSE
        lease = await self._get()
        self._lease = lease
        self._until = began + lease.seconds * _USE
        # The least time keeps a value with hardly any life from being got with every call.
        self._next = began + max(1.0, lease.seconds - min(lease.seconds * _LEFT, _EARLY))

    def _end(self, result: "Failure | None") -> None:
        self._running = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(result)
        if isinstance(result, Failure) and not waiting and not result.check(CancelledError):
            if result.check(KypelloError):
                _log.warn("credentials cannot be renewed: {error}", error=result.value)
            else:
                _log.failure("credentials cannot be renewed", result)

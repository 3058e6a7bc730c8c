# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One call in flight, many who wait for it.
"""

from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@define(eq=False)
class SharedCalls(Generic[K, V]):
    """
    Lets callers who want the same thing at the same time share one call for it.

    Nothing is kept after the call has ended.  A caller who is cancelled leaves the others
    alone; with the last one the call is cancelled too.
    """

    _running: dict[K, "_Call[V]"] = field(factory=dict)

    def run(self, key: K, call: Callable[[], Coroutine[Deferred[Any], Any, V]]) -> Awaitable[V]:
        """
        Wait for the call that runs for *key*, or make it.

        :param call: Made when no call for *key* is in flight.  What it raises, all get.
        """
        running = self._running.get(key)
        if running is not None:
            return running.join()
        running = _Call(lambda: self._running.pop(key, None))
        self._running[key] = running
        waiter = running.join()
        running.begin(call)
        return waiter


@define(eq=False)
class _Call(Generic[V]):
    """
    A call in flight.

    :ivar _forget: Called once, when nobody may join any more.
    """

    _forget: Callable[[], object]
    _waiting: list[Deferred[V]] = field(factory=list)
    _work: Deferred[V] | None = None

    def begin(self, call: Callable[[], Coroutine[Deferred[Any], Any, V]]) -> None:
        """
        Start; :meth:`join` was called before.
        """
        self._work = Deferred.fromCoroutine(call())
        self._work.addBoth(self._ended)

    def join(self) -> Deferred[V]:
        """
        Wait for the end.
        """
        waiter: Deferred[V] = Deferred(self._left)
        self._waiting.append(waiter)
        return waiter

    def _left(self, waiter: Deferred[V]) -> None:
        self._waiting.remove(waiter)
        if not self._waiting and self._work is not None:
            self._forget()
            self._work.cancel()

    def _ended(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._forget()
        for waiter in waiting:
            # A failure goes to the errbacks, as with any result of a Deferred.
            waiter.callback(result)

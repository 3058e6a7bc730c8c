# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Ordered lanes over two bounded pools of threads.

Everything that blocks, and everything that computes for long without the interpreter's lock,
runs here.  A thread takes one call of one lane at a time, so that a busy lane cannot keep a
thread from the others.  Bulk work has threads of its own, which give way to all others.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, get_native_id
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import StorageFailed
from kypello.interfaces import ILane, ILanes

#: By how much threads for bulk work are nicer than others (nice(2)): three of these get as much of
#: a core as one of those, where all want it.
_NICER = 5


@define(eq=False)
class _Pool:
    """
    Threads that take calls of lanes.

    :ivar _tell: Called in them with the outcome of each call.
    :ivar _name: What they are called.
    :ivar _nicer: By how much they give way to other threads.
    :ivar ready: Lanes that have a call to run; ``None`` ends a thread.
    """

    _tell: "Callable[[Deferred[Any], object], None]"
    _name: str
    _nicer: int = 0
    ready: "SimpleQueue[_Lane | None]" = field(init=False, factory=SimpleQueue)
    _running: list[Thread] = field(init=False, factory=list)

    def start(self, threads: int) -> None:
        """
        Start so many threads.
        """
        for number in range(threads):
            thread = Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            thread.start()
            self._running.append(thread)

    def stop(self) -> None:
        """
        End the threads, which have nothing left to do but to return.
        """
        for _ in self._running:
            self.ready.put(None)
        while self._running:
            self._running.pop().join()

    def _work(self) -> None:
        if self._nicer:
            _give_way(self._nicer)
        while (lane := self.ready.get()) is not None:
            while self._run_first(lane):
                # A lane stays with its thread as long as no other waits: to wake another
                # thread costs more than many a call.
                if not self.ready.empty():
                    self.ready.put(lane)
                    break
            # An idle thread keeps nothing of its last call alive.
            del lane

    def _run_first(self, lane: "_Lane") -> bool:
        """
        Run the first call of a lane; whether there are more.
        """
        outcome, call, arguments = lane.next()
        result: object
        try:
            result = call(*arguments)
        except BaseException:  # whatever it is, it belongs to who asked, not to the thread
            result = Failure()
        more = lane.done()
        self._tell(outcome, result)
        return more


@implementer(ILanes)
@define(eq=False)
class Lanes:
    """
    The pools that lanes share.

    All methods belong to the reactor thread.

    :ivar _threads: How many threads there are in each.
    :ivar _open: Whether calls are taken: from :meth:`start` to :meth:`stop`.
    :ivar _outcomes: What was not delivered yet.
    :ivar _telling: The reactor was asked to deliver and has not begun to.
    :ivar _pending: Calls that were taken and whose outcome was not delivered yet.
    :ivar _idle: Fires when the last one is delivered, after :meth:`stop`.
    """

    _reactor: IReactorFromThreads
    _threads: int
    _ordinary: _Pool = field(init=False)
    _bulk: _Pool = field(init=False)
    _open: bool = field(init=False, default=False)
    _outcomes: "deque[tuple[Deferred[Any], object]]" = field(init=False, factory=deque)
    _telling: bool = field(init=False, default=False)
    _pending: int = field(init=False, default=0)
    _idle: "Deferred[None] | None" = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """
        No thread runs yet.
        """
        self._ordinary = _Pool(self._tell, "kypello-lane")
        self._bulk = _Pool(self._tell, "kypello-bulk", _NICER)

    def start(self) -> None:
        """
        Start the threads.
        """
        self._open = True
        self._ordinary.start(self._threads)
        self._bulk.start(self._threads)

    async def stop(self) -> None:
        """
        Refuse further calls, wait for those that were taken, and end the threads.
        """
        self._open = False
        if self._pending:
            self._idle = Deferred()
            await self._idle
        self._ordinary.stop()
        self._bulk.stop()

    def lane(self, *, bulk: bool = False) -> ILane:
        """
        A new lane.
        """
        return _Lane(self, self._bulk if bulk else self._ordinary)

    def _take(self) -> bool:
        self._pending += self._open
        return self._open

    def _tell(self, outcome: "Deferred[Any]", result: object) -> None:
        """
        Called in a thread: have an outcome delivered, with others if some are on their way.
        """
        self._outcomes.append((outcome, result))
        if not self._telling:
            self._telling = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        # Before anything is taken: what comes from here on is told anew.
        self._telling = False
        for _ in range(len(self._outcomes)):
            outcome, result = self._outcomes.popleft()
            self._pending -= 1
            # What was cancelled is called back all the same, and drops it.
            outcome.callback(result)
        if not self._pending and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)


@implementer(ILane)
@define(eq=False)
class _Lane:
    """
    One queue of calls.  While there are any, it is ready in its pool once, or a thread has it;
    the lock keeps it so.
    """

    _lanes: Lanes
    _pool: _Pool
    _calls: "deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]]" = field(
        init=False, factory=deque
    )
    _lock: Lock = field(init=False, factory=Lock)

    def run(self, call: Callable[..., Any], *arguments: Any) -> Coroutine[Any, Any, Any]:
        """
        Queue *call* now; what is returned waits for its outcome.

        A call that was queued runs even if its outcome is not awaited or its waiter cancelled.

        :raises StorageFailed: When awaited: the lanes are not running.
        """
        outcome: Deferred[Any] = Deferred()
        if not self._lanes._take():
            outcome.errback(StorageFailed("the lanes are not running"))
            return _outcome(outcome)
        with self._lock:
            self._calls.append((outcome, call, arguments))
            first = len(self._calls) == 1
        if first:
            self._pool.ready.put(self)
        return _outcome(outcome)

    def next(self) -> "tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]":
        """
        The first call, which stays in the queue while it runs.
        """
        return self._calls[0]

    def done(self) -> bool:
        """
        The first call has run; whether there are more, which the thread has to see to.
        """
        with self._lock:
            self._calls.popleft()
            return bool(self._calls)


async def _outcome(outcome: "Deferred[Any]") -> Any:
    return await outcome


def _give_way(nicer: int) -> None:
    """
    Let other threads go first, those of this process, too.

    Elsewhere than on Linux all threads of a process are equally nice.
    """
    if sys.platform == "linux":
        own = get_native_id()
        # A system that does not let us is served all the same.
        with suppress(OSError):
            nice = min(os.getpriority(os.PRIO_PROCESS, own) + nicer, 19)
            os.setpriority(os.PRIO_PROCESS, own, nice)

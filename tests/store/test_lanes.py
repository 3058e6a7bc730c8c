# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.lanes``.
"""

import os
from threading import Event, current_thread, get_native_id, main_thread

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface.verify import verifyObject

from kypello.errors import StorageFailed
from kypello.interfaces import ILane, ILanes
from kypello.store.lanes import Lanes
from tests.cases import AsyncCase


class LanesTests(AsyncCase):
    """
    The pool and its lanes.
    """

    def setUp(self) -> None:
        """
        Start two threads.
        """
        self.lanes = Lanes(IReactorFromThreads(reactor), 2)
        self.lanes.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.lanes.stop()))

    async def test_interfaces(self) -> None:
        """
        The pool provides ``ILanes`` and its lanes ``ILane``.
        """
        self.assertTrue(verifyObject(ILanes, self.lanes))
        self.assertTrue(verifyObject(ILane, self.lanes.lane()))

    async def test_result(self) -> None:
        """
        A call runs in another thread with its arguments and its result comes back.
        """
        thread, arguments = await self.lanes.lane().run(
            lambda *arguments: (current_thread(), arguments), 1, 2
        )
        self.assertIsNot(thread, main_thread())
        self.assertEqual(arguments, (1, 2))

    async def test_order(self) -> None:
        """
        The calls of a lane run in the order they were made, each after the end of the last.
        """
        lane = self.lanes.lane()
        ran: list[int] = []
        waiting = [lane.run(ran.append, number) for number in range(200)]
        for outcome in reversed(waiting):
            await outcome
        self.assertEqual(ran, list(range(200)))

    async def test_beside(self) -> None:
        """
        A lane that is stuck does not stop another one.
        """
        event = Event()
        stuck = self.lanes.lane().run(event.wait, 30)
        await self.lanes.lane().run(event.set)
        self.assertTrue(await stuck)

    async def test_bulk(self) -> None:
        """
        Bulk work has threads of its own, and the system lets all others go first.
        """

        def nice() -> int:
            return os.getpriority(os.PRIO_PROCESS, get_native_id())

        event = Event()
        stuck = [self.lanes.lane(bulk=True).run(event.wait, 30) for _ in range(2)]
        ordinary = await self.lanes.lane().run(nice)
        await self.lanes.lane().run(event.set)
        for waiting in stuck:
            self.assertTrue(await waiting)
        self.assertEqual(ordinary, nice())
        self.assertEqual(await self.lanes.lane(bulk=True).run(nice), min(nice() + 5, 19))

    async def test_turns(self) -> None:
        """
        More lanes than threads all get their turn, and each keeps its order.
        """
        ran: dict[int, list[int]] = {number: [] for number in range(16)}
        lanes = {number: self.lanes.lane() for number in ran}
        await gatherResults(
            [
                Deferred.fromCoroutine(lanes[number].run(ran[number].append, turn))
                for turn in range(20)
                for number in ran
            ]
        )
        self.assertEqual(ran, {number: list(range(20)) for number in range(16)})

    async def test_failure(self) -> None:
        """
        Whatever a call raises reaches who awaits it, and lane and threads live on.
        """
        lane = self.lanes.lane()

        def fail(error: BaseException) -> None:
            raise error

        for error in (ValueError(), SystemExit(), KeyboardInterrupt()) * 2:
            with self.assertRaises(type(error)):
                await lane.run(fail, error)
        self.assertEqual(await lane.run(lambda: "alive"), "alive")

    async def test_cancel(self) -> None:
        """
        Cancelling drops the result only: the call, and those behind it, run.
        """
        lane = self.lanes.lane()
        event, ran = Event(), []
        first = Deferred.fromCoroutine(lane.run(event.wait, 30))
        second = Deferred.fromCoroutine(lane.run(ran.append, 2))
        for waiting in (first, second):
            waiting.cancel()
            with self.assertRaises(CancelledError):
                await waiting
        event.set()
        await lane.run(ran.append, 3)
        self.assertEqual(ran, [2, 3])

    async def test_stop(self) -> None:
        """
        Stopping waits for the calls that were taken, and takes no more.
        """
        lane = self.lanes.lane()
        ran: list[int] = []
        waiting = [lane.run(ran.append, number) for number in range(20)]
        await self.lanes.stop()
        self.assertEqual(ran, list(range(20)))
        for outcome in waiting:
            await outcome
        with self.assertRaises(StorageFailed):
            await lane.run(ran.append, 20)

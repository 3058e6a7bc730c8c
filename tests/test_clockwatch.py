# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.clockwatch``.
"""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock

from kypello.clockwatch import Clocks, ClockWatch, postpone
from tests.cases import AsyncCase, SyncCase


class ClocksTests(SyncCase):
    """
    How a clock that was set is told from one that goes on.
    """

    def test_step(self) -> None:
        """
        It is told once, in both directions; that time passes, or drifts, is none.
        """
        day, steady = Clock(), Clock()
        clocks = Clocks(day.seconds, steady.seconds)
        for step in (0.0, 3600.0, 0.0, -100.0, 0.0):
            day.rightNow += 5.0 + step
            steady.advance(5)
            self.assertEqual(clocks.step(), step)

    def test_drift(self) -> None:
        """
        A drift is told when it has become large.
        """
        day, steady = Clock(), Clock()
        clocks = Clocks(day.seconds, steady.seconds)
        for _ in range(3):
            day.rightNow += 0.4
            step = clocks.step()
        self.assertAlmostEqual(step, 1.2)
        self.assertEqual(clocks.step(), 0)


class PostponeTests(SyncCase):
    """
    What waits when the clock is set.
    """

    def test_all(self) -> None:
        """
        It is done after as long as before, set back or forward, and what is not wanted any more
        is not done.
        """
        for step in (-3600.0, 3600.0):
            clock = Clock()
            clock.rightNow = 10_000.0
            done: list[str] = []
            for delay, name in ((10.0, "late"), (2.0, "soon"), (5.0, "never")):
                call = clock.callLater(delay, done.append, name)
                if name == "never":
                    call.cancel()
            clock.rightNow += step
            postpone(clock, step)
            told: list[list[str]] = []
            for seconds in (1.9, 0.2, 7.8, 0.2):
                clock.advance(seconds)
                told.append(list(done))
            self.assertEqual(told, [[], ["soon"], ["soon"], ["soon", "late"]])


class WatchTests(AsyncCase):
    """
    The thread that looks.
    """

    async def test_told(self) -> None:
        """
        The reactor is told from the thread, which ends with the service.
        """
        day, told = Clock(), Deferred[float]()

        class Told(Clock):
            """
            A reactor that somebody else's thread tells something.
            """

            def callFromThread(self, call: object, _reactor: object, step: float) -> None:
                """
                Called by the thread.
                """
                IReactorFromThreads(reactor).callFromThread(told.callback, step)

        watch = ClockWatch(Told(), Clocks(day.seconds, Clock().seconds), 0.01)
        watch.startService()
        day.rightNow -= 60.0
        self.assertEqual(await told, -60.0)
        watch.stopService()
        watch.stopService()

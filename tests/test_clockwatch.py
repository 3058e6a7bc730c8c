# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.clockwatch``.
"""

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock, LoopingCall

from kypello.clockwatch import heed_clock
from tests.cases import SyncCase


class SteadyWaitingTests(SyncCase):
    """
    A real reactor, on a machine whose clock is set.
    """

    def setUp(self) -> None:
        """
        Start with a time of day, and one that nobody sets.
        """
        self.day, self.steady = Clock(), Clock()
        self.day.advance(1_000_000)
        self.reactor: Any = EPollReactor()
        self.addCleanup(self.reactor.removeAll)
        self.addCleanup(self.reactor._poller.close)
        heed_clock(self.reactor, self.day.seconds, self.steady.seconds)
        self.done: list[str] = []

    def later(self, seconds: float, name: str) -> Any:
        """
        Have something done later.
        """
        return self.reactor.callLater(seconds, self.done.append, name)

    def pass_time(self, seconds: float) -> list[str]:
        """
        Let time pass, and the reactor do what it has to.

        :return: What has been done so far.
        """
        self.day.advance(seconds)
        self.steady.advance(seconds)
        self.reactor.runUntilCurrent()
        return list(self.done)

    def set_clock(self, step: float) -> None:
        """
        Set the time of day.
        """
        self.day.rightNow += step

    def test_set(self) -> None:
        """
        What waits is done after as long as before, set back or forward, and what is not wanted any
        more is not done.
        """
        for step in (-3600.0, 3600.0):
            self.done = []
            self.later(10, "late")
            self.later(2, "soon")
            never = self.later(5, "never")
            self.pass_time(0)
            never.cancel()
            self.set_clock(step)
            told = [self.pass_time(seconds) for seconds in (1.9, 0.2, 7.8, 0.2)]
            self.assertEqual(told, [[], ["soon"], ["soon"], ["soon", "late"]])

    def test_asked_afterwards(self) -> None:
        """
        What somebody asks for after the clock was set waits as long as it says, whether the
        reactor has noticed before or not.
        """
        for step in (-3600.0, 3600.0):
            self.done = []
            self.pass_time(0)
            self.set_clock(step)
            self.later(2, "first")
            self.later(3, "second")
            told = [self.pass_time(seconds) for seconds in (1.9, 0.2, 1.0)]
            self.assertEqual(told, [[], ["first"], ["first", "second"]])

    def test_again_and_again(self) -> None:
        """
        What is done each second goes on so.
        """
        loop = LoopingCall(self.done.append, "tick")
        loop.clock = self.reactor
        loop.start(1, now=False)
        for step in (-3600.0, 7200.0, 0.0):
            self.set_clock(step)
            before = len(self.done)
            for _ in range(5):
                self.pass_time(1)
            self.assertIn(len(self.done) - before, (4, 5, 6))
        loop.stop()

    def test_drift(self) -> None:
        """
        The time of day is told as it is; a drift moves what waits when it has become large.
        """
        self.later(10, "late")
        for _ in range(6):
            self.set_clock(0.4)
            self.pass_time(1)
            self.assertEqual(self.reactor.seconds(), self.day.seconds())
        self.assertEqual(self.pass_time(3.5), [])
        self.assertEqual(self.pass_time(1.5), ["late"])

    def test_stopped(self) -> None:
        """
        How long the reactor may sleep is counted from the new time.
        """
        self.later(10, "late")
        self.pass_time(0)
        self.set_clock(-3600)
        self.assertEqual(self.reactor.timeout(), 10)

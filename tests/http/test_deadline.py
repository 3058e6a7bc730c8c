# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.deadline``.
"""

from twisted.internet.task import Clock

from kypello.http.deadline import Deadline
from tests.cases import SyncCase


class DeadlineTests(SyncCase):
    """
    A deadline comes due at the time set last, once.
    """

    def setUp(self) -> None:
        """
        Count how often it comes due.
        """
        self.clock = Clock()
        self.due: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.due.append(self.clock.seconds()))

    def advance(self, seconds: int) -> None:
        """
        Let time pass second by second.
        """
        self.clock.pump([1.0] * seconds)

    def test_later(self) -> None:
        """
        It can be moved to a later time.
        """
        self.deadline.set(5)
        self.advance(3)
        self.deadline.set(5)
        self.advance(10)
        self.assertEqual(self.due, [8.0])

    def test_earlier(self) -> None:
        """
        It can be moved to an earlier time.
        """
        self.deadline.set(50)
        self.deadline.set(2)
        self.advance(60)
        self.assertEqual(self.due, [2.0])

    def test_cleared(self) -> None:
        """
        Once cleared it does not come due, and can be set again.
        """
        self.deadline.set(5)
        self.deadline.clear()
        self.advance(2)
        self.deadline.set(10)
        self.advance(20)
        self.assertEqual(self.due, [12.0])

    def test_clock_set(self) -> None:
        """
        It comes due as late as before when the clock is set, and all timers are moved with it.
        """
        for step in (-3600.0, 3600.0):
            self.due.clear()
            self.deadline.set(5)
            self.advance(2)
            self.deadline.set(5)
            self.clock.rightNow += step
            for call in self.clock.getDelayedCalls():
                call.delay(step)
            self.advance(4)
            self.assertEqual(self.due, [])
            self.advance(1)
            self.assertEqual(self.due, [self.clock.seconds()])

    def test_stopped(self) -> None:
        """
        Once stopped it leaves no timer behind.
        """
        self.deadline.set(5)
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

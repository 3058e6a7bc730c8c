# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for the slowing down of who guesses.
"""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from kypello.iam.failures import BURST, LONGEST, QUIET, RATE, Failures
from tests.cases import SyncCase


class FailuresTests(SyncCase):
    """
    Repeated failures.
    """

    def setUp(self) -> None:
        """
        Nobody has failed.
        """
        self.clock = Clock()
        self.failures = Failures(self.clock)

    def fail_once(self, source: str) -> "Deferred[None]":
        """
        Fail, and get what fires with the answer.
        """
        return Deferred.fromCoroutine(self.failures.failed(source))

    def test_few(self) -> None:
        """
        Some failures are answered at once; each further one is held back for longer.
        """
        for _ in range(BURST - 1):
            self.assertTrue(self.fail_once("192.0.2.1").called)
        first, second = self.fail_once("192.0.2.1"), self.fail_once("192.0.2.1")
        self.assertFalse(first.called)
        self.clock.advance(1 / RATE)
        self.assertEqual((first.called, second.called), (True, False))
        self.clock.advance(1 / RATE)
        self.assertTrue(second.called)

    def test_bound(self) -> None:
        """
        No answer is held back for ever.
        """
        waiting = [self.fail_once("192.0.2.1") for _ in range(500)]
        self.clock.advance(LONGEST)
        self.assertTrue(all(one.called for one in waiting))

    def test_others(self) -> None:
        """
        Others are not slowed down.
        """
        for _ in range(BURST + 5):
            self.fail_once("192.0.2.1")
        self.assertTrue(self.fail_once("192.0.2.2").called)

    def test_forgiven(self) -> None:
        """
        Failures are forgotten with time.
        """
        for _ in range(BURST + 5):
            self.fail_once("192.0.2.1")
        self.clock.advance((BURST + 5) / RATE)
        self.assertTrue(self.fail_once("192.0.2.1").called)

    def test_told(self) -> None:
        """
        A source that goes on is told of once, and again when it has been quiet in between.
        """
        told: list[LogEvent] = []
        globalLogPublisher.addObserver(told.append)
        self.addCleanup(globalLogPublisher.removeObserver, told.append)
        for expected in (1, 2):
            # It waits for each answer: no more is held back then than the next one.
            for _ in range(BURST + 50):
                answered = self.fail_once("192.0.2.1")
                if not answered.called:
                    self.clock.advance(1 / RATE)
                self.assertTrue(answered.called)
            self.assertEqual([event["source"] for event in told], ["192.0.2.1"] * expected)
            self.clock.advance(QUIET + 1)

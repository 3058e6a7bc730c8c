# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for the slowing down of who guesses.
"""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.iam.failures import FREE, LONGEST, MEMORY, Failures
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

    def delay(self, source: str) -> float:
        """
        Fail once; tell how long the answer is held back.
        """
        waiting = Deferred.fromCoroutine(self.failures.failed(source))
        began = self.clock.seconds()
        while not waiting.called:
            self.clock.advance(0.01)
        self.successResultOf(waiting)
        return self.clock.seconds() - began

    def test_few(self) -> None:
        """
        Some failures cost nothing; after them each costs more, up to a bound.
        """
        self.assertEqual({self.delay("a") for _ in range(FREE)}, {0.0})
        delays = [self.delay("a") for _ in range(12)]
        self.assertGreater(delays[0], 0)
        self.assertGreater(delays[5], 10 * delays[0])
        self.assertLess(max(delays), LONGEST + 0.02)

    def test_others(self) -> None:
        """
        Others are not slowed down.
        """
        for _ in range(FREE + 5):
            self.delay("a")
        self.assertEqual(self.delay("b"), 0.0)

    def test_forgiven(self) -> None:
        """
        Failures are forgotten with time.
        """
        for _ in range(FREE + 5):
            self.delay("a")
        self.clock.advance(3 * MEMORY)
        self.assertEqual(self.delay("a"), 0.0)

    def test_bounded(self) -> None:
        """
        Many sources do not take more and more memory.
        """
        for number in range(10_100):
            Deferred.fromCoroutine(self.failures.failed(f"source {number}"))
        self.assertLessEqual(len(self.failures._sources), 10_000)

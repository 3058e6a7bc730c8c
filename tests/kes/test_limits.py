# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.limits``.
"""

from twisted.internet.task import Clock

from kypello.kes.limits import Limits, RateLimiter
from tests.cases import SyncCase


class RateLimiterTests(SyncCase):
    """
    ``RateLimiter`` lets through what the limits allow, however it comes.
    """

    def make(self, total: float = 0.0, each: float = 0.0) -> RateLimiter:
        """
        A limiter that knows *a* and *b*.
        """
        self.clock = Clock()
        return RateLimiter(Limits(total, each), frozenset({"a", "b"}), self.clock)

    def count(self, limiter: RateLimiter, name: str, tries: int) -> int:
        """
        How many of some requests may come.
        """
        return sum(limiter.admit(name) == 0.0 for _ in range(tries))

    def test_no_limit(self) -> None:
        """
        Without limits anything may come.
        """
        self.assertEqual(self.count(self.make(), "a", 1000), 1000)

    def test_rate(self) -> None:
        """
        Over time as many come as the rate says, and one second's worth before.
        """
        limiter = self.make(each=10.0)
        self.assertEqual(self.count(limiter, "a", 50), 10)
        passed = 0
        for _ in range(100):
            self.clock.advance(0.05)
            passed += self.count(limiter, "a", 3)
        self.assertEqual(passed, 50)
        self.assertEqual(self.count(limiter, "a", 50), 0)

    def test_idle_time_is_not_saved(self) -> None:
        """
        However long nothing came, no more than one second's worth comes at once.
        """
        limiter = self.make(each=10.0)
        self.clock.advance(3600.0)
        self.assertEqual(self.count(limiter, "a", 50), 10)

    def test_wait(self) -> None:
        """
        Who waits as long as told may come, and who comes earlier not.
        """
        limiter = self.make(each=0.5)
        self.assertEqual(limiter.admit("a"), 0.0)
        self.assertAlmostEqual(limiter.admit("a"), 2.0)
        self.clock.advance(1.5)
        self.assertAlmostEqual(limiter.admit("a"), 0.5)
        self.clock.advance(0.5)
        self.assertEqual(limiter.admit("a"), 0.0)

    def test_refusals_cost_nothing(self) -> None:
        """
        What one identity has too many of is not taken from what all have together.
        """
        limiter = self.make(total=10.0, each=2.0)
        self.assertEqual(self.count(limiter, "a", 100), 2)
        self.assertEqual(self.count(limiter, "b", 100), 2)
        self.assertEqual(self.count(limiter, "x", 100), 2)
        self.assertEqual(self.count(limiter, "y", 100), 0)

    def test_bounded(self) -> None:
        """
        However many strangers come, nothing is kept for each.
        """
        limiter = self.make(each=2.0)
        for number in range(1000):
            limiter.admit(f"stranger-{number}")
        self.assertEqual(set(limiter._buckets), {"a", "b", ""})

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.pace``.
"""

import os

from kypello.iam.pace import ROWS, Attempts, Pace, shared_attempts
from tests.cases import SyncCase


class PaceTests(SyncCase):
    """
    Three attempts at once, then one in two seconds, counted by two processes.
    """

    def setUp(self) -> None:
        """
        Nobody has tried.
        """
        descriptor = shared_attempts()
        self.addCleanup(os.close, descriptor)
        self.one, self.two = (Pace(3, 0.5, Attempts(descriptor)) for _ in range(2))

    def test_together(self) -> None:
        """
        What one counts, and takes back, both see; who has tried nothing waits for nothing.
        """
        self.assertEqual(self.one.add("name", 2, 100.0), 0.0)
        self.assertEqual(self.two.add("name", 3, 100.0), 6.0)
        self.assertEqual(self.one.wait("name", 101.0), 5.0)
        self.assertEqual(self.two.wait("other", 101.0), 0.0)
        self.assertEqual(self.one.add("name", -2, 102.0), 0.0)
        self.assertEqual(self.two.wait("name", 102.0), 0.0)

    def test_time(self) -> None:
        """
        Attempts are forgotten with time, and a clock that is set back adds none.
        """
        self.one.add("name", 5, 100.0)
        self.assertEqual(self.two.wait("name", 50.0), 6.0)
        self.assertEqual(self.two.wait("name", 110.0), 0.0)

    def test_kinds(self) -> None:
        """
        A name of one pace is none of another.
        """
        attempts = Attempts()
        one, two = Pace(1, 1, attempts, "one"), Pace(1, 1, attempts, "two")
        one.add("name", 1, 100.0)
        self.assertEqual((one.wait("name", 100.0), two.wait("name", 100.0)), (1.0, 0.0))

    def test_any_name(self) -> None:
        """
        Whatever clients send can be counted.
        """
        for name in ("", "\0", "\ud800", "x" * 10_000):
            self.one.add(name, 4, 100.0)
            self.assertEqual(self.two.wait(name, 100.0), 4.0)

    def test_secret(self) -> None:
        """
        Where names lie cannot be told from outside: it is another place in each server, also in one
        of a single process.
        """
        alone = [Attempts() for _ in range(2)]
        for attempts in alone:
            Pace(1, 1, attempts).add("name", 1, 100.0)
        one, two = (bytes(attempts._memory[:]) for attempts in alone)
        self.assertNotEqual(one, two)
        self.assertNotIn(one[:32], (two[:32], bytes(32)))

    def test_full(self) -> None:
        """
        More names than there is room for drive out those who have not tried for longest.
        """
        self.one.add("early", 9, 100.0)
        for number in range(3 * ROWS):
            self.two.add(f"name{number}", 1, 200.0)
        self.one.add("late", 9, 201.0)
        for number in range(100):
            self.two.add(f"other{number}", 1, 201.0)
        self.assertEqual(self.one.wait("early", 100.0), 0.0)
        self.assertEqual(self.one.wait("late", 201.0), 14.0)

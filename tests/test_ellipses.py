# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.ellipses``.
"""

from hypothesis import given
from hypothesis import strategies as st

from kypello.ellipses import expand
from tests.cases import SyncCase


class ExpandTests(SyncCase):
    """
    ``expand`` gives all that a pattern stands for.
    """

    def test_plain(self) -> None:
        """
        Text without a range stands for itself.
        """
        self.assertEqual(expand("https://kes:7373"), ["https://kes:7373"])

    def test_one(self) -> None:
        """
        A range is replaced by each of its numbers.
        """
        self.assertEqual(expand("h{9...11}x"), ["h9x", "h10x", "h11x"])

    def test_two(self) -> None:
        """
        With two ranges the last one varies slowest.
        """
        self.assertEqual(expand("h{1...2}:{1...2}"), ["h1:1", "h2:1", "h1:2", "h2:2"])

    def test_padding(self) -> None:
        """
        A leading zero pads all numbers to the width of the end.
        """
        self.assertEqual(expand("{09...10}"), ["09", "10"])
        self.assertEqual(expand("{1...02}"), ["01", "02"])
        self.assertEqual(expand("{0...1}"), ["0", "1"])

    def test_refused(self) -> None:
        """
        Ranges that are none, run backwards or explode are refused.
        """
        for pattern in ("h{1..4}", "h{1...4", "{a...d}", "1...4", "{4...1}", "{0...99999999999}"):
            with self.assertRaises(ValueError):
                expand(pattern)
        with self.assertRaises(ValueError):
            expand("{1...100}{1...100}")

    @given(st.integers(0, 300), st.integers(0, 300))
    def test_count(self, first: int, more: int) -> None:
        """
        A range stands for as many texts as it has numbers, all different.
        """
        expanded = expand(f"a{{{first}...{first + more}}}b")
        self.assertEqual(len(set(expanded)), more + 1)

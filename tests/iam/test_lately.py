# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.lately``.
"""

from kypello.iam.lately import ENTRY, Lately
from tests.cases import SyncCase
from tests.iam.case import policy


class LatelyTests(SyncCase):
    """
    What is kept, and what is not.
    """

    def test_kept(self) -> None:
        """
        What was kept is given until it is replaced or forgotten.
        """
        kept: Lately[str] = Lately()
        self.assertIsNone(kept.get("a"))
        self.assertEqual(kept.put("a", "first", ()), "first")
        self.assertEqual(kept.put("a", "second", ()), "second")
        self.assertEqual((kept.get("a"), kept.get("b")), ("second", None))
        kept.clear()
        self.assertIsNone(kept.get("a"))

    def test_many(self) -> None:
        """
        Who was used the longest time ago gives place.
        """
        kept: Lately[int] = Lately(3 * ENTRY)
        for number in range(3):
            kept.put(number, number, ())
        kept.get(0)
        kept.put(3, 3, ())
        self.assertEqual([kept.get(number) for number in range(4)], [0, None, 2, 3])
        for _ in range(10):
            kept.put(3, 3, ())
        self.assertEqual(kept.get(0), 0)

    def test_large(self) -> None:
        """
        Policies count by their texts; one that is too large for all is not kept, and leaves
        room for others again.
        """
        document = policy("s3:GetObject")
        size = ENTRY + len(document.text)
        kept: Lately[str] = Lately(2 * size)
        for name in "abc":
            kept.put(name, name, (document,))
        self.assertEqual([kept.get(name) for name in "abc"], [None, "b", "c"])
        self.assertEqual(kept.put("d", "d", [document] * 9), "d")
        self.assertEqual([kept.get(name) for name in "bcd"], [None, None, None])
        for name in "ab":
            kept.put(name, name, (document,))
        self.assertEqual([kept.get(name) for name in "ab"], ["a", "b"])

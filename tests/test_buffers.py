# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.buffers``.
"""

from kypello.buffers import Recycler
from tests.cases import SyncCase


class RecyclerTests(SyncCase):
    """
    ``Recycler`` gives out only what nobody holds.
    """

    def setUp(self) -> None:
        """
        Keep two buffers.
        """
        self.recycler = Recycler(2)

    def test_again(self) -> None:
        """
        A buffer that was let go is given out again.
        """
        first = id(self.recycler.take(100))
        self.assertEqual(id(self.recycler.take(100)), first)

    def test_held(self) -> None:
        """
        A buffer that somebody holds, if only through a slice of a view, is not.
        """
        held = memoryview(self.recycler.take(100))[10:20]
        held[:] = b"0123456789"
        for _ in range(5):
            other = self.recycler.take(100)
            other[:] = bytes(100)
        self.assertEqual(bytes(held), b"0123456789")

    def test_two_at_once(self) -> None:
        """
        Two that are held at the same time are different.
        """
        buffers = [self.recycler.take(10) for _ in range(5)]
        self.assertEqual(len({id(one) for one in buffers}), 5)

    def test_size(self) -> None:
        """
        A buffer has the size that was asked for.
        """
        for size in (10, 20, 10, 0):
            self.assertEqual(len(self.recycler.take(size)), size)

    def test_keep(self) -> None:
        """
        What is forgotten is not given out again, and lives as long as somebody holds it.
        """
        first, second = self.recycler.take(10), self.recycler.take(10)
        second[:] = b"0123456789"
        self.recycler.keep(1)
        known = id(first)
        del first
        self.assertEqual(id(self.recycler.take(10)), known)
        self.recycler.keep(0)
        self.recycler.take(10)[:] = bytes(10)
        self.assertEqual(bytes(second), b"0123456789")

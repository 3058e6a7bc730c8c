# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.buffers``.
"""

from kypello.buffers import Recycler
from tests.cases import SyncCase

_MIB = 1024 * 1024


class RecyclerTests(SyncCase):
    """
    ``Recycler`` gives out only what nobody holds.
    """

    def setUp(self) -> None:
        """
        Keep two buffers, and have none from other streams.
        """
        self.recycler = Recycler(2)
        self.others = [Recycler().take(_MIB) for _ in range(20)]

    def test_again(self) -> None:
        """
        A buffer that was let go is given out again.
        """
        first = id(self.recycler.take(100).obj)
        self.assertEqual(id(self.recycler.take(100).obj), first)

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
        self.assertEqual(len({id(one.obj) for one in buffers}), 5)

    def test_size(self) -> None:
        """
        A buffer has the size that was asked for.
        """
        for size in (10, 20, 10, 0):
            self.assertEqual(len(self.recycler.take(size)), size)

    def test_large(self) -> None:
        """
        Large buffers of somewhat different sizes are the same one.
        """
        first = id(self.recycler.take(15 * 65568).obj)
        again = self.recycler.take(16 * 65568)
        self.assertEqual((id(again.obj), len(again)), (first, 16 * 65568))

    def test_close(self) -> None:
        """
        What is forgotten is not given out again, and lives as long as somebody holds it.
        """
        held = self.recycler.take(10)
        held[:] = b"0123456789"
        self.recycler.close()
        self.recycler.take(10)[:] = bytes(10)
        self.assertEqual(bytes(held), b"0123456789")

    def test_others(self) -> None:
        """
        A large buffer that nobody holds goes to another stream, and one that is held does not.
        """
        held, free = self.recycler.take(_MIB), self.recycler.take(_MIB)
        held[:] = bytes(_MIB)
        known = id(free.obj)
        del free
        self.recycler.close()
        other = Recycler()
        taken = [other.take(_MIB) for _ in range(20)]
        self.assertEqual(id(taken[0].obj), known)
        for one in taken:
            one[:] = b"a" * _MIB
        self.assertEqual(bytes(held), bytes(_MIB))

    def test_bounded(self) -> None:
        """
        No more than some large buffers wait for other streams.
        """
        many = Recycler(40)
        for buffer in [many.take(_MIB) for _ in range(40)]:
            buffer[:1] = b"a"
        del buffer
        many.close()
        other = Recycler(40)
        # A fresh one is zero.
        used = [bytes(buffer[:1]) for buffer in [other.take(_MIB) for _ in range(40)]]
        self.assertEqual(used.count(b"a"), 16)

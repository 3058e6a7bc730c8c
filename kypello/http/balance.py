# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Even shares of the connections for processes that accept from one listening socket.

The kernel wakes whoever waits, so that eight clients may land seven to one.  Here each process
tells the others, in shared memory, how many connections it has; one that has more than another
leaves a newcomer to that for a moment.
"""

import mmap

from attrs import define, field

from kypello.sharedmemory import make_shared_memory

#: Bytes of a number.
_SIZE = 8

#: The count of a process that accepts nothing.
_AWAY = (1 << 64) - 1


def shared_counts(workers: int) -> int:
    """
    Make counts for so many processes, all of them away.

    :return: A file descriptor for them to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("connections", workers * _SIZE, b"\xff" * (workers * _SIZE))


@define(eq=False)
class Balance:
    """
    The counts, as one process sees them.

    :ivar _worker: The number of this process, from 0.
    """

    _worker: int
    _workers: int
    _descriptor: int
    _counts: memoryview = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        Map the counts.
        """
        memory = mmap.mmap(self._descriptor, self._workers * _SIZE)
        self._counts = memoryview(memory).cast("Q")

    def tell(self, connections: int) -> None:
        """
        Tell how many connections this process has.
        """
        self._counts[self._worker] = connections

    def away(self, worker: int) -> None:
        """
        Tell that a process accepts nothing: it has ended, or not begun.
        """
        self._counts[worker] = _AWAY

    def leave(self) -> None:
        """
        Tell that this process accepts nothing any more.
        """
        self.away(self._worker)

    @property
    def turn(self) -> bool:
        """
        Whether no other process has fewer connections, by more than an eighth.
        """
        counts = self._counts.tolist()
        least = min(counts)
        return bool(counts[self._worker] <= least + least // 8)

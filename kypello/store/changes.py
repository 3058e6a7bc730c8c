# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which records change, told to all processes that keep records of one index in memory.

A table in shared memory has a row for each group of keys, and in it one number for each
process, which that process alone writes: how many commits of the group it has under way, and
how many it has ended.  What was read stays true while no number of the row changes and none
tells of a commit under way.  So it costs no call to know that a record in memory is the one in
the index, and who commits need not know who remembers.
"""

import mmap
import sys
from collections.abc import Iterable
from zlib import crc32

from attrs import define, field

from kypello.model import Write
from kypello.sharedmemory import make_shared_memory

#: How many groups there are.  With more of them, fewer keys share the fate of one that changes.
GROUPS = 65536

#: One commit that has ended; the lower half counts those under way.
_ENDED = 1 << 32
_UNDERWAY = _ENDED - 1

#: Bytes of a number.
_SIZE = 8


def shared_table(workers: int, groups: int = GROUPS) -> int:
    """
    Make a table for so many processes, and groups.

    :return: A file descriptor for them to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("changes", groups * workers * _SIZE)


@define(eq=False)
class Changes:
    """
    The table, as one process sees it.

    A process that died leaves its commits under way; its successor ends them.

    :ivar _worker: The number of this process, from 0.
    :ivar _workers: How many processes there are.
    :ivar stamps: The table.  Who remembers many records looks at it without a call for each.
    :ivar _descriptor: Of the table; ``-1`` when this process is the only one.
    """

    _worker: int = 0
    _workers: int = 1
    _descriptor: int = -1
    _groups: int = GROUPS
    stamps: mmap.mmap = field(init=False, repr=False)
    _numbers: memoryview = field(init=False, repr=False)
    _row: int = field(init=False)
    _busy: int = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        Map the table, and end what an earlier process with this number left under way.
        """
        self._row = self._workers * _SIZE
        self.stamps = mmap.mmap(self._descriptor, self._groups * self._row)
        self._numbers = memoryview(self.stamps).cast("Q")
        self._busy = _number(_UNDERWAY.to_bytes(_SIZE, sys.byteorder) * self._workers)
        for group in range(self._groups):
            number = self._numbers[group * self._workers + self._worker]
            if number & _UNDERWAY:
                self._numbers[group * self._workers + self._worker] = _ended(number, 0)

    def group(self, space: str, key: bytes) -> int:
        """
        The group of a key; the same in all processes.
        """
        return crc32(key, crc32(space.encode())) % self._groups

    def stamp(self, group: int) -> bytes:
        """
        What stays the same until a key of the group may have changed.
        """
        return self.stamps[self.place(group)]

    def place(self, group: int) -> slice:
        """
        Where the stamp of a group lies in :attr:`stamps`.
        """
        start = group * self._row
        return slice(start, start + self._row)

    def quiet(self, stamp: bytes) -> bool:
        """
        Whether nobody was changing the group when this was its stamp.
        """
        return not _number(stamp) & self._busy

    def begin(self, space: str, writes: Iterable[Write]) -> dict[int, bytes]:
        """
        Tell that records are about to change.

        :return: For :meth:`end`: the groups, with their stamps before.
        """
        before: dict[int, bytes] = {}
        for write in writes:
            group = self.group(space, write.key)
            if group not in before:
                before[group] = self.stamp(group)
                self._numbers[group * self._workers + self._worker] += 1
        return before

    def end(self, before: dict[int, bytes]) -> dict[int, bytes]:
        """
        Tell that these changes have been made, or will not be.

        :return: The stamps of those groups in which nobody else changed anything meanwhile.
        """
        alone: dict[int, bytes] = {}
        own = slice(self._worker * _SIZE, (self._worker + 1) * _SIZE)
        for group, stamp in before.items():
            place = group * self._workers + self._worker
            number = self._numbers[place]
            self._numbers[place] = _ended(number, (number & _UNDERWAY) - 1)
            if self.quiet(stamp):
                ours = _ended(_number(stamp[own]), 0).to_bytes(_SIZE, sys.byteorder)
                after = b"".join((stamp[: own.start], ours, stamp[own.stop :]))
                if self.stamp(group) == after:
                    alone[group] = after
        return alone


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, sys.byteorder)


def _ended(number: int, underway: int) -> int:
    # The count of ended commits may come round after 2**32 of them, which no stamp outlives.
    return ((number & ~_UNDERWAY) + _ENDED) % (1 << 64) | underway

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How full the buckets with quotas are, in memory that all processes of a server share.

A bucket is counted once, by listing it; from then on, whoever writes to it or removes something
tells so here.  Room is held before anything is written, and all of this is done under one lock,
so that processes together never hold more than there is.

What is told here is never less than what is stored: of what happens while a bucket is counted,
all that was written is added to the count, and nothing that was removed is taken from it.
"""

import mmap
from hashlib import sha256

from attrs import define, field, frozen

from kypello.sharedmemory import locked, make_shared_memory

#: How many buckets with quotas can be known at once; those that others take the place of are
#: counted anew.
ROWS = 4096

#: How many places a bucket may have.
_REACH = 16

#: Bytes of a number.
_SIZE = 8

#: The numbers of a row, before how many bytes each process holds: which bucket it is; how often it
#: was counted; when it was counted last, and how long that took (in milliseconds); bytes that were
#: counted, that were ever written, and that had been written before it was counted; bytes that
#: were removed since; and how often something was removed of which nobody knows how large it was.
_ID, _COUNTED, _WHEN, _TOOK, _BASE, _WRITTEN, _BEFORE, _REMOVED, _UNSURE, _HELD = range(10)


def shared_ledger(workers: int) -> int:
    """
    Make a ledger for so many processes.

    :return: A file descriptor for them to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("quotas", ROWS * (_HELD + workers) * _SIZE)


@frozen
class Mark:
    """
    An instant, from which what happens to a bucket counts.

    :ivar row: Where its numbers begin.
    :ivar bucket: Which it is, as long as no other one has taken its place.
    :ivar known: Whether it was counted.
    :ivar counted: How often.
    :ivar written: What had been written then.
    :ivar unsure: How often something of unknown size had been removed.
    """

    row: int
    bucket: int
    known: bool
    counted: int
    written: int
    unsure: int


@define(eq=False)
class Ledger:
    """
    The ledger, as one process sees it.

    :ivar _worker: The number of this process, from 0.
    :ivar _workers: How many processes there are.
    :ivar _descriptor: Of the ledger; ``-1`` when this process is the only one.
    """

    _worker: int = 0
    _workers: int = 1
    _descriptor: int = -1
    _numbers: memoryview = field(init=False, repr=False)
    _width: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Map the ledger.  What an earlier process with this number held may have been written.
        """
        self._width = _HELD + self._workers
        memory = mmap.mmap(self._descriptor, ROWS * self._width * _SIZE)
        self._numbers = memoryview(memory).cast("Q")
        with locked(self._descriptor):
            for row in range(0, ROWS * self._width, self._width):
                held = self._numbers[row + _HELD + self._worker]
                if held:
                    self._numbers[row + _WRITTEN] += held
                    self._numbers[row + _HELD + self._worker] = 0

    def mark(self, bucket: bytes) -> Mark:
        """
        Mark this instant for a bucket.

        :param bucket: Tells it, with its quota, from all others that there ever were.
        """
        with locked(self._descriptor):
            row = self._row(bucket)
            known, counted, when, written, unsure = (
                self._numbers[row + place] for place in (_ID, _COUNTED, _WHEN, _WRITTEN, _UNSURE)
            )
            return Mark(row, known, bool(when), counted, written, unsure)

    def count(self, mark: Mark, total: int, now: float, took: float) -> None:
        """
        Tell what a bucket holds.

        :param mark: Made before anything was counted.
        :param now: When it was counted, in seconds.
        :param took: How long that took, in seconds.
        """
        numbers, row = self._numbers, mark.row
        with locked(self._descriptor):
            if numbers[row + _ID] != mark.bucket:
                return
            numbers[row + _COUNTED] += 1
            numbers[row + _WHEN], numbers[row + _TOOK] = int(now * 1000), int(took * 1000)
            numbers[row + _BASE], numbers[row + _BEFORE] = total, mark.written
            numbers[row + _REMOVED] = 0
            numbers[row + _UNSURE] -= min(mark.unsure, numbers[row + _UNSURE])

    def used(self, mark: Mark) -> int:
        """
        How many bytes a bucket holds at most, with those for which room is held.
        """
        with locked(self._descriptor):
            return self._used(mark.row)

    def doubt(self, mark: Mark, now: float) -> bool:
        """
        Whether it is worth while to count a bucket again.

        :param now: In seconds.
        """
        numbers, row = self._numbers, mark.row
        with locked(self._descriptor):
            # That takes a twentieth of the time at most.
            pause = max(1000, 20 * numbers[row + _TOOK])
            return bool(numbers[row + _UNSURE] and now * 1000 - numbers[row + _WHEN] >= pause)

    def hold(self, mark: Mark, size: int, quota: int) -> bool:
        """
        Hold room for so many bytes, if there is as much.

        :return: Whether it is held; nothing is otherwise.
        """
        with locked(self._descriptor):
            if self._used(mark.row) + size > quota:
                return False
            self._numbers[mark.row + _HELD + self._worker] += size
            return True

    def settle(self, mark: Mark, held: int, written: int = 0, removed: int = 0) -> None:
        """
        Give back room, and tell what was done.

        :param mark: Made before it was done.
        :param held: As much as was held.
        :param written: What is stored of that.
        :param removed: What is stored no more.
        """
        numbers, row = self._numbers, mark.row
        with locked(self._descriptor):
            numbers[row + _WRITTEN] += written
            numbers[row + _HELD + self._worker] -= held
            # What was removed while the bucket was counted may not have been counted.
            if (numbers[row + _ID], numbers[row + _COUNTED]) == (mark.bucket, mark.counted):
                numbers[row + _REMOVED] += removed
            elif removed:
                numbers[row + _UNSURE] += 1

    def doubtful(self, mark: Mark) -> None:
        """
        Tell that something was removed, and nobody knows how much.
        """
        with locked(self._descriptor):
            self._numbers[mark.row + _UNSURE] += 1

    def _used(self, row: int) -> int:
        base, written, before, removed = self._numbers[row + _BASE : row + _REMOVED + 1].tolist()
        held = sum(self._numbers[row + _HELD : row + self._width].tolist())
        return max(0, base + written - before - removed) + held

    def _row(self, bucket: bytes) -> int:
        digest = sha256(bucket).digest()
        known = int.from_bytes(digest[:_SIZE], "big") | 1
        first = int.from_bytes(digest[_SIZE : 2 * _SIZE], "big")
        rows = [(first + step) % ROWS * self._width for step in range(_REACH)]
        numbers = self._numbers
        for row in rows:
            if numbers[row + _ID] == known:
                return row
        # A free one, or the one that was counted first, in which nobody is writing.
        idle = [row for row in rows if not any(numbers[row + _HELD : row + self._width].tolist())]
        row = min(idle or rows, key=lambda row: numbers[row + _WHEN])
        numbers[row + _ID] = known
        for place in (_WHEN, _TOOK, _BASE, _REMOVED, _UNSURE):
            numbers[row + place] = 0
        return row

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Numbers that all processes of a server count of single buckets, in memory that they share.

There is room for some hundred buckets.  Which bucket has which place is decided under a lock by
who counts it first; whoever is asked for the numbers frees the places of buckets that are gone.
"""

import mmap
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence

from attrs import define, field

from kypello.monitor.tally import (
    BOUNDS,
    CANCELED,
    CLIENT_ERRORS,
    DURATIONS,
    INFLIGHT,
    SERVER_ERRORS,
    TOTAL,
    WIDTH,
    Layout,
)
from kypello.sharedmemory import locked, make_shared_memory

#: How many buckets are counted.
PLACES = 512

#: Numbers of a bucket, and bytes of a number.
_ROOM, _SIZE = 2048, 8

#: The longest name of a bucket, with the byte that tells how long it is.
_NAME = 64

#: The numbers of a bucket before those of each kind of request: what the others mean, the bytes of
#: the bodies of requests, and of answers.
_MEANING, RECEIVED, SENT, _FIRST = range(4)


def shared_bucket_tally(workers: int) -> int:
    """
    Make a table for so many processes.  What nobody has written in takes no memory.

    :return: A file descriptor for them to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("buckets", _bytes(workers))


def _bytes(workers: int) -> int:
    return PLACES * (_NAME + workers * _ROOM * _SIZE)


@define(eq=False)
class BucketTally:
    """
    The table, as one process sees it.

    :ivar layout: Which kinds of requests there are.
    :ivar _descriptor: Of the table; ``-1`` when this process is the only one.
    :ivar _known: Of buckets, where their numbers begin, and the place of the name, and the name as
        the table has it: where another one is by now, that tells.
    """

    layout: Layout
    _worker: int = 0
    _workers: int = 1
    _descriptor: int = -1
    _memory: mmap.mmap = field(init=False, repr=False)
    _numbers: memoryview = field(init=False, repr=False)
    _blocks: Mapping[str, int] = field(init=False, repr=False)
    _known: dict[str, tuple[int, slice, bytes]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """
        Map the table.  Nothing is under way here.
        """
        operations = self.layout.operations
        self._blocks = {name: _FIRST + WIDTH * place for place, name in enumerate(operations)}
        if _FIRST + WIDTH * len(operations) > _ROOM:
            raise ValueError("more is counted than there is room for")
        self._memory = mmap.mmap(self._descriptor, _bytes(self._workers))
        self._numbers = memoryview(self._memory)[PLACES * _NAME :].cast("Q")
        for place, name in enumerate(self._names()):
            start = self._start(place, self._worker)
            if name and self._numbers[start + _MEANING] == self.layout.meaning:
                for block in self._blocks.values():
                    self._numbers[start + block + INFLIGHT] = 0

    def begun(self, bucket: str, operation: str) -> bool:
        """
        Count a request that is under way.

        :return: Whether there is room for its bucket.
        """
        block = self._block(bucket, operation)
        if block is None:
            return False
        self._numbers[block + INFLIGHT] += 1
        return True

    def ended(
        self,
        bucket: str,
        operation: str,
        status: int,
        received: int,
        sent: int,
        lasted: float | None,
    ) -> None:
        """
        Count a request that is over.

        :param status: Of the answer; 0 when the client went away before.
        :param received: Bytes of the body of the request.
        :param sent: Bytes of the body of the answer.
        :param lasted: How long it took until the answer began, in seconds; ``None`` when it did
            not.
        """
        block = self._block(bucket, operation)
        if block is None:
            return
        numbers, start = self._numbers, block - self._blocks[operation]
        numbers[start + RECEIVED] += received
        numbers[start + SENT] += sent
        # It may have begun before the bucket got this place.
        numbers[block + INFLIGHT] -= min(1, numbers[block + INFLIGHT])
        numbers[block + TOTAL] += 1
        if not status:
            numbers[block + CANCELED] += 1
        elif status >= 500:
            numbers[block + SERVER_ERRORS] += 1
        elif status >= 400:
            numbers[block + CLIENT_ERRORS] += 1
        if lasted is not None:
            numbers[block + DURATIONS + bisect_left(BOUNDS, lasted)] += 1

    def sums(self, buckets: Collection[str]) -> dict[str, Sequence[int]]:
        """
        The numbers of all processes together, by bucket; in the order of :attr:`blocks`.

        :param buckets: Those that there are: what was counted of others is forgotten.
        """
        told: dict[str, Sequence[int]] = {}
        for place, name in enumerate(self._names()):
            if name and name in buckets:
                told[name] = [sum(column) for column in zip(*self._rows(place), strict=True)]
            elif name:
                self._forget(place, name)
        return told

    @property
    def blocks(self) -> Mapping[str, int]:
        """
        Where the numbers of each kind of request begin among those of a bucket.
        """
        return self._blocks

    def _block(self, bucket: str, operation: str) -> int | None:
        offset = self._blocks.get(operation)
        start = None if offset is None else self._own(bucket)
        if start is None or offset is None:
            return None
        if self._numbers[start + _MEANING] != self.layout.meaning:
            self._clear(start)
            self._numbers[start + _MEANING] = self.layout.meaning
        return start + offset

    def _own(self, bucket: str) -> int | None:
        """
        Where the numbers of this process begin of a bucket, which may get a place now; ``None``
        when there is no room.
        """
        known = self._known.get(bucket)
        if known is not None:
            start, place, told = known
            if self._memory[place] == told:
                return start
        told = _told(bucket)
        with locked(self._descriptor):
            names = self._names()
            wanted = bucket if bucket in names else ""
            if wanted not in names:
                return None
            number = names.index(wanted)
            place = slice(number * _NAME, (number + 1) * _NAME)
            if not wanted:
                self._memory[place] = told
        start = self._start(number, self._worker)
        self._known[bucket] = start, place, told
        return start

    def _forget(self, place: int, name: str) -> None:
        with locked(self._descriptor):
            if self._name(place) == name:
                for worker in range(self._workers):
                    self._clear(self._start(place, worker))
                self._memory[place * _NAME : (place + 1) * _NAME] = bytes(_NAME)
        self._known.pop(name, None)

    def _clear(self, start: int) -> None:
        self._numbers[start : start + _ROOM] = memoryview(bytes(_ROOM * _SIZE)).cast("Q")

    def _rows(self, place: int) -> Iterator[list[int]]:
        for worker in range(self._workers):
            start = self._start(place, worker)
            row = self._numbers[start : start + _ROOM].tolist()
            yield row if row[_MEANING] == self.layout.meaning else [0] * _ROOM

    def _start(self, place: int, worker: int) -> int:
        return (worker * PLACES + place) * _ROOM

    def _name(self, place: int) -> str:
        start = place * _NAME
        return self._memory[start + 1 : start + 1 + self._memory[start]].decode("ascii")

    def _names(self) -> list[str]:
        return [self._name(place) for place in range(PLACES)]


def _told(bucket: str) -> bytes:
    """
    The name of a bucket, as the table has it.
    """
    name = bucket.encode("ascii")
    return (bytes([len(name)]) + name).ljust(_NAME, b"\0")

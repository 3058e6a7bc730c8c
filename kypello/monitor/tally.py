# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Numbers that all processes of a server count, each in a row of its own of a table in shared memory.

Whoever is asked adds up the rows.  A row outlives its process, so that a worker that is started
again goes on from where its predecessor was, and no counter ever goes back.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from hashlib import sha256

from attrs import define, field, frozen

from kypello.sharedmemory import make_shared_memory

#: Numbers of a row.
ROW = 8192

#: Bytes of a number.
_SIZE = 8

#: Upper bounds of how long something takes, in seconds; what takes longer counts beyond the last.
BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: What is counted of each kind of request, before how long it took to begin to answer.
TOTAL, CLIENT_ERRORS, SERVER_ERRORS, CANCELED, INFLIGHT, DURATIONS = range(6)

#: Numbers for a kind of request, and for durations.
_LASTS = len(BOUNDS) + 1
WIDTH = DURATIONS + _LASTS

#: The places before all others: what the places of the row mean, and whose row it is.
_MEANING, _PROCESS, _FIRST = 0, 1, 2

#: Why signatures and tokens are refused: as S3 calls it, and all other reasons.
REASONS = (
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)
OTHER = "other"

#: Calls of the KMS, and how they end.
CALLS = ("create", "decrypt", "generate")
OUTCOMES = ("success", "error", "failure")

_SINGLE = (
    "received",
    "sent",
    "others",
    "invalid",
    "key_hits",
    "uncounted",
    "kms_nanoseconds",
    *(f"refused {reason}" for reason in (*REASONS, OTHER)),
    *(f"kms {call} {outcome}" for call in CALLS for outcome in OUTCOMES),
)


@frozen
class Layout:
    """
    Which number lies where in a row.

    :ivar operations: The kinds of requests of S3, by their names.
    :ivar further: The names of further numbers that stand alone.
    """

    operations: tuple[str, ...]
    further: tuple[str, ...] = ()
    _blocks: dict[str, int] = field(init=False, repr=False)
    _singles: dict[str, int] = field(init=False, repr=False)

    @_blocks.default
    def _find_blocks(self) -> dict[str, int]:
        first = self.kms_durations + _LASTS
        return {name: first + WIDTH * place for place, name in enumerate(self.operations)}

    @_singles.default
    def _find_singles(self) -> dict[str, int]:
        return {name: _FIRST + place for place, name in enumerate(_SINGLE + self.further)}

    def __attrs_post_init__(self) -> None:
        """
        See that all of it fits into a row.
        """
        if self.kms_durations + _LASTS + WIDTH * len(self.operations) > ROW:
            raise ValueError("more is counted than there is room for")

    @property
    def kms_durations(self) -> int:
        """
        Where the durations of calls of the KMS begin.
        """
        return _FIRST + len(_SINGLE) + len(self.further)

    @property
    def meaning(self) -> int:
        """
        What is the same for the same layout only, and never zero.
        """
        told = repr((self.operations, self.further, _SINGLE, BOUNDS)).encode()
        return int.from_bytes(sha256(told).digest()[:_SIZE], "big") | 1

    @property
    def blocks(self) -> Mapping[str, int]:
        """
        Where the numbers of each kind of request begin.
        """
        return self._blocks

    def single(self, name: str) -> int:
        """
        Where a number lies that stands alone.
        """
        return self._singles[name]


def shared_tally(workers: int) -> int:
    """
    Make a table for so many processes.

    :return: A file descriptor for them to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("tally", workers * ROW * _SIZE)


@define(eq=False)
class Tally:
    """
    The table, as one process sees it.

    A number is written at once, by its process alone.  A row that other code has written, whose
    places mean something else, counts for nothing, and begins anew when it is taken over.

    :ivar layout: Where what lies.
    :ivar row: The numbers of this process.
    :ivar _descriptor: Of the table; ``-1`` when this process is the only one.
    """

    layout: Layout
    _worker: int = 0
    _workers: int = 1
    _descriptor: int = -1
    row: memoryview = field(init=False, repr=False)
    _numbers: memoryview = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        Map the table, and take over the row: nothing is under way here.
        """
        memory = mmap.mmap(self._descriptor, self._workers * ROW * _SIZE)
        self._numbers = memoryview(memory).cast("Q")
        self.row = self._numbers[self._worker * ROW : (self._worker + 1) * ROW]
        if self.row[_MEANING] != self.layout.meaning:
            for place in range(ROW):
                self.row[place] = 0
            self.row[_MEANING] = self.layout.meaning
        self.row[_PROCESS] = os.getpid()
        for block in self.layout.blocks.values():
            self.row[block + INFLIGHT] = 0

    def add(self, name: str, amount: int = 1) -> None:
        """
        Count at a number that stands alone.
        """
        self.row[self.layout.single(name)] += amount

    def last(self, first: int, seconds: float) -> None:
        """
        Count how long something took.

        :param first: Where the durations of its kind begin.
        """
        self.row[first + bisect_left(BOUNDS, seconds)] += 1

    @property
    def processes(self) -> list[int]:
        """
        The process ids of those who count; some may have ended.
        """
        return [row[_PROCESS] for row in self._rows()]

    def total(self, name: str) -> int:
        """
        What all processes have counted at a number that stands alone.
        """
        place = self.layout.single(name)
        return sum(row[place] for row in self._rows())

    def sums(self) -> Sequence[int]:
        """
        All numbers, of all processes together; those of a row at the places of the layout.
        """
        return [sum(column) for column in zip(*(row.tolist() for row in self._rows()), strict=True)]

    def _rows(self) -> list[memoryview]:
        rows = [self._numbers[number * ROW : (number + 1) * ROW] for number in range(self._workers)]
        return [row for row in rows if row[_MEANING] == self.layout.meaning]


def durations(sums: Sequence[int], first: int) -> list[tuple[str, int]]:
    """
    How many were no longer than each bound.

    :param first: Where the durations of their kind begin.
    :return: Bounds as Prometheus writes them, and counts.
    """
    told, count = [], 0
    for place, bound in enumerate((*BOUNDS, float("inf"))):
        count += sums[first + place]
        told.append(("+Inf" if bound == float("inf") else f"{bound:g}", count))
    return told

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.scanner.scan``.
"""

import os
from collections.abc import Coroutine, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import Damaged
from kypello.model import BucketInfo, ListedVersion, ObjectMetadata
from kypello.scanner.scan import FIRST, PAGE, BucketVisit, Scan, Scanner, Visitor
from kypello.scannerconfig import Pace
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource
from tests.cases import SyncCase


@define(eq=False)
class _Visit:
    """
    Walks slowly through a bucket, and tells.
    """

    _visitor: "_Visitor"
    _bucket: str

    async def page(self, versions: Sequence[ListedVersion]) -> None:
        """
        Take a second for each page.
        """
        self._visitor.clock.advance(self._visitor.takes)
        self._visitor.seen.append(f"{self._bucket} {len(versions)}")
        if self._bucket == self._visitor.broken:
            raise self._visitor.error

    async def end(self) -> None:
        """
        Tell it.
        """
        self._visitor.seen.append(f"{self._bucket} end")


@define(eq=False)
class _Visitor:
    """
    Comes along.

    :ivar takes: The seconds that each page takes.
    :ivar broken: The bucket whose pages fail with *error*.
    """

    clock: Clock
    takes: float = 1.0
    skipped: str = ""
    broken: str = ""
    error: Exception = field(factory=lambda: Damaged("a record"))
    seen: list[str] = field(factory=list)

    async def enter(self, bucket: BucketInfo) -> BucketVisit | None:
        """
        Begin.
        """
        return None if bucket.name == self.skipped else _Visit(self, bucket.name)

    async def finish(self, buckets: Sequence[BucketInfo]) -> None:
        """
        Tell it.
        """
        self.seen.append("finished " + " ".join(bucket.name for bucket in buckets))


class ScanTests(SyncCase):
    """
    Walks over a store in memory.
    """

    def setUp(self) -> None:
        """
        Two buckets, one with two pages.
        """
        self.clock = Clock()
        self.store = LayoutStore(MemoryIndex(), MemoryBlobs(), self.clock, os.urandom)
        for bucket, count in (("a", PAGE + 1), ("b", 1)):
            self.done(self.store.create_bucket(bucket, {}))
            for number in range(count):
                put = self.store.put(
                    bucket, f"k{number}", BytesSource([b"x"]), lambda _size: ObjectMetadata("e")
                )
                self.done(put)
        self.visitor = _Visitor(self.clock)

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        What a coroutine gives that waits for nothing.
        """
        return self.successResultOf(Deferred.fromCoroutine(work))

    def scanner(self, pace: Pace, *often: Visitor) -> Scanner:
        """
        One that has started.

        :param often: Who comes along in short rounds, too.
        """
        scan = Scan(self.store, [self.visitor, *often], self.clock, pace, often)
        scanner = Scanner(scan, self.clock)
        scanner.startService()
        self.addCleanup(scanner.stopService)
        return scanner

    def test_pages(self) -> None:
        """
        All buckets are walked through page by page, and after each of them it rests for as many
        times as the page took.
        """
        self.scanner(Pace(rest=4, cycle=100))
        self.assertEqual(self.visitor.seen, [])
        self.clock.advance(FIRST)
        self.assertEqual(self.visitor.seen, [f"a {PAGE}"])
        self.clock.advance(3.9)
        self.assertEqual(len(self.visitor.seen), 1)
        self.clock.advance(0.1)
        self.assertEqual(self.visitor.seen[1:], ["a 1", "a end"])
        self.clock.advance(4)
        self.assertEqual(self.visitor.seen[3:], ["b 1", "b end"])
        self.clock.advance(4)
        self.assertEqual(self.visitor.seen[5:], ["finished a b"])

    def test_rounds(self) -> None:
        """
        The next round begins a cycle after the one before began.
        """
        self.visitor.takes = 0
        self.scanner(Pace(rest=0, cycle=100))
        self.clock.pump([FIRST, 0, 0, 0])
        self.assertEqual(self.visitor.seen.count("finished a b"), 1)
        self.clock.advance(99)
        self.assertEqual(self.visitor.seen[-1], "finished a b")
        self.clock.pump([1, 0, 0, 0])
        self.assertEqual(self.visitor.seen.count("finished a b"), 2)

    def test_short_rounds(self) -> None:
        """
        Where a round is short, those who want it come along in others before the cycle is over.
        """
        self.visitor.takes = 0
        other = _Visitor(self.clock, takes=0)
        self.scanner(Pace(0, 100, 40), other)
        self.clock.pump([FIRST, 0, 0, 0])
        self.assertEqual([self.rounds(self.visitor), self.rounds(other)], [1, 1])
        self.clock.pump([39, 0, 0, 0])
        self.assertEqual([self.rounds(self.visitor), self.rounds(other)], [1, 1])
        for expected in ([1, 2], [1, 3]):
            self.clock.pump([1, 0, 0, 0])
            self.assertEqual([self.rounds(self.visitor), self.rounds(other)], expected)
            self.clock.pump([39])
        # The time of all comes before that of another short round is over.
        self.assertEqual(self.rounds(self.visitor), 2)

    def test_long_rounds(self) -> None:
        """
        Where a round is long, none comes before the cycle is over.
        """
        self.visitor.takes = 0
        other = _Visitor(self.clock, takes=2)
        self.scanner(Pace(0, 100, 5), other)
        self.clock.pump([FIRST, 0, 0, 0])
        self.clock.pump([1] * 93)
        self.assertEqual(self.rounds(other), 1)
        self.clock.pump([1, 0, 0, 0])
        self.assertEqual([self.rounds(self.visitor), self.rounds(other)], [2, 2])

    def test_trouble_is_told_once(self) -> None:
        """
        After a round in which a bucket could not be read, the next is one for all.
        """
        self.visitor.takes = 0
        other = _Visitor(self.clock, takes=0, broken="a")
        self.scanner(Pace(0, 100, 5), other)
        self.clock.pump([FIRST, 0, 0, 0])
        self.clock.pump([1] * 98)
        self.assertEqual([self.rounds(self.visitor), self.rounds(other)], [1, 1])
        self.clock.pump([2, 0, 0, 0])
        self.assertEqual([self.rounds(self.visitor), self.rounds(other)], [2, 2])

    def rounds(self, visitor: _Visitor) -> int:
        """
        How many rounds somebody has come along in.
        """
        return sum(one.startswith("finished") for one in visitor.seen)

    def test_left_out(self) -> None:
        """
        A bucket that a visitor leaves out is walked through for the others.
        """
        other = _Visitor(self.clock, takes=0, skipped="a")
        self.visitor.takes = 0
        scan = Scan(self.store, [self.visitor, other], self.clock, Pace(0))
        walking = Deferred.fromCoroutine(scan.round())
        self.clock.pump([0, 0, 0])
        self.successResultOf(walking)
        self.assertEqual(other.seen, ["b 1", "b end", "finished a b"])
        self.assertEqual(self.visitor.seen[0], f"a {PAGE}")

    def test_broken_bucket(self) -> None:
        """
        A bucket that cannot be read does not keep others from being walked through.
        """
        self.visitor.takes, self.visitor.broken = 0, "a"
        self.scanner(Pace(0))
        self.clock.pump([FIRST, 0, 0])
        self.assertEqual(self.visitor.seen, [f"a {PAGE}", "b 1", "b end", "finished a b"])

    def test_unexpected_failure(self) -> None:
        """
        What nobody has thought of ends one round, is logged, and the next round comes.
        """
        self.visitor.takes, self.visitor.broken = 0, "a"
        self.visitor.error = ZeroDivisionError()
        self.scanner(Pace(0, cycle=10))
        self.clock.pump([FIRST, 0, 0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.visitor.broken = ""
        self.clock.pump([10, 0, 0, 0])
        self.assertEqual(self.visitor.seen[-1], "finished a b")

    def test_bucket_gone(self) -> None:
        """
        A bucket that is removed meanwhile is no trouble.
        """
        self.scanner(Pace(rest=1, cycle=10))
        self.clock.advance(FIRST)
        self.done(self.store.delete("b", "k0"))
        self.done(self.store.delete_bucket("b"))
        self.clock.pump([1, 1])
        self.assertEqual(self.visitor.seen[-1], "finished a b")

    def test_stop(self) -> None:
        """
        It stops while it rests, and leaves nothing that waits.
        """
        scanner = self.scanner(Pace(rest=4))
        self.clock.advance(FIRST)
        stopped = scanner.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(scanner.stopService())

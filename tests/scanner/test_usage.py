# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.scanner.usage``.
"""

import os
from collections.abc import Coroutine
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import Damaged
from kypello.model import BucketInfo, ObjectMetadata, VersionQuery, Write
from kypello.scanner.scan import PAGE, Scan
from kypello.scanner.usage import SPACE, BucketUsage, Usage, UsageVisitor
from kypello.scannerconfig import Pace
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource
from kypello.versioning import SETTING, Versioning
from tests.cases import SyncCase

_VERSIONS = {SETTING: Versioning("Enabled").to_bytes()}


class UsageTests(SyncCase):
    """
    What is counted and kept.
    """

    def setUp(self) -> None:
        """
        A store in memory.
        """
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.index = MemoryIndex()
        self.store = LayoutStore(self.index, MemoryBlobs(), self.clock, os.urandom)
        self.usage = Usage(self.index)
        self.scan = Scan(self.store, [UsageVisitor(self.usage, self.clock)], self.clock, Pace(0))

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        What a coroutine gives that waits for the clock only.
        """
        doing = Deferred.fromCoroutine(work)
        for _ in range(1000):
            if doing.called:
                break
            self.clock.advance(0)
        return self.successResultOf(doing)

    def put(self, bucket: str, key: str, size: int) -> None:
        """
        Store an object.
        """
        body = BytesSource([bytes(size)] if size else [])
        self.done(self.store.put(bucket, key, body, lambda _size: ObjectMetadata("e")))

    def bucket(self, name: str, **settings: bytes) -> BucketInfo:
        """
        Make a bucket.
        """
        info: BucketInfo = self.done(self.store.create_bucket(name, settings))
        return info

    def test_versions(self) -> None:
        """
        Versions, markers, sizes and depths are counted across pages, the newest versions as
        objects.
        """
        bucket = self.bucket("b", **_VERSIONS)
        for number in range(PAGE + 5):
            self.put("b", "deep", number)
        self.put("b", "hidden", 7)
        self.done(self.store.delete("b", "hidden"))
        self.put("b", "single", 1024)
        self.done(self.scan.round())
        found: BucketUsage = self.done(self.usage.of(bucket))
        self.assertEqual((found.objects, found.versions, found.markers), (2, PAGE + 7, 1))
        deep = sum(range(PAGE + 5))
        self.assertEqual((found.size, found.current_size), (deep + 7 + 1024, PAGE + 4 + 1024))
        sizes, stacks = found.size_histogram(), found.stack_histogram()
        self.assertEqual((sizes["LESS_THAN_1024_B"], sizes["BETWEEN_1024_B_AND_64_KB"]), (1, 1))
        self.assertEqual(sum(found.sizes), 2)
        self.assertEqual(stacks["SINGLE_VERSION"], 1)
        self.assertEqual(stacks["BETWEEN_2_AND_10"], 1)
        self.assertEqual(stacks["BETWEEN_100_AND_1000"], 1)
        self.assertEqual(sum(found.stacks), 3)
        self.assertEqual(found.began, found.ended)

    def test_told_again(self) -> None:
        """
        A key that is told again from the beginning is counted once.
        """
        bucket = self.bucket("b", **_VERSIONS)
        for size in (1, 2, 3):
            self.put("b", "k", size)
        versions = self.done(self.store.list_versions("b", VersionQuery())).versions
        visit = self.done(UsageVisitor(self.usage, self.clock).enter(bucket))
        self.done(visit.page(versions[:2]))
        self.done(visit.page(versions))
        self.done(visit.end())
        found = self.done(self.usage.of(bucket))
        self.assertEqual((found.objects, found.versions, found.size), (1, 3, 6))

    def test_as_of_the_round(self) -> None:
        """
        What was counted stays until the next round, for all who read the index.
        """
        bucket = self.bucket("b")
        self.assertIsNone(self.done(self.usage.of(bucket)))
        self.done(self.scan.round())
        self.put("b", "k", 5)
        self.assertEqual(self.done(Usage(self.index).of(bucket)).objects, 0)
        self.done(self.scan.round())
        found = self.done(Usage(self.index).of(bucket))
        self.assertEqual((found.objects, found.size), (1, 5))
        self.assertEqual(found.stack_histogram()["UNVERSIONED"], 1)

    def test_bucket_of_the_same_name(self) -> None:
        """
        What was counted belongs to one bucket, and goes after it.
        """
        bucket = self.bucket("b")
        self.done(self.scan.round())
        other = evolve(bucket, created=bucket.created + 1)
        self.assertIsNone(self.done(self.usage.of(other)))
        total = self.done(self.usage.total([other]))
        self.assertEqual((total.since, dict(total.by_bucket)), (None, {}))
        self.done(self.store.delete_bucket("b"))
        self.done(self.scan.round())
        self.assertEqual(self.done(self.index.scan(SPACE, b"", None, 10)), [])

    def test_idle(self) -> None:
        """
        The same count is written again only when the one that is kept is a minute old, and
        another at once.
        """
        bucket = self.bucket("b")
        self.done(self.scan.round())
        first = self.done(self.usage.of(bucket)).ended
        self.clock.advance(30)
        self.done(self.scan.round())
        self.assertEqual(self.done(self.usage.of(bucket)).ended, first)
        self.put("b", "k", 1)
        self.done(self.scan.round())
        counted = self.done(self.usage.of(bucket))
        self.assertEqual((counted.objects, counted.ended), (1, first + 30 * 10**9))
        self.clock.advance(60)
        self.done(self.scan.round())
        self.assertEqual(self.done(self.usage.of(bucket)).ended, first + 90 * 10**9)

    def test_clock_set_back(self) -> None:
        """
        A record that seems to come from the future is replaced.
        """
        bucket = self.bucket("b")
        self.done(self.scan.round())
        self.clock.rightNow -= 3600
        self.done(self.scan.round())
        self.assertEqual(self.done(self.usage.of(bucket)).ended, int(self.clock.seconds() * 1e9))

    def test_total(self) -> None:
        """
        The total is as old as its oldest part.
        """
        first = self.bucket("a", **_VERSIONS)
        self.put("a", "k", 3)
        self.done(self.store.delete("a", "k"))
        self.done(self.scan.round())
        second = self.bucket("b")
        self.put("b", "k", 4)
        self.assertIsNone(self.done(self.usage.total([first, second])).since)
        self.clock.advance(60)
        self.done(self.scan.round())
        total = self.done(self.usage.total([first, second]))
        self.assertEqual((total.objects, total.versions, total.markers, total.size), (1, 2, 1, 7))
        self.assertEqual(total.since, int(self.clock.seconds() * 1e9))

    def test_damaged(self) -> None:
        """
        A record that is none is told as such.
        """
        bucket = self.bucket("b")
        self.done(self.index.commit(SPACE, [Write(b"b", b"\xff")], {}, ()))
        self.failureResultOf(Deferred.fromCoroutine(self.usage.of(bucket)), Damaged)

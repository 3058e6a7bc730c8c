# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.buckettally``, and what tells of it.
"""

import os

from kypello.http.request import StreamingRequest
from kypello.http.respond import Response
from kypello.model import BucketInfo
from kypello.monitor.bucketcounted import bucket_series
from kypello.monitor.buckettally import PLACES, BucketTally, shared_bucket_tally
from kypello.monitor.counted import request_series
from kypello.monitor.requests import RequestTally
from kypello.monitor.tally import INFLIGHT, TOTAL, Layout, Tally
from kypello.quota import SETTING, Quota
from kypello.testing.harness import Harness
from tests.cases import SyncCase
from tests.http.resources import Leaf, read_all
from tests.monitor.test_tally import told

_LAYOUT = Layout(("GetObject", "PutObject"))


class TableTests(SyncCase):
    """
    The table that processes share.
    """

    def setUp(self) -> None:
        """
        Two processes begin to count.
        """
        self.descriptor = shared_bucket_tally(2)
        self.addCleanup(os.close, self.descriptor)
        self.one, self.two = (
            BucketTally(_LAYOUT, number, 2, self.descriptor) for number in range(2)
        )

    def count(self, tally: BucketTally, bucket: str) -> bool:
        """
        Count a request.
        """
        begun = tally.begun(bucket, "GetObject")
        tally.ended(bucket, "GetObject", 200, 1, 2, 0.1)
        return begun

    def total(self, tally: BucketTally, bucket: str, *others: str) -> int:
        """
        How many requests of a bucket one process tells.
        """
        numbers = tally.sums({bucket, *others}).get(bucket)
        return 0 if numbers is None else numbers[tally.blocks["GetObject"] + TOTAL]

    def test_sums(self) -> None:
        """
        Each process tells what all have counted, by bucket.
        """
        for bucket, tally in (("b" * 63, self.one), ("b" * 63, self.two), ("c-d", self.two)):
            self.assertTrue(self.count(tally, bucket))
        for tally in (self.one, self.two):
            self.assertEqual(self.total(tally, "b" * 63, "c-d"), 2)
            self.assertEqual(self.total(tally, "c-d", "b" * 63), 1)

    def test_gone(self) -> None:
        """
        What was counted of a bucket that is gone is forgotten, by all processes, and its place goes
        to others.
        """
        for tally in (self.one, self.two):
            self.count(tally, "gone")
        self.assertTrue(self.two.begun("gone", "GetObject"))
        self.assertEqual(self.one.sums({"other"}), {})
        self.two.ended("gone", "GetObject", 200, 0, 0, None)
        self.assertEqual(self.total(self.one, "gone"), 1)
        self.assertEqual(
            self.one.sums({"gone"})["gone"][self.one.blocks["GetObject"] + INFLIGHT], 0
        )
        self.one.sums(set())
        self.count(self.one, "new")
        self.assertEqual(self.total(self.two, "new"), 1)

    def test_full(self) -> None:
        """
        With too many buckets those that come last are not counted, until there is room.
        """
        names = [f"bucket-{number}" for number in range(PLACES)]
        self.assertTrue(all(self.count(self.one, name) for name in names))
        self.assertFalse(self.count(self.two, "more"))
        self.one.sums(set(names[1:]))
        self.assertTrue(self.count(self.two, "more"))
        self.assertEqual(self.total(self.one, "more", *names), 1)

    def test_successor(self) -> None:
        """
        A process that takes the place of another goes on with its numbers, and has nothing under
        way.
        """
        self.count(self.one, "bucket")
        self.one.begun("bucket", "GetObject")
        again = BucketTally(_LAYOUT, 0, 2, self.descriptor)
        numbers = again.sums({"bucket"})["bucket"]
        block = again.blocks["GetObject"]
        self.assertEqual((numbers[block + TOTAL], numbers[block + INFLIGHT]), (1, 0))

    def test_other_code(self) -> None:
        """
        Numbers of code that counts other things are not taken for ours.
        """
        self.count(self.one, "bucket")
        other = BucketTally(Layout(("PutObject",)), 1, 2, self.descriptor)
        self.assertEqual(set(other.sums({"bucket"})["bucket"]), {0})
        other.begun("bucket", "PutObject")
        self.assertEqual(self.total(self.one, "bucket"), 1)

    def test_room(self) -> None:
        """
        A layout that does not fit is refused.
        """
        with self.assertRaises(ValueError):
            BucketTally(Layout(tuple(map(str, range(200)))))


class RequestTests(SyncCase):
    """
    Requests over the wire.
    """

    def setUp(self) -> None:
        """
        Serve an operation about the bucket that the path names.
        """
        self.tally, self.buckets = Tally(_LAYOUT), BucketTally(_LAYOUT)

        async def operate(request: StreamingRequest) -> Response:
            """
            Take the body and answer.
            """
            request.operation = "PutObject"
            if request.path != b"/":
                request.subject = request.path[1:].decode()
            await read_all(request.body)
            return Response(404, (), b"ok")

        observer = RequestTally(self.tally, self.buckets)
        self.harness = Harness(Leaf(operate), observer=observer, access_log=False)
        self.harness.clock.advance(1)

    def told(self) -> dict[tuple[str, ...], float]:
        """
        What is told of a bucket with a quota.
        """
        info = BucketInfo("b", 1, {SETTING: Quota(99, 1).to_bytes()})
        return told(bucket_series(self.buckets, [info]))

    def test_answered(self) -> None:
        """
        A request counts for its bucket, by name, status, bytes, and time.
        """
        for path in ("/b", "/b", "/"):
            self.successResultOf(self.harness.request("PUT", path, (), b"abc"))
        told = self.told()
        self.assertEqual(told["minio_bucket_requests_total", "b", "putobject"], 2)
        self.assertEqual(told["minio_bucket_requests_4xx_errors_total", "b", "putobject"], 2)
        self.assertEqual(told["minio_bucket_requests_inflight_total", "b", "putobject"], 0)
        self.assertEqual(told["minio_bucket_traffic_received_bytes_total", "b"], 6)
        self.assertEqual(told["minio_bucket_traffic_sent_bytes_total", "b"], 4)
        self.assertEqual(told["minio_bucket_quota_total_bytes", "b"], 99)
        name = "minio_bucket_requests_ttfb_seconds_distribution_total"
        self.assertEqual(told[name, "b", "putobject", "+Inf"], 2)

    def test_given_up(self) -> None:
        """
        A request is under way until its client goes away.
        """
        client = self.harness.connect()
        client.send(b"PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        self.assertEqual(self.told()["minio_bucket_requests_inflight_total", "b", "putobject"], 1)
        client.go_away()
        told = self.told()
        self.assertEqual(told["minio_bucket_requests_inflight_total", "b", "putobject"], 0)
        self.assertEqual(told["minio_bucket_requests_canceled_total", "b", "putobject"], 1)

    def test_no_room(self) -> None:
        """
        Requests whose bucket there is no room for are told all together.
        """
        for number in range(PLACES + 3):
            self.successResultOf(self.harness.request("PUT", f"/b{number}", (), b""))
        found = told(request_series(self.tally))
        self.assertEqual(found["kypello_bucket_requests_uncounted_total",], 3)

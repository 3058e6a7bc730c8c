# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.tally``, what counts there, and what tells of it.
"""

import os

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import KeyNotFound, KMSUnavailable
from kypello.http.request import StreamingRequest
from kypello.http.respond import Response
from kypello.interfaces import IKMS
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import StaticKeySettings
from kypello.monitor.buckettally import BucketTally
from kypello.monitor.counted import key_series, request_series
from kypello.monitor.keycalls import CountedKMS
from kypello.monitor.requests import RequestTally
from kypello.monitor.tally import BOUNDS, INFLIGHT, ROW, TOTAL, Layout, Tally, shared_tally
from kypello.monitor.text import Family, render
from kypello.testing.harness import Harness
from tests.cases import AsyncCase, SyncCase
from tests.contracts.kms import KEY, KMSContract
from tests.http.resources import Leaf, read_all
from tests.objects.keyservice import MemoryKMS

_LAYOUT = Layout(("GetObject", "PutObject"))


def told(families: list[Family]) -> dict[tuple[str, ...], float]:
    """
    Samples as Prometheus reads them: by name and values of labels.
    """
    found = {}
    for family in text_string_to_metric_families(render(families, {}).decode()):
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] = sample.value
    return found


class TableTests(SyncCase):
    """
    The table that processes share.
    """

    def setUp(self) -> None:
        """
        Two processes begin to count.
        """
        self.descriptor = shared_tally(2)
        self.addCleanup(os.close, self.descriptor)
        self.tallies = [Tally(_LAYOUT, number, 2, self.descriptor) for number in range(2)]

    def test_sums(self) -> None:
        """
        Each process tells what all of them have counted.
        """
        for number, tally in enumerate(self.tallies):
            tally.add("received", 10 ** (number * 3 + 15))
        place = _LAYOUT.single("received")
        for tally in self.tallies:
            self.assertEqual(tally.sums()[place], 10**15 + 10**18)

    def test_successor(self) -> None:
        """
        A process that takes the place of another goes on with its numbers, and has nothing under
        way.
        """
        block = _LAYOUT.blocks["PutObject"]
        self.tallies[1].row[block + TOTAL] = 7
        self.tallies[1].row[block + INFLIGHT] = 3
        Tally(_LAYOUT, 1, 2, self.descriptor)
        sums = self.tallies[0].sums()
        self.assertEqual((sums[block + TOTAL], sums[block + INFLIGHT]), (7, 0))

    def test_other_code(self) -> None:
        """
        Numbers of code that counts other things are not taken for ours, and who takes over their
        place begins anew.
        """
        self.tallies[0].add("received", 5)
        self.tallies[1].add("received", 6)
        other = Tally(Layout(("GetObject",)), 1, 2, self.descriptor)
        place = _LAYOUT.single("received")
        self.assertEqual(self.tallies[0].sums()[place], 5)
        self.assertEqual(sum(other.row[2:]), 0)

    def test_room(self) -> None:
        """
        A layout that does not fit is refused.
        """
        with self.assertRaises(ValueError):
            Layout(tuple(map(str, range(ROW))))


class RequestTests(SyncCase):
    """
    Requests over the wire.
    """

    def setUp(self) -> None:
        """
        Serve an operation that does what the path says.
        """
        self.tally = Tally(_LAYOUT)
        self.waiting: Deferred[None] = Deferred()

        async def operate(request: StreamingRequest) -> Response:
            """
            Take the body and answer with a status, or wait for ever.
            """
            request.operation = "GetObject"
            request.operation = "PutObject"
            await read_all(request.body)
            if request.path == b"/wait":
                await self.waiting
            if request.path == b"/admin":
                request.operation = "admin:info"
            self.harness.clock.advance(0.02)
            return Response(
                int(request.path[1:4]) if request.path[1:2].isdigit() else 200, (), b"ok"
            )

        observer = RequestTally(self.tally, BucketTally(_LAYOUT))
        self.harness = Harness(Leaf(operate), observer=observer, access_log=False)
        self.harness.clock.advance(1)

    def told(self) -> dict[tuple[str, ...], float]:
        """
        What is told.
        """
        return told(request_series(self.tally))

    def test_answered(self) -> None:
        """
        A request counts by its last name, its status, its bytes and how long it took to answer.
        """
        for path in ("/200", "/404", "/412", "/503"):
            self.successResultOf(self.harness.request("PUT", path, (), b"abc"))
        told = self.told()
        for name, expected in (
            ("total", 4),
            ("errors_total", 3),
            ("4xx_errors_total", 2),
            ("5xx_errors_total", 1),
            ("canceled_total", 0),
            ("inflight_total", 0),
        ):
            self.assertEqual(told[f"minio_s3_requests_{name}", "putobject"], expected, name)
        self.assertEqual(told["minio_s3_traffic_received_bytes_total",], 12)
        self.assertEqual(told["minio_s3_traffic_sent_bytes_total",], 8)
        name = "minio_s3_requests_ttfb_seconds_distribution_total"
        self.assertEqual(told[name, "putobject", "0.01"], 0)
        self.assertEqual(told[name, "putobject", "0.025"], 4)
        self.assertEqual(told[name, "putobject", "+Inf"], 4)
        self.assertNotIn(("minio_s3_requests_total", "getobject"), told)

    def test_given_up(self) -> None:
        """
        A request is under way until its client goes away, and counts as given up then.
        """
        client = self.harness.connect()
        client.send(b"PUT /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.told()["minio_s3_requests_inflight_total", "putobject"], 1)
        client.go_away()
        told = self.told()
        self.assertEqual(told["minio_s3_requests_inflight_total", "putobject"], 0)
        self.assertEqual(told["minio_s3_requests_canceled_total", "putobject"], 1)
        self.assertEqual(told["minio_s3_requests_errors_total", "putobject"], 0)

    def test_others(self) -> None:
        """
        What turns out to be none of S3 is counted apart.
        """
        self.successResultOf(self.harness.request("GET", "/admin"))
        told = self.told()
        self.assertEqual(told["kypello_other_requests_total",], 1)
        self.assertNotIn(("minio_s3_requests_total", "putobject"), told)

    def test_durations(self) -> None:
        """
        What takes as long as a bound is within it; what takes longer than all is beyond.
        """
        first = _LAYOUT.kms_durations
        for seconds in (0.0, BOUNDS[0], BOUNDS[-1], BOUNDS[-1] + 1):
            self.tally.last(first, seconds)
        counts = self.tally.row[first : first + len(BOUNDS) + 1].tolist()
        self.assertEqual((counts[0], counts[-2], counts[-1], sum(counts)), (2, 1, 1, 4))


class KeyContractTests(KMSContract, AsyncCase):
    """
    A key service whose calls are counted is one.
    """

    async def make_kms(self) -> IKMS:
        """
        Count the calls of one in memory.
        """
        static = StaticKMS(StaticKeySettings(KEY, bytes(range(32))), os.urandom)
        kms: IKMS = CountedKMS(static, Tally(_LAYOUT), Clock())
        return kms


class KeyTests(AsyncCase):
    """
    Calls of the KMS.
    """

    async def test_outcomes(self) -> None:
        """
        Calls count by what they are and how they end; errors come through.
        """
        tally, service = Tally(_LAYOUT), MemoryKMS.with_default_key()
        kms = CountedKMS(service, tally, Clock())
        key = await kms.generate_key("my-key", b"c")
        self.assertEqual(await kms.decrypt_key("my-key", key.sealed, b"c"), key.plaintext)
        with self.assertRaises(KeyNotFound):
            await kms.generate_key("none", b"c")
        service.down = True
        with self.assertRaises(KMSUnavailable):
            await kms.create_key("new")
        found = told(key_series(tally))
        name = "kypello_kms_requests_total"
        self.assertEqual(found[name, "generate", "success"], 1)
        self.assertEqual(found[name, "decrypt", "success"], 1)
        self.assertEqual(found[name, "generate", "error"], 1)
        self.assertEqual(found[name, "create", "failure"], 1)
        self.assertEqual(found["minio_cluster_kms_request_success_total",], 2)
        self.assertEqual(found["minio_cluster_kms_request_error_total",], 1)
        self.assertEqual(found["minio_cluster_kms_request_failure_total",], 1)
        self.assertEqual(found["kypello_kms_request_duration_seconds_count",], 4)

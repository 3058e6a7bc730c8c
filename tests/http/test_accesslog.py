# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.accesslog``.
"""

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.testing.harness import Harness
from tests.cases import SyncCase
from tests.http.resources import Leaf, Operation, read_all


class AccessLogTests(SyncCase):
    """
    One line per request.
    """

    def serve(self, operation: Operation) -> Harness:
        """
        Serve an operation and keep what is logged.
        """
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        return Harness(Leaf(operation), entropy=bytes)

    def lines(self) -> list[str]:
        """
        The lines of the access log.
        """
        name = "kypello.http.accesslog"
        return [formatEvent(event) for event in self.events if event["log_namespace"] == name]

    def test_answered(self) -> None:
        """
        A line tells request id, operation, status, bytes, time and peer; no query, no headers.
        """

        async def store(request: StreamingRequest) -> Response:
            request.operation = "PutObject"
            await read_all(request.body)
            return Response(200, (), b"ok")

        harness = self.serve(store)
        secrets = (("Authorization", "secret"),)
        self.successResultOf(harness.request("PUT", "/k?X-Amz-Signature=secret", secrets, b"abc"))
        self.assertEqual(
            self.lines(),
            ["0000000000000000 PutObject 200 done in=3 out=2 0.000s 198.51.100.7"],
        )

    def test_aborted(self) -> None:
        """
        A client that went away leaves a line too.
        """

        async def wait(request: StreamingRequest) -> Response:
            await Deferred()
            raise AssertionError("unreachable")

        client = (harness := self.serve(wait)).connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        harness.clock.advance(2)
        client.go_away()
        self.assertEqual(
            self.lines(), ["0000000000000000 - 0 aborted in=0 out=0 2.000s 198.51.100.7"]
        )

    def test_no_request(self) -> None:
        """
        So does something that was no request.
        """

        async def never(request: StreamingRequest) -> Response:
            raise AssertionError("unreachable")

        self.serve(never).connect().send(b"?\r\n\r\n")
        self.assertEqual(self.lines(), ["0000000000000000 - 400 198.51.100.7"])

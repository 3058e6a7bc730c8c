# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.admin.streams`` and ``kypello.admin.tracing``.
"""

import json
import threading
from typing import Any

from attrs import evolve
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel

from kypello.admin.root import AdminResource
from kypello.admin.tracing import LogFeed, Tracer
from kypello.events.broadcast import (
    LOG,
    TRACE,
    Broadcast,
)
from kypello.http.request import StreamingRequest
from kypello.http.respond import Response
from kypello.iam.values import Holder, HolderKind
from kypello.testing.harness import Harness
from tests.admin.front import ADMIN, ROOT, AdminCase, Signer, policy
from tests.cases import SyncCase
from tests.http.resources import Leaf


class TraceTests(SyncCase):
    """
    What is told of a request.
    """

    def test_secrets(self) -> None:
        """
        Of headers and parameters only what is known to be no secret is told.
        """
        broadcast = Broadcast(MemoryReactorClock())
        heard: list[bytes] = []
        broadcast.listen(TRACE, lambda event: bool(heard.append(event)), lambda _count: b"")

        async def answer(request: StreamingRequest) -> Response:
            """
            Be an operation of S3.
            """
            request.operation = "GetObject"
            return Response(200, (), b"content")

        tracer = Tracer(broadcast, "node", frozenset({"GetObject"}))
        observer = _Tracing(tracer)
        harness = Harness(Leaf(answer), observer=observer, access_log=False)
        secret = "SECRET"
        names = ("Authorization", "X-Amz-Security-Token", "Cookie", "X-Amz-Meta-A", "Referer")
        lines = [(name, secret) for name in names]
        lines.append(("X-Amz-Server-Side-Encryption-Customer-Key", secret))
        query = f"X-Amz-Signature={secret}&%53ignature={secret}&prefix=a%26b&acl&Password={secret}"
        sent = harness.request("GET", f"/bucket/k%20?{query}", [*lines, ("Range", "bytes=0-")])
        self.successResultOf(sent)
        (event,) = heard
        self.assertNotIn(secret.encode(), event)
        told = json.loads(event)
        self.assertEqual(told["funcname"], "s3.GetObject")
        self.assertEqual(told["path"], "/bucket/k ")
        self.assertEqual(told["bytes"], 7)
        request = told["http"]["request"]
        self.assertEqual(request["headers"]["range"], ["bytes=0-"])
        self.assertEqual(request["headers"]["cookie"], ["*REDACTED*"])
        self.assertEqual(
            request["rawquery"],
            "X-Amz-Signature=REDACTED&%53ignature=REDACTED&prefix=a%26b&acl&Password=REDACTED",
        )
        self.assertEqual(told["http"]["response"]["statuscode"], 200)


class _Tracing:
    """
    Tells of requests when they end.
    """

    def __init__(self, tracer: Tracer) -> None:
        """
        Tell *tracer*.
        """
        self.ended = tracer.ended

    def named(self, before: str, after: str) -> None:
        """
        Called when it is known what a request is.
        """


class ThreadsReactor(MemoryReactorClock):
    """
    A reactor that does what other threads want when the test says so.
    """

    def __init__(self) -> None:
        """
        Nobody wants anything.
        """
        super().__init__()
        self._calls: list[tuple[Any, ...]] = []

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        """
        Called from another thread.
        """
        self._calls.append((call, *arguments))

    def call_all(self) -> None:
        """
        Do it.
        """
        for call, *arguments in self._calls:
            call(*arguments)


class StreamTests(AdminCase):
    """
    The routes.
    """

    def setUp(self) -> None:
        """
        Serve them.
        """
        super().setUp()
        self.reactor = ThreadsReactor()
        self.broadcast = Broadcast(self.reactor)
        self.addCleanup(self.broadcast.end)
        front = evolve(self.front, broadcast=self.broadcast, node="node")
        self.harness = Harness(AdminResource(front), access_log=False)

    def open(self, target: str, by: Signer = ROOT) -> Any:
        """
        A client that has sent a request for a stream.
        """
        client = self.harness.connect()
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in self.signed("GET", ADMIN + target, by=by)
        )
        client.send(f"GET {ADMIN}{target} HTTP/1.1\r\nHost: kypello.test\r\n{lines}\r\n".encode())
        return client

    def test_flushed(self) -> None:
        """
        The head of the answer is sent at once, each event as it comes, and nothing is kept when
        the client has gone.
        """
        client = self.open("log")
        self.assertIn(b" 200 ", client.received)
        self.assertIn(b"text/event-stream", client.received)
        feed = LogFeed(self.broadcast, "node")
        feed({"log_level": None})
        self.assertNotIn(b"ConsoleMsg", client.received)
        feed({"log_level": LogLevel.info, "log_time": 1.0, "log_format": "a line"})
        self.assertIn(b'"ConsoleMsg":"[-#info] a line"', client.received)
        event = {"log_level": LogLevel.warn, "log_time": 1.0, "log_format": "of a thread"}
        thread = threading.Thread(target=feed, args=(event,))
        thread.start()
        thread.join()
        self.assertNotIn(b"of a thread", client.received)
        self.reactor.call_all()
        self.assertIn(b"of a thread", client.received)
        client.go_away()
        self.assertFalse(self.broadcast.wanted(LOG))

    def test_filters(self) -> None:
        """
        Requests are told by their kind, their status and how long they took.
        """

        def event(kind: int, status: int, lasted: int) -> bytes:
            """
            A traced request.
            """
            http = {"response": {"statuscode": status}}
            return json.dumps({"type": kind, "dur": lasted, "error": "", "http": http}).encode()

        events = [
            event(kind, status, n * 10**8)
            for kind in (4, 8)
            for status in (200, 404)
            for n in (1, 20)
        ]
        for target, expected in (
            ("trace?s3=true", events[:4]),
            ("trace?internal=true", events[4:]),
            ("trace?all=true&err=true", events[2:4] + events[6:]),
            ("trace?s3=true&threshold=1s500ms", events[1:4:2]),
            ("trace", []),
        ):
            client = self.open(target)
            for each in events:
                self.broadcast.tell(TRACE, each)
            told = [each for each in events if each in client.received]
            self.assertEqual(told, expected, target)
            client.go_away()
        self.send("GET", "trace?threshold=soon", status=400)

    def test_rights(self) -> None:
        """
        Each stream needs a right of its own.
        """
        tracer = self.make_user("tracer", policy("admin:ServerTrace"))
        reader = self.make_user("reader", policy("admin:ConsoleLog"))
        self.send("GET", "log", by=tracer, status=403)
        self.send("GET", "trace", by=reader, status=403)

    def test_revoked(self) -> None:
        """
        Who loses the right is told nothing that happens afterwards.
        """
        both = self.make_user("both", policy("admin:ServerTrace"), policy("admin:ConsoleLog"))
        for number, (target, kind) in enumerate((("trace?all=true", TRACE), ("log", LOG))):
            client = self.open(target, by=both)
            self.assertIn(b" 200 ", client.take())
            holder = Holder(HolderKind.USER, both.access_key)
            self.done(self.accounts.detach([f"both-{number}"], holder))
            http = {"response": {"statuscode": 200}}
            event = {"type": 4, "dur": 0, "error": "", "http": http}
            self.broadcast.tell(kind, json.dumps(event).encode())
            self.assertEqual(client.take(), b"0\r\n\r\n", target)
            self.assertFalse(self.broadcast.wanted(kind))

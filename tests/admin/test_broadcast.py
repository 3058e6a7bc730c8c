# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.events.broadcast`` and ``kypello.admin.streams``.
"""

import json
import os
import threading
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel

from kypello.admin.root import AdminResource
from kypello.admin.tracing import LogFeed, Tracer
from kypello.errors import Refused
from kypello.events.broadcast import (
    KEEP_ALIVE,
    LOG,
    MOST_LISTENERS,
    MOST_WAITING,
    TRACE,
    Broadcast,
    Inboxes,
    Listener,
    shared_inboxes,
)
from kypello.http.request import StreamingRequest
from kypello.http.respond import Response
from kypello.testing.harness import Harness
from tests.admin.front import ADMIN, AdminCase, policy
from tests.cases import SyncCase
from tests.http.resources import Leaf


class BroadcastCase(SyncCase):
    """
    A test with two processes.
    """

    def setUp(self) -> None:
        """
        Nobody listens yet.
        """
        self.reactor = MemoryReactorClock()
        table, inboxes = shared_inboxes(2)
        self.addCleanup(os.close, table)
        self.processes = []
        for number in range(2):
            send = tuple(os.dup(fill) for _empty, fill in inboxes)
            place = Inboxes(table, os.dup(inboxes[number][0]), send)
            self.processes.append(Broadcast(self.reactor, number, 2, place))
            self.addCleanup(self.processes[-1].close)
        for descriptor in (end for pair in inboxes for end in pair):
            os.close(descriptor)

    def listen(self, kind: int = TRACE, accepts: Any = lambda _event: True) -> Listener:
        """
        Listen in the first process; the greeting is over.
        """
        listener = self.processes[0].listen(kind, accepts, lambda count: b"dropped %d" % count)
        self.assertEqual(self.read(listener), b" ")
        return listener

    def read(self, listener: Listener) -> bytes:
        """
        What can be read at once.
        """
        return self.successResultOf(Deferred.fromCoroutine(listener.read()))

    def arrive(self) -> None:
        """
        Let the reactor see what other processes have told.
        """
        for reader in list(self.reactor.readers):
            reader.doRead()


class BroadcastTests(BroadcastCase):
    """
    Events of two processes.
    """

    def test_all_processes(self) -> None:
        """
        Events of all processes are heard, in one.
        """
        listener = self.listen()
        for number, process in enumerate(self.processes):
            process.tell(TRACE, b"%d" % number)
        self.arrive()
        self.assertEqual(self.read(listener), b"0\n1\n")

    def test_wanted(self) -> None:
        """
        Only what somebody listens to is wanted, in all processes, and nothing when nobody does.
        """
        self.assertEqual([each.wanted(TRACE) for each in self.processes], [False, False])
        listener = self.listen()
        self.assertEqual([each.wanted(TRACE) for each in self.processes], [True, True])
        self.assertEqual([each.wanted(LOG) for each in self.processes], [False, False])
        self.assertEqual(len(self.reactor.readers), 1)
        listener.close()
        listener.close()
        self.assertEqual([each.wanted(TRACE) for each in self.processes], [False, False])
        self.assertEqual(list(self.reactor.readers), [])

    def test_kinds(self) -> None:
        """
        Each listener hears of its kind, and of that only what it accepts.
        """
        traces = self.listen(TRACE, lambda event: event != b"b")
        lines = self.listen(LOG)
        for event in (b"a", b"b", b"c"):
            self.processes[0].tell(TRACE, event)
        self.processes[1].tell(LOG, b"l")
        self.arrive()
        self.assertEqual(self.read(traces), b"a\nc\n")
        self.assertEqual(self.read(lines), b"l\n")

    def test_slow_listener(self) -> None:
        """
        For a listener that does not read a bounded number of events waits, and it is told how many
        it has missed.
        """
        listener = self.listen()
        for number in range(MOST_WAITING + 7):
            self.processes[0].tell(TRACE, b"%d" % number)
        first = self.read(listener).splitlines()
        self.assertEqual(first[0], b"dropped 7")
        self.assertEqual(first[1:], [b"%d" % number for number in range(MOST_WAITING)])
        self.processes[0].tell(TRACE, b"next")
        self.assertEqual(self.read(listener), b"next\n")

    def test_slow_process(self) -> None:
        """
        Who tells an event never waits for another process that is busy: what finds no room there
        is dropped, and told.
        """
        listener = self.listen()
        for _ in range(2000):
            self.processes[1].tell(TRACE, bytes(1000))
        lost = self.processes[0].lost
        self.assertGreater(lost, 0)
        for _ in range(20):
            self.arrive()
        lines = b""
        while b"\0" not in lines[-1200:] or len(lines) < 1000 * (2000 - lost):
            lines += self.read(listener)
        self.assertTrue(lines.startswith(b"dropped %d\n" % lost))
        self.assertEqual(lines.count(bytes(1000)), 2000 - lost)

    def test_late_events(self) -> None:
        """
        What came for somebody who listens no more is not for the next one.
        """
        first = self.listen()
        self.processes[1].tell(TRACE, b"old")
        first.close()
        second = self.listen()
        self.processes[1].tell(TRACE, b"new")
        self.arrive()
        self.assertEqual(self.read(second), b"new\n")

    def test_keep_alive(self) -> None:
        """
        Who hears nothing gets a blank from time to time; who goes away leaves no timer.
        """
        listener = self.listen()
        reading = Deferred.fromCoroutine(listener.read())
        self.assertNoResult(reading)
        self.reactor.advance(KEEP_ALIVE)
        self.assertEqual(self.successResultOf(reading), b" ")
        reading = Deferred.fromCoroutine(listener.read())
        reading.addErrback(lambda _cancelled: None)
        reading.cancel()
        listener.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_end(self) -> None:
        """
        A server that ends ends its streams, and begins none.
        """
        listener = self.listen()
        reading = Deferred.fromCoroutine(listener.read())
        self.processes[0].end()
        self.assertEqual(self.successResultOf(reading), b"")
        self.assertEqual(self.read(listener), b"")
        with self.assertRaises(Refused):
            self.listen()

    def test_many(self) -> None:
        """
        There is an end to how many may listen.
        """
        for _ in range(MOST_LISTENERS):
            self.listen()
        with self.assertRaises(Refused):
            self.listen()

    def test_successor(self) -> None:
        """
        A process that takes the place of one that listened has no listeners.
        """
        self.listen()
        table = self.processes[0]._inboxes
        Broadcast(self.reactor, 0, 2, Inboxes(table.table))
        self.assertFalse(self.processes[1].wanted(TRACE))


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
        front = evolve(self.front, broadcast=self.broadcast, node="node")
        self.harness = Harness(AdminResource(front), access_log=False)

    def open(self, target: str) -> Any:
        """
        A client that has sent a request for a stream.
        """
        client = self.harness.connect()
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in self.signed("GET", ADMIN + target)
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

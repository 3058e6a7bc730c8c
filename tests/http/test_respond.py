# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.respond``: from coroutines to answers.
"""

import gc
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred

from kypello.errors import NoSuchBucket
from kypello.http.body import BLOCK
from kypello.http.request import StreamingRequest
from kypello.http.response import Response, status_line
from kypello.testing.harness import SEND_BUFFER, Harness, RawClient
from tests.cases import SyncCase
from tests.http.resources import Blocks, Leaf, Operation, Script, read_all

GET = b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n"


class RespondCase(SyncCase):
    """
    A client in front of one operation.
    """

    def serve(self, operation: Operation) -> RawClient:
        """
        Open a connection.
        """
        self.harness = Harness(Leaf(operation), access_log=False)
        return self.harness.connect()

    def serve_body(self, size: int | None, *steps: Any) -> RawClient:
        """
        Ask for a body that is made of steps.
        """
        self.source = Blocks(size, Script(list(steps)))

        async def stream(request: StreamingRequest) -> Response:
            return Response(200, (("X-A", "b"),), self.source)

        client = self.serve(stream)
        client.send(GET)
        return client


class ReleaseTests(RespondCase):
    """
    What is left of a request.
    """

    def test_nothing_is_left(self) -> None:
        """
        A request is gone with its answer, and waits for no garbage collector, whether or not
        its operation waits for anything.
        """
        waiting: list[Deferred[None]] = []

        async def at_once(request: StreamingRequest) -> Response:
            return Response(200, (), b"x")

        async def later(request: StreamingRequest) -> Response:
            waiting.append(Deferred())
            await waiting[0]
            return Response(200, (), b"x")

        async def wrong(request: StreamingRequest) -> Response:
            raise NoSuchBucket("b")

        gc.disable()
        self.addCleanup(gc.enable)
        for operation in (at_once, later, wrong):
            leaf = Leaf(operation)
            client = Harness(leaf, access_log=False).connect()
            client.send(GET)
            for deferred in waiting:
                deferred.callback(None)
            waiting.clear()
            self.assertTrue(client.take().endswith((b"x", b"NoSuchBucket")))
            request = ref(leaf.requests.pop())
            self.assertIsNone(request(), operation)


class AnswerTests(RespondCase):
    """
    What a response looks like on the wire.
    """

    def answer(
        self, response: Response, head: bytes = GET
    ) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """
        The status line, the headers and the body of an answer.
        """

        async def give(request: StreamingRequest) -> Response:
            return response

        client = self.serve(give)
        client.send(head)
        start, body = client.take().split(b"\r\n\r\n", 1)
        status, *lines = start.split(b"\r\n")
        return status, dict(line.split(b": ", 1) for line in lines), body

    def test_bytes(self) -> None:
        """
        A known body is sent with its length, and nothing is made up but date and server.
        """
        status, headers, body = self.answer(Response(404, (("X-A", "\xe9"),), b"none"))
        self.assertEqual((status, body), (b"HTTP/1.1 404 Not Found", b"none"))
        self.assertEqual(set(headers), {b"Date", b"Server", b"X-A", b"Content-Length"})
        self.assertEqual((headers[b"X-A"], headers[b"Content-Length"]), (b"\xe9", b"4"))

    def test_own_server_header(self) -> None:
        """
        A header of the response replaces the default.
        """
        _, headers, _ = self.answer(Response(200, (("Server", "Kypello"),)))
        self.assertEqual(headers[b"Server"], b"Kypello")

    def test_repeated_header(self) -> None:
        """
        A header that is given twice is sent twice.
        """

        async def give(request: StreamingRequest) -> Response:
            return Response(200, (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")))

        client = self.serve(give)
        client.send(GET)
        self.assertEqual(client.received.count(b"Set-Cookie: "), 2)

    def test_head(self) -> None:
        """
        ``HEAD`` gets the length of the body and not a byte of it; a source is closed unread.
        """
        source = Blocks(5, Script([b"hello"]))
        head = GET.replace(b"GET", b"HEAD")
        _, headers, body = self.answer(Response(200, (), source), head)
        self.assertEqual((headers[b"Content-Length"], body), (b"5", b""))
        self.assertEqual((source.given, source.closed), (0, True))
        _, headers, body = self.answer(Response(404, (), b"none"), head)
        self.assertEqual((headers[b"Content-Length"], body), (b"4", b""))
        _, headers, body = self.answer(Response(200, (("Content-Length", "77"),)), head)
        self.assertEqual((headers[b"Content-Length"], body), (b"77", b""))

    def test_no_body(self) -> None:
        """
        204 and 304 have neither body nor length, and the connection lives on.
        """
        for status in (204, 304):
            _, headers, body = self.answer(Response(status, (), b"x"))
            self.assertNotIn(b"Content-Length", headers)
            self.assertNotIn(b"Connection", headers)
            self.assertEqual(body, b"")

    def test_reasons(self) -> None:
        """
        Every status has its standard words.
        """
        self.assertEqual(status_line(b"HTTP/1.1", 412), b"HTTP/1.1 412 Precondition Failed\r\n")
        self.assertEqual(status_line(b"HTTP/1.0", 799), b"HTTP/1.0 799 Unknown\r\n")

    def test_line_break_in_header(self) -> None:
        """
        A header that would break out of its line is an error, not an answer.
        """
        for value in ("a\r\nX-B: c", "a\nb", "a\rb", "\u0100"):
            status, headers, body = self.answer(Response(200, (("X-A", value),), b"secret"))
            self.assertEqual((status[-3:], body[-5:]), (b"ror", b"Error"))
            self.assertNotIn(b"X-A", headers)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class StreamTests(RespondCase):
    """
    Bodies that are read while they are sent.
    """

    def test_known_size(self) -> None:
        """
        A source of known size is sent with its length and closed.
        """
        client = self.serve_body(6, b"abc", memoryview(b"def"))
        self.assertIn(b"\r\nContent-Length: 6\r\n", client.received)
        self.assertTrue(client.received.endswith(b"\r\n\r\nabcdef"))
        self.assertTrue(self.source.closed)
        self.assertIsNone(client.lost)

    def test_unknown_size(self) -> None:
        """
        A source of unknown size is sent in the chunked coding.
        """
        client = self.serve_body(None, b"abc", b"d")
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", client.received)
        self.assertTrue(client.received.endswith(b"\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"))

    def test_unknown_size_for_old_client(self) -> None:
        """
        To HTTP/1.0 the end of the connection is the end of the body.
        """
        source = Blocks(None, Script([b"abc"]))

        async def stream(request: StreamingRequest) -> Response:
            return Response(200, (), source)

        client = self.serve(stream)
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(client.received.endswith(b"\r\n\r\nabc"))
        self.assertNotIn(b"Transfer-Encoding", client.received)
        self.assertIsNotNone(client.lost)

    def test_empty(self) -> None:
        """
        An empty source makes an empty body.
        """
        client = self.serve_body(0)
        self.assertTrue(client.received.endswith(b"\r\nContent-Length: 0\r\n\r\n"))
        self.assertIsNone(client.lost)

    def test_early_error(self) -> None:
        """
        What fails before the first block is a proper error.
        """
        client = self.serve_body(6, NoSuchBucket("b"))
        self.assertTrue(client.received.startswith(b"HTTP/1.1 500"))
        self.assertTrue(client.received.endswith(b"NoSuchBucket"))
        self.assertTrue(self.source.closed)
        self.assertIsNone(client.lost)

    def test_late_error(self) -> None:
        """
        What fails later cuts the connection, and is logged.
        """
        for size in (6, None):
            second: Deferred[bytes] = Deferred()
            client = self.serve_body(size, b"abc", second)
            second.errback(NoSuchBucket("b"))
            self.assertTrue(client.received.endswith(b"abc" if size else b"abc\r\n"))
            self.assertIsNotNone(client.lost)
            self.assertTrue(self.source.closed)
            self.assertEqual(len(self.flushLoggedErrors(NoSuchBucket)), 1)

    def test_wrong_size(self) -> None:
        """
        A source that gives more or less than it said cuts the connection; nothing is padded.
        """
        for given in (b"abc", b"abcdefg"):
            second: Deferred[bytes] = Deferred()
            client = self.serve_body(6, given[:3], second)
            second.callback(given[3:])
            self.assertTrue(client.received.endswith(b"\r\n\r\nabc"))
            self.assertIsNotNone(client.lost)
            self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_slow_client(self) -> None:
        """
        A client that does not read makes the server hold two blocks, not the whole object.
        """
        block = bytes(BLOCK)
        steps: list[bytes] = [block] * 20
        self.source = source = Blocks(len(steps) * BLOCK, Script(list(steps)))

        async def stream(request: StreamingRequest) -> Response:
            return Response(200, (), source)

        client = self.serve(stream)
        client.hold()
        client.send(GET)
        self.assertEqual(source.given, 2 * BLOCK)
        self.assertLess(client.transport.peer.waiting, BLOCK + SEND_BUFFER)
        client.go_on()
        self.assertEqual(source.given, 20 * BLOCK)
        self.assertTrue(client.received.endswith(block))

    def test_reads_ahead(self) -> None:
        """
        The next block is asked for before the connection took the last one.
        """
        second: Deferred[bytes] = Deferred()
        client = self.serve_body(2 * BLOCK, bytes(BLOCK), second)
        client.hold()
        second.callback(bytes(BLOCK))
        self.assertEqual(self.source.given, 2 * BLOCK)


class GoneTests(RespondCase):
    """
    A client that goes away leaves nothing behind.
    """

    def test_waiting_operation(self) -> None:
        """
        The operation is cancelled where it waits.
        """
        ended: list[str] = []

        async def wait(request: StreamingRequest) -> Response:
            try:
                await Deferred()
            except CancelledError:
                ended.append("cancelled")
                raise
            raise AssertionError("unreachable")

        client = self.serve(wait)
        client.send(GET)
        client.go_away()
        self.assertEqual(ended, ["cancelled"])

    def test_reading_operation(self) -> None:
        """
        An operation that reads the body is cancelled as well.
        """
        ended: list[str] = []

        async def wait(request: StreamingRequest) -> Response:
            try:
                await read_all(request.body)
            finally:
                ended.append("ended")
            raise AssertionError("unreachable")

        client = self.serve(wait)
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        client.go_away()
        self.assertEqual(ended, ["ended"])

    def test_operation_that_cannot_stop(self) -> None:
        """
        What an operation gives after all is released unread.
        """
        source = Blocks(3, Script([b"abc"]))
        work: Deferred[None] = Deferred(lambda _: work.callback(None))

        async def stubborn(request: StreamingRequest) -> Response:
            await work
            return Response(200, (), source)

        client = self.serve(stubborn)
        client.send(GET)
        client.go_away()
        self.assertTrue(source.closed)

    def test_before_the_first_block(self) -> None:
        """
        A source that is waited for is cancelled and closed.
        """
        waiting: Deferred[bytes] = Deferred()
        client = self.serve_body(3, waiting)
        client.go_away()
        self.assertTrue(self.source.closed)

    def test_between_blocks(self) -> None:
        """
        A source is closed when the client goes away while the next block is made.
        """
        waiting: Deferred[bytes] = Deferred()
        client = self.serve_body(6, b"abc", waiting)
        client.go_away()
        self.assertTrue(self.source.closed)

    def test_while_paused(self) -> None:
        """
        A source is closed when the client goes away while it does not read.
        """
        source = Blocks(None, Script([bytes(BLOCK)] * 5))

        async def stream(request: StreamingRequest) -> Response:
            return Response(200, (), source)

        client = self.serve(stream)
        client.hold()
        client.send(GET)
        client.go_away()
        self.assertTrue(source.closed)
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])


class ErrorTests(RespondCase):
    """
    Exceptions of operations.
    """

    def fail_with(self, error: Exception) -> RawClient:
        """
        Ask an operation that raises.
        """

        async def fail(request: StreamingRequest) -> Response:
            raise error

        client = self.serve(fail)
        client.send(GET)
        return client

    def test_domain_error(self) -> None:
        """
        An error of the domain is an answer and nothing for the log.
        """
        client = self.fail_with(NoSuchBucket("b"))
        self.assertTrue(client.received.endswith(b"NoSuchBucket"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_unknown_error(self) -> None:
        """
        Any other exception is answered too, and logged once.
        """
        client = self.fail_with(ZeroDivisionError())
        self.assertTrue(client.received.endswith(b"ZeroDivisionError"))
        self.assertIsNone(client.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.channel``: connections as clients see them.
"""

import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kypello.http.body import BLOCK, HIGH_WATER
from kypello.http.exchange import DRAIN_LIMIT
from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.http.site import Limits
from kypello.testing.harness import SEGMENT, Harness, RawClient
from tests.cases import SyncCase
from tests.http.resources import Leaf, Operation, read_all


async def echo(request: StreamingRequest) -> Response:
    """
    Answer with the target and the body.
    """
    return Response(200, (), request.uri + b" " + await read_all(request.body))


async def ignore(request: StreamingRequest) -> Response:
    """
    Answer without a look at the body.
    """
    return Response(403, (), b"no")


def put(size: int | str, *lines: str, version: str = "1.1") -> bytes:
    """
    The head of an upload.
    """
    head = [f"PUT /k HTTP/{version}", "Host: a", f"Content-Length: {size}", *lines, "", ""]
    return "\r\n".join(head).encode()


GET = b"GET /k HTTP/1.1\r\nHost: a\r\n\r\n"


class ChannelCase(SyncCase):
    """
    A client in front of one operation.
    """

    def serve(self, operation: Operation, **options: Any) -> RawClient:
        """
        Open a connection.
        """
        self.leaf = Leaf(operation)
        self.harness = Harness(self.leaf, access_log=False, **options)
        return self.harness.connect()

    def bodies(self, client: RawClient) -> list[bytes]:
        """
        The bodies of the answers that came, checked against their ``Content-Length``.
        """
        taken, bodies = client.take(), []
        while taken:
            head, taken = taken.split(b"\r\n\r\n", 1)
            if head.startswith(b"HTTP/1.1 100"):
                bodies.append(b"100")
                continue
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(taken[:size])
            taken = taken[size:]
        return bodies


class OrderTests(ChannelCase):
    """
    Requests on one connection are answered one after the other.
    """

    def test_pipelined(self) -> None:
        """
        Requests sent at once are answered in their order.
        """
        client = self.serve(echo)
        client.send(GET + put(3) + b"abc" + GET.replace(b"/k", b"/l") + put(0))
        self.assertEqual(self.bodies(client), [b"/k ", b"/k abc", b"/l ", b"/k "])
        self.assertIsNone(client.lost)

    def test_one_at_a_time(self) -> None:
        """
        A request starts when the one before is answered, not earlier.
        """
        waits: list[Deferred[None]] = []

        async def wait(request: StreamingRequest) -> Response:
            waits.append(Deferred())
            await waits[-1]
            return Response(200, (), b"%d" % len(waits))

        client = self.serve(wait)
        client.send(GET * 3)
        self.assertEqual(len(waits), 1)
        for number in range(3):
            waits[number].callback(None)
        self.assertEqual(self.bodies(client), [b"1", b"2", b"3"])

    def test_byte_by_byte(self) -> None:
        """
        It does not matter how the bytes of a connection are cut.
        """
        client = self.serve(echo)
        chunked = b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for byte in GET + put(2) + b"ab" + chunked + b"1\r\nx\r\n0\r\n\r\n" + GET:
            client.send(bytes((byte,)))
        self.assertEqual(self.bodies(client), [b"/k ", b"/k ab", b"/c x", b"/k "])

    def test_waiting_requests_are_bounded(self) -> None:
        """
        A client cannot make the server hold any number of requests that wait.
        """

        async def never(request: StreamingRequest) -> Response:
            await Deferred()
            raise AssertionError("unreachable")

        client = self.serve(never)
        client.send(GET * 100_000)
        self.assertGreater(client.transport.waiting, len(GET) * 100_000 - 4 * SEGMENT)

    def test_answers_nobody_reads_are_bounded(self) -> None:
        """
        A client that does not read its answers gets no more of them.
        """
        client = self.serve(echo)
        client.hold()
        client.send(GET * 10_000)
        self.assertLess(len(self.leaf.requests), 3000)
        client.go_on()
        self.assertEqual(self.bodies(client), [b"/k "] * 10_000)

    def test_old_clients(self) -> None:
        """
        An HTTP/1.0 request is answered and the connection closed.
        """
        client = self.serve(echo)
        client.send(b"GET /k HTTP/1.0\r\n\r\n")
        self.assertEqual(self.bodies(client), [b"/k "])
        self.assertIsNotNone(client.lost)

    def test_close_on_demand(self) -> None:
        """
        ``Connection: close`` is honoured and said back.
        """
        client = self.serve(echo)
        client.send(put(1, "Connection: close") + b"a" + GET)
        self.assertIn(b"\r\nConnection: close\r\n", client.received)
        self.assertEqual(self.bodies(client), [b"/k a"])
        self.assertIsNotNone(client.lost)

    def test_raw_target(self) -> None:
        """
        The target reaches the operation as it was sent.
        """
        client = self.serve(echo)
        client.send(GET.replace(b"/k", b"//a%2Fb/./../%zz//?x=%20+&acl"))
        self.assertEqual(self.bodies(client), [b"//a%2Fb/./../%zz//?x=%20+&acl "])


class ContinueTests(ChannelCase):
    """
    ``100 Continue`` is said when the operation wants the body.
    """

    def test_wanted(self) -> None:
        """
        The first read of the body invites the client to send it.
        """
        client = self.serve(echo)
        client.send(put(3, "Expect: 100-continue"))
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abc" + put(3, "Expect: 100-continue") + b"def")
        self.assertEqual(self.bodies(client), [b"/k abc", b"/k def"])

    def test_refused(self) -> None:
        """
        A refusal costs the client nothing: no invitation, and the connection closes.
        """
        client = self.serve(ignore)
        client.send(put(3, "Expect: 100-continue"))
        self.assertIn(b"\r\nConnection: close\r\n", client.received)
        self.assertEqual(self.bodies(client), [b"no"])
        self.assertIsNotNone(client.lost)

    def test_nothing_to_send(self) -> None:
        """
        Without a body there is nothing to send, and the client is told to go on nevertheless: some
        are confused on their next request by a final answer where they expect this one.
        """
        client = self.serve(echo)
        for _ in range(2):
            client.send(put(0, "Expect: 100-continue"))
            self.assertEqual(self.bodies(client), [b"100", b"/k "])
        self.assertIsNone(client.lost)

    def test_old_client(self) -> None:
        """
        An HTTP/1.0 client is never told to continue.
        """
        client = self.serve(echo)
        client.send(put(1, "Expect: 100-continue", version="1.0"))
        self.assertEqual(client.take(), b"")


class FramingTests(ChannelCase):
    """
    What cannot be told apart for certain is refused, and the connection ends.
    """

    def test_smuggling(self) -> None:
        """
        Nothing after a doubtful request is served as another one.
        """
        for lines in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Content-Length: 0\r\nContent-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            b"Transfer-Encoding : chunked\r\n",
            b"Content-Length: 1\n",
            b"X: a\r\n Content-Length: 5\r\n",
        ):
            client = self.serve(echo)
            client.send(b"PUT /k HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n0\r\n\r\n" + GET)
            self.assertTrue(client.received.startswith(b"HTTP/1.1 400 Bad Request\r\n"), lines)
            self.assertEqual(client.received.count(b"HTTP/1.1"), 1, lines)
            self.assertIsNotNone(client.lost)
            self.assertEqual(self.leaf.requests, [])

    def test_broken_chunks(self) -> None:
        """
        A body whose chunks are broken is truncated, and nothing follows it.
        """
        client = self.serve(echo)
        client.send(b"PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"1\r\nab\r\n0\r\n\r\n" + GET)
        self.assertEqual(self.bodies(client), [b"BodyTruncated"])
        self.assertIsNotNone(client.lost)

    def test_words_of_the_front(self) -> None:
        """
        The front words the answer to what is no request; it has a request id of its own.
        """
        client = self.serve(
            echo, refusal=lambda error, name: Response(error.status, (("X-Id", name),), b"?")
        )
        client.send(b"GET / HTTP/1.1\r\nHost: " + b"a" * 70_000)
        self.assertTrue(client.received.startswith(b"HTTP/1.1 400 Bad Request\r\nServer: "))
        self.assertIn(b"\r\nX-Id: ", client.received)
        self.assertEqual(self.bodies(client), [b"?"])
        self.assertIsNotNone(client.lost)


class UnreadTests(ChannelCase):
    """
    What happens to a body that the operation does not read.
    """

    def test_short_rest(self) -> None:
        """
        A short rest is read over, and the connection lives on.
        """
        client = self.serve(ignore)
        client.send(put(1000) + b"a" * 400)
        self.assertEqual(self.bodies(client), [b"no"])
        client.send(b"a" * 600 + GET)
        self.assertEqual(self.bodies(client), [b"no"])
        self.assertIsNone(client.lost)

    def test_short_rest_that_does_not_come(self) -> None:
        """
        The rest has a few seconds to come.
        """
        client = self.serve(ignore)
        client.send(put(1000))
        self.harness.clock.pump([1.0] * 12)
        self.assertIsNotNone(client.lost)

    def test_long_rest(self) -> None:
        """
        A long rest is not worth it: the client is told, can read the answer, and is cut off.
        """
        client = self.serve(ignore)
        client.send(put(DRAIN_LIMIT * 3) + b"a" * DRAIN_LIMIT)
        self.assertIn(b"\r\nConnection: close\r\n", client.received)
        self.assertEqual(self.bodies(client), [b"no"])

    def test_long_rest_is_never_served(self) -> None:
        """
        Bytes of an unread body are never taken for a request.
        """
        client = self.serve(ignore)
        client.send(put(DRAIN_LIMIT * 3) + GET * 20)
        self.assertEqual(self.bodies(client), [b"no"])
        self.assertEqual(len(self.leaf.requests), 1)

    def test_errors_keep_the_connection(self) -> None:
        """
        After an error of a request that was read, the connection serves the next.
        """

        async def fail(request: StreamingRequest) -> Response:
            await read_all(request.body)
            return Response(404, (), b"none")

        client = self.serve(fail)
        for _ in range(3):
            client.send(put(5) + b"hello")
            self.assertEqual(self.bodies(client), [b"none"])
        self.assertIsNone(client.lost)


class BackPressureTests(ChannelCase):
    """
    The server holds a bounded part of a body.
    """

    def test_slow_operation(self) -> None:
        """
        While the operation does not read, at most some blocks are taken from the client.
        """
        go_on: list[Deferred[None]] = []

        async def slow(request: StreamingRequest) -> Response:
            total = 0
            while True:
                go_on.append(Deferred())
                await go_on[-1]
                block = await request.body.read()
                if not block:
                    return Response(200, (), b"%d" % total)
                total += len(block)

        client = self.serve(slow)
        size = 8 * BLOCK
        client.send(put(size) + b"a" * size)
        taken = [size - client.transport.waiting]
        while not client.received:
            go_on.pop().callback(None)
            taken.append(size - client.transport.waiting)
        self.assertEqual(self.bodies(client), [b"%d" % size])
        self.assertLessEqual(taken[0], HIGH_WATER + SEGMENT)
        for number, total in enumerate(taken[1:], 1):
            self.assertLessEqual(total, number * BLOCK + HIGH_WATER + SEGMENT)

    def test_blocks(self) -> None:
        """
        Blocks are as long as the limit allows, whatever the pieces in which they came.
        """
        sizes: list[int] = []

        async def measure(request: StreamingRequest) -> Response:
            while block := await request.body.read():
                sizes.append(len(block))
            return Response(204)

        client = self.serve(measure)
        client.send(put(2 * BLOCK + 5))
        for _ in range(2 * BLOCK // 1000 + 1):
            client.send(b"a" * 1000)
        self.assertEqual(sizes, [BLOCK, BLOCK, 5])

    def test_small_chunks(self) -> None:
        """
        A body of many small chunks takes little more memory than its bytes.
        """
        client = self.serve(echo)
        client.send(b"PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunks, count = b"2\r\nab\r\n" * 10_000, 20
        tracemalloc.start()
        try:
            for _ in range(count):
                client.send(chunks)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(held, 2 * count * 20_000)
        client.send(b"0\r\n\r\n")
        self.assertEqual(self.bodies(client), [b"/k " + b"ab" * 10_000 * count])

    def test_closed_body(self) -> None:
        """
        A long body that was given up is not taken from the client while the operation works.
        """

        async def give_up(request: StreamingRequest) -> Response:
            request.body.close()
            await Deferred()
            raise AssertionError("unreachable")

        client = self.serve(give_up)
        client.send(put(4 * BLOCK) + b"a" * 4 * BLOCK)
        self.assertGreater(client.transport.waiting, 3 * BLOCK)


class DeadlineTests(ChannelCase):
    """
    A connection that brings nothing is closed.
    """

    limits = Limits()

    def pass_time(self, seconds: float) -> None:
        """
        Let time pass second by second.
        """
        self.harness.clock.pump([1.0] * int(seconds))

    def test_idle(self) -> None:
        """
        A connection without requests is closed after a while.
        """
        client = self.serve(echo)
        client.send(GET)
        self.pass_time(self.limits.idle_time - 1)
        self.assertIsNone(client.lost)
        self.pass_time(2)
        self.assertIsNotNone(client.lost)

    def test_dripping_head(self) -> None:
        """
        A head must be complete in time, however steadily it drips.
        """
        client = self.serve(echo)
        for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 100:
            client.send(bytes((byte,)))
            self.pass_time(2)
            if client.lost is not None:
                break
        self.assertIsNotNone(client.lost)
        self.assertLessEqual(self.harness.clock.seconds(), self.limits.head_time + 2)

    def test_dripping_body(self) -> None:
        """
        A body that drips ends with an error, and the connection with it.
        """
        client = self.serve(echo)
        client.send(put(1000))
        for _ in range(40):
            client.send(b"a")
            self.pass_time(2)
        self.assertEqual(self.bodies(client), [b"BodyTimeout"])
        self.assertIsNotNone(client.lost)

    def test_slow_body(self) -> None:
        """
        A body that makes progress may take long.
        """
        client = self.serve(echo)
        client.send(put(20 * 6000))
        for _ in range(20):
            self.pass_time(50)
            client.send(b"a" * 6000)
        self.assertEqual(len(self.bodies(client)[0]), 20 * 6000 + 3)

    def test_slow_operation(self) -> None:
        """
        An operation may take as long as it needs.
        """
        done: Deferred[None] = Deferred()

        async def wait(request: StreamingRequest) -> Response:
            await read_all(request.body)
            await done
            return Response(200, (), b"done")

        client = self.serve(wait)
        client.send(put(1) + b"a")
        self.pass_time(1000)
        done.callback(None)
        self.assertEqual(self.bodies(client), [b"done"])

    def test_client_that_does_not_read(self) -> None:
        """
        An answer that nobody takes ends with the connection.
        """

        async def large(request: StreamingRequest) -> Response:
            return Response(200, (), bytes(BLOCK))

        client = self.serve(large)
        client.hold()
        client.send(GET)
        self.pass_time(self.limits.send_time - 2)
        self.assertIsNone(client.lost)
        self.pass_time(4)
        self.assertIsNotNone(client.lost)

    def test_no_timer_left(self) -> None:
        """
        A connection that is gone leaves no timer behind.
        """
        client = self.serve(echo)
        client.send(put(3))
        client.go_away()
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])


class AnyInputTests(ChannelCase):
    """
    No input breaks the channel.
    """

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_damaged_requests(self, data: st.DataObject) -> None:
        """
        Whatever arrives, in whatever pieces: every answer is complete, and nothing is logged.
        """
        chunked = b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        parts = [GET, put(3) + b"abc", put(9, "Expect: 100-continue"), chunked, b"3\r\nabc\r\n"]
        junk = st.one_of(st.sampled_from([*parts, b"0\r\n\r\n", b"\r\n"]), st.binary(max_size=9))
        wire = bytearray(b"".join(data.draw(st.lists(junk, max_size=6))))
        for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)))):
            wire[at : at + 1] = bytes((byte,))
        client = self.serve(data.draw(st.sampled_from([echo, ignore])))
        step = data.draw(st.integers(1, 400))
        for at in range(0, len(wire), step):
            client.send(bytes(wire[at : at + step]))
        self.harness.clock.pump([1.0] * 700)
        self.assertIsNotNone(client.lost)
        self.bodies(client)
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.site`` and what it does for stock resources.
"""

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.static import Data

from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.testing.harness import Harness
from tests.cases import SyncCase
from tests.http.resources import Leaf, read_all


class Session(Resource):
    """
    A stock resource that looks at query and cookies.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """
        Called by Twisted.
        """
        request.setResponseCode(202)
        return request.args[b"q"][0] + b" " + (request.getCookie(b"id") or b"")


class SiteTests(SyncCase):
    """
    A tree of stock resources, with a streaming one among them.
    """

    def setUp(self) -> None:
        """
        Plant the tree.
        """

        async def echo(request: StreamingRequest) -> Response:
            return Response(200, (), b"%b %b" % (request.uri, await read_all(request.body)))

        root = Resource()
        root.putChild(b"page", Data(b"a page", "text/plain"))
        root.putChild(b"session", Session())
        root.putChild(b"stream", Leaf(echo))
        self.harness = Harness(root, server="Test", access_log=False)

    def test_stock_resource(self) -> None:
        """
        A stock resource answers with the same standing headers.
        """
        answer = self.successResultOf(self.harness.request("GET", "/page"))
        self.assertEqual((answer.status, answer.body), (200, b"a page"))
        self.assertEqual(answer.header("Server"), "Test")
        self.assertEqual(answer.header("Content-Type"), "text/plain")
        self.assertIsNotNone(answer.header("Date"))

    def test_query_and_cookies(self) -> None:
        """
        A stock resource finds the query and the cookies.
        """
        answer = self.successResultOf(
            self.harness.request("GET", "/session?q=a%20b", (("Cookie", "id=7"),))
        )
        self.assertEqual((answer.status, answer.body), (202, b"a b 7"))

    def test_streaming_resource(self) -> None:
        """
        A streaming resource below the root gets its body.
        """
        answer = self.successResultOf(self.harness.request("PUT", "/stream//x", (), b"abc"))
        self.assertEqual(answer.body, b"/stream//x abc")

    def test_no_secrets(self) -> None:
        """
        What a request looks like in a log tells neither its query nor its headers.
        """
        seen = []

        async def remember(request: StreamingRequest) -> Response:
            seen.append(f"{request!r} {request.head!r}")
            return Response(200, (), request.request_id.encode())

        harness = Harness(Leaf(remember), access_log=False)
        sent = harness.request("GET", "/k?X-Amz-Signature=secret", (("Authorization", "secret"),))
        answer = self.successResultOf(sent)
        self.assertIn(answer.body.decode(), seen[0])
        self.assertNotIn("secret", seen[0])

    def test_unknown_resource(self) -> None:
        """
        What is not in the tree is not found, and the connection lives on.
        """
        client = self.harness.connect()
        for _ in range(2):
            client.send(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(client.take().startswith(b"HTTP/1.1 404 Not Found\r\n"))

    def test_only_one_protocol(self) -> None:
        """
        Over TLS nothing but HTTP/1.1 is offered.
        """
        self.assertEqual(self.harness.site.acceptableProtocols(), [b"http/1.1"])


class DrainTests(SyncCase):
    """
    A site that is asked to end.
    """

    def setUp(self) -> None:
        """
        Serve something that answers when the test says so.
        """
        self.ready: Deferred[None] = Deferred()

        async def wait(_request: StreamingRequest) -> Response:
            await self.ready
            return Response(200, (), b"at last")

        self.harness = Harness(Leaf(wait), access_log=False)
        self.site = self.harness.site

    def test_nothing(self) -> None:
        """
        Without connections it ends at once.
        """
        self.successResultOf(Deferred.fromCoroutine(self.site.drain(5.0)))

    def test_idle(self) -> None:
        """
        A connection without a request, or with the beginning of one, is closed after a moment.
        """
        idle, slow = self.harness.connect(), self.harness.connect()
        slow.send(b"GET /")
        drained = Deferred.fromCoroutine(self.site.drain(5.0))
        self.assertNoResult(drained)
        slow.send(b" HTTP")
        self.harness.clock.advance(0.3)
        self.successResultOf(drained)
        self.assertTrue(idle.lost)
        self.assertTrue(slow.lost)

    def test_on_its_way(self) -> None:
        """
        A request that was sent before the client could know is answered, and is the last.
        """
        client = self.harness.connect()
        drained = Deferred.fromCoroutine(self.site.drain(5.0))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.harness.clock.advance(1.0)
        self.assertNoResult(drained)
        self.ready.callback(None)
        received = client.take()
        self.assertEqual(received.count(b"at last"), 1)
        self.assertIn(b"Connection: close", received)
        self.successResultOf(drained)

    def test_under_way(self) -> None:
        """
        A request that is under way gets its answer, and the next one on its connection none.
        """
        client = self.harness.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        drained = Deferred.fromCoroutine(self.site.drain(5.0))
        self.assertNoResult(drained)
        self.ready.callback(None)
        received = client.take()
        self.assertEqual(received.count(b"at last"), 1)
        self.assertIn(b"Connection: close", received)
        self.successResultOf(drained)
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])

    def test_too_slow(self) -> None:
        """
        A request that takes longer than the grace time is cut.
        """
        client = self.harness.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        drained = Deferred.fromCoroutine(self.site.drain(5.0))
        self.harness.clock.advance(4.9)
        self.assertNoResult(drained)
        self.harness.clock.advance(0.2)
        self.successResultOf(drained)
        self.assertTrue(client.lost)

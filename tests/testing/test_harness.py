# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.testing.harness``.
"""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.web.client import ResponseFailed
from zope.interface.verify import verifyObject

from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.testing.harness import SEND_BUFFER, Harness
from tests.cases import SyncCase
from tests.http.resources import Blocks, Leaf, Script, read_all


async def echo(request: StreamingRequest) -> Response:
    """
    Answer with the target and the body.
    """
    return Response(200, (("X-A", "b"),), request.uri + b" " + await read_all(request.body))


class HarnessTests(SyncCase):
    """
    A client in memory sees what a client over TCP sees.
    """

    def test_request(self) -> None:
        """
        An answer is there when ``request`` returns; its headers include those of the framing.
        """
        answer = self.successResultOf(Harness(Leaf(echo)).request("PUT", "//a%2F?b", (), b"abc"))
        self.assertEqual((answer.status, answer.body), (200, b"//a%2F?b abc"))
        self.assertEqual((answer.header("x-a"), answer.header("Content-Length")), ("b", "12"))

    def test_continue(self) -> None:
        """
        The interim answer is not taken for the final one.
        """
        expect = (("Expect", "100-continue"),)
        answer = self.successResultOf(Harness(Leaf(echo)).request("PUT", "/a", expect, b"abc"))
        self.assertEqual((answer.status, answer.header("Content-Length")), (200, "6"))

    def test_head(self) -> None:
        """
        The length that ``HEAD`` tells can be seen.
        """
        answer = self.successResultOf(Harness(Leaf(echo)).request("HEAD", "/a"))
        self.assertEqual((answer.body, answer.header("Content-Length")), (b"", "3"))

    def test_cut(self) -> None:
        """
        An answer that is cut fails.
        """
        later: Deferred[bytes] = Deferred()

        async def cut(request: StreamingRequest) -> Response:
            return Response(200, (), Blocks(6, Script([b"abc", later])))

        asked = Harness(Leaf(cut)).request("GET", "/")
        later.errback(ZeroDivisionError())
        self.failureResultOf(asked, ResponseFailed)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_slow_client(self) -> None:
        """
        While a client does not read, bytes wait at the server, which is told to pause.
        """
        client = Harness(Leaf(echo)).connect()
        transport = client.transport.peer
        for interface in (ITCPTransport, IConsumer, IPushProducer):
            verifyObject(interface, transport)
        client.hold()
        for _ in range(2000):
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertGreater(transport.waiting, SEND_BUFFER)
        self.assertLess(transport.waiting, 2 * SEND_BUFFER)
        client.go_on()
        self.assertEqual(client.take().count(b"HTTP/1.1 200 OK"), 2000)

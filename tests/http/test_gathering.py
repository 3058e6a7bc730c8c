# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.gathering``, with the connections of a port.
"""

import socket

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from kypello.http import gathering
from kypello.http.port import InheritedEndpoint, StreamingPort, open_socket
from kypello.http.transport import StreamingTransport
from tests.cases import SyncCase
from tests.integration.tools import free_port


class GatheringTests(SyncCase):
    """
    Six connections to one port.
    """

    def setUp(self) -> None:
        """
        Connect, and have each answer once.
        """
        listening = open_socket("127.0.0.1", free_port())
        self.addCleanup(listening.close)
        self.reactor = MemoryReactorClock()
        protocols: list[Protocol] = []
        factory = Factory.forProtocol(Protocol)

        def build(_address: object) -> Protocol:
            """
            Note who has connected.
            """
            protocols.append(Protocol())
            return protocols[-1]

        factory.buildProtocol = build  # type: ignore[method-assign]
        endpoint = InheritedEndpoint(self.reactor, listening.fileno())
        port: IListeningPort = self.successResultOf(endpoint.listen(factory))
        assert isinstance(port, StreamingPort)
        self.addCleanup(port.connectionLost, None)
        self.clients = [socket.create_connection(listening.getsockname(), 20) for _ in range(6)]
        for client in self.clients:
            self.addCleanup(client.close)
            client.setblocking(False)
        while len(protocols) < len(self.clients):
            port.doRead()
        self.transports: list[StreamingTransport] = []
        for number, protocol in enumerate(protocols):
            made = protocol.transport
            assert isinstance(made, StreamingTransport)
            self.transports.append(made)
            self.addCleanup(self.close, made)
            made.write_soon(b"first")
            self.assertEqual(self.received(number), b"first")

    def close(self, made: StreamingTransport) -> None:
        """
        End a connection that is not over.
        """
        if made.connected:
            made.connectionLost(Failure(ConnectionDone()))

    def received(self, number: int) -> bytes | None:
        """
        What has come for a client; ``None`` for nothing.
        """
        # The order of those who accept is that of those who connect.
        try:
            return self.clients[number].recv(1000)
        except BlockingIOError:
            return None

    def test_together(self) -> None:
        """
        Answers of many connections go out at the end of a turn of the reactor.
        """
        for made in self.transports:
            made.write_soon(b"head")
            made.write(b"tail")
        self.assertEqual([self.received(number) for number in range(6)], [None] * 6)
        self.reactor.advance(0)
        self.assertEqual([self.received(number) for number in range(6)], [b"headtail"] * 6)

    def test_few(self) -> None:
        """
        Where few connections have answers, none of them waits.
        """
        one, other = self.transports[:2]
        one.write_soon(b"late")
        self.reactor.advance(0)
        self.assertEqual(self.received(0), b"late")
        other.write_soon(b"late")
        self.reactor.advance(0)
        self.assertEqual(self.received(1), b"late")
        for _ in range(3):
            one.write_soon(b"one")
            self.assertEqual(self.received(0), b"one")
            other.write_soon(b"other")
            self.assertEqual(self.received(1), b"other")

    def test_not_for_long(self) -> None:
        """
        Who has waited for others as long as may be is sent, with those that have come.
        """
        self.transports[0].write_soon(b"a")
        self.assertIsNone(self.received(0))
        self.patch(gathering, "_MOMENT", -1.0)
        self.transports[1].write_soon(b"b")
        self.assertEqual([self.received(0), self.received(1)], [b"a", b"b"])
        self.reactor.advance(0)
        self.assertIsNone(self.received(0))

    def test_over_meanwhile(self) -> None:
        """
        A connection that is to end is sent its answer first; of one that is lost nothing is left.
        """
        for made in self.transports:
            made.write_soon(b"last")
        self.transports[0].loseConnection()
        self.transports[1].connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)
        self.assertEqual(self.received(0), b"last")
        self.assertEqual(self.received(1), b"")
        self.assertEqual(self.received(2), b"last")
        self.assertIsNotNone(self.transports[0].doWrite())

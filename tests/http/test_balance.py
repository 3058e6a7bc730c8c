# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.balance``, and for the port that heeds it.
"""

import os
import socket

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from kypello.http.balance import Balance, shared_counts
from kypello.http.port import InheritedEndpoint, StreamingPort, open_socket
from tests.cases import SyncCase


class BalanceCase(SyncCase):
    """
    A test with counts of three processes.
    """

    def setUp(self) -> None:
        """
        Nobody accepts yet.
        """
        descriptor = shared_counts(3)
        self.addCleanup(os.close, descriptor)
        self.processes = [Balance(number, 3, descriptor) for number in range(3)]

    def turns(self, *counts: int) -> list[bool]:
        """
        Whose turn it is with so many connections.
        """
        for process, count in zip(self.processes, counts, strict=True):
            process.tell(count)
        return [process.turn for process in self.processes]


class BalanceTests(BalanceCase):
    """
    Whose turn it is.
    """

    def test_fewest(self) -> None:
        """
        It is the turn of those who have the fewest, or hardly more when all have many.
        """
        self.assertEqual(self.turns(0, 0, 0), [True, True, True])
        self.assertEqual(self.turns(1, 0, 1), [False, True, False])
        self.assertEqual(self.turns(7, 8, 7), [True, False, True])
        self.assertEqual(self.turns(80, 90, 91), [True, True, False])

    def test_away(self) -> None:
        """
        Who accepts nothing is not waited for.
        """
        self.processes[0].tell(5)
        self.assertTrue(self.processes[0].turn)
        self.assertEqual(self.turns(5, 0, 0), [False, True, True])
        self.processes[2].away(1)
        self.processes[0].away(2)
        self.assertTrue(self.processes[0].turn)


class PortTests(BalanceCase):
    """
    A port among others on the same socket.
    """

    def setUp(self) -> None:
        """
        Accept as process 0, which has a connection more than the others.
        """
        super().setUp()
        self.turns(1, 0, 0)
        listening = open_socket("127.0.0.1", 0)
        self.addCleanup(listening.close)
        self.address = listening.getsockname()
        self.reactor = MemoryReactorClock()
        self.accepted: list[Protocol] = []
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = self.build  # type: ignore[method-assign]
        endpoint = InheritedEndpoint(self.reactor, listening.fileno(), self.processes[0])
        port: IListeningPort = self.successResultOf(endpoint.listen(factory))
        assert isinstance(port, StreamingPort)
        self.port = port
        self.addCleanup(lambda: port.connected and port.connectionLost(None))

    def build(self, address: object) -> Protocol:
        """
        Note a connection, and count it.
        """
        self.accepted.append(Protocol())
        self.processes[0].tell(1 + len(self.accepted))
        return self.accepted[-1]

    def connect(self) -> socket.socket:
        """
        A client.
        """
        client = socket.create_connection(self.address, 5)
        self.addCleanup(client.close)
        return client

    def test_left_to_others(self) -> None:
        """
        A newcomer is left to the others for a moment, during which the port is not looked at,
        and accepted when they do not take him.
        """
        self.connect()
        self.port.doRead()
        self.assertEqual(self.accepted, [])
        self.assertNotIn(self.port, self.reactor.getReaders())
        self.reactor.advance(1)
        self.assertIn(self.port, self.reactor.getReaders())
        self.port.doRead()
        self.assertEqual(len(self.accepted), 1)

    def test_one_at_a_time(self) -> None:
        """
        Of several only one is accepted before it is asked again whose turn it is.
        """
        self.turns(0, 1, 1)
        for _ in range(3):
            self.connect()
        self.port.doRead()
        self.assertEqual(len(self.accepted), 1)
        self.port.doRead()
        self.assertEqual(len(self.accepted), 1)

    def test_closed_meanwhile(self) -> None:
        """
        A port that is closed while it waits stays closed.
        """
        self.connect()
        self.port.doRead()
        self.port.stopListening()
        self.reactor.advance(1)
        self.assertNotIn(self.port, self.reactor.getReaders())

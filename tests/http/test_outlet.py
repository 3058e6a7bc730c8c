# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.outlet``, and for connections that send through it.
"""

import socket
from collections.abc import Callable
from queue import Queue
from threading import enumerate as all_threads
from typing import Any

from attrs import define
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.http import outlet
from kypello.http.outlet import Outlet, Passage
from kypello.http.port import InheritedEndpoint, StreamingPort, open_socket
from kypello.http.transport import StreamingTransport
from tests.cases import SyncCase
from tests.integration.tools import free_port

_MIB = 1 << 20
_BLOCK = bytes(range(256)) * 4096


class HeldCalls:
    """
    A reactor that makes the calls of other threads when it is told to.
    """

    def __init__(self) -> None:
        """
        There are none yet.
        """
        self._calls: Queue[Callable[[], object]] = Queue()

    def callFromThread(self, call: Callable[[], object]) -> None:
        """
        Called in a thread.
        """
        self._calls.put(call)

    def one(self) -> None:
        """
        Wait for a call, and make it.
        """
        self._calls.get(timeout=20)()


class OutletCase(SyncCase):
    """
    A test with an outlet.
    """

    def setUp(self) -> None:
        """
        It is idle.
        """
        self.calls: Any = HeldCalls()
        self.outlet = Outlet(self.calls)
        self.addCleanup(self.outlet.close)


class OutletTests(OutletCase):
    """
    Who may use it, and what becomes of what it is given.
    """

    def setUp(self) -> None:
        """
        Two connections.
        """
        super().setUp()
        self.collected: list[int] = []
        self.one, self.peer = self.passage()
        self.other, _ = self.passage()

    def passage(self) -> tuple[Passage, socket.socket]:
        """
        A connection, and its other end.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            self.addCleanup(end.close)
        ours.setblocking(False)
        theirs.settimeout(20)
        made = Passage(self.outlet, ours, lambda: self.collected.append(made.collect()))
        return made, theirs

    def test_alone(self) -> None:
        """
        It is for the one connection that writes much, and for none as soon as another does, or
        when the kernel does not take what it is given.
        """
        run = [False] * 7 + [True] * 2
        self.assertEqual([self.one.open() for _ in run], run)
        self.assertFalse(self.other.open())
        self.assertEqual([self.one.open() for _ in run], [False, *run[:-1]])
        self.one.slow()
        self.assertEqual([self.one.open() for _ in run], run)

    def test_one_at_a_time(self) -> None:
        """
        As long as something of one is away, it is not for another.
        """
        self.patch(outlet, "_RUN", 0)
        self.assertTrue(self.one.open())
        self.one.give(memoryview(b"a"))
        self.assertFalse(self.other.open())
        self.calls.one()
        self.assertTrue(self.other.open())

    def test_in_order(self) -> None:
        """
        Blocks are sent in the order in which they were given.
        """
        for number in range(10):
            self.one.give(memoryview(b"%d" % number))
        while self.one.away:
            self.calls.one()
        self.assertEqual(sum(self.collected), 10)
        self.assertEqual(self.peer.recv(100), b"0123456789")

    def test_stuck(self) -> None:
        """
        When the kernel takes no more, nothing that follows overtakes what is left.
        """
        taken = 0
        for _ in range(3):
            self.one.give(memoryview(_BLOCK))
        while self.one.away:
            self.assertFalse(self.collected and self.one.open())
            self.calls.one()
        sent = sum(self.collected)
        self.assertTrue(0 < sent < len(_BLOCK))
        while taken < sent:
            piece = self.peer.recv(_MIB)
            self.assertEqual(piece, _BLOCK[taken : taken + len(piece)])
            taken += len(piece)
        self.one.give(memoryview(b"next"))
        self.calls.one()
        self.assertEqual(self.peer.recv(_MIB), b"next")

    def test_broken(self) -> None:
        """
        An error of the connection is left to who sends what was not sent; the thread goes on.
        """
        self.peer.close()
        self.one.give(memoryview(b"a"))
        self.calls.one()
        self.assertEqual(self.collected, [0])
        self.other.give(memoryview(b"b"))
        self.calls.one()
        self.assertEqual(self.collected, [0, 1])

    def test_closed(self) -> None:
        """
        The thread ends when it has sent what it was given, and begins again.
        """
        self.one.give(memoryview(b"a"))
        self.outlet.close()
        self.assertEqual(self.peer.recv(10), b"a")
        self.assertNotIn("kypello-outlet", [thread.name for thread in all_threads()])
        self.one.give(memoryview(b"b"))
        self.assertEqual(self.peer.recv(10), b"b")


class Noted(Protocol):
    """
    A protocol that notes how its connection ended.
    """

    lost: Failure | None = None

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """
        Called by the transport.
        """
        self.lost = reason


@implementer(IPushProducer)
@define
class Producer:
    """
    A producer that notes what it is told.
    """

    told: list[str]

    def pauseProducing(self) -> None:
        """
        Called by the transport.
        """
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """
        Called by the transport.
        """
        self.told.append("resume")

    def stopProducing(self) -> None:
        """
        Called by the transport.
        """
        self.told.append("stop")


class TransportTests(OutletCase):
    """
    A connection whose large writes all go through the outlet.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        super().setUp()
        self.patch(outlet, "_RUN", 0)
        listening = open_socket("127.0.0.1", free_port())
        self.addCleanup(listening.close)
        self.reactor = MemoryReactorClock()
        self.protocol = Noted()
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = lambda _: self.protocol  # type: ignore[method-assign]
        endpoint = InheritedEndpoint(self.reactor, listening.fileno(), None, self.outlet)
        port: IListeningPort = self.successResultOf(endpoint.listen(factory))
        assert isinstance(port, StreamingPort)
        self.addCleanup(port.connectionLost, None)
        self.client = socket.create_connection(listening.getsockname(), 20)
        self.addCleanup(self.client.close)
        port.doRead()
        transport = self.protocol.transport
        assert isinstance(transport, StreamingTransport)
        self.transport = transport
        self.addCleanup(self.close)

    def close(self) -> None:
        """
        End the connection, unless it is over.
        """
        if self.protocol.lost is None:
            self.transport.connectionLost(Failure(ConnectionDone()))
        while self.protocol.lost is None:
            self.calls.one()

    def receive(self, size: int) -> bytes:
        """
        What the client gets, up to *size* bytes; the server sends meanwhile.
        """
        received = bytearray()
        while len(received) < size:
            if self.transport in self.reactor.getWriters():
                self.turn()
            self.client.setblocking(False)
            try:
                piece = self.client.recv(_MIB)
            except BlockingIOError:
                continue
            if not piece:
                break
            received += piece
        return bytes(received)

    def turn(self) -> None:
        """
        Have the transport write, as a reactor does.
        """
        reason = self.transport.doWrite()
        if reason is not None:
            self.transport.connectionLost(Failure(reason))

    def test_all_arrives(self) -> None:
        """
        What the kernel does not take at once is sent later, before what was written meanwhile.
        """
        self.transport.writeSequence((b"head", _BLOCK))
        self.transport.write(_BLOCK * 4)
        self.transport.write(b"tail")
        self.assertNotIn(self.transport, self.reactor.getWriters())
        self.calls.one()
        self.assertEqual(self.receive(5 * _MIB + 8), b"head" + _BLOCK * 5 + b"tail")

    def test_closed_when_sent(self) -> None:
        """
        A connection that is to be closed is, when everything was sent.
        """
        self.transport.write(_BLOCK)
        self.transport.loseConnection()
        self.turn()
        self.assertIsNone(self.protocol.lost)
        self.calls.one()
        self.assertEqual(self.receive(2 * _MIB), _BLOCK)
        assert self.protocol.lost is not None
        self.protocol.lost.trap(ConnectionDone)

    def test_lost_meanwhile(self) -> None:
        """
        A connection that ends while the thread may be sending keeps its descriptor until that has
        told of it; the protocol hears of the end once, and nothing more is sent.
        """
        self.transport.write(_BLOCK)
        self.transport.connectionLost(Failure(ConnectionDone()))
        self.transport.write(_BLOCK)
        self.assertIsNone(self.protocol.lost)
        self.assertGreaterEqual(self.transport.fileno(), 0)
        self.assertNotIn(self.transport, self.reactor.getReaders())
        self.calls.one()
        assert self.protocol.lost is not None
        self.protocol.lost.trap(ConnectionDone)
        self.assertEqual(_BLOCK[: len(got := self.receive(2 * _MIB))], got)

    def test_aborted_meanwhile(self) -> None:
        """
        So it is with one that is aborted.
        """
        self.transport.write(_BLOCK)
        self.transport.abortConnection()
        self.reactor.advance(0)
        self.assertIsNone(self.protocol.lost)
        self.calls.one()
        self.assertIsNotNone(self.protocol.lost)

    def test_producer(self) -> None:
        """
        A producer works ahead by some blocks, pauses, and is resumed when they are sent.
        """
        told: list[str] = []
        producer = Producer(told)
        self.transport.registerProducer(producer, True)
        for _ in range(3):
            self.transport.write(_BLOCK)
        self.assertEqual(told, [])
        self.transport.write(_BLOCK)
        self.assertEqual(told, ["pause"])
        while self.transport not in self.reactor.getWriters() and told == ["pause"]:
            self.calls.one()
        self.assertEqual(self.receive(4 * _MIB), _BLOCK * 4)
        self.assertEqual(told, ["pause", "resume"])

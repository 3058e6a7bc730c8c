# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A real HTTP client and our real site, joined in memory.

The joint delivers bytes as soon as they are written and needs neither pumping nor a reactor, so
that tests in one thread see every answer at once, and tests with real worker threads see it when
it comes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from twisted.web.resource import IResource
from zope.interface import implementer

from kypello.http.site import StreamingSite

#: A transport pauses its producer when more bytes than this wait for the peer, as TCP does.
SEND_BUFFER = 64 * 1024

#: How many bytes are received at once.
SEGMENT = 64 * 1024

#: How much of what a client receives is kept to find the head of the answer in.
_HEAD = 64 * 1024


@define(eq=False)
class Wire:
    """
    What moves bytes between the two ends of a connection.

    No end is called while it, or its peer, is at work, just as a reactor would not.

    :ivar ends: The two ends.
    """

    ends: tuple["MemoryTransport", ...] = ()
    _busy: bool = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """
        Move nothing before the work in the block is done.
        """
        if self._busy:
            yield
            return
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self.run()

    def run(self) -> None:
        """
        Move bytes until both ends have, or take, no more.
        """
        if not self._busy:
            self._busy = True
            try:
                while any(end.step() for end in self.ends):
                    pass
            finally:
                self._busy = False


@implementer(ITCPTransport, IPushProducer, IConsumer)
@define(eq=False)
class MemoryTransport:
    """
    One end of a connection in memory.

    Bytes wait at the sender while the receiver is paused.

    :ivar protocol: Who uses this end.
    :ivar peer: The other end.
    :ivar reading: Whether this end takes bytes.
    :ivar reason: Why the connection was lost; ``None`` while it lives.
    :ivar first: The first bytes that this end has received.
    """

    protocol: IProtocol
    address: IPv4Address
    wire: Wire
    peer: "MemoryTransport" = field(init=False)
    reading: bool = True
    reason: Failure | None = None
    first: bytes = b""
    disconnecting: bool = False
    _waiting: bytearray = field(factory=bytearray)
    _end: bool = False
    _abort: bool = False
    _producer: Any = None
    _throttled: bool = False

    @property
    def waiting(self) -> int:
        """
        How many bytes were written here and have not been delivered.
        """
        return len(self._waiting)

    def write(self, data: bytes) -> None:
        """
        Send bytes.
        """
        if self.reason is None and not self._end and data:
            self._waiting += data
            if self._producer is not None and self.waiting > SEND_BUFFER:
                self._throttled = True
                self._producer.pauseProducing()
            self.wire.run()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """
        Send bytes.
        """
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """
        Send what waits, then the end of the stream.
        """
        self._end = True
        self.wire.run()

    def loseConnection(self) -> None:
        """
        Send what waits, then close.
        """
        if not self.disconnecting:
            self.disconnecting = True
            self.reading = False
            self._end = True
            self.wire.run()

    def abortConnection(self) -> None:
        """
        Close at once.
        """
        self.disconnecting = True
        self._abort = True
        self.wire.run()

    def step(self) -> bool:
        """
        Move one piece to the peer; tell whether anything happened.
        """
        if self.reason is not None:
            return False
        if self._abort:
            self.lose(Failure(ConnectionAborted()))
        elif self._waiting and self.peer.reading:
            data = bytes(self._waiting[:SEGMENT])
            del self._waiting[:SEGMENT]
            self.peer.first += data[: _HEAD - len(self.peer.first)]
            self.peer.protocol.dataReceived(data)
        elif self._throttled and not self._waiting:
            self._throttled = False
            if self._producer is not None:
                self._producer.resumeProducing()
        elif self._end and not self._waiting and (self.disconnecting or self.peer.reading):
            # No protocol here can use a connection that is half closed: the end of one
            # direction ends both, as over TCP.
            self.lose(Failure(ConnectionDone()))
        else:
            return False
        return True

    def lose(self, reason: Failure) -> None:
        """
        End the connection at both ends.
        """
        for end in self.wire.ends:
            end.reason = reason
            if end._producer is not None:
                end._producer.stopProducing()
            end.protocol.connectionLost(reason)

    def resumeProducing(self) -> None:
        """
        Take bytes again.
        """
        if not self.disconnecting:
            self.reading = True
            self.wire.run()

    def pauseProducing(self) -> None:
        """
        Take no bytes for now.
        """
        self.reading = False

    def stopProducing(self) -> None:
        """
        Close.
        """
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Pause *producer* when the peer does not keep up.
        """
        assert streaming and self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        """
        Pause nobody any longer.
        """
        self._producer = None

    def getPeer(self) -> IPv4Address:
        """
        The address of the other end.
        """
        return self.peer.address

    def getHost(self) -> IPv4Address:
        """
        The address of this end.
        """
        return self.address

    def getTcpNoDelay(self) -> bool:
        """
        Nothing is ever delayed.
        """
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Nothing is ever delayed.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        The connection never dies by itself.
        """
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        The connection never dies by itself.
        """


class RawClient(Protocol):
    """
    A client that sends bytes and keeps what comes back.

    :ivar received: All bytes that came, without those that were taken.
    :ivar lost: Why the connection ended; ``None`` while it lives.
    """

    transport: MemoryTransport

    def __init__(self) -> None:
        """
        Wait for a connection.
        """
        self.received = b""
        self.lost: Failure | None = None

    def send(self, data: bytes) -> None:
        """
        Send bytes as one piece.
        """
        self.transport.write(data)

    def take(self) -> bytes:
        """
        Give what came since the last call.
        """
        taken, self.received = self.received, b""
        return taken

    def hold(self) -> None:
        """
        Stop reading, as a slow client does.
        """
        self.transport.pauseProducing()

    def go_on(self) -> None:
        """
        Read again.
        """
        self.transport.resumeProducing()

    def go_away(self) -> None:
        """
        Disappear.
        """
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """
        Called by the transport.
        """
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called by the transport.
        """
        self.lost = reason


def join(client: IProtocol, server: IProtocol, wire: Wire) -> None:
    """
    Connect two protocols.
    """
    ours = MemoryTransport(server, IPv4Address("TCP", "192.0.2.1", 9000), wire)
    theirs = MemoryTransport(client, IPv4Address("TCP", "198.51.100.7", 40000), wire)
    ours.peer, theirs.peer = theirs, ours
    wire.ends = (theirs, ours)
    server.makeConnection(ours)
    client.makeConnection(theirs)


@frozen
class Answer:
    """
    What the client saw.
    """

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """
        The last value of a header.
        """
        values = self.headers.getRawHeaders(name)
        return values[-1] if values else None


class Harness:
    """
    Clients in front of a site.

    :ivar clock: The site's time.
    :ivar site: The real site.
    """

    def __init__(self, resource: IResource, **options: Any) -> None:
        """
        Serve *resource*.

        :param options: For :class:`StreamingSite`.
        """
        self.clock = Clock()
        self.site = StreamingSite(resource, self.clock, **options)

    def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> "Deferred[Answer]":
        """
        Send a request over a connection of its own, with a real client.

        :param target: Path and query as they are to be sent, percent-encoded.
        :return: Has fired already when the operation waits for nothing outside of the test.
        """
        sent = Headers()
        for name, value in headers:
            sent.addRawHeader(name.encode("ascii"), value.encode("latin-1"))
        wire = Wire()
        agent = _Agent.usingEndpointFactory(self.clock, _Endpoint(self.site, wire))
        with wire.held():
            response: Deferred[IResponse] = agent.request(
                method.encode("ascii"),
                b"http://kypello.test" + target.encode("ascii"),
                sent,
                None if body is None else _BytesProducer(body),
            )
            return response.addCallback(_Collector.collect, wire)

    def agent(self) -> IAgent:
        """
        A real client, for what speaks through one.  A request waits for nothing outside of the
        test, as those of :meth:`request`.
        """
        return _ShortAgent(self.clock, self.site)

    def connect(self) -> RawClient:
        """
        Open a connection that speaks whatever bytes the test sends.
        """
        client = RawClient()
        join(client, _built(self.site), Wire())
        return client


class _Collector(Protocol):
    """
    Waits for the end of a response.
    """

    def __init__(self, response: IResponse, wire: Wire) -> None:
        """
        Wait for the body of *response*.
        """
        self._response = response
        self._wire = wire
        self._body = b""
        self.answer: Deferred[Answer] = Deferred()

    @classmethod
    def collect(cls, response: IResponse, wire: Wire) -> "Deferred[Answer]":
        """
        Wait for all of a response; fails when it is cut.
        """
        collector = cls(response, wire)
        response.deliverBody(collector)
        return collector.answer

    def dataReceived(self, data: bytes) -> None:
        """
        Called by the response.
        """
        self._body += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called by the response when it is over.
        """
        if reason.check(ResponseDone):
            head = _headers(self._wire.ends[0].first)
            self.answer.callback(Answer(self._response.code, head, self._body))
        else:
            self.answer.errback(reason)


def _headers(received: bytes) -> Headers:
    """
    The headers of the final answer, with those of its framing that the client keeps to itself.
    """
    head = next(head for head in received.split(b"\r\n\r\n") if not head.startswith(b"HTTP/1.1 1"))
    headers = Headers()
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        headers.addRawHeader(name, value)
    return headers


def _built(factory: IProtocolFactory) -> IProtocol:
    protocol = factory.buildProtocol(IPv4Address("TCP", "198.51.100.7", 40000))
    assert protocol is not None
    return protocol


class _Agent(Agent):
    """
    A client that sends targets as they are.

    Twisted's puts them together anew, and since Python 3.12.4 an empty host before a path that
    begins with two slashes.
    """

    def _requestWithEndpoint(
        self,
        key: Any,
        endpoint: Any,
        method: bytes,
        parsedURI: URI,
        headers: Headers | None,
        bodyProducer: IBodyProducer | None,
        requestPath: bytes,
    ) -> "Deferred[IResponse]":
        """
        Called by Twisted with the target put together.
        """
        target = parsedURI.toBytes().partition(b"://")[2]
        return super()._requestWithEndpoint(
            key,
            endpoint,
            method,
            parsedURI,
            headers,
            bodyProducer,
            target[target.index(b"/") :],
        )


@implementer(IAgent)
@frozen
class _ShortAgent:
    """
    A client that opens a connection for each request.
    """

    _clock: Clock
    _site: StreamingSite

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Called by who sends a request.
        """
        wire = Wire()
        agent = _Agent.usingEndpointFactory(self._clock, _Endpoint(self._site, wire))
        with wire.held():
            answer: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
            return answer


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@frozen
class _Endpoint:
    """
    Wherever a client wants to go, it meets the site.
    """

    _site: StreamingSite
    _wire: Wire

    def endpointForURI(self, _uri: object) -> "_Endpoint":
        """
        Every URI leads to the site.
        """
        return self

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        """
        Join a client with a fresh channel.
        """
        client = _built(factory)
        join(client, _built(self._site), self._wire)
        return succeed(client)


@implementer(IBodyProducer)
@frozen
class _BytesProducer:
    """
    A request body that is known.
    """

    _body: bytes

    @property
    def length(self) -> int:
        """
        How many bytes there are.
        """
        return len(self._body)

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        """
        Called by the client: write everything.
        """
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Everything is written already.
        """

    def resumeProducing(self) -> None:
        """
        Everything is written already.
        """

    def stopProducing(self) -> None:
        """
        Everything is written already.
        """

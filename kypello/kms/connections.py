# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Connections to one key server: made, proved, kept, and let go.
"""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    IAgent,
    IAgentEndpointFactory,
    IBodyProducer,
    IPolicyForHTTPS,
    IResponse,
)
from zope.interface import implementer

from kypello.errors import KypelloError

#: How many requests are under way to one server at a time, and connections kept, at most.
CONNECTIONS = 64

#: The longest answer, in bytes.
LIMIT = 1 << 20

#: How long an idle connection is kept, in seconds: KES closes after 90.
_IDLE = 60.0


@define(eq=False)
class NotConnected(KypelloError):
    """
    There was no connection, so that nothing can have been sent.

    :ivar cause: Why.
    """

    cause: Exception


@define(eq=False)
class NotRunning(KypelloError):
    """
    The agent is not started, or has been stopped.
    """


@define(eq=False)
class TooLong(KypelloError):
    """
    The answer has more than :data:`LIMIT` bytes.
    """


@implementer(IResponse)
@define(eq=False)
class CompleteResponse:
    """
    A response whose body is here.

    :ivar code: The status.
    :ivar body: All of it.
    """

    version: Any
    code: int
    phrase: bytes
    headers: Headers
    request: Any
    body: bytes = field(repr=False)
    previousResponse: IResponse | None = None

    @property
    def length(self) -> int:
        """
        Of the body, in bytes.
        """
        return len(self.body)

    def deliverBody(self, protocol: IProtocol) -> None:
        """
        Called by who reads the body.
        """
        protocol.makeConnection(None)  # type: ignore[arg-type]  # none is needed
        protocol.dataReceived(self.body)
        protocol.connectionLost(Failure(ResponseDone()))

    def setPreviousResponse(self, response: IResponse) -> None:
        """
        Called by who follows redirects.
        """
        self.previousResponse = response


@implementer(IAgent)
@define(eq=False)
class CompleteAgent:
    """
    Gives a response only when its body is here, so that one that breaks off is a failure.
    """

    _agent: IAgent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Send a request.  The failure may be :class:`TooLong` too.
        """
        return Deferred.fromCoroutine(
            _complete(self._agent.request(method, uri, headers, bodyProducer))
        )


@implementer(IAgent)
@define(eq=False)
class PooledAgent:
    """
    Sends requests to one server over connections that are kept.

    A request that dies with a kept connection is sent again over a new one, since the server
    may have closed it at that moment.  One that must not be repeated goes over a new connection
    from the start, so that this doubt cannot arise.

    :ivar _repeatable: Tells by its path whether a request may be repeated.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _repeatable: Callable[[bytes], bool]
    _kept: "_Connections | None" = field(init=False, default=None)
    _all: "set[_Connections]" = field(init=False, factory=set)
    _running: bool = field(init=False, default=False)
    _slots: DeferredSemaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Let a limited number of requests through.
        """
        self._slots = DeferredSemaphore(CONNECTIONS)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Send a request; *bodyProducer* must be able to produce the body twice.
        """
        return Deferred.fromCoroutine(self._wait(method, uri, headers, bodyProducer))

    def start(self) -> None:
        """
        Begin to take requests.
        """
        self._running = True

    def renew(self) -> None:
        """
        Use new connections from now on; those in use end with their requests.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.retire()

    async def close(self) -> None:
        """
        Close all connections, whatever becomes of requests.
        """
        self._running = False
        for connections in list(self._all):
            connections.abort()
        self._kept = None
        # Those that were aborted are gone in the next turn.
        await deferLater(self._reactor, 0)

    async def _wait(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None,
        body: IBodyProducer | None,
    ) -> IResponse:
        await self._slots.acquire()
        try:
            return await self._request(method, uri, headers, body)
        finally:
            self._slots.release()

    async def _request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None,
        body: IBodyProducer | None,
    ) -> IResponse:
        if self._repeatable(URI.fromBytes(uri).path):
            if self._kept is None:
                self._kept = self._connections()
            try:
                return await self._kept.request(method, uri, headers, body)
            except (ResponseNeverReceived, RequestTransmissionFailed) as error:
                if not is_stale(error):
                    raise
        fresh = self._connections()
        fresh.retired = True
        return await fresh.request(method, uri, headers, body)

    def _connections(self) -> "_Connections":
        if not self._running:
            raise NotRunning()
        connections = _Connections(self._reactor, self._policy, self._all.discard)
        self._all.add(connections)
        return connections


def is_stale(error: Exception) -> bool:
    """
    Whether a request may have met a connection that the server was closing.
    """
    reasons = [failure.value for failure in getattr(error, "reasons", ())]
    return any(
        isinstance(reason, ConnectionDone | ConnectionLost) or _is_eof(reason) for reason in reasons
    )


def _is_eof(reason: BaseException) -> bool:
    return "unexpected eof" in repr(reason)


async def _complete(responding: "Deferred[IResponse]") -> IResponse:
    response = await responding
    body: bytes = await _read(response)
    return CompleteResponse(
        response.version, response.code, response.phrase, response.headers, response.request, body
    )


def _read(response: Any) -> "Deferred[bytes]":
    reader = _Reader(Deferred(lambda _: reader.abort()))
    response.deliverBody(reader)
    return reader.done


class _Reader(Protocol):
    """
    Reads a body of limited length.
    """

    def __init__(self, done: "Deferred[bytes]") -> None:
        """
        Fire *done* at the end.
        """
        self.done = done
        self._body = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """
        Called by Twisted.
        """
        self._body += data
        if len(self._body) > LIMIT and not self.done.called:
            self.done.errback(TooLong())
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called by Twisted at the end.
        """
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(bytes(self._body))
        else:
            # A body of unknown length that ends with the connection may be cut: KES always
            # tells the length.
            self.done.errback(reason)

    def abort(self) -> None:
        """
        Read no more.
        """
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()


@define(eq=False)
class _Connections:
    """
    Connections that were made with the same certificate.

    :ivar _forget: Called when the last is gone after :meth:`retire`.
    :ivar retired: Whether they are closed when no request needs them.
    :ivar _open: All of them.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _forget: Callable[["_Connections"], None]
    retired: bool = False
    _pool: HTTPConnectionPool = field(init=False)
    _agent: IAgent = field(init=False)
    _open: "set[_Connection]" = field(init=False, factory=set)
    _requests: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """
        Have none yet.
        """
        pool: Any = HTTPConnectionPool(self._reactor)
        pool.maxPersistentPerHost = CONNECTIONS
        pool.cachedConnectionTimeout = _IDLE
        pool.retryAutomatically = False
        self._pool = pool
        endpoints = _ProvedEndpoints(self._reactor, self._policy, self._open)
        self._agent = CompleteAgent(
            Agent.usingEndpointFactory(self._reactor, endpoints, self._pool)
        )

    async def request(
        self, method: bytes, uri: bytes, headers: Headers | None, body: IBodyProducer | None
    ) -> IResponse:
        """
        Send a request.
        """
        self._requests += 1
        try:
            return await self._agent.request(method, uri, headers, body)
        finally:
            self._requests -= 1
            if self.retired and not self._requests:
                self.abort()

    def retire(self) -> None:
        """
        Close what is idle now, and the others when they are.
        """
        self.retired = True
        if self._requests:
            self._pool.closeCachedConnections()
        else:
            self.abort()

    def abort(self) -> None:
        """
        Close all.
        """
        self._forget(self)
        # A peer that does not close its end would keep a connection that is closed politely.
        self._pool.closeCachedConnections()
        for connection in list(self._open):
            connection.abortConnection()


@implementer(IAgentEndpointFactory)
@define(eq=False)
class _ProvedEndpoints:
    """
    Tells Twisted how to reach a server.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _open: "set[_Connection]"

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """
        Called by Twisted for each connection.
        """
        endpoint = wrapClientTLS(
            self._policy.creatorForNetloc(uri.host, uri.port),
            HostnameEndpoint(self._reactor, uri.host, uri.port),
        )
        proved: IStreamClientEndpoint = _ProvedEndpoint(endpoint, self._open)
        return proved


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _ProvedEndpoint:
    """
    Has connected only when the server has proved who it is.
    """

    _endpoint: IStreamClientEndpoint
    _open: "set[_Connection]"

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        """
        Called by Twisted; fails with :class:`NotConnected`.
        """
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            connection: Any = await self._endpoint.connect(_Factory(factory, self._open))
            await connection.proved
        except CancelledError:
            raise
        except Exception as error:
            raise NotConnected(error) from error
        protocol: IProtocol = connection.wrappedProtocol
        return protocol


@implementer(IHandshakeListener)
class _Connection(ProtocolWrapper):
    """
    A connection under an HTTP client.

    :ivar proved: Fires when the server has proved who it is.
    """

    def __init__(self, factory: Any, wrapped: IProtocol) -> None:
        """
        Connect *wrapped*.
        """
        ProtocolWrapper.__init__(self, factory, wrapped)
        self._open = factory.open
        self.proved: Deferred[None] = Deferred(lambda _: self.abortConnection())

    def makeConnection(self, transport: Any) -> None:
        """
        Called by Twisted when it begins.
        """
        self._open.add(self)
        ProtocolWrapper.makeConnection(self, transport)

    def handshakeCompleted(self) -> None:
        """
        Called by Twisted when TLS is set up.
        """
        if not self.proved.called:
            self.proved.callback(None)

    def loseConnection(self) -> None:
        """
        Called by Twisted: end politely, but do not wait for the peer to be polite too.
        """
        ProtocolWrapper.loseConnection(self)
        tls: Any = self.transport
        tls.transport.loseConnection()

    def abortConnection(self) -> None:
        """
        End at once.
        """
        tls: Any = self.transport
        tls.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called by Twisted at the end.
        """
        self._open.discard(self)
        if not self.proved.called:
            self.proved.errback(reason)
        ProtocolWrapper.connectionLost(self, reason)


class _Factory(WrappingFactory[_Connection]):
    """
    Makes connections.
    """

    protocol = _Connection

    def __init__(self, wrapped: IProtocolFactory, opened: "set[_Connection]") -> None:
        """
        Note open ones in *opened*.
        """
        # Twisted's annotation is generic in the method, not in the class.
        WrappingFactory.__init__(self, wrapped)  # type: ignore[arg-type]
        self.open = opened

    def doStart(self) -> None:
        """
        Called by Twisted for each connection, which is not worth a line in the log.
        """

    def doStop(self) -> None:
        """
        Called by Twisted after each connection.
        """

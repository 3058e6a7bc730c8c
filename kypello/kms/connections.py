# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Connections to one key server: made, proved, kept, and let go.
"""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    IAgent,
    IBodyProducer,
    IPolicyForHTTPS,
    IResponse,
)
from zope.interface import implementer

from kypello.errors import KypelloError
from kypello.kms.handshake import Connection, ProvedEndpoints
from kypello.kms.responses import CompleteAgent

#: How many requests are under way to one server at a time, and connections kept, at most.
CONNECTIONS = 64

#: How long an idle connection is kept, in seconds: KES closes after 90.
_IDLE = 60.0


@define(eq=False)
class NotRunning(KypelloError):
    """
    The agent is not started, or has been stopped.
    """


@implementer(IAgent)
@define(eq=False)
class PooledAgent:
    """
    Sends requests to one server over connections that are kept.

    A request that dies with a kept connection is sent again over a new one, since the server
    may have closed it at that moment.  One that must not be repeated goes over a new connection
    from the start, so that this doubt cannot arise.

    :ivar _repeatable: Tells by its path whether a request may be repeated.
    :ivar lost: Called when the server ends a connection.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _repeatable: Callable[[bytes], bool]
    lost: Callable[[], object] = field(init=False, default=lambda: None)
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
        connections = _Connections(self._reactor, self._policy, self.lost, self._all.discard)
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
    _lost: Callable[[], object]
    _forget: Callable[["_Connections"], None]
    retired: bool = False
    _pool: HTTPConnectionPool = field(init=False)
    _agent: IAgent = field(init=False)
    _open: "set[Connection]" = field(init=False, factory=set)
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
        endpoints = ProvedEndpoints(self._reactor, self._policy, self._open, self._lost)
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

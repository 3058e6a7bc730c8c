# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Connections that count only when the server has proved who it is.
"""

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from kypello.errors import KypelloError

#: How long one address of a name is tried before the next one is tried beside it, in seconds.
#: Twisted tells no sooner than that of a name whose addresses all refuse.
_NEXT_ADDRESS = 0.05


@define(eq=False)
class NotConnected(KypelloError):
    """
    There was no connection, so that nothing can have been sent.

    :ivar cause: Why.
    """

    cause: Exception


@implementer(IAgentEndpointFactory)
@define(eq=False)
class ProvedEndpoints:
    """
    Tells Twisted how to reach a server.

    :ivar _open: Where open connections are noted.
    :ivar _lost: Called when the server ends one.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _open: "set[Connection]"
    _lost: Callable[[], object]

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """
        Called by Twisted for each connection.
        """
        endpoint = wrapClientTLS(
            self._policy.creatorForNetloc(uri.host, uri.port),
            self._address(uri.host.decode("ascii"), uri.port),
        )
        proved: IStreamClientEndpoint = _ProvedEndpoint(endpoint, self._open, self._lost)
        return proved

    def _address(self, host: str, port: int) -> IStreamClientEndpoint:
        # An address that refuses says so at once, and a name only when no other address is left.
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port)
        return HostnameEndpoint(self._reactor, host, port, attemptDelay=_NEXT_ADDRESS)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _ProvedEndpoint:
    """
    Has connected only when the server has proved who it is.
    """

    _endpoint: IStreamClientEndpoint
    _open: "set[Connection]"
    _lost: Callable[[], object]

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        """
        Called by Twisted; fails with :class:`NotConnected`.
        """
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            connection: Any = await self._endpoint.connect(
                _Factory(factory, self._open, self._lost)
            )
            await connection.proved()
        except CancelledError:
            raise
        except Exception as error:
            raise NotConnected(error) from error
        protocol: IProtocol = connection.wrappedProtocol
        return protocol


@implementer(IHandshakeListener)
class Connection(ProtocolWrapper):
    """
    A connection under an HTTP client.

    """

    def __init__(self, factory: Any, wrapped: IProtocol) -> None:
        """
        Connect *wrapped*.
        """
        ProtocolWrapper.__init__(self, factory, wrapped)
        self._open = factory.open
        self._lost = factory.lost
        self._ended = False
        self._proved = False
        self._failure: Failure | None = None
        self._waiting: Deferred[None] | None = None

    def proved(self) -> "Deferred[None]":
        """
        Wait until the server has proved who it is; called once.

        :return: Fails with the reason when the connection ends before.
        """
        if self._failure is not None:
            return fail(self._failure)
        if self._proved:
            return succeed(None)
        self._waiting = Deferred(lambda _: self.abortConnection())
        return self._waiting

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
        self._proved = True
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)

    def loseConnection(self) -> None:
        """
        Called by Twisted: end politely, but do not wait for the peer to be polite too.
        """
        self._ended = True
        ProtocolWrapper.loseConnection(self)
        tls: Any = self.transport
        tls.transport.loseConnection()

    def abortConnection(self) -> None:
        """
        End at once.
        """
        self._ended = True
        tls: Any = self.transport
        tls.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called by Twisted at the end.
        """
        self._open.discard(self)
        if not self._ended:
            self._lost()
        self._failure = reason
        if self._waiting is not None and not self._waiting.called:
            self._waiting.errback(reason)
        ProtocolWrapper.connectionLost(self, reason)


class _Factory(WrappingFactory):
    """
    Makes connections.
    """

    protocol = Connection

    def __init__(
        self,
        wrapped: IProtocolFactory,
        opened: "set[Connection]",
        lost: Callable[[], object],
    ) -> None:
        """
        Note open ones in *opened*, and call *lost* when a server ends one.
        """
        # Twisted's annotation is generic in the method, not in the class.
        WrappingFactory.__init__(self, wrapped)  # type: ignore[arg-type]
        self.open = opened
        self.lost = lost

    def doStart(self) -> None:
        """
        Called by Twisted for each connection, which is not worth a line in the log.
        """

    def doStop(self) -> None:
        """
        Called by Twisted after each connection.
        """

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where connections come from: a port of our own, or a socket that several processes share.
"""

import socket
from typing import Any

from attrs import frozen
from twisted.internet import tcp
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.http.balance import Balance
from kypello.http.gathering import Gathering
from kypello.http.outlet import Outlet
from kypello.http.transport import StreamingTransport

#: Connections that wait to be accepted; the kernel may allow fewer.
_BACKLOG = 1024

#: How long a process leaves newcomers to one that has fewer connections, in seconds.
_YIELD = 0.005


class StreamingPort(tcp.Port):
    """
    A listening port whose connections are :class:`StreamingTransport`.

    :ivar balance: Tells whose turn it is, where other processes accept from the same socket.
    :ivar outlet: Sends for a connection that is the only one with much to send.
    :ivar gathering: Sends short answers of many connections together.
    """

    # Twisted reads this as a class attribute and calls it.
    transport = StreamingTransport  # type: ignore[assignment]
    balance: Balance | None = None
    outlet: Outlet | None = None
    reactor: Any
    _waited = False  # whether a newcomer was left to the others

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """
        Made by an endpoint.
        """
        super().__init__(*arguments, **named)
        self.gathering = Gathering(self.reactor)

    def doRead(self) -> None:
        """
        Called by the reactor: somebody wants to connect.
        """
        if self.balance is not None:
            if not self.balance.turn and not self._waited:
                self._waited = True
                self.stopReading()
                self.reactor.callLater(_YIELD, self._look_again)
                return
            # Each newcomer changes whose turn it is.
            self._waited = False
            self.numberAccepts = 1
        super().doRead()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called by the reactor: the port closes.

        Whoever still waits to be accepted, perhaps with a request that is sent, is let in: the
        kernel would reset them.
        """
        self.balance = None
        self.numberAccepts = _BACKLOG
        self.doRead()
        super().connectionLost(reason)

    def _look_again(self) -> None:
        # Whoever has not been taken by now is not left to wait any longer.
        if self.connected:
            self.startReading()


@implementer(IStreamServerEndpoint)
@frozen
class StreamingEndpoint:
    """
    Where to listen.

    :ivar _reactor: The reactor.
    :ivar _port: ``0`` for any free one.
    :ivar _host: An address of this machine; empty for all of IPv4, ``::`` for all.
    :ivar _outlet: ``None`` to send everything in the reactor's thread.
    """

    _reactor: Any
    _port: int
    _host: str = ""
    _outlet: Outlet | None = None

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """
        Begin to listen.

        :raises twisted.internet.error.CannotListenError: The port is taken; the Deferred fails.
        """
        return execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        port = StreamingPort(self._port, factory, _BACKLOG, self._host, self._reactor)
        port.outlet = self._outlet
        port.startListening()
        return port


def open_socket(host: str, port: int) -> socket.socket:
    """
    Open a socket for other processes to accept from; nobody is accepted before they do.

    :param host: An address of this machine; empty for all of IPv4, ``::`` for all.
    :param port: ``0`` for any free one.
    :raises CannotListenError: The port is taken, or not allowed.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise CannotListenError(host, port, error) from error
    return made


@implementer(IStreamServerEndpoint)
@frozen
class InheritedEndpoint:
    """
    A listening socket that another process opened, such as a supervisor or systemd.

    :ivar _descriptor: Its file descriptor, which stays open.
    :ivar _balance: ``None`` when nobody else accepts from it.
    :ivar _outlet: ``None`` to send everything in the reactor's thread.
    """

    _reactor: Any
    _descriptor: int
    _balance: Balance | None = None
    _outlet: Outlet | None = None

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """
        Begin to accept.

        :raises OSError: The descriptor is no socket; the Deferred fails.
        """
        return execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        ours = socket.socket(fileno=socket.dup(self._descriptor))
        ours.setblocking(False)
        try:
            port: StreamingPort = StreamingPort._fromListeningDescriptor(
                self._reactor, ours.fileno(), ours.family, factory
            )
        finally:
            ours.close()
        port.balance, port.outlet = self._balance, self._outlet
        port.startListening()
        return port

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The sending half of a connection: heads, bodies, and whoever writes them.
"""

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IAddress, IProducer, ISSLTransport

from kypello.http.transport import BufferedReceiver, StreamingTransport
from kypello.model import Buffer

#: The most of a body that is copied to go out in one piece with its head, in bytes.
_JOINED = 16 * 1024


class Sender(BufferedReceiver):
    """
    What a connection sends, and to whom.

    :ivar _answer_head: The head of an answer, which waits for what goes out with it.
    :ivar _any_buffer: The transport takes buffers of any kind, and gathers what is short.
    :ivar _congested: The client does not keep up.
    :ivar _producer: Who writes the body of an answer; ``None`` for nobody.
    """

    transport: Any

    def __init__(self) -> None:
        """
        Wait for a connection.
        """
        self._answer_head = b""
        self._any_buffer = False
        self._congested = False
        self._producer: Any = None
        self._secure = False

    def connectionMade(self) -> None:
        """
        Called by the transport: find out what it can do, and who is at its ends.
        """
        self._peer: IAddress = self.transport.getPeer()
        self._host: IAddress = self.transport.getHost()
        self._secure = ISSLTransport(self.transport, None) is not None
        self._any_buffer = isinstance(self.transport, StreamingTransport)
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)

    def getPeer(self) -> IAddress:
        """
        Called by the request: the address of the client.
        """
        return self._peer

    def getHost(self) -> IAddress:
        """
        Called by the request: our address.
        """
        return self._host

    def isSecure(self) -> bool:
        """
        Called by the request: whether the connection is encrypted.
        """
        return self._secure

    def write(self, data: Buffer) -> None:
        """
        Called by the request: send some of the body of an answer.
        """
        if len(data) > _JOINED:
            self.writeSequence((data,))
        else:
            head, self._answer_head = self._answer_head, b""
            joined = b"".join((head, data))
            if self._any_buffer:
                self.transport.write_soon(joined)
            else:
                self.transport.write(joined)

    def writeSequence(self, data: Iterable[Buffer]) -> None:
        """
        Called by the request: send some of the body of an answer.
        """
        pieces = data if self._any_buffer else map(bytes, data)
        head, self._answer_head = self._answer_head, b""
        self.transport.writeSequence([head, *pieces] if head else list(pieces))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Called by the request: who will write the body of the answer.
        """
        if self._producer is not None or not streaming:
            raise RuntimeError("a request has at most one producer, and it pushes")
        self._producer = producer
        if self._congested:
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        Called by the request: nobody writes any longer.
        """
        self._producer = None

    def pauseProducing(self) -> None:
        """
        Called by the transport: the client does not keep up.
        """
        self._congested = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Called by the transport: everything was sent.
        """
        self._congested = False
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """
        Called by the transport: the connection is gone.
        """
        if self._producer is not None:
            self._producer.stopProducing()

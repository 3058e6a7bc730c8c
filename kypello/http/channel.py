# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1 connections whose requests start when their headers are in.

``twisted.web.http.HTTPChannel`` renders a request after it has buffered the whole body.  The
channel here gives :class:`twisted.web.server.Request` the same public services, hands the body
over as a stream, and never lets a peer hold memory or a connection for nothing.
"""

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES
from twisted.web.http_headers import Headers
from zope.interface import implementer

from kypello.errors import BodyTimeout, BodyTruncated
from kypello.http.deadline import Deadline
from kypello.http.exchange import Exchange
from kypello.http.framing import BadRequest, take_head
from kypello.http.request import StreamingRequest
from kypello.http.response import header_lines, status_line
from kypello.http.sending import Sender

if TYPE_CHECKING:
    from twisted.web.http import Request

    from kypello.http.site import StreamingSite

#: How much is received ahead of the request that is being answered, in bytes.
_AHEAD = 64 * 1024

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@implementer(ITransport, IConsumer, IPushProducer, IHalfCloseableProtocol)
class StreamingChannel(Sender):
    """
    One connection of a client.

    Requests are answered one after the other.  What arrives goes to the head parser, to the
    body of the current request, or waits for that request to be answered; reading pauses where
    the next stage is full.

    :ivar site: The site that made this channel.
    """

    site: "StreamingSite"
    factory: Any

    def __init__(self) -> None:
        """
        Wait for a connection.
        """
        super().__init__()
        self._input = bytearray()
        self._exchange: Exchange | None = None
        self._advancing = False
        self._lingering = False
        self._ended = False
        self._closing = False
        self._reading = True
        self._progress = 0

    def connectionMade(self) -> None:
        """
        Called by the transport: begin to listen.
        """
        super().connectionMade()
        self._deadline = Deadline(self.site.clock, self._expire)
        self.transport.registerProducer(self, True)
        self.site.connected(self)
        self._await_head()

    def dataReceived(self, data: bytes) -> None:
        """
        Called by the transport: give the bytes to the stage that waits for them.
        """
        if self._closing or self._lingering:
            return
        if self._exchange is not None:
            self._input += self._exchange.feed(data)
            self._advance()
        else:
            first = not self._input
            self._input += data
            self._advance()
            waiting = self._exchange is None and not (self._closing or self._lingering)
            if first and waiting and self._input:
                self._await_head()

    def space(self) -> memoryview | None:
        """
        Called by the transport: where the next bytes of a body belong.
        """
        return None if self._exchange is None else self._exchange.space()

    def filled(self, size: int) -> None:
        """
        Called by the transport: bytes of a body are where they belong.
        """
        exchange = self._exchange
        assert exchange is not None
        exchange.filled(size)
        if exchange.complete or exchange.body.full:
            self._advance()

    def readConnectionLost(self) -> None:
        """
        Called by the transport: the client sends no more, and may wait for an answer still.
        """
        self._ended = True
        exchange = self._exchange
        if exchange is None or exchange.answered:
            self.loseConnection()
            return
        exchange.persistent = False
        if not exchange.complete:
            exchange.body.fail(BodyTruncated())

    def writeConnectionLost(self) -> None:
        """
        Called by the transport: what we had to send is sent.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Called by the transport: end what is under way.
        """
        self._closing = True
        self.site.disconnected(self)
        self._deadline.stop()
        self._input.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.answered:
            exchange.request.connectionLost(reason)
            exchange.body.fail(BodyTruncated())

    def _advance(self) -> None:
        """
        Do what can be done now: finish answered requests and begin those that wait.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            while not self._closing and not self._lingering:
                exchange = self._exchange
                if exchange is not None:
                    if not exchange.answered or (exchange.persistent and not exchange.complete):
                        break
                    self._exchange = None
                    if exchange.persistent:
                        self._await_head()
                    elif exchange.complete or self._ended:
                        self.loseConnection()
                        break
                    else:
                        self._linger()
                        break
                if self._congested or not self._input or not self._begin():
                    break
        finally:
            self._advancing = False
        self._update_reading()

    def _begin(self) -> bool:
        """
        Begin the next request when its head is complete; tell whether it was.
        """
        try:
            head = take_head(self._input, self.site.limits.head)
        except BadRequest as error:
            self._refuse(error)
            return False
        if head is None:
            return False
        self._deadline.clear()
        request = StreamingRequest(self, head)
        self._exchange = exchange = Exchange(head, request)
        exchange.persistent &= not self.site.retiring
        if head.expects_continue and exchange.complete:
            # Nothing is to come, but boto3 of 2024 takes the answer that follows a final one
            # for a part of it, and waits for ever.
            exchange.continued = True
            self.transport.write(_CONTINUE)
        if self._input and not exchange.complete:
            data = bytes(self._input)
            self._input.clear()
            self._input += exchange.feed(data)
        request.begin()
        return True

    def _refuse(self, error: BadRequest) -> None:
        """
        Answer something that is no request, and end the connection.
        """
        self.transport.write(self.site.refuse(error, self._peer))
        self._linger()

    # What a body asks for

    def body_wanted(self) -> None:
        """
        A read waits: let the client send, and expect it to.
        """
        exchange = self._exchange
        assert exchange is not None
        if exchange.head.expects_continue and not exchange.continued:
            exchange.continued = True
            if not exchange.request.startedWriting:
                self.transport.write(_CONTINUE)
        self._progress = exchange.body.received
        self._deadline.set(self.site.limits.body_time)

    def body_drained(self) -> None:
        """
        There is room for more of the body.
        """
        self._update_reading()

    def _update_reading(self) -> None:
        if self._closing:
            return
        if self._lingering:
            wanted = True
        elif self._exchange is None:
            wanted = not (self._congested and len(self._input) >= _AHEAD)
        elif self._exchange.complete:
            wanted = len(self._input) < _AHEAD
        else:
            wanted = self._exchange.wants_more
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # What a request asks for

    def begin_answer(self, status: int, lines: bytes, delimited: bool) -> None:
        """
        Called by the request: send the head of an answer, together with what follows it.

        Here it is decided whether the connection survives, since the client must be told.

        :param lines: The headers.
        :param delimited: They tell where the body ends.
        """
        exchange = self._exchange
        assert exchange is not None
        if not delimited or not exchange.drainable:
            exchange.persistent = False
        end = b"\r\n" if exchange.persistent else b"Connection: close\r\n\r\n"
        self._answer_head = status_line(exchange.head.version, status) + lines + end

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """
        Called by the request when a stock resource answers: send the head of the answer.
        """
        assert self._exchange is not None
        request = self._exchange.request
        pairs = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in headers.getAllRawHeaders()
            for value in values
        ]
        bare = int(code) in NO_BODY_CODES or request.method == b"HEAD"
        delimited = bare or request.chunked or headers.hasHeader(b"content-length")
        lines = header_lines(pairs)
        lines = self.site.standing_headers(lines) + lines
        self.begin_answer(int(code), lines, bool(delimited))

    def requestDone(self, request: "Request") -> None:
        """
        Called by the request: the whole answer was written.
        """
        exchange = self._exchange
        assert exchange is not None and request is exchange.request
        exchange.answered = True
        if self._answer_head:
            self.write(b"")
        self._deadline.clear()
        if not exchange.complete:
            exchange.body.close()
            self._await_rest()
        self._advance()

    def loseConnection(self) -> None:
        """
        Close the connection once everything written was sent, within a bounded time.
        """
        if not self._closing:
            self._closing = True
            self._deadline.set(self.site.limits.send_time)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def drain(self) -> None:
        """
        Called by the site: answer the request that is under way, or on its way, and no other.
        """
        exchange = self._exchange
        if exchange is None:
            if not (self._lingering or self._closing):
                self._await_head()
        elif not exchange.request.startedWriting:
            # Else the client was told that it may send another request.
            exchange.persistent = False

    def abortConnection(self) -> None:
        """
        Close the connection at once; the client learns that something was cut.
        """
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def _linger(self) -> None:
        """
        Send what is written, say that no more comes, and give the client time to read it.

        A socket closed while input waits makes the kernel reset the connection, and the client
        loses the answer.
        """
        self._lingering = True
        self._congested = False
        self.transport.unregisterProducer()
        if not self.isSecure():
            self.transport.loseWriteConnection()
        self._deadline.set(self.site.limits.drain_time)
        self._update_reading()

    # Flow control of what we send

    def pauseProducing(self) -> None:
        """
        Called by the transport: the client does not keep up.
        """
        super().pauseProducing()
        self._update_reading()
        self._deadline.set(self.site.limits.send_time)

    def resumeProducing(self) -> None:
        """
        Called by the transport: everything was sent.
        """
        self._congested = False
        if self._exchange is None:
            self._await_head()
            self._advance()
        elif self._exchange.answered:
            self._await_rest()
        else:
            self._deadline.clear()
            if self._exchange.body.waiting:
                self.body_wanted()
            super().resumeProducing()

    # Deadlines

    def _await_head(self) -> None:
        limits = self.site.limits
        if self._congested:
            self._deadline.set(limits.send_time)
        elif self.site.ending:
            self._deadline.set(limits.last_call)
        else:
            self._deadline.set(limits.head_time if self._input else limits.idle_time)

    def _await_rest(self) -> None:
        limits = self.site.limits
        self._deadline.set(limits.send_time if self._congested else limits.drain_time)

    def _expire(self) -> None:
        exchange = self._exchange
        if self._congested or self._closing:
            self.abortConnection()
        elif self._lingering or exchange is None:
            self.loseConnection()
            if self.site.ending and self.isSecure():
                # The end is told; an idle client may take for ever to tell its own.
                self.transport.transport.loseConnection()
        elif exchange.answered:
            self._linger()
        elif exchange.body.waiting:
            if exchange.body.received - self._progress >= self.site.limits.body_progress:
                self.body_wanted()
            else:
                exchange.persistent = False
                exchange.body.fail(BodyTimeout())

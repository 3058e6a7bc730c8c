# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Answers that are whole.
"""

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from kypello.errors import KypelloError

#: The longest answer, in bytes.
LIMIT = 1 << 20


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
    :ivar length: Of the body, in bytes.
    """

    version: Any
    code: int
    phrase: bytes
    headers: Headers
    request: Any
    body: bytes = field(repr=False)
    previousResponse: IResponse | None = None
    length: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Measure the body.
        """
        self.length = len(self.body)

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


async def _complete(responding: "Deferred[IResponse]") -> IResponse:
    response = await responding
    body: bytes = await _read(response)
    headers = response.headers.copy()
    # Nothing was asked to be compressed, and a little that is compressed may be very much.
    headers.removeHeader(b"content-encoding")
    return CompleteResponse(
        response.version, response.code, response.phrase, headers, response.request, body
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

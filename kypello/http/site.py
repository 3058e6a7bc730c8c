# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A tree of resources behind streaming connections.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Site

from kypello.http.accesslog import log_refusal, log_request
from kypello.http.channel import StreamingChannel
from kypello.http.framing import BadRequest
from kypello.http.request import StreamingRequest
from kypello.http.response import Response, last_answer

if TYPE_CHECKING:
    from twisted.web.http import Request

_log = Logger()

#: How many requests are named with one call for random bytes.
_IDS = 256


@frozen
class Limits:
    """
    What a peer may take, in bytes and seconds.

    :ivar head: The longest request line with headers.
    :ivar head_time: From the first byte of a head to its end.
    :ivar idle_time: Between two requests.
    :ivar body_time: How long a read of a body waits for :attr:`body_progress` more bytes.
    :ivar body_progress: Fewer bytes than this per :attr:`body_time` are a drip, no upload.
    :ivar send_time: For the peer to take what waits to be sent, about one block.
    :ivar drain_time: For the rest of a body after the answer, and for the peer to close.
    :ivar last_call: For requests that are on their way when the site is asked to end.
    """

    head: int = 32 * 1024
    head_time: float = 30.0
    idle_time: float = 120.0
    body_time: float = 60.0
    body_progress: int = 4096
    send_time: float = 300.0
    drain_time: float = 5.0
    last_call: float = 0.25


class Observer(Protocol):
    """
    Who is told about requests.
    """

    def named(self, before: str, after: str) -> None:
        """
        Called when it is known what a request is, or better known than *before*.
        """

    def about(self, operation: str, subject: str) -> None:
        """
        Called when it is known what a request is about.
        """

    def ended(self, request: StreamingRequest) -> None:
        """
        Called when a request was answered, or its client went away.
        """


def refuse_plainly(error: BadRequest, _request_id: str) -> Response:
    """
    Answer a request that is no HTTP with its reason as text.
    """
    text = error.reason.encode()
    return Response(error.status, (("Content-Type", "text/plain; charset=utf-8"),), text)


class StreamingSite(Site):
    """
    A tree of resources, served over :class:`StreamingChannel`.

    :ivar clock: Measures all deadlines.
    :ivar limits: What a peer may take.
    :ivar observer: Who is told about requests.
    :ivar retiring: Whether a connection ends after the next request.
    :ivar ending: Whether it is not long waited for.
    """

    # Twisted's annotation names its own proxy class; any factory of protocols works.
    protocol = StreamingChannel  # type: ignore[assignment]
    noisy = False  # the banner tells where it listens

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        *,
        refusal: Callable[[BadRequest, str], Response] = refuse_plainly,
        limits: Limits = Limits(),
        server: str = "Kypello",
        entropy: Callable[[int], bytes] = os.urandom,
        access_log: bool = True,
        count: Callable[[int], object] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """
        Serve *resource*.

        :param refusal: Words the answer to something that is no HTTP request; called with the
            error and a fresh request id.
        :param server: What the ``Server`` header says.
        :param entropy: What request ids are made of.
        :param access_log: Whether each request is logged.
        :param count: Told how many connections there are whenever that changes.
        """
        super().__init__(resource, reactor=clock)
        self.clock = clock
        self._refusal = refusal
        self.limits = limits
        self.access_log = access_log
        self.observer = observer
        self.retiring = self.ending = False
        self._random = entropy
        self._ids: list[str] = []
        self._server = f"Server: {server}\r\n".encode("ascii")
        self._date = b""
        self._date_of = -1
        self._told = count
        self._channels: set[StreamingChannel] = set()
        self._drained: Deferred[None] | None = None

    def connected(self, channel: StreamingChannel) -> None:
        """
        Called by a channel: a client has come.
        """
        self._channels.add(channel)
        self._count()

    def disconnected(self, channel: StreamingChannel) -> None:
        """
        Called by a channel: the client has gone.
        """
        self._channels.discard(channel)
        self._count()
        if not self._channels and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def _count(self) -> None:
        if self._told is not None:
            self._told(len(self._channels))

    def retire(self) -> None:
        """
        Answer one more request on each connection: others serve who comes again.
        """
        self.retiring = True
        self._told = None

    async def drain(self, grace: float) -> None:
        """
        Let the requests that are under way end, also those that clients have sent and nobody has
        read, and close all connections.

        :param grace: After this time, in seconds, what is still under way is cut.
        """
        self.retiring = self.ending = True
        for channel in list(self._channels):
            channel.drain()
        if not self._channels:
            return
        self._drained = Deferred()
        cutting = self.clock.callLater(grace, self._cut)
        await self._drained
        if cutting.active():
            cutting.cancel()

    def _cut(self) -> None:
        _log.warn("{count} connections are cut", count=len(self._channels))
        for channel in list(self._channels):
            channel.abortConnection()

    def new_request_id(self) -> str:
        """
        Name a request.
        """
        if not self._ids:
            text = self._random(8 * _IDS).hex().upper()
            self._ids = [text[start : start + 16] for start in range(0, len(text), 16)]
        return self._ids.pop()

    def standing_headers(self, lines: bytes) -> bytes:
        """
        The headers that every answer has: ``Server`` and ``Date``, unless they are among
        *lines*, so spelled.
        """
        held = b"\n" + lines
        server = b"" if b"\nServer: " in held else self._server
        return server if b"\nDate: " in held else server + self._date_line()

    def _date_line(self) -> bytes:
        now = int(time.time())
        if now != self._date_of:
            self._date_of = now
            self._date = b"Date: %b\r\n" % datetimeToString(now)
        return self._date

    def refuse(self, error: BadRequest, peer: IAddress) -> bytes:
        """
        Word the answer to something that is no request, after which a connection ends, and tell
        about it.
        """
        request_id = self.new_request_id()
        response = self._refusal(error, request_id)
        log_refusal(request_id, response.status, peer)
        return last_answer(response, self.standing_headers)

    def log(self, request: "Request") -> None:
        """
        Called by Twisted when a request is over.
        """
        assert isinstance(request, StreamingRequest)
        if self.observer is not None:
            self.observer.ended(request)
        if self.access_log:
            log_request(request, self.clock.seconds())

    def acceptableProtocols(self) -> list[bytes]:
        """
        Called by Twisted, for ALPN: HTTP/1.1 and nothing else.
        """
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """
        Called by Twisted: there is no log file to open.
        """

    def stopFactory(self) -> None:
        """
        Called by Twisted: there is no log file to close.
        """

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
From a coroutine that gives a :class:`Response` to bytes on a connection.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from kypello.errors import BodyTruncated, KypelloError
from kypello.http.coroutines import begin
from kypello.http.request import StreamingRequest
from kypello.http.response import Response, header_lines
from kypello.interfaces import IBodySource
from kypello.model import Buffer

__all__ = ["Response", "respond"]

_log = Logger()


def respond(
    request: StreamingRequest,
    operation: Coroutine[Deferred[Any], Any, Response],
    on_error: Callable[[Exception], Response],
) -> int:
    """
    Answer *request* with what *operation* gives.

    The operation is cancelled when the client goes away while it waits.  The first block of a
    streamed body is awaited before the headers are sent, so that what fails early is a proper
    error; what fails later cuts the connection.

    :param on_error: Words the answer to an exception.  Exceptions that are no
        :class:`KypelloError` are logged here, once.
    :return: What a ``render`` method returns.
    """
    answer = _Answer(request, on_error)
    try:
        running = begin(answer.run(operation))
    except Exception:
        answer.failed(Failure())
    else:
        if running is not None:
            answer.wait_for(running)
    return NOT_DONE_YET


@implementer(IPushProducer)
@define(eq=False)
class _Answer:
    """
    One answer on its way.

    While the connection takes one block, the next is read: at most two are held here and in
    the transport.

    :ivar gone: The client went away.
    :ivar _first: The first block of what is sent.  It is here, and not in a variable of those who
        wait until the rest is sent, so that it goes when it is sent.
    """

    _request: StreamingRequest
    _on_error: Callable[[Exception], Response]
    gone: bool = False
    _paused: bool = False
    _resumed: Deferred[None] | None = None
    _ahead: Deferred[Buffer] | None = field(default=None)
    _first: Buffer = field(default=b"", repr=False)

    async def run(self, operation: Coroutine[Deferred[Any], Any, Response]) -> None:
        """
        Await the operation and send what it gives.
        """
        try:
            response = await operation
            lines = header_lines(response.headers)
            rest = await self._begin_body(response)
        except CancelledError:
            if self.gone:
                return
            raise
        except Exception as error:
            response = self._error_response(error)
            lines = header_lines(response.headers)
            rest = await self._begin_body(response)
        if self.gone:
            _release(response)
            return
        self._send_head(response, lines)
        if rest is not None:
            await self._send_body(rest)
        elif self._first:
            self._request.write(self._first)
        if not self.gone:
            self._request.finish()

    def wait_for(self, running: "Deferred[None]") -> None:
        """
        Go on when the operation does, unless the client goes away before.
        """

        def gone(_reason: Failure | None) -> None:
            self.gone = True
            running.cancel()

        if self._request.aborted:
            gone(None)
        else:
            self._request.notifyFinish().addErrback(gone)
        running.addErrback(self.failed)

    def failed(self, failure: Failure) -> None:
        """
        End an answer that cannot be completed; there is nobody left to tell but the log.
        """
        if not (self.gone and failure.check(CancelledError, KypelloError)):
            self._log(failure)
        self._request.abort()

    async def _begin_body(self, response: Response) -> IBodySource | None:
        """
        Read the first block of what is sent.

        :return: The source of what follows it, if anything does.
        """
        body, bodiless = response.body, self._bodiless(response)
        if isinstance(body, bytes):
            self._first = b"" if bodiless else body
            return None
        whole = True
        try:
            self._first = b"" if bodiless else await body.read()
            whole = bodiless or len(self._first) == body.size
        finally:
            if whole:
                body.close()
        return None if whole else body

    def _error_response(self, error: Exception) -> Response:
        if not isinstance(error, KypelloError):
            self._log(Failure(error))
        return self._on_error(error)

    def _log(self, failure: Failure) -> None:
        _log.failure(
            "request {request_id} for {path!r} failed",
            failure,
            request_id=self._request.request_id,
            path=self._request.path.decode("latin-1"),
        )

    def _bodiless(self, response: Response) -> bool:
        return self._request.method == b"HEAD" or response.status in NO_BODY_CODES

    def _send_head(self, response: Response, lines: bytes) -> None:
        request = self._request
        size = _size(response)
        if request.method == b"HEAD" and b"\r\ncontent-length:" in b"\r\n" + lines.lower():
            size = None
        request.begin_answer(response.status, request.site.standing_headers(lines) + lines, size)

    async def _send_body(self, body: IBodySource) -> None:
        request = self._request
        block, self._first = self._first, b""
        left = body.size
        request.registerProducer(self, True)
        try:
            while block:
                if left is not None:
                    left -= len(block)
                    if left < 0:
                        raise BodyTruncated()
                # A block that was just made is near at hand: it goes before the next is made.
                request.write(block)
                self._ahead = Deferred.fromCoroutine(body.read())
                await self._room()
                block = await self._read_ahead()
            if left:
                raise BodyTruncated()
        finally:
            if self._ahead is not None:
                # Also what it has read already: an error may hold it, too.
                self._ahead.addBoth(lambda _: None)
                self._ahead.cancel()
                self._ahead = None
            # An error holds this frame, for how long nobody knows.
            block = b""
            body.close()
            if not self.gone:
                request.unregisterProducer()

    async def _read_ahead(self) -> Buffer:
        # Not where the block is sent: a Deferred holds what it has given.
        ahead, self._ahead = self._ahead, None
        assert ahead is not None
        return await ahead

    async def _room(self) -> None:
        if self._paused and not self.gone:
            self._resumed = Deferred()
            await self._resumed

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        Called by the channel: the connection has enough to send.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Called by the channel: the connection has sent everything.
        """
        self._paused = False
        waiting, self._resumed = self._resumed, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """
        Called by the channel: the connection is gone; ``notifyFinish`` tells the same.
        """


def _size(response: Response) -> int | None:
    return len(response.body) if isinstance(response.body, bytes) else response.body.size


def _release(response: Response) -> None:
    if not isinstance(response.body, bytes):
        response.body.close()

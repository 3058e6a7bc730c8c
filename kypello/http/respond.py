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
from kypello.http.request import StreamingRequest
from kypello.http.response import Response, header_lines
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

    The operation is cancelled when the client goes away.  The first block of a streamed body
    is awaited before the headers are sent, so that what fails early is a proper error; what
    fails later cuts the connection.

    :param on_error: Words the answer to an exception.  Exceptions that are no
        :class:`KypelloError` are logged here, once.
    :return: What a ``render`` method returns.
    """
    answer = _Answer(request, on_error)
    # Asked for first: of a request that is over already it would never fire.
    finished = request.notifyFinish()
    running = Deferred.fromCoroutine(answer.run(operation))

    def gone(_reason: Failure) -> None:
        answer.gone = True
        running.cancel()

    finished.addErrback(gone)
    running.addErrback(answer.failed)
    return NOT_DONE_YET


@implementer(IPushProducer)
@define(eq=False)
class _Answer:
    """
    One answer on its way.

    While the connection takes one block, the next is read: at most two are held here and in
    the transport.

    :ivar gone: The client went away.
    """

    _request: StreamingRequest
    _on_error: Callable[[Exception], Response]
    gone: bool = False
    _paused: bool = False
    _resumed: Deferred[None] | None = None
    _ahead: Deferred[Buffer] | None = field(default=None)

    async def run(self, operation: Coroutine[Deferred[Any], Any, Response]) -> None:
        """
        Await the operation and send what it gives.
        """
        try:
            response = await operation
            lines = header_lines(response.headers)
            first = await self._first_block(response)
        except CancelledError:
            if self.gone:
                return
            raise
        except Exception as error:
            response = self._error_response(error)
            lines, first = header_lines(response.headers), await self._first_block(response)
        if self.gone:
            _release(response)
            return
        self._send_head(response, lines)
        await self._send_body(response, first)
        if not self.gone:
            self._request.finish()

    def failed(self, failure: Failure) -> None:
        """
        End an answer that cannot be completed; there is nobody left to tell but the log.
        """
        if not (self.gone and failure.check(CancelledError, KypelloError)):
            self._log(failure)
        self._request.abort()

    async def _first_block(self, response: Response) -> Buffer:
        if isinstance(response.body, bytes):
            return response.body
        if self._bodiless(response):
            response.body.close()
            return b""
        try:
            return await response.body.read()
        except BaseException:
            response.body.close()
            raise

    def _error_response(self, error: Exception) -> Response:
        if not isinstance(error, KypelloError):
            self._log(Failure(error))
        return self._on_error(error)

    def _log(self, failure: Failure) -> None:
        _log.failure("request {request_id} failed", failure, request_id=self._request.request_id)

    def _bodiless(self, response: Response) -> bool:
        return self._request.method == b"HEAD" or response.status in NO_BODY_CODES

    def _send_head(self, response: Response, lines: bytes) -> None:
        request = self._request
        size = _size(response)
        if request.method == b"HEAD" and b"\r\ncontent-length:" in b"\r\n" + lines.lower():
            size = None
        standing = request.site.standing_headers(response.headers)
        request.begin_answer(response.status, standing + lines, size)

    async def _send_body(self, response: Response, block: Buffer) -> None:
        request, body = self._request, response.body
        if isinstance(body, bytes) or self._bodiless(response):
            if not self._bodiless(response):
                request.write(block)
            return
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
                ahead, self._ahead = self._ahead, None
                block = await ahead
            if left:
                raise BodyTruncated()
        finally:
            if self._ahead is not None:
                self._ahead.addErrback(lambda _failure: None)
                self._ahead.cancel()
            body.close()
            if not self.gone:
                request.unregisterProducer()

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

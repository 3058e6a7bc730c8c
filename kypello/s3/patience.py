# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Answers to operations that may take long.

A client, or a proxy before it, gives up a connection that says nothing for a minute.  So an
answer that is not ready soon begins before its operation has ended: with status 200, the XML
declaration, and a blank now and then.  What comes at last is the result or an error; SDKs look
for that in such an answer.
"""

from collections.abc import Coroutine
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import KypelloError
from kypello.http.response import Response
from kypello.interfaces import IBodySource
from kypello.model import Buffer
from kypello.s3.call import Call
from kypello.s3.errors import Subject, error_response
from kypello.s3.xml import CONTENT_TYPE, DECLARATION

#: How long an operation may take until its answer begins without it, and how long the answer
#: says nothing after that, in seconds.
PATIENCE = 5.0

_Work: TypeAlias = Coroutine[Deferred[Any], Any, Response]

_log = Logger()


async def answer_patiently(call: Call, work: _Work) -> Response:
    """
    The answer of an operation, or one that begins before it is known.

    :param work: Gives a document.  It is cancelled when nobody waits for it any more.
    :raises Exception: What *work* raises soon enough.
    """
    running = _Running(call.front.clock, Deferred.fromCoroutine(work))
    try:
        await running.wait()
    except BaseException:
        running.cancel()
        raise
    if running.over:
        return running.result()
    return Response(200, (CONTENT_TYPE,), _LateAnswer(call, running))


@define(eq=False)
class _Running:
    """
    An operation under way.

    :ivar over: It has ended.
    """

    _clock: IReactorTime
    _work: "Deferred[Response]"
    over: bool = field(default=False, init=False)
    _outcome: Response | Failure | None = field(default=None, init=False)
    _waiting: "Deferred[None] | None" = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """
        Notice the end.
        """
        self._work.addBoth(self._ended)

    def _ended(self, outcome: Response | Failure) -> None:
        self.over, self._outcome = True, outcome
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def wait(self) -> None:
        """
        Wait for the end, but no longer than :data:`PATIENCE`.
        """
        if self.over:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        timer = self._clock.callLater(PATIENCE, self._wake)
        try:
            await waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def result(self) -> Response:
        """
        What came of it; raises what it raised.
        """
        if isinstance(self._outcome, Failure):
            self._outcome.raiseException()
        assert isinstance(self._outcome, Response)
        return self._outcome

    def cancel(self) -> None:
        """
        End it, unless it has ended.
        """
        self._work.cancel()


@implementer(IBodySource)
@define(eq=False)
class _LateAnswer:
    """
    The document of an operation that has not ended yet.

    :ivar size: Unknown.
    """

    _call: Call
    _running: _Running
    size: int | None = None
    _begun: bool = False
    _ended: bool = False

    async def read(self) -> Buffer:
        """
        Give the declaration, then blanks, and at last the rest of the document.
        """
        if not self._begun:
            # Blanks before it would be no XML.
            self._begun = True
            return DECLARATION
        if self._ended:
            return b""
        await self._running.wait()
        if not self._running.over:
            return b" "
        self._ended = True
        response = self._response()
        assert isinstance(response.body, bytes)
        return response.body.removeprefix(DECLARATION)

    def close(self) -> None:
        """
        Nobody waits any longer.
        """
        self._running.cancel()

    def _response(self) -> Response:
        call = self._call
        try:
            return self._running.result()
        except Exception as error:
            if not isinstance(error, KypelloError):
                _log.failure(
                    "request {request_id} failed", Failure(error), request_id=call.request_id
                )
            subject = Subject(f"/{call.bucket}/{call.key}", call.bucket, call.key)
            host_id = call.front.host_id
            return error_response(error, subject, call.request_id, host_id, bodiless=False)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES API over HTTP: who may call, what a call holds, how it is answered.
"""

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from attrs import define
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from kypello.errors import (
    BodyTimeout,
    BodyTruncated,
    KeyExists,
    KeyNotFound,
    KeyStoreFailed,
    KeyStoreUnreachable,
    NotAuthentic,
)
from kypello.http.accesslog import host_of
from kypello.http.request import StreamingRequest
from kypello.http.respond import respond
from kypello.http.response import Response
from kypello.kes.audit import Audit, Event, warn_of_refusal
from kypello.kes.identity import NoIdentity
from kypello.kes.operations import Call, Operations
from kypello.kes.policy import Access
from kypello.kes.routes import Route, find_route
from kypello.kes.wire import (
    Fields,
    Malformed,
    Rejected,
    error_response,
    is_name,
    parse_fields,
)

_ANSWERS: dict[type[Exception], tuple[int, str]] = {
    KeyExists: (400, "key already exists"),
    KeyNotFound: (404, "key does not exist"),
    NotAuthentic: (400, "decryption failed: ciphertext is not authentic"),
}
_NOT_FOUND = Response(
    404,
    (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")),
    b"404 page not found\n",
)


@define(eq=False)
class Front:
    """
    What all requests share.

    :ivar identify: Tells who sent a request; raises :class:`NoIdentity`.
    :ivar log: For refusals and for failures of the key store.
    :ivar now: Seconds since the epoch.
    """

    operations: Operations
    access: Access
    identify: Callable[[StreamingRequest], str]
    audit: Audit
    log: Logger
    clock: IReactorTime
    now: Callable[[], float]


class KESResource(Resource):
    """
    All paths of the API.

    The whole path is one string here: its slashes may be percent-encoded, and rules judge it
    decoded.
    """

    isLeaf = True

    def __init__(self, front: Front) -> None:
        """
        Serve *front*.
        """
        Resource.__init__(self)
        self._front = front

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        exchange = _Exchange.begin(self._front, request)
        return respond(request, exchange.answer(), exchange.word)


@define(eq=False)
class _Exchange:
    """
    One request on its way to an answer.
    """

    _front: Front
    _request: StreamingRequest
    _event: Event
    _route: Route | None = None

    @classmethod
    def begin(cls, front: Front, request: StreamingRequest) -> "_Exchange":
        """
        Look at the head of *request*, and have it recorded when it is over.
        """
        path = unquote_to_bytes(request.path).decode("utf-8", "replace")
        event = Event(request.method.decode("ascii"), path, host_of(request.client))
        began, arrived = front.now(), front.clock.seconds()

        def over(_result: Failure | None) -> None:
            status = request.code if request.startedWriting else 0
            front.audit.record(event, status, began, front.clock.seconds() - arrived)

        request.notifyFinish().addBoth(over)
        return cls(front, request, event)

    async def answer(self) -> Response:
        """
        Check the request and make the call.
        """
        event = self._event
        found = find_route(event.path)
        if found is None:
            return _NOT_FOUND
        route, name = found
        self._route = route
        if not route.allows(event.method):
            raise Rejected(
                405,
                f"received method '{event.method}' expected '{route.method}'",
                (("Accept", route.method),),
            )
        self._admit(route, name)
        if route.takes == "name":
            if not is_name(name):
                raise Rejected(
                    400, f"key name '{name}' is empty, too long or contains invalid characters"
                )
            event.key = name
        working = Deferred.fromCoroutine(self._call(route, name))
        working.addTimeout(route.timeout, self._front.clock)
        try:
            return await working
        except TimeoutError:
            raise KeyStoreUnreachable(f"no answer within {route.timeout} seconds") from None

    def word(self, error: Exception) -> Response:
        """
        Tell what went wrong.
        """
        return error_response(self._worded(error))

    def _admit(self, route: Route, name: str) -> None:
        event = self._event
        try:
            event.identity = self._front.identify(self._request)
        except NoIdentity as error:
            if route.access != "anybody":
                raise Rejected(400, error.reason) from error
        if route.access == "policy":
            path = route.path + name if route.takes != "nothing" else route.path
            decision = self._front.access.decide(event.identity, path)
            if not decision.allowed:
                warn_of_refusal(self._front.log, event, decision)
                raise Rejected(403, "not authorized: insufficient permissions")

    async def _call(self, route: Route, name: str) -> Response:
        try:
            call = Call(name, self._event.identity, await self._fields(route))
            return await route.operation(self._front.operations, call)
        except (Malformed, BodyTruncated, BodyTimeout):
            raise Rejected(400, route.malformed) from None

    async def _fields(self, route: Route) -> Fields:
        if not route.max_body:
            return Fields({})
        source, body = self._request.body, bytearray()
        if source.size is not None and source.size > route.max_body:
            raise Malformed()
        while block := await source.read():
            body += block
            if len(body) > route.max_body:
                raise Malformed()
        if route.optional and not body:
            return Fields({})
        return parse_fields(bytes(body))

    def _worded(self, error: Exception) -> Rejected:
        if isinstance(error, Rejected):
            return error
        failure = "" if self._route is None else self._route.failure
        if isinstance(error, KeyStoreUnreachable | KeyStoreFailed):
            self._front.log.error(
                "{failure} {key!r}: {reason}",
                failure=failure,
                key=self._event.key,
                reason=error.reason,
            )
            if isinstance(error, KeyStoreUnreachable):
                return Rejected(502, f"{failure}: key store is not reachable")
            return Rejected(502, failure)
        status, message = _ANSWERS.get(type(error), (500, "internal server error"))
        return Rejected(status, message)

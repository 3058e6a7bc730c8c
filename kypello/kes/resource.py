# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES API over HTTP: who may call, what a call holds, how it is answered.
"""

from collections.abc import Callable, Sequence
from math import ceil
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
from kypello.kes.call import Call
from kypello.kes.identity import NoIdentity
from kypello.kes.limits import RateLimiter
from kypello.kes.metrics import Counts
from kypello.kes.operations import CONFIRMATION, Operations
from kypello.kes.policy import Access
from kypello.kes.proxy import REFUSED, Caller, Untrusted
from kypello.kes.routes import Route, find_route
from kypello.kes.wire import (
    LINES,
    Fields,
    Malformed,
    Rejected,
    error_response,
    is_name,
    parse_fields,
    parse_items,
)

_ANSWERS: dict[type[Exception], tuple[int, str]] = {
    KeyExists: (400, "key already exists"),
    KeyNotFound: (404, "key does not exist"),
    NotAuthentic: (400, "decryption failed: ciphertext is not authentic"),
}
#: How many messages one call opens.
_BULK = 1000
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
    routes: Sequence[Route]
    limiter: RateLimiter
    identify: Callable[[StreamingRequest], Caller]
    audit: Audit
    log: Logger
    counts: Counts
    clock: IReactorTime
    now: Callable[[], float]


class KESResource(Resource):
    """
    All paths of the API.

    The whole path is one string here: its slashes may be percent-encoded, and rules judge it
    decoded.

    :ivar front: What requests are served by that begin from now on.
    """

    isLeaf = True

    def __init__(self, front: Front) -> None:
        """
        Serve *front*.
        """
        Resource.__init__(self)
        self.front = front

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        exchange = _Exchange.begin(self.front, request)
        return respond(request, exchange.answer(), exchange.word)


@define(eq=False)
class _Exchange:
    """
    One request on its way to an answer.

    :ivar _counted: It is in the metrics.
    """

    _front: Front
    _request: StreamingRequest
    _event: Event
    _route: Route | None = None
    _counted: bool = False

    @classmethod
    def begin(cls, front: Front, request: StreamingRequest) -> "_Exchange":
        """
        Look at the head of *request*, and have it recorded when it is over.
        """
        path = unquote_to_bytes(request.path).decode("utf-8", "replace")
        event = Event(request.method.decode("ascii"), path, host_of(request.client))
        began, arrived = front.now(), front.clock.seconds()
        exchange = cls(front, request, event)

        def over(_result: Failure | None) -> None:
            status = request.code if request.startedWriting else 0
            latency = front.clock.seconds() - arrived
            if exchange._counted:
                front.counts.active -= 1
                if status:
                    front.counts.ended(status, latency)
            front.audit.record(event, status, began, latency)

        request.notifyFinish().addBoth(over)
        return exchange

    async def answer(self) -> Response:
        """
        Check the request and make the call.
        """
        event = self._event
        found = find_route(self._front.routes, event.path)
        if found is None:
            return _NOT_FOUND
        route, name = found
        self._route = route
        if not route.probe:
            self._counted = True
            self._front.counts.active += 1
        if not route.allows(event.method):
            raise Rejected(
                405,
                f"received method '{event.method}' expected '{route.method}'",
                (("Accept", route.method),),
            )
        self._admit(route, name)
        if route.takes == "name":
            if not is_name(name):
                noun = "identity" if route.noun == "identity" else f"{route.noun} name"
                raise Rejected(
                    400, f"{noun} '{name}' is empty, too long or contains invalid characters"
                )
            if route.noun == "key":
                event.key = name
        working = Deferred.fromCoroutine(self._call(route, name))
        if route.timeout:
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
        event, front = self._event, self._front
        try:
            caller = front.identify(self._request)
            event.identity, event.ip = caller.identity, caller.ip or event.ip
        except NoIdentity as error:
            if route.access == "policy":
                raise self._nobody(error) from error
        if not route.probe:
            self._limit()
        if route.access == "policy":
            path = route.path + name if route.takes != "nothing" else route.path
            decision = front.access.decide(event.identity, path)
            if decision.allowed and route.denied_as:
                same = front.access.decide(event.identity, route.denied_as + name)
                decision = same if same.denied else decision
            if not decision.allowed:
                warn_of_refusal(front.log, event, decision)
                raise Rejected(403, REFUSED)

    def _nobody(self, error: NoIdentity) -> Rejected:
        if not isinstance(error, Untrusted):
            return Rejected(400, error.reason)
        self._front.log.warn(
            "refused {method} {path!r} from {ip}: its certificate, or the one that the proxy tells,"
            " is none of an authority in use",
            method=self._event.method,
            path=self._event.path,
            ip=self._event.ip,
        )
        return Rejected(403, error.reason)

    def _limit(self) -> None:
        front = self._front
        wait = front.limiter.admit(self._event.identity)
        if wait:
            front.counts.limited += 1
            raise Rejected(429, "too many requests", (("Retry-After", str(ceil(wait))),))

    async def _call(self, route: Route, name: str) -> Response:
        try:
            call = await self._read(route, name)
            return await route.operation(self._front.operations, call)
        except (Malformed, BodyTruncated, BodyTimeout):
            raise Rejected(400, route.malformed) from None

    async def _read(self, route: Route, name: str) -> Call:
        body = await self._body(route)
        fields = Fields({})
        items: tuple[Fields, ...] = ()
        if route.array:
            items = parse_items(body, _BULK)
        elif route.max_body and (body or not route.optional):
            fields = parse_fields(body)
        return Call(
            name,
            self._event.identity,
            fields,
            items,
            LINES in self._header("accept"),
            self._request.uri.partition(b"?")[2] == b"details",
            self._header(CONFIRMATION.lower()),
        )

    def _header(self, name: str) -> str:
        return next((value for one, value in self._request.head.headers if one == name), "")

    async def _body(self, route: Route) -> bytes:
        if not route.max_body:
            return b""
        source, body = self._request.body, bytearray()
        if source.size is not None and source.size > route.max_body:
            raise Malformed()
        while block := await source.read():
            body += block
            if len(body) > route.max_body:
                raise Malformed()
        return bytes(body)

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

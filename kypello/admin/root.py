# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The resource that serves the administration API, and that of the key service.
"""

import re
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import unquote

from attrs import define, field
from twisted.logger import Logger
from twisted.web.resource import Resource

from kypello.admin.call import AdminFront, Call
from kypello.admin.errors import Rejected, translate
from kypello.admin.routes import Route, find_route
from kypello.admin.wire import json_response
from kypello.auth.request import RequestHead
from kypello.crypto.payload import MAX_PAYLOAD
from kypello.http.head import read_head
from kypello.http.request import StreamingRequest
from kypello.http.respond import respond
from kypello.http.response import Response

_ADMIN = "/minio/admin/"
_VERSION = "v3"
_OLDER = frozenset({"v1", "v2"})
_DIGEST = re.compile(r"[0-9a-f]{64}")

#: Parameters that name what a request is about.
_SUBJECTS = ("accessKey", "group", "userOrGroup", "user", "name", "key-id", "bucket", "action")

_log = Logger()


class AdminResource(Resource):
    """
    All paths below ``/minio/admin/`` and ``/minio/kms/``.
    """

    isLeaf = True

    def __init__(self, front: AdminFront) -> None:
        """
        Serve *front*.
        """
        Resource.__init__(self)
        self._front = front

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        exchange = _Exchange(self._front, request, read_head(request))
        return respond(request, exchange.answer(), exchange.word)


@define(eq=False)
class _Exchange:
    """
    One request on its way to an answer.
    """

    _front: AdminFront
    _request: StreamingRequest
    _head: RequestHead
    _known: bool = field(init=False, default=False)

    async def answer(self) -> Response:
        """
        Find out what is wanted, by whom, and whether they may; take the body; do it.

        Nothing of the body is read before the signature is verified and, where the route alone
        tells what it takes, the right to do it is known; nothing is done before the body is the one
        that was signed.
        """
        self._request.operation = "Admin"
        found = find_route(self._head.method, self._head.path)
        if found is None:
            raise _mismatch(self._head.path)
        route, tail = found
        self._known = True
        self._request.operation = route.name
        stated = self._stated_digest()
        identity = await self._front.authenticator.authenticate_call(self._head, stated)
        self._check_text(tail)
        call = Call(self._front, identity, self._head, tail)
        if route.actions and not route.asks:
            await call.require(*route.actions)
        call.content = await self._read_body(route, stated)
        response = await route.perform(call)
        self._record(route, call)
        return self._finished(response)

    def word(self, error: Exception) -> Response:
        """
        Tell what went wrong.
        """
        rejected = translate(error, self._request.request_id)
        # What is no route has never been a request of this API, as clients know it.
        request_id, host_id = self._request.request_id, self._front.host_id
        told = {
            "Code": rejected.code,
            "Message": rejected.message,
            "Resource": unquote(self._head.path),
            "RequestId": request_id if self._known else "",
            "HostId": host_id if self._known else "",
        }
        response = json_response(told, rejected.status)
        return self._finished(
            Response(response.status, (*response.headers, *rejected.headers), response.body)
        )

    def _stated_digest(self) -> str:
        """
        The digest of the body that the client signs.

        :raises Rejected: There is none: what is not covered by the signature may be anybody's.  Who
            does not sign at all is told that, and nothing of digests.
        """
        if self._head.header("authorization") is None:
            raise Rejected(403, "AccessDenied", "Access Denied.")
        stated = self._head.header("x-amz-content-sha256")
        if stated is None or not _DIGEST.fullmatch(stated):
            raise Rejected(
                400,
                "InvalidRequest",
                "The header x-amz-content-sha256 has to be the SHA-256 of the body, in hex.",
            )
        return stated

    def _check_text(self, tail: str) -> None:
        """
        See that the query, now that it is known to be what was signed, is text.
        """
        try:
            for pair in self._head.query:
                for text in pair:
                    text.encode()
        except UnicodeError:
            raise Rejected(400, "InvalidURI", "The query is not UTF-8.") from None

    async def _read_body(self, route: Route, stated: str) -> bytes:
        source, limit = self._request.body, route.limit
        body = bytearray()
        while source.size is None or source.size <= limit:
            block = await source.read()
            if not block:
                break
            body += block
            if len(body) > limit:
                raise _too_large(limit)
        else:
            raise _too_large(limit)
        if not compare_digest(sha256(body).hexdigest(), stated):
            raise Rejected(
                400,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        return bytes(body)

    def _record(self, route: Route, call: Call) -> None:
        """
        Log who has changed something, and of whom or what, as far as the query tells.
        """
        if route.method != "GET":
            about = next(filter(None, map(call.parameter, _SUBJECTS)), "")
            _log.info(
                "{request_id} {operation} {about!r} by {access_key!r}",
                request_id=self._request.request_id,
                operation=route.name,
                about=about,
                access_key=call.identity.access_key,
            )

    def _finished(self, response: Response) -> Response:
        headers = [
            ("x-amz-request-id", self._request.request_id),
            ("x-amz-id-2", self._front.host_id),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers,
        ]
        return Response(response.status, headers, response.body)


def _mismatch(path: str) -> Rejected:
    """
    The refusal of what is no route, by which clients find the version that there is.
    """
    word = path.removeprefix(_ADMIN).partition("/")[0] if path.startswith(_ADMIN) else _VERSION
    if word == _VERSION:
        text = "This server does not have such a call of its API."
    else:
        direction = "newer" if word in _OLDER else "older"
        text = (
            f"This server has version {_VERSION} of the API, and not {word!r}:"
            f" a client of an {direction} version is needed."
        ).replace("an newer", "a newer")
    return Rejected(426, "XMinioAdminVersionMismatch", text)


def _too_large(limit: int) -> Rejected:
    if limit == MAX_PAYLOAD:
        return Rejected(
            400, "XMinioAdminConfigTooLarge", "The encrypted configuration is too large."
        )
    return Rejected(400, "EntityTooLarge", f"The body has more than {limit} bytes.")

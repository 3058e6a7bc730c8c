# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The resource of the security token service: every ``POST`` on the root of the server.
"""

from hashlib import sha256
from typing import Any

from attrs import define
from OpenSSL import SSL
from twisted.web.resource import Resource

from kypello.auth.request import RequestHead
from kypello.auth.source import source_address
from kypello.errors import Refused
from kypello.http.head import read_head
from kypello.http.request import StreamingRequest
from kypello.http.respond import respond
from kypello.http.response import Response
from kypello.http.tls import peer_certificates
from kypello.sts.actions import ACTIONS
from kypello.sts.errors import word
from kypello.sts.front import Call, STSFront
from kypello.sts.wire import MAX_FORM, VERSION, granted_response, read_fields

_FORM = "application/x-www-form-urlencoded"


def is_call(request: StreamingRequest) -> bool:
    """
    Whether a request is a call of the security token service: a ``POST`` on the root that brings
    a form of words, or names its action in the query.  Forms with files are for buckets.
    """
    if request.method != b"POST" or request.path != b"/":
        return False
    kind = dict(request.head.headers).get("content-type", "")
    return kind.partition(";")[0].strip().lower() == _FORM or b"Action=" in request.uri


class STSResource(Resource):
    """
    All actions.
    """

    isLeaf = True

    def __init__(self, front: STSFront) -> None:
        """
        Serve *front*.
        """
        Resource.__init__(self)
        self._front = front

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        exchange = _Exchange(self._front, request)
        return respond(request, exchange.answer(), exchange.word)


@define(eq=False)
class _Exchange:
    """
    One call on its way to an answer.

    :ivar _action: What is asked for, if it is something that there is.
    """

    _front: STSFront
    _request: StreamingRequest
    _action: str = "STS"

    async def answer(self) -> Response:
        """
        Read the call and do it.
        """
        request = self._request
        request.operation = self._action
        head = read_head(request)
        body = await self._body(head.header("content-type") or "")
        fields = read_fields(body, request.uri.partition(b"?")[2])
        version, action = fields.text("Version"), fields.text("Action")
        if version != VERSION:
            raise Refused(
                "MissingParameter", f"Invalid STS API version {version}, expecting {VERSION}"
            )
        perform = ACTIONS.get(action)
        if perform is None:
            raise Refused("InvalidParameterValue", f"Unsupported action {action}")
        self._action = request.operation = action
        call = Call(head, self._source(head), fields, sha256(body).hexdigest(), self._chain())
        granted = await perform(self._front, call)
        return self._finished(granted_response(action, granted, request.request_id))

    def word(self, error: Exception) -> Response:
        """
        Tell what went wrong.
        """
        request = self._request
        source = self._source(read_head(request))
        return self._finished(word(error, self._action, source, request.request_id))

    async def _body(self, content_type: str) -> bytes:
        source, body = self._request.body, bytearray()
        while block := await source.read():
            body += block
            if len(body) > MAX_FORM:
                raise Refused("InvalidParameterValue", f"The form is longer than {MAX_FORM} bytes.")
        if body and content_type.partition(";")[0].strip().lower() != _FORM:
            raise Refused("InvalidParameterValue", f"The Content-Type must be {_FORM}.")
        return bytes(body)

    def _source(self, head: RequestHead) -> str:
        return source_address(head, self._front.proxies)

    def _chain(self) -> list[bytes]:
        if self._front.certificates is None or not self._request.isSecure():
            return []
        channel: Any = self._request.channel
        connection: SSL.Connection = channel.transport.getHandle()
        return peer_certificates(connection)

    def _finished(self, response: Response) -> Response:
        named = ("x-amz-request-id", self._request.request_id)
        words = self._front.tell_page(read_head(self._request))
        return Response(response.status, (named, *words, *response.headers), response.body)

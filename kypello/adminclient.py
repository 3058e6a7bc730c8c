# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A client of the administration API: signed calls, payloads that only both sides can read, and
errors that say what to do.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from attrs import define, field, frozen
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from kypello.auth.dates import write_timestamp
from kypello.auth.request import RequestHead
from kypello.auth.signer import Keys, authorization
from kypello.auth.sigv4 import Scope
from kypello.crypto import payload
from kypello.errors import KypelloError, NotAuthentic
from kypello.interfaces import ILane
from kypello.kms.agent import WholeBody
from kypello.kms.reasons import explain

#: Parameters of a call, in their order; a name may come more than once.
Query = Sequence[tuple[str, str]]

#: The longest answer that is read, in bytes.
MAX_ANSWER = 64 << 20

#: How long most calls may take, in seconds.
PATIENCE = 120.0

_PREFIX = "/minio/admin/v3/"
#: Servers take any region for these calls.
_REGION = "us-east-1"
_NO_SUCH_CALL = 426
_ADVICE = {
    "AccessDenied": "these credentials may not do this",
    "InvalidAccessKeyId": "the server does not know this access key, or it is disabled",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "RequestTimeTooSkewed": "the clocks of this machine and the server are too far apart",
}


@define(eq=False)
class CallRefused(KypelloError):
    """
    The server answered that it does not do what it was asked.

    :ivar status: Of HTTP.
    :ivar code: Its name for the reason; empty when the answer tells none.
    :ivar message: Its words for it.
    """

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        if self.status == _NO_SUCH_CALL:
            return "the server does not know this call; it may be older than this command"
        advice = _ADVICE.get(self.code)
        if advice:
            return f"{advice} ({self.code})"
        words = self.message.rstrip(".") or f"the server answers with status {self.status}"
        return f"{words} ({self.code})" if self.code else words


@define(eq=False)
class NoAnswer(KypelloError):
    """
    There was no answer that can be read.  Whether the call had an effect is not known.

    :ivar endpoint: Who was asked.
    :ivar reason: Why; begins with ``it``, ``its`` or ``the``.
    """

    endpoint: str
    reason: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return f"{self.endpoint}: {self.reason}"


@frozen
class Access:
    """
    Where a server is, and who asks it.

    :ivar endpoint: ``http`` or ``https``, host and port.
    :ivar token: Of temporary credentials; empty for others.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)

    @property
    def in_clear(self) -> bool:
        """
        Whether others can read what is sent: it leaves this machine without TLS.
        """
        url = urlsplit(self.endpoint)
        if url.scheme == "https" or url.hostname == "localhost":
            return False
        try:
            return not ip_address(url.hostname or "").is_loopback
        except ValueError:
            return True


@define(eq=False)
class AdminClient:
    """
    Calls one server in the name of somebody.

    :ivar access: Which, and whose.
    :ivar _lane: Where keys are derived from the secret key, which takes a tenth of a second.
    :ivar _random: Gives so many random bytes.
    """

    access: Access
    _agent: IAgent
    _clock: IReactorTime
    _lane: ILane
    _random: Callable[[int], bytes]
    _http: HTTPClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Speak through the agent.
        """
        self._http = HTTPClient(self._agent)

    async def call(
        self,
        method: str,
        operation: str,
        query: Query = (),
        body: bytes = b"",
        patience: float = PATIENCE,
        heard: Callable[[bytes], object] | None = None,
    ) -> bytes:
        """
        Make one call.  Nothing is repeated.

        :param operation: What follows ``/minio/admin/v3/``.
        :param patience: How long it may take, in seconds.
        :param heard: Called with each part of the body of a good answer, as it comes, in place of
            what is returned.
        :return: The body of the answer.
        :raises CallRefused:
        :raises NoAnswer:
        :raises CancelledError:
        """
        waiting = Deferred.fromCoroutine(
            self._exchange(method, _PREFIX + operation, query, body, heard)
        )
        try:
            status, answer = await waiting.addTimeout(patience, self._clock, self._give_up)
        except KypelloError:
            raise
        except Exception as error:
            if any(isinstance(cause, CancelledError) for cause in _causes(error)):
                # Who asked is not interested any more.
                raise CancelledError from error
            raise NoAnswer(self.access.endpoint, _explain(error)) from error
        if status // 100 != 2:
            raise _refusal(status, answer)
        return answer

    def now(self) -> float:
        """
        Seconds since the epoch.
        """
        return self._clock.seconds()

    async def wait(self, seconds: float) -> None:
        """
        Let some time pass.
        """
        await deferLater(self._clock, seconds)

    async def seal(self, value: object) -> bytes:
        """
        Make the encrypted body of a call.

        :param value: What JSON can hold.
        """
        sealed: bytes = await self._lane.run(
            payload.encrypt, self.access.secret_key, json.dumps(value).encode(), self._random
        )
        return sealed

    async def unseal(self, answer: bytes) -> Any:
        """
        Read an encrypted answer.

        :raises NoAnswer: It is none.
        """
        try:
            opened = await self._lane.run(payload.decrypt, self.access.secret_key, answer)
        except NotAuthentic as error:
            raise NoAnswer(
                self.access.endpoint, "its answer was not encrypted with the secret key"
            ) from error
        return self.read(opened)

    def read(self, answer: bytes) -> Any:
        """
        Read an answer in JSON.

        :raises NoAnswer: It is none.
        """
        try:
            return json.loads(answer)
        except ValueError as error:
            raise NoAnswer(self.access.endpoint, "its answer is not JSON") from error

    def _give_up(self, _outcome: object, _time: float) -> NoReturn:
        """
        Called with what became of a call that took too long.
        """
        raise NoAnswer(self.access.endpoint, "it does not answer")

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Query,
        body: bytes,
        heard: Callable[[bytes], object] | None,
    ) -> tuple[int, bytes]:
        headers = self._signed(method, path, query, body)
        if body:
            # MinIO takes the body of a POST for a form otherwise, and refuses it.
            headers.addRawHeader(b"content-type", b"application/octet-stream")
        asked = "&".join(f"{quote(name, '')}={quote(value, '')}" for name, value in query)
        url = self.access.endpoint + path + (f"?{asked}" if asked else "")
        response = await self._http.request(
            method,
            url,
            headers=headers,
            data=WholeBody(body) if body else None,
            allow_redirects=False,
            unbuffered=True,
        )
        parts: list[bytes] = []
        size = 0

        def take(part: bytes) -> None:
            nonlocal size
            if heard is not None and response.code // 100 == 2:
                heard(part)
                return
            size += len(part)
            if size > MAX_ANSWER:
                raise NoAnswer(self.access.endpoint, "its answer is too long")
            parts.append(part)

        await collect(response, take)
        return response.code, b"".join(parts)

    def _signed(self, method: str, path: str, query: Query, body: bytes) -> Headers:
        """
        The headers of a call, with its signature.
        """
        access, digest = self.access, sha256(body).hexdigest()
        timestamp = write_timestamp(self._clock.seconds())
        signed = {
            "host": urlsplit(access.endpoint).netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": timestamp,
        }
        if access.token:
            signed["x-amz-security-token"] = access.token
        head = RequestHead(method, path, tuple(query), tuple(signed.items()))
        keys = Keys(access.access_key, access.secret_key, access.token)
        scope = Scope(timestamp[:8], _REGION)
        signed["authorization"] = authorization(head, keys, scope, timestamp, digest)
        return Headers({name.encode(): [value.encode()] for name, value in signed.items()})


def _refusal(status: int, answer: bytes) -> CallRefused:
    """
    What an error document says, in JSON or XML.
    """
    code = message = ""
    try:
        told = json.loads(answer)
        code, message = str(told["Code"]), str(told["Message"])
    except (ValueError, KeyError, TypeError):
        code, message = _in_xml(answer)
    return CallRefused(status, code, message)


def _in_xml(answer: bytes) -> tuple[str, str]:
    if b"<!" in answer:
        return "", ""  # no server declares entities; who does means harm
    try:
        root = ElementTree.fromstring(answer)  # noqa: S314  # declarations are refused above
    except ElementTree.ParseError:
        return "", ""
    return root.findtext("Code") or "", root.findtext("Message") or ""


def _explain(error: Exception) -> str:
    """
    Say why there is no answer.
    """
    for cause in _causes(error):
        if isinstance(cause, VerificationError):
            return "its certificate is not for this host name"
        if isinstance(cause, SSL.Error) and "certificate verify failed" in str(cause):
            return "its certificate is not trusted: name that of its authority with --ca"
    return explain(error)


def _causes(error: BaseException) -> list[BaseException]:
    reasons = [reason.value for reason in getattr(error, "reasons", ())]
    return [error, *(cause for reason in reasons for cause in _causes(reason))]

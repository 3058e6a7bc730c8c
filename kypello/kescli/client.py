# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A client of key servers for commands: one call at a time, and what is wrong in words.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from attrs import define, field, frozen
from OpenSSL import SSL
from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import deferLater
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from kypello.errors import KypelloError
from kypello.kescli.command import CommandError
from kypello.kescli.target import Target
from kypello.kms.agent import WholeBody
from kypello.kms.handshake import Connection, NotConnected, ProvedEndpoints
from kypello.kms.reasons import explain
from kypello.kms.tls import load
from kypello.kms.verification import VerifiedServer
from kypello.kms.wire import message_of

#: How long a call may take, in seconds.
PATIENCE = 60.0

#: The longest answer that is read, in bytes.
MAX_ANSWER = 16 << 20


@define(eq=False)
class CallRefused(KypelloError):
    """
    The server answered that it does not do what it was asked.

    :ivar status: Of HTTP.
    :ivar message: Its words for it.
    """

    status: int
    message: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return self.message or f"the server answers with status {self.status}"


@define(eq=False)
class NoAnswer(KypelloError):
    """
    There was no answer that can be read.  Whether the call had an effect is not known.

    :ivar reason: Whose, and why.
    """

    reason: str

    def __str__(self) -> str:
        """
        Tell it to people.
        """
        return self.reason


@implementer(IPolicyForHTTPS)
@frozen
class _Policy:
    """
    Makes connections to servers that prove who they are, or to any.
    """

    _context: SSL.Context
    _insecure: bool

    def creatorForNetloc(self, hostname: bytes, _port: int) -> IOpenSSLClientConnectionCreator:
        """
        Called by Twisted for each connection.
        """
        host = hostname.decode("ascii")
        if self._insecure:
            anybody: IOpenSSLClientConnectionCreator = _Anybody(self._context)
            return anybody
        verified: IOpenSSLClientConnectionCreator = VerifiedServer(
            self._context, host, "a file that --ca or MINIO_KMS_KES_CAPATH names"
        )
        return verified


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Anybody:
    """
    Makes connections to whoever answers.
    """

    _context: SSL.Context

    def clientConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """
        Called by Twisted.
        """
        connection = SSL.Connection(self._context, None)
        connection.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        return connection


@define(eq=False)
class KESCaller:
    """
    Calls the first of some servers that can be reached.

    :ivar _open: Connections.
    """

    _reactor: Any
    target: Target
    _http: HTTPClient
    _open: set[Connection] = field(factory=set)

    @classmethod
    def make(cls, reactor: Any, target: Target) -> "KESCaller":
        """
        Read keys and certificates; connects to nobody yet.  Blocking.

        :raises ConfigurationError: They cannot be used.
        """
        opened: set[Connection] = set()
        policy = _Policy(load(target.settings).context, target.insecure)
        endpoints = ProvedEndpoints(reactor, policy, opened, lambda: None)
        return cls(
            reactor, target, HTTPClient(Agent.usingEndpointFactory(reactor, endpoints)), opened
        )

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """
        Make one call.

        :param path: Percent-encoded.
        :param body: A JSON object.
        :return: The body of the answer.
        :raises CallRefused:
        :raises NoAnswer:
        """
        parts: list[bytes] = []
        waiting = Deferred.fromCoroutine(
            self._anywhere(method, path, body, headers or {}, _bounded(parts))
        )
        await waiting.addTimeout(PATIENCE, self._reactor, self._give_up)
        return b"".join(parts)

    async def ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        """
        Make one call whose answer is JSON.

        :raises CallRefused:
        :raises NoAnswer:
        """
        answer = await self.call(method, path, body)
        try:
            return json.loads(answer)
        except ValueError:
            # It may hold a secret and is not told.
            raise NoAnswer(f"{self.target.endpoints[0]}: its answer is not JSON") from None

    async def follow(self, path: str, heard: Callable[[bytes], None]) -> None:
        """
        Read an answer that goes on, until it ends.

        :param heard: Called with each part.
        :raises CallRefused:
        :raises NoAnswer:
        """
        await self._anywhere("GET", path, None, {}, heard)

    def now(self) -> float:
        """
        Seconds of the clock.
        """
        seconds: float = self._reactor.seconds()
        return seconds

    async def wait(self, seconds: float) -> None:
        """
        Let some time pass.
        """
        await deferLater(self._reactor, seconds)

    async def close(self) -> None:
        """
        Close all connections.
        """
        for connection in tuple(self._open):
            connection.abortConnection()
        await deferLater(self._reactor, 0)

    def _give_up(self, _outcome: object, _time: float) -> NoReturn:
        """
        Called with what became of a call that took too long.
        """
        raise NoAnswer(f"{', '.join(self.target.endpoints)}: no answer within {PATIENCE:g} s")

    async def _anywhere(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        headers: Mapping[str, str],
        heard: Callable[[bytes], None],
    ) -> None:
        reasons = []
        for endpoint in self.target.endpoints:
            try:
                await self._exchange(method, endpoint + path, body, headers, heard)
                return
            except (KypelloError, CancelledError) as error:
                if not isinstance(error, NotConnected):
                    raise
                cause: Exception = error
            except Exception as error:
                cause = error
                if not _unconnected(error):
                    raise NoAnswer(f"{endpoint}: {explain(error)}") from error
            reasons.append(f"{endpoint}: {explain(cause)}")
        raise NoAnswer("; ".join(reasons))

    async def _exchange(
        self,
        method: str,
        url: str,
        body: Mapping[str, str] | None,
        headers: Mapping[str, str],
        heard: Callable[[bytes], None],
    ) -> None:
        content = None if body is None else json.dumps(body).encode()
        response = await self._http.request(
            method,
            url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            data=None if content is None else WholeBody(content),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        if response.code == 200:
            await collect(response, heard)
            return
        parts: list[bytes] = []
        await collect(response, _bounded(parts))
        raise CallRefused(response.code, message_of(b"".join(parts)))


def _bounded(parts: list[bytes]) -> Callable[[bytes], None]:
    def take(part: bytes) -> None:
        if sum(map(len, parts)) + len(part) > MAX_ANSWER:
            raise NoAnswer("the answer is too long")
        parts.append(part)

    return take


def _unconnected(error: Exception) -> bool:
    """
    Whether a request failed before anything can have been sent.
    """
    return any(isinstance(one.value, NotConnected) for one in getattr(error, "reasons", ()))


def refused(error: KypelloError, what: str) -> CommandError:
    """
    The error of a command whose call has failed.

    :param what: What it was to do.
    """
    return CommandError(f"{what}: {error}")

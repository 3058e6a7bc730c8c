# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sends events to a webhook: each in a request of its own, over connections that stay open.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from kypello.errors import KypelloError
from kypello.eventconfig import WebhookSettings
from kypello.interfaces import ILane

#: How long a request may take, and how long a connection may, in seconds.
DEADLINE = 10.0
_CONNECT = 5.0

#: How long a connection stays open that nothing is sent over, in seconds.
_IDLE = 2

#: How many requests are under way at once.
AT_ONCE = 8

#: What says that one event is not wanted, and nothing about others.
_OF_THE_EVENT = frozenset({400, 406, 409, 413, 415, 422})

#: Makes what decides whom we trust, and has our own certificate shown.
MakePolicy: TypeAlias = Callable[[Callable[[SSL.Context], object] | None], IPolicyForHTTPS]


@define(eq=False)
class Undelivered(KypelloError):
    """
    An event was not taken, or it is not known whether it was.

    :ivar reason: For people.
    :ivar of_the_event: Whether others may be taken all the same.
    """

    reason: str
    of_the_event: bool = False

    def __str__(self) -> str:
        """
        Tell why.
        """
        return self.reason


@define(eq=False)
class Webhook:
    """
    A server that takes events.

    :ivar _lane: Where files are read.
    :ivar _deadline: How long a request may take, in seconds.
    :ivar _certificate: Certificate and key as they were read last.
    """

    settings: WebhookSettings
    _reactor: Any
    _policy: MakePolicy
    _lane: ILane
    _deadline: float = DEADLINE
    _pool: HTTPConnectionPool = field(init=False, repr=False)
    _client: HTTPClient | None = field(init=False, default=None, repr=False)
    _certificate: tuple[bytes, bytes] | None = field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        No connection is open.
        """
        self._pool = HTTPConnectionPool(self._reactor)
        self._pool.maxPersistentPerHost = AT_ONCE
        # Servers close what is idle, many of them after five seconds: it has to be us.
        self._pool.cachedConnectionTimeout = _IDLE

    @property
    def name(self) -> str:
        """
        What it is called.
        """
        return self.settings.name

    async def prepare(self) -> None:
        """
        Read the certificate that we show, which may be another one than before.

        :raises Undelivered: It cannot be used.
        """
        certificate, settings = None, self.settings
        if settings.client_cert is not None and settings.client_key is not None:
            try:
                certificate = await self._lane.run(
                    _read_both, settings.client_cert, settings.client_key
                )
            except OSError as error:
                raise Undelivered(f"{error.filename}: {error.strerror}") from None
        if self._client is not None and certificate == self._certificate:
            return
        present = None if certificate is None else _presenting(*certificate)
        endpoints = _Endpoints(self._reactor, self._policy(present))
        agent = Agent.usingEndpointFactory(self._reactor, endpoints, pool=self._pool)
        if self._client is not None:
            # What is open shows the certificate before.
            await self._pool.closeCachedConnections()
        self._client, self._certificate = HTTPClient(agent), certificate

    async def send(self, message: bytes) -> None:
        """
        Send an event.

        :raises Undelivered: It may have arrived all the same.
        """
        sending = Deferred.fromCoroutine(self._send(message))
        sending.addTimeout(self._deadline, self._reactor)
        try:
            status = await sending
        except DeferredTimeout:
            raise Undelivered(f"no answer within {self._deadline:g} s") from None
        if not 200 <= status < 300:
            raise Undelivered(f"it answers {status}", status in _OF_THE_EVENT)

    async def close(self) -> None:
        """
        Close what is open.
        """
        await self._pool.closeCachedConnections()

    async def _send(self, message: bytes) -> int:
        """
        Send an event; give the status of the answer.
        """
        assert self._client is not None
        headers = Headers({"Content-Type": ["application/json"]})
        token = self.settings.token
        if token:
            # One that says what it is stands for itself.
            stated = token if " " in token else f"Bearer {token}"
            headers.addRawHeader("Authorization", stated)
        try:
            response = await self._client.post(
                self.settings.endpoint,
                data=message,
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            status: int = response.code
            # The rest means nothing, and the connection is used again behind it.
            await response.collect(lambda _data: None)
            if response.version[1:] < (1, 1):
                # It closes each connection behind its answer, without a word about it.
                self._pool.persistent = False
                await self._pool.closeCachedConnections()
        except Exception as error:
            if _is_cancelled(error):
                raise CancelledError() from error
            # There are many ways not to reach somebody; none of them is a mistake of ours.
            raise Undelivered(_words(error)) from None
        return status


@implementer(IAgentEndpointFactory)
@frozen(eq=False)
class _Endpoints:
    """
    Where webhooks are.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """
        Called by Twisted for each connection.
        """
        endpoint: Any = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=_CONNECT)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        quiet: IStreamClientEndpoint = _Quiet(endpoint)
        return quiet


@implementer(IStreamClientEndpoint)
@frozen(eq=False)
class _Quiet:
    """
    An endpoint whose connections are not worth lines of the log.
    """

    _endpoint: IStreamClientEndpoint

    def connect(self, factory: Any) -> "Deferred[IProtocol]":
        """
        Called by Twisted.
        """
        factory.noisy = False
        return self._endpoint.connect(factory)


def _read_both(*paths: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in paths)


def _presenting(certificate: bytes, key: bytes) -> Callable[[SSL.Context], object]:
    """
    What has a connection show a certificate.

    :raises Undelivered: It is none, or not of the key.
    """
    try:
        first, *others = x509.load_pem_x509_certificates(certificate)
        private: Any = load_pem_private_key(key, None)
    except (TypeError, ValueError):
        # The cause is dropped: its text may tell of the key.
        raise Undelivered("the client certificate, or its key, is no PEM in clear") from None

    def present(context: SSL.Context) -> None:
        """
        Show it.
        """
        context.use_certificate(first)
        for one in others:
            context.add_extra_chain_cert(one)
        context.use_privatekey(private)
        context.check_privatekey()

    try:
        present(SSL.Context(SSL.TLS_CLIENT_METHOD))
    except SSL.Error:
        raise Undelivered("the client certificate is not of the key beside it") from None
    return present


def _is_cancelled(error: Exception) -> bool:
    """
    Whether it is we who gave up, which Twisted tells in as many ways as there are stages.
    """
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return True
    reasons = error.reasons if isinstance(error, ResponseFailed) else ()
    return any(reason.check(CancelledError) for reason in reasons)


def _words(error: Exception) -> str:
    """
    What went wrong, for people: what lies below, where the error tells that.
    """
    if isinstance(error, ResponseFailed):
        error = error.reasons[0].value
    return f"{type(error).__name__}: {error}"

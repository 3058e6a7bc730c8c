# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Fetches the documents of OpenID providers.
"""

from typing import Any

from attrs import define
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionLost,
    DNSLookupError,
)
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IPolicyForHTTPS

from kypello.iam.logins import LoginRefused, ProviderUnreachable

#: How long a document may take, in seconds, and how large it may be, in bytes.
DEADLINE = 10.0
MAX_DOCUMENT = 1024 * 1024

_FAILURES = (
    CancelledError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionLost,
    DeferredTimeout,
    DNSLookupError,
    ResponseFailed,
    SchemeNotSupported,
    UnicodeError,
    ValueError,
)


@define(eq=False)
class WebClient:
    """
    Gets documents over HTTP.  Redirections are not followed: a provider is asked where it is
    configured to be.
    """

    _reactor: Any
    _agent: IAgent

    @classmethod
    def make(cls, reactor: Any, policy: IPolicyForHTTPS) -> "WebClient":
        """
        One that talks to the servers that *policy* trusts.
        """
        agent = Agent(
            reactor,
            policy,
            connectTimeout=DEADLINE,
            pool=HTTPConnectionPool(reactor, persistent=False),
        )
        return cls(reactor, agent)

    async def get(self, url: str, bearer: str = "") -> bytes:
        """
        Get a document.

        :param bearer: An access token to show; empty for none.
        :raises LoginRefused: The access token is refused.
        :raises ProviderUnreachable: No whole document comes in time.
        """
        working = Deferred.fromCoroutine(self._get(url, bearer))
        working.addTimeout(DEADLINE, self._reactor)
        try:
            return await working
        except DeferredTimeout:
            raise ProviderUnreachable(f"{url} does not answer in time") from None

    async def _get(self, url: str, bearer: str) -> bytes:
        headers = Headers({"Accept": ["application/json"]})
        if bearer:
            headers.addRawHeader("Authorization", f"Bearer {bearer}")
        document = bytearray()

        def collect(data: bytes) -> None:
            """
            Take a piece of the document.
            """
            if len(document) + len(data) > MAX_DOCUMENT:
                raise ValueError(f"it is larger than {MAX_DOCUMENT} bytes")
            document.extend(data)

        try:
            response = await HTTPClient(self._agent).get(
                url, headers=headers, allow_redirects=False, unbuffered=True, reactor=self._reactor
            )
            status: int = response.code
            await response.collect(collect)
        except _FAILURES as error:
            if _is_cancelled(error):
                raise CancelledError() from error
            raise ProviderUnreachable(f"{url}: {type(error).__name__}: {error}") from error
        if bearer and status in (401, 403):
            raise LoginRefused("The access token is not one of the provider.")
        if status != 200:
            raise ProviderUnreachable(f"{url} answers {status}")
        return bytes(document)


def _is_cancelled(error: Exception) -> bool:
    """
    Whether it is we who gave up, which Twisted tells in as many ways as there are stages.
    """
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return True
    reasons = error.reasons if isinstance(error, ResponseFailed) else ()
    return any(reason.check(CancelledError) for reason in reasons)

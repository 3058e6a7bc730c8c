# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
HTTP towards a key store that is a service.
"""

import json
from typing import Any

from attrs import define, field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.logger import Logger
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import ILane, ILanes
from kypello.keystore.webtls import PLACE, StoreTLS, TLSFiles, load
from kypello.kms.reasons import explain

#: How long a connection may take to be made, and a whole call, in seconds: less than what the
#: key server gives its own clients.
CONNECT = 5.0
DEADLINE = 10.0

#: The longest answer, in bytes: a listing of more keys than anybody has.
MAX_ANSWER = 32 * 1024 * 1024

#: How often the files of TLS are looked at, in seconds, when there is a call.
RELOAD = 60.0

_FAILURES = (
    ConnectError,
    ConnectionClosed,
    DeferredTimeout,
    DNSLookupError,
    PotentialDataLoss,
    RequestTransmissionFailed,
    ResponseFailed,
)

_log = Logger()


@frozen
class Answer:
    """
    What a service has answered.

    :ivar body: Secret: it can be a key.
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def unwell(self) -> bool:
        """
        Whether the service cannot answer now: it has trouble, or is asked too often.
        """
        return self.status >= 500 or self.status == 429

    def document(self) -> dict[str, Any]:
        """
        The JSON object that is the body; an empty one for anything else.
        """
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@define(eq=False)
class WebClient:
    """
    Calls one service.  Nothing is repeated, and redirections are not followed.

    A connection serves one call: calls are rare, since keys are kept in memory, and a connection
    that is kept through the death of its server would make the next call wait.

    :ivar _files: Read in *_lane*, which makes *_tls*.
    :ivar _looked: When the files were looked at last.
    """

    _reactor: Any
    _files: TLSFiles
    _lane: ILane
    _agent: IAgent
    _tls: StoreTLS
    _looked: float | None = None

    @classmethod
    def make(cls, reactor: Any, files: TLSFiles, lanes: ILanes, place: str = PLACE) -> "WebClient":
        """
        One that reads the files with its first call, and again when they have changed.

        :param place: What tells whom we trust, for people.
        """
        tls = StoreTLS(place=place)
        agent = Agent(
            reactor,
            tls,
            connectTimeout=CONNECT,
            pool=HTTPConnectionPool(reactor, persistent=False),
        )
        return cls(reactor, files, lanes.lane(), agent, tls)

    async def call(
        self,
        method: str,
        url: str,
        headers: Headers | None = None,
        body: bytes | None = None,
        *,
        deadline: float = DEADLINE,
    ) -> Answer:
        """
        Send a request and wait for the whole answer, whatever its status.

        :param deadline: How long both may take, in seconds.
        :raises KeyStoreUnreachable: There is no whole answer in time.  What was asked may have
            been done.
        :raises KeyStoreFailed: The files of TLS cannot be used.
        """
        await self._look()
        began = self._reactor.seconds()
        working = Deferred.fromCoroutine(self._call(method, url, headers, body))
        working.addTimeout(deadline, self._reactor)
        try:
            return await working
        except _FAILURES as error:
            # The address alone: what is behind it names keys.
            place = "/".join(url.split("/", 3)[:3])
            late = self._reactor.seconds() - began >= deadline
            reason = "it does not answer in time" if late else explain(error)
            raise KeyStoreUnreachable(f"{place}: {reason}") from error

    async def _call(
        self, method: str, url: str, headers: Headers | None, body: bytes | None
    ) -> Answer:
        content = bytearray()

        def collect(data: bytes) -> None:
            """
            Take a piece of the answer.
            """
            if len(content) + len(data) > MAX_ANSWER:
                raise KeyStoreFailed("the answer is longer than any can be")
            content.extend(data)

        response = await HTTPClient(self._agent).request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        await response.collect(collect)
        return Answer(response.code, response.headers, bytes(content))

    async def _look(self) -> None:
        now = self._reactor.seconds()
        old = self._tls.loaded
        if old is not None and self._looked is not None and now - self._looked < RELOAD:
            return
        try:
            self._tls.loaded = await self._lane.run(load, self._files, old)
        except KeyStoreFailed as error:
            if old is None:
                raise
            # The key is replaced and the certificate not yet, or the other way round.
            _log.error("the new files for the key store are not used: {error}", error=error)
        self._looked = now

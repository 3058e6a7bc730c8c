# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key server's front in memory, for tests.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger

from kypello.http.request import StreamingRequest
from kypello.interfaces import IKeyStore
from kypello.kes.audit import Audit
from kypello.kes.cache import Expiry, KeyCache
from kypello.kes.identity import NoIdentity
from kypello.kes.keyring import Keyring
from kypello.kes.limits import Limits, RateLimiter
from kypello.kes.metrics import Counts
from kypello.kes.operations import About, Operations
from kypello.kes.policy import Access, Policy
from kypello.kes.proxy import Caller
from kypello.kes.resource import Front, KESResource
from kypello.kes.routes import Setting, configured_routes, tell_routes
from kypello.kes.streams import Streams
from kypello.keystore.memory import MemoryKeyStore
from kypello.monitor.text import CONTENT_TYPE, Family, render
from kypello.testing.harness import Answer, Harness, RawClient

#: The administrator, a user with a policy, and somebody without one.
ADMIN, USER, STRANGER = "a" * 64, "b" * 64, "c" * 64

ACCESS = Access(
    ADMIN,
    {
        USER: Policy(
            "app",
            ("/v1/key/create/app-*", "/v1/key/generate/app-*", "/v1/key/list/*"),
            ("/v1/key/generate/app-secret",),
        )
    },
)


def identify(request: StreamingRequest) -> Caller:
    """
    Believe what the request says of its sender.
    """
    told: str | None = request.getHeader("X-Identity")
    if told is None:
        raise NoIdentity("tls: client certificate is required")
    return Caller(told)


@define
class KESFront:
    """
    The API over a key store, with all that it has logged.

    :ivar access: Who may do what.
    :ivar audits: The events of the audit log.
    :ivar logs: The events of the error log.
    :ivar confirmed: Keys are deleted only when their name is repeated.
    """

    store: IKeyStore = field(factory=MemoryKeyStore)
    limits: Limits = field(factory=Limits)
    calls: Mapping[str, Setting] = field(factory=dict)
    confirmed: bool = False
    access: Access = ACCESS
    audits: list[dict[str, Any]] = field(factory=list)
    logs: list[dict[str, Any]] = field(factory=list)
    clock: Clock = field(init=False)
    counts: Counts = field(init=False)
    streams: Streams = field(init=False)
    _harness: Harness = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Put the parts together.
        """
        # The site's clock is made by the harness and shared with all parts.
        self.counts = Counts()
        self.streams = Streams(self.counts)
        routes = configured_routes(self.calls)
        front = Front(
            None,  # type: ignore[arg-type]  # given below
            self.access,
            routes,
            None,  # type: ignore[arg-type]  # given below
            identify,
            Audit(Logger("audit", observer=self._audited)),
            Logger("kes", observer=self._logged),
            self.counts,
            None,  # type: ignore[arg-type]  # given below
            lambda: 1700000000.25,
        )
        self._harness = Harness(KESResource(front), access_log=False)
        self.clock = front.clock = self._harness.clock
        front.limiter = RateLimiter(self.limits, frozenset({ADMIN, USER}), self.clock)
        keys = Keyring(self.store, KeyCache(self.clock, Expiry()), os.urandom, lambda: 1700000000.0)
        about = About(
            "1.2.3",
            self.clock.seconds(),
            lambda: tell_routes(routes),
            self.counts,
            self.streams,
            lambda numbers: (CONTENT_TYPE, render((Family(*each) for each in numbers), {})),
            self.confirmed,
        )
        front.operations = Operations(
            keys, self.access, about, os.urandom, self.clock, lambda: 1700000000.25
        )

    def _audited(self, event: LogEvent) -> None:
        self.audits.append(event)
        self.streams.audit(event)

    def _logged(self, event: LogEvent) -> None:
        self.logs.append(event)
        self.streams.error(event)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        identity: str | None = ADMIN,
        more: tuple[tuple[str, str], ...] = (),
    ) -> "Deferred[Answer]":
        """
        Send a request, by default as the administrator.

        :param path: Percent-encoded.
        :param more: Headers.
        """
        headers = more if identity is None else (("X-Identity", identity), *more)
        return self._harness.request(method, path, headers, body)

    def send_raw(self, data: bytes) -> bytes:
        """
        Send bytes over a connection of their own, and give what comes back at once.
        """
        client = self.connect()
        client.send(data)
        return client.take()

    def connect(self) -> RawClient:
        """
        A connection for bytes.
        """
        return self._harness.connect()

    async def call(
        self, method: str, path: str, body: Any = None, identity: str | None = ADMIN
    ) -> tuple[int, Any]:
        """
        Send a request with a JSON body, and read the JSON of the answer; ``None`` for no bytes.
        """
        sent = None if body is None else json.dumps(body).encode()
        answer = await self.send(method, path, sent, identity)
        return answer.status, json.loads(answer.body) if answer.body else None

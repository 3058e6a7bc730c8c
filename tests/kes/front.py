# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key server's front in memory, for tests.
"""

import json
import os
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from kypello.http.request import StreamingRequest
from kypello.interfaces import IKeyStore
from kypello.kes.audit import Audit
from kypello.kes.cache import Expiry, KeyCache
from kypello.kes.identity import NoIdentity
from kypello.kes.keyring import Keyring
from kypello.kes.operations import Operations
from kypello.kes.policy import Access, Policy
from kypello.kes.resource import Front, KESResource
from kypello.keystore.memory import MemoryKeyStore
from kypello.testing.harness import Answer, Harness

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


def identify(request: StreamingRequest) -> str:
    """
    Believe what the request says of its sender.
    """
    told: str | None = request.getHeader("X-Identity")
    if told is None:
        raise NoIdentity("tls: client certificate is required")
    return told


@define
class KESFront:
    """
    The API over a key store, with all that it has logged.

    :ivar audits: The events of the audit log.
    :ivar logs: The events of the error log.
    """

    store: IKeyStore = field(factory=MemoryKeyStore)
    audits: list[dict[str, Any]] = field(factory=list)
    logs: list[dict[str, Any]] = field(factory=list)
    clock: Clock = field(init=False)
    _harness: Harness = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Put the parts together.
        """
        # The site's clock is made by the harness and shared with all parts.
        front = Front(
            None,  # type: ignore[arg-type]  # given below
            ACCESS,
            identify,
            Audit(Logger("audit", observer=self.audits.append)),
            Logger("kes", observer=self.logs.append),
            None,  # type: ignore[arg-type]  # given below
            lambda: 1700000000.25,
        )
        self._harness = Harness(KESResource(front), access_log=False)
        self.clock = front.clock = self._harness.clock
        keys = Keyring(self.store, KeyCache(self.clock, Expiry()), os.urandom, lambda: 1700000000.0)
        front.operations = Operations(
            keys, ACCESS, "1.2.3", os.urandom, self.clock, lambda: 1700000000.25
        )

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        identity: str | None = ADMIN,
    ) -> "Deferred[Answer]":
        """
        Send a request, by default as the administrator.

        :param path: Percent-encoded.
        """
        headers = () if identity is None else (("X-Identity", identity),)
        return self._harness.request(method, path, headers, body)

    def send_raw(self, data: bytes) -> bytes:
        """
        Send bytes over a connection of their own, and give what comes back at once.
        """
        client = self._harness.connect()
        client.send(data)
        return client.take()

    async def call(
        self, method: str, path: str, body: Any = None, identity: str | None = ADMIN
    ) -> tuple[int, Any]:
        """
        Send a request with a JSON body, and read the JSON of the answer; ``None`` for no bytes.
        """
        sent = None if body is None else json.dumps(body).encode()
        answer = await self.send(method, path, sent, identity)
        return answer.status, json.loads(answer.body) if answer.body else None

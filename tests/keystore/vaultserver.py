# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A Vault in memory, to see what a real one cannot be made to show: lives of tokens on a clock,
silence, and answers of strangers.
"""

import json
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from kypello.keystore.vault import VaultKeyStore
from kypello.keystore.vaultclient import VaultClient
from kypello.keystore.vaultconfig import AppRole, VaultSettings
from kypello.keystore.vaultsession import Session
from kypello.keystore.web import WebClient
from kypello.keystore.webtls import StoreTLS, TLSFiles
from kypello.kms.responses import CompleteResponse
from kypello.testing.fakes import InlineLanes

URL = "https://vault:8200"
LOGIN = "PUT auth/approle/login"
RENEWAL = "PUT auth/token/renew-self"
LOOKUP = "GET auth/token/lookup-self"

Reply = tuple[int, dict[str, str], bytes]


def reply(status: int, content: Any = None, **headers: str) -> Reply:
    """
    An answer in JSON.
    """
    return status, headers, b"" if content is None else json.dumps(content).encode()


_BY_ITSELF: Reply = (0, {}, b"")


@implementer(IAgent)
@define(eq=False)
class VaultServer:
    """
    The server, as an agent that sends all requests to it: a login that makes tokens, and an
    engine of version 2 where nothing is.

    :ivar life: Of tokens, in seconds; 0 has no end.
    :ivar tokens: Until when each is good.
    :ivar asked: What was asked, with method and path, and with which token.
    :ivar replies: What is answered to it, or to everything by ``*``; ``None`` is silence.
    """

    clock: Clock
    life: float = 100.0
    renewable: bool = True
    tokens: dict[str, float] = field(factory=dict)
    asked: list[tuple[str, str]] = field(factory=list)
    replies: dict[str, Reply | None] = field(factory=dict)

    def times(self, what: str) -> int:
        """
        How often something was asked.
        """
        return sum(asked == what for asked, _ in self.asked)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Called by treq: answer at once, or never.
        """
        path = urlsplit(uri.decode()).path.removeprefix("/v1/")
        what = f"{method.decode()} {path}"
        assert headers is not None
        (found_token,) = headers.getRawHeaders(b"X-Vault-Token", [b""])
        token = found_token.decode()
        self.asked.append((what, token))
        found = self.replies.get(what, self.replies.get("*", _BY_ITSELF))
        if found is None:
            return Deferred()
        status, more, body = self._reply(what, token) if found is _BY_ITSELF else found
        made = {name.encode(): [value.encode()] for name, value in more.items()}
        return succeed(CompleteResponse((b"HTTP", 1, 1), status, b"", Headers(made), None, body))

    def _reply(self, what: str, token: str) -> Reply:
        now = self.clock.seconds()
        if what == "GET sys/health":
            return reply(200, {"initialized": True, "sealed": False, "standby": False})
        if what == LOGIN:
            token = f"token-{len(self.tokens)}"
            self.tokens[token] = now + (self.life or float("inf"))
        elif self.tokens.get(token, now) <= now:
            return reply(403, {"errors": ["permission denied"]})
        elif what == RENEWAL:
            self.tokens[token] = now + (self.life or float("inf"))
        elif what == LOOKUP:
            return reply(200, {"data": {"ttl": 1}})
        else:
            return reply(404, {"errors": []})
        auth = {
            "client_token": token,
            "lease_duration": int(self.life),
            "renewable": self.renewable,
        }
        return reply(200, {"auth": auth})


def make_store(server: VaultServer, ping: float = 10.0) -> VaultKeyStore:
    """
    A store on the server, with its clock.
    """
    settings = VaultSettings(URL, AppRole("approle", "", "role", "opensesame"), version=2)
    lanes = InlineLanes()
    web = WebClient(server.clock, TLSFiles(), lanes.lane(), server, StoreTLS())
    client = VaultClient(settings.endpoint, web, server.clock, ping)
    session = Session(client, settings.login, lanes.lane(), server.clock)
    return VaultKeyStore(settings, client, session, server.clock)

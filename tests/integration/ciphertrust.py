# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests need of CipherTrust Manager: tokens, and secrets by name.

``test_keystore_clouds_kes`` drives it with the original KES, too, which so judges it.
"""

from collections.abc import Mapping
from typing import Any

import jwt
from attrs import define, field

from tests.integration.emulators import Asked, Told

TOKEN = "refresh-token"

_SECRETS = "/api/v1/vault/secrets"
_SIGNED_WITH = "a secret of the service, which nobody checks"


def refused(status: int, text: str) -> Told:
    """
    An error as the product tells it.
    """
    return Told({"code": status, "codeDesc": text}, status)


@define(eq=False)
class CipherTrust:
    """
    A service with one user.

    :ivar domain: What a login must name.
    :ivar secrets: The materials.
    :ivar tokens: Those that are good.
    :ivar life: Of tokens, in seconds.
    :ivar hidden: Whether the user may see nothing, which the product tells as if nothing was.
    :ivar now: The time that tokens begin at, in seconds since the epoch.
    """

    domain: str = ""
    secrets: dict[str, str] = field(factory=dict)
    tokens: set[str] = field(factory=set)
    life: int = 300
    hidden: bool = False
    now: float = 0.0
    given: int = 0
    refusal: Told | None = None

    def __call__(self, asked: Asked) -> Told:
        """
        Answer a request.
        """
        if asked.path == "/":
            return Told(b"<html>")
        if asked.path == "/api/v1/auth/tokens":
            return self._give(asked.document)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return refused(401, "NCERRUnauthorized: Unauthorized")
        if self.refusal is not None:
            return self.refusal
        if asked.path == _SECRETS:
            return self._list(asked) if asked.method == "GET" else self._create(asked.document)
        return self._one(asked)

    def _give(self, wanted: Mapping[str, str]) -> Told:
        asked = [wanted.get(name) for name in ("grant_type", "refresh_token")]
        if asked != ["refresh_token", TOKEN] or wanted.get("domain", "") != self.domain:
            return refused(401, "NCERRAuthenticationFailed: Authentication failed")
        self.given += 1
        claims = {"iat": int(self.now), "exp": int(self.now) + self.life, "jti": str(self.given)}
        token = jwt.encode(claims, _SIGNED_WITH, algorithm="HS256")
        self.tokens.add(token)
        return Told(
            {
                "jwt": token,
                "duration": self.life,
                "token_type": "Bearer",
                "client_id": "client",
                "refresh_token_id": "id",
                "refresh_token": TOKEN,
            }
        )

    def _one(self, asked: Asked) -> Told:
        name = asked.path.removeprefix(f"{_SECRETS}/").removesuffix("/export")
        if asked.query.get("type") != "name" or name not in self.secrets or self.hidden:
            return refused(404, "NCERRNotFound: Resource not found")
        if asked.method == "DELETE":
            del self.secrets[name]
            return Told(None, 204)
        if asked.method == "POST" and asked.path.endswith("/export"):
            return Told({"name": name, "material": self.secrets[name]})
        return refused(405, "NCERRMethodNotAllowed")

    def _create(self, wanted: Mapping[str, str]) -> Told:
        if wanted.get("dataType") != "seed" or not wanted.get("name"):
            return refused(400, "NCERRBadRequest")
        if wanted["name"] in self.secrets:
            return refused(409, "NCERRConflict: Resource already exists")
        self.secrets[wanted["name"]] = wanted["material"]
        return Told({"name": wanted["name"], "dataType": "seed"}, 201)

    def _list(self, asked: Asked) -> Told:
        skip, limit = (int(asked.query.get(name, "0")) for name in ("skip", "limit"))
        names = [] if self.hidden else list(self.secrets)
        page: dict[str, Any] = {"skip": skip, "limit": limit, "total": len(names)}
        page["resources"] = [{"name": name} for name in names[skip : skip + (limit or 10)]]
        return Told(page)

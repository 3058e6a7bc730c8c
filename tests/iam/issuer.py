# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An OpenID provider with real keys: its documents, and the tokens that it signs.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import jwt
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from kypello.iam.logins import ProviderUnreachable

CLIENT, ISSUER = "our-client", "https://id.example"

#: RSA keys take long to make: these are shared.
RSA_KEY = rsa.generate_private_key(65537, 2048)
WEAK_KEY = rsa.generate_private_key(65537, 1024)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Any, **members: Any) -> dict[str, Any]:
    """
    The public half of a key, as providers tell it.
    """
    write = {
        rsa.RSAPrivateKey: RSAAlgorithm.to_jwk,
        ec.EllipticCurvePrivateKey: ECAlgorithm.to_jwk,
        ed25519.Ed25519PrivateKey: OKPAlgorithm.to_jwk,
    }
    (made,) = (call for kind, call in write.items() if isinstance(key, kind))
    return {**made(key.public_key(), as_dict=True), **members}


def public_pem(key: Any) -> bytes:
    """
    The public half of a key in PEM.
    """
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def private_pem(key: Any) -> bytes:
    """
    A key in PEM.
    """
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    """
    A token put together by hand.
    """
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@define(eq=False)
class Issuer:
    """
    A provider.

    :ivar keys: What its key set holds.
    :ivar discovery: Members of its discovery document beside the usual ones.
    :ivar people: What its userinfo endpoint tells, by access token.
    :ivar down: Whether it does not answer.
    :ivar asked: The paths that were asked for.
    """

    url: str = ISSUER
    keys: list[Any] = field(factory=lambda: [public_jwk(RSA_KEY, kid="one", use="sig")])
    discovery: dict[str, Any] = field(factory=dict)
    people: dict[str, dict[str, Any]] = field(factory=dict)
    down: bool = False
    asked: list[str] = field(factory=list)

    @property
    def config_url(self) -> str:
        """
        Where its discovery document is.
        """
        return f"{self.url}/.well-known/openid-configuration"

    def document(self, path: str, bearer: str = "") -> Any:
        """
        What it answers; ``None`` for nothing.
        """
        self.asked.append(path)
        if path == "/jwks":
            return {"keys": self.keys}
        if path == "/userinfo":
            return self.people.get(bearer)
        if path != "/.well-known/openid-configuration":
            return None
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            **self.discovery,
        }

    async def get(self, url: str, bearer: str) -> bytes:
        """
        Get a document as :class:`WebClient` does.
        """
        found = self.document(url.removeprefix(self.url), bearer)
        if self.down or found is None:
            raise ProviderUnreachable(url)
        return json.dumps(found).encode()

    def claims(self, now: float, **claims: Any) -> dict[str, Any]:
        """
        What a usual token says; ``None`` leaves a claim out.
        """
        usual = {
            "iss": self.url,
            "sub": "alice",
            "aud": CLIENT,
            "iat": int(now),
            "exp": int(now) + 3600,
            "policy": "readwrite",
        }
        return {name: value for name, value in {**usual, **claims}.items() if value is not None}

    def token(
        self,
        now: float,
        key: Any = RSA_KEY,
        algorithm: str = "RS256",
        kid: str | None = "one",
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """
        A signed token.
        """
        named = {} if kid is None else {"kid": kid}
        return jwt.encode(
            self.claims(now, **claims), key, algorithm, headers={**named, **(header or {})}
        )

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests need of Google Cloud: tokens, and secrets over REST.

``test_keystore_gcp`` drives it with Google's own client, too, which so judges it.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import jwt
from attrs import define, field
from awscrt.checksums import crc32c
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.emulators import Asked, Told

PROJECT = "my-project"
EMAIL = "kes@my-project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_METADATA = "/computeMetadata/v1"
_FLAVOR = {"Metadata-Flavor": "Google"}
_SECRETS = f"/v1/projects/{PROJECT}/secrets"
_ONE = re.compile(rf"{_SECRETS}/([A-Za-z0-9_-]{{1,255}})").fullmatch
_VERSION = re.compile(r"/versions/([0-9]+|latest):access").fullmatch


def refused(code: int, status: str, message: str = "refused") -> Told:
    """
    An error as Google tells it.
    """
    return Told({"error": {"code": code, "message": message, "status": status}}, code)


@define(eq=False)
class Google:
    """
    One project.

    :ivar secrets: The versions of each secret.
    :ivar tokens: Those that are good.
    :ivar made: What each secret was made with.
    :ivar page: How many secrets are listed at once, at most.
    :ivar life: Of tokens, in seconds.
    :ivar refusals: Answers in place of the true ones, by the last word of an address.
    """

    secrets: dict[str, list[bytes]] = field(factory=dict)
    tokens: set[str] = field(factory=set)
    made: dict[str, Any] = field(factory=dict)
    page: int = 1000
    life: int = 3600
    refusals: dict[str, Told] = field(factory=dict)
    given: int = 0
    key: rsa.RSAPrivateKey = field(repr=False)

    @key.default
    def _make_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @property
    def pem(self) -> str:
        """
        The key of the service account.
        """
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def __call__(self, asked: Asked) -> Told:
        """
        Answer a request.
        """
        if asked.path == "/token":
            return self._give(asked)
        if asked.path.startswith(_METADATA) or asked.path == "/":
            return self._metadata(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return refused(401, "UNAUTHENTICATED")
        found = self.refusals.get(asked.path.rpartition(":")[2])
        return found or self._secret(asked)

    def _give(self, asked: Asked) -> Told:
        form = asked.form
        if form.get("grant_type") == "refresh_token":
            good = (form["client_secret"], form["refresh_token"]) == ("hidden", "refresh")
        else:
            try:
                claims = jwt.decode(
                    form["assertion"],
                    self.key.public_key(),
                    algorithms=["RS256"],
                    audience="https://oauth2.googleapis.com/token",
                    options={"require": ["exp", "iat"]},
                )
            except jwt.PyJWTError:
                claims = {}
            good = (claims.get("iss"), claims.get("scope")) == (EMAIL, SCOPE)
        if not good:
            return Told({"error": "invalid_grant", "error_description": "Not you"}, 400)
        return Told(self._token())

    def _metadata(self, asked: Asked) -> Told:
        if asked.path == "/":
            return Told(b"", headers=_FLAVOR)
        if asked.headers.get("metadata-flavor") != "Google":
            return Told(b"", 403)
        if asked.path.endswith("/token"):
            return Told(self._token(), headers=_FLAVOR)
        return Told({"email": EMAIL, "scopes": [SCOPE], "aliases": ["default"]}, headers=_FLAVOR)

    def _token(self) -> Mapping[str, Any]:
        self.given += 1
        token = f"token{self.given}"
        self.tokens.add(token)
        return {"access_token": token, "expires_in": self.life, "token_type": "Bearer"}

    def _secret(self, asked: Asked) -> Told:
        if asked.path == _SECRETS:
            return self._list(asked) if asked.method == "GET" else self._create(asked)
        found = _ONE(asked.path.partition(":")[0].partition("/versions/")[0])
        name = found.group(1) if found else ""
        if name not in self.secrets:
            return refused(404, "NOT_FOUND", f"Secret [{name}] not found")
        rest = asked.path.removeprefix(f"{_SECRETS}/{name}")
        versions = self.secrets[name]
        version = _VERSION(rest)
        if asked.method == "POST" and rest == ":addVersion":
            return self._add(name, asked.document["payload"])
        if asked.method == "GET" and version:
            number = len(versions) if version.group(1) == "latest" else int(version.group(1))
            if not 0 < number <= len(versions):
                return refused(404, "NOT_FOUND", "Secret version not found")
            value = versions[number - 1]
            payload = {"data": b64encode(value).decode(), "dataCrc32c": str(crc32c(value))}
            return Told({"name": f"{_name(name)}/versions/{number}", "payload": payload})
        if asked.method == "GET" and not rest:
            return Told({"name": _name(name), **self.made[name]})
        if asked.method == "DELETE" and not rest:
            del self.secrets[name]
            return Told({})
        return refused(400, "INVALID_ARGUMENT")

    def _create(self, asked: Asked) -> Told:
        name = asked.query["secretId"]
        if not _ONE(f"{_SECRETS}/{name}") or len(asked.document.get("replication", ())) != 1:
            return refused(400, "INVALID_ARGUMENT")
        if name in self.secrets:
            return refused(409, "ALREADY_EXISTS", f"Secret [{name}] already exists.")
        self.secrets[name] = []
        self.made[name] = {"replication": asked.document["replication"]}
        return Told({"name": _name(name), **self.made[name]})

    def _add(self, name: str, payload: Mapping[str, str]) -> Told:
        value = b64decode(payload["data"])
        if int(payload.get("dataCrc32c", crc32c(value))) != crc32c(value):
            return refused(400, "INVALID_ARGUMENT", "checksum")
        self.secrets[name].append(value)
        return Told({"name": f"{_name(name)}/versions/{len(self.secrets[name])}"})

    def _list(self, asked: Asked) -> Told:
        names = sorted(self.secrets, reverse=True)
        begin = int(asked.query.get("pageToken") or 0)
        end = begin + min(self.page, int(asked.query.get("pageSize") or 25000))
        page: dict[str, Any] = {"totalSize": len(names)}
        if names[begin:end]:
            page["secrets"] = [{"name": _name(name)} for name in names[begin:end]]
        if end < len(names):
            page["nextPageToken"] = str(end)
        return Told(page)


def _name(name: str) -> str:
    # Google tells the number of the project, whoever has asked by its id.
    return f"projects/123456/secrets/{name}"

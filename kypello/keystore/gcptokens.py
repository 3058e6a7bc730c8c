# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tokens for Google Cloud.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import jwt
from attrs import define
from twisted.web.http_headers import Headers

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import ILane
from kypello.keystore.gcpconfig import (
    TOKENS,
    AuthorizedUser,
    CredentialsFile,
    Metadata,
    ServiceAccount,
    Source,
)
from kypello.keystore.renewed import Lease
from kypello.keystore.web import Answer, WebClient

#: How long the proof of a service account is good, in seconds; Google allows an hour.
_PROOF = 600

#: How long the metadata service may take, in seconds: on other machines nobody answers.
_NEAR = 2.0

_METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
_FIELDS = {
    "service_account": ("client_email", "private_key_id", "private_key"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@define(eq=False)
class GCPTokens:
    """
    Gets tokens from the first source that has any.

    :ivar _scopes: What they are good for.
    :ivar _lane: Where files are read, and proofs signed.
    :ivar _now: Seconds since the epoch.
    """

    _sources: tuple[Source, ...]
    _scopes: tuple[str, ...]
    _web: WebClient
    _lane: ILane
    _now: Callable[[], float]

    async def get(self) -> Lease[str]:
        """
        Get a fresh one.

        :raises KeyStoreFailed: There are no credentials, or Google refuses them.
        :raises KeyStoreUnreachable:
        """
        for source in self._sources:
            found: Any = source
            if isinstance(source, CredentialsFile):
                found = await self._lane.run(_read, source)
            if found is not None:
                return await self._from(found)
        raise KeyStoreFailed("there are no credentials for Google Cloud")

    async def _from(self, source: ServiceAccount | AuthorizedUser | Metadata) -> Lease[str]:
        match source:
            case ServiceAccount():
                proof = await self._lane.run(_prove, source, self._scopes, int(self._now()))
                fields = {"grant_type": _GRANT, "assertion": proof}
                return await self._exchange(source.tokens, fields)
            case AuthorizedUser():
                fields = {
                    "grant_type": "refresh_token",
                    "client_id": source.client_id,
                    "client_secret": source.client_secret,
                    "refresh_token": source.refresh_token,
                }
                return await self._exchange(source.tokens, fields)
            case Metadata():
                query = urlencode({"scopes": ",".join(self._scopes)})
                return await self._of_machine(f"{source.endpoint}{_METADATA}?{query}")

    async def _of_machine(self, url: str) -> Lease[str]:
        headers = Headers({"Metadata-Flavor": ["Google"]})
        try:
            return _lease(url, await self._web.call("GET", url, headers, deadline=_NEAR))
        except KeyStoreUnreachable as error:
            raise KeyStoreUnreachable(f"no credentials are given, and {error.reason}") from error

    async def _exchange(self, url: str, fields: Mapping[str, str]) -> Lease[str]:
        headers = Headers({"Content-Type": ["application/x-www-form-urlencoded"]})
        return _lease(url, await self._web.call("POST", url, headers, urlencode(fields).encode()))


def _lease(url: str, answer: Answer) -> Lease[str]:
    found = answer.document()
    place = url.partition("?")[0]
    if answer.status != 200:
        said = f"{found.get('error') or answer.status} {found.get('error_description') or ''}"
        reason = f"{place} gives no token: {said[:300]}".rstrip()
        raise KeyStoreUnreachable(reason) if answer.unwell else KeyStoreFailed(reason)
    token, seconds = found.get("access_token"), found.get("expires_in")
    if not (isinstance(token, str) and token and isinstance(seconds, int | float)):
        raise KeyStoreFailed(f"{place} gives no token")
    return Lease(token, float(seconds))


# From here on in a thread.


def _prove(source: ServiceAccount, scopes: tuple[str, ...], now: int) -> str:
    claims = {
        "iss": source.email,
        "scope": " ".join(scopes),
        # As Google's own client: also where the token is fetched elsewhere.
        "aud": TOKENS,
        "iat": now,
        "exp": now + _PROOF,
    }
    try:
        return jwt.encode(claims, source.key, algorithm="RS256", headers={"kid": source.key_id})
    except (jwt.PyJWTError, TypeError, ValueError):
        # The cause is dropped: its text may tell of the key.
        raise KeyStoreFailed(f"the private key of {source.email} is none of RSA in PEM") from None


def _read(source: CredentialsFile) -> ServiceAccount | AuthorizedUser | None:
    try:
        found = json.loads(source.path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if source.required:
            raise KeyStoreFailed(f"{source.path} is not there") from None
        return None
    except OSError as error:
        raise KeyStoreFailed(f"{source.path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        # The cause is dropped: its text shows the file.
        raise KeyStoreFailed(f"{source.path} is no file of credentials") from None
    kind = found.get("type") if isinstance(found, dict) else None
    if kind not in _FIELDS:
        raise KeyStoreFailed(f"{source.path} must be a service_account or authorized_user")
    missing = [name for name in _FIELDS[kind] if not isinstance(found.get(name), str)]
    if missing:
        raise KeyStoreFailed(f"{source.path} has no {' and no '.join(missing)}")
    first, second, third = (found[name] for name in _FIELDS[kind])
    made = ServiceAccount if kind == "service_account" else AuthorizedUser
    return made(first, second, third, str(found.get("token_uri") or TOKENS))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store in Gemalto KeySecure or Thales CipherTrust Manager, as the original KES lays it out:
one secret per key, whose material is the value.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.web.http_headers import Headers
from zope.interface import implementer

from kypello.errors import KeyExists, KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import IKeyStore, ILanes
from kypello.keystore.bearer import BearerClient
from kypello.keystore.gemaltoconfig import GemaltoSettings
from kypello.keystore.names import check, is_name, text_of
from kypello.keystore.renewed import Lease, Renewed
from kypello.keystore.web import Answer, WebClient

#: The name that :meth:`GemaltoKeyStore.status` looks for.
PROBE = "kypello-status"

#: How many names a page of a listing has, and how many pages there are at most.
_PAGE, _PAGES = 200, 10000


@define(eq=False)
class GemaltoTokens:
    """
    Gets tokens for a refresh token.
    """

    _settings: GemaltoSettings
    _web: WebClient

    async def get(self) -> Lease[str]:
        """
        Get a fresh one.

        :raises KeyStoreFailed: The refresh token is refused.
        :raises KeyStoreUnreachable:
        """
        settings = self._settings
        url = f"{settings.endpoint}/api/v1/auth/tokens"
        body = {"grant_type": "refresh_token", "refresh_token": settings.token}
        if settings.domain:
            body["domain"] = settings.domain
        headers = Headers({"Content-Type": ["application/json"], "Accept": ["application/json"]})
        answer = await self._web.call("POST", url, headers, json.dumps(body).encode())
        if answer.status != 200:
            raise _refusal(f"{url} gives no token", answer)
        found = answer.document()
        token, seconds = found.get("jwt"), found.get("duration")
        good = isinstance(token, str) and token and isinstance(seconds, int | float)
        if not good or str(found.get("token_type")).lower() != "bearer":
            raise KeyStoreFailed(f"{url} does not answer as CipherTrust does")
        return Lease(str(token), float(seconds or 0))


@implementer(IKeyStore)
@define(eq=False)
class GemaltoKeyStore:
    """
    Keys in secrets.

    The service does not tell a secret that is missing from one that may not be seen.

    :ivar _secrets: The URL of all secrets.
    :ivar _now: Seconds since the epoch.
    """

    _settings: GemaltoSettings
    _client: BearerClient
    _secrets: str
    _now: Callable[[], float]

    @classmethod
    def make(
        cls,
        settings: GemaltoSettings,
        reactor: Any,
        lanes: ILanes,
        now: Callable[[], float] = time.time,
    ) -> "GemaltoKeyStore":
        """
        One that connects to nobody before it is asked.
        """
        web = WebClient.make(reactor, settings.tls, lanes)
        client = BearerClient(web, Renewed(GemaltoTokens(settings, web).get, now))
        return cls(settings, client, f"{settings.endpoint}/api/v1/vault/secrets", now)

    async def prepare(self) -> None:
        """
        Log in, and see whether secrets can be asked for.
        """
        await self.status()

    async def create(self, name: str, value: bytes) -> None:
        """
        Store a value; see :meth:`IKeyStore.create`.

        :raises InvalidKeyName:
        :raises KeyExists:
        """
        check(name)
        content = {
            "dataType": "seed",
            "material": text_of(value),
            "name": self._settings.prefix + name,
        }
        answer = await self._client.call("POST", self._secrets, content)
        if answer.status == 409:
            raise KeyExists(name)
        self._expect(answer, 201)

    async def get(self, name: str) -> bytes:
        """
        Read a value; see :meth:`IKeyStore.get`.

        :raises InvalidKeyName:
        :raises KeyNotFound: Or we may not see it.
        """
        check(name)
        answer = await self._client.call("POST", self._url(name, "/export"))
        if answer.status == 404:
            raise KeyNotFound(name)
        self._expect(answer, 200)
        material = answer.document().get("material")
        if not isinstance(material, str):
            raise KeyStoreFailed(f"the secret of {name} has no material")
        return material.encode()

    async def delete(self, name: str) -> None:
        """
        Remove a value; see :meth:`IKeyStore.delete`.

        :raises InvalidKeyName:
        :raises KeyNotFound: Or we may not remove it.
        """
        check(name)
        answer = await self._client.call("DELETE", self._url(name))
        if answer.status == 404:
            raise KeyNotFound(name)
        self._expect(answer, 204)

    async def names(self) -> Sequence[str]:
        """
        The names of all secrets that can be keys, sorted.
        """
        prefix = self._settings.prefix
        names: set[str] = set()
        skip = 0
        for _ in range(_PAGES):
            answer = await self._client.call("GET", f"{self._secrets}?limit={_PAGE}&skip={skip}")
            self._expect(answer, 200)
            page = answer.document()
            found, total = page.get("resources") or [], page.get("total")
            if not (
                page.get("skip") == skip and isinstance(total, int) and isinstance(found, list)
            ):
                raise KeyStoreFailed(f"{self._secrets} does not list as CipherTrust does")
            for secret in found:
                name = str(secret.get("name")) if isinstance(secret, dict) else ""
                if name.startswith(prefix) and is_name(name.removeprefix(prefix)):
                    names.add(name.removeprefix(prefix))
            skip += len(found)
            if skip >= total:
                return sorted(names)
            if not found:
                break
        raise KeyStoreFailed(f"the listing of {self._secrets} breaks off")

    async def status(self) -> float:
        """
        Ask for a secret that need not be there: this shows that the token is good, too.
        """
        began = self._now()
        answer = await self._client.call("POST", self._url(PROBE, "/export"))
        if answer.status != 404:
            self._expect(answer, 200)
        return max(0.0, self._now() - began)

    async def close(self) -> None:
        """
        Give up what is under way with tokens.
        """
        self._client.close()

    def _url(self, name: str, what: str = "") -> str:
        return f"{self._secrets}/{self._settings.prefix}{name}{what}?type=name"

    def _expect(self, answer: Answer, status: int) -> None:
        if answer.status != status:
            raise _refusal(self._settings.endpoint, answer)


def _refusal(place: str, answer: Answer) -> KeyStoreFailed | KeyStoreUnreachable:
    said = str(answer.document().get("codeDesc") or "")[:300]
    reason = f"{place}: {answer.status} {said}".rstrip()
    return KeyStoreUnreachable(reason) if answer.unwell else KeyStoreFailed(reason)

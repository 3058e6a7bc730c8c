# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store in Google Cloud Secret Manager, as the original KES lays it out: one secret per key,
whose first version is the value.
"""

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from attrs import define
from awscrt.checksums import crc32c
from twisted.logger import Logger
from zope.interface import implementer

from kypello.errors import KeyExists, KeyNotFound, KeyStoreFailed, KeyStoreUnreachable, KypelloError
from kypello.interfaces import IKeyStore, ILanes
from kypello.keystore.bearer import BearerClient
from kypello.keystore.gcpconfig import GCPSettings
from kypello.keystore.gcptokens import GCPTokens
from kypello.keystore.names import check, is_name
from kypello.keystore.paging import pages
from kypello.keystore.renewed import Renewed
from kypello.keystore.web import Answer, WebClient

#: The name that :meth:`GCPKeyStore.status` looks for.
PROBE = "kypello-status"

#: How many names a page of a listing has.
_PAGE = 1000

_log = Logger()


@define(eq=False)
class GCPRefused(KeyStoreFailed):
    """
    Google does not do what was asked, and has not done it.

    :ivar status: The name of the error.
    """

    status: str


@define(eq=False)
class GCPBusy(KeyStoreUnreachable):
    """
    Google is asked too often, and has not done it.
    """


@implementer(IKeyStore)
@define(eq=False)
class GCPKeyStore:
    """
    Keys in secrets.

    To make one takes two calls: the first one takes the name, so that of several creators one
    wins, and the second one adds the value.  A secret without a value is what an interrupted
    creation leaves; it is reported, never filled, for nobody knows whose it is.

    :ivar _secrets: The URL of all secrets.
    :ivar _now: Seconds since the epoch.
    """

    _settings: GCPSettings
    _client: BearerClient
    _secrets: str
    _now: Callable[[], float]

    @classmethod
    def make(
        cls,
        settings: GCPSettings,
        reactor: Any,
        lanes: ILanes,
        now: Callable[[], float] = time.time,
    ) -> "GCPKeyStore":
        """
        One that connects to nobody before it is asked.
        """
        web = WebClient.make(reactor, settings.tls, lanes)
        tokens = GCPTokens(settings.sources, settings.scopes, web, lanes.lane(), now)
        client = BearerClient(web, Renewed(tokens.get, now))
        secrets = f"{settings.endpoint}/v1/projects/{settings.project}/secrets"
        return cls(settings, client, secrets, now)

    async def prepare(self) -> None:
        """
        Get a token, and see whether secrets can be read with it.
        """
        await self.status()

    async def create(self, name: str, value: bytes) -> None:
        """
        Store a value; see :meth:`IKeyStore.create`.

        :raises InvalidKeyName:
        :raises KeyExists:
        """
        check(name)
        query = urlencode({"secretId": self._settings.prefix + name})
        try:
            await self._call("POST", f"{self._secrets}?{query}", {"replication": self._replication})
        except GCPRefused as error:
            if error.status == "ALREADY_EXISTS":
                raise KeyExists(name) from None
            raise
        payload = {"data": b64encode(value).decode(), "dataCrc32c": str(crc32c(value))}
        try:
            await self._call("POST", f"{self._url(name)}:addVersion", {"payload": payload})
        except (GCPRefused, GCPBusy):
            await self._give_back(name)
            raise

    async def get(self, name: str) -> bytes:
        """
        Read a value; see :meth:`IKeyStore.get`.

        :raises InvalidKeyName:
        :raises KeyNotFound: A secret without a value is not missing, but a failure.
        """
        check(name)
        try:
            found = await self._call("GET", f"{self._url(name)}/versions/1:access")
        except GCPRefused as error:
            if error.status != "NOT_FOUND":
                raise
        else:
            return _value(name, found)
        try:
            await self._call("GET", self._url(name))
        except GCPRefused as error:
            if error.status == "NOT_FOUND":
                raise KeyNotFound(name) from None
            raise
        raise KeyStoreFailed(
            f"the secret of {name} has no value: its creation was interrupted.  Nothing was sealed"
            " under it: remove it and create the key again"
        )

    async def delete(self, name: str) -> None:
        """
        Remove a value with its secret; see :meth:`IKeyStore.delete`.

        :raises InvalidKeyName:
        :raises KeyNotFound:
        """
        check(name)
        try:
            await self._call("DELETE", self._url(name))
        except GCPRefused as error:
            if error.status == "NOT_FOUND":
                raise KeyNotFound(name) from None
            raise

    async def names(self) -> Sequence[str]:
        """
        The names of all secrets that can be keys, sorted.
        """
        prefix = self._settings.prefix
        names: set[str] = set()
        async for page in pages("Google", "nextPageToken", self._page):
            secrets = page.get("secrets") or ()
            for secret in secrets if isinstance(secrets, list) else ():
                path = str(secret.get("name")) if isinstance(secret, dict) else ""
                name = path.rpartition("/")[2]
                if name.startswith(prefix) and is_name(name.removeprefix(prefix)):
                    names.add(name.removeprefix(prefix))
        return sorted(names)

    async def _page(self, token: str | None) -> dict[str, Any]:
        query = {"pageSize": str(_PAGE)}
        if token:
            query["pageToken"] = token
        return await self._call("GET", f"{self._secrets}?{urlencode(query)}")

    async def status(self) -> float:
        """
        Read a secret that need not be there: this shows that the token is good, too.
        """
        began = self._now()
        try:
            await self._call("GET", f"{self._url(PROBE)}/versions/1:access")
        except GCPRefused as error:
            if error.status != "NOT_FOUND":
                raise
        return max(0.0, self._now() - began)

    async def close(self) -> None:
        """
        Give up what is under way with tokens.
        """
        self._client.close()

    @property
    def _replication(self) -> dict[str, Any]:
        locations = self._settings.locations
        if not locations:
            return {"automatic": {}}
        return {"userManaged": {"replicas": [{"location": one} for one in locations]}}

    def _url(self, name: str) -> str:
        return f"{self._secrets}/{self._settings.prefix}{name}"

    async def _give_back(self, name: str) -> None:
        # The name would be taken for ever, without a key.
        try:
            await self._call("DELETE", self._url(name))
        except KypelloError as error:
            _log.error(
                "the secret of {name} has got no value and cannot be removed: {error}",
                name=name,
                error=error,
            )

    async def _call(self, method: str, url: str, content: Any = None) -> dict[str, Any]:
        return _understood(self._settings.endpoint, await self._client.call(method, url, content))


def _understood(endpoint: str, answer: Answer) -> dict[str, Any]:
    found = answer.document()
    if answer.status == 200 and (found or answer.body.strip() == b"{}"):
        return found
    error = found.get("error")
    if not isinstance(error, dict):
        reason = f"{endpoint} does not answer as Google does ({answer.status})"
        raise KeyStoreUnreachable(reason) if answer.unwell else KeyStoreFailed(reason)
    status = str(error.get("status") or answer.status)
    reason = f"{endpoint}: {status} {str(error.get('message') or '')[:300]}".rstrip()
    if answer.status >= 500:
        raise KeyStoreUnreachable(reason)
    if answer.unwell:
        raise GCPBusy(reason)
    raise GCPRefused(reason, status)


def _value(name: str, found: dict[str, Any]) -> bytes:
    payload = found.get("payload")
    if not isinstance(payload, dict) or not isinstance(payload.get("data"), str):
        raise KeyStoreFailed(f"the secret of {name} has no value")
    try:
        value = b64decode(payload["data"], validate=True)
    except ValueError:
        raise KeyStoreFailed(f"the secret of {name} has no value") from None
    if payload.get("dataCrc32c") not in (None, str(crc32c(value))):
        raise KeyStoreFailed(f"the value of the secret of {name} does not fit its checksum")
    return value

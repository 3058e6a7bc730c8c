# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store in the K/V engine of HashiCorp Vault or OpenBao, with entries as the original KES
makes them.

An entry holds the value in one field, which has the name of the key.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kypello.errors import KeyExists, KeyNotFound, KeyStoreFailed
from kypello.interfaces import IKeyStore, ILanes
from kypello.keystore.names import check, is_name
from kypello.keystore.vaultclient import Place, VaultClient, VaultRefused, join
from kypello.keystore.vaultconfig import Transit, VaultSettings
from kypello.keystore.vaultsession import Session
from kypello.keystore.web import WebClient

_SEALED = "vault:v"

_log = Logger()


def make_vault(settings: VaultSettings, reactor: Any, lanes: ILanes) -> "VaultKeyStore":
    """
    A key store that connects to nobody before it is asked.
    """
    web = WebClient.make(reactor, settings.tls, lanes)
    client = VaultClient(settings.endpoint, web, reactor, settings.ping)
    session = Session(client, settings.login, lanes.lane(), reactor)
    return VaultKeyStore(settings, client, session, reactor)


@implementer(IKeyStore)
@define(eq=False)
class VaultKeyStore:
    """
    Keys in a K/V engine.

    Version 2 of the engine makes an entry only where there is none.  Version 1 cannot: it is
    looked first, and afterwards whether the entry is ours, so that of two servers that make one
    key at the same moment both can believe that they did.

    :ivar _clock: Measures :meth:`status`.
    :ivar _creating: Calls of this process do not meet in version 1.
    """

    _settings: VaultSettings
    _client: VaultClient
    _session: Session
    _clock: IReactorTime
    _creating: DeferredLock = field(factory=DeferredLock)

    async def prepare(self) -> None:
        """
        Log in, and look whether the engine is what the configuration says.

        :raises KeyStoreFailed: The login is refused, or the engine has another version.
        :raises KeyStoreUnreachable:
        """
        settings = self._settings
        await self.status()
        path = join("sys/internal/ui/mounts", settings.engine)
        try:
            data = (await self._ask("GET", path)).get("data") or {}
        except KeyStoreFailed as error:
            # Who may do nothing there, or uses a name that is no engine, is told by a later call.
            _log.warn("the version of the K/V engine cannot be looked up: {error}", error=error)
            data = {}
        found = (data.get("options") or {}).get("version", "1") if data else None
        if found is not None and found != str(settings.version):
            raise KeyStoreFailed(
                f"the engine {settings.engine} is of version {found}: write version: v{found} in"
                " the section keystore.vault"
            )
        if settings.version == 1:
            _log.warn(
                "the K/V engine {engine} is of version 1, which lets two servers that create one"
                " key at the same moment overwrite each other: prefer version 2",
                engine=settings.engine,
            )

    async def create(self, name: str, value: bytes) -> None:
        """
        Store a value; see :meth:`IKeyStore.create`.

        :raises InvalidKeyName:
        :raises KeyExists:
        """
        check(name)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise KeyStoreFailed("only text can be stored") from None
        transit = self._settings.transit
        if transit is not None:
            text = await self._sealed(transit, text)
        if self._settings.version == 2:
            await self._create(name, text)
            return
        await self._creating.acquire()
        try:
            await self._create_unguarded(name, text)
        finally:
            self._creating.release()

    async def get(self, name: str) -> bytes:
        """
        Read a value; see :meth:`IKeyStore.get`.

        :raises InvalidKeyName:
        :raises KeyNotFound:
        """
        check(name)
        text = await self._entry(name)
        if not text.startswith(_SEALED):
            return text.encode()
        transit = self._settings.transit
        if transit is None:
            raise KeyStoreFailed(
                f"the entry of {name} is encrypted by a transit engine, and none is configured"
            )
        return await self._opened(transit, text)

    async def delete(self, name: str) -> None:
        """
        Remove a value with all versions of its entry; see :meth:`IKeyStore.delete`.

        :raises InvalidKeyName:
        :raises KeyNotFound:
        """
        check(name)
        # A deletion of what is not there is answered like any other.
        await self._find(name)
        await self._ask("DELETE", self._path("metadata", name))

    async def names(self) -> Sequence[str]:
        """
        The names of all entries that can be keys, sorted; folders are none.
        """
        # As GET: there are firewalls that know no method LIST.
        path = f"{self._path('metadata')}?list=true"
        try:
            found = (await self._ask("GET", path)).get("data") or {}
        except VaultRefused as error:
            if not error.absent:
                raise
            return []
        keys = found.get("keys")
        if not isinstance(keys, list):
            raise KeyStoreFailed("the answer holds no list of names")
        return sorted((key for key in keys if isinstance(key, str) and is_name(key)), key=_bytes)

    async def status(self) -> float:
        """
        Ask how the server is, and make sure that it lets us in.

        :raises KeyStoreUnreachable: It is away, sealed, or not set up.
        :raises KeyStoreFailed: The login is refused.
        """
        began = self._clock.seconds()
        await self._client.health()
        took = self._clock.seconds() - began
        await self._session.token()
        return took

    async def close(self) -> None:
        """
        End the renewal of the token.  Idempotent.
        """
        self._session.close()

    async def _create(self, name: str, text: str) -> None:
        content = {"options": {"cas": 0}, "data": {name: text}}
        try:
            found = await self._ask("PUT", self._path("data", name), content)
        except VaultRefused as error:
            if error.status == 400 and "check-and-set" in error.reason:
                raise KeyExists(name) from None
            raise
        except KeyStoreFailed as refusal:
            # Who may create may not for that change what is there, and then the server does not
            # tell one from the other.
            if await self._is_there(name):
                raise KeyExists(name) from None
            raise refusal
        # Version 1 would take all this for fields, and a proxy could have answered.
        if (found.get("data") or {}).get("version") != 1:
            raise KeyStoreFailed(f"{name} was not stored as the first version of an entry")

    async def _create_unguarded(self, name: str, text: str) -> None:
        try:
            await self._find(name)
        except KeyNotFound:
            await self._ask("PUT", self._path("data", name), {name: text})
        else:
            raise KeyExists(name)
        if await self._entry(name) != text:
            raise KeyExists(name)

    async def _entry(self, name: str) -> str:
        data = await self._find(name)
        text = data.get(name) if data is not None else None
        if data is None:
            raise KeyStoreFailed(
                f"the entry of {name} was deleted in the engine, which can bring it back: undelete"
                " its version 1, or delete its metadata"
            )
        if not isinstance(text, str):
            raise KeyStoreFailed(f"the entry of {name} has no field of that name")
        return text

    async def _find(self, name: str) -> Mapping[str, Any] | None:
        """
        The fields of an entry; ``None`` for one that is deleted and can be brought back.

        Always the first version: a key never changes.

        :raises KeyNotFound:
        """
        path = self._path("data", name)
        second = self._settings.version == 2
        try:
            found = await self._ask("GET", f"{path}?version=1" if second else path)
        except VaultRefused as error:
            if error.absent:
                raise KeyNotFound(name) from None
            raise
        data = found.get("data")
        if second and isinstance(data, dict):
            data = data.get("data")
            if data is None:
                return None
        if not isinstance(data, dict):
            raise KeyStoreFailed(f"the answer for {name} holds no entry")
        return data

    async def _is_there(self, name: str) -> bool:
        try:
            await self._find(name)
        except (KeyNotFound, KeyStoreFailed):
            return False
        return True

    def _path(self, kind: str, name: str = "") -> str:
        settings = self._settings
        return join(settings.engine, kind if settings.version == 2 else "", settings.prefix, name)

    async def _sealed(self, transit: Transit, text: str) -> str:
        plaintext = base64.b64encode(text.encode()).decode()
        path = join(transit.engine, "encrypt", transit.key)
        found = (await self._ask("POST", path, {"plaintext": plaintext})).get("data") or {}
        sealed = found.get("ciphertext")
        if not isinstance(sealed, str) or not sealed.startswith(_SEALED):
            raise KeyStoreFailed("the transit engine gives no ciphertext")
        return sealed

    async def _opened(self, transit: Transit, sealed: str) -> bytes:
        path = join(transit.engine, "decrypt", transit.key)
        found = (await self._ask("POST", path, {"ciphertext": sealed})).get("data") or {}
        try:
            return base64.b64decode(found["plaintext"], validate=True)
        except (KeyError, TypeError, binascii.Error):
            raise KeyStoreFailed("the transit engine gives no plaintext") from None

    async def _ask(
        self, method: str, path: str, content: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        namespace = self._settings.namespace
        token = await self._session.token()
        try:
            return await self._client.call(Place(token, namespace), method, path, content)
        except VaultRefused as error:
            if error.status != 403:
                raise
            # Nothing was done: to ask again with another token is safe.
            token = await self._session.replaced(token)
            if not token:
                raise KeyStoreFailed(f"{_operation(method, path)}: {error.reason}") from None
        return await self._client.call(Place(token, namespace), method, path, content)


def _operation(method: str, path: str) -> str:
    return f"the policy of our token does not allow {method} {path.partition('?')[0]}"


_bytes = str.encode

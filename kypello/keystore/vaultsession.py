# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The token with which a Vault is asked: got by a login, renewed, and replaced.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kypello.errors import KeyStoreFailed, KypelloError
from kypello.interfaces import ILane
from kypello.keystore.vaultclient import Place, VaultClient, VaultRefused, join
from kypello.keystore.vaultconfig import AppRole, Kubernetes, Token

#: The part of its life after which a token is renewed.
RENEWAL = 0.8

#: How soon a renewal that failed is tried again, in seconds.
AGAIN = 3.0

#: How long a new token is not used yet, at most, in seconds: a cluster has to learn of it.
SETTLING = 30.0

_log = Logger()


@frozen
class Lease:
    """
    A token and its life.

    :ivar until: When it ends, on the clock of the session; infinite for one that does not.
    :ivar renewable: Whether its life can be made longer.
    """

    token: str = field(repr=False)
    begun: float
    until: float
    renewable: bool

    @property
    def life(self) -> float:
        """
        Its whole length, in seconds.
        """
        return self.until - self.begun


@define(eq=False)
class Session:
    """
    Keeps a token.  It is renewed in the background before it ends; one that has ended, or that
    the server knows no more, is replaced when it is needed.

    :ivar _lane: Where files are read.
    """

    _client: VaultClient
    _login: AppRole | Kubernetes | Token
    _lane: ILane
    _clock: IReactorTime
    _lease: Lease | None = None
    _lock: DeferredLock = field(factory=DeferredLock)
    _timer: IDelayedCall | None = None
    _working: "Deferred[None] | None" = None
    _closed: bool = False

    async def token(self) -> str:
        """
        A token to ask with; logs in first when there is none.

        :raises KeyStoreFailed: The server lets us not in.
        :raises KeyStoreUnreachable:
        """
        return self._usable() or await self._fresh("")

    async def replaced(self, refused: str) -> str:
        """
        Another token than one with which a call was refused.

        :return: Empty when the server knows the token: what it holds is not allowed.
        :raises KeyStoreFailed: The server lets us not in.
        :raises KeyStoreUnreachable:
        """
        if self._usable() == refused and await self._is_known(refused):
            return ""
        return await self._fresh(refused)

    def close(self) -> None:
        """
        End what goes on in the background.  Idempotent.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._working is not None:
            self._working.cancel()

    def _usable(self) -> str:
        lease = self._lease
        return lease.token if lease is not None and self._clock.seconds() < lease.until else ""

    async def _fresh(self, refused: str) -> str:
        await self._lock.acquire()
        try:
            # Somebody else may have logged in while we waited.
            found = self._usable()
            if found and found != refused:
                return found
            self._lease = await self._logged_in()
            self._plan(self._lease)
            return self._lease.token
        finally:
            self._lock.release()

    async def _is_known(self, token: str) -> bool:
        try:
            await self._client.call(
                Place(token, self._login.namespace), "GET", "auth/token/lookup-self"
            )
        except VaultRefused as error:
            if error.status != 403:
                raise
            return False
        return True

    async def _logged_in(self) -> Lease:
        login = self._login
        if isinstance(login, Token):
            return await self._given(login)
        content: Mapping[str, str]
        if isinstance(login, AppRole):
            content = {"role_id": login.id, "secret_id": login.secret}
        else:
            jwt = login.jwt if "/" not in login.jwt else await self._read(Path(login.jwt))
            content = {"role": login.role, "jwt": jwt}
        path = join("auth", login.engine, "login")
        try:
            found = await self._client.call(Place("", login.namespace), "PUT", path, content)
        except VaultRefused as error:
            raise KeyStoreFailed(f"the login is refused: {error.reason}") from error
        return self._lease_of(found)

    async def _given(self, login: Token) -> Lease:
        token = login.text if login.file is None else await self._read(login.file)
        try:
            found = await self._client.call(
                Place(token, self._login.namespace), "GET", "auth/token/lookup-self"
            )
        except VaultRefused as error:
            raise KeyStoreFailed(f"the token is refused: {error.reason}") from error
        data = found.get("data") or {}
        return self._made(token, data.get("ttl"), data.get("renewable"))

    def _lease_of(self, found: Mapping[str, Any]) -> Lease:
        auth = found.get("auth") or {}
        token = auth.get("client_token")
        if not isinstance(token, str) or not token:
            raise KeyStoreFailed("the answer to the login holds no token")
        return self._made(token, auth.get("lease_duration"), auth.get("renewable"))

    def _made(self, token: str, life: Any, renewable: Any) -> Lease:
        now = self._clock.seconds()
        seconds = float(life) if isinstance(life, int) and life > 0 else float("inf")
        return Lease(token, now, now + seconds, renewable is True)

    async def _read(self, path: Path) -> str:
        try:
            text: str = await self._lane.run(path.read_text, "utf-8")
        except (OSError, UnicodeDecodeError) as error:
            # What is in the file may be secret, and is not repeated.
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            raise KeyStoreFailed(f"{path}: {reason}") from None
        return text.strip()

    def _plan(self, lease: Lease) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        now = self._clock.seconds()
        # Without an end there is nothing to renew; past it, who needs a token gets another one.
        if self._closed or lease.until == float("inf") or lease.until <= now:
            return
        wait = max(lease.begun + RENEWAL * lease.life - now, min(AGAIN, lease.life / 4))
        self._timer = self._clock.callLater(wait, self._renew)

    def _renew(self) -> None:
        self._timer = None
        self._working = Deferred.fromCoroutine(self._renewed())
        self._working.addErrback(_told)

    async def _renewed(self) -> None:
        old = lease = self._lease
        if lease is None:
            return
        try:
            lease = await (self._longer(lease) if lease.renewable else self._settled(lease))
        except KypelloError as error:
            _log.warn("the token of the key store is not renewed: {error}", error=error)
        # A call whose token was refused may have got a newer one meanwhile.
        if self._lease is old:
            self._lease = lease
            self._plan(lease)

    async def _longer(self, lease: Lease) -> Lease:
        try:
            found = await self._client.call(
                Place(lease.token, self._login.namespace),
                "PUT",
                "auth/token/renew-self",
                {"increment": 0},
            )
        except VaultRefused as error:
            _log.info("the token of the key store is replaced: {error}", error=error)
            return await self._settled(lease)
        longer = self._lease_of(found)
        # One that comes near the longest life allowed gets less each time, and is replaced.
        return longer if longer.life > 2 * AGAIN else await self._settled(lease)

    async def _settled(self, lease: Lease) -> Lease:
        fresh = await self._logged_in()
        rest = (lease.until - self._clock.seconds()) / 2
        if fresh.token != lease.token:
            await deferLater(self._clock, max(0.0, min(rest, SETTLING)))
        return fresh


def _told(failure: Any) -> None:
    if not failure.check(CancelledError):
        _log.failure("the token of the key store is renewed no more", failure)

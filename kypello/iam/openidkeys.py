# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an OpenID provider tells of itself: its name, its keys, where more is to be asked.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.iam.idtoken import TokenHeader, VerificationKey, fitting, read_keys, read_object
from kypello.iam.logins import LoginRefused, ProviderUnreachable
from kypello.identityconfig import OpenIDSettings, not_secure

#: How old the keys may be, in seconds, until they are fetched again; until they do not count any
#: more, when that fails; and how long no other attempt is made.
REFRESH, STALE, PAUSE = 900.0, 24 * 3600.0, 10.0

#: Gets the document of a URL, with an access token or without, as :meth:`WebClient.get` does.
Get: TypeAlias = Callable[[str, str], Awaitable[bytes]]

_log = Logger()


@frozen
class Discovered:
    """
    What a provider says.

    :ivar issuer: Its name in tokens.
    :ivar algorithms: Those that it signs with; ``None`` when it does not say.
    :ivar userinfo: The URL that tells of people; empty when we do not ask.
    :ivar fetched: When that was, in seconds since the epoch.
    """

    issuer: str
    algorithms: frozenset[str] | None
    userinfo: str
    keys: tuple[VerificationKey, ...]
    fetched: float


@define(eq=False)
class Provider:
    """
    One provider, asked when something has to be known of it, and not too often.

    :ivar _tried: When it was asked last, in seconds since the epoch.
    """

    settings: OpenIDSettings
    _get: Get
    _clock: IReactorTime
    _known: Discovered | None = None
    _tried: float = float("-inf")
    _lock: DeferredLock = field(factory=DeferredLock)

    async def keys(self, header: TokenHeader) -> tuple[Discovered, list[VerificationKey]]:
        """
        The keys that may have signed a token.

        :raises LoginRefused: There is none of them.
        :raises ProviderUnreachable: What is known is too old, and there is no answer.
        """
        known = await self._discovered()
        keys = fitting(known.keys, header, known.algorithms)
        if not keys and not any(key.kid == header.kid for key in known.keys):
            # The provider may have begun to use another key.
            known = await self._renewed(known)
            keys = fitting(known.keys, header, known.algorithms)
        if not keys:
            raise LoginRefused(f"No public key found for kid {(header.kid or '')[:128]}")
        return known, keys

    async def userinfo(self, known: Discovered, access_token: str) -> dict[str, Any]:
        """
        What the provider tells of somebody.

        :raises LoginRefused: The access token is not one of its own.
        :raises ProviderUnreachable:
        """
        try:
            return read_object(await self._get(known.userinfo, access_token))
        except ValueError as error:
            raise ProviderUnreachable(f"{known.userinfo}: {error}") from error

    async def _discovered(self) -> Discovered:
        known = self._known
        if known is not None and self._age(known) < REFRESH:
            return known
        try:
            known = await self._renewed(known)
        except ProviderUnreachable as error:
            if known is None:
                raise
            _log.warn("the keys of an OpenID provider are old: {reason}", reason=error.reason)
        if self._age(known) >= STALE:
            raise ProviderUnreachable(f"the keys of {self.settings.config_url} are too old")
        return known

    async def _renewed(self, known: Discovered | None) -> Discovered:
        """
        Ask again, unless somebody has since; what is known, if that was a moment ago.
        """
        await self._lock.acquire()
        try:
            if self._known is not None and self._known is not known:
                return self._known
            now = self._clock.seconds()
            if now - self._tried < PAUSE:
                if self._known is None:
                    raise ProviderUnreachable(f"{self.settings.config_url} has just failed")
                return self._known
            tried, self._tried = self._tried, now
            try:
                self._known = await self._fetch()
            except CancelledError:
                # Who has gone away says nothing about the provider.
                self._tried = tried
                raise
            return self._known
        finally:
            self._lock.release()

    async def _fetch(self) -> Discovered:
        url = self.settings.config_url
        try:
            document = read_object(await self._get(url, ""))
            issuer, userinfo = document.get("issuer"), ""
            if not isinstance(issuer, str) or not issuer:
                raise ValueError("it names no issuer")
            if self.settings.userinfo:
                userinfo = self._url(document, "userinfo_endpoint")
            algorithms = document.get("id_token_signing_alg_values_supported")
            url = self._url(document, "jwks_uri")
            keys = read_keys(await self._get(url, ""))
        except ValueError as error:
            raise ProviderUnreachable(f"{url}: {error}") from error
        return Discovered(
            issuer,
            frozenset(map(str, algorithms)) if isinstance(algorithms, list) else None,
            userinfo,
            keys,
            self._clock.seconds(),
        )

    def _url(self, document: Mapping[str, Any], name: str) -> str:
        url = document.get(name)
        if not isinstance(url, str):
            raise ValueError(f"it has no {name}")
        problem = not_secure(url, insecure=self.settings.insecure)
        if problem:
            raise ValueError(f"{name}: {problem}")
        return url

    def _age(self, known: Discovered) -> float:
        return self._clock.seconds() - known.fetched

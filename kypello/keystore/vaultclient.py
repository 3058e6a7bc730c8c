# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Single calls to a Vault, and what its answers mean.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.keystore.web import Answer, WebClient

#: Every state of a server is an answer that tells it.
HEALTH = (
    "sys/health?uninitcode=299&sealedcode=299&standbycode=299&drsecondarycode=299"
    "&performancestandbycode=299"
)

#: A state of the cluster, or too many calls.
_NOT_NOW = (412, 429, 472, 473)

#: What took longer, in seconds, would take long again.
_LONG = 1.0


@define(eq=False)
class VaultRefused(KeyStoreFailed):
    """
    The server does not do what was asked, and has not done it.

    :ivar status: That of HTTP.
    :ivar absent: Whether it says that there is nothing where we look, and that alone.  A wrong
        engine, or a proxy before the server, is not found either: it has other words.
    """

    status: int
    absent: bool = False


@frozen
class Place:
    """
    Who asks, and where.

    :ivar token: Empty for who has none yet.
    :ivar namespace: Empty for the root.
    """

    token: str = field(default="", repr=False)
    namespace: str = ""


@define(eq=False)
class VaultClient:
    """
    Calls one server, or a cluster behind one address.

    A call that waited for an answer in vain is followed by others that fail at once for some
    time: who makes them has keys in memory that may be used meanwhile.

    :ivar _pause: For how long, in seconds.
    :ivar _until: Until when calls fail at once, and why.
    """

    _endpoint: str
    _web: WebClient
    _clock: IReactorTime
    _pause: float
    _until: float = float("-inf")
    _why: str = ""

    async def call(
        self,
        place: Place,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """
        Ask for something.

        :param path: Behind ``/v1/``, encoded.
        :return: The answer; empty when it says nothing.
        :raises VaultRefused: The server does not do it.
        :raises KeyStoreUnreachable: No answer in time, or the server cannot answer: it is sealed,
            or not set up.  What was asked may have been done.
        """
        if self._clock.seconds() < self._until:
            raise KeyStoreUnreachable(self._why)
        return await self._asked(place, method, path, content)

    async def health(self) -> None:
        """
        Ask how the server is, also while other calls fail at once, and let these go again.

        :raises KeyStoreUnreachable: It is away, sealed, or not set up.
        :raises KeyStoreFailed: It does not answer as a Vault does.
        """
        # Without a namespace, in which some versions do not know this path.
        found = await self._asked(Place(), "GET", HEALTH)
        if not isinstance(found.get("sealed"), bool):
            raise KeyStoreFailed(f"{self._endpoint} does not answer as a Vault does")
        if not found.get("initialized"):
            raise KeyStoreUnreachable(f"{self._endpoint}: it is not initialized")
        if found["sealed"]:
            raise KeyStoreUnreachable(f"{self._endpoint}: it is sealed")

    async def _asked(
        self,
        place: Place,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        url = f"{self._endpoint}/v1/{path}"
        headers = Headers({b"X-Vault-Request": [b"true"], b"Accept": [b"application/json"]})
        if place.token:
            headers.addRawHeader(b"X-Vault-Token", place.token.encode())
        if place.namespace:
            headers.addRawHeader(b"X-Vault-Namespace", f"{place.namespace}/".encode())
        body = None
        if content is not None:
            headers.addRawHeader(b"Content-Type", b"application/json")
            body = json.dumps(content).encode()
        began = self._clock.seconds()
        try:
            answer = await self._web.call(method, url, headers, body)
            other = self._elsewhere(url, answer)
            if other:
                answer = await self._web.call(method, other, headers, body)
        except KeyStoreUnreachable as error:
            now = self._clock.seconds()
            if now - began > _LONG:
                self._until, self._why = now + self._pause, error.reason
            raise
        self._until = float("-inf")
        return self._understood(answer)

    def _elsewhere(self, url: str, answer: Answer) -> str:
        # A standby can send its clients to the active server; nobody may send us out of TLS.
        location = (answer.headers.getRawHeaders(b"Location") or [b""])[0].decode("latin-1")
        if answer.status not in (307, 308) or not location:
            return ""
        other = urljoin(url, location)
        return other if urlsplit(other).scheme == urlsplit(url).scheme else ""

    def _understood(self, answer: Answer) -> dict[str, Any]:
        found = answer.document()
        status = answer.status
        if status == 204 or (200 <= status < 300 and found):
            return found
        errors = tuple(_errors(found))
        said = ", ".join(errors) or "no reason is given"
        if status >= 500 or status in _NOT_NOW:
            raise KeyStoreUnreachable(f"{self._endpoint}: it answers {status}: {said}")
        # What is not there is told by a document, too, as in the case of a deleted version.
        data = found.get("data")
        if status == 404 and not errors and isinstance(data, dict) and data.get("metadata"):
            return found
        absent = status == 404 and found.get("errors") == [] and not errors
        raise VaultRefused(f"{self._endpoint} answers {status}: {said}", status, absent)


def join(*parts: str) -> str:
    """
    A path of parts, each of which may be a path; empty ones are left out.
    """
    return "/".join(quote(part) for part in parts if part)


def _errors(found: Mapping[str, Any]) -> Iterator[str]:
    for name in ("errors", "warnings"):
        said = found.get(name)
        if isinstance(said, list):
            yield from (" ".join(str(one).split())[:200] for one in said)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key service spoken to in the KES API.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import define, field
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from kypello.errors import InvalidKeyName, KMSUnavailable
from kypello.interfaces import IKMS
from kypello.kms import wire
from kypello.kms.endpoints import Endpoint
from kypello.kms.reasons import explain
from kypello.model import DataKey, KeyInfo, KMSEndpoint, KMSStatus

T = TypeVar("T")

#: Stands for whichever server is asked.
_BASE = "https://key-server"

#: How long a server may take to tell its status, in seconds.
_STATUS_TIME = 5.0

#: How many parts a list of names may have.
_PAGES = 1000

_log = Logger()


@implementer(IBodyProducer)
@define
class WholeBody:
    """
    A body that can be sent any number of times.
    """

    _content: bytes = field(repr=False)

    @property
    def length(self) -> int:
        """
        In bytes.
        """
        return len(self._content)

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        """
        Called by Twisted: all at once.
        """
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Called by Twisted; all is written already.
        """

    def resumeProducing(self) -> None:
        """
        Called by Twisted; all is written already.
        """

    def stopProducing(self) -> None:
        """
        Called by Twisted; all is written already.
        """


@implementer(IKMS)
@define(eq=False)
class KESAgent:
    """
    Asks key servers over HTTP.

    :ivar _agent: Finds a server that answers.
    :ivar _endpoints: All of them, for their status.
    """

    default_key: str
    _reactor: Any
    _agent: IAgent
    _endpoints: Sequence[Endpoint]
    _http: HTTPClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Speak through the agent.
        """
        self._http = HTTPClient(self._agent)

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Make a data key.
        """
        made = await self._call(
            "generate", key_name, wire.read_sealed_key, wire.generate_body(context)
        )
        return DataKey(key_name, made.plaintext, made.sealed)

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a data key.
        """
        body = wire.decrypt_body(sealed, context)
        return await self._call("decrypt", key_name, wire.read_opened_key, body)

    async def create_key(self, key_name: str) -> None:
        """
        Make a master key.

        :raises KMSUnavailable: Nobody knows whether it was made, if a server was reached.
        """
        await self._call("create", key_name, lambda _: None, b"")

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Tell about a master key.
        """
        return await self._call(
            "describe", key_name, lambda body: wire.read_key_info(key_name, body)
        )

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The names that begin so.

        A server of the original program cuts its list after 1024 names, and does not give the
        rest; that is logged.
        """
        names: set[str] = set()
        # Some servers refuse a prefix that cannot be a whole name.
        asked = start = "" if prefix == "_" else prefix.rstrip("-")
        for _ in range(_PAGES):
            try:
                page = await self._list(asked)
            except InvalidKeyName:
                break  # nothing can begin so
            if page.lines and start:
                # Servers of that time want a pattern.
                page = await self._list(f"{start}*")
            known = len(names)
            names.update(page.names)
            asked = page.continue_at
            if not asked or len(names) == known:
                break
            if "*" not in asked:
                _log.warn("the key server cuts its list of keys after {name}", name=asked)
        return sorted(name for name in names if name.startswith(prefix))

    async def status(self) -> KMSStatus:
        """
        Ask every server, all at once.
        """
        asking = [Deferred.fromCoroutine(self._status(endpoint)) for endpoint in self._endpoints]
        told = await gatherResults(asking, consumeErrors=True)
        return KMSStatus("KES", self.default_key, tuple(told))

    async def _list(self, prefix: str) -> wire.Page:
        return await self._ask("list", prefix, wire.list_path(prefix), wire.read_page)

    async def _call(
        self, operation: str, name: str, read: Callable[[bytes], T], body: bytes | None = None
    ) -> T:
        return await self._ask(operation, name, wire.key_path(operation, name), read, body)

    async def _ask(
        self,
        operation: str,
        name: str,
        path: str,
        read: Callable[[bytes], T],
        body: bytes | None = None,
    ) -> T:
        response = await self._http.request(
            "GET" if body is None else "POST",
            _BASE + path,
            headers=None if body is None else Headers({b"Content-Type": [b"application/json"]}),
            data=None if body is None else WholeBody(body),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        # Of limited length: the agent gives complete responses.
        content = await response.content()
        if response.code == 200:
            try:
                return read(content)
            except wire.Nonsense:
                raise _unavailable(response, "its answer is not that of a key server") from None
        error = wire.error_of(operation, name, response.code, content)
        if error is None:
            raise _unavailable(response, f"it answers {wire.told(response.code, content)}")
        raise error

    async def _status(self, endpoint: Endpoint) -> KMSEndpoint:
        version = ""
        try:
            response: Any = await endpoint.request(
                b"GET", wire.STATUS_PATH.encode("ascii"), seconds=_STATUS_TIME
            )
            if response.code == 200:
                trouble = wire.read_status(response.body)
                version = wire.read_version(response.body)
            elif 400 <= response.code < 500 or response.code == 501:
                # It is there; it does not tell us, or has no such call.
                trouble = ""
            else:
                trouble = f"it answers {wire.told(response.code, response.body)}"
        except CancelledError:
            raise
        except wire.Nonsense:
            trouble = "its answer is not that of a key server"
        except Exception as error:
            trouble = explain(error)
        trouble = "; ".join(filter(None, (trouble, *endpoint.refused.values())))
        return KMSEndpoint(endpoint.url, not trouble, trouble, version, dict(endpoint.refused))


def _unavailable(response: Any, trouble: str) -> KMSUnavailable:
    url = response.request.absoluteURI.decode("ascii", "replace")
    return KMSUnavailable(f"{url}: {trouble}")

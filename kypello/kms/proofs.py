# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which key server has proved to hold which master key.

One of several servers may hold other material under a name.  What it would seal could not be
read by the others, so each has to open what was sealed before: at first, after every time that it
went away, when it refuses a data key, and whenever it has made one, before that is used.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.errors import KeyMismatch, KeyNotFound, KMSForbidden
from kypello.interfaces import IKMS
from kypello.kms.endpoints import Endpoint
from kypello.kms.wire import key_of

#: Has a service, which is one server, prove that it holds a master key.  Gives whether there
#: was anything to prove; raises ``KeyMismatch``, and what the service and the index raise.
Prove: TypeAlias = Callable[[IKMS, str], Awaitable[bool]]

#: What a server is refused for, as far as one master key is concerned.
REFUSALS = (KeyMismatch, KeyNotFound, KMSForbidden)

_log = Logger()


@define(eq=False)
class Proofs:
    """
    Has servers prove that they hold the master key of requests for data keys.

    :ivar prove: ``None`` asks for no proof.
    :ivar _alone: A service of one server.
    """

    _alone: Callable[[Endpoint], IKMS]
    _clock: IReactorTime
    prove: Prove | None = field(init=False, default=None)

    async def admit(self, endpoint: Endpoint, path: bytes, after: float = -math.inf) -> None:
        """
        Have a server prove what a request supposes, unless it has.

        :param after: A proof counts that began later than this, in seconds of the clock: when a
            data key came that is to be used.
        :raises KeyMismatch: It holds other material.
        :raises KeyNotFound: It does not hold the key, on which data depends.
        """
        name = key_of(path)
        if self.prove is None or not name or _proved(endpoint, name, after):
            return
        async with endpoint.proving:
            # One proof is enough for all data keys that came before it began.
            if not _proved(endpoint, name, after):
                await self._ask(self.prove, endpoint, name)

    async def _ask(self, prove: Prove, endpoint: Endpoint, name: str) -> None:
        proved, began = endpoint.proved, self._clock.seconds()
        try:
            found = await prove(self._alone(endpoint), name)
        except REFUSALS as error:
            words = f"it is not used for the master key {name}: {_words(error)}"
            if endpoint.refused.get(name) != words:
                _log.error("the key server {url}: {words}", url=endpoint.url, words=words)
            endpoint.refused[name] = words
            proved.pop(name, None)
            raise
        endpoint.refused.pop(name, None)
        if found:
            # If it went away meanwhile, this one counts no more.
            proved[name] = began


def _proved(endpoint: Endpoint, name: str, after: float) -> bool:
    return endpoint.proved.get(name, -math.inf) > after


def _words(error: Exception) -> str:
    if isinstance(error, KeyMismatch):
        since = datetime.fromtimestamp(error.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            "what it holds under this name cannot open what was sealed before (the data needs the"
            f" key with the fingerprint {error.expected}, in use since {since})"
        )
    if isinstance(error, KeyNotFound):
        return "it has no key of this name, though there is data that depends on it"
    return "it does not let us open what was sealed before"

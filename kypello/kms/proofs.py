# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which key server has proved to hold which master key.

One of several servers may hold other material under a name.  What it would seal could not be
read by the others, so each has to open what was sealed before: at first, after every time that it
went away, when it refuses a data key, and again and again while it makes some.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.errors import KeyMismatch, KeyNotFound, KMSForbidden
from kypello.interfaces import IKMS
from kypello.kms.endpoints import Endpoint
from kypello.kms.wire import key_of, makes_key

#: Has a service, which is one server, prove that it holds a master key.  Gives whether there
#: was anything to prove; raises ``KeyMismatch``, and what the service and the index raise.
Prove: TypeAlias = Callable[[IKMS, str], Awaitable[bool]]

#: How old a proof may be when a data key is made, in seconds.  What another key seals would be
#: written, and noticed later; what it cannot open is noticed at once.
FRESH = 10.0

#: What a server is refused for, as far as one master key is concerned.
REFUSALS = (KeyMismatch, KeyNotFound, KMSForbidden)

_log = Logger()


@define(eq=False)
class Proofs:
    """
    Lets requests for data keys go to servers that have proved to hold the master key.

    :ivar prove: ``None`` lets all go.
    :ivar _alone: A service of one server.
    :ivar _fresh: As :data:`FRESH`.
    """

    _alone: Callable[[Endpoint], IKMS]
    _clock: IReactorTime
    _fresh: float = FRESH
    prove: Prove | None = field(init=False, default=None)

    async def admit(self, endpoint: Endpoint, path: bytes) -> None:
        """
        Have a server prove what a request supposes, unless it has, or, as a data key is to be
        made, unless it just has.

        :raises KeyMismatch: It holds other material.
        :raises KeyNotFound: It does not hold the key, on which data depends.
        """
        name = key_of(path)
        proved = endpoint.proved
        if self.prove is None or not name:
            return
        since, began = proved.get(name), self._clock.seconds()
        if since is not None and (not makes_key(path) or began - since < self._fresh):
            return
        try:
            found = await self.prove(self._alone(endpoint), name)
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

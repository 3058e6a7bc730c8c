# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Encrypted payloads off the reactor thread, one at a time.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from kypello.crypto import payload
from kypello.errors import Refused
from kypello.interfaces import ILane
from kypello.model import Identity

#: How many payloads may wait, and how many of one access key; each takes a tenth of a second.
MAX_WAITING = 64
MAX_OF_ONE = 16


@define(eq=False)
class Sealer:
    """
    Opens and makes payloads in one lane.

    Each takes 64 MiB of memory while it is at work: a lane of their own bounds this.  Whoever asks
    has been authenticated before, and keeps nobody else waiting for long.

    :ivar _random: Gives so many random bytes.
    :ivar _cipher: What answers are encrypted with; clients open all.
    :ivar _waiting: How many wait, by access key.
    """

    _lane: ILane
    _random: Callable[[int], bytes]
    _cipher: payload.PayloadCipher
    _waiting: "Counter[str]" = field(init=False, factory=Counter)

    async def open(self, identity: Identity, sealed: bytes) -> bytes:
        """
        Open a payload of somebody.

        :raises NotAuthentic: See :func:`kypello.crypto.payload.decrypt`.
        :raises Refused: Too many wait already.
        """
        return await self._run(identity, payload.decrypt, sealed)

    async def seal(self, identity: Identity, plaintext: bytes) -> bytes:
        """
        Make a payload for somebody.

        :raises Refused: Too many wait already.
        """
        return await self._run(identity, payload.encrypt, plaintext, self._random, self._cipher)

    async def _run(self, identity: Identity, call: Callable[..., bytes], *arguments: Any) -> bytes:
        access_key, waiting = identity.access_key, self._waiting
        if waiting.total() >= MAX_WAITING or waiting[access_key] >= MAX_OF_ONE:
            raise Refused("SlowDown", "Too many encrypted requests wait. Please try again.")
        waiting[access_key] += 1
        outcome = Deferred.fromCoroutine(self._lane.run(call, identity.secret_key, *arguments))
        outcome.addBoth(self._over, access_key)
        # The call runs, and counts, also when nobody waits for it any more.
        asked: Deferred[bytes] = Deferred()
        outcome.chainDeferred(asked)
        return await asked

    def _over(self, result: Any, access_key: str) -> Any:
        self._waiting[access_key] -= 1
        if not self._waiting[access_key]:
            del self._waiting[access_key]
        return result

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Encrypted payloads off the reactor thread, one at a time.
"""

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred

from kypello.crypto import payload
from kypello.errors import Refused
from kypello.interfaces import ILane

#: How many payloads may wait; each takes a tenth of a second.
MAX_WAITING = 64


@define(eq=False)
class Sealer:
    """
    Opens and makes payloads in one lane.

    Each takes 64 MiB of memory while it is at work: a lane of their own bounds this.  Whoever asks
    has been authenticated before.

    :ivar _random: Gives so many random bytes.
    :ivar _cipher: What answers are encrypted with; clients open all.
    """

    _lane: ILane
    _random: Callable[[int], bytes]
    _cipher: payload.PayloadCipher
    _waiting: int = 0

    async def open(self, secret_key: str, sealed: bytes) -> bytes:
        """
        Open a payload.

        :raises NotAuthentic: See :func:`kypello.crypto.payload.decrypt`.
        :raises Refused: Too many wait already.
        """
        return await self._run(payload.decrypt, secret_key, sealed)

    async def seal(self, secret_key: str, plaintext: bytes) -> bytes:
        """
        Make a payload.

        :raises Refused: Too many wait already.
        """
        return await self._run(payload.encrypt, secret_key, plaintext, self._random, self._cipher)

    async def _run(self, call: Callable[..., bytes], *arguments: Any) -> bytes:
        if self._waiting >= MAX_WAITING:
            raise Refused("SlowDown", "Too many encrypted requests wait. Please try again.")
        self._waiting += 1
        outcome = Deferred.fromCoroutine(self._lane.run(call, *arguments))
        outcome.addBoth(self._over)
        # The call runs, and counts, also when nobody waits for it any more.
        asked: Deferred[bytes] = Deferred()
        outcome.chainDeferred(asked)
        return await asked

    def _over(self, result: Any) -> Any:
        self._waiting -= 1
        return result

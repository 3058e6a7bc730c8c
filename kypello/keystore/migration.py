# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Copies of keys from one key store to another.

A key that was copied wrongly is a key that is lost: nothing is overwritten unless that is asked
for, and every copy is read back.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults

from kypello.crypto.masterkey import MasterKey
from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyNotFound,
    KeyStoreFailed,
    KeyStoreUnreachable,
)
from kypello.interfaces import IKeyStore

#: How many keys are copied at a time: services in the cloud answer slowly.
_TOGETHER = 8


class Outcome(StrEnum):
    """
    What became of one key.
    """

    COPIED = "copied"
    REPLACED = "replaced"
    PRESENT = "present"
    KEPT = "kept"
    CONFLICT = "conflict"
    FAILED = "failed"


#: Those after which the target does not hold what the source does, though it should.
BAD = frozenset({Outcome.CONFLICT, Outcome.FAILED})


class WayOut(StrEnum):
    """
    What to do about a key that the target has with other bytes.
    """

    REPORT = "report"
    KEEP = "keep"
    REPLACE = "replace"


@define(eq=False)
class Migration:
    """
    Copies keys.  Done again, it goes on where it was interrupted.

    :ivar _way_out: For keys that differ.
    :ivar _dry: Nothing is written; what would be done is told as if it was.
    :ivar _told: Called with the name of each key, what became of it, and why, for people.
    :ivar _stopped: A key store cannot be reached any more.
    """

    _source: IKeyStore
    _target: IKeyStore
    _way_out: WayOut
    _dry: bool
    _told: Callable[[str, Outcome, str], None]
    _stopped: KeyStoreUnreachable | None = field(init=False, default=None)

    async def run(self, names: Sequence[str]) -> None:
        """
        Copy these keys.

        :raises KeyStoreUnreachable: One of both does not answer; the rest was not tried.
        """
        left = iter(names)
        workers = [Deferred.fromCoroutine(self._work(left)) for _ in range(_TOGETHER)]
        await gatherResults(workers, consumeErrors=True)
        if self._stopped is not None:
            raise self._stopped

    async def _work(self, left: Iterator[str]) -> None:
        for name in left:
            if self._stopped is not None:
                return
            reason = ""
            try:
                outcome = await self._copy(name)
            except KeyStoreUnreachable as error:
                self._stopped = error
                outcome, reason = Outcome.FAILED, error.reason
            except KeyStoreFailed as error:
                outcome, reason = Outcome.FAILED, error.reason
            except KeyNotFound:
                outcome, reason = Outcome.FAILED, "it was deleted meanwhile"
            except InvalidKeyName:
                outcome, reason = Outcome.FAILED, "the target cannot have a key of this name"
            if outcome is Outcome.CONFLICT:
                reason = "the target has another key of this name, which stays"
            self._told(name, outcome, reason)

    async def _copy(self, name: str) -> Outcome:
        value = await self._source.get(name)
        # What no key server could use is not spread.
        MasterKey.from_bytes(value)
        held = await self._held(name)
        if held is None:
            return await self._create(name, value, Outcome.COPIED)
        if held == value:
            return Outcome.PRESENT
        if self._way_out is WayOut.REPLACE:
            return await self._replace(name, held, value)
        return Outcome.KEPT if self._way_out is WayOut.KEEP else Outcome.CONFLICT

    async def _held(self, name: str) -> bytes | None:
        try:
            return await self._target.get(name)
        except KeyNotFound:
            return None

    async def _create(self, name: str, value: bytes, outcome: Outcome) -> Outcome:
        if self._dry:
            return outcome
        try:
            await self._target.create(name, value)
        except KeyExists:
            # Somebody else was faster, perhaps with the same key.
            return Outcome.PRESENT if await self._held(name) == value else Outcome.CONFLICT
        if await self._held(name) != value:
            raise KeyStoreFailed("the copy does not read back as it was written")
        return outcome

    async def _replace(self, name: str, held: bytes, value: bytes) -> Outcome:
        if self._dry:
            return Outcome.REPLACED
        await self._target.delete(name)
        try:
            return await self._create(name, value, Outcome.REPLACED)
        except KeyStoreFailed as error:
            # Better the key that was there than none.  One that is there already is kept.
            try:
                await self._target.create(name, held)
            except KeyExists:
                raise error from None
            raise KeyStoreFailed(f"{error.reason}; the key that was there is back") from error

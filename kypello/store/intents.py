# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Intents: what is being made is written down first, so that it is removed if it does not come
to be.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from kypello.crypto.randomness import Random
from kypello.errors import Conflict, KypelloError, StorageFailed
from kypello.interfaces import IBlobs, IIndex
from kypello.model import Write
from kypello.store.records import (
    GARBAGE,
    Garbage,
    Intent,
    PartRecord,
    garbage_key,
    intent_key,
    pack,
)
from kypello.store.undisturbed import undisturbed

#: Bytes of an intent's name that tell who made it.
_PREFIX = 2


@define
class Made:
    """
    An intent that is written down.

    :ivar removal: Belongs to the commit that brings into being what was intended.
    :ivar expect: That commit's, too: it fails if the intent was given up by a sweeper.
    """

    removal: Write
    expect: Mapping[bytes, bytes | None]


@define(eq=False)
class Intents:
    """
    The intents of this process.

    :ivar _now: Nanoseconds since the epoch.
    :ivar _worker: The number of this process, from 0, of those that share the data.  Only one
        at a time has it, so that what an earlier one left is known to be abandoned.
    :ivar _workers: How many there are.  What those above left, of a time when there were more,
        is for number 0.
    :ivar left: Spaces in which this process left something for the sweeper.
    """

    _index: IIndex
    _blobs: IBlobs
    _random: Random
    _now: Callable[[], int]
    _worker: int = 0
    _workers: int = 1
    left: set[str] = field(init=False, factory=set)
    _underway: set[bytes] = field(init=False, factory=set)
    _log: Logger = field(init=False, factory=Logger)

    @asynccontextmanager
    async def making(
        self,
        space: str,
        expect: Mapping[bytes, bytes | None],
        blobs: tuple[str, ...] = (),
        made_space: str = "",
    ) -> AsyncIterator[Made]:
        """
        Make something, or leave nothing.

        :param space: Where the intent is kept.
        :param expect: For the commit of the intent.
        :param blobs: The names of blobs that will be written.
        :param made_space: The name of a space that will be made.
        :raises Conflict: From *expect*.
        :raises StorageFailed: In place of the :class:`Conflict` of a commit that expected the
            intent: a sweeper has given it up.
        :raises KypelloError: As :meth:`IIndex.commit`.
        """
        id_ = self._worker.to_bytes(_PREFIX, "big") + self._random(16)
        key, value = intent_key(id_), pack(Intent(self._now(), blobs, made_space))
        self._underway.add(id_)
        try:
            commit = self._index.commit(space, [Write(key, value)], expect, ())
            _, cancelled = await undisturbed(commit)
            if cancelled:
                raise CancelledError()
            yield Made(Write(key, None), {key: value})
        except Exception as error:
            garbage = Garbage(blobs, made_space)
            if isinstance(error, Conflict) and error.key == key:
                await undisturbed(self._remove_given_up(garbage))
                raise StorageFailed("the write took too long") from error
            undone, _ = await undisturbed(self._undo(space, id_, value, garbage))
            if not undone and not isinstance(error, StorageFailed):
                # No commit of it can have happened: a sweeper was quicker.
                await undisturbed(self._remove_given_up(garbage))
            raise
        finally:
            self._underway.discard(id_)

    def discarded(self, parts: Iterable[PartRecord]) -> list[Write]:
        """
        Queue the blobs of parts as garbage; for the commit after which nothing refers to them.
        """
        blobs = tuple(part.blob for part in parts)
        return [Write(garbage_key(self._random(16)), pack(Garbage(blobs)))] if blobs else []

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """
        Commit, and have the sweeper look here afterwards if that queues garbage.

        :raises KypelloError: As :meth:`IIndex.commit`.
        """
        try:
            await self._index.commit(space, writes, expect, empty)
        finally:
            # Now and not before, when a sweep would find nothing yet.
            if any(write.key.startswith(GARBAGE[0]) for write in writes):
                self.left.add(space)

    def abandoned(self, id_: bytes) -> bool:
        """
        Whether nobody works on an intent any more, and it is for this process to give it up.
        """
        worker = int.from_bytes(id_[:_PREFIX], "big")
        if worker == self._worker:
            return id_ not in self._underway
        return self._worker == 0 and worker >= self._workers

    async def _undo(self, space: str, id_: bytes, value: bytes, garbage: Garbage) -> bool:
        """
        Remove an intent and what it names.

        :return: Whether the intent was there.
        """
        intent, queued, packed = intent_key(id_), garbage_key(id_), pack(garbage)
        try:
            # Only who removes the intent may remove what it names: if it is gone, the commit
            # that failed has happened after all, or a sweeper was quicker.
            await self._index.commit(
                space, [Write(intent, None), Write(queued, packed)], {intent: value}, ()
            )
            await self._remove(garbage)
            await self._index.commit(space, [Write(queued, None)], {queued: packed}, ())
        except Conflict:
            return False
        except KypelloError as error:
            self._log.warn(
                "a write that failed is left to the sweeper of {space}: {error}",
                space=space,
                error=error,
            )
            self.left.add(space)
        return True

    async def _remove_given_up(self, garbage: Garbage) -> None:
        # A sweeper has removed it before; but some of it may have been made after that.
        try:
            await self._remove(garbage)
        except KypelloError as error:
            self._log.warn("{garbage} stays: {error}", garbage=garbage, error=error)

    async def _remove(self, garbage: Garbage) -> None:
        await self._blobs.delete(garbage.blobs)
        if garbage.space:
            await self._index.drop(garbage.space)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Removal of what is left over.

Everything that is made is named by an intent before it exists, and everything that was replaced
or deleted is named by the garbage queue in the same commit.  So nothing has to be searched for,
and there are four cases after a crash:

- between an intent and its commit: the intent is given up, and what it names becomes garbage;
- between a commit and the removal of what it replaced: the garbage queue names that;
- between the removal and its note in the queue: removing again does nothing;
- while a bucket was deleted, after its space was closed: the bucket is forgotten, and its
  closed space is garbage.  A space goes last, when nothing in it names a blob any more.

What is open for reading stays in the queue until it is closed.

An intent is given up by a commit that expects it, and the commit that it stands for expects it
too: one of both happens.  A write that is given up by mistake fails, and loses nothing.
"""

from collections.abc import Coroutine, Sequence
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from kypello.errors import Conflict, KypelloError
from kypello.interfaces import IBlobs, IIndex
from kypello.model import Write
from kypello.store.buckets import all_records, forgetting, is_open
from kypello.store.checkednames import HEX
from kypello.store.intents import Intents
from kypello.store.records import (
    BUCKETS,
    GARBAGE,
    INTENTS,
    META,
    PARTS,
    SYSTEM,
    BucketRecord,
    Garbage,
    Intent,
    PartRecord,
    garbage_key,
    pack,
    unpack,
)

#: How many records one commit removes at most.
_BATCH = 128

#: How many blobs of one entry of the garbage queue are removed before that is written down.
_BLOBS = 1000


@define(eq=False)
class Sweeper:
    """
    Removes what intents and garbage queues name.

    The first sweep looks everywhere, as it cannot know what an earlier process left; the
    others where this process left something.

    :ivar _intents: Those of the store of this process.
    """

    _index: IIndex
    _blobs: IBlobs
    _intents: Intents
    _first: bool = field(init=False, default=True)
    _log: Logger = field(init=False, factory=Logger)

    async def sweep(self) -> None:
        """
        Remove what can be removed now.  Whatever fails is logged and tried again by the next
        sweep; so is the rest when this one is cancelled.  One call at a time.
        """
        if self._first:
            if not await self._guarded(SYSTEM, self._begin()):
                return
            self._first = False
        spaces = self._intents.left
        for space in sorted(spaces):
            spaces.discard(space)
            try:
                if not await self._guarded(space, self._space(space)):
                    spaces.add(space)
            except BaseException:
                spaces.add(space)
                raise

    async def _guarded(self, space: str, work: Coroutine[Any, Any, bool]) -> bool:
        try:
            return await work
        except KypelloError as error:
            self._log.warn("sweeping {space}: {error}", space=space, error=error)
            return False

    async def _begin(self) -> bool:
        for key, value in await all_records(self._index, SYSTEM, BUCKETS):
            record = unpack(BucketRecord, value)
            (meta,) = await self._index.get(record.space, [META])
            # A space without any record is lost, and its bucket must not be: with its settings goes
            # the key without which no metadata can be read.
            if meta is not None and not is_open(meta):
                try:
                    writes = forgetting(key[1:].decode(), record)
                    await self._index.commit(SYSTEM, writes, {key: value}, ())
                except Conflict:
                    # Who deletes the bucket has come this far.
                    continue
        # Other spaces have no intents, but may have keys that look like theirs.
        buckets = filter(HEX.fullmatch, await self._index.spaces())
        self._intents.left |= {SYSTEM, *buckets}
        return True

    async def _space(self, space: str) -> bool:
        """
        Sweep one space.

        :return: Whether nothing is left in it that could become garbage by itself.
        """
        await self._give_up(space)
        return await self._collect(space)

    async def _give_up(self, space: str) -> None:
        for key, value in await all_records(self._index, space, INTENTS):
            id_ = key[1:]
            if not self._intents.abandoned(id_):
                continue
            intent = unpack(Intent, value)
            garbage = pack(Garbage(intent.blobs, intent.space))
            writes = [Write(key, None), Write(garbage_key(id_), garbage)]
            try:
                await self._index.commit(space, writes, {key: value}, ())
            except Conflict:
                # It came to its end just now.
                continue

    async def _collect(self, space: str) -> bool:
        kept = False
        start, stop = GARBAGE
        while True:
            rows = await self._index.scan(space, start, stop, _BATCH)
            removed = await self._entries(space, rows)
            kept |= len(removed) < len(rows)
            if removed:
                try:
                    writes = [Write(key, None) for key in removed]
                    await self._index.commit(space, writes, removed, ())
                except Conflict:
                    # Another process sweeps here too, or has dropped the space.
                    kept = True
            if len(rows) < _BATCH:
                return not kept
            start = rows[-1][0] + b"\x00"

    async def _entries(self, space: str, rows: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        """
        Remove what entries of the garbage queue name.

        :return: The entries of which all is removed, as they are now.
        """
        entries = [(key, value, unpack(Garbage, value)) for key, value in rows]
        # The first blobs of all, to begin with: while that of a version is pinned, its others
        # stay, too.
        firsts = [garbage.blobs[0] for _, _, garbage in entries if garbage.blobs]
        pinned = set(await self._blobs.delete(firsts)) if firsts else set()
        free = [each for each in entries if not pinned.intersection(each[2].blobs[:1])]
        short = [garbage for _, _, garbage in free if len(garbage.blobs) <= _BLOBS]
        others = [blob for garbage in short for blob in garbage.blobs[1:]]
        for start in range(0, len(others), _BLOBS):
            await self._blobs.delete(others[start : start + _BLOBS])
        removed: dict[bytes, bytes] = {}
        for key, value, garbage in free:
            left: bytes | None = value
            if len(garbage.blobs) > _BLOBS:
                left = await self._bit_by_bit(space, key, value, garbage)
            if left is not None and await self._remove_space(garbage.space):
                removed[key] = left
        return removed

    async def _bit_by_bit(
        self, space: str, key: bytes, value: bytes, garbage: Garbage
    ) -> bytes | None:
        """
        Delete many blobs but the first, and write down now and then how many are left.

        :return: The entry as it is in the end; ``None`` when somebody else has changed it.
        """
        blobs, first = garbage.blobs, 1
        while len(blobs) > _BLOBS:
            await self._blobs.delete(blobs[first:_BLOBS])
            blobs, before, first = blobs[_BLOBS:], value, 0
            value = pack(Garbage(blobs, garbage.space))
            try:
                await self._index.commit(space, [Write(key, value)], {key: before}, ())
            except Conflict:
                return None
        await self._blobs.delete(blobs[first:])
        return value

    async def _remove_space(self, space: str) -> bool:
        """
        Remove the closed space of a bucket, and what is left in it; whether it is gone.

        :param space: Empty for none.
        """
        if not space:
            return True
        await self._space(space)
        for within in (INTENTS, GARBAGE):
            # What is being written into the closed space fails, and cleans up after itself.
            if await self._index.scan(space, *within, 1):
                return False
        if not await self._remove_parts(space):
            return False
        await self._index.drop(space)
        return True

    async def _remove_parts(self, space: str) -> bool:
        """
        Remove what was uploaded into a closed space and never completed.
        """
        while rows := await self._index.scan(space, *PARTS, _BLOBS):
            await self._blobs.delete([unpack(PartRecord, value).blob for _, value in rows])
            try:
                writes = [Write(key, None) for key, _ in rows]
                await self._index.commit(space, writes, dict(rows), ())
            except Conflict:
                # Another process sweeps here too, or has dropped the space.
                return False
        return True

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The buckets that a rebuild finds.

Which space is that of a bucket is told by its record; where that is lost, by the space itself.
What else belongs to the bucket, above all its settings, is told by the blob that describes it.
"""

import msgspec
from attrs import define, field

from kypello.crypto.randomness import Random
from kypello.model import Write
from kypello.store.checkednames import HEX
from kypello.store.findings import Problem
from kypello.store.rebuilt import Living, Work, wrong_with
from kypello.store.records import (
    BUCKETS,
    GARBAGE,
    INTENTS,
    META,
    OBJECTS,
    STATE,
    SYSTEM,
    VERSIONS,
    BucketRecord,
    Garbage,
    Intent,
    SpaceRecord,
    StateRecord,
    bucket_key,
    empty,
    garbage_key,
    pack,
    unpack,
)
from kypello.versioning import SETTING


@define(eq=False)
class RebuiltBuckets:
    """
    Sees to it that every bucket has a record, and a space that is open.

    :ivar _random: Names spaces.
    :ivar _described: The descriptions that no record names, by the buckets.
    """

    _work: Work
    _random: Random
    _described: dict[str, list[BucketRecord]] = field(init=False, factory=dict)

    async def settle(self) -> Living:
        """
        Find the spaces of buckets among those that were copied.
        """
        living, making = Living({}, await self._deleted()), await self._made()
        async for page in self._work.pages(SYSTEM, BUCKETS):
            for key, value in page:
                name, record = key[1:].decode(), unpack(BucketRecord, value)
                if record.space in living.dying or not HEX.fullmatch(record.space):
                    await self._work.write(SYSTEM, [Write(key, None)])
                elif await self._is_closed(record.space):
                    # Its deletion was interrupted, and goes on with the first sweep.
                    living.dying.add(record.space)
                    await self._work.names.leave([record.blob])
                else:
                    living.spaces[name] = record.space
        living.dying |= making - {*living.spaces.values()}
        known = {*living.spaces.values(), *living.dying}
        others = [space for space in await self._work.index.spaces() if HEX.fullmatch(space)]
        for space in others:
            if space not in known:
                await self._place(living, space)
        return living

    async def _deleted(self) -> set[str]:
        """
        The spaces that are to be removed.
        """
        spaces = set()
        async for page in self._work.pages(SYSTEM, GARBAGE):
            spaces |= {unpack(Garbage, value).space for _, value in page}
        return spaces - {""}

    async def _made(self) -> set[str]:
        """
        The spaces that were being made.
        """
        spaces = set()
        async for page in self._work.pages(SYSTEM, INTENTS):
            spaces |= {unpack(Intent, value).space for _, value in page}
        return spaces - {""}

    async def _is_closed(self, space: str) -> bool:
        raw = await self._work.get(space, META)
        return raw is not None and not unpack(SpaceRecord, raw).open

    async def _place(self, living: Living, space: str) -> None:
        """
        Find out what to do with a space that no record names.
        """
        raw = await self._work.get(space, META)
        record = None if raw is None else unpack(SpaceRecord, raw)
        if record is not None and not record.open:
            garbage = pack(Garbage((), space))
            await self._work.write(SYSTEM, [Write(garbage_key(bytes.fromhex(space)), garbage)])
            living.dying.add(space)
            return
        bucket = "" if record is None else record.bucket
        rival = living.spaces.get(bucket)
        recorded = await self._work.get(SYSTEM, bucket_key(bucket)) is not None
        if bucket and not recorded and (rival is None or not await self._used(rival)):
            # Of two, one is left from a race of two clients that made the bucket.
            if rival is not None:
                await self._work.index.drop(rival)
            living.spaces[bucket] = space
            return
        if await self._used(space):
            self._work.say(
                Problem(bucket=bucket), f"nobody knows whose space {space} is: it is left out"
            )
        await self._work.index.drop(space)

    async def _used(self, space: str) -> bool:
        scan = self._work.index.scan
        return bool(await scan(space, *OBJECTS, 1) or await scan(space, *VERSIONS, 1))

    async def name(self, living: Living) -> None:
        """
        Note what describes the buckets that have records.
        """
        for name in living.spaces:
            raw = await self._work.get(SYSTEM, bucket_key(name))
            if raw is None:
                continue
            record = unpack(BucketRecord, raw)
            if not record.blob:
                continue
            wrong = await wrong_with(self._work, Problem(bucket=name), *empty(record.blob))
            if wrong or (await self._work.names.take([[record.blob]]))[0] is not None:
                # The next change of the bucket describes it again.
                record = msgspec.structs.replace(record, blob="")
                await self._work.write(SYSTEM, [Write(bucket_key(name), pack(record))])

    def describe(self, name: str, blob: str, record: BucketRecord) -> None:
        """
        Note the description of a bucket, in a blob that no record names.
        """
        described = msgspec.structs.replace(record, blob=blob)
        self._described.setdefault(name, []).append(described)

    async def finish(self, living: Living) -> None:
        """
        Make what is missing of the buckets.
        """
        names = {*living.spaces, *self._described, *await self._work.names.described_buckets()}
        present = set(await self._work.index.spaces())
        for name in sorted(names):
            described = self._described.get(name, [])
            candidates = [each for each in described if each.space not in living.dying]
            if name not in living.spaces and await self._was_deleted(name, described, candidates):
                continue
            record = await self._record(name, living.spaces.get(name), candidates)
            if record.space not in present:
                what = "its database is not there: what it held of small objects is lost"
                self._work.say(Problem(bucket=name), what)
            living.spaces[name] = record.space
            writes = [Write(META, pack(SpaceRecord(name, True)))]
            await self._work.write(record.space, writes)
            await self._work.write(SYSTEM, [Write(bucket_key(name), pack(record))])
            where = Problem(bucket=name)
            for each in described:
                if each.blob != record.blob:
                    self._work.unused(where, each.blob, "it describes the bucket as it was before")
            if any(each.space != record.space for each in candidates):
                self._work.say(where, "it was made anew; its settings before that are not used")
        self._work.figures.buckets = len(living.spaces)

    async def keep_versions(self, living: Living) -> None:
        """
        See that it is known of each bucket with versions that it has some, behind all else.
        """
        for name, space in living.spaces.items():
            raw = await self._work.get(SYSTEM, bucket_key(name))
            setting = b"" if raw is None else unpack(BucketRecord, raw).settings.get(SETTING, b"")
            known = await self._work.get(space, STATE)
            if known is not None or (
                not setting and not await self._work.index.scan(space, *VERSIONS, 1)
            ):
                # Whoever writes brings it up to date.
                continue
            await self._work.write(space, [Write(STATE, pack(StateRecord(setting, 1)))])

    async def _was_deleted(
        self, name: str, described: list[BucketRecord], candidates: list[BucketRecord]
    ) -> bool:
        """
        Whether a bucket that does not live was deleted, as far as anything tells.

        :param described: What describes it; *candidates* are those whose spaces may live.
        """
        if await self._work.get(SYSTEM, bucket_key(name)) is not None:
            return True
        return bool(described) and not candidates

    async def _record(
        self, name: str, space: str | None, candidates: list[BucketRecord]
    ) -> BucketRecord:
        """
        The newest of what is known of a bucket.

        :param space: If it was found.
        """
        raw = await self._work.get(SYSTEM, bucket_key(name))
        if raw is not None:
            candidates = [unpack(BucketRecord, raw), *candidates]
        if not candidates:
            self._work.say(Problem(bucket=name), "its settings are lost")
            return BucketRecord(0, space or self._random(16).hex(), {})
        best = max(candidates, key=lambda each: (each.space == space, each.created, each.revision))
        await self._work.names.take([[best.blob]] if best.blob else [])
        return best if space is None else msgspec.structs.replace(best, space=space)

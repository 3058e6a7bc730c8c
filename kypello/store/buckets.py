# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Buckets as records: each has a space of its own, made with the bucket and closed with it.

Beside every record lies a blob without content that describes the bucket, for a lost index to be
rebuilt: the settings hold what its encrypted objects need.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import msgspec
from attrs import define, field

from kypello.buffersource import BufferSource
from kypello.crypto.randomness import Random
from kypello.errors import (
    BucketExists,
    BucketNotEmpty,
    Conflict,
    Damaged,
    NoSuchBucket,
    StorageFailed,
)
from kypello.interfaces import IBlobs, IIndex
from kypello.model import BucketInfo, ObjectMetadata, Write
from kypello.store.intents import Intents
from kypello.store.records import (
    BUCKETS,
    META,
    OBJECTS,
    SYSTEM,
    VERSIONS,
    BlobRecord,
    BucketRecord,
    Garbage,
    SpaceRecord,
    bucket_key,
    empty,
    garbage_key,
    metadata_record,
    pack,
    unpack,
)
from kypello.store.states import States
from kypello.versioning import SETTING

#: How often a commit is tried again when others change the same record, before the call fails.
ATTEMPTS = 256

_AT_ONCE = 1000

_NO_METADATA = metadata_record(ObjectMetadata())


@define
class Seen:
    """
    What was read of a bucket's space in one instant.

    :ivar meta: The record of the space, which every commit expects unchanged.
    :ivar values: Of the keys that were asked for.
    :ivar supposed: Whether some of it was only supposed.
    """

    space: str
    meta: bytes | None
    values: Sequence[bytes | None]
    supposed: bool = False


@define(eq=False)
class Buckets:
    """
    The buckets of an index.

    :ivar _now: Nanoseconds since the epoch.
    :ivar _spaces: The spaces of buckets by name, as far as known.  An entry may be out of date:
        the record in the space tells.
    :ivar states: How they keep versions.
    """

    _index: IIndex
    _blobs: IBlobs
    _intents: Intents
    _random: Random
    _now: Callable[[], int]
    _spaces: dict[str, str] = field(init=False, factory=dict)
    states: States = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self.states = States(self._index)

    async def create(self, name: str, settings: Mapping[str, bytes]) -> BucketInfo:
        """
        Make a bucket with a fresh space.

        :raises BucketExists:
        :raises Damaged: There was one, whose database is lost.
        """
        key = bucket_key(name)
        (raw,) = await self._index.get(SYSTEM, [key])
        if raw is not None:
            space = unpack(BucketRecord, raw).space
            if is_open(await self._meta(name, raw)):
                raise BucketExists(name)
            await self._forget(name, space)
        record = BucketRecord(
            self._now(), self._random(16).hex(), dict(settings), self._random(16).hex(), 1
        )
        async with self._intents.making(SYSTEM, {}, (record.blob,), record.space) as intent:
            await self._describe(name, record)
            opened = Write(META, pack(SpaceRecord(name, True)))
            await self._index.commit(record.space, [opened], {META: None}, ())
            writes = [Write(key, pack(record)), intent.removal]
            try:
                await self._index.commit(SYSTEM, writes, {key: None, **intent.expect}, ())
            except Conflict as conflict:
                if conflict.key != key:
                    raise
                raise BucketExists(name) from conflict
        return _info(name, record)

    async def delete(self, name: str) -> None:
        """
        Close the space of a bucket in the instant it is empty, then forget the bucket.

        A bucket whose space is closed exists no more, even if it is not forgotten yet because a
        process was killed here: whoever deletes or makes one of that name, or sweeps first,
        makes up for that.

        :raises NoSuchBucket:
        :raises BucketNotEmpty:
        :raises Damaged: Its database is lost.
        """
        raw = await self._record(name)
        space = unpack(BucketRecord, raw).space
        self._intents.left.add(SYSTEM)
        closed = await self._close(name, raw, space)
        await self._forget(name, space)
        self._spaces.pop(name, None)
        if not closed:
            raise NoSuchBucket(name)

    async def _close(self, name: str, raw: bytes, space: str) -> bool:
        meta = await self._meta(name, raw)
        if not is_open(meta):
            return False
        closed = Write(META, pack(SpaceRecord(name, False)))
        try:
            await self._index.commit(space, [closed], {META: meta}, [OBJECTS, VERSIONS])
        except Conflict as conflict:
            # The record of the space changes once only: somebody else has closed it.
            if conflict.key == META:
                return False
            raise BucketNotEmpty(name) from conflict
        return True

    async def _forget(self, name: str, space: str) -> None:
        key = bucket_key(name)
        for _ in range(ATTEMPTS):
            (raw,) = await self._index.get(SYSTEM, [key])
            if raw is None:
                return
            record = unpack(BucketRecord, raw)
            if record.space != space:
                return
            try:
                await self._index.commit(SYSTEM, forgetting(name, record), {key: raw}, ())
            except Conflict:
                continue
            self._intents.left.add(SYSTEM)
            return
        raise StorageFailed(f"too many changes of bucket {name} at once")

    async def info(self, name: str) -> BucketInfo:
        """
        Look up one bucket.

        :raises NoSuchBucket:
        """
        # Not by way of _record(): every request asks several times.
        (raw,) = await self._index.get(SYSTEM, [bucket_key(name)])
        if raw is None:
            raise NoSuchBucket(name)
        return _told(name, raw)

    async def all(self) -> Sequence[BucketInfo]:
        """
        All buckets in order.
        """
        return [
            _info(key[1:].decode(), unpack(BucketRecord, value))
            for key, value in await all_records(self._index, SYSTEM, BUCKETS)
        ]

    async def change(
        self, name: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> BucketInfo:
        """
        Replace the settings of a bucket.

        :raises NoSuchBucket:
        """
        key = bucket_key(name)
        for _ in range(ATTEMPTS):
            raw = await self._record(name)
            old = unpack(BucketRecord, raw)
            new = msgspec.structs.replace(
                old,
                settings=dict(change(old.settings)),
                blob=self._random(16).hex(),
                revision=old.revision + 1,
            )
            try:
                async with self._intents.making(SYSTEM, {key: raw}, (new.blob,)) as intent:
                    await self._describe(name, new)
                    before = self._intents.discarded(empty(old.blob))
                    writes = [Write(key, pack(new)), intent.removal, *before]
                    await self._intents.commit(SYSTEM, writes, {key: raw, **intent.expect})
            except Conflict:
                continue
            if SETTING in new.settings:
                await self.states.copy(name, new.space)
            return _info(name, new)
        raise StorageFailed(f"too many changes of bucket {name} at once")

    async def see(self, name: str, keys: Sequence[bytes]) -> Seen:
        """
        Read keys of a bucket's space as of one instant, in which the bucket exists.

        :raises NoSuchBucket:
        :raises Damaged: Its database is lost.
        """
        while True:
            space = self._spaces.pop(name, None)
            if space is None:
                raw = await self._record(name)
                space = unpack(BucketRecord, raw).space
                if not is_open(await self._meta(name, raw)):
                    raise NoSuchBucket(name)
            meta, *values = await self._index.get(space, [META, *keys])
            if is_open(meta):
                self._spaces[name] = space
                return Seen(space, meta, values)

    def recall(self, name: str, unknown: bytes, keys: Sequence[bytes]) -> Seen | None:
        """
        The same of what is in memory, if nothing is known of one key.

        :param unknown: The key.
        """
        space = self._spaces.get(name)
        if space is None or self._index.knows(space, unknown):
            return None
        found = self._index.recall(space, [META, *keys])
        if found is None or not is_open(found[0]):
            return None
        return Seen(space, found[0], found[1:])

    async def _meta(self, name: str, raw: bytes) -> bytes | None:
        """
        The record of the space of a bucket; ``None`` if the bucket is gone meanwhile.

        :param raw: The record of the bucket.
        """
        (meta,) = await self._index.get(unpack(BucketRecord, raw).space, [META])
        if meta is None:
            # A space is dropped when its bucket is forgotten.
            (still,) = await self._index.get(SYSTEM, [bucket_key(name)])
            if still == raw:
                raise Damaged(f"the database of the bucket {name} is missing")
        return meta

    async def _describe(self, name: str, record: BucketRecord) -> None:
        described = BlobRecord(name, "", "", self._now(), _NO_METADATA, about=record)
        await self._blobs.write(record.blob, BufferSource(b""), lambda _: pack(described))

    async def _record(self, name: str) -> bytes:
        (raw,) = await self._index.get(SYSTEM, [bucket_key(name)])
        if raw is None:
            raise NoSuchBucket(name)
        return raw


@lru_cache(maxsize=256)
def is_open(meta: bytes | None) -> bool:
    """
    Whether a space with this record belongs to a bucket that lives.

    The last few are remembered, for all requests ask it.
    """
    return meta is not None and unpack(SpaceRecord, meta).open


def forgetting(name: str, record: BucketRecord) -> list[Write]:
    """
    How a bucket whose space is closed is forgotten: its space becomes garbage, and so does what
    describes it.
    """
    queued = garbage_key(bytes.fromhex(record.space))
    garbage = Garbage((record.blob,) if record.blob else (), record.space)
    return [Write(bucket_key(name), None), Write(queued, pack(garbage))]


async def all_records(
    index: IIndex, space: str, within: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """
    All records of a range that is known to be short, in pages.
    """
    found: list[tuple[bytes, bytes]] = []
    start, stop = within
    while True:
        rows = await index.scan(space, start, stop, _AT_ONCE)
        found += rows
        if len(rows) < _AT_ONCE:
            return found
        start = rows[-1][0] + b"\x00"


@lru_cache(maxsize=1024)
def _told(name: str, raw: bytes) -> BucketInfo:
    # Every request asks for its bucket, whose record hardly ever changes.
    return _info(name, unpack(BucketRecord, raw))


def _info(name: str, record: BucketRecord) -> BucketInfo:
    return BucketInfo(name, record.created, record.settings)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Buckets and objects over an index and blobs.

An object is written in three steps: an intent that names its blob, the blob, and one commit
that makes it current, removes the intent and queues the blob of the version before as garbage.
Small objects need the last step only, as their content is in the index.  Whatever instant the
process ends at, the commit has happened or has not, and everything that is left over is named
by an intent or by the garbage queue; the sweeper removes it.
"""

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from kypello.crypto.randomness import Random
from kypello.errors import (
    Conflict,
    Damaged,
    KMSNotConfigured,
    NoSuchBucket,
    NoSuchKey,
    StorageFailed,
)
from kypello.interfaces import (
    Condition,
    Describe,
    IBlobs,
    IBodySource,
    IIndex,
    IObjectStore,
    IOpenObject,
)
from kypello.model import (
    NULL_VERSION,
    BucketInfo,
    EncryptionRequest,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    Write,
)
from kypello.store.buckets import ATTEMPTS, Buckets, Seen
from kypello.store.intents import Intents
from kypello.store.listing import page
from kypello.store.opened import BlobObject, SmallObject
from kypello.store.records import (
    META,
    OBJECTS,
    BlobRecord,
    Garbage,
    ObjectRecord,
    PartRecord,
    content_key,
    garbage_key,
    metadata_record,
    object_key,
    pack,
    unpack,
)
from kypello.store.sources import ResumedSource, begin
from kypello.store.undisturbed import undisturbed

#: The largest content that is kept in the index, in bytes.
INLINE = 16 * 1024


@frozen
class _Content:
    """
    New content of an object.

    :ivar small: The content that goes into the index; ``None`` when *part* holds it.
    :ivar writes: What else its commit changes.
    :ivar expect: What else its commit expects.
    """

    size: int
    metadata: ObjectMetadata
    small: bytes | None = field(default=None, repr=False)
    part: tuple[PartRecord, ...] = ()
    writes: tuple[Write, ...] = ()
    expect: Mapping[bytes, bytes | None] = field(factory=dict)


@implementer(IObjectStore)
@define(eq=False)
class LayoutStore:
    """
    The object store over any index and blobs.  It encrypts nothing.

    :ivar _clock: Tells when a version was committed.
    :ivar _random: Names spaces and blobs.
    :ivar _worker: Which of the processes over the same data this is; no two at once have the
        same number.
    :ivar intents: What this process is making, and where it left something for the sweeper.
    """

    _index: IIndex
    _blobs: IBlobs
    _clock: IReactorTime
    _random: Random
    _worker: int = 0
    intents: Intents = field(init=False)
    _buckets: Buckets = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing is being made.
        """
        self.intents = Intents(self._index, self._blobs, self._random, self._now, self._worker)
        self._buckets = Buckets(self._index, self.intents, self._random, self._now)

    async def create_bucket(self, name: str, settings: Mapping[str, bytes]) -> BucketInfo:
        """
        Make an empty bucket.
        """
        return (await undisturbed(self._buckets.create(name, settings)))[0]

    async def delete_bucket(self, name: str) -> None:
        """
        Remove an empty bucket.
        """
        await undisturbed(self._buckets.delete(name))

    async def bucket(self, name: str) -> BucketInfo:
        """
        Look up one bucket.
        """
        return await self._buckets.info(name)

    async def buckets(self) -> Sequence[BucketInfo]:
        """
        All buckets.
        """
        return await self._buckets.all()

    async def change_bucket(
        self, name: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> BucketInfo:
        """
        Replace the settings of a bucket.
        """
        return (await undisturbed(self._buckets.change(name, change)))[0]

    async def put(
        self,
        bucket: str,
        key: str,
        body: IBodySource,
        describe: Describe,
        encryption: EncryptionRequest | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Store an object.
        """
        try:
            if encryption is not None:
                raise KMSNotConfigured()
            seen = await self._buckets.see(bucket, [object_key(key)])
            blocks, small = await begin(body, INLINE)
            if small is not None:
                content = _Content(len(small), describe(len(small)), small)
                return await self._commit_new(bucket, key, seen, content, condition)
            body = ResumedSource(blocks, body)
            return await self._put_blob(
                bucket, key, seen, body=body, describe=describe, condition=condition
            )
        finally:
            body.close()

    async def _put_blob(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        *,
        body: IBodySource,
        describe: Describe,
        condition: Condition | None,
    ) -> ObjectInfo:
        blob = self._random(16).hex()
        began = self._now()
        described: list[ObjectMetadata] = []

        def describe_blob(size: int) -> bytes:
            """
            Describe the object once, for its record and for what lies beside the blob.
            """
            metadata = describe(size)
            described.append(metadata)
            record = metadata_record(metadata)
            return pack(BlobRecord(bucket, key, NULL_VERSION, began, record))

        try:
            making = self.intents.making(seen.space, {META: seen.meta}, (blob,))
            async with making as intent:
                size = await self._blobs.write(blob, body, describe_blob)
                part = (PartRecord(0, size, blob),)
                content = _Content(size, described[0], None, part, (intent.removal,), intent.expect)
                return await self._commit_new(bucket, key, seen, content, condition)
        except Conflict as conflict:
            raise NoSuchBucket(bucket) from conflict

    async def _commit_new(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        content: _Content,
        condition: Condition | None,
    ) -> ObjectInfo:
        metadata = metadata_record(content.metadata)
        made: list[ObjectRecord] = []

        def change(current: ObjectRecord | None) -> list[Write]:
            """
            Make the new content the current version.
            """
            sequence, modified = 1, self._now()
            if current is not None:
                sequence = current.sequence + 1
                modified = max(modified, current.modified + 1)
            record = ObjectRecord(
                sequence, NULL_VERSION, content.size, modified, metadata, content.part
            )
            made[:] = [record]
            writes = [Write(object_key(key), pack(record)), *content.writes]
            if content.small:
                writes.append(Write(content_key(key, NULL_VERSION), content.small))
            return writes

        await undisturbed(
            self._change(bucket, key, seen, change, condition=condition, expect=content.expect)
        )
        return made[0].info(bucket, key)

    async def delete(self, bucket: str, key: str, condition: Condition | None = None) -> None:
        """
        Remove an object.
        """
        seen = await self._buckets.see(bucket, [object_key(key)])
        removal = [Write(object_key(key), None)]
        await undisturbed(
            self._change(bucket, key, seen, lambda _: removal, condition=condition, expect={})
        )

    async def _change(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        change: Callable[[ObjectRecord | None], list[Write]],
        *,
        condition: Condition | None,
        expect: Mapping[bytes, bytes | None],
    ) -> None:
        """
        Commit what becomes of the current version of a key.

        :param seen: The record of the key, as of some moment ago.
        :raises Conflict: With a key of *expect*.
        """
        space, where = seen.space, object_key(key)
        for _ in range(ATTEMPTS):
            (raw,) = seen.values
            current = None if raw is None else unpack(ObjectRecord, raw)
            if condition is not None:
                condition(None if current is None else current.info(bucket, key))
            writes = change(current)
            if current is not None:
                writes = [*self._discard(key, current), *writes]
            elif all(write.value is None for write in writes):
                return
            try:
                await self._index.commit(space, writes, {META: seen.meta, where: raw, **expect}, ())
            except Conflict as conflict:
                if conflict.key in expect:
                    raise
            else:
                return
            finally:
                if current is not None and current.parts:
                    self.intents.left.add(space)
            seen = await self._buckets.see(bucket, [where])
            if seen.space != space:
                raise NoSuchBucket(bucket)
        raise StorageFailed(f"too many writers of {bucket}/{key} at once")

    def _discard(self, key: str, old: ObjectRecord) -> list[Write]:
        if old.parts:
            blobs = tuple(part.blob for part in old.parts)
            return [Write(garbage_key(self._random(16)), pack(Garbage(blobs)))]
        return [Write(content_key(key, old.version_id), None)] if old.size else []

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """
        Tell the current version of an object.
        """
        seen = await self._buckets.see(bucket, [object_key(key)])
        return self._current(bucket, key, seen).info(bucket, key)

    async def open(self, bucket: str, key: str) -> IOpenObject:
        """
        Pin the current version of an object: its blob is open, or its content at hand.
        """
        keys = [object_key(key), content_key(key, NULL_VERSION)]
        seen = await self._buckets.see(bucket, keys)
        while True:
            record = self._current(bucket, key, seen)
            info = record.info(bucket, key)
            if not record.parts:
                content = seen.values[1] if record.size else b""
                if content is None or len(content) != record.size:
                    raise Damaged(f"content of {bucket}/{key}")
                return SmallObject(info, content)
            try:
                return BlobObject(info, await self._blobs.open(record.parts[0].blob))
            except Damaged:
                # It may just have been replaced, and its blob removed.
                before, seen = seen, await self._buckets.see(bucket, keys)
                if seen.values == before.values:
                    raise

    def _current(self, bucket: str, key: str, seen: Seen) -> ObjectRecord:
        raw = seen.values[0]
        if raw is None:
            raise NoSuchKey(bucket, key)
        return unpack(ObjectRecord, raw)

    async def list(self, bucket: str, query: ListQuery) -> Listing:
        """
        One page of the current objects.
        """
        space = (await self._buckets.see(bucket, ())).space
        first, end = OBJECTS

        async def scan(
            start: bytes, stop: bytes | None, limit: int
        ) -> Sequence[tuple[bytes, bytes]]:
            """
            Scan the records of objects.
            """
            rows = await self._index.scan(
                space, first + start, end if stop is None else first + stop, limit
            )
            return [(key[1:], value) for key, value in rows]

        found = await page(scan, query)
        return Listing(
            tuple(
                unpack(ObjectRecord, value).info(bucket, key.decode())
                for key, value in found.entries
            ),
            tuple(group.decode() for group in found.groups),
            None if found.next is None else found.next.decode(),
        )

    def _now(self) -> int:
        return int(self._clock.seconds() * 1e9)

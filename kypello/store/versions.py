# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The current version of a key: how it is found, replaced and removed.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from attrs import define, field
from awscrt.checksums import crc32c

from kypello.errors import Conflict, Damaged, NoSuchBucket, NoSuchKey, Refused, StorageFailed
from kypello.interfaces import Condition
from kypello.model import NULL_VERSION, CustomerKey, ObjectInfo, ObjectMetadata, Write
from kypello.store.buckets import ATTEMPTS, Buckets, Seen
from kypello.store.intents import Intents
from kypello.store.parts import KnownParts, Parts
from kypello.store.records import (
    META,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    content_key,
    empty,
    metadata_record,
    object_key,
    pack,
    parts_key,
    unpack,
)
from kypello.store.turns import Turns
from kypello.store.undisturbed import undisturbed

#: How many parts are told in the record of an object; more are kept apart.
_FEW = 16


@define
class Content:
    """
    New content of an object.

    :ivar small: The content that goes into the index; ``None`` when *parts* hold it.
    :ivar manifest: The blob that describes an object in parts.
    :ivar writes: Makes what else its commit changes.
    :ivar expect: What else its commit expects.
    :ivar empty: Ranges in which its commit expects nothing.
    """

    size: int
    metadata: ObjectMetadata
    small: bytes | None = field(default=None, repr=False)
    parts: tuple[PartRecord, ...] = ()
    manifest: str = ""
    writes: Callable[[ObjectRecord], Sequence[Write]] = lambda _: ()
    expect: Mapping[bytes, bytes | None] = field(factory=dict)
    empty: Sequence[tuple[bytes, bytes]] = ()


@define
class Version:
    """
    A version of an object as it was read.

    :ivar raw: Its record.
    :ivar parts: The blobs that hold the content.
    :ivar small: The content when no blob holds it, if it was read.
    """

    key: str
    raw: bytes
    record: ObjectRecord
    parts: Parts
    small: bytes | None = field(default=None, repr=False)

    def info(self, bucket: str) -> ObjectInfo:
        """
        What the store tells about it.
        """
        return self.record.info(bucket, self.key, self.parts.infos)


@define(eq=False)
class Versions:
    """
    The current versions of all keys.

    :ivar _now: Nanoseconds since the epoch.
    :ivar _turns: Of those who change a key, by space and key.
    """

    _buckets: Buckets
    _intents: Intents
    _now: Callable[[], int]
    _known: KnownParts = field(init=False, factory=KnownParts)
    _turns: Turns = field(init=False, factory=Turns)

    async def see(self, bucket: str, key: str, content: bool = False) -> Seen:
        """
        A look at a key, for :meth:`replace`.

        :param content: Whether to read the content of a small object, too.
        :raises NoSuchBucket:
        """
        keys = [object_key(key), content_key(key, NULL_VERSION)]
        return await self._buckets.see(bucket, keys if content else keys[:1])

    async def current(self, bucket: str, key: str, content: bool = False) -> Version:
        """
        Find the current version of a key.

        :param content: Whether to read the content of a small object.
        :raises NoSuchBucket:
        :raises NoSuchKey:
        """
        seen = await self.see(bucket, key, content)
        _, version = await self._version(bucket, key, seen, content)
        if version is None:
            raise NoSuchKey(bucket, key)
        return version

    async def replace(
        self, bucket: str, key: str, seen: Seen, content: Content, condition: Condition | None
    ) -> ObjectInfo:
        """
        Make new content the current version.

        :param seen: A look at the key, in the bucket for which the content was made.
        :raises NoSuchBucket: It exists no more.
        :raises Conflict: Something else than the current version was not as *content* expects.
        """
        metadata = metadata_record(content.metadata)
        made: list[ObjectRecord] = []

        def change(current: Version | None) -> list[Write]:
            """
            What is written.
            """
            sequence, modified = 1, self._now()
            if current is not None:
                sequence = current.record.sequence + 1
                modified = max(modified, current.record.modified + 1)
            record = ObjectRecord(
                sequence,
                NULL_VERSION,
                content.size,
                modified,
                metadata,
                content.parts,
                manifest=content.manifest,
                checksum=crc32c(content.small) if content.small else None,
            )
            made[:] = [record]
            writes = [*storing(key, record), *content.writes(record)]
            if content.small:
                writes.append(Write(content_key(key, NULL_VERSION), content.small))
            return writes

        await self._change(bucket, key, seen, change, condition, content)
        return made[0].info(bucket, key, Parts(content.parts).infos)

    async def remove(self, bucket: str, key: str, condition: Condition | None) -> None:
        """
        Remove the current version, if there is one.

        :raises NoSuchBucket:
        """
        seen = await self.see(bucket, key)
        removal = [Write(object_key(key), None)]
        nothing = Content(0, ObjectMetadata())
        await self._change(
            bucket, key, seen, lambda current: removal if current else [], condition, nothing
        )

    async def _change(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        change: Callable[[Version | None], list[Write]],
        condition: Condition | None,
        content: Content,
    ) -> None:
        async with self._turns.turn((seen.space, key)) as waited:
            await undisturbed(
                self._try_change(bucket, key, seen, waited, change, condition, content)
            )

    async def _try_change(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        outdated: bool,
        change: Callable[[Version | None], list[Write]],
        condition: Condition | None,
        content: Content,
    ) -> None:
        space = seen.space
        for _ in range(ATTEMPTS):
            if outdated:
                seen = await self.see(bucket, key)
            seen, current = await self._version(bucket, key, seen)
            if seen.space != space:
                raise NoSuchBucket(bucket)
            if condition is not None:
                condition(None if current is None else current.info(bucket))
            writes = change(current)
            if not writes:
                return
            raw = None if current is None else current.raw
            expect = {META: seen.meta, object_key(key): raw}
            if current is not None:
                # What is written anew need not be removed before.
                anew = {write.key for write in writes}
                old = [write for write in self._discard(current) if write.key not in anew]
                writes = [*old, *writes]
            try:
                await self._intents.commit(
                    space, writes, {**expect, **content.expect}, content.empty
                )
            except Conflict as conflict:
                if conflict.key not in expect:
                    raise
            else:
                return
            outdated = True
        raise StorageFailed(f"too many writers of {bucket}/{key} at once")

    async def _version(
        self, bucket: str, key: str, seen: Seen, content: bool = False
    ) -> tuple[Seen, Version | None]:
        """
        The version that was seen, or a later one, as parts that are kept apart may take another
        look.
        """
        while True:
            raw, *more = seen.values
            if raw is None:
                return seen, None
            record = unpack(ObjectRecord, raw)
            if not record.apart:
                small = more[0] if more else None
                return seen, Version(key, raw, record, Parts(record.parts), small)
            parts = self._known.get(raw) or await self._apart(bucket, key, raw, record)
            if parts is not None:
                return seen, Version(key, raw, record, parts)
            seen = await self.see(bucket, key, content)

    async def _apart(self, bucket: str, key: str, raw: bytes, record: ObjectRecord) -> Parts | None:
        """
        Read the parts of a version; ``None`` if it is no more.
        """
        keys = [object_key(key), parts_key(key, record.version_id)]
        current, packed = (await self._buckets.see(bucket, keys)).values
        if current != raw:
            return None
        parts = Parts(() if packed is None else unpack(PartsRecord, packed).parts)
        if len(parts.records) != record.apart:
            raise Damaged(f"parts of {bucket}/{key}")
        self._known.add(raw, parts)
        return parts

    def _discard(self, old: Version) -> list[Write]:
        # The manifest last, so that parts of which some are gone are not taken for an upload.
        writes = self._intents.discarded([*old.parts.records, *empty(old.record.manifest)])
        if old.record.apart:
            writes.append(Write(parts_key(old.key, old.record.version_id), None))
        if old.record.size and not old.record.parts:
            writes.append(Write(content_key(old.key, old.record.version_id), None))
        return writes


def storing(key: str, record: ObjectRecord) -> list[Write]:
    """
    How a current version is stored: its parts lie apart when they are many.

    :param record: With all its parts.
    """
    if len(record.parts) <= _FEW:
        return [Write(object_key(key), pack(record))]
    short = msgspec.structs.replace(record, parts=record.parts[:1], apart=len(record.parts))
    return [
        Write(object_key(key), pack(short)),
        Write(parts_key(key, record.version_id), pack(PartsRecord(record.parts))),
    ]


def refuse_key(customer_key: CustomerKey | None) -> None:
    """
    Refuse the key of a client: nothing is encrypted here.

    :raises Refused:
    """
    if customer_key is not None:
        raise Refused(
            "InvalidRequest", "The encryption parameters are not applicable to this object."
        )

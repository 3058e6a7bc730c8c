# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The removal of objects, and of versions of them.

A delete marker is a version without content.  It is described by a blob without content like an
object in parts: if it were lost with the index, what was deleted would be there again.
"""

from attrs import define, field

from kypello.buffersource import BufferSource
from kypello.crypto.randomness import Random
from kypello.errors import Conflict, NoSuchBucket, StorageFailed
from kypello.interfaces import Condition, Guard, IBlobs, IIndex
from kypello.model import NULL_VERSION, Deletion, ObjectMetadata, Write
from kypello.store.buckets import ATTEMPTS, Buckets, Seen
from kypello.store.intents import Intents
from kypello.store.records import (
    META,
    BlobRecord,
    ObjectRecord,
    PlaceRecord,
    metadata_record,
    object_key,
    pack,
    place_key,
    unpack,
    version_key,
    versions_of,
)
from kypello.store.stacks import Stack, Stacks, Version
from kypello.store.undisturbed import undisturbed
from kypello.store.versions import Content, Versions, guarded_info
from kypello.versioning import told_sequence

_NO_METADATA = ObjectMetadata()


@define
class _Removal:
    """
    The commit that removes a version.

    :ivar version: ``None`` when there is no such version.
    """

    version: Version | None = None
    writes: list[Write] = field(factory=list)
    expect: dict[bytes, bytes | None] = field(factory=dict)
    empty: list[tuple[bytes, bytes]] = field(factory=list)

    @property
    def marker(self) -> bool:
        """
        Whether that is a delete marker.
        """
        return self.version is not None and self.version.record.marker


@define(eq=False)
class Removals:
    """
    Removes versions, and makes delete markers.

    :ivar _random: Names blobs.
    """

    _index: IIndex
    _blobs: IBlobs
    _buckets: Buckets
    _intents: Intents
    _stacks: Stacks
    _versions: Versions
    _random: Random

    async def remove(
        self, bucket: str, key: str, condition: Condition | None, guard: Guard | None
    ) -> Deletion:
        """
        Remove the current version for good, or hide it.

        :raises NoSuchBucket:
        :raises KypelloError: Whatever *condition* and *guard* raise.
        """
        for _ in range(ATTEMPTS):
            seen = await self._versions.see(bucket, key)
            # Once there is a copy of the setting, there are versions.
            if seen.values[1] is None:
                if await self._remove_only(bucket, key, seen, condition, guard):
                    return Deletion()
            else:
                return await self._mark(bucket, key, seen, condition, guard)
        raise StorageFailed(f"too many changes of the versioning of {bucket} at once")

    async def _remove_only(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        condition: Condition | None,
        guard: Guard | None,
    ) -> bool:
        """
        Remove the object of a bucket without versions.

        :return: Whether it has none.
        """

        def change(stack: Stack) -> list[Write] | None:
            """
            What is written.
            """
            if stack.versioned:
                return None
            if stack.current is None:
                return []
            return [*self._stacks.discarded(stack.current), Write(object_key(key), None)]

        return await self._versions.change(bucket, key, seen, change, condition, guard=guard)

    async def _mark(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        condition: Condition | None,
        guard: Guard | None,
    ) -> Deletion:
        """
        Put a delete marker above all versions.
        """
        expected = await self._versions.expected(bucket, key, seen)
        blob = self._random(16).hex()
        described = BlobRecord(
            bucket,
            key,
            expected.version_id,
            expected.began,
            metadata_record(_NO_METADATA),
            marker=True,
            sequence=expected.sequence,
        )
        try:
            making = self._intents.making(seen.space, {META: seen.meta}, (blob,))
            async with making as intent:
                await self._blobs.write(blob, BufferSource(b""), lambda _: pack(described))
                content = Content(
                    0,
                    _NO_METADATA,
                    manifest=blob,
                    version_id=expected.version_id,
                    writes=lambda _: [intent.removal],
                    expect=intent.expect,
                )
                made = await self._versions.replace(
                    bucket, key, seen, content, condition, marker=True, guard=guard
                )
        except Conflict as conflict:
            raise NoSuchBucket(bucket) from conflict
        return Deletion(made.version_id, True)

    async def remove_version(
        self,
        bucket: str,
        key: str,
        version_id: str,
        condition: Condition | None,
        guard: Guard | None,
    ) -> Deletion:
        """
        Remove a version or a delete marker for good.

        :raises NoSuchBucket:
        :raises KypelloError: Whatever *condition* and *guard* raise.
        """
        space = (await self._versions.see(bucket, key)).space
        async with self._versions.turns.turn((space, key)):
            removal = self._remove_version(bucket, key, version_id, condition, guard)
            return (await undisturbed(removal))[0]

    async def _remove_version(
        self,
        bucket: str,
        key: str,
        version_id: str,
        condition: Condition | None,
        guard: Guard | None,
    ) -> Deletion:
        for _ in range(ATTEMPTS):
            seen = await self._buckets.see(bucket, [object_key(key), place_key(key, version_id)])
            if condition is not None:
                current = await self._current(bucket, key, seen)
                condition(None if current is None else current.info(bucket))
            removal = await self._removal(bucket, key, version_id, seen)
            if removal is None:
                continue
            if guard is not None:
                guard(guarded_info(bucket, removal.version))
            if removal.writes:
                expect = {META: seen.meta, object_key(key): seen.values[0], **removal.expect}
                try:
                    await self._intents.commit(seen.space, removal.writes, expect, removal.empty)
                except Conflict:
                    continue
            return Deletion(version_id, removal.marker)
        raise StorageFailed(f"too many writers of {bucket}/{key} at once")

    async def _current(self, bucket: str, key: str, seen: Seen) -> Version | None:
        raw = seen.values[0]
        return None if raw is None else await self._stacks.load(bucket, key, object_key(key), raw)

    async def _removal(self, bucket: str, key: str, version_id: str, seen: Seen) -> _Removal | None:
        """
        How a version is removed; ``None`` when something was changed meanwhile.
        """
        raw, packed_place = seen.values
        place, removal = place_key(key, version_id), _Removal()
        removal.expect[place] = packed_place
        sequence = told_sequence(version_id)
        if packed_place is not None:
            sequence = unpack(PlaceRecord, packed_place).sequence
        elif version_id == NULL_VERSION:
            # If it is there it is the only one.
            current = await self._current(bucket, key, seen)
            if current is not None and current.record.version_id == NULL_VERSION:
                removal.version = current
                removal.writes += self._stacks.discarded(current)
                removal.writes.append(Write(object_key(key), None))
            return removal
        if sequence is None:
            return removal
        at = version_key(key, sequence)
        (row,) = await self._index.get(seen.space, [at])
        version = None if row is None else await self._stacks.load(bucket, key, at, row)
        if version is None or version.record.version_id != version_id:
            # With a place there was one just now.
            return removal if packed_place is None else None
        removal.version = version
        removal.expect[at] = row
        removal.writes += self._stacks.removed(version)
        if raw in (None, row) and not await self._uncover(key, seen, at, removal):
            return None
        return removal

    async def _uncover(self, key: str, seen: Seen, at: bytes, removal: _Removal) -> bool:
        """
        Make the version current that is below another one, if that is the newest.

        :param at: Where the one that is removed is.
        :return: Whether nothing was changed meanwhile.
        """
        start, stop = versions_of(key)
        rows = await self._index.scan(seen.space, start, stop, 2)
        if not rows or rows[0][0] != at:
            return seen.values[0] is None
        removal.empty.append((start, at))
        below: bytes | None = None
        for where, raw in rows[1:]:
            removal.expect[where], stop = raw, where
            below = None if unpack(ObjectRecord, raw).marker else raw
        removal.empty.append((at + b"\x00", stop))
        removal.writes.append(Write(object_key(key), below))
        return True

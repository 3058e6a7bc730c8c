# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is kept of a key: its current version, and in a bucket with versions all of them.

The current version is kept apart, under the key itself, so that who reads it and who lists
objects need not look at others.  It is the newest of all versions, unless that is a delete marker:
then there is no current one.  Every commit that changes the one changes the other, too.
"""

from collections.abc import Sequence

import msgspec
from attrs import define, field

from kypello.errors import Damaged
from kypello.interfaces import IIndex
from kypello.model import NULL_VERSION, ObjectInfo, Write
from kypello.store.buckets import ATTEMPTS, Buckets, Seen
from kypello.store.intents import Intents
from kypello.store.parts import KnownParts, Parts
from kypello.store.records import (
    META,
    STATE,
    ObjectRecord,
    PartsRecord,
    PlaceRecord,
    content_key,
    empty,
    object_key,
    pack,
    parts_key,
    place_key,
    unpack,
    version_key,
    versions_of,
)
from kypello.store.states import read_state
from kypello.versioning import told_sequence

#: How many parts are told in the record of an object; more are kept apart.
_FEW = 16


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
class Stack:
    """
    What was seen of a key, as far as it matters for what is added to it.

    :ivar current: The object, if there is one.
    :ivar listed: Whether it is among the versions, too.
    :ivar versioned: Whether there are versions, or may be.
    :ivar keeps: Whether what is added gets an id of its own.
    :ivar top: The newest version, also a delete marker.
    :ivar null: For who adds a version with the id ``null``: the one that there is, if it is
        among the versions.
    :ivar expect: The records that tell all this.
    :ivar empty: Ranges in which there was none.
    """

    key: str
    space: str
    current: Version | None
    listed: bool
    versioned: bool
    keeps: bool
    top: ObjectRecord | None
    null: Version | None
    expect: dict[bytes, bytes | None]
    empty: list[tuple[bytes, bytes]]

    def following(self, now: int) -> tuple[int, int]:
        """
        Sequence number and time of what is added now.
        """
        if self.top is None:
            return 1, now
        return self.top.sequence + 1, max(now, self.top.modified + 1)

    @property
    def displaced(self) -> Version | None:
        """
        What is removed for good when a version is added; ``None`` when all stay.
        """
        if self.keeps:
            return None
        return self.null if self.listed or self.null is not None else self.current

    def expects(self, key: bytes) -> bool:
        """
        Whether a conflict about a key says that it was changed meanwhile.
        """
        return key in self.expect or any(start <= key < stop for start, stop in self.empty)


@define(eq=False)
class Stacks:
    """
    Looks at keys, and tells how they are changed.
    """

    _index: IIndex
    _buckets: Buckets
    _intents: Intents
    _known: KnownParts = field(init=False, factory=KnownParts)

    async def look(self, bucket: str, key: str, seen: Seen) -> Stack:
        """
        What is kept of a key, as it was seen or is later.

        :param seen: Of :func:`look_keys`.
        :raises NoSuchBucket:
        :raises Damaged: A version is not where it is told to be.
        """
        for _ in range(ATTEMPTS):
            stack = await self._look(bucket, key, seen)
            if stack is not None:
                return stack
            seen = await self._buckets.see(bucket, look_keys(key))
        raise Damaged(f"the places of the versions of {bucket}/{key}")

    async def _look(self, bucket: str, key: str, seen: Seen) -> Stack | None:
        """
        The same; ``None`` when something was changed meanwhile.
        """
        at, (raw, copy) = object_key(key), seen.values
        if not await self._buckets.states.is_copied(bucket, seen.space, copy):
            return None
        current = None
        if raw is not None:
            current = await self.load(bucket, key, at, raw)
            if current is None:
                return None
        expect = {META: seen.meta, at: raw, STATE: copy}
        top = None if current is None else current.record
        stack = Stack(key, seen.space, current, False, False, False, top, None, expect, [])
        if copy is not None:
            state = read_state(copy)
            stack.versioned, stack.keeps = True, state is not None and state.keeps(key)
            stack.listed = top is not None and top.version_id != NULL_VERSION
            if top is None:
                await self._find_top(stack)
            unlisted = current is not None and not stack.listed
            if (unlisted or not stack.keeps) and not await self._find_null(bucket, stack):
                return None
        return stack

    async def _find_top(self, stack: Stack) -> None:
        start, stop = versions_of(stack.key)
        rows = await self._index.scan(stack.space, start, stop, 1)
        for at, raw in rows:
            stack.top = unpack(ObjectRecord, raw)
            stack.expect[at] = raw
            stop = at
        stack.empty.append((start, stop))

    async def _find_null(self, bucket: str, stack: Stack) -> bool:
        """
        Find the version with the id ``null`` among all versions.

        :return: Whether nothing was changed meanwhile.
        """
        place = place_key(stack.key, NULL_VERSION)
        (packed_place,) = await self._index.get(stack.space, [place])
        stack.expect[place] = packed_place
        current = stack.current
        if packed_place is None:
            return True
        if current is not None and current.record.version_id == NULL_VERSION:
            stack.listed = True
        if stack.keeps:
            return True
        at = version_key(stack.key, unpack(PlaceRecord, packed_place).sequence)
        (raw,) = await self._index.get(stack.space, [at])
        stack.expect[at] = raw
        if raw is not None:
            stack.null = await self.load(bucket, stack.key, at, raw)
        return stack.null is not None

    async def load(
        self, bucket: str, key: str, at: bytes, raw: bytes, small: bytes | None = None
    ) -> Version | None:
        """
        A version with all its parts; ``None`` if it is no more.

        :param at: Where its record was read.
        :param small: Its content, if that was read.
        :raises NoSuchBucket:
        :raises Damaged: Its list of parts is not as it should be.
        """
        record = unpack(ObjectRecord, raw)
        if not record.apart:
            return Version(key, raw, record, Parts(record.parts), small)
        parts = self._known.get(raw)
        if parts is None:
            keys = [at, parts_key(key, record.version_id)]
            current, listed = (await self._buckets.see(bucket, keys)).values
            if current != raw:
                return None
            parts = Parts(() if listed is None else unpack(PartsRecord, listed).parts)
            if len(parts.records) != record.apart:
                raise Damaged(f"parts of {bucket}/{key}")
            self._known.add(raw, parts)
        return Version(key, raw, record, parts)

    async def marker(self, bucket: str, key: str) -> str | None:
        """
        The id of the delete marker for which a key has no current version; empty when there is
        none, and ``None`` when there is a current version by now.

        :raises NoSuchBucket:
        """
        at = object_key(key)
        seen = await self._buckets.see(bucket, [at, STATE])
        if seen.values[0] is not None:
            return None
        if seen.values[1] is None:
            return ""
        rows = await self._index.scan(seen.space, *versions_of(key), 1)
        if not rows:
            return ""
        record = unpack(ObjectRecord, rows[0][1])
        return record.version_id if record.marker else None

    def added(self, stack: Stack, record: ObjectRecord, raw: bytes) -> list[Write]:
        """
        How a version is put above all others: first what becomes of these.

        :param raw: The record as it is kept.
        """
        current, writes = stack.current, list[Write]()
        if not stack.versioned:
            return [*self.discarded(current), Write(object_key(stack.key), raw)]
        if stack.keeps:
            if current is not None and not stack.listed:
                writes += listed(stack.key, current.record, current.raw)
        elif stack.null is not None:
            writes += self.removed(stack.null)
        elif current is not None and not stack.listed:
            writes += self.discarded(current)
        writes.append(Write(object_key(stack.key), None if record.marker else raw))
        return [*writes, *listed(stack.key, record, raw)]

    def removed(self, old: Version) -> list[Write]:
        """
        How a version is removed from among all versions, with what it consists of.
        """
        record = old.record
        writes = [Write(version_key(old.key, record.sequence), None), *self.discarded(old)]
        if _is_displaced(record):
            writes.append(Write(place_key(old.key, record.version_id), None))
        return writes

    def discarded(self, old: Version | None) -> list[Write]:
        """
        How that is removed which a version consists of.
        """
        if old is None:
            return []
        # The manifest last, so that parts of which some are gone are not taken for an upload.
        writes = self._intents.discarded([*old.parts.records, *empty(old.record.manifest)])
        if old.record.apart:
            writes.append(Write(parts_key(old.key, old.record.version_id), None))
        if old.record.size and not old.record.parts:
            writes.append(Write(content_key(old.key, old.record.version_id), None))
        return writes


def look_keys(key: str) -> Sequence[bytes]:
    """
    What who changes a key looks at.
    """
    return object_key(key), STATE


def packed(key: str, record: ObjectRecord) -> tuple[bytes, list[Write]]:
    """
    How a version is kept: its parts lie apart when they are many.

    :param record: With all its parts.
    :return: The record that is kept, and how what lies apart is stored.
    """
    if len(record.parts) <= _FEW:
        return pack(record), []
    short = msgspec.structs.replace(record, parts=record.parts[:1], apart=len(record.parts))
    parts = Write(parts_key(key, record.version_id), pack(PartsRecord(record.parts)))
    return pack(short), [parts]


def listed(key: str, record: ObjectRecord, raw: bytes) -> list[Write]:
    """
    How a version is kept among all versions.
    """
    writes = [Write(version_key(key, record.sequence), raw)]
    if _is_displaced(record):
        place = pack(PlaceRecord(record.sequence))
        writes.append(Write(place_key(key, record.version_id), place))
    return writes


def _is_displaced(record: ObjectRecord) -> bool:
    """
    Whether the id of a version does not tell its place.
    """
    return told_sequence(record.version_id) != record.sequence

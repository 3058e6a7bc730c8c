# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The versions of a key: how they are found, added to and changed.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from attrs import define, field
from awscrt.checksums import crc32c

from kypello.crypto.randomness import Random
from kypello.errors import (
    Conflict,
    Damaged,
    IsDeleteMarker,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    Refused,
    StorageFailed,
    StorageFull,
)
from kypello.interfaces import Condition, Guard
from kypello.model import NULL_VERSION, CustomerKey, ObjectInfo, ObjectMetadata, Write
from kypello.store.buckets import ATTEMPTS, Buckets, Seen
from kypello.store.intents import Intents
from kypello.store.parts import Parts
from kypello.store.records import (
    ObjectRecord,
    PartRecord,
    PlaceRecord,
    content_key,
    metadata_record,
    object_key,
    place_key,
    unpack,
    version_key,
)
from kypello.store.stacks import Stack, Stacks, Version, look_keys, packed
from kypello.store.turns import Turns
from kypello.store.undisturbed import undisturbed
from kypello.versioning import new_version_id, told_sequence

#: How many look first after one that supposed wrongly.
_WARY = 32


@define
class Content:
    """
    New content of an object.

    :ivar small: The content that goes into the index; ``None`` when *parts* hold it.
    :ivar manifest: The blob that describes an object in parts.
    :ivar version_id: The id that it is described with; empty when nothing describes it.
    :ivar writes: Makes what else its commit changes.
    :ivar expect: What else its commit expects.
    :ivar empty: Ranges in which its commit expects nothing.
    """

    size: int
    metadata: ObjectMetadata
    small: bytes | None = field(default=None, repr=False)
    parts: tuple[PartRecord, ...] = ()
    manifest: str = ""
    version_id: str = ""
    writes: Callable[[ObjectRecord], Sequence[Write]] = lambda _: ()
    expect: Mapping[bytes, bytes | None] = field(factory=dict)
    empty: Sequence[tuple[bytes, bytes]] = ()


#: For a commit that brings no content.
_NOTHING = Content(0, ObjectMetadata())


@define
class Expected:
    """
    What a version will be, unless another is committed before it.

    :ivar began: Nanoseconds since the epoch, later than any version that is there.
    """

    version_id: str
    sequence: int
    began: int


@define(eq=False)
class Versions:
    """
    The versions of all keys.

    :ivar _now: Nanoseconds since the epoch.
    :ivar turns: Of those who change a key, by space and key.
    :ivar _wary: How many are to look first, by the space in which one has supposed wrongly.
    """

    _buckets: Buckets
    _intents: Intents
    _stacks: Stacks
    _random: Random
    _now: Callable[[], int]
    turns: Turns = field(init=False, factory=Turns)
    _wary: dict[str, int] = field(init=False, factory=dict)

    async def see(self, bucket: str, key: str) -> Seen:
        """
        A look at a key, for those who change it.

        :raises NoSuchBucket:
        """
        return await self._buckets.see(bucket, look_keys(key))

    async def suppose(self, bucket: str, key: str) -> Seen:
        """
        The same for who stores something whatever there is: a key of which nothing is known is
        taken for a new one, as most are.  If it is not, the commit conflicts, and looks.

        :raises NoSuchBucket:
        """
        at, *others = look_keys(key)
        seen = self._buckets.recall(bucket, at, others)
        # Where there are versions, the newest one matters, too.
        if seen is None or any(seen.values) or self._looks_first(seen.space):
            return await self.see(bucket, key)
        return Seen(seen.space, seen.meta, (None, *seen.values), supposed=True)

    def _looks_first(self, space: str) -> bool:
        """
        Whether a supposition about a space was wrong lately.
        """
        left = self._wary.pop(space, 0)
        if left > 1:
            self._wary[space] = left - 1
        return left > 0

    def peek(self, bucket: str, key: str, content: str = "") -> Coroutine[Any, Any, Seen]:
        """
        A look at the current version of a key, for those who read it.

        :param content: The id of the version whose content is read, too, if it is small; empty
            for none.
        :raises NoSuchBucket:
        """
        keys = [object_key(key)]
        if content:
            keys.append(content_key(key, content))
        # Every small request comes here: there is no coroutine more than need be.
        return self._buckets.see(bucket, keys)

    async def find(
        self, bucket: str, key: str, version_id: str = "", content: bool = False
    ) -> Version:
        """
        Find a version that has content.

        :param version_id: Empty for the current version.
        :param content: Whether to read the content of a small object.
        :raises NoSuchBucket:
        :raises NoSuchKey:
        :raises NoSuchVersion:
        :raises IsDeleteMarker:
        :raises Damaged: It is not where it is told to be.
        """
        if not version_id:
            return await self._current(bucket, key, content)
        for _ in range(ATTEMPTS):
            found = await self._named(bucket, key, version_id, content)
            if found is None:
                continue
            if found.record.marker:
                raise IsDeleteMarker(bucket, key, version_id, found.record.modified)
            return found
        raise Damaged(f"the places of the versions of {bucket}/{key}")

    async def _current(self, bucket: str, key: str, content: bool) -> Version:
        wanted = NULL_VERSION if content else ""
        for _ in range(ATTEMPTS):
            raw, *small = (await self.peek(bucket, key, wanted)).values
            if raw is None:
                marker = await self._stacks.marker(bucket, key)
                if marker is not None:
                    raise NoSuchKey(bucket, key, marker)
                continue
            record = unpack(ObjectRecord, raw)
            if wanted not in ("", record.version_id) and record.size and not record.parts:
                wanted = record.version_id
                continue
            at = object_key(key)
            version = await self._stacks.load(bucket, key, at, raw, small[0] if small else None)
            if version is not None:
                return version
        raise Damaged(f"the versions of {bucket}/{key}")

    async def _named(self, bucket: str, key: str, version_id: str, content: bool) -> Version | None:
        """
        Find a version by its id; ``None`` when it was changed while it was looked for.
        """
        told = told_sequence(version_id)
        where = object_key(key), place_key(key, version_id), content_key(key, version_id)
        guess = [version_key(key, told)] if told is not None else []
        seen = await self._buckets.see(bucket, [*where, *guess])
        raw, place, small = seen.values[:3]
        at = where[0]
        if raw is None or unpack(ObjectRecord, raw).version_id != version_id:
            raw = seen.values[3] if guess else None
            at = guess[0] if guess else b""
            if place is not None:
                at = version_key(key, unpack(PlaceRecord, place).sequence)
                again = await self._buckets.see(bucket, [at, where[1], where[2]])
                raw, still, small = again.values
                if raw is None or still != place:
                    return None
            if raw is None or unpack(ObjectRecord, raw).version_id != version_id:
                raise NoSuchVersion(bucket, key, version_id)
        return await self._stacks.load(bucket, key, at, raw, small if content else None)

    async def expected(self, bucket: str, key: str, seen: Seen) -> Expected:
        """
        What a version will be that begins to be written now, for what describes it.

        :raises NoSuchBucket:
        """
        stack = await self._stacks.look(bucket, key, seen)
        sequence, modified = stack.following(self._now())
        if not stack.keeps:
            return Expected(NULL_VERSION, sequence, modified)
        return Expected(new_version_id(sequence, self._random), sequence, modified)

    async def replace(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        content: Content,
        condition: Condition | None,
        *,
        marker: bool = False,
        guard: Guard | None = None,
    ) -> ObjectInfo:
        """
        Make new content the current version.

        :param seen: A look at the key, in the bucket for which the content was made.
        :param marker: Make a delete marker, which has none; the bucket has versions.
        :param guard: As in :meth:`change`.
        :raises NoSuchBucket: It exists no more.
        :raises Conflict: Something else than the versions was not as *content* expects.
        """
        metadata = metadata_record(content.metadata)
        made: list[ObjectRecord] = []

        def change(stack: Stack) -> list[Write]:
            """
            What is written.
            """
            sequence, modified = stack.following(self._now())
            record = ObjectRecord(
                sequence,
                self._id(stack, sequence, content.version_id),
                content.size,
                modified,
                metadata,
                content.parts,
                manifest=content.manifest,
                checksum=crc32c(content.small) if content.small else None,
                marker=marker,
            )
            made[:] = [record]
            raw, apart = packed(key, record)
            writes = [*self._stacks.added(stack, record, raw), *apart, *content.writes(record)]
            if content.small:
                writes.append(Write(content_key(key, record.version_id), content.small))
            return writes

        await self.change(bucket, key, seen, change, condition, content, guard=guard)
        return made[0].info(bucket, key, Parts(content.parts).infos)

    def _id(self, stack: Stack, sequence: int, expected: str) -> str:
        if not stack.keeps:
            return NULL_VERSION
        if expected and expected != NULL_VERSION:
            return expected
        return new_version_id(sequence, self._random)

    async def change(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        change: Callable[[Stack], list[Write] | None],
        condition: Condition | None,
        content: Content = _NOTHING,
        *,
        guard: Guard | None = None,
    ) -> bool:
        """
        Change the versions of a key in one commit.

        :param change: Gives what is written, perhaps nothing; ``None`` to give up.
        :param guard: Given the version that another one, or nothing, takes the place of.
        :return: Whether it was not given up.
        :raises KypelloError: As :meth:`replace`, and whatever *condition* and *guard* raise.
        """
        async with self.turns.turn((seen.space, key)) as waited:
            work = self._try_change(bucket, key, seen, waited, change, condition, content, guard)
            return (await undisturbed(work))[0]

    async def _try_change(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        outdated: bool,
        change: Callable[[Stack], list[Write] | None],
        condition: Condition | None,
        content: Content,
        guard: Guard | None,
    ) -> bool:
        space = seen.space
        for _ in range(ATTEMPTS):
            if outdated:
                seen = await self.see(bucket, key)
            stack = await self._stacks.look(bucket, key, seen)
            if stack.space != space:
                raise NoSuchBucket(bucket)
            if condition is not None:
                condition(None if stack.current is None else stack.current.info(bucket))
            if guard is not None:
                guard(guarded_info(bucket, stack.displaced))
            writes = change(stack)
            if not writes:
                return writes is not None
            # What is written anew need not be removed before.
            writes = list({write.key: write for write in writes}.values())
            try:
                await self._intents.commit(
                    space,
                    writes,
                    {**stack.expect, **content.expect},
                    [*stack.empty, *content.empty],
                )
            except Conflict as conflict:
                if not stack.expects(conflict.key):
                    raise
                if seen.supposed:
                    self._wary[space] = _WARY
            except StorageFull:
                # For less than there is, there may be room.
                if not seen.supposed:
                    raise
            else:
                return True
            outdated = True
        raise StorageFailed(f"too many writers of {bucket}/{key} at once")


def guarded_info(bucket: str, removed: Version | None) -> ObjectInfo | None:
    """
    What a guard is given about a version that is removed.
    """
    return None if removed is None or removed.record.marker else removed.info(bucket)


def refuse_key(customer_key: CustomerKey | None) -> None:
    """
    Refuse the key of a client: nothing is encrypted here.

    :raises Refused:
    """
    if customer_key is not None:
        raise Refused(
            "InvalidRequest", "The encryption parameters are not applicable to this object."
        )

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The versions of keys in an index that is rebuilt.
"""

from attrs import define

from kypello.model import NULL_VERSION, Write
from kypello.store.rebuilt import Work
from kypello.store.records import (
    PLACES,
    VERSIONS,
    ObjectRecord,
    PlaceRecord,
    content_key,
    object_key,
    pack,
    parts_key,
    place_key,
    unpack,
    version_key,
    versions_of,
)
from kypello.store.stacks import listed, packed
from kypello.versioning import told_sequence


@define(eq=False)
class RebuiltStacks:
    """
    Finds versions, adds some, and sees to it that the newest is the current one.
    """

    _work: Work

    async def find(self, space: str, key: str, version_id: str) -> ObjectRecord | None:
        """
        A version by its id.
        """
        told = told_sequence(version_id)
        keys = [place_key(key, version_id), object_key(key)]
        keys += [] if told is None else [version_key(key, told)]
        place, *raws = await self._work.index.get(space, keys)
        if place is not None:
            at = version_key(key, unpack(PlaceRecord, place).sequence)
            raws.append(await self._work.get(space, at))
        for raw in raws:
            record = None if raw is None else unpack(ObjectRecord, raw)
            if record is not None and record.version_id == version_id:
                return record
        return None

    async def has_versions(self, space: str, key: str) -> bool:
        """
        Whether there are versions of a key beside an object that is the only one.
        """
        return bool(await self._work.index.scan(space, *versions_of(key), 1))

    async def free_place(self, space: str, key: str, sequence: int) -> int:
        """
        The first place from one on that no version has.  Each version that is lost has left one,
        at the place that it was expected to get or behind it.
        """
        while await self._work.get(space, version_key(key, sequence)) is not None:
            sequence += 1
        return sequence

    async def add(self, space: str, key: str, record: ObjectRecord, *, versioned: bool) -> None:
        """
        Add a version.

        :param record: With all its parts.
        :param versioned: Whether it is one of several, or may be.
        """
        raw, writes = packed(key, record)
        if not versioned:
            await self._work.write(space, [Write(object_key(key), raw), *writes])
            return
        await self.list_only(space, key)
        await self._work.write(space, [*writes, *listed(key, record, raw)])
        await self.settle(space, key)

    async def list_only(self, space: str, key: str) -> None:
        """
        Put an object that is the only version of its key among all versions.
        """
        raw = await self._work.get(space, object_key(key))
        if raw is not None and not await self.has_versions(space, key):
            await self._work.write(space, listed(key, unpack(ObjectRecord, raw), raw))

    def rows(self, key: str, record: ObjectRecord) -> list[bytes]:
        """
        All that may be kept of a version, but for the current one being kept apart.
        """
        version = record.version_id
        return [
            version_key(key, record.sequence),
            place_key(key, version),
            content_key(key, version),
            parts_key(key, version),
        ]

    async def settle(self, space: str, key: str) -> None:
        """
        Make the newest of all versions of a key the current one, if there are any.
        """
        for _, raw in await self._work.index.scan(space, *versions_of(key), 1):
            current = None if unpack(ObjectRecord, raw).marker else raw
            await self._work.write(space, [Write(object_key(key), current)])

    async def settle_all(self, space: str) -> None:
        """
        Do so for all keys, and see to it that places are told as they are.
        """
        before = ""
        async for page in self._work.pages(space, PLACES):
            for row, value in page:
                key, _, version = row[1:].decode().partition("\x00")
                at = version_key(key, unpack(PlaceRecord, value).sequence)
                raw = await self._work.get(space, at)
                if raw is None or unpack(ObjectRecord, raw).version_id != version:
                    await self._work.write(space, [Write(row, None)])
        async for page in self._work.pages(space, VERSIONS):
            for row, raw in page:
                key = row[1:].partition(b"\x00")[0].decode()
                record = unpack(ObjectRecord, raw)
                if told_sequence(record.version_id) != record.sequence:
                    place = pack(PlaceRecord(record.sequence))
                    writes = [Write(place_key(key, record.version_id), place)]
                    await self._work.write(space, writes)
                if key != before:
                    await self.settle(space, key)
                before = key


def is_versioned(record: ObjectRecord) -> bool:
    """
    Whether a version can only be one of several.
    """
    return record.marker or record.version_id != NULL_VERSION

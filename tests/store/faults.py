# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Indexes and blobs that fail, or are overtaken, where a test wants it; and what must be left.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from attrs import define

from kypello.errors import StorageFailed
from kypello.interfaces import IBlobs, IIndex
from kypello.model import Write
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.records import (
    BUCKETS,
    SYSTEM,
    BucketRecord,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    PlaceRecord,
    pack,
    place_key,
    unpack,
    version_key,
)
from kypello.versioning import told_sequence


class Killed(BaseException):
    """
    The process ends here: nothing catches it and cleans up.
    """


@define(eq=False)
class FailingIndex(MemoryIndex):
    """
    An index that fails at a commit of choice.

    :ivar commits: How many there were.
    :ivar at: The commit that fails, counted from 1; 0 for none.
    :ivar error: What it raises.
    :ivar after: Whether it happens all the same.
    """

    commits: int = 0
    at: int = 0
    error: Callable[[], BaseException] = Killed
    after: bool = False

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Commit, unless it is time to fail.
        """
        self.commits += 1
        if self.commits != self.at or self.after:
            await super().commit(space, writes, expect, empty)
        if self.commits == self.at:
            raise self.error()


@define(eq=False)
class InterruptedIndex(MemoryIndex):
    """
    An index where something else happens before a commit of choice.

    :ivar commits: How many are to come until then.
    :ivar drops: How many spaces were dropped.
    """

    commits: int = 0
    meanwhile: Callable[[], Awaitable[None]] | None = None
    drops: int = 0

    async def drop(self, space: str) -> None:
        """
        Count it.
        """
        self.drops += 1
        await super().drop(space)

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Commit, perhaps after something else.
        """
        self.commits -= 1
        if not self.commits and self.meanwhile is not None:
            await self.meanwhile()
        await super().commit(space, writes, expect, empty)


@define(eq=False)
class FailingBlobs(MemoryBlobs):
    """
    Blobs that cannot be deleted while *broken*.

    :ivar deletions: How many were asked for.
    :ivar broken_at: From which of these on they fail; 0 for never.
    """

    broken: bool = False
    deletions: int = 0
    broken_at: int = 0

    async def delete(self, names: Sequence[str]) -> Sequence[str]:
        """
        Delete, or fail after some.
        """
        pinned: list[str] = []
        for name in names:
            self.deletions += 1
            if self.broken or 0 < self.broken_at <= self.deletions:
                raise StorageFailed("the device")
            pinned += await super().delete([name])
        return pinned


async def live_blobs(index: IIndex) -> list[str]:
    """
    The names of all blobs that living buckets, the versions of their objects and their unfinished
    uploads consist of.
    """
    names: list[str] = []
    for _, value in await index.scan(SYSTEM, *BUCKETS, 1000):
        bucket = unpack(BucketRecord, value)
        names.append(bucket.blob)
        rows = await index.scan(bucket.space, b"", None, 10**6)
        versions = {record for key, record in rows if key[:1] == b"v"}
        for key, record in rows:
            if key[:1] == b"v" or (key[:1] == b"o" and record not in versions):
                version = unpack(ObjectRecord, record)
                names += [part.blob for part in version.parts if not version.apart]
                names += [version.manifest] if version.manifest else []
            elif key[:1] == b"l":
                names += [part.blob for part in unpack(PartsRecord, record).parts]
            elif key[:1] == b"p":
                names.append(unpack(PartRecord, record).blob)
    return sorted(names)


async def residue(index: IIndex) -> list[bytes]:
    """
    All intents and garbage, parts without an upload, and contents without an object.
    """
    found = []
    for space in await index.spaces():
        keys = [key for key, _ in await index.scan(space, b"", None, 10**6)]
        uploads = {key.rpartition(b"\x00")[2] for key in keys if key[:1] == b"u"}
        found += [key for key in keys if key[:1] in (b"i", b"g")]
        found += [key for key in keys if key[:1] == b"p" and key[1:-2] not in uploads]
        rows = await index.scan(space, b"", None, 10**6) if space != SYSTEM else ()
        versions = {
            (key[1:].partition(b"\x00")[0], unpack(ObjectRecord, value).version_id.encode())
            for key, value in rows
            if key[:1] in (b"o", b"v")
        }
        apart = [key for key in keys if key[:1] in (b"c", b"l", b"x")]
        found += [key for key in apart if tuple(key[1:].split(b"\x00")) not in versions]
        found += stacks_wrong(rows)
    return found


def stacks_wrong(rows: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """
    The keys of which the newest version is not the current one, or which say otherwise where a
    version is.

    :param rows: All of a bucket.
    """
    wrong: list[bytes] = []
    newest: dict[bytes, bytes] = {}
    places: dict[bytes, bytes] = {}
    for key, value in rows:
        if key[:1] == b"v":
            name, _, _ = key[1:].partition(b"\x00")
            record = unpack(ObjectRecord, value)
            newest.setdefault(name, value)
            if key != version_key(name.decode(), record.sequence):
                wrong.append(key)
            if told_sequence(record.version_id) != record.sequence:
                place = pack(PlaceRecord(record.sequence))
                places[place_key(name.decode(), record.version_id)] = place
    current = {key[1:]: value for key, value in rows if key[:1] == b"o"}
    for name, value in newest.items():
        if current.pop(name, None) != (None if unpack(ObjectRecord, value).marker else value):
            wrong.append(name)
    wrong += [
        name for name, value in current.items() if unpack(ObjectRecord, value).version_id != "null"
    ]
    told = {key: value for key, value in rows if key[:1] == b"x"}
    return wrong + [key for key in {*told, *places} if told.get(key) != places.get(key)]


async def whats_wrong(index: IIndex, blobs: IBlobs) -> list[object]:
    """
    What is left over, or missing, after a sweep.
    """
    wrong: list[object] = list(await residue(index))
    stored = list(await blobs.names("", 10**6))
    live = await live_blobs(index)
    if stored != live:
        wrong.append((len(stored), len(live), sorted(set(stored) ^ set(live))))
    return wrong


async def spaces_wrong(index: IIndex) -> list[object]:
    """
    The spaces that belong to no bucket, or are missing, after a sweep.
    """
    rows = await index.scan(SYSTEM, *BUCKETS, 1000)
    live = {unpack(BucketRecord, value).space for _, value in rows}
    return sorted((set(await index.spaces()) - {SYSTEM}) ^ live)

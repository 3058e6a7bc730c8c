# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An index that is made anew from what can still be read of the old one, and from what is described
beside the blobs.

What the old index tells counts more, as far as it is whole: its records are copied, and what
contradicts something else or names blobs that are not there is left out.  Then each blob that
nothing names is asked what it belongs to.  It may be newer than what was copied: who has lost the
last commits of a database finds them there.  Small objects lie in the index only.

Memory stays bounded, as in :mod:`kypello.store.check`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

from attrs import define, field

from kypello.crypto.randomness import Random
from kypello.errors import Damaged, StorageFailed
from kypello.interfaces import IBlobs, IIndex, ILanes
from kypello.model import Write
from kypello.store.beside import beside
from kypello.store.checkednames import HEX
from kypello.store.checkedrecords import text_of
from kypello.store.findings import Problem, told
from kypello.store.rebuilt import Living, Rebuilt, Work
from kypello.store.rebuiltbuckets import RebuiltBuckets
from kypello.store.rebuiltnames import Described, RebuiltNames, Use
from kypello.store.rebuiltobjects import RebuiltObjects
from kypello.store.rebuiltrecords import RebuiltRecords
from kypello.store.rebuiltuploads import RebuiltUploads
from kypello.store.records import (
    GARBAGE,
    INTENTS,
    PARTS,
    BlobRecord,
    Garbage,
    Intent,
    PartRecord,
    pack,
    unpack,
)
from kypello.store.salvage import Salvage

#: How many names of blobs are read at once.
_NAMES = 1000

#: Makes something in a space of what is described.
_Make: TypeAlias = Callable[[str, Described], Awaitable[None]]

#: Before the first of all described blobs.
_FIRST = Described("", "", "", 0, 0, "", 0)


@define(eq=False)
class Rebuilder:
    """
    Fills an empty index, once.  Nobody may change anything meanwhile.

    :ivar _index: The new one.
    :ivar _old: What can be read of the old one, by spaces.
    :ivar _lanes: For temporary tables and old databases.
    :ivar _tell: Called with each problem as it is found.
    :ivar figures: Grow while it runs.
    """

    _index: IIndex
    _blobs: IBlobs
    _old: Mapping[str, Salvage]
    _lanes: ILanes
    _random: Random
    _tell: Callable[[Problem], object]
    figures: Rebuilt = field(init=False, factory=Rebuilt)
    _work: Work = field(init=False)
    _buckets: RebuiltBuckets = field(init=False)
    _objects: RebuiltObjects = field(init=False)
    _uploads: RebuiltUploads = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was copied yet.
        """
        names = RebuiltNames(self._lanes.lane())
        self._work = Work(self._index, self._blobs, names, self.figures, self._tell)
        self._buckets = RebuiltBuckets(self._work, self._random)
        self._objects = RebuiltObjects(self._work)
        self._uploads = RebuiltUploads(self._work)

    async def run(self) -> Rebuilt:
        """
        Do all of it.

        :raises StorageFailed: The new index, or a temporary table, cannot be written, or the
            blobs cannot be listed.
        :raises StorageFull:

        Whoever calls it closes this afterwards, unless it fails.
        """
        try:
            records = RebuiltRecords(self._work, self._lanes)
            for space, salvage in self._old.items():
                await records.copy(space, salvage)
            living = await self._buckets.settle()
            await self._keep(living)
            await self._ask_blobs()
            await self._buckets.finish(living)
            await self._make(living)
            await self._buckets.keep_versions(living)
            await self._tell_lost(living)
        except BaseException:
            await self.close()
            raise
        return self.figures

    async def unused(self) -> AsyncIterator[Sequence[str]]:
        """
        The blobs that nothing in the new index names, some at a time; behind :meth:`run`.
        """
        after = ""
        while names := await self._blobs.names(after, _NAMES):
            proper = [name for name in names if HEX.fullmatch(name)]
            named = await self._work.names.named(proper)
            yield [name for name in proper if name not in named]
            after = names[-1]

    async def close(self) -> None:
        """
        Forget all.
        """
        await self._work.names.close()

    async def _keep(self, living: Living) -> None:
        """
        Leave out what was copied and is not whole, and note which blobs are named.
        """
        for space in living.all:
            async for page in self._work.pages(space, GARBAGE):
                for _, value in page:
                    await self._work.names.leave(unpack(Garbage, value).blobs)
        await self._buckets.name(living)
        for bucket, space in living.spaces.items():
            await self._objects.keep(bucket, space)
            await self._uploads.keep(bucket, space)
        for space in living.dying:
            async for page in self._work.pages(space, PARTS):
                blobs = [unpack(PartRecord, value).blob for _, value in page]
                await self._work.names.leave(blobs)
        for space in living.all:
            async for page in self._work.pages(space, INTENTS):
                for key, value in page:
                    await self._keep_intent(living, space, key, unpack(Intent, value))

    async def _keep_intent(self, living: Living, space: str, key: bytes, intent: Intent) -> None:
        named = await self._work.names.named(intent.blobs)
        blobs = tuple(blob for blob in intent.blobs if named.get(blob) is not Use.LIVE)
        await self._work.names.leave(blobs)
        made = "" if intent.space in living.spaces.values() else intent.space
        if (blobs, made) != (intent.blobs, intent.space):
            # Another page of the database tells that it came to its end.
            rest = pack(Intent(intent.began, blobs, made)) if blobs or made else None
            await self._work.write(space, [Write(key, rest)])

    async def _ask_blobs(self) -> None:
        """
        Read the descriptions of all blobs that nothing names.
        """
        async for names in self.unused():
            found: list[Described] = []

            async def ask(name: str, found: list[Described] = found) -> None:
                """
                Ask one what it belongs to.
                """
                described = await self._describe(name)
                found += [] if described is None else [described]

            await beside(ask, names)
            await self._work.names.describe(found)

    async def _describe(self, name: str) -> Described | None:
        """
        What a blob tells; ``None`` when it cannot be an object or a part.
        """
        self.figures.blobs += 1
        try:
            blob = await self._blobs.open(name)
            blob.close()
            record = unpack(BlobRecord, await self._blobs.describe(name))
        except (Damaged, StorageFailed) as error:
            # So it is with a write that was interrupted.
            self._work.unused(Problem(), name, told(error))
            return None
        if record.about is not None:
            self._buckets.describe(record.bucket, name, record.about)
            return None
        upload = "" if record.parts else record.upload_id
        rank = -record.began if upload else record.began
        return Described(record.bucket, record.key, upload, record.number, rank, name, blob.size)

    async def _make(self, living: Living) -> None:
        """
        Make what only blobs tell of.
        """
        for upload, make in ((False, self._objects.make), (True, self._uploads.make)):

            async def make_group(group: Sequence[Described], make: _Make = make) -> None:
                """
                Make one thing from all that is described of it, in order.
                """
                for found in group:
                    await self._make_one(living, found, make)

            after = _FIRST
            while page := await self._work.names.described(after, upload):
                # What is written at once shares a commit.
                groups = [list(group) for _, group in groupby(page, _thing)]
                await beside(make_group, groups)
                after = page[-1]

    async def _make_one(self, living: Living, found: Described, make: _Make) -> None:
        where = Problem(bucket=found.bucket, key=found.key, upload=found.upload, part=found.number)
        space = living.spaces.get(found.bucket)
        if space is None:
            self._work.unused(where, found.blob, "its bucket was deleted")
            return
        try:
            await make(space, found)
        except Damaged as error:
            self._work.unused(where, found.blob, error.what)

    async def _tell_lost(self, living: Living) -> None:
        """
        Tell of what was lost and could not be made again.
        """
        after = "", b""
        while page := await self._work.names.lost(after):
            for space, row, what in page:
                if await self._work.get(space, row) is None:
                    self._work.say(_where(living.bucket(space), row), what)
            after = page[-1][:2]


def _thing(found: Described) -> tuple[str, str, str]:
    return found.bucket, found.key, found.upload


def _where(bucket: str, row: bytes) -> Problem:
    """
    Of what a row tells.
    """
    kind, rest = row[:1], row[1:]
    if kind == b"b":
        return Problem(bucket=text_of(rest))
    if kind == b"p":
        return Problem(
            bucket=bucket, upload=text_of(rest[:-2]), part=int.from_bytes(rest[-2:], "big")
        )
    key, _, upload = rest.partition(b"\x00")
    return Problem(bucket=bucket, key=text_of(key), upload=text_of(upload) if kind == b"u" else "")

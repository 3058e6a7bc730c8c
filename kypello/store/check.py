# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether what a store keeps is whole; nothing is changed.

All records are decoded, and the blobs that they name are opened.  What was met goes into a
temporary table, on disk when it grows, so that memory stays bounded: a blob that is not in there
at the end is an orphan.  But where a record cannot be read nobody knows what it named, so a blob
that belongs to the same bucket is left undecided.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from attrs import define, evolve, field
from msgspec.msgpack import Decoder

from kypello.errors import Damaged, StorageFailed
from kypello.interfaces import IBlobs, IIndex, ILanes, IObjectStore
from kypello.store.checkedcontents import CheckedContents, Kept
from kypello.store.checkednames import HEX, CheckedNames
from kypello.store.checkedobjects import CheckedObjects
from kypello.store.checkedrecords import CheckedRecords, Place, text_of
from kypello.store.checkeduploads import CheckedUploads
from kypello.store.findings import Figures, Findings, Problem, told
from kypello.store.records import (
    BUCKETS,
    GARBAGE,
    INTENTS,
    META,
    PARTS,
    STATE,
    SYSTEM,
    VERSIONS,
    BlobRecord,
    BucketRecord,
    DoneRecord,
    Garbage,
    Intent,
    PartRecord,
    SpaceRecord,
    StateRecord,
    empty,
    unpack,
)

#: Looks at what keeps a space, and gives what is wrong with it, for people.
Examine: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]

#: Ranges of keys of which only this module reads all.
_DONE, _ALL = (b"d", b"e"), (b"", None)

#: The first bytes of all keys, in the space of the system and in those of buckets.
_SYSTEM_KINDS, _BUCKET_KINDS = b"bgi", b"cdgilmopsuvx"

#: How many names of blobs are read at once.
_NAMES = 1000

# What ``objects/canary.py`` keeps: what a master key sealed, its digest, and since when.
_CANARIES = "canaries"
_read_canary = Decoder(tuple[bytes, bytes, float]).decode


async def _nothing_wrong(_space: str) -> Sequence[str]:
    return ()


@define(eq=False)
class Checker:
    """
    Looks at all that an index and blobs keep, once.  Nobody may change it meanwhile.

    :ivar _lanes: For the temporary table, and to give the reactor a turn.
    :ivar _tell: Called with each problem as it is found.
    :ivar _examine: Looks at how a space is kept.
    :ivar _deep: Whether to read contents.
    :ivar _store: Decrypts objects over the same index and blobs; ``None`` without keys.
    :ivar figures: Grow while it runs.
    """

    _index: IIndex
    _blobs: IBlobs
    _lanes: ILanes
    _tell: Callable[[Problem], object]
    _examine: Examine = _nothing_wrong
    _deep: bool = False
    _store: IObjectStore | None = None
    figures: Figures = field(init=False, factory=Figures)
    _findings: Findings = field(init=False)
    _names: CheckedNames = field(init=False)
    _records: CheckedRecords = field(init=False)
    _contents: CheckedContents = field(init=False)
    _objects: CheckedObjects = field(init=False)
    _uploads: CheckedUploads = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was looked at yet.
        """
        findings = self._findings = Findings(self.figures, self._tell)
        names = self._names = CheckedNames(self._lanes.lane())
        records = self._records = CheckedRecords(self._index, findings)
        contents = self._contents = CheckedContents(
            self._blobs, names, findings, self._lanes.lane(), self._deep, self._store
        )
        self._objects = CheckedObjects(self._index, records, contents, findings)
        self._uploads = CheckedUploads(records, contents, names, findings)

    async def run(self) -> Figures:
        """
        Look at everything.

        :raises StorageFailed: There are no databases, or the temporary table fails.
        :raises StorageFull: There is no room for the temporary table.
        """
        try:
            spaces = await self._index.spaces()
            living, left = await self._system()
            for space, bucket in living.items():
                await self._bucket(Place(space, bucket, True), space in left)
            for space in spaces:
                if space not in living and space != SYSTEM:
                    await self._other(Place(space), space in left)
            await self._find_orphans()
        finally:
            await self._names.close()
        return self.figures

    # Spaces

    async def _system(self) -> tuple[dict[str, str], set[str]]:
        """
        The spaces of buckets, with their names; and those that are to be removed.
        """
        living: dict[str, str] = {}
        place = Place(SYSTEM)
        await self._look_at(place, _SYSTEM_KINDS)
        async for page in self._records.pages(place, BUCKETS):
            for key, value in page:
                where = Problem(bucket=text_of(key[1:]))
                self.figures.buckets += 1
                record = self._records.decoded(BucketRecord, value, where)
                if record is not None:
                    await self._contents.look_at([Kept(where, empty(record.blob))])
                    other = living.setdefault(record.space, where.bucket)
                    if other != where.bucket:
                        self._findings.say(
                            where, f"its space {record.space} is that of {other}, too"
                        )
        return living, await self._leftovers(place)

    async def _bucket(self, place: Place, left: bool) -> None:
        where = Problem(bucket=place.bucket)
        try:
            (raw,) = await self._index.get(place.space, [META])
        except (Damaged, StorageFailed) as error:
            self._findings.torn(place.space, place.bucket, error)
            return
        if raw is None:
            self._findings.unreadable(where, f"its space {place.space} is not there")
            return
        record = self._records.decoded(SpaceRecord, raw, where)
        if record is not None and not record.open:
            # Its deletion was interrupted.
            await self._left(place)
            return
        if left:
            self._findings.say(where, f"its space {place.space} is about to be removed")
        if record is not None and record.bucket != place.bucket:
            self._findings.say(where, f"its space {place.space} is that of {record.bucket}")
        await self._inside(place)

    async def _other(self, place: Place, left: bool) -> None:
        if left:
            await self._left(place)
        elif not HEX.fullmatch(place.space):
            await self._look_at(place, None)
            async for page in self._records.pages(place, _ALL):
                if place.space == _CANARIES:
                    self._canaries(page)
        else:
            await self._lost(place)

    def _canaries(self, page: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in page:
            try:
                _read_canary(value)
            except ValueError:
                self._findings.say(
                    Problem(), f"the canary of master key {text_of(key)} cannot be read"
                )

    async def _left(self, place: Place) -> None:
        self.figures.leftovers += 1
        where = Problem(bucket=place.bucket)
        async for page in self._records.pages(place, PARTS):
            for _, value in page:
                record = self._records.decoded(PartRecord, value, where)
                if record is not None:
                    await self._leave((record.blob,), where)
        await self._leftovers(place)

    async def _lost(self, place: Place) -> None:
        record = None
        try:
            (raw,) = await self._index.get(place.space, [META])
            record = None if raw is None else unpack(SpaceRecord, raw)
        except (Damaged, StorageFailed, ValueError):
            self._findings.unread.add("")
        bucket = "" if record is None else record.bucket
        if not bucket or bucket not in self._findings.unread:
            # Otherwise it is the record of the bucket that cannot be read, which was told.
            self._findings.broken(
                Problem(bucket=bucket), f"space {place.space} belongs to no bucket"
            )
        await self._inside(evolve(place, bucket=bucket))

    async def _inside(self, place: Place) -> None:
        await self._look_at(place, _BUCKET_KINDS)
        await self._state(place)
        await self._objects.look_at(place)
        await self._uploads.look_at(place)
        async for page in self._records.pages(place, _DONE):
            for key, value in page:
                where = Problem(bucket=place.bucket, upload=text_of(key[1:]))
                self._records.decoded(DoneRecord, value, where)
        await self._leftovers(place)

    async def _state(self, place: Place) -> None:
        """
        Look at how the bucket keeps versions: the setting counts, and may be newer.
        """
        where = Problem(bucket=place.bucket)
        async for page in self._records.pages(place, (STATE, STATE + b"\x00")):
            for _, value in page:
                self._records.decoded(StateRecord, value, where)
            return
        async for _ in self._records.pages(place, VERSIONS, 1):
            self._findings.broken(where, "it has versions, and no record says so")
            return

    async def _look_at(self, place: Place, kinds: bytes | None) -> None:
        """
        Examine how a space is kept, and look for records that are of no kind.

        :param kinds: The first bytes of keys, in order; ``None`` for any.
        """
        where = Problem(bucket=place.bucket)
        for wrong in await self._examine(place.space):
            self._findings.broken(where, f"space {place.space}: {wrong}")
        if kinds is None:
            return
        starts = [b"", *(bytes([kind + 1]) for kind in kinds)]
        stops = [*(bytes([kind]) for kind in kinds), None]
        gaps = [gap for gap in zip(starts, stops, strict=True) if gap[0] != gap[1]]
        gaps += [
            (single + b"\x00", bytes([single[0] + 1]))
            for single in (META, STATE)
            if single[0] in kinds
        ]
        for gap in gaps:
            async for page in self._records.pages(place, gap):
                for key, _ in page:
                    self._findings.unreadable(
                        where, f"there is no such kind of record: {text_of(key)}"
                    )

    async def _leftovers(self, place: Place) -> set[str]:
        """
        Note what intents and the garbage queue of a space name.

        :return: Spaces.
        """
        spaces = set()
        where = Problem(bucket=place.bucket)
        kinds: Sequence[tuple[Callable[[bytes], Intent | Garbage | None], tuple[bytes, bytes]]] = (
            (lambda value: self._records.decoded(Intent, value, where), INTENTS),
            (lambda value: self._records.decoded(Garbage, value, where), GARBAGE),
        )
        for decoded, within in kinds:
            async for page in self._records.pages(place, within):
                for _, value in page:
                    record: Intent | Garbage | None = decoded(value)
                    if record is not None:
                        await self._leave(record.blobs, where)
                        spaces.add(record.space)
        return spaces - {""}

    async def _leave(self, blobs: Sequence[str], where: Problem) -> None:
        self.figures.leftovers += len(blobs)
        for blob in await self._names.add([(blob, "") for blob in blobs]):
            self._findings.say(
                where, f"blob {blob} is about to be removed, and something else names it"
            )

    # Blobs

    async def _find_orphans(self) -> None:
        after = ""
        try:
            while names := await self._blobs.names(after, _NAMES):
                self.figures.blobs += len(names)
                proper = [name for name in names if HEX.fullmatch(name)]
                known = await self._names.known(proper)
                for name in names:
                    if name not in known:
                        await self._unnamed(name)
                after = names[-1]
        except StorageFailed as error:
            self._findings.say(Problem(), f"blobs cannot be listed: {told(error)}")

    async def _unnamed(self, name: str) -> None:
        record = None
        try:
            record = unpack(BlobRecord, await self._blobs.describe(name))
        except (Damaged, StorageFailed, ValueError):
            # That it cannot be read does not matter: nothing wants to.
            where = Problem(orphan=True)
        else:
            where = Problem(
                "", record.bucket, record.key, record.version_id, record.upload_id, record.number
            )
        self._findings.unnamed(where, name, None if record is None else where.bucket)

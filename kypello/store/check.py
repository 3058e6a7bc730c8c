# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether what a store keeps is whole; nothing is changed.

All records are decoded, and the blobs that they name are opened.  What was met goes into a
temporary table, on disk when it grows, so that memory stays bounded: a blob that is not in there
at the end is an orphan.  But where a record cannot be read nobody knows what it named, so a blob
that belongs to the same bucket is left undecided.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import md5
from typing import TypeAlias, TypeVar

from attrs import define, evolve, field, frozen
from msgspec.msgpack import Decoder
from twisted.internet.defer import Deferred, FirstError, gatherResults

from kypello.crypto.keys import Domain
from kypello.crypto.metadata import domain_of, is_encrypted
from kypello.errors import (
    Damaged,
    KeyStoreUnreachable,
    KMSForbidden,
    KMSUnavailable,
    KypelloError,
    NotAuthentic,
    StorageFailed,
)
from kypello.interfaces import IBlobs, IBodySource, IIndex, ILane, ILanes, IObjectStore
from kypello.store.failures import storage_error
from kypello.store.records import (
    BUCKETS,
    GARBAGE,
    INTENTS,
    META,
    OBJECTS,
    PARTS,
    SYSTEM,
    UPLOADS,
    VERSIONS,
    BlobRecord,
    BucketRecord,
    DoneRecord,
    Garbage,
    Intent,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    SpaceRecord,
    UploadRecord,
    unpack,
)

#: Looks at what keeps a space, and gives what is wrong with it, for people.
Examine: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]

#: Ranges of keys of which only this module reads all.
_CONTENTS, _DONE, _LISTS, _ALL = (b"c", b"d"), (b"d", b"e"), (b"l", b"m"), (b"", None)

#: The first bytes of all keys, in the space of the system and in those of buckets.
_SYSTEM_KINDS, _BUCKET_KINDS = b"bgi", b"cdgilmopuv"

#: How many rows are read at once: records, contents of small objects, lists of parts, names.
_PAGE, _FEW_CONTENTS, _FEW_LISTS, _NAMES = 256, 64, 4, 1000

#: How many objects are looked at beside each other.
_AT_ONCE = 8

#: After how many bytes the reactor gets a turn, as what lies in memory is read without one.
_TURN = 16 * 1024 * 1024

#: How many parameters a statement has at most.
_PARAMETERS = 900

_HEX = re.compile("[0-9a-f]{32}")

# What ``objects/canary.py`` keeps: what a master key sealed, its digest, and since when.
_CANARIES = "canaries"
_read_canary = Decoder(tuple[bytes, bytes, float]).decode

R = TypeVar(
    "R",
    BucketRecord,
    SpaceRecord,
    PartRecord,
    PartsRecord,
    ObjectRecord,
    UploadRecord,
    DoneRecord,
    Intent,
    Garbage,
)


@frozen
class Problem:
    """
    Something that is not as it should be, and where; what is not known is empty.

    :ivar what: For people.
    :ivar part: Its number.
    :ivar orphan: Whether it is a blob that nothing names.
    """

    what: str = ""
    bucket: str = ""
    key: str = ""
    version: str = ""
    upload: str = ""
    part: int = 0
    orphan: bool = False


@define
class Figures:
    """
    What was found so far.

    :ivar parts: Of uploads, and of the objects that uploads became.
    :ivar bytes: Of content, as it is stored, that records tell of.
    :ivar read: Bytes of content that were read.
    :ivar decrypted: Objects that were decrypted to the end.
    :ivar client_keys: Encrypted objects whose clients have the keys.
    :ivar not_decrypted: Other encrypted objects that were not decrypted for want of keys.
    :ivar leftovers: Blobs and spaces that the sweeper will remove.
    :ivar undecided: Blobs that only a record that cannot be read may name.
    :ivar orphans: Other blobs that nothing names.
    :ivar problems: All else that is wrong.
    """

    buckets: int = 0
    objects: int = 0
    parts: int = 0
    uploads: int = 0
    blobs: int = 0
    bytes: int = 0
    read: int = 0
    decrypted: int = 0
    client_keys: int = 0
    not_decrypted: int = 0
    leftovers: int = 0
    undecided: int = 0
    orphans: int = 0
    problems: int = 0

    @property
    def sound(self) -> bool:
        """
        Whether all is well.
        """
        return not self.problems and not self.orphans


@define(eq=False)
class _Met:
    """
    Names of blobs and uploads that were met, in a temporary table; the calls block.

    All raise :class:`StorageFailed` and :class:`StorageFull`.
    """

    _table: sqlite3.Connection = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was met yet.
        """
        # Lanes see to it that no two threads use it at once.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA cache_size = -32768",
            "CREATE TABLE met (name TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID",
            "BEGIN",
        ):
            self._table.execute(statement)

    def add(self, names: Iterable[tuple[str, str]]) -> set[str]:
        """
        Add names, each with the key of an object.

        :return: Those that were met before.
        """
        insert = "INSERT OR IGNORE INTO met VALUES (?, ?)"
        with _reporting():
            return {pair[0] for pair in names if not self._table.execute(insert, pair).rowcount}

    def known(self, names: Sequence[str]) -> dict[str, str]:
        """
        Those that were met, with their keys.
        """
        found: dict[str, str] = {}
        with _reporting():
            for start in range(0, len(names), _PARAMETERS):
                some = names[start : start + _PARAMETERS]
                marks = ",".join("?" * len(some))
                found |= self._table.execute(
                    f"SELECT name, key FROM met WHERE name IN ({marks})",  # noqa: S608
                    some,
                )
        return found

    def close(self) -> None:
        """
        Forget all.
        """
        self._table.close()


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error(error, "a temporary table") from error


@frozen
class _Place:
    """
    A space.

    :ivar bucket: To which it belongs; empty for none.
    :ivar found: Whether the store finds the bucket there.
    """

    space: str
    bucket: str = ""
    found: bool = False


@frozen
class _Kept:
    """
    An object, or a part of an upload.

    :ivar parts: The blobs that hold the content.
    :ivar sealed: Whether the object is encrypted, and the store has the keys.
    """

    where: Problem
    parts: tuple[PartRecord, ...] = ()
    sealed: bool = False


@frozen
class _Window:
    """
    The objects whose keys lie from one up to, not including, another one.

    :ivar end: ``None`` for the end of the space.
    :ivar whole: Objects whose records are.
    :ivar inline: By where their content should be.
    :ivar apart: By where their lists of parts should be.
    :ivar broken: Keys whose records cannot be read.
    """

    place: _Place
    begin: bytes
    end: bytes | None
    whole: list[_Kept] = field(factory=list)
    inline: dict[bytes, tuple[_Kept, ObjectRecord]] = field(factory=dict)
    apart: dict[bytes, tuple[_Kept, ObjectRecord]] = field(factory=dict)
    broken: set[bytes] = field(factory=set)

    def of(self, kind: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """
        The keys of a kind that belong to these objects.
        """
        return kind[0] + self.begin, kind[1] if self.end is None else kind[0] + self.end


async def _nothing_wrong(_space: str) -> Sequence[str]:
    return ()


@define(eq=False)
class Checker:
    """
    Looks at all that an index and blobs keep, once.  Nobody may change it meanwhile.

    :ivar _tell: Called with each problem as it is found.
    :ivar _examine: Looks at how a space is kept.
    :ivar _deep: Whether to read contents.
    :ivar _store: Decrypts objects over the same index and blobs; ``None`` without keys.
    :ivar figures: Grow while it runs.
    :ivar _turns: Gives the reactor a turn.
    :ivar _unread: Buckets with records that cannot be read; an empty name stands for any.
    :ivar _failed: Spaces of which that was told.
    """

    _index: IIndex
    _blobs: IBlobs
    _lanes: ILanes
    _tell: Callable[[Problem], object]
    _examine: Examine = _nothing_wrong
    _deep: bool = False
    _store: IObjectStore | None = None
    figures: Figures = field(init=False, factory=Figures)
    _met: _Met = field(init=False, factory=_Met)
    _turns: ILane = field(init=False)
    _table: ILane = field(init=False)
    _unread: set[str] = field(init=False, factory=set)
    _failed: set[str] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was looked at yet.
        """
        self._turns, self._table = self._lanes.lane(), self._lanes.lane()

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
                await self._bucket(_Place(space, bucket, True), space in left)
            for space in spaces:
                if space not in living and space != SYSTEM:
                    await self._other(_Place(space), space in left)
            await self._find_orphans()
        finally:
            await self._table.run(self._met.close)
        return self.figures

    # Spaces

    async def _system(self) -> tuple[dict[str, str], set[str]]:
        """
        The spaces of buckets, with their names; and those that are to be removed.
        """
        living: dict[str, str] = {}
        place = _Place(SYSTEM)
        await self._look_at(place, _SYSTEM_KINDS)
        async for page in self._pages(place, BUCKETS):
            for key, value in page:
                where = Problem(bucket=_text(key[1:]))
                self.figures.buckets += 1
                record = self._decoded(BucketRecord, value, where)
                if record is not None:
                    other = living.setdefault(record.space, where.bucket)
                    if other != where.bucket:
                        self._say(where, f"its space {record.space} is that of {other}, too")
        return living, await self._leftovers(place)

    async def _bucket(self, place: _Place, left: bool) -> None:
        where = Problem(bucket=place.bucket)
        try:
            (raw,) = await self._index.get(place.space, [META])
        except (Damaged, StorageFailed) as error:
            self._torn(place, error)
            return
        if raw is None:
            self._unreadable(where, f"its space {place.space} is not there")
            return
        record = self._decoded(SpaceRecord, raw, where)
        if record is not None and not record.open:
            # Its deletion was interrupted.
            await self._left(place)
            return
        if left:
            self._say(where, f"its space {place.space} is about to be removed")
        if record is not None and record.bucket != place.bucket:
            self._say(where, f"its space {place.space} is that of {record.bucket}")
        await self._inside(place)

    async def _other(self, place: _Place, left: bool) -> None:
        if left:
            await self._left(place)
        elif not _HEX.fullmatch(place.space):
            await self._look_at(place, None)
            async for page in self._pages(place, _ALL):
                if place.space == _CANARIES:
                    self._canaries(page)
        else:
            await self._lost(place)

    def _canaries(self, page: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in page:
            try:
                _read_canary(value)
            except ValueError:
                self._say(Problem(), f"the canary of master key {_text(key)} cannot be read")

    async def _left(self, place: _Place) -> None:
        self.figures.leftovers += 1
        where = Problem(bucket=place.bucket)
        async for page in self._pages(place, PARTS):
            for _, value in page:
                record = self._decoded(PartRecord, value, where)
                if record is not None:
                    await self._leave((record.blob,), where)
        await self._leftovers(place)

    async def _lost(self, place: _Place) -> None:
        record = None
        try:
            (raw,) = await self._index.get(place.space, [META])
            record = None if raw is None else unpack(SpaceRecord, raw)
        except (Damaged, StorageFailed, ValueError):
            self._unread.add("")
        bucket = "" if record is None else record.bucket
        if not bucket or bucket not in self._unread:
            # Otherwise it is the record of the bucket that cannot be read, which was told.
            self._say(Problem(bucket=bucket), f"space {place.space} belongs to no bucket")
        await self._inside(evolve(place, bucket=bucket))

    async def _inside(self, place: _Place) -> None:
        await self._look_at(place, _BUCKET_KINDS)
        await self._objects(place)
        await self._uploads(place)
        async for page in self._pages(place, _DONE):
            for key, value in page:
                where = Problem(bucket=place.bucket, upload=_text(key[1:]))
                self._decoded(DoneRecord, value, where)
        await self._leftovers(place)

    async def _look_at(self, place: _Place, kinds: bytes | None) -> None:
        """
        Examine how a space is kept, and look for records that are of no kind.

        :param kinds: The first bytes of keys, in order; ``None`` for any.
        """
        where = Problem(bucket=place.bucket)
        for wrong in await self._examine(place.space):
            self._say(where, f"space {place.space}: {wrong}")
        if kinds is None:
            return
        starts = [b"", *(bytes([kind + 1]) for kind in kinds)]
        stops = [*(bytes([kind]) for kind in kinds), None]
        gaps = [gap for gap in zip(starts, stops, strict=True) if gap[0] != gap[1]]
        if META[0] in kinds:
            gaps.append((META + b"\x00", b"n"))
        for gap in gaps:
            async for page in self._pages(place, gap):
                for key, _ in page:
                    self._unreadable(where, f"there is no such kind of record: {_text(key)}")

    async def _leftovers(self, place: _Place) -> set[str]:
        """
        Note what intents and the garbage queue of a space name.

        :return: Spaces.
        """
        spaces = set()
        where = Problem(bucket=place.bucket)
        kinds: Sequence[tuple[Callable[[bytes], Intent | Garbage | None], tuple[bytes, bytes]]] = (
            (lambda value: self._decoded(Intent, value, where), INTENTS),
            (lambda value: self._decoded(Garbage, value, where), GARBAGE),
        )
        for decoded, within in kinds:
            async for page in self._pages(place, within):
                for _, value in page:
                    record: Intent | Garbage | None = decoded(value)
                    if record is not None:
                        await self._leave(record.blobs, where)
                        spaces.add(record.space)
        return spaces - {""}

    async def _leave(self, blobs: Sequence[str], where: Problem) -> None:
        self.figures.leftovers += len(blobs)
        for blob in await self._table.run(self._met.add, [(blob, "") for blob in blobs]):
            self._say(where, f"blob {blob} is about to be removed, and something else names it")

    # Objects

    async def _objects(self, place: _Place) -> None:
        """
        Look at all objects, some keys at a time with all that belongs to them.
        """
        begin: bytes | None = b""
        while begin is not None:
            try:
                rows = await self._index.scan(place.space, OBJECTS[0] + begin, OBJECTS[1], _PAGE)
            except (Damaged, StorageFailed) as error:
                self._torn(place, error)
                return
            # No key holds NUL, with which goes on whatever belongs to one.
            end = rows[-1][0][1:] + b"\x01" if len(rows) == _PAGE else None
            await self._window(_Window(place, begin, end), rows)
            begin = end

    async def _window(self, window: _Window, rows: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            self._object(window, key[1:], value, window.place.found)
        async for page in self._pages(window.place, window.of(VERSIONS)):
            for key, value in page:
                self._object(window, key[1:].partition(b"\x00")[0], value, False)
        await self._small(window)
        await self._all_whole(window.whole)
        await self._apart(window)

    def _object(self, window: _Window, key: bytes, value: bytes, found: bool) -> None:
        """
        Look at the record of a version.

        :param found: Whether the store finds it.
        """
        self.figures.objects += 1
        where = Problem(bucket=window.place.bucket, key=_text(key))
        record = self._decoded(ObjectRecord, value, where)
        if record is None:
            window.broken.add(key)
            return
        where = evolve(where, version=record.version_id)
        kept = _Kept(where, record.parts, self._is_sealed(record, found))
        self.figures.bytes += record.size
        belonging = key + b"\x00" + record.version_id.encode()
        if record.apart:
            window.apart[_LISTS[0] + belonging] = kept, record
        elif record.parts:
            self.figures.parts += len([part for part in record.parts if part.number])
            self._add_up(where, record, record.parts)
            window.whole.append(kept)
        elif record.size:
            window.inline[_CONTENTS[0] + belonging] = kept, record
        else:
            window.whole.append(kept)

    def _is_sealed(self, record: ObjectRecord, found: bool) -> bool:
        entries = record.metadata.internal
        if not self._deep or not is_encrypted(entries):
            return False
        if domain_of(entries) is Domain.SSE_C:
            self.figures.client_keys += 1
            return False
        if self._store is None or not found:
            self.figures.not_decrypted += 1
            return False
        return True

    def _add_up(self, where: Problem, record: ObjectRecord, parts: Sequence[PartRecord]) -> None:
        size = sum(part.size for part in parts)
        if size != record.size:
            self._say(where, f"its parts have {size} bytes instead of {record.size}")

    async def _small(self, window: _Window) -> None:
        async for page in self._pages(window.place, window.of(_CONTENTS), _FEW_CONTENTS):
            for key, content in page:
                kept, record = window.inline.pop(key, (None, None))
                if kept is None or record is None:
                    self._stray(window, key, "content")
                elif len(content) != record.size:
                    size = f"{len(content)} bytes instead of {record.size}"
                    self._say(kept.where, f"its content has {size}")
                elif kept.sealed:
                    window.whole.append(kept)
                elif self._deep:
                    self.figures.read += len(content)
                    if not _fits(content, record):
                        self._say(kept.where, "its content has another MD5 than its ETag")
        for kept, _ in window.inline.values():
            self._say(kept.where, "its content is missing")

    async def _apart(self, window: _Window) -> None:
        async for page in self._pages(window.place, window.of(_LISTS), _FEW_LISTS):
            for key, value in page:
                kept, record = window.apart.pop(key, (None, None))
                if kept is None or record is None:
                    self._stray(window, key, "list of parts")
                    continue
                listed = self._decoded(PartsRecord, value, kept.where, "its list of parts")
                if listed is None:
                    continue
                self.figures.parts += len(listed.parts)
                if len(listed.parts) != record.apart:
                    count = f"{len(listed.parts)} parts instead of {record.apart}"
                    self._say(kept.where, f"it has {count}")
                self._add_up(kept.where, record, listed.parts)
                await self._all_whole([evolve(kept, parts=listed.parts)])
        for kept, _ in window.apart.values():
            self._unreadable(kept.where, "its list of parts is missing")

    def _stray(self, window: _Window, key: bytes, what: str) -> None:
        name, _, version = key[1:].partition(b"\x00")
        if name not in window.broken:
            where = Problem(bucket=window.place.bucket, key=_text(name), version=_text(version))
            self._say(where, f"there is {what} of it, and no such version")

    # Uploads

    async def _uploads(self, place: _Place) -> None:
        async for page in self._pages(place, UPLOADS):
            self.figures.uploads += len(page)
            names: list[tuple[str, str]] = []
            for row, value in page:
                key, _, upload = row[1:].rpartition(b"\x00")
                where = Problem(bucket=place.bucket, key=_text(key), upload=_text(upload))
                names.append((where.upload, where.key))
                self._decoded(UploadRecord, value, where)
            await self._table.run(self._met.add, names)
        async for page in self._pages(place, PARTS):
            uploads = [_text(key[1:-2]) for key, _ in page]
            keys = await self._table.run(self._met.known, uploads)
            parts = [self._part(place, keys, key, value) for key, value in page]
            await self._all_whole([part for part in parts if part is not None])

    def _part(self, place: _Place, keys: dict[str, str], key: bytes, value: bytes) -> _Kept | None:
        upload, number = _text(key[1:-2]), int.from_bytes(key[-2:], "big")
        where = Problem(bucket=place.bucket, key=keys.get(upload, ""), upload=upload, part=number)
        self.figures.parts += 1
        record = self._decoded(PartRecord, value, where)
        if record is None:
            return None
        self.figures.bytes += record.size
        if upload not in keys:
            self._say(where, "its upload is not there")
        if record.number != number:
            self._say(where, f"its record is that of part {record.number}")
        return _Kept(where, (record,))

    # Blobs

    async def _all_whole(self, kept: Sequence[_Kept]) -> None:
        """
        Look at the contents of several.
        """
        named = [part.blob for each in kept for part in each.parts if _HEX.fullmatch(part.blob)]
        twice = await self._table.run(self._met.add, [(blob, "") for blob in named])
        waiting = iter(kept)

        async def work() -> None:
            """
            Look at one after the other.
            """
            for each in waiting:
                await self._whole(each, twice)

        workers = [Deferred.fromCoroutine(work()) for _ in range(min(_AT_ONCE, len(kept)))]
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            for worker in workers:
                worker.cancel()
            error.subFailure.raiseException()

    async def _whole(self, kept: _Kept, twice: set[str]) -> None:
        sound = True
        for part in kept.parts:
            if part.blob in twice:
                self._say(kept.where, f"blob {part.blob} is named by something else, too")
            sound &= await self._blob(kept.where, part, self._deep and not kept.sealed)
        if sound and kept.sealed and not await self._decrypt(kept.where):
            for part in kept.parts:
                await self._blob(kept.where, part, True)

    async def _blob(self, where: Problem, part: PartRecord, read: bool) -> bool:
        where = evolve(where, part=part.number)
        if not _HEX.fullmatch(part.blob):
            self._unreadable(where, f"its record names no blob: {part.blob}")
            return False
        try:
            blob = await self._blobs.open(part.blob)
            try:
                if blob.size != part.size:
                    size = f"{blob.size} bytes instead of {part.size}"
                    raise Damaged(f"blob {part.blob} has {size}")
                if read:
                    await self._drain(blob.read(0, blob.size))
            finally:
                blob.close()
        except (Damaged, StorageFailed) as error:
            self._say(where, _told(error))
            return False
        return True

    async def _decrypt(self, where: Problem) -> bool:
        """
        Read an encrypted object to its end.

        :return: Whether there are keys to do so.
        """
        try:
            if self._store is not None:
                opened = await self._store.open(where.bucket, where.key)
                try:
                    await self._drain(await opened.read(None))
                finally:
                    opened.close()
                self.figures.decrypted += 1
                return True
        except (KMSUnavailable, KMSForbidden, KeyStoreUnreachable) as error:
            if self._store is not None:
                self._store = None
                self._say(Problem(), f"nothing is decrypted any more: {_told(error)}")
        except KypelloError as error:
            self._say(where, _told(error))
            return True
        self.figures.not_decrypted += 1
        return False

    async def _drain(self, source: IBodySource) -> None:
        unturned = 0
        try:
            while size := len(await source.read()):
                self.figures.read += size
                unturned += size
                if unturned >= _TURN:
                    unturned = 0
                    await self._turns.run(int)
        finally:
            source.close()

    async def _find_orphans(self) -> None:
        after = ""
        try:
            while names := await self._blobs.names(after, _NAMES):
                self.figures.blobs += len(names)
                proper = [name for name in names if _HEX.fullmatch(name)]
                known = await self._table.run(self._met.known, proper)
                for name in names:
                    if name not in known:
                        await self._unnamed(name)
                after = names[-1]
        except StorageFailed as error:
            self._say(Problem(), f"blobs cannot be listed: {_told(error)}")

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
        if self._unread and (record is None or not self._unread.isdisjoint(("", where.bucket))):
            self.figures.undecided += 1
            return
        self.figures.orphans += 1
        self._tell(evolve(where, what=f"nothing names blob {name}", orphan=True))

    # What all need

    async def _pages(
        self, place: _Place, within: tuple[bytes, bytes | None], limit: int = _PAGE
    ) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        start, stop = within
        while True:
            try:
                rows = await self._index.scan(place.space, start, stop, limit)
            except (Damaged, StorageFailed) as error:
                self._torn(place, error)
                return
            if rows:
                yield rows
            if len(rows) < limit:
                return
            start = rows[-1][0] + b"\x00"

    def _decoded(
        self, kind: type[R], value: bytes, where: Problem, what: str = "its record"
    ) -> R | None:
        try:
            return unpack(kind, value)
        except (Damaged, ValueError):
            self._unreadable(where, f"{what} cannot be read ({kind.__name__})")
            return None

    def _torn(self, place: _Place, error: KypelloError) -> None:
        """
        Tell, once, that not all of a space can be read.
        """
        if place.space not in self._failed:
            self._failed.add(place.space)
            where = Problem(bucket=place.bucket)
            self._unreadable(where, f"not all records can be read: {_told(error)}")

    def _unreadable(self, where: Problem, what: str) -> None:
        """
        Tell of a record that cannot be read, so that nobody knows what it named.
        """
        self._unread.add(where.bucket)
        self._say(where, what)

    def _say(self, where: Problem, what: str) -> None:
        self.figures.problems += 1
        self._tell(evolve(where, what=what))


def _fits(content: bytes, record: ObjectRecord) -> bool:
    """
    Whether the content of a small object is that of its ETag, as far as that can tell.
    """
    etag = record.metadata.etag
    if is_encrypted(record.metadata.internal) or not _HEX.fullmatch(etag):
        return True
    return md5(content, usedforsecurity=False).hexdigest() == etag


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _told(error: KypelloError) -> str:
    if isinstance(error, Damaged):
        return error.what
    if isinstance(error, StorageFailed):
        return error.reason
    if isinstance(error, NotAuthentic):
        return f"it is not authentic ({error.what})"
    return str(error)

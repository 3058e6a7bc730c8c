# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The objects that a check of a store looks at.
"""

from collections.abc import Sequence

from attrs import define, evolve, field

from kypello.errors import Damaged, StorageFailed
from kypello.interfaces import IIndex
from kypello.model import NULL_VERSION
from kypello.store.checkedcontents import CheckedContents, Kept
from kypello.store.checkedrecords import PAGE, CheckedRecords, Place, text_of
from kypello.store.findings import Findings, Problem
from kypello.store.records import (
    OBJECTS,
    PLACES,
    VERSIONS,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    PlaceRecord,
    empty,
    place_key,
    version_key,
)
from kypello.versioning import told_sequence

#: Ranges of keys: contents of small objects, and long lists of parts.
_CONTENTS, _LISTS = (b"c", b"d"), (b"l", b"m")

#: After how many versions no further key is looked at together with those before.
_MANY = 4096

#: How many of these are read at once.
_FEW_CONTENTS, _FEW_LISTS = 64, 4


@define(eq=False)
class _Window:
    """
    The objects whose keys lie from one up to, not including, another one.

    :ivar end: ``None`` for the end of the space.
    :ivar current: The records of current versions, by key, that were not met among all versions.
    :ivar displaced: Where it should be told which place a version has, with that place.
    :ivar last: The key whose versions were met last.
    :ivar whole: Objects whose records are.
    :ivar inline: By where their content should be.
    :ivar apart: By where their lists of parts should be.
    :ivar broken: Keys whose records cannot be read.
    """

    place: Place
    begin: bytes
    end: bytes | None
    whole: list[Kept] = field(factory=list)
    inline: dict[bytes, tuple[Kept, ObjectRecord]] = field(factory=dict)
    apart: dict[bytes, tuple[Kept, ObjectRecord]] = field(factory=dict)
    broken: set[bytes] = field(factory=set)
    current: dict[bytes, bytes] = field(factory=dict)
    displaced: dict[bytes, tuple[Problem, int]] = field(factory=dict)
    last: bytes | None = None

    def of(self, kind: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """
        The keys of a kind that belong to these objects.
        """
        return kind[0] + self.begin, kind[1] if self.end is None else kind[0] + self.end


@define(eq=False)
class CheckedObjects:
    """
    Looks at the versions of objects, with all that belongs to them.
    """

    _index: IIndex
    _records: CheckedRecords
    _contents: CheckedContents
    _findings: Findings

    async def look_at(self, place: Place) -> None:
        """
        Look at all objects, some keys at a time with all that belongs to them.
        """
        begin: bytes | None = b""
        while begin is not None:
            try:
                rows = await self._index.scan(place.space, OBJECTS[0] + begin, OBJECTS[1], PAGE)
            except (Damaged, StorageFailed) as error:
                self._findings.torn(place.space, place.bucket, error)
                return
            # No key holds NUL, with which goes on whatever belongs to one.
            end = rows[-1][0][1:] + b"\x01" if len(rows) == PAGE else None
            window = _Window(place, begin, end)
            window.current |= {key[1:]: value for key, value in rows}
            await self._window(window)
            begin = window.end

    async def _window(self, window: _Window) -> None:
        await self._versions(window)
        for key, value in window.current.items():
            record = self._object(window, key, value)
            if record is not None and record.version_id != NULL_VERSION:
                where = self._where(window, key, record)
                self._findings.broken(where, "it is not among the versions of its key")
        await self._places(window)
        await self._small(window)
        await self._contents.look_at(window.whole)
        await self._apart(window)

    async def _versions(self, window: _Window) -> None:
        """
        Look at all versions; when they are many, the window ends with the key that it has come to.
        """
        count = 0
        async for page in self._records.pages(window.place, window.of(VERSIONS)):
            for row, value in page:
                key = row[1:].partition(b"\x00")[0]
                if count >= _MANY and key != window.last:
                    window.end = key
                    window.current = {k: v for k, v in window.current.items() if k < key}
                    return
                self._version(window, row, value)
                count += 1

    def _version(self, window: _Window, row: bytes, value: bytes) -> None:
        """
        Look at a version that is among all of its key.
        """
        key = row[1:].partition(b"\x00")[0]
        newest, window.last = key != window.last, key
        record = self._object(window, key, value)
        if record is None:
            if newest:
                # Nobody knows what it is, so the current one may be right.
                window.current.pop(key, None)
            return
        where = self._where(window, key, record)
        if row != version_key(where.key, record.sequence):
            self._findings.broken(where, f"its record is that of place {record.sequence}")
        if told_sequence(record.version_id) != record.sequence:
            place = place_key(where.key, record.version_id)
            window.displaced[place] = where, record.sequence
        if newest and window.current.pop(key, None) != (None if record.marker else value):
            self._findings.broken(where, "it is the newest version, and not the current one")

    def _where(self, window: _Window, key: bytes, record: ObjectRecord) -> Problem:
        return Problem(bucket=window.place.bucket, key=text_of(key), version=record.version_id)

    async def _places(self, window: _Window) -> None:
        """
        Look at what tells the places of versions.
        """
        async for page in self._records.pages(window.place, window.of(PLACES)):
            for key, value in page:
                where, sequence = window.displaced.pop(key, (None, 0))
                if where is None:
                    self._stray(window, key, "a place")
                    continue
                record = self._records.decoded(PlaceRecord, value, where, "its place")
                if record is not None and record.sequence != sequence:
                    self._findings.broken(where, f"its place is told to be {record.sequence}")
        for where, _ in window.displaced.values():
            self._findings.broken(where, "its place is not told")

    def _object(self, window: _Window, key: bytes, value: bytes) -> ObjectRecord | None:
        """
        Look at the record of a version.
        """
        where = Problem(bucket=window.place.bucket, key=text_of(key))
        record = self._records.decoded(ObjectRecord, value, where)
        if record is None:
            window.broken.add(key)
            return None
        if not record.marker:
            self._findings.figures.objects += 1
        where = evolve(where, version=record.version_id)
        parts = (*record.parts, *empty(record.manifest))
        kept = Kept(where, parts, self._contents.opens(record, window.place.found))
        self._findings.figures.bytes += record.size
        belonging = key + b"\x00" + record.version_id.encode()
        if record.apart:
            window.apart[_LISTS[0] + belonging] = kept, record
        elif record.parts:
            self._findings.figures.parts += len([part for part in record.parts if part.number])
            self._add_up(where, record, record.parts)
            window.whole.append(kept)
        elif record.size:
            window.inline[_CONTENTS[0] + belonging] = kept, record
        else:
            window.whole.append(kept)
        return record

    def _add_up(self, where: Problem, record: ObjectRecord, parts: Sequence[PartRecord]) -> None:
        size = sum(part.size for part in parts)
        if size != record.size:
            self._findings.say(where, f"its parts have {size} bytes instead of {record.size}")

    async def _small(self, window: _Window) -> None:
        async for page in self._records.pages(window.place, window.of(_CONTENTS), _FEW_CONTENTS):
            for key, content in page:
                kept, record = window.inline.pop(key, (None, None))
                if kept is None or record is None:
                    self._stray(window, key, "content")
                elif len(content) != record.size:
                    size = f"{len(content)} bytes instead of {record.size}"
                    self._findings.say(kept.where, f"its content has {size}")
                elif not record.holds(content):
                    self._findings.say(kept.where, "its content is not what was written")
                elif kept.sealed:
                    window.whole.append(kept)
                else:
                    self._contents.compare(kept.where, content, record)
        for kept, _ in window.inline.values():
            self._findings.say(kept.where, "its content is missing")

    async def _apart(self, window: _Window) -> None:
        async for page in self._records.pages(window.place, window.of(_LISTS), _FEW_LISTS):
            for key, value in page:
                kept, record = window.apart.pop(key, (None, None))
                if kept is None or record is None:
                    self._stray(window, key, "list of parts")
                    continue
                listed = self._records.decoded(PartsRecord, value, kept.where, "its list of parts")
                if listed is None:
                    continue
                self._findings.figures.parts += len(listed.parts)
                if len(listed.parts) != record.apart:
                    count = f"{len(listed.parts)} parts instead of {record.apart}"
                    self._findings.say(kept.where, f"it has {count}")
                self._add_up(kept.where, record, listed.parts)
                parts = (*listed.parts, *empty(record.manifest))
                await self._contents.look_at([evolve(kept, parts=parts)])
        for kept, _ in window.apart.values():
            self._findings.unreadable(kept.where, "its list of parts is missing")

    def _stray(self, window: _Window, key: bytes, what: str) -> None:
        name, _, version = key[1:].partition(b"\x00")
        if name not in window.broken:
            where = Problem(bucket=window.place.bucket, key=text_of(name), version=text_of(version))
            self._findings.say(where, f"there is {what} of it, and no such version")

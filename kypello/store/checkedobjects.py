# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The objects that a check of a store looks at.
"""

from collections.abc import Sequence

from attrs import define, evolve, field, frozen

from kypello.errors import Damaged, StorageFailed
from kypello.interfaces import IIndex
from kypello.store.checkedcontents import CheckedContents, Kept
from kypello.store.checkedrecords import PAGE, CheckedRecords, Place, text_of
from kypello.store.findings import Findings, Problem
from kypello.store.records import (
    OBJECTS,
    VERSIONS,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    empty,
)

#: Ranges of keys: contents of small objects, and long lists of parts.
_CONTENTS, _LISTS = (b"c", b"d"), (b"l", b"m")

#: How many of these are read at once.
_FEW_CONTENTS, _FEW_LISTS = 64, 4


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

    place: Place
    begin: bytes
    end: bytes | None
    whole: list[Kept] = field(factory=list)
    inline: dict[bytes, tuple[Kept, ObjectRecord]] = field(factory=dict)
    apart: dict[bytes, tuple[Kept, ObjectRecord]] = field(factory=dict)
    broken: set[bytes] = field(factory=set)

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
            await self._window(_Window(place, begin, end), rows)
            begin = end

    async def _window(self, window: _Window, rows: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            self._object(window, key[1:], value, window.place.found)
        async for page in self._records.pages(window.place, window.of(VERSIONS)):
            for key, value in page:
                self._object(window, key[1:].partition(b"\x00")[0], value, False)
        await self._small(window)
        await self._contents.look_at(window.whole)
        await self._apart(window)

    def _object(self, window: _Window, key: bytes, value: bytes, found: bool) -> None:
        """
        Look at the record of a version.

        :param found: Whether the store finds it.
        """
        self._findings.figures.objects += 1
        where = Problem(bucket=window.place.bucket, key=text_of(key))
        record = self._records.decoded(ObjectRecord, value, where)
        if record is None:
            window.broken.add(key)
            return
        where = evolve(where, version=record.version_id)
        parts = (*record.parts, *empty(record.manifest))
        kept = Kept(where, parts, self._contents.opens(record, found))
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

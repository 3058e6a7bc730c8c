# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The records that a rebuild takes over from the old index.
"""

import re
from collections.abc import Mapping
from itertools import islice

from attrs import define

from kypello.errors import Damaged
from kypello.interfaces import ILanes
from kypello.model import Write
from kypello.store.checkednames import HEX
from kypello.store.failures import storage_error
from kypello.store.findings import Problem
from kypello.store.rebuilt import PAGE, Work
from kypello.store.records import (
    META,
    SYSTEM,
    BucketRecord,
    DoneRecord,
    Garbage,
    Intent,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    PlaceRecord,
    SpaceRecord,
    StateRecord,
    UploadRecord,
    unpack,
)
from kypello.store.salvage import Salvage

_IN_SYSTEM: Mapping[bytes, type] = {b"b": BucketRecord, b"i": Intent, b"g": Garbage}
_IN_BUCKETS: Mapping[bytes, type | None] = {
    b"c": None,
    b"d": DoneRecord,
    b"g": Garbage,
    b"i": Intent,
    b"l": PartsRecord,
    b"m": SpaceRecord,
    b"o": ObjectRecord,
    b"p": PartRecord,
    b"s": StateRecord,
    b"u": UploadRecord,
    b"v": ObjectRecord,
    b"x": PlaceRecord,
}

#: Whose keys hold text, and what belongs to an object but is not its record.
_NAMED, _BELONGING = b"bcdlouvx", b"cl"
_PART = re.compile(rb"p[0-9a-f]{48}..", re.DOTALL)
_VERSION = re.compile(rb"v[^\x00]*\x00.{8}", re.DOTALL)
_FORMS = {b"p": _PART, b"s": re.compile(rb"s"), b"v": _VERSION}


@define(eq=False)
class RebuiltRecords:
    """
    Copies rows that are what they should be to the new index.
    """

    _work: Work
    _lanes: ILanes

    async def copy(self, space: str, salvage: Salvage) -> None:
        """
        Copy all rows of a space.

        :raises KypelloError: The old database cannot be opened, or the new one not written.
        """
        self._work.figures.databases += 1
        lane = self._lanes.lane()
        rows = salvage.rows()

        def read() -> list[tuple[bytes, bytes]]:
            """
            Read some rows, in the lane.
            """
            try:
                return list(islice(rows, PAGE))
            except OSError as error:
                raise storage_error(error, f"the database {space}") from error

        bucket = ""
        try:
            while page := await lane.run(read):
                good: dict[bytes, bytes] = {}
                bad: list[tuple[bytes, str]] = []
                for key, value in page:
                    wrong = _wrong(space, key, value)
                    if wrong is None:
                        good.setdefault(key, value)
                    else:
                        bad.append((key, wrong))
                if META in good and HEX.fullmatch(space):
                    bucket = unpack(SpaceRecord, good[META]).bucket
                await self._keep(space, good)
                await self._lose(space, bad)
        finally:
            await lane.run(rows.close)
        if salvage.damaged:
            self._work.figures.damaged += 1
            what = f"the database {space} is damaged: what it lost of small objects is gone"
            self._work.say(Problem(bucket=bucket), what)

    async def _keep(self, space: str, rows: Mapping[bytes, bytes]) -> None:
        known = await self._work.index.get(space, list(rows))
        writes = [
            Write(key, value)
            for (key, value), before in zip(rows.items(), known, strict=True)
            if before is None
        ]
        self._work.figures.records += len(writes)
        await self._work.write(space, writes)

    async def _lose(self, space: str, rows: list[tuple[bytes, str]]) -> None:
        lost = [
            (b"o" + key[1:].partition(b"\x00")[0] if key[:1] in _BELONGING else key, wrong)
            for key, wrong in rows
            if key[:1] not in b"dgimsx"
        ]
        await self._work.names.lose(space, lost)


def _wrong(space: str, key: bytes, value: bytes) -> str | None:
    """
    What is wrong with a row; ``None`` for nothing.
    """
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return "there is no such record"
    if space != SYSTEM and not HEX.fullmatch(space):
        return None
    kinds = _IN_SYSTEM if space == SYSTEM else _IN_BUCKETS
    kind = key[:1]
    if kind not in kinds or (kind == META and key != META):
        return "there is no such record"
    try:
        if kind in _NAMED:
            name, nul, _ = key[1:].partition(b"\x00")
            name.decode()
            if nul and kind in b"bo":
                return "there is no such record"
        form = _FORMS.get(kind)
        if form is not None and not form.fullmatch(key):
            return "there is no such record"
        decoded = kinds[kind]
        if decoded is not None:
            unpack(decoded, value)
    except (Damaged, ValueError):
        return "its record cannot be read"
    return None

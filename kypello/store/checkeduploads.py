# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The uploads that a check of a store looks at.
"""

from attrs import define

from kypello.store.checkedcontents import CheckedContents, Kept
from kypello.store.checkednames import CheckedNames
from kypello.store.checkedrecords import CheckedRecords, Place, text_of
from kypello.store.findings import Findings, Problem
from kypello.store.records import PARTS, UPLOADS, PartRecord, UploadRecord


@define(eq=False)
class CheckedUploads:
    """
    Looks at the uploads that are not complete, and at their parts.

    :ivar _names: Those of the uploads go there, too.
    """

    _records: CheckedRecords
    _contents: CheckedContents
    _names: CheckedNames
    _findings: Findings

    async def look_at(self, place: Place) -> None:
        """
        Look at all uploads of a space.
        """
        async for page in self._records.pages(place, UPLOADS):
            self._findings.figures.uploads += len(page)
            names: list[tuple[str, str]] = []
            for row, value in page:
                key, _, upload = row[1:].rpartition(b"\x00")
                where = Problem(bucket=place.bucket, key=text_of(key), upload=text_of(upload))
                names.append((where.upload, where.key))
                self._records.decoded(UploadRecord, value, where)
            await self._names.add(names)
        async for page in self._records.pages(place, PARTS):
            uploads = [text_of(key[1:-2]) for key, _ in page]
            keys = await self._names.known(uploads)
            parts = [self._part(place, keys, key, value) for key, value in page]
            await self._contents.look_at([part for part in parts if part is not None])

    def _part(self, place: Place, keys: dict[str, str], key: bytes, value: bytes) -> Kept | None:
        upload, number = text_of(key[1:-2]), int.from_bytes(key[-2:], "big")
        where = Problem(bucket=place.bucket, key=keys.get(upload, ""), upload=upload, part=number)
        self._findings.figures.parts += 1
        record = self._records.decoded(PartRecord, value, where)
        if record is None:
            return None
        self._findings.figures.bytes += record.size
        if upload not in keys:
            self._findings.say(where, "its upload is not there")
        if record.number != number:
            self._findings.say(where, f"its record is that of part {record.number}")
        return Kept(where, (record,))

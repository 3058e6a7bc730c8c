# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The objects that a rebuild keeps, and those that it makes from what lies beside their blobs.
"""

from collections.abc import Sequence

import msgspec
from attrs import define

from kypello.model import Write
from kypello.store.beside import beside
from kypello.store.checkedcontents import fits
from kypello.store.findings import Problem
from kypello.store.rebuilt import Work, wrong_with
from kypello.store.rebuiltnames import Described, Use
from kypello.store.records import (
    OBJECTS,
    BlobRecord,
    DoneRecord,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    content_key,
    done_key,
    empty,
    object_key,
    pack,
    part_key,
    parts_key,
    unpack,
    upload_key,
)
from kypello.store.versions import storing

#: Contents of small objects, and long lists of parts: their keys, and how many are read at once.
_CONTENTS, _LISTS = (b"c", b"d"), (b"l", b"m")
_FEW = 32


@define(eq=False)
class _Kept:
    """
    An object of the old index.

    :ivar record: With all its parts.
    :ivar wrong: Why it cannot be kept.
    :ivar changed: Whether its record is not as it was.
    """

    key: str
    record: ObjectRecord
    wrong: str = ""
    changed: bool = False

    @property
    def blobs(self) -> list[str]:
        """
        What its content and its manifest are.
        """
        parts = [*self.record.parts, *empty(self.record.manifest)]
        return [part.blob for part in parts]

    @property
    def rows(self) -> list[bytes]:
        """
        All that may be kept of it.
        """
        version = self.record.version_id
        key = self.key
        return [object_key(key), content_key(key, version), parts_key(key, version)]


@define(eq=False)
class RebuiltObjects:
    """
    Sees to it that every object is whole.
    """

    _work: Work

    async def keep(self, bucket: str, space: str) -> None:
        """
        Look at the objects of a bucket, and remove those that are not whole.
        """
        async for page in self._work.pages(space, OBJECTS, _FEW):
            kept = [_Kept(key[1:].decode(), unpack(ObjectRecord, value)) for key, value in page]
            for each in kept:
                await self._read(space, each)
            await beside(lambda each: self._look_at(bucket, each), kept)
            await self._take(space, kept)
        for within in (_CONTENTS, _LISTS):
            await self._remove_strays(space, within)

    async def _read(self, space: str, kept: _Kept) -> None:
        """
        Read what belongs to an object.
        """
        record = kept.record
        _, content, parts = await self._work.index.get(space, kept.rows)
        if record.apart:
            listed = () if parts is None else unpack(PartsRecord, parts).parts
            if len(listed) != record.apart:
                kept.wrong = "its list of parts is lost"
            kept.record = msgspec.structs.replace(record, parts=listed, apart=0)
        elif record.size and not record.parts:
            if content is None:
                kept.wrong = "its content, which was small, is lost"
            elif not record.holds(content) or (
                record.checksum is None and not fits(content, record)
            ):
                kept.wrong = "its content, which was small, is not what was written"

    async def _look_at(self, bucket: str, kept: _Kept) -> None:
        """
        Look at the blobs of an object.
        """
        where = Problem(bucket=bucket, key=kept.key)
        record = kept.record
        size = sum(part.size for part in record.parts)
        if not kept.wrong and record.parts and size != record.size:
            kept.wrong = "its parts have another size"
        for part in record.parts:
            kept.wrong = kept.wrong or await wrong_with(self._work, where, part)
        for part in empty(record.manifest):
            if await wrong_with(self._work, where, part):
                kept.record = msgspec.structs.replace(kept.record, manifest="")
                kept.changed = True

    async def _take(self, space: str, kept: Sequence[_Kept]) -> None:
        whole = [each for each in kept if not each.wrong]
        taken = await self._work.names.take([each.blobs for each in whole])
        writes: list[Write] = []
        lost: list[tuple[bytes, str]] = []
        removed = [each for each in kept if each.wrong]
        for each, use in zip(whole, taken, strict=True):
            if use is None:
                self._work.figures.objects += 1
                self._work.figures.parts += len([part for part in each.record.parts if part.number])
                writes += storing(each.key, each.record) if each.changed else []
            else:
                each.wrong = "its content belongs to something else"
                removed.append(each)
                if use is Use.LEFT:
                    # It was deleted or replaced, which another page of the database tells.
                    each.wrong = ""
        for each in removed:
            writes += [Write(row, None) for row in each.rows]
            lost += [(each.rows[0], each.wrong)] if each.wrong else []
        await self._work.names.lose(space, lost)
        await self._work.write(space, writes)

    async def _remove_strays(self, space: str, within: tuple[bytes, bytes]) -> None:
        """
        Remove contents and lists of parts that belong to no object.
        """
        async for page in self._work.pages(space, within, _FEW):
            names = [key[1:].rpartition(b"\x00") for key, _ in page]
            objects = await self._work.index.get(space, [b"o" + key for key, _, _ in names])
            strays = []
            for (row, _), (key, _, version), raw in zip(page, names, objects, strict=True):
                record = None if raw is None else unpack(ObjectRecord, raw)
                if record is None or not _belongs(row, version, record):
                    strays.append((row, key))
            await self._work.write(space, [Write(row, None) for row, _ in strays])
            lost = [(b"o" + key, "its record is lost") for _, key in strays]
            await self._work.names.lose(space, lost)

    async def make(self, space: str, found: Described) -> None:
        """
        Make an object from a blob that nothing names.

        Those of one object come one after the other, the newest first.
        """
        where = Problem(bucket=found.bucket, key=found.key)
        record = unpack(BlobRecord, await self._work.blobs.describe(found.blob))
        raw = await self._work.get(space, object_key(found.key))
        old = None if raw is None else unpack(ObjectRecord, raw)
        if old is not None and -found.age <= old.modified:
            await self._end_upload(space, record, 0)
            self._work.unused(where, found.blob, "there is a newer object")
            return
        parts = record.parts or (PartRecord(0, found.size, found.blob),)
        manifest = found.blob if record.parts else ""
        sequence = 1 if old is None else old.sequence + 1
        await self._end_upload(space, record, sequence)
        for part in record.parts:
            wrong = await wrong_with(self._work, where, part)
            if wrong:
                self._work.unused(where, found.blob, wrong)
                return
        blobs = [part.blob for part in (*parts, *empty(manifest))]
        (use,) = await self._work.names.take([blobs])
        if use is not None:
            self._work.unused(where, found.blob, "its parts belong to something else")
            return
        if old is not None:
            await self._replace(space, found.key, old)
        made = ObjectRecord(
            sequence,
            record.version_id,
            sum(part.size for part in parts),
            -found.age,
            record.metadata,
            parts,
            manifest=manifest,
        )
        await self._work.write(space, storing(found.key, made))
        self._work.figures.described += 1
        self._work.figures.objects += 1
        self._work.figures.parts += len(record.parts)

    async def _end_upload(self, space: str, manifest: BlobRecord, sequence: int) -> None:
        """
        Note that an upload was completed, as there is the manifest of what it became.

        :param sequence: Of the object.
        """
        if not manifest.parts:
            return
        upload, key = manifest.upload_id, manifest.key
        writes: list[Write] = []
        if await self._work.get(space, upload_key(key, upload)) is not None:
            # It was so before the last commits were lost.
            within = part_key(upload, 0), part_key(upload, 0xFFFF)
            async for page in self._work.pages(space, within):
                blobs = [unpack(PartRecord, value).blob for _, value in page]
                await self._work.names.release(blobs)
                writes += [Write(row, None) for row, _ in page]
            writes.append(Write(upload_key(key, upload), None))
            self._work.figures.uploads -= 1
            self._work.figures.parts -= len(writes) - 1
        done = DoneRecord(
            key,
            manifest.request,
            manifest.version_id,
            sequence,
            manifest.parts[0].blob,
            manifest.began,
        )
        await self._work.write(space, [*writes, Write(done_key(upload), pack(done))])

    async def _replace(self, space: str, key: str, old: ObjectRecord) -> None:
        """
        Remove what was older than what is made.
        """
        kept = _Kept(key, old)
        await self._read(space, kept)
        await self._work.names.release(kept.blobs)
        for blob in kept.blobs:
            self._work.unused(Problem(key=key), blob, "there is a newer object")
        await self._work.write(space, [Write(row, None) for row in kept.rows])
        self._work.figures.objects -= 1
        self._work.figures.parts -= len([part for part in kept.record.parts if part.number])


def _belongs(row: bytes, version: bytes, record: ObjectRecord) -> bool:
    if record.version_id.encode() != version:
        return False
    return bool(record.apart) if row[:1] == _LISTS[0] else bool(record.size and not record.parts)

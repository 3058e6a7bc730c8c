# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The objects that a rebuild keeps, and those that it makes from what lies beside their blobs.
"""

from collections.abc import Sequence

import msgspec
from attrs import define, field

from kypello.model import Write
from kypello.store.beside import beside
from kypello.store.checkedcontents import fits
from kypello.store.findings import Problem
from kypello.store.rebuilt import Work, wrong_with
from kypello.store.rebuiltnames import Described, Use
from kypello.store.rebuiltstacks import RebuiltStacks, is_versioned
from kypello.store.records import (
    OBJECTS,
    VERSIONS,
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
    version_key,
)
from kypello.store.stacks import listed, packed

#: Contents of small objects, and long lists of parts: their keys, and how many are read at once.
_CONTENTS, _LISTS = (b"c", b"d"), (b"l", b"m")
_FEW = 32


@define(eq=False)
class _Kept:
    """
    A version of the old index.

    :ivar at: Where its record is.
    :ivar record: With all its parts.
    :ivar wrong: Why it cannot be kept.
    :ivar changed: Whether its record is not as it was.
    """

    key: str
    at: bytes
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


@define(eq=False)
class RebuiltObjects:
    """
    Sees to it that every version is whole.
    """

    _work: Work
    _stacks: RebuiltStacks = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was looked at yet.
        """
        self._stacks = RebuiltStacks(self._work)

    async def keep(self, bucket: str, space: str) -> None:
        """
        Look at the versions in a bucket, and remove those that are not whole.
        """
        for within in (VERSIONS, OBJECTS):
            async for page in self._work.pages(space, within, _FEW):
                kept = []
                for row, value in page:
                    key = row[1:].partition(b"\x00")[0].decode()
                    each = _Kept(key, row, unpack(ObjectRecord, value))
                    if within == VERSIONS and row != version_key(key, each.record.sequence):
                        # A key has no checksum: a version that has lost its row comes back.
                        await self._work.write(space, [Write(row, None)])
                    elif within == VERSIONS or await self._is_alone(space, each, value):
                        kept.append(each)
                for each in kept:
                    await self._read(space, each)
                await beside(lambda each: self._look_at(bucket, each), kept)
                await self._take(space, kept)
        await self._stacks.settle_all(space)
        for within in (_CONTENTS, _LISTS):
            await self._remove_strays(space, within)

    async def _is_alone(self, space: str, kept: _Kept, raw: bytes) -> bool:
        """
        Whether a current version is not one of those that were looked at as versions.
        """
        row = version_key(kept.key, kept.record.sequence)
        twin = await self._work.get(space, row)
        if twin is None:
            return True
        if twin != raw:
            # Another page of the database tells what it was before, or is now.
            await self._work.write(space, [Write(kept.at, None)])
        return False

    async def _read(self, space: str, kept: _Kept) -> None:
        """
        Read what belongs to a version.
        """
        record, version = kept.record, kept.record.version_id
        content, parts = await self._work.index.get(
            space, [content_key(kept.key, version), parts_key(kept.key, version)]
        )
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
                self._work.figures.objects += not each.record.marker
                self._work.figures.parts += len([part for part in each.record.parts if part.number])
                raw, apart = packed(each.key, each.record)
                if each.changed:
                    writes += [Write(each.at, raw), *apart]
                if each.at == object_key(each.key) and await self._has_others(space, each):
                    writes += listed(each.key, each.record, raw)
            else:
                each.wrong = "its content belongs to something else"
                removed.append(each)
                if use is Use.LEFT:
                    # It was deleted or replaced, which another page of the database tells.
                    each.wrong = ""
        for each in removed:
            rows = [each.at, *self._stacks.rows(each.key, each.record)]
            writes += [Write(row, None) for row in rows]
            lost += [(each.at, each.wrong)] if each.wrong else []
        await self._work.names.lose(space, lost)
        await self._work.write(space, writes)

    async def _has_others(self, space: str, kept: _Kept) -> bool:
        """
        Whether a current version should have been among all versions of its key.
        """
        return is_versioned(kept.record) or await self._stacks.has_versions(space, kept.key)

    async def _remove_strays(self, space: str, within: tuple[bytes, bytes]) -> None:
        """
        Remove contents and lists of parts that belong to no object.
        """
        async for page in self._work.pages(space, within, _FEW):
            strays = []
            for row, _ in page:
                key, _, version = row[1:].decode().rpartition("\x00")
                record = await self._stacks.find(space, key, version)
                if record is None or not _belongs(row, record):
                    strays.append((row, object_key(key)))
            await self._work.write(space, [Write(row, None) for row, _ in strays])
            lost = [(row, "its record is lost") for _, row in strays]
            await self._work.names.lose(space, lost)

    async def make(self, space: str, found: Described) -> None:
        """
        Make a version from a blob that nothing names.

        Those of one key come one after the other, in the order in which they began to be written.
        """
        where = Problem(bucket=found.bucket, key=found.key)
        record = unpack(BlobRecord, await self._work.blobs.describe(found.blob))
        old = await self._stacks.find(space, found.key, record.version_id)
        parts = record.parts
        if not parts and not record.marker:
            parts = (PartRecord(0, found.size, found.blob),)
        made = ObjectRecord(
            1 if old is None else old.sequence + 1,
            record.version_id,
            sum(part.size for part in parts),
            record.modified or record.began,
            record.metadata,
            parts,
            manifest=found.blob if record.parts or record.marker else "",
            marker=record.marker,
            amended=record.began if record.modified else 0,
        )
        again = old is not None and bool(parts) and old.parts[:1] == parts[:1]
        if old is not None and not _is_newer(made, old, again=again):
            await self._end_upload(space, record, 0)
            self._work.unused(where, found.blob, "there is a newer object")
            return
        versioned = is_versioned(made) or await self._stacks.has_versions(space, found.key)
        if versioned:
            await self._stacks.list_only(space, found.key)
            place = await self._stacks.free_place(space, found.key, max(record.sequence, 1))
            made = msgspec.structs.replace(made, sequence=place)
        if old is not None and again:
            made = msgspec.structs.replace(made, sequence=old.sequence)
        await self._end_upload(space, record, made.sequence)
        for part in record.parts:
            wrong = await wrong_with(self._work, where, part)
            if wrong:
                self._work.unused(where, found.blob, wrong)
                return
        if old is not None and again:
            # The same content with other metadata.
            await self._replace(space, found.key, old, [part.blob for part in parts])
            old = None
        blobs = [part.blob for part in (*parts, *empty(made.manifest))]
        (use,) = await self._work.names.take([blobs])
        if use is not None:
            self._work.unused(where, found.blob, "its parts belong to something else")
            return
        if old is not None:
            await self._replace(space, found.key, old)
        await self._stacks.add(space, found.key, made, versioned=versioned)
        self._work.figures.described += 1
        self._work.figures.objects += not made.marker
        self._work.figures.parts += len([part for part in record.parts if part.number])

    async def _end_upload(self, space: str, manifest: BlobRecord, sequence: int) -> None:
        """
        Note that an upload was completed, as there is the manifest of what it became.

        :param sequence: Of the object.
        """
        if not manifest.upload_id:
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

    async def _replace(
        self, space: str, key: str, old: ObjectRecord, kept: Sequence[str] = ()
    ) -> None:
        """
        Remove a version in whose place another one is made.

        :param kept: Blobs that it will have, too.
        """
        former = _Kept(key, object_key(key), old)
        await self._read(space, former)
        await self._work.names.release(former.blobs)
        for blob in former.blobs:
            if blob not in kept:
                self._work.unused(Problem(key=key), blob, "there is a newer object")
        rows = [former.at, *self._stacks.rows(key, old)]
        await self._work.write(space, [Write(row, None) for row in rows])
        await self._stacks.settle(space, key)
        self._work.figures.objects -= not old.marker
        self._work.figures.parts -= len([part for part in former.record.parts if part.number])


def _belongs(row: bytes, record: ObjectRecord) -> bool:
    return bool(record.apart) if row[:1] == _LISTS[0] else bool(record.size and not record.parts)


def _is_newer(made: ObjectRecord, old: ObjectRecord, *, again: bool) -> bool:
    """
    Whether what is described is newer than what there is under the same id.

    :param again: Whether it is the same content.
    """
    return made.amended > old.amended if again else made.modified > old.modified

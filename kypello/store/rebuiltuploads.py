# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The unfinished uploads that a rebuild keeps, and those that it makes from what lies beside their
parts.
"""

from attrs import define

from kypello.errors import Damaged, StorageFailed
from kypello.model import Write
from kypello.store.findings import Problem
from kypello.store.rebuilt import Work, wrong_with
from kypello.store.rebuiltnames import Described
from kypello.store.records import (
    PARTS,
    UPLOADS,
    BlobRecord,
    PartRecord,
    UploadRecord,
    done_key,
    pack,
    part_key,
    unpack,
    upload_key,
)


@define(eq=False)
class RebuiltUploads:
    """
    Sees to it that every part belongs to an upload.
    """

    _work: Work

    async def keep(self, bucket: str, space: str) -> None:
        """
        Look at the uploads of a bucket, and remove what is not whole.
        """
        async for page in self._work.pages(space, UPLOADS):
            for row, _ in page:
                key, _, upload = row[1:].decode().rpartition("\x00")
                if await self._work.get(space, done_key(upload)) is None:
                    await self._add(key, upload)
                else:
                    # Another page of the database tells that it ended.
                    await self._work.write(space, [Write(row, None)])
        async for page in self._work.pages(space, PARTS):
            names = [row[1:-2].decode() for row, _ in page]
            keys = await self._work.names.upload_keys(names)
            for (row, value), upload in zip(page, names, strict=True):
                record = unpack(PartRecord, value)
                known = keys.get(upload)
                where = Problem("", bucket, known or "", "", upload, record.number)
                await self._keep_part(space, row, record, where, known)

    async def _keep_part(
        self, space: str, row: bytes, record: PartRecord, where: Problem, key: str | None
    ) -> None:
        """
        Keep a part, or remove its record.

        :param key: That of its upload, if that is there.
        """
        wrong = await wrong_with(self._work, where, record)
        if not wrong and key is None:
            key = await self._recover(space, where.upload, record.blob)
        if wrong:
            await self._work.names.lose(space, [(row, wrong)])
        if wrong or key is None or (await self._work.names.take([[record.blob]]))[0] is not None:
            await self._work.write(space, [Write(row, None)])
        else:
            self._work.figures.parts += 1

    async def _recover(self, space: str, upload: str, blob: str) -> str | None:
        """
        Make an upload of which there is a part.

        :return: The key of its object; ``None`` when nobody knows it, or the upload ended.
        """
        try:
            described = unpack(BlobRecord, await self._work.blobs.describe(blob))
        except (Damaged, StorageFailed):
            # Then the blob is told of as one that is not used.
            return None
        if not await self._make(space, upload, described):
            return None
        return described.key

    async def _make(self, space: str, upload: str, described: BlobRecord) -> bool:
        """
        See that there is the upload of a part.
        """
        if (await self._work.names.upload_keys([upload])).get(upload) == described.key:
            return True
        if described.upload is None or described.upload_id != upload:
            return False
        if await self._work.get(space, done_key(upload)) is not None:
            return False
        record: UploadRecord = described.upload
        await self._work.write(space, [Write(upload_key(described.key, upload), pack(record))])
        await self._add(described.key, upload)
        return True

    async def _add(self, key: str, upload: str) -> None:
        self._work.figures.uploads += 1
        await self._work.names.add_uploads([(upload, key)])

    async def make(self, space: str, found: Described) -> None:
        """
        Make a part of an upload from a blob that nothing names.

        Those of one part come one after the other, the newest first.
        """
        where = Problem(bucket=found.bucket, key=found.key, upload=found.upload, part=found.number)
        if found.blob in await self._work.names.named([found.blob]):
            # An object was made of it by now.
            return
        row = part_key(found.upload, found.number)
        raw = await self._work.get(space, row)
        old = None if raw is None else unpack(PartRecord, raw)
        if old is not None and -found.rank <= old.modified:
            self._work.unused(where, found.blob, "there is a newer part")
            return
        described = unpack(BlobRecord, await self._work.blobs.describe(found.blob))
        if not await self._make(space, found.upload, described):
            self._work.unused(where, found.blob, "its upload ended, or nobody knows of it")
            return
        if old is not None:
            await self._work.names.release([old.blob])
            self._work.unused(where, old.blob, "there is a newer part")
            self._work.figures.parts -= 1
        await self._work.names.take([[found.blob]])
        record = PartRecord(found.number, found.size, found.blob, -found.rank, described.metadata)
        writes = [Write(row, pack(record))]
        if not found.number and described.upload is not None:
            # It describes the upload, which may have been known as it was before.
            writes.append(Write(upload_key(found.key, found.upload), pack(described.upload)))
        await self._work.write(space, writes)
        self._work.figures.described += 1
        self._work.figures.parts += 1

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How uploads in parts are changed, and their parts read, by who looks after what is sealed in them.
"""

from collections.abc import Callable

import msgspec
from attrs import define, evolve

from kypello.buffersource import BufferSource
from kypello.crypto.randomness import Random
from kypello.errors import Conflict, Damaged, NoSuchUpload, StorageFailed
from kypello.interfaces import IBlobs, IOpenObject, UploadChange
from kypello.model import NULL_VERSION, ObjectInfo, UploadInfo, Write
from kypello.store.buckets import ATTEMPTS, Seen
from kypello.store.intents import Intents
from kypello.store.opened import BlobObject
from kypello.store.records import (
    META,
    BlobRecord,
    PartRecord,
    UploadRecord,
    metadata_record,
    pack,
    part_key,
    unpack,
    upload_key,
)
from kypello.store.undisturbed import undisturbed
from kypello.store.uploads import DESCRIPTION, Uploads


@define(eq=False)
class UploadAmendments:
    """
    Changes uploads, and opens their parts.

    :ivar _random: Names blobs.
    :ivar _now: Nanoseconds since the epoch.
    """

    _blobs: IBlobs
    _uploads: Uploads
    _intents: Intents
    _random: Random
    _now: Callable[[], int]

    async def amend(
        self, bucket: str, key: str, upload_id: str, change: UploadChange
    ) -> UploadInfo:
        """
        Replace the metadata of an upload.  Who writes a part of it, or completes it, at that time
        is not disturbed.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        :raises KypelloError: Whatever *change* raises.
        """
        return (await undisturbed(self._amend(bucket, key, upload_id, change)))[0]

    async def _amend(
        self, bucket: str, key: str, upload_id: str, change: UploadChange
    ) -> UploadInfo:
        for _ in range(ATTEMPTS):
            beside = part_key(upload_id, DESCRIPTION)
            seen, upload = await self._uploads.find(bucket, key, upload_id, beside)
            info = upload.info(bucket, key, upload_id)
            metadata = metadata_record(change(info))
            changed = msgspec.structs.replace(upload, metadata=metadata)
            if changed == upload:
                return info
            try:
                await self._replace(info, seen, changed)
            except Conflict:
                # It was changed, or ended, meanwhile.
                continue
            return changed.info(bucket, key, upload_id)
        raise StorageFailed(f"too many changes of upload {upload_id} at once")

    async def _replace(self, info: UploadInfo, seen: Seen, changed: UploadRecord) -> None:
        """
        Replace the record of an upload, and what describes it beside its parts.

        :param seen: A look at both.
        :raises Conflict: One is not as it was seen.
        """
        bucket, key, upload_id = info.bucket, info.key, info.upload_id
        where = upload_key(key, upload_id), part_key(upload_id, DESCRIPTION)
        before = [unpack(PartRecord, value) for value in seen.values[1:] if value is not None]
        # A rebuild takes the newest.
        began = max([self._now(), *(record.modified + 1 for record in before)])
        metadata = changed.metadata
        description = BlobRecord(
            bucket, key, NULL_VERSION, began, metadata, upload_id, DESCRIPTION, changed
        )
        blob = self._random(16).hex()
        async with self._intents.making(seen.space, {META: seen.meta}, (blob,)) as intent:
            await self._blobs.write(blob, BufferSource(b""), lambda _: pack(description))
            writes = [
                Write(where[0], pack(changed)),
                Write(where[1], pack(PartRecord(DESCRIPTION, 0, blob, began))),
                *self._intents.discarded(before),
                intent.removal,
            ]
            rows = dict(zip(where, seen.values, strict=True))
            expect = {META: seen.meta, **rows, **intent.expect}
            await self._intents.commit(seen.space, writes, expect)

    async def open_part(self, bucket: str, key: str, upload_id: str, number: int) -> IOpenObject:
        """
        Open a part for reading; what it tells has the number of the part and its metadata.

        :raises NoSuchBucket:
        :raises NoSuchUpload: There is no such upload, or no such part of it any more.
        :raises Damaged: Its content is not there.
        """
        where = part_key(upload_id, number)
        while True:
            seen, _ = await self._uploads.find(bucket, key, upload_id, where)
            if seen.values[1] is None:
                raise NoSuchUpload(upload_id)
            record = unpack(PartRecord, seen.values[1])
            try:
                blob = await self._blobs.open(record.blob)
            except Damaged:
                # It may just have been replaced, and its blob removed.
                again, _ = await self._uploads.find(bucket, key, upload_id, where)
                if again.values[1] == seen.values[1]:
                    raise
                continue
            part = record.info()
            if blob.size != part.size:
                blob.close()
                raise Damaged(f"size of blob {record.blob}")
            info = ObjectInfo(bucket, key, NULL_VERSION, part.size, part.modified, part.metadata)
            return BlobObject(evolve(info, parts=(part,)), blob)

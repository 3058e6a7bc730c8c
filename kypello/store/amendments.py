# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Changes of what is kept beside the content of a version.

The record is replaced, wherever it is.  What lies in blobs is described anew, by a manifest that
names them, for a lost index to be rebuilt as it was at last.
"""

from collections.abc import Callable

import msgspec
from attrs import define, frozen

from kypello.buffersource import BufferSource
from kypello.crypto.randomness import Random
from kypello.errors import Conflict, Damaged, StorageFailed
from kypello.interfaces import Change, IBlobs
from kypello.model import ObjectInfo, Write
from kypello.store.buckets import ATTEMPTS, Buckets, Seen
from kypello.store.intents import Intents
from kypello.store.records import (
    META,
    BlobRecord,
    ObjectRecord,
    empty,
    metadata_record,
    object_key,
    pack,
    unpack,
    version_key,
)
from kypello.store.stacks import Version
from kypello.store.undisturbed import undisturbed
from kypello.store.versions import Versions


@frozen
class _Rows:
    """
    Where the record of a version is: as the current one, among all versions, or both.

    :ivar seen: A look at both.
    """

    seen: Seen
    keys: list[bytes]

    @property
    def expect(self) -> dict[bytes, bytes | None]:
        """
        What their commit expects.
        """
        rows = dict(zip(self.keys, self.seen.values, strict=True))
        return {META: self.seen.meta, **rows}

    def replaced(self, old: bytes, new: ObjectRecord) -> list[Write]:
        """
        How a record is replaced there; nothing if it is there no more.
        """
        raw = pack(new)
        rows = zip(self.keys, self.seen.values, strict=True)
        return [Write(key, raw) for key, value in rows if value == old]


@define(eq=False)
class Amendments:
    """
    Changes metadata of versions.

    :ivar _random: Names blobs.
    :ivar _now: Nanoseconds since the epoch.
    """

    _blobs: IBlobs
    _buckets: Buckets
    _intents: Intents
    _versions: Versions
    _random: Random
    _now: Callable[[], int]

    async def amend(self, bucket: str, key: str, version_id: str, change: Change) -> ObjectInfo:
        """
        Replace the metadata of a version.

        :param version_id: Empty for the current version.
        :raises KypelloError: As :meth:`Versions.find`, and whatever *change* raises.
        """
        return (await undisturbed(self._amend(bucket, key, version_id, change)))[0]

    async def _amend(self, bucket: str, key: str, version_id: str, change: Change) -> ObjectInfo:
        for _ in range(ATTEMPTS):
            version = await self._versions.find(bucket, key, version_id)
            metadata = metadata_record(change(version.info(bucket)))
            if metadata == version.record.metadata:
                return version.info(bucket)
            record = msgspec.structs.replace(version.record, metadata=metadata)
            keys = [object_key(key), version_key(key, record.sequence)]
            rows = _Rows(await self._buckets.see(bucket, keys), keys)
            try:
                if await self._replace(bucket, version, record, rows):
                    return record.info(bucket, key, version.parts.infos)
            except Conflict:
                continue
        raise StorageFailed(f"too many writers of {bucket}/{key} at once")

    async def _replace(
        self, bucket: str, version: Version, record: ObjectRecord, rows: _Rows
    ) -> bool:
        """
        Replace a record.

        :return: Whether it was there still.
        :raises Conflict: It is there no more.
        """
        if not rows.replaced(version.raw, record):
            return False
        if not record.parts:
            writes = rows.replaced(version.raw, record)
            await self._intents.commit(rows.seen.space, writes, rows.expect)
            return True
        manifest = await self._manifest(bucket, version, record)
        blob = self._random(16).hex()
        making = self._intents.making(rows.seen.space, {META: rows.seen.meta}, (blob,))
        async with making as intent:
            await self._blobs.write(blob, BufferSource(b""), lambda _: pack(manifest))
            described = msgspec.structs.replace(record, manifest=blob, amended=manifest.began)
            writes = [
                *rows.replaced(version.raw, described),
                *self._intents.discarded(empty(record.manifest)),
                intent.removal,
            ]
            await self._intents.commit(rows.seen.space, writes, {**rows.expect, **intent.expect})
        return True

    async def _manifest(self, bucket: str, version: Version, record: ObjectRecord) -> BlobRecord:
        """
        What describes a version as it will be.
        """
        before = None
        if record.manifest:
            try:
                before = unpack(BlobRecord, await self._blobs.describe(record.manifest))
            except Damaged:
                # It tells nothing any more; the new one tells what the record does.
                before = None
        return BlobRecord(
            bucket,
            version.key,
            record.version_id,
            max(self._now(), record.modified + 1, record.amended + 1),
            record.metadata,
            "" if before is None else before.upload_id,
            parts=version.parts.records,
            request=b"" if before is None else before.request,
            sequence=record.sequence,
            modified=record.modified,
        )

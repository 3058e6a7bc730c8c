# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Uploads in parts.

A part is a blob with a record, put like an object by a commit that expects the upload.

An upload whose metadata were changed has a part 0 beside, which no client sees: a blob without
content that describes the upload as it is now, as the parts that came before describe it as it was.
"""

import re
from collections.abc import Callable, Sequence

from attrs import define, evolve, frozen

from kypello.crypto.randomness import Random
from kypello.errors import Conflict, NoSuchBucket, NoSuchUpload, StorageFailed
from kypello.interfaces import Describe, IBlobs, IBodySource, IIndex
from kypello.model import (
    NULL_VERSION,
    CustomerKey,
    ListQuery,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    UploadListing,
    UploadQuery,
    Write,
)
from kypello.store.buckets import ATTEMPTS, Buckets, Seen, all_records
from kypello.store.intents import Intents, Made
from kypello.store.listing import page, scanning
from kypello.store.records import (
    META,
    UPLOADS,
    BlobRecord,
    PartRecord,
    UploadRecord,
    metadata_record,
    pack,
    part_key,
    unpack,
    upload_key,
)
from kypello.store.stacks import look_keys
from kypello.store.undisturbed import undisturbed
from kypello.store.versions import refuse_key

_ID = re.compile("[0-9a-f]{48}")

#: The part that describes an upload, and no client's.
DESCRIPTION = 0

#: No part has a larger number, nor has any key of one more digits.
_LAST = 0xFFFF


def began_at(now: int) -> str:
    """
    How the names of uploads begin that begin now.
    """
    return f"{now:016x}"


def is_upload_id(upload_id: str) -> bool:
    """
    Whether this may be the name of an upload.
    """
    return _ID.fullmatch(upload_id) is not None


@frozen
class Upload:
    """
    An upload as it was read, with all its parts.

    :ivar seen: A look at the key of the object.
    :ivar parts: By number, in order.
    :ivar descriptions: What describes the upload beside them, if it was changed.
    :ivar expect: The records that it was read from.
    :ivar empty: Ranges in which there was none.
    """

    seen: Seen
    info: UploadInfo
    parts: dict[int, PartRecord]
    descriptions: tuple[PartRecord, ...]
    expect: dict[bytes, bytes | None]
    empty: list[tuple[bytes, bytes]]

    @property
    def removal(self) -> list[Write]:
        """
        How it ends.
        """
        return [Write(key, None) for key in self.expect]


@define(eq=False)
class Uploads:
    """
    The uploads of all buckets.

    :ivar _now: Nanoseconds since the epoch.
    """

    _index: IIndex
    _blobs: IBlobs
    _buckets: Buckets
    _intents: Intents
    _random: Random
    _now: Callable[[], int]

    async def create(
        self, bucket: str, key: str, metadata: ObjectMetadata, checksum: str
    ) -> UploadInfo:
        """
        Begin an upload.

        :raises NoSuchBucket:
        """
        seen = await self._buckets.see(bucket, ())
        record = UploadRecord(self._now(), metadata_record(metadata), checksum)
        upload_id = began_at(record.began) + self._random(16).hex()
        made = [Write(upload_key(key, upload_id), pack(record))]
        try:
            await undisturbed(self._index.commit(seen.space, made, {META: seen.meta}, ()))
        except Conflict as conflict:
            raise NoSuchBucket(bucket) from conflict
        return record.info(bucket, key, upload_id)

    async def info(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Look up an unfinished upload.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """
        _, record = await self.find(bucket, key, upload_id)
        return record.info(bucket, key, upload_id)

    async def put_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        body: IBodySource,
        describe: Describe,
        customer_key: CustomerKey | None,
    ) -> PartInfo:
        """
        Store one part in place of an earlier one.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        :raises KypelloError: As :meth:`IObjectStore.put_part`.
        """
        where = upload_key(key, upload_id), part_key(upload_id, number)
        seen, upload = await self.find(bucket, key, upload_id, where[1])
        refuse_key(customer_key)
        blob = self._random(16).hex()
        began = self._now()
        described: list[ObjectMetadata] = []

        def describe_blob(size: int) -> bytes:
            """
            Describe the part once, for its record and for what lies beside the blob.
            """
            metadata = describe(size)
            described.append(metadata)
            record = metadata_record(metadata)
            return pack(
                BlobRecord(bucket, key, NULL_VERSION, began, record, upload_id, number, upload)
            )

        try:
            # The upload may be changed while the part comes; it must be there at the end.
            async with self._intents.making(seen.space, {META: seen.meta}, (blob,)) as intent:
                size = await self._blobs.write(blob, body, describe_blob)
                record = PartRecord(number, size, blob, self._now(), metadata_record(described[0]))
                await undisturbed(self._commit_part(seen, where, record, intent))
        except Conflict as conflict:
            if conflict.key == META:
                raise NoSuchBucket(bucket) from conflict
            raise NoSuchUpload(upload_id) from conflict
        return record.info()

    async def _commit_part(
        self, seen: Seen, where: tuple[bytes, bytes], record: PartRecord, intent: Made
    ) -> None:
        upload, part = where
        began, old = seen.values
        for _ in range(ATTEMPTS):
            writes = [Write(part, pack(record)), intent.removal]
            if old is not None:
                writes += self._intents.discarded([unpack(PartRecord, old)])
            expect = {META: seen.meta, upload: began, part: old, **intent.expect}
            try:
                await self._intents.commit(seen.space, writes, expect)
            except Conflict as conflict:
                if conflict.key not in where:
                    raise
            else:
                return
            began, old = await self._index.get(seen.space, where)
            if began is None:
                raise Conflict(upload)
        raise StorageFailed("too many writers of one part at once")

    async def parts(
        self, bucket: str, key: str, upload_id: str, after: int, limit: int
    ) -> Sequence[PartInfo]:
        """
        The first *limit* parts with numbers above *after*.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """
        seen, _ = await self.find(bucket, key, upload_id)
        if after >= _LAST:
            return ()
        start = max(after, DESCRIPTION) + 1
        first, end = part_key(upload_id, start), part_key(upload_id, _LAST)
        rows = await self._index.scan(seen.space, first, end, limit)
        # What was scanned counts if the upload had not ended by then.
        await self.find(bucket, key, upload_id)
        return tuple(unpack(PartRecord, value).info() for _, value in rows)

    async def list(self, bucket: str, query: UploadQuery) -> UploadListing:
        """
        One page of the unfinished uploads.

        :raises NoSuchBucket:
        """
        space = (await self._buckets.see(bucket, ())).space
        if "\x00" in query.prefix:
            return UploadListing()
        # No key holds NUL, so one that follows such a marker follows what is before the NUL.
        after, nul, _ = query.after_key.partition("\x00")
        start = after.encode() + b"\x01"
        if query.after_upload and not nul:
            start = upload_key(after, query.after_upload)[1:] + b"\x00"
        wanted = ListQuery(query.prefix, query.delimiter, after, query.limit)
        found = await page(scanning(self._index, space, UPLOADS), wanted, start, _key)
        return UploadListing(
            tuple(
                unpack(UploadRecord, value).info(bucket, *_names(name))
                for name, value in found.entries
            ),
            tuple(group.decode() for group in found.groups),
            None if found.next is None else _names(found.next),
        )

    async def read(self, bucket: str, key: str, upload_id: str) -> Upload:
        """
        Read an upload with all its parts.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """
        before, _ = await self.find(bucket, key, upload_id)
        at, end = part_key(upload_id, 0), part_key(upload_id, _LAST)
        rows = await all_records(self._index, before.space, (at, end))
        # Parts vanish with their upload only: these are all if it had not ended by then.
        seen, record = await self.find(bucket, key, upload_id, *look_keys(key))
        expect = {upload_key(key, upload_id): seen.values[0]}
        parts: dict[int, PartRecord] = {}
        empty: list[tuple[bytes, bytes]] = []
        for where, value in rows:
            part = unpack(PartRecord, value)
            parts[part.number] = part
            expect[where] = value
            if at != where:
                empty.append((at, where))
            at = part_key(upload_id, part.number + 1)
        empty.append((at, end))
        info = record.info(bucket, key, upload_id)
        descriptions = tuple(parts.pop(number) for number in (DESCRIPTION,) if number in parts)
        seen = evolve(seen, values=seen.values[1:])
        return Upload(seen, info, parts, descriptions, expect, empty)

    async def find(
        self, bucket: str, key: str, upload_id: str, *more: bytes
    ) -> tuple[Seen, UploadRecord]:
        """
        Read the record of an upload and *more* keys.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """
        if not is_upload_id(upload_id):
            await self._buckets.see(bucket, ())
            raise NoSuchUpload(upload_id)
        seen = await self._buckets.see(bucket, [upload_key(key, upload_id), *more])
        if seen.values[0] is None:
            raise NoSuchUpload(upload_id)
        return seen, unpack(UploadRecord, seen.values[0])


def _key(name: bytes) -> bytes:
    return name.partition(b"\x00")[0]


def _names(name: bytes) -> tuple[str, str]:
    key, _, upload_id = name.partition(b"\x00")
    return key.decode(), upload_id.decode()

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How an upload in parts ends.

The object is described first, by a *manifest*: a blob without content that tells the parts in
order, for a lost index to be rebuilt.  Then to complete the upload is one commit: the blobs of
the chosen parts become those of the object, and the upload ends.  The commit stands for every
part there is: one that comes meanwhile makes it fail, and it is tried again; one that comes later
finds no upload.  So an upload stays whole until its object is there, and no part is lost sight
of.  The same holds when it is aborted.

What became of a completed upload is remembered for some days, for clients that ask again as
they did not get the answer.
"""

from collections.abc import Callable

from attrs import define, evolve

from kypello.buffersource import BufferSource
from kypello.crypto.randomness import Random
from kypello.errors import (
    Conflict,
    IsDeleteMarker,
    NoSuchUpload,
    NoSuchVersion,
    StorageFailed,
)
from kypello.interfaces import Assemble, Condition, IBlobs, IIndex
from kypello.model import CustomerKey, ObjectInfo, Write
from kypello.store.buckets import ATTEMPTS, Buckets
from kypello.store.intents import Intents
from kypello.store.records import (
    META,
    BlobRecord,
    DoneRecord,
    ObjectRecord,
    done_key,
    metadata_record,
    pack,
    unpack,
)
from kypello.store.undisturbed import undisturbed
from kypello.store.uploads import Upload, Uploads, began_at, is_upload_id
from kypello.store.versions import Content, Versions, refuse_key

#: For how many nanoseconds a completed upload is remembered at least: seven days.
REMEMBERED = 7 * 24 * 3600 * 10**9

#: How many of those that are older one commit forgets at most.
_FORGOTTEN = 32


@define(eq=False)
class Endings:
    """
    Completes and aborts uploads.

    :ivar _now: Nanoseconds since the epoch.
    """

    _index: IIndex
    _blobs: IBlobs
    _buckets: Buckets
    _versions: Versions
    _uploads: Uploads
    _intents: Intents
    _random: Random
    _now: Callable[[], int]

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        request: bytes,
        *,
        assemble: Assemble,
        condition: Condition | None,
        customer_key: CustomerKey | None,
    ) -> ObjectInfo:
        """
        Make the object of an upload current.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        :raises KypelloError: As :meth:`IObjectStore.complete_upload`.
        """
        for _ in range(ATTEMPTS):
            try:
                upload = await self._uploads.read(bucket, key, upload_id)
            except NoSuchUpload:
                return await self._completed(bucket, key, upload_id, request)
            refuse_key(customer_key)
            content = await self._content(upload, request, assemble)
            try:
                return await self._make(bucket, upload, request, content, condition)
            except Conflict:
                # A part came, or the upload or the bucket ended, meanwhile.
                continue
        raise StorageFailed(f"too many parts of upload {upload_id} at once")

    async def _make(
        self,
        bucket: str,
        upload: Upload,
        request: bytes,
        content: Content,
        condition: Condition | None,
    ) -> ObjectInfo:
        seen, key = upload.seen, upload.info.key
        expected = await self._versions.expected(bucket, key, seen)
        manifest = BlobRecord(
            bucket,
            key,
            expected.version_id,
            expected.began,
            metadata_record(content.metadata),
            upload.info.upload_id,
            parts=content.parts,
            request=request,
            sequence=expected.sequence,
        )
        blob = self._random(16).hex()
        async with self._intents.making(seen.space, {META: seen.meta}, (blob,)) as intent:
            await self._blobs.write(blob, BufferSource(b""), lambda _: pack(manifest))
            described = evolve(
                content,
                manifest=blob,
                version_id=expected.version_id,
                writes=lambda record: [*content.writes(record), intent.removal],
                expect={**content.expect, **intent.expect},
            )
            return await self._versions.replace(bucket, key, seen, described, condition)

    async def _content(self, upload: Upload, request: bytes, assemble: Assemble) -> Content:
        assembly = assemble(upload.info, tuple(part.info() for part in upload.parts.values()))
        unused = dict(upload.parts)
        try:
            parts = tuple(unused.pop(number) for number in assembly.numbers)
        except KeyError as error:
            raise ValueError("an object of parts that are not there") from error
        if not parts:
            raise ValueError("an object of no parts")
        forgotten = await self._old(upload.seen.space)

        def writes(record: ObjectRecord) -> list[Write]:
            """
            End the upload, and tell what became of it.
            """
            done = DoneRecord(
                upload.info.key,
                request,
                record.version_id,
                record.sequence,
                parts[0].blob,
                self._now(),
            )
            return [
                Write(done_key(upload.info.upload_id), pack(done)),
                *upload.removal,
                *forgotten,
                *self._intents.discarded([*unused.values(), *upload.descriptions]),
            ]

        size = sum(part.size for part in parts)
        return Content(
            size,
            assembly.metadata,
            parts=parts,
            writes=writes,
            expect=upload.expect,
            empty=upload.empty,
        )

    async def _completed(self, bucket: str, key: str, upload_id: str, request: bytes) -> ObjectInfo:
        if not is_upload_id(upload_id):
            raise NoSuchUpload(upload_id)
        seen = await self._buckets.see(bucket, [done_key(upload_id)])
        if seen.values[0] is None:
            raise NoSuchUpload(upload_id)
        done = unpack(DoneRecord, seen.values[0])
        if (done.key, done.request) != (key, request):
            raise NoSuchUpload(upload_id)
        try:
            version = await self._versions.find(bucket, key, done.version_id)
        except (NoSuchVersion, IsDeleteMarker) as error:
            raise NoSuchUpload(upload_id) from error
        if done.blob not in [part.blob for part in version.record.parts[:1]]:
            raise NoSuchUpload(upload_id)
        return version.info(bucket)

    async def _old(self, space: str) -> list[Write]:
        """
        How to forget some uploads that were completed long ago.
        """
        before = max(self._now() - REMEMBERED, 0)
        # They lie as they began, and who was completed before then began before then.
        stop = done_key(began_at(before))
        rows = await self._index.scan(space, done_key(""), stop, _FORGOTTEN)
        return [
            Write(key, None) for key, value in rows if unpack(DoneRecord, value).completed < before
        ]

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """
        End an upload and remove its parts.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """
        await undisturbed(self._abort(bucket, key, upload_id))

    async def _abort(self, bucket: str, key: str, upload_id: str) -> None:
        for _ in range(ATTEMPTS):
            upload = await self._uploads.read(bucket, key, upload_id)
            blobs = [*upload.parts.values(), *upload.descriptions]
            writes = [*upload.removal, *self._intents.discarded(blobs)]
            expect = {META: upload.seen.meta, **upload.expect}
            try:
                await self._intents.commit(upload.seen.space, writes, expect, upload.empty)
            except Conflict:
                continue
            return
        raise StorageFailed(f"too many parts of upload {upload_id} at once")

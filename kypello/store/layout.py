# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Buckets and objects over an index and blobs.

An object is written in three steps: an intent that names its blob, the blob, and one commit
that makes it current, removes the intent and queues the blob of the version before as garbage.
Small objects need the last step only, as their content is in the index.  Whatever instant the
process ends at, the commit has happened or has not, and everything that is left over is named
by an intent or by the garbage queue; the sweeper removes it.  So it is with a part of an upload.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from kypello.crypto.dare import PACKAGE_SIZE
from kypello.crypto.randomness import Random
from kypello.errors import Conflict, KMSNotConfigured, NoSuchBucket
from kypello.interfaces import (
    Assemble,
    Change,
    Condition,
    Describe,
    Guard,
    IBlobs,
    IBodySource,
    IIndex,
    IInnerStore,
    IOpenObject,
    Outline,
    UploadChange,
)
from kypello.model import (
    BucketInfo,
    CustomerKey,
    Deletion,
    EncryptionRequest,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    UploadListing,
    UploadQuery,
    VersionListing,
    VersionQuery,
)
from kypello.store.amendments import Amendments
from kypello.store.buckets import Buckets, Seen
from kypello.store.endings import Endings
from kypello.store.intents import Intents
from kypello.store.listing import page, scanning
from kypello.store.reading import Reading
from kypello.store.records import (
    META,
    OBJECTS,
    BlobRecord,
    PartRecord,
    listed,
    metadata_record,
    pack,
)
from kypello.store.removals import Removals
from kypello.store.sources import ResumedSource, begin
from kypello.store.stacks import Stacks
from kypello.store.undisturbed import undisturbed
from kypello.store.uploadamendments import UploadAmendments
from kypello.store.uploads import Uploads
from kypello.store.versionlisting import list_versions
from kypello.store.versions import Content, Versions

#: The largest content that is kept in the index, in bytes: one package of an encrypted stream.
#: Up to here that takes less time than files, as all writers share a sync; beyond, it takes more,
#: since the index writes everything twice.
INLINE = PACKAGE_SIZE


@implementer(IInnerStore)
@define(eq=False)
class LayoutStore:
    """
    The object store over any index and blobs.  It encrypts nothing.

    :ivar _clock: Tells when a version was committed.
    :ivar _random: Names spaces and blobs.
    :ivar _worker: The number of this process, from 0, of those that share the data.
    :ivar _workers: How many there are.
    :ivar intents: What this process is making, and where it left something for the sweeper.
    """

    _index: IIndex
    _blobs: IBlobs
    _clock: IReactorTime
    _random: Random
    _worker: int = 0
    _workers: int = 1
    intents: Intents = field(init=False)
    _buckets: Buckets = field(init=False)
    _versions: Versions = field(init=False)
    _removals: Removals = field(init=False)
    _amendments: Amendments = field(init=False)
    _uploads: Uploads = field(init=False)
    _upload_amendments: UploadAmendments = field(init=False)
    _endings: Endings = field(init=False)
    _reading: Reading = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing is being made.
        """
        self.intents = Intents(
            self._index, self._blobs, self._random, self._now, self._worker, self._workers
        )
        self._buckets = Buckets(self._index, self._blobs, self.intents, self._random, self._now)
        stacks = Stacks(self._index, self._buckets, self.intents)
        self._versions = Versions(self._buckets, self.intents, stacks, self._random, self._now)
        self._reading = Reading(self._blobs, self._versions)
        self._removals = Removals(
            self._index,
            self._blobs,
            self._buckets,
            self.intents,
            stacks,
            self._versions,
            self._random,
        )
        self._amendments = Amendments(
            self._blobs, self._buckets, self.intents, self._versions, self._random, self._now
        )
        self._uploads = Uploads(
            self._index, self._blobs, self._buckets, self.intents, self._random, self._now
        )
        self._upload_amendments = UploadAmendments(
            self._blobs, self._uploads, self.intents, self._random, self._now
        )
        self._endings = Endings(
            self._index,
            self._blobs,
            self._buckets,
            self._versions,
            self._uploads,
            self.intents,
            self._random,
            self._now,
        )

    async def create_bucket(self, name: str, settings: Mapping[str, bytes]) -> BucketInfo:
        """
        Make an empty bucket.
        """
        return (await undisturbed(self._buckets.create(name, settings)))[0]

    async def delete_bucket(self, name: str) -> None:
        """
        Remove an empty bucket.
        """
        await undisturbed(self._buckets.delete(name))

    def bucket(self, name: str) -> Coroutine[Any, Any, BucketInfo]:
        """
        Look up one bucket.
        """
        # Every request asks several times: there is no coroutine more than need be.
        return self._buckets.info(name)

    async def buckets(self) -> Sequence[BucketInfo]:
        """
        All buckets.
        """
        return await self._buckets.all()

    async def change_bucket(
        self, name: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> BucketInfo:
        """
        Replace the settings of a bucket.
        """
        return (await undisturbed(self._buckets.change(name, change)))[0]

    async def put(
        self,
        bucket: str,
        key: str,
        body: IBodySource,
        describe: Describe,
        encryption: EncryptionRequest | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Store an object.
        """
        try:
            if encryption is not None:
                raise KMSNotConfigured()
            look = self._versions.suppose if condition is None else self._versions.see
            seen = await look(bucket, key)
            blocks, small = await begin(body, INLINE)
            if small is not None:
                content = Content(len(small), describe(len(small)), small)
                return await self._versions.replace(bucket, key, seen, content, condition)
            body = ResumedSource(blocks, body) if blocks else body
            if seen.supposed:
                # What is written beside a blob has to be right.
                before, seen = seen, await self._versions.see(bucket, key)
                if before.space != seen.space:
                    raise NoSuchBucket(bucket)
            return await self._put_blob(
                bucket, key, seen, body=body, describe=describe, condition=condition
            )
        finally:
            body.close()

    async def _put_blob(
        self,
        bucket: str,
        key: str,
        seen: Seen,
        *,
        body: IBodySource,
        describe: Describe,
        condition: Condition | None,
    ) -> ObjectInfo:
        blob = self._random(16).hex()
        expected = await self._versions.expected(bucket, key, seen)
        described: list[ObjectMetadata] = []

        def describe_blob(size: int) -> bytes:
            """
            Describe the object once, for its record and for what lies beside the blob.
            """
            metadata = describe(size)
            described.append(metadata)
            described_blob = BlobRecord(
                bucket,
                key,
                expected.version_id,
                expected.began,
                metadata_record(metadata),
                sequence=expected.sequence,
            )
            return pack(described_blob)

        try:
            making = self.intents.making(seen.space, {META: seen.meta}, (blob,))
            async with making as intent:
                size = await self._blobs.write(blob, body, describe_blob)
                content = Content(
                    size,
                    described[0],
                    parts=(PartRecord(0, size, blob),),
                    version_id=expected.version_id,
                    writes=lambda _: [intent.removal],
                    expect=intent.expect,
                )
                return await self._versions.replace(bucket, key, seen, content, condition)
        except Conflict as conflict:
            raise NoSuchBucket(bucket) from conflict

    async def delete(
        self,
        bucket: str,
        key: str,
        condition: Condition | None = None,
        version_id: str = "",
        guard: Guard | None = None,
    ) -> Deletion:
        """
        Remove an object, or a version.
        """
        if version_id:
            return await self._removals.remove_version(bucket, key, version_id, condition, guard)
        return await self._removals.remove(bucket, key, condition, guard)

    async def change_version(
        self, bucket: str, key: str, version_id: str, change: Change
    ) -> ObjectInfo:
        """
        Replace tags and lock of a version.
        """
        return await self._amendments.amend(bucket, key, version_id, change)

    def head(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> Coroutine[Any, Any, ObjectInfo]:
        """
        Tell a version of an object.
        """
        return self._reading.head(bucket, key, customer_key, version_id)

    def open(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> Coroutine[Any, Any, IOpenObject]:
        """
        Pin a version of an object.
        """
        return self._reading.open(bucket, key, customer_key, version_id)

    async def list(self, bucket: str, query: ListQuery, outline: Outline | None = None) -> Listing:
        """
        One page of the current objects.
        """
        space = (await self._buckets.see(bucket, ())).space
        found = await page(scanning(self._index, space, OBJECTS), query)
        return Listing(
            tuple(
                [listed(bucket, key.decode(), value, outline)[0] for key, value in found.entries]
            ),
            tuple(group.decode() for group in found.groups),
            None if found.next is None else found.next.decode(),
        )

    async def list_versions(
        self, bucket: str, query: VersionQuery, outline: Outline | None = None
    ) -> VersionListing:
        """
        One page of all versions.
        """
        space = (await self._buckets.see(bucket, ())).space
        return await list_versions(self._index, bucket, space, query, outline)

    async def create_upload(
        self,
        bucket: str,
        key: str,
        metadata: ObjectMetadata,
        checksum: str = "",
        encryption: EncryptionRequest | None = None,
    ) -> UploadInfo:
        """
        Begin an upload in parts.
        """
        if encryption is not None:
            raise KMSNotConfigured()
        return await self._uploads.create(bucket, key, metadata, checksum)

    async def upload(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Look up an unfinished upload.
        """
        return await self._uploads.info(bucket, key, upload_id)

    async def put_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: IBodySource,
        describe: Describe,
        customer_key: CustomerKey | None = None,
    ) -> PartInfo:
        """
        Store one part.
        """
        try:
            return await self._uploads.put_part(
                bucket,
                key,
                upload_id,
                number,
                body=body,
                describe=describe,
                customer_key=customer_key,
            )
        finally:
            body.close()

    async def parts(
        self, bucket: str, key: str, upload_id: str, after: int, limit: int
    ) -> Sequence[PartInfo]:
        """
        Some parts of an upload.
        """
        return await self._uploads.parts(bucket, key, upload_id, after, limit)

    async def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        request: bytes,
        assemble: Assemble,
        condition: Condition | None = None,
        customer_key: CustomerKey | None = None,
    ) -> ObjectInfo:
        """
        Make the object of an upload current.
        """
        return await self._endings.complete(
            bucket,
            key,
            upload_id,
            request,
            assemble=assemble,
            condition=condition,
            customer_key=customer_key,
        )

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """
        End an upload and remove its parts.
        """
        await self._endings.abort(bucket, key, upload_id)

    async def change_upload(
        self, bucket: str, key: str, upload_id: str, change: UploadChange
    ) -> UploadInfo:
        """
        Replace the metadata of an upload.
        """
        return await self._upload_amendments.amend(bucket, key, upload_id, change)

    async def open_part(self, bucket: str, key: str, upload_id: str, number: int) -> IOpenObject:
        """
        Pin a part of an upload.
        """
        return await self._upload_amendments.open_part(bucket, key, upload_id, number)

    async def uploads(self, bucket: str, query: UploadQuery) -> UploadListing:
        """
        One page of the unfinished uploads.
        """
        return await self._uploads.list(bucket, query)

    def _now(self) -> int:
        return int(self._clock.seconds() * 1e9)

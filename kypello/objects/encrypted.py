# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Encryption as a wrapper around a store.

The store below keeps DARE streams with opaque metadata; above the wrapper sizes, ranges,
ETags and metadata are those of the plaintext.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import define, evolve, field
from zope.interface import implementer

from kypello.crypto import dare
from kypello.crypto.metadata import is_encrypted
from kypello.crypto.randomness import Random
from kypello.crypto.sse import encryption_for
from kypello.interfaces import (
    Assemble,
    Change,
    Condition,
    Describe,
    Guard,
    IBodySource,
    IObjectStore,
    IOpenObject,
    Outline,
)
from kypello.model import (
    BucketInfo,
    CustomerKey,
    Deletion,
    EncryptionRequest,
    ListedVersion,
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
from kypello.objects.access import Access, New, Opened, plainly, with_etag
from kypello.objects.bodies import CheckedSource, encrypting
from kypello.objects.bucketkeys import BucketKeys, guarded
from kypello.objects.changing import Resealing
from kypello.objects.conditions import checking, guarding, known_object
from kypello.objects.datakeys import DataKeys
from kypello.objects.layers import content_size
from kypello.objects.metadata import MetadataKey
from kypello.objects.multipart import EncryptedUploads
from kypello.objects.objectkeys import READING, ObjectKeys
from kypello.objects.reading import EncryptedObject
from kypello.objects.recentobjects import RecentObjects
from kypello.objects.recentparts import RecentParts
from kypello.objects.shown import OpenedObject, listed_object, object_without_key, opened_object


@implementer(IObjectStore)
@define(eq=False)
class EncryptedStore:
    """
    A store that encrypts what should be encrypted before it reaches the store below.

    Which encryption applies: what the client asks for, else what the bucket is set to, else,
    with *auto_encryption*, SSE-S3.  An encrypted object can be listed whatever happens to its
    keys: if its metadata cannot be opened it shows the size that its packages tell and an
    opaque ETag.  HEAD and reading raise what is wrong instead.

    Objects with a key of their client need no KMS at all.  A listing, and a condition, sees
    size, ETag and tags of them and nothing else.

    :ivar _keys: ``None`` without a KMS: plain objects pass, encryption with its keys is
        refused, and so are objects that are encrypted so.
    """

    _store: IObjectStore
    _keys: DataKeys | None
    _random: Random
    _auto_encryption: bool = False
    _bucket_keys: BucketKeys | None = field(init=False)
    _access: Access = field(init=False)
    _recent: RecentParts = field(init=False, factory=RecentParts)
    _known: RecentObjects = field(init=False, factory=RecentObjects)
    _uploads: EncryptedUploads = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        No metadata key is open yet.
        """
        self._bucket_keys = (
            None if self._keys is None else BucketKeys(self._store, self._keys, self._random)
        )
        object_keys = ObjectKeys(self._keys, self._random)
        self._access = Access(self._store, object_keys, self._bucket_keys)
        self._uploads = EncryptedUploads(self._store, self._access, self._random)

    async def create_bucket(self, name: str, settings: Mapping[str, bytes]) -> BucketInfo:
        """
        Make an empty bucket, whatever metadata key *settings* name.
        """
        return await self._store.create_bucket(name, guarded({}, settings))

    async def delete_bucket(self, name: str) -> None:
        """
        Remove an empty bucket and with it its metadata key.
        """
        await self._store.delete_bucket(name)
        if self._bucket_keys is not None:
            self._bucket_keys.forget(name)

    def bucket(self, name: str) -> Coroutine[Any, Any, BucketInfo]:
        """
        Look up one bucket.
        """
        # Every request asks several times: there is no coroutine more than need be.
        return self._store.bucket(name)

    async def buckets(self) -> Sequence[BucketInfo]:
        """
        All buckets.
        """
        return await self._store.buckets()

    async def change_bucket(
        self, name: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> BucketInfo:
        """
        Replace the settings of a bucket, but for its metadata key.
        """
        return await self._store.change_bucket(
            name, lambda settings: guarded(settings, change(settings))
        )

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
        Store an object, encrypted if need be.

        :param describe: The ETag that it gives counts for plain objects and SSE-S3 only; for
            others it need compute none.
        :raises KypelloError: As :meth:`IObjectStore.put`; what the KMS raises; and
            :class:`KMSNotConfigured`; all of these before the body is read.
        """
        try:
            info = await self._store.bucket(bucket)
            wanted = self._encryption(encryption, info)
            body = CheckedSource(body, partial(self._access.see_accepted, info, wanted))
            if wanted is not None:
                new = await self._access.begin(info, key, wanted)
                return await self._put_encrypted(info, key, body, describe, condition, new)
            checked = await self._checked(bucket, condition)
            return await self._store.put(
                bucket, key, body, lambda size: plainly(describe(size)), None, checked
            )
        finally:
            body.close()

    async def head(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> ObjectInfo:
        """
        Tell a version without a call of the KMS, once the key of the bucket is open.

        :raises KMSUnavailable:
        :raises KMSNotConfigured: The object is encrypted with a key of the KMS.
        :raises NotAuthentic: Its metadata is not what was written.
        :raises Refused: As :meth:`IObjectStore.head`.
        """
        stored = await self._store.head(bucket, key, None, version_id)
        opened = await self._opened(stored, customer_key)
        return stored if opened is None else opened.shown.info

    async def open(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> IOpenObject:
        """
        Pin a version; its content is decrypted as it is read.

        :raises KypelloError: As :meth:`head`.
        """
        below = await self._store.open(bucket, key, None, version_id)
        try:
            opened = await self._opened(below.info, customer_key)
            if opened is None:
                return below
            return EncryptedObject(opened.shown, below, opened.object_key)
        except BaseException:
            below.close()
            raise

    async def delete(
        self,
        bucket: str,
        key: str,
        condition: Condition | None = None,
        version_id: str = "",
        guard: Guard | None = None,
    ) -> Deletion:
        """
        Remove an object, or a version; without condition no key is needed.
        """
        checked = await self._checked(bucket, condition)
        if guard is not None:
            guard = guarding(guard, (await self._access.try_bucket_key(bucket))[0])
        return await self._store.delete(bucket, key, checked, version_id, guard)

    async def change_version(
        self, bucket: str, key: str, version_id: str, change: Change
    ) -> ObjectInfo:
        """
        Replace tags and lock of a version, whose metadata are sealed anew if need be.

        :raises KypelloError: As :meth:`head`; but no key of a client is needed.
        """
        bucket_key = await self._access.try_bucket_key(bucket)
        changing = Resealing(change, self._random, *bucket_key)
        stored = await self._store.change_version(bucket, key, version_id, changing)
        return known_object(stored, *bucket_key)

    async def list(self, bucket: str, query: ListQuery, outline: Outline | None = None) -> Listing:
        """
        One page of the current objects, with at most one call of the KMS.
        """
        if query.brief:
            outline = self._access.outlines(bucket)
        listing = await self._store.list(bucket, query, outline)
        objects = await self._access.listed(
            bucket, listing.objects, listed_object, object_without_key
        )
        return evolve(listing, objects=objects)

    async def list_versions(
        self, bucket: str, query: VersionQuery, outline: Outline | None = None
    ) -> VersionListing:
        """
        One page of all versions, with at most one call of the KMS.
        """
        if query.brief:
            outline = self._access.outlines(bucket)
        listing = await self._store.list_versions(bucket, query, outline)
        infos = await self._access.listed(
            bucket, [each.info for each in listing.versions], listed_object, object_without_key
        )
        versions = [
            ListedVersion(info, each.latest, each.marker)
            for info, each in zip(infos, listing.versions, strict=True)
        ]
        return evolve(listing, versions=tuple(versions))

    async def create_upload(
        self,
        bucket: str,
        key: str,
        metadata: ObjectMetadata,
        checksum: str = "",
        encryption: EncryptionRequest | None = None,
    ) -> UploadInfo:
        """
        Begin an upload whose parts are encrypted if need be.

        :raises KypelloError: As :meth:`put`.
        """
        info = await self._store.bucket(bucket)
        wanted = self._encryption(encryption, info)
        if wanted is not None:
            return await self._uploads.create(info, key, metadata, checksum, wanted)
        return await self._store.create_upload(bucket, key, plainly(metadata), checksum)

    async def upload(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Look up an unfinished upload.

        Of one with a key of its client only tags and storage class can be told.

        :raises KypelloError: As :meth:`head`.
        """
        return await self._uploads.upload(bucket, key, upload_id)

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
        Store one part, encrypted as the upload says.

        :param describe: As in :meth:`put`.
        :raises KypelloError: As :meth:`head`.
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
        The first *limit* parts with numbers above *after*.

        :raises KypelloError: As :meth:`head`; but no key of a client is needed.
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

        Of an upload with a key of its client, which does not come along, *assemble* sees no
        more than :meth:`upload` and :meth:`parts` tell, and may only choose parts.

        :raises Refused: The key is wrong, or missing where checksums need it.
        :raises KypelloError: As :meth:`IObjectStore.complete_upload` and :meth:`head`.
        """
        return await self._uploads.complete(
            bucket,
            key,
            upload_id,
            request,
            assemble=assemble,
            condition=await self._checked(bucket, condition),
            customer_key=customer_key,
        )

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """
        End an upload; no key is needed.
        """
        await self._store.abort_upload(bucket, key, upload_id)

    async def uploads(self, bucket: str, query: UploadQuery) -> UploadListing:
        """
        One page of the unfinished uploads, with at most one call of the KMS.
        """
        return await self._uploads.list(bucket, query)

    def _encryption(
        self, asked: EncryptionRequest | None, info: BucketInfo
    ) -> EncryptionRequest | None:
        return encryption_for(asked, info.settings, self._auto_encryption, self._access.default_key)

    async def _opened(
        self, stored: ObjectInfo, customer_key: CustomerKey | None
    ) -> Opened[OpenedObject] | None:
        """
        Open an object; ``None`` for one that is not encrypted, nor taken to be.
        """
        if customer_key is not None:
            return await self._access.open(stored, self._open, customer_key, READING)
        known = self._known.get(stored)
        if known is not None and self._access.is_current(known, stored.bucket):
            return known
        if not is_encrypted(stored.metadata.internal):
            return None
        opened = await self._access.open(stored, self._open, None, READING)
        self._known.put(stored, opened)
        return opened

    def _open(self, metadata_key: MetadataKey, stored: ObjectInfo) -> OpenedObject:
        return opened_object(metadata_key, stored, self._recent)

    async def _put_encrypted(
        self,
        info: BucketInfo,
        key: str,
        body: IBodySource,
        describe: Describe,
        condition: Condition | None,
        new: New,
    ) -> ObjectInfo:
        random, metadata_key, bucket = self._random, new.metadata_key, info.name
        described: list[tuple[int, ObjectMetadata]] = []

        def describe_sealed(stored_size: int) -> ObjectMetadata:
            """
            Describe the plaintext, and seal that.
            """
            size = content_size(stored_size, new.entries)
            metadata = new.entered(with_etag(describe(size), new.entries, random))
            described.append((size, metadata_key.shown(metadata)))
            return metadata_key.seal(key, metadata, size, random)

        packages = encrypting(body, new.object_key, random(dare.NONCE_SIZE))
        checked = await self._checked(bucket, condition)
        stored = await self._store.put(bucket, key, packages, describe_sealed, None, checked)
        size, shown = described[-1]
        return ObjectInfo(bucket, key, stored.version_id, size, stored.modified, shown)

    async def _checked(self, bucket: str, condition: Condition | None) -> Condition | None:
        if condition is None:
            return None
        return checking(condition, *await self._access.try_bucket_key(bucket))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Encryption as a wrapper around a store.

The store below keeps DARE streams with opaque metadata; above the wrapper sizes, ranges,
ETags and metadata are those of the plaintext.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from attrs import define, evolve, field
from twisted.logger import Logger
from zope.interface import implementer

from kypello.crypto import dare
from kypello.crypto.keys import (
    Domain,
    generate_object_key,
    object_path,
    open_object_key,
    seal_object_key,
)
from kypello.crypto.metadata import KeyRecord, is_encrypted, read_entries, write_entries
from kypello.crypto.randomness import Random
from kypello.crypto.sse import SETTING, encryption_for
from kypello.errors import (
    KMSNotConfigured,
    KMSUnavailable,
    KypelloError,
    NoSuchBucket,
    NotAuthentic,
)
from kypello.interfaces import Condition, Describe, IBodySource, IObjectStore, IOpenObject
from kypello.model import (
    BucketInfo,
    ByteRange,
    EncryptionRequest,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
)
from kypello.objects.bodies import DecryptingSource, EncryptingSource
from kypello.objects.bucketkeys import SETTING as METADATA_KEY
from kypello.objects.bucketkeys import BucketKeys, guarded
from kypello.objects.datakeys import DataKeys, data_key_context
from kypello.objects.metadata import MetadataKey, opaque_metadata


@implementer(IObjectStore)
@define(eq=False)
class EncryptedStore:
    """
    A store that encrypts what should be encrypted before it reaches the store below.

    Which encryption applies: what the client asks for, else what the bucket is set to, else,
    with *auto_encryption*, SSE-S3.  An encrypted object can be listed whatever happens to its
    keys: if its metadata cannot be opened it shows the size that its packages tell and an
    opaque ETag.  HEAD and reading raise what is wrong instead.

    :ivar _keys: ``None`` without a KMS: plain objects pass, encryption is refused, and so are
        encrypted objects.
    """

    _store: IObjectStore
    _keys: DataKeys | None
    _random: Random
    _auto_encryption: bool = False
    _bucket_keys: BucketKeys | None = field(init=False)
    _log: Logger = field(init=False, factory=Logger)

    def __attrs_post_init__(self) -> None:
        """
        No metadata key is open yet.
        """
        self._bucket_keys = None if self._keys is None else BucketKeys(self._store, self._keys)

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

    async def bucket(self, name: str) -> BucketInfo:
        """
        Look up one bucket.
        """
        return await self._store.bucket(name)

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

        :raises KypelloError: As :meth:`IObjectStore.put`; what the KMS raises; and
            :class:`KMSNotConfigured`; all of these before the body is read.
        """
        try:
            info = await self._store.bucket(bucket)
            setting = info.settings.get(SETTING)
            if encryption_for(encryption, setting, self._auto_encryption) is not None:
                return await self._put_encrypted(info, key, body, describe, condition)
            checked = await self._checked(info, condition)
            return await self._store.put(bucket, key, body, _plainly(describe), None, checked)
        finally:
            body.close()

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """
        Tell an object without a call of the KMS, once the key of the bucket is open.

        :raises KMSUnavailable:
        :raises KMSNotConfigured: The object is encrypted.
        :raises NotAuthentic: Its metadata is not what was written.
        """
        return await self._plain(await self._store.head(bucket, key))

    async def open(self, bucket: str, key: str) -> IOpenObject:
        """
        Pin an object; its content is decrypted as it is read.

        :raises KypelloError: As :meth:`head`.
        """
        below = await self._store.open(bucket, key)
        try:
            if not is_encrypted(below.info.metadata.internal):
                return below
            return _EncryptedObject(await self._plain(below.info), below, self._configured()[0])
        except BaseException:
            below.close()
            raise

    async def delete(self, bucket: str, key: str, condition: Condition | None = None) -> None:
        """
        Remove an object; without condition no key is needed.
        """
        if condition is not None:
            condition = await self._checked(await self._store.bucket(bucket), condition)
        await self._store.delete(bucket, key, condition)

    async def list(self, bucket: str, query: ListQuery) -> Listing:
        """
        One page of the current objects, with at most one call of the KMS.
        """
        listing = await self._store.list(bucket, query)
        if not any(is_encrypted(info.metadata.internal) for info in listing.objects):
            return listing
        try:
            metadata_key = await self._metadata_key(await self._store.bucket(bucket))
        except NoSuchBucket:
            raise
        except KypelloError as error:
            self._log.warn(
                "listing {bucket} without its metadata key: {error}", bucket=bucket, error=error
            )
            metadata_key = None
        return evolve(
            listing, objects=tuple(self._shown(metadata_key, info) for info in listing.objects)
        )

    async def _put_encrypted(
        self,
        info: BucketInfo,
        key: str,
        body: IBodySource,
        describe: Describe,
        condition: Condition | None,
    ) -> ObjectInfo:
        keys, bucket_keys = self._configured()
        random = self._random
        metadata_key = await bucket_keys.make(info)
        data_key = await keys.for_object(info.name, key)
        external = data_key.key
        object_key = generate_object_key(external.plaintext, random)
        sealed = seal_object_key(
            external.plaintext, object_key, Domain.SSE_S3, object_path(info.name, key), random
        )
        record = KeyRecord(
            sealed, external.key_name, external.sealed, bucket_key=data_key.bucket_key
        )
        entries = write_entries(record)

        def describe_sealed(stored_size: int) -> ObjectMetadata:
            """
            Describe the plaintext, and seal that.
            """
            size = dare.plain_size(stored_size)
            return metadata_key.seal(key, evolve(describe(size), internal=entries), size, random)

        stored = await self._store.put(
            info.name,
            key,
            EncryptingSource(body, dare.Encoder(object_key, random(dare.NONCE_SIZE))),
            describe_sealed,
            None,
            None if condition is None else _opening(condition, metadata_key),
        )
        return _opened(metadata_key, stored)

    async def _checked(self, info: BucketInfo, condition: Condition | None) -> Condition | None:
        if condition is None:
            return None
        # An object that is not encrypted can be checked without the key.
        try:
            return _opening(condition, await self._metadata_key(info))
        except KypelloError as error:
            return _opening(condition, None, error)

    async def _metadata_key(self, info: BucketInfo) -> MetadataKey | None:
        return await self._configured()[1].key(info) if METADATA_KEY in info.settings else None

    async def _plain(self, stored: ObjectInfo) -> ObjectInfo:
        if not is_encrypted(stored.metadata.internal):
            return stored
        bucket_keys = self._configured()[1]
        metadata_key = bucket_keys.at_hand(stored.bucket)
        if metadata_key is not None:
            # When it does not open, this may be the key of an earlier bucket of the name.
            with suppress(NotAuthentic):
                return _opened(metadata_key, stored)
        metadata_key = await bucket_keys.key(await self._store.bucket(stored.bucket))
        if metadata_key is None:
            raise NotAuthentic("metadata")
        return _opened(metadata_key, stored)

    def _shown(self, metadata_key: MetadataKey | None, stored: ObjectInfo) -> ObjectInfo:
        if not is_encrypted(stored.metadata.internal):
            return stored
        if metadata_key is not None:
            try:
                return _opened(metadata_key, stored)
            except NotAuthentic as error:
                self._log.warn(
                    "{bucket}/{key} cannot be opened: {error}",
                    bucket=stored.bucket,
                    key=stored.key,
                    error=error,
                )
        try:
            size = dare.plain_size(stored.size)
        except NotAuthentic:
            size = stored.size
        return evolve(stored, size=size, metadata=opaque_metadata(stored.metadata))

    def _configured(self) -> tuple[DataKeys, BucketKeys]:
        if self._keys is None or self._bucket_keys is None:
            raise KMSNotConfigured()
        return self._keys, self._bucket_keys


@implementer(IOpenObject)
@define(eq=False)
class _EncryptedObject:
    """
    An encrypted object, pinned.

    :ivar info: As the client knows it.
    :ivar _below: As the store keeps it.
    """

    info: ObjectInfo
    _below: IOpenObject
    _keys: DataKeys

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Decrypt the packages that hold the range.
        """
        info = self.info
        if not info.size:
            return await self._below.read(None)
        record = read_entries(self._below.info.metadata.internal)
        if (
            record.object_key.domain is not Domain.SSE_S3
            or record.key_name is None
            or record.data_key is None
            or record.multipart
        ):
            raise NotAuthentic("metadata: not an encryption that was written here")
        context = data_key_context(info.bucket, info.key, record.bucket_key)
        external = await self._keys.open(record.key_name, record.data_key, context)
        object_key = open_object_key(
            external, record.object_key, object_path(info.bucket, info.key)
        )
        plain = ByteRange(0, info.size) if wanted is None else wanted
        found = dare.package_range(plain, info.size)
        decoder = dare.Decoder(object_key, found.sequence, to_end=found.to_end)
        packages = await self._below.read(None if wanted is None else found.encrypted)
        return DecryptingSource(packages, decoder, found.skip, plain.size)

    def close(self) -> None:
        """
        Release the pin.
        """
        self._below.close()


def _opened(metadata_key: MetadataKey, stored: ObjectInfo) -> ObjectInfo:
    opened = metadata_key.open(stored.key, stored.metadata)
    if dare.encrypted_size(opened.size) != stored.size:
        raise NotAuthentic("size")
    # Written out because a listing does this a thousand times: evolve() is slow.
    return ObjectInfo(
        stored.bucket,
        stored.key,
        stored.version_id,
        opened.size,
        stored.modified,
        opened.metadata,
        stored.parts,
    )


def _opening(
    condition: Condition, metadata_key: MetadataKey | None, failure: KypelloError | None = None
) -> Condition:
    def opening(current: ObjectInfo | None) -> None:
        """
        Check *condition* against what the client knows of the current object.
        """
        if current is not None and is_encrypted(current.metadata.internal):
            if metadata_key is None:
                raise failure or KMSUnavailable("the metadata key was made a moment ago", 1.0)
            current = _opened(metadata_key, current)
        condition(current)

    return opening


def _plainly(describe: Describe) -> Describe:
    # What is known of an encrypted object may have been taken over from there.
    return lambda size: evolve(describe(size), sealing=None, internal={}, sealed=b"")

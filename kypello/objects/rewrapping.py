# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Keys of objects, sealed anew without touching content.

The object key and the IV stay, so that all that is bound to them stays readable: content, parts,
and what was sealed of them.  What changes is what seals the object key, and with it how the client
knows the encryption, which is sealed, too.  What others change meanwhile is not lost: all is made
of what is there in the instant of the commit.
"""

from collections.abc import Mapping

from attrs import define, evolve, field, frozen
from zope.interface import implementer

from kypello.crypto.dare import StreamKey
from kypello.crypto.metadata import is_dual, is_encrypted
from kypello.crypto.randomness import Random
from kypello.crypto.sse import check_accepted
from kypello.errors import KMSNotConfigured, KypelloError, Refused, StorageFailed
from kypello.interfaces import Choose, ChooseUpload, IInnerStore, IRewrapping
from kypello.model import (
    DSSE,
    SSE_C,
    CustomerKey,
    EncryptionRequest,
    ObjectInfo,
    ObjectMetadata,
    Sealing,
    UploadInfo,
)
from kypello.objects.access import Access, is_customers
from kypello.objects.bucketkeys import BucketKeys, renewal_of
from kypello.objects.conditions import known_object, needed_key
from kypello.objects.datakeys import DataKeys
from kypello.objects.metadata import MetadataKey
from kypello.objects.objectkeys import READING, ObjectKeys, open_with_customer_key
from kypello.objects.shown import opened_upload, upload_without_key

#: How often it is tried when others write the same version.
_ATTEMPTS = 16


class _Changed(Exception):
    """
    The version has another key by now, or shall have another encryption.
    """


@implementer(IRewrapping)
@define(eq=False)
class Rewrapping:
    """
    Seals keys of objects, and of their metadata, anew in a store that holds them encrypted.

    :ivar _store: The one below the encryption.
    :ivar _keys: ``None`` without a KMS: only keys of clients can be exchanged.
    """

    _store: IInnerStore
    _keys: DataKeys | None
    _random: Random
    _bucket_keys: BucketKeys | None = field(init=False)
    _object_keys: ObjectKeys = field(init=False)
    _access: Access = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        No key is open yet.
        """
        self._bucket_keys = (
            None if self._keys is None else BucketKeys(self._store, self._keys, self._random)
        )
        self._object_keys = ObjectKeys(self._keys, self._random)
        self._access = Access(self._store, self._object_keys, self._bucket_keys)

    async def rewrap(
        self,
        bucket: str,
        key: str,
        version_id: str,
        choose: Choose,
        customer_key: CustomerKey | None = None,
    ) -> ObjectInfo:
        """
        Seal the key of a version anew.

        :raises StorageFailed: Others write it all the time.
        """
        for _ in range(_ATTEMPTS):
            stored = await self._store.head(bucket, key, None, version_id)
            metadata_key, failure = await self._access.try_bucket_key(bucket)
            known = known_object(stored, metadata_key, failure)
            wanted = choose(known)
            if wanted is None:
                return known
            entries = await self._rewrapped(stored, wanted, customer_key)
            change = _Change(
                stored.metadata.internal,
                entries,
                wanted,
                choose,
                self._random,
                metadata_key,
                failure,
            )
            try:
                changed = await self._store.change_version(bucket, key, version_id, change)
            except _Changed:
                continue
            return known_object(changed, metadata_key, failure)
        raise StorageFailed(f"too many writers of {bucket}/{key} at once")

    async def rewrap_upload(
        self, bucket: str, key: str, upload_id: str, choose: ChooseUpload
    ) -> UploadInfo:
        """
        Seal the key of an unfinished upload anew.

        :raises StorageFailed: Others change it all the time.
        """
        for _ in range(_ATTEMPTS):
            stored = await self._store.upload(bucket, key, upload_id)
            metadata_key, failure = await self._access.try_bucket_key(bucket)
            known = _known_upload(stored, metadata_key, failure)
            wanted = choose(known)
            if wanted is None:
                return known
            entries = await self._rewrapped(stored, wanted, None)
            key_of_bucket = needed_key(metadata_key, failure)
            change = _UploadChange(stored, entries, wanted, self._random, key_of_bucket)
            try:
                changed = await self._store.change_upload(bucket, key, upload_id, change)
            except _Changed:
                continue
            return opened_upload(key_of_bucket, changed)
        raise StorageFailed(f"too many changes of the upload {bucket}/{key} at once")

    async def master_key(self, bucket: str) -> str:
        """
        The name of the master key that seals the metadata key of a bucket.
        """
        info = await self._store.bucket(bucket)
        return "" if self._bucket_keys is None else self._bucket_keys.master_key(info)

    async def rewrap_bucket(self, bucket: str, key_name: str) -> None:
        """
        Seal the metadata key of a bucket anew.

        :raises KMSNotConfigured:
        """
        if self._bucket_keys is None:
            raise KMSNotConfigured()
        await self._bucket_keys.rewrap(await self._store.bucket(bucket), key_name)

    async def renew(self, bucket: str) -> None:
        """
        Have new data keys used for new objects of a bucket, by all workers.
        """
        if self._bucket_keys is not None:
            await self._bucket_keys.renew(bucket)

    async def _rewrapped(
        self,
        stored: ObjectInfo | UploadInfo,
        wanted: EncryptionRequest,
        customer_key: CustomerKey | None,
    ) -> Mapping[str, str]:
        """
        The entries that a version, or an upload, gets.

        :raises Refused: The bucket requires another encryption; it is not encrypted; or who keeps
            its key would be another, which its metadata do not survive; or its content would have
            to be in another number of layers.
        """
        info = await self._store.bucket(stored.bucket)
        check_accepted(wanted, info.settings, self._access.default_key)
        bucket, key, entries = stored.bucket, stored.key, stored.metadata.internal
        customers = is_customers(entries)
        if (
            not is_encrypted(entries)
            or customers != (wanted.algorithm == SSE_C)
            or is_dual(entries) != (wanted.algorithm == DSSE)
        ):
            raise Refused("InvalidRequest", "The key of this object cannot be sealed in this way.")
        brought = open_with_customer_key(bucket, key, entries, customer_key, READING)
        if brought is None:
            object_key = await self._object_keys.opening(bucket, key, entries)()
        else:
            object_key = StreamKey(brought)
        return await self._object_keys.rewrap(
            bucket, key, entries, object_key, wanted, renewal=renewal_of(info)
        )


@frozen
class _Change:
    """
    Changes what a store keeps of a version whose key was sealed anew.

    :ivar _before: The entries whose key that is.
    :ivar _after: Those that it gets.
    :ivar _choose: Is asked again, of the version as it is then.
    """

    _before: Mapping[str, str]
    _after: Mapping[str, str]
    _wanted: EncryptionRequest
    _choose: Choose
    _random: Random
    _metadata_key: MetadataKey | None
    _failure: KypelloError | None

    def __call__(self, stored: ObjectInfo) -> ObjectMetadata:
        """
        Replace the entries, and what is sealed of the encryption.

        :raises _Changed: The version is another by now.
        :raises NotAuthentic: It is not what was written.
        """
        metadata = stored.metadata
        known = known_object(stored, self._metadata_key, self._failure)
        if metadata.internal != self._before or self._choose(known) != self._wanted:
            raise _Changed
        if is_customers(metadata.internal):
            # What is sealed is under a key that follows from the object key, and stays.
            return evolve(metadata, internal=self._after)
        key = needed_key(self._metadata_key, self._failure)
        opened = key.open(stored.key, metadata)
        sealing = Sealing(self._wanted.algorithm, self._wanted.key_id)
        whole = evolve(opened.metadata, internal=self._after, sealing=sealing)
        sealed = key.seal(stored.key, whole, opened.size, self._random, opened.parts)
        return evolve(metadata, internal=self._after, sealed=sealed.sealed)


def _known_upload(
    stored: UploadInfo, metadata_key: MetadataKey | None, failure: KypelloError | None
) -> UploadInfo:
    """
    An upload as its client knows it; with a key of the client, what can be told without.
    """
    entries = stored.metadata.internal
    if not is_encrypted(entries):
        return stored
    if is_customers(entries):
        return upload_without_key(stored)
    return opened_upload(needed_key(metadata_key, failure), stored)


@frozen
class _UploadChange:
    """
    Changes what a store keeps of an upload whose key was sealed anew.

    :ivar _before: The upload as it was then.
    :ivar _after: The entries that it gets.
    :ivar _metadata_key: Of the bucket.
    """

    _before: UploadInfo
    _after: Mapping[str, str]
    _wanted: EncryptionRequest
    _random: Random
    _metadata_key: MetadataKey

    def __call__(self, stored: UploadInfo) -> ObjectMetadata:
        """
        Replace the entries, and what is sealed of the encryption.

        :raises _Changed: The upload has another key by now.
        :raises NotAuthentic: It is not what was written.
        """
        if stored != self._before:
            raise _Changed
        key = self._metadata_key
        opened = key.open_upload(stored.key, stored.metadata)
        sealing = Sealing(self._wanted.algorithm, self._wanted.key_id)
        whole = evolve(opened.metadata, internal=self._after, sealing=sealing)
        return key.seal_upload(stored.key, whole, self._random)

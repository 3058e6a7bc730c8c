# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How one gets at encrypted objects and uploads: which keys open which, and who has them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from attrs import define, evolve, field
from twisted.logger import Logger

from kypello.crypto.dare import StreamKey
from kypello.crypto.keys import Domain
from kypello.crypto.metadata import domain_of, encryption_of, is_encrypted, write_entries
from kypello.crypto.randomness import Random
from kypello.crypto.required import check_required
from kypello.crypto.sse import check_accepted
from kypello.errors import KMSNotConfigured, KypelloError, NoSuchBucket, NotAuthentic
from kypello.interfaces import IObjectStore, Outline
from kypello.model import (
    BucketInfo,
    CustomerKey,
    EncryptionRequest,
    ObjectInfo,
    ObjectMetadata,
    Sealing,
    UploadInfo,
)
from kypello.objects.bucketkeys import SETTING, BucketKeys, renewal_of
from kypello.objects.metadata import CustomerMetadataKey, MetadataKey
from kypello.objects.objectkeys import ObjectKeys, Refusals, open_with_customer_key
from kypello.objects.outlines import Outlines

S = TypeVar("S", ObjectInfo, UploadInfo)
R = TypeVar("R")

#: Bytes of an ETag that tells nothing of the content.
_ETAG_SIZE = 16


@define
class New:
    """
    The keys of an object, or upload, that is being written.

    :ivar _sealing: As the client asked for it.
    """

    object_key: StreamKey = field(repr=False)
    metadata_key: MetadataKey
    entries: Mapping[str, str]
    _sealing: Sealing

    def entered(self, metadata: ObjectMetadata) -> ObjectMetadata:
        """
        *metadata* with how the object is encrypted, ready to be sealed.
        """
        # Written out because every write does this: evolve() is slow.
        return ObjectMetadata(
            metadata.etag,
            metadata.headers,
            metadata.user,
            metadata.checksums,
            metadata.checksum_type,
            metadata.tags,
            self._sealing,
            metadata.storage_class,
            self.entries,
            lock=metadata.lock,
        )


@define
class Opened(Generic[R]):
    """
    An object or upload that was opened.

    :ivar shown: As its client knows it.
    :ivar object_key: Gives its key, with a call of the KMS if need be.
    """

    shown: R
    metadata_key: MetadataKey
    object_key: Callable[[], Awaitable[StreamKey]] = field(repr=False)


@define(eq=False)
class Access:
    """
    The keys of objects and of their metadata, for those who write and read them.

    :ivar _bucket_keys: ``None`` without a KMS.
    """

    _store: IObjectStore
    _object_keys: ObjectKeys
    _bucket_keys: BucketKeys | None
    _log: Logger = field(init=False, factory=Logger)

    async def begin(
        self, info: BucketInfo, key: str, wanted: EncryptionRequest, *, multipart: bool = False
    ) -> New:
        """
        Make the keys of something new.

        :raises KypelloError: What the KMS raises; :class:`KMSNotConfigured`.
        :raises Refused: What the client gave is malformed.
        """
        made = await self._object_keys.make(
            info.name, key, wanted, multipart=multipart, renewal=renewal_of(info)
        )
        metadata_key: MetadataKey
        if wanted.customer_key is not None:
            metadata_key = CustomerMetadataKey.derive(
                info.name, made.key.secret, wanted.customer_key
            )
        else:
            metadata_key = await self._configured().make(info)
        sealing = Sealing(wanted.algorithm, wanted.key_id)
        return New(made.key, metadata_key, write_entries(made.record), sealing)

    async def open(
        self,
        stored: S,
        how: Callable[[MetadataKey, S], R],
        customer_key: CustomerKey | None,
        refusals: Refusals,
    ) -> Opened[R]:
        """
        Open something that is encrypted, or that a client believes to be.

        With a key of the KMS that needs no call of it, once the key of the bucket is open.

        :raises Refused: See :class:`Refusals`.
        :raises NotAuthentic: It is not what was written.
        :raises KypelloError: What the KMS raises; :class:`KMSNotConfigured`.
        """
        bucket, key, entries = stored.bucket, stored.key, stored.metadata.internal
        object_key = open_with_customer_key(bucket, key, entries, customer_key, refusals)
        if object_key is not None and customer_key is not None:
            metadata_key = CustomerMetadataKey.derive(bucket, object_key, customer_key)
            at_hand = partial(_at_hand, StreamKey(object_key))
            return Opened(how(metadata_key, stored), metadata_key, at_hand)
        bucket_keys = self._configured()
        opening = self._object_keys.opening(bucket, key, entries)
        recent = bucket_keys.at_hand(bucket)
        if recent is not None:
            # When it does not open, this may be the key of an earlier bucket of the name.
            with suppress(NotAuthentic):
                return Opened(how(recent, stored), recent, opening)
        current = await bucket_keys.key(await self._store.bucket(bucket))
        if current is None:
            raise NotAuthentic("metadata")
        return Opened(how(current, stored), current, opening)

    @property
    def default_key(self) -> str:
        """
        The master key that is used when none is named; empty without a KMS.
        """
        return self._object_keys.default_key

    async def see_accepted(self, info: BucketInfo, wanted: EncryptionRequest | None) -> None:
        """
        See that a bucket is still the one whose key is used, and not another of its name, and that
        it still accepts what is written.

        To be asked when the store has read everything: it has chosen the bucket by then, and stores
        in no other one.  What a bucket begins to require meanwhile holds, however long it took to
        read.

        :param wanted: The encryption that was chosen.
        :raises NoSuchBucket:
        :raises Refused: It requires another encryption.
        """
        current = await self._store.bucket(info.name)
        if current.created != info.created:
            raise NoSuchBucket(info.name)
        check_accepted(wanted, current.settings, self.default_key)

    async def see_upload_accepted(self, stored: UploadInfo) -> None:
        """
        See that a bucket accepts what belongs to an upload, which may have begun before it required
        anything.

        :raises NoSuchBucket:
        :raises Refused: It requires another encryption.
        """
        settings = (await self._store.bucket(stored.bucket)).settings
        check_required(settings, *encryption_of(stored.metadata.internal))

    def is_current(self, opened: Opened[R], bucket: str) -> bool:
        """
        Whether something was opened with the key that its bucket has now, as far as known.
        """
        keys = self._bucket_keys
        return keys is not None and keys.at_hand(bucket) is opened.metadata_key

    async def bucket_key(self, info: BucketInfo) -> MetadataKey | None:
        """
        The metadata key of a bucket; ``None`` when it needs none.

        :raises KypelloError: What the KMS raises; :class:`KMSNotConfigured`.
        """
        return await self._configured().key(info) if SETTING in info.settings else None

    async def try_bucket_key(self, bucket: str) -> tuple[MetadataKey | None, KypelloError | None]:
        """
        The metadata key of a bucket, or why it cannot be had: what is not encrypted can be looked
        at without it.

        :raises NoSuchBucket:
        """
        info = await self._store.bucket(bucket)
        try:
            return await self.bucket_key(info), None
        except KypelloError as error:
            return None, error

    def outlines(self, bucket: str) -> Outline | None:
        """
        Tells most of what a brief listing tells, when the metadata key of a bucket is open.
        """
        key = None if self._bucket_keys is None else self._bucket_keys.at_hand(bucket)
        return None if key is None else Outlines(bucket, key).tell

    async def listed(
        self,
        bucket: str,
        stored: Sequence[S],
        how: Callable[[MetadataKey, S], S],
        without_key: Callable[[S], S],
    ) -> tuple[S, ...]:
        """
        Open what can be opened of a listing, with at most one call of the KMS.

        :param without_key: Shows what the others tell without.
        :raises NoSuchBucket:
        """
        if not any(each.metadata.internal for each in stored):
            # All of it is plain, or was opened already.
            return tuple(stored)
        metadata_key = None
        if any(_is_by_kms(each.metadata.internal) for each in stored):
            try:
                metadata_key = await self.bucket_key(await self._store.bucket(bucket))
            except NoSuchBucket:
                raise
            except KypelloError as error:
                self._log.warn(
                    "listing {bucket} without its metadata key: {error}",
                    bucket=bucket,
                    error=error,
                )

        def shown(each: S) -> S:
            """
            Open one.
            """
            entries = each.metadata.internal
            domain = domain_of(entries)
            if domain is None and not is_encrypted(entries):
                return each
            if metadata_key is not None and domain is not Domain.SSE_C:
                try:
                    return how(metadata_key, each)
                except NotAuthentic as error:
                    self._log.warn(
                        "{bucket}/{key} cannot be opened: {error}",
                        bucket=bucket,
                        key=each.key,
                        error=error,
                    )
            return without_key(each)

        return tuple(map(shown, stored))

    def _configured(self) -> BucketKeys:
        if self._bucket_keys is None:
            raise KMSNotConfigured()
        return self._bucket_keys


def with_etag(
    metadata: ObjectMetadata, entries: Mapping[str, str], random: Random
) -> ObjectMetadata:
    """
    The metadata of new content with the ETag that its encryption gives it.

    Only with SSE-S3 it is the MD5 of the content, as it was described.  Otherwise it is random.
    """
    if domain_of(entries) is Domain.SSE_S3:
        return metadata
    return evolve(metadata, etag=random(_ETAG_SIZE).hex())


def plainly(metadata: ObjectMetadata) -> ObjectMetadata:
    """
    The metadata of something that is not encrypted.

    What is known of an encrypted object may have been taken over into it.
    """
    return evolve(metadata, sealing=None, internal={}, sealed=b"")


def is_customers(entries: Mapping[str, str]) -> bool:
    """
    Whether the client has the key.
    """
    return domain_of(entries) is Domain.SSE_C


def _is_by_kms(entries: Mapping[str, str]) -> bool:
    return is_encrypted(entries) and not is_customers(entries)


async def _at_hand(object_key: StreamKey) -> StreamKey:
    return object_key

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The contracts of a store, over the encrypting one, for each kind of encryption.
"""

import os
from collections.abc import Callable, Mapping, Sequence

from attrs import define, evolve, field
from twisted.internet.task import Clock
from zope.interface import implementer

from kypello.errors import Refused
from kypello.interfaces import (
    Assemble,
    Change,
    Condition,
    Describe,
    Guard,
    IBodySource,
    IObjectStore,
    IOpenObject,
)
from kypello.model import (
    DSSE,
    SSE_C,
    Assembly,
    BucketInfo,
    ByteRange,
    CustomerKey,
    Deletion,
    EncryptionRequest,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    Sealing,
    UploadInfo,
    UploadListing,
    UploadQuery,
    VersionListing,
    VersionQuery,
)
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from tests.cases import AsyncCase
from tests.contracts.locks import LocksContract
from tests.contracts.object_store import ObjectStoreContract
from tests.contracts.uploads import UploadsContract
from tests.contracts.versions import VersionsContract
from tests.objects.keyservice import MemoryKMS

_ETAG = "described-etag"


@implementer(IOpenObject)
@define(eq=False)
class _Open:
    """
    An open object, as the client below shows it.
    """

    info: ObjectInfo
    _opened: IOpenObject

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Read it.
        """
        return await self._opened.read(wanted)

    def close(self) -> None:
        """
        Close it.
        """
        self._opened.close()


@implementer(IObjectStore)
@define(eq=False)
class Client:
    """
    A store seen by a client that asks for a certain encryption in each of its calls.

    The contracts know ETags as they described them.  So the client takes those along, in a tag
    of an object and in a checksum of a part, and shows them in place of the opaque ones.

    What a store cannot tell without the client's key, where that is not given, the client
    remembers.

    :ivar _known: The metadata of what it stored; objects by key and time, uploads by id, and
        parts by ETag.
    """

    _store: IObjectStore
    _wanted: EncryptionRequest
    _known: dict[object, ObjectMetadata] = field(factory=dict)

    async def create_bucket(self, name: str, settings: Mapping[str, bytes]) -> BucketInfo:
        """
        As the store does.
        """
        return await self._store.create_bucket(name, settings)

    async def delete_bucket(self, name: str) -> None:
        """
        As the store does.
        """
        await self._store.delete_bucket(name)

    async def bucket(self, name: str) -> BucketInfo:
        """
        Without the setting that is not the client's.
        """
        return _own(await self._store.bucket(name))

    async def buckets(self) -> Sequence[BucketInfo]:
        """
        As the store does.
        """
        return [_own(info) for info in await self._store.buckets()]

    async def change_bucket(
        self, name: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> BucketInfo:
        """
        As the store does.
        """
        return _own(await self._store.change_bucket(name, change))

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
        made = await self._store.put(
            bucket,
            key,
            body,
            lambda size: _tagged(describe(size)),
            self._wanted,
            self._seeing(condition),
        )
        return self._shown(made)

    async def head(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> ObjectInfo:
        """
        Tell a version.
        """
        brought = customer_key or self._wanted.customer_key
        return self._shown(await self._store.head(bucket, key, brought, version_id))

    async def open(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> IOpenObject:
        """
        Open a version.
        """
        brought = customer_key or self._wanted.customer_key
        opened = await self._store.open(bucket, key, brought, version_id)
        return _Open(self._shown(opened.info), opened)

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
        seeing = self._seeing(condition), version_id, self._seeing(guard)
        return await self._store.delete(bucket, key, *seeing)

    async def change_version(
        self, bucket: str, key: str, version_id: str, change: Change
    ) -> ObjectInfo:
        """
        Change the tags of a version, but for the one that is not the contract's.
        """

        def changing(info: ObjectInfo) -> ObjectMetadata:
            """
            Take that one along.
            """
            changed = change(self._shown(info))
            own = {name: text for name, text in info.metadata.tags.items() if name == _ETAG}
            return evolve(changed, tags={**changed.tags, **own})

        made = await self._store.change_version(bucket, key, version_id, changing)
        brought = self._wanted.customer_key
        # What the store can tell without the key that it was stored with is told already.
        self._known.pop((made.key, made.modified), None)
        return self._shown(await self._store.head(bucket, key, brought, version_id))

    async def list(self, bucket: str, query: ListQuery) -> Listing:
        """
        List objects.
        """
        listing = await self._store.list(bucket, query)
        return evolve(listing, objects=tuple(map(self._shown, listing.objects)))

    async def list_versions(self, bucket: str, query: VersionQuery) -> VersionListing:
        """
        List versions.
        """
        listing = await self._store.list_versions(bucket, query)
        versions = tuple(
            each if each.marker else evolve(each, info=self._shown(each.info))
            for each in listing.versions
        )
        return evolve(listing, versions=versions)

    async def create_upload(
        self,
        bucket: str,
        key: str,
        metadata: ObjectMetadata,
        checksum: str = "",
        encryption: EncryptionRequest | None = None,
    ) -> UploadInfo:
        """
        Begin an upload.
        """
        made = await self._store.create_upload(bucket, key, metadata, checksum, self._wanted)
        return self._shown_upload(made)

    async def upload(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Tell an upload.
        """
        return self._shown_upload(await self._store.upload(bucket, key, upload_id))

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
        Store a part.
        """
        made = await self._store.put_part(
            bucket,
            key,
            upload_id,
            number,
            body,
            lambda size: _summed(describe(size)),
            customer_key or self._wanted.customer_key,
        )
        return self._shown_part(made)

    async def parts(
        self, bucket: str, key: str, upload_id: str, after: int, limit: int
    ) -> Sequence[PartInfo]:
        """
        Tell parts.
        """
        found = await self._store.parts(bucket, key, upload_id, after, limit)
        return tuple(map(self._shown_part, found))

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
        Make the object of an upload.
        """

        def assembling(upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
            """
            Show the ETags of the contract.
            """
            return assemble(upload, tuple(map(self._shown_part, parts)))

        made = await self._store.complete_upload(
            bucket,
            key,
            upload_id,
            request,
            assembling,
            self._seeing(condition),
            customer_key or self._wanted.customer_key,
        )
        return self._shown(made)

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """
        As the store does.
        """
        await self._store.abort_upload(bucket, key, upload_id)

    async def uploads(self, bucket: str, query: UploadQuery) -> UploadListing:
        """
        List uploads.
        """
        listing = await self._store.uploads(bucket, query)
        return evolve(listing, uploads=tuple(map(self._shown_upload, listing.uploads)))

    def _shown(self, info: ObjectInfo) -> ObjectInfo:
        metadata = self._complete((info.key, info.modified), info.metadata)
        tags = dict(metadata.tags)
        metadata = evolve(metadata, etag=tags.pop(_ETAG, info.etag), tags=tags)
        return evolve(info, metadata=metadata, parts=tuple(map(self._shown_part, info.parts)))

    def _shown_upload(self, upload: UploadInfo) -> UploadInfo:
        return evolve(upload, metadata=self._complete(upload.upload_id, upload.metadata))

    def _shown_part(self, part: PartInfo) -> PartInfo:
        metadata = part.metadata
        if metadata.checksums:
            self._known[part.etag] = metadata
        metadata = self._known.get(part.etag, metadata)
        checksums = dict(metadata.checksums)
        etag = checksums.pop(_ETAG, part.etag)
        return evolve(part, metadata=evolve(metadata, etag=etag, checksums=checksums))

    def _complete(self, where: object, metadata: ObjectMetadata) -> ObjectMetadata:
        if metadata.sealing == Sealing(SSE_C):
            return self._known.get(where, metadata)
        self._known[where] = metadata
        return metadata

    def _seeing(self, condition: Condition | None) -> Condition | None:
        if condition is None:
            return None
        return lambda current: condition(None if current is None else self._shown(current))


def _own(info: BucketInfo) -> BucketInfo:
    settings = {name: value for name, value in info.settings.items() if name != "metadata-key"}
    return evolve(info, settings=settings)


def _tagged(metadata: ObjectMetadata) -> ObjectMetadata:
    return evolve(metadata, tags={**metadata.tags, _ETAG: metadata.etag})


def _summed(metadata: ObjectMetadata) -> ObjectMetadata:
    return evolve(metadata, checksums={**metadata.checksums, _ETAG: metadata.etag})


class EncryptedContract(ObjectStoreContract, UploadsContract, VersionsContract, LocksContract):
    """
    All contracts with a certain encryption.
    """

    wanted = EncryptionRequest("AES256")

    async def make_store(self) -> IObjectStore:
        """
        An empty store.
        """
        below = LayoutStore(MemoryIndex(), MemoryBlobs(), Clock(), os.urandom)
        self.kms = MemoryKMS.with_default_key()
        store = EncryptedStore(below, DataKeys(self.kms, Clock()), os.urandom)
        return Client(store, self.wanted)


class PlainTests(ObjectStoreContract, UploadsContract, VersionsContract, LocksContract, AsyncCase):
    """
    What is not encrypted passes.
    """

    async def make_store(self) -> IObjectStore:
        """
        An empty store without a key service.
        """
        below = LayoutStore(MemoryIndex(), MemoryBlobs(), Clock(), os.urandom)
        return EncryptedStore(below, None, os.urandom)


class SSES3Tests(EncryptedContract, AsyncCase):
    """
    Keys of the server.
    """


class SSEKMSTests(EncryptedContract, AsyncCase):
    """
    Keys that clients name.
    """

    wanted = EncryptionRequest("aws:kms", "arn:aws:kms:my-key", {"project": "blue"})


class DSSETests(EncryptedContract, AsyncCase):
    """
    Two layers.
    """

    wanted = EncryptionRequest(DSSE, "alias/my-key", {"project": "blue"})


class SSECTests(EncryptedContract, AsyncCase):
    """
    Keys that clients bring.
    """

    wanted = EncryptionRequest(SSE_C, customer_key=CustomerKey(bytes(range(32)), "md5"))

    async def test_customer_key(self) -> None:
        """
        Another key than the one that an object was stored with is refused.
        """
        store = await self.with_bucket()
        await self.put(store, "k")
        for call in (store.head, store.open):
            error = await self.raises(Refused, call("b", "k", CustomerKey(b"k" * 32, "md5")))
            self.assertEqual(error.code, "AccessDenied")

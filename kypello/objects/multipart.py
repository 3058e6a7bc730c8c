# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Encrypted uploads in parts.

Each part is a DARE stream of its own, under a key that is derived from that of the object and
the part's number.  Its nonce is random: a part that is sent twice with different content must
not use one twice.  The object is bound to the number, size and nonce of each of its parts, so
none can be dropped, added, moved or exchanged, not even for an earlier one of its number.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from attrs import evolve, frozen

from kypello.crypto import dare
from kypello.crypto.keys import part_stream_key
from kypello.crypto.metadata import ACTUAL_SIZE, is_encrypted
from kypello.crypto.randomness import Random
from kypello.crypto.sse import no_customer_key
from kypello.errors import NoSuchUpload, NotAuthentic
from kypello.interfaces import (
    Assemble,
    Condition,
    Describe,
    IBodySource,
    IObjectStore,
    IOpenObject,
)
from kypello.model import (
    Assembly,
    BucketInfo,
    CustomerKey,
    EncryptionRequest,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    UploadListing,
    UploadQuery,
)
from kypello.objects.access import Access, Opened, is_customers, plainly, with_etag
from kypello.objects.bodies import encrypting, unmarked
from kypello.objects.layers import content_size
from kypello.objects.metadata import MetadataKey, OpenedPart, parts_digest
from kypello.objects.objectkeys import UPLOADING
from kypello.objects.reading import EncryptedObject
from kypello.objects.recentparts import Stream
from kypello.objects.shown import (
    OpenedObject,
    etag_of_parts,
    object_without_key,
    opened_object,
    opened_part,
    opened_upload,
    part_without_key,
    shown_part,
    upload_without_key,
)

P = TypeVar("P")


@frozen(eq=False)
class EncryptedUploads:
    """
    The uploads of a store, encrypted as each of them says.
    """

    _store: IObjectStore
    _access: Access
    _random: Random

    async def create(
        self,
        info: BucketInfo,
        key: str,
        metadata: ObjectMetadata,
        checksum: str,
        wanted: EncryptionRequest,
    ) -> UploadInfo:
        """
        Begin an encrypted upload.
        """
        new = await self._access.begin(info, key, wanted, multipart=True)
        sealed = new.metadata_key.seal_upload(key, new.entered(metadata), self._random)
        stored = await self._store.create_upload(info.name, key, sealed, checksum)
        return opened_upload(new.metadata_key, stored)

    async def upload(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Tell an upload; of one with a key of its client, what can be told without.
        """
        stored = await self._store.upload(bucket, key, upload_id)
        entries = stored.metadata.internal
        if not is_encrypted(entries):
            return stored
        if is_customers(entries):
            return upload_without_key(stored)
        return (await self._open(stored, None)).shown

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
        Store one part.  Who calls closes *body*.
        """
        stored = await self._store.upload(bucket, key, upload_id)
        await self._access.see_upload_accepted(stored)
        entries = stored.metadata.internal
        if customer_key is None and not is_encrypted(entries):
            return await self._store.put_part(
                bucket, key, upload_id, number, body, lambda size: plainly(describe(size))
            )
        upload = await self._open(stored, customer_key)
        metadata_key, random = upload.metadata_key, self._random
        nonce = random(dare.NONCE_SIZE)

        def describe_sealed(stored_size: int) -> ObjectMetadata:
            """
            Describe the plaintext, and seal that.
            """
            size = content_size(stored_size, entries)
            metadata = with_etag(describe(size), entries, random)
            part = OpenedPart(number, size, unmarked(nonce), metadata)
            return metadata_key.seal_part(key, entries, part, random)

        source = encrypting(body, part_stream_key(await upload.object_key(), number), nonce)
        made = await self._store.put_part(bucket, key, upload_id, number, source, describe_sealed)
        return shown_part(made, opened_part(metadata_key, stored, made))

    async def parts(
        self, bucket: str, key: str, upload_id: str, after: int, limit: int
    ) -> Sequence[PartInfo]:
        """
        Some parts; those with a key of their client have no checksums here.
        """
        stored = await self._store.upload(bucket, key, upload_id)
        parts = await self._store.parts(bucket, key, upload_id, after, limit)
        entries = stored.metadata.internal
        if not is_encrypted(entries):
            return parts
        if is_customers(entries):
            return tuple(part_without_key(part, entries) for part in parts)
        upload = await self._open(stored, None)

        def shown(part: PartInfo) -> PartInfo:
            """
            Open one if it can be opened; it can be sent again otherwise.
            """
            try:
                return shown_part(part, opened_part(upload.metadata_key, stored, part))
            except NotAuthentic:
                return part_without_key(part, entries)

        return tuple(map(shown, parts))

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
        Make the object of an upload.

        Without the key of its client what was sealed when the upload began is carried over.
        The ETag, which follows from those of the parts, binds the object to them then.

        :param condition: Given what the client knows.
        """
        try:
            stored = await self._store.upload(bucket, key, upload_id)
        except NoSuchUpload:
            # The store may know that it was completed; it asks nothing then.
            assembler: Assemble = _Gone(upload_id)
        else:
            await self._access.see_upload_accepted(stored)
            assembler = await self._assembler(stored, assemble, customer_key)
        made = await self._store.complete_upload(
            bucket, key, upload_id, request, assembler, condition
        )
        entries = made.metadata.internal
        if customer_key is None and not is_encrypted(entries):
            return made
        if customer_key is None and is_customers(entries):
            return object_without_key(made)
        return (await self._access.open(made, opened_object, customer_key, UPLOADING)).shown.info

    async def list(self, bucket: str, query: UploadQuery) -> UploadListing:
        """
        One page of the uploads.
        """
        listing = await self._store.uploads(bucket, query)
        uploads = await self._access.listed(
            bucket, listing.uploads, opened_upload, upload_without_key
        )
        return evolve(listing, uploads=uploads)

    async def _assembler(
        self, stored: UploadInfo, assemble: Assemble, customer_key: CustomerKey | None
    ) -> Assemble:
        entries = stored.metadata.internal
        if customer_key is None and not is_encrypted(entries):
            return _Plain(assemble)
        if customer_key is None and is_customers(entries):
            if stored.checksum:
                raise no_customer_key()
            return _CarryingOver(assemble)
        return _Sealing(
            assemble, (await self._open(stored, customer_key)).metadata_key, self._random
        )

    async def _open(
        self, stored: UploadInfo, customer_key: CustomerKey | None
    ) -> Opened[UploadInfo]:
        return await self._access.open(stored, opened_upload, customer_key, UPLOADING)


def open_part(opened: Opened[UploadInfo], stored: UploadInfo, below: IOpenObject) -> IOpenObject:
    """
    A part of an upload for reading: an object of its own, with the encryption of the upload.

    :param opened: The upload *stored*.
    :param below: The part as the store keeps it.
    :raises NotAuthentic: It is not what was written.
    """
    (part,) = below.info.parts
    known = opened_part(opened.metadata_key, stored, part)
    metadata = evolve(known.metadata, sealing=opened.shown.metadata.sealing)
    info = evolve(below.info, size=known.size, metadata=metadata, parts=())
    stream = Stream(known.size, known.number, known.nonce)
    return EncryptedObject(OpenedObject(info, (stream,)), below, opened.object_key)


@frozen
class _Gone:
    """
    Assembles nothing.
    """

    _upload_id: str

    def __call__(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Tell that there is no upload.
        """
        raise NoSuchUpload(self._upload_id)


@frozen
class _Plain:
    """
    Assembles an object that is not encrypted.
    """

    _assemble: Assemble

    def __call__(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Leave no trace of another encryption.
        """
        assembly = self._assemble(upload, parts)
        return evolve(assembly, metadata=plainly(assembly.metadata))


@frozen
class _Sealing:
    """
    Assembles an object whose metadata are sealed anew.
    """

    _assemble: Assemble
    _metadata_key: MetadataKey
    _random: Random

    def __call__(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Show what is plain, and seal what comes of it.
        """
        key = self._metadata_key
        shown = opened_upload(key, upload)
        opened = {part.number: opened_part(key, upload, part) for part in parts}
        assembly = self._assemble(
            shown, tuple(shown_part(part, opened[part.number]) for part in parts)
        )
        chosen = _chosen(opened, assembly)
        size = sum(part.size for part in chosen)
        metadata = evolve(
            assembly.metadata,
            internal=_entries(upload, size),
            sealing=shown.metadata.sealing,
        )
        sealed = key.seal(upload.key, metadata, size, self._random, parts_digest(chosen))
        return Assembly(assembly.numbers, sealed)


@frozen
class _CarryingOver:
    """
    Assembles an object whose metadata stay sealed, as only its client has the key.
    """

    _assemble: Assemble

    def __call__(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Show what can be told, and keep what was sealed.
        """
        shown = {part.number: part_without_key(part, upload.metadata.internal) for part in parts}
        assembly = self._assemble(upload_without_key(upload), tuple(shown.values()))
        chosen = _chosen(shown, assembly)
        size = sum(part.size for part in chosen)
        etag = etag_of_parts([part.etag for part in chosen])
        metadata = evolve(
            upload.metadata,
            etag=etag,
            internal=_entries(upload, size),
            lock=assembly.metadata.lock,
        )
        return Assembly(assembly.numbers, metadata)


def _entries(upload: UploadInfo, size: int) -> dict[str, str]:
    return {**upload.metadata.internal, ACTUAL_SIZE: str(size)}


def _chosen(parts: Mapping[int, P], assembly: Assembly) -> list[P]:
    try:
        return [parts[number] for number in assembly.numbers]
    except KeyError as error:
        raise ValueError("an object of parts that are not there") from error

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What clients gave with an encrypted object, sealed.

With a key of the KMS it is sealed under the metadata key of the bucket: one key per bucket
means that HEAD and listings need no call of the KMS per object.  With a key of the client it is
sealed under a key that is derived from that of the object, since the KMS must not matter then;
ETag and tags stay in clear, as they are shown and changed without the client's key.

What is sealed is bound to bucket, key and the random IV of the object, which binds the object
key in turn: none can be exchanged for that of another object or of another write.  What belongs
to an upload, and to each of its parts by number, is bound as such, to the IV of the upload; the
object that it becomes has the same IV.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec
from attrs import define, evolve, field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kypello.crypto.keys import Domain, derived_key
from kypello.crypto.metadata import IV, domain_of, shown_sealing
from kypello.crypto.randomness import Random
from kypello.errors import NotAuthentic
from kypello.model import SSE_C, CustomerKey, ObjectMetadata, Sealing

_NONCE_SIZE = 12
_TAG_SIZE = 16

# Where what is encrypted begins.
_START = 1 + _NONCE_SIZE

# The first byte of what is sealed: what it belongs to, and the format.
_OBJECT, _UPLOAD, _PART = b"\x01", b"\x02", b"\x03"


class SealedRecord(msgspec.Struct, array_like=True):
    """
    The plaintext for an object or upload.  Fields are only ever added at the end, with a
    default.

    :ivar size: Plain bytes of content: no stored object passes for a shorter one.
    :ivar key_id: How the client named the master key.
    :ivar parts: See :func:`parts_digest`; empty unless the content has parts.
    """

    size: int
    etag: str
    headers: Mapping[str, str]
    user: Mapping[str, str]
    checksums: Mapping[str, str]
    checksum_type: str
    tags: Mapping[str, str]
    key_id: str = ""
    parts: bytes = b""


class _PartRecord(msgspec.Struct, array_like=True):
    """
    The plaintext for a part.

    :ivar size: Plain bytes of content.
    :ivar nonce: Of its stream.
    """

    size: int
    nonce: bytes
    etag: str
    checksums: Mapping[str, str]
    checksum_type: str


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(SealedRecord)
_PART_DECODER = msgspec.msgpack.Decoder(_PartRecord)


@define
class OpenedMetadata:
    """
    The metadata of an encrypted object, or upload, as the client gave it.

    :ivar size: Plain bytes of content; 0 for an upload.
    :ivar parts: See :func:`parts_digest`; empty unless the content has parts that are bound.
    """

    size: int
    metadata: ObjectMetadata
    parts: bytes = b""


@frozen
class OpenedPart:
    """
    What is known of an encrypted part.

    :ivar size: Plain bytes of content.
    :ivar nonce: Of its stream: an earlier part of the same number has another.
    :ivar metadata: ETag and checksums, as the client knows them.
    """

    number: int
    size: int
    nonce: bytes
    metadata: ObjectMetadata


def parts_digest(parts: Iterable[OpenedPart]) -> bytes:
    """
    What binds an object to its parts, their order and their content.
    """
    listed = [(part.number, part.size, part.nonce) for part in parts]
    return sha256(_ENCODER.encode(listed)).digest()


@define(eq=False)
class MetadataKey:
    """
    Seals and opens the metadata of the objects of one bucket.

    Random nonces of 12 bytes suffice for 2**32 messages, so the key is divided: the first
    character of the IV of an object, six bits, chooses which of its 64 derived keys is used.
    """

    _bucket: str
    _key: bytes = field(repr=False)
    _aeads: dict[str, AESGCM] = field(factory=dict, repr=False, init=False)

    def seal(
        self,
        key: str,
        metadata: ObjectMetadata,
        size: int,
        random: Random,
        parts: bytes = b"",
    ) -> ObjectMetadata:
        """
        Move what clients gave into :attr:`ObjectMetadata.sealed`.

        :param metadata: Holds the entries of the encryption already.
        :param size: Plain bytes of content.
        :param parts: See :func:`parts_digest`; empty unless the content has parts.
        """
        return self._seal(_OBJECT, key, metadata, size, random, parts)

    def shown(self, metadata: ObjectMetadata) -> ObjectMetadata:
        """
        What :meth:`open` gives of metadata that :meth:`seal` was given.
        """
        return ObjectMetadata(
            metadata.etag,
            metadata.headers,
            metadata.user,
            metadata.checksums,
            metadata.checksum_type,
            metadata.tags,
            self._sealing(metadata.internal, _key_id(metadata)),
            metadata.storage_class,
            lock=metadata.lock,
        )

    def seal_upload(self, key: str, metadata: ObjectMetadata, random: Random) -> ObjectMetadata:
        """
        The same for an upload, which has no content yet.
        """
        return self._seal(_UPLOAD, key, metadata, 0, random, b"")

    def seal_part(
        self, key: str, entries: Mapping[str, str], part: OpenedPart, random: Random
    ) -> ObjectMetadata:
        """
        The same for a part.

        :param entries: Of the upload.
        """
        metadata = part.metadata
        record = _PartRecord(
            part.size, part.nonce, metadata.etag, metadata.checksums, metadata.checksum_type
        )
        sealed = self._encrypt(_PART, _bound_part(key, part.number), entries[IV], record, random)
        return ObjectMetadata(sealed=sealed)

    def open(self, key: str, metadata: ObjectMetadata) -> OpenedMetadata:
        """
        The inverse of :meth:`seal`, without what is only for the wrapper.

        :raises NotAuthentic: It was sealed under another key, for another object, or is
            damaged.
        """
        return self._open(_OBJECT, key, metadata)

    def unseal(self, key: str, iv: str, sealed: bytes) -> SealedRecord:
        """
        What :meth:`seal` has sealed, for those who need no more than that.

        :param iv: The entry of the encryption; empty when there is none.
        :raises NotAuthentic: As :meth:`open`.
        """
        return _DECODER.decode(self._decrypt(_OBJECT, key, iv, sealed))

    def open_upload(self, key: str, metadata: ObjectMetadata) -> OpenedMetadata:
        """
        The inverse of :meth:`seal_upload`.

        :raises NotAuthentic:
        """
        return self._open(_UPLOAD, key, metadata)

    def open_part(
        self, key: str, entries: Mapping[str, str], number: int, metadata: ObjectMetadata
    ) -> OpenedPart:
        """
        The inverse of :meth:`seal_part`.

        :param entries: Of the upload, or of the object that it became.
        :raises NotAuthentic: It belongs to another upload or number too.
        """
        body = self._decrypt(_PART, _bound_part(key, number), entries.get(IV, ""), metadata.sealed)
        record = _PART_DECODER.decode(body)
        shown = ObjectMetadata(
            record.etag, checksums=record.checksums, checksum_type=record.checksum_type
        )
        return OpenedPart(number, record.size, record.nonce, shown)

    def _seal(
        self,
        kind: bytes,
        key: str,
        metadata: ObjectMetadata,
        size: int,
        random: Random,
        parts: bytes,
    ) -> ObjectMetadata:
        record = SealedRecord(
            size,
            metadata.etag,
            metadata.headers,
            metadata.user,
            metadata.checksums,
            metadata.checksum_type,
            metadata.tags,
            _key_id(metadata),
            parts,
        )
        sealed = self._encrypt(kind, key, metadata.internal[IV], record, random)
        return ObjectMetadata(
            storage_class=metadata.storage_class,
            internal=metadata.internal,
            sealed=sealed,
            lock=metadata.lock,
        )

    def _open(self, kind: bytes, key: str, metadata: ObjectMetadata) -> OpenedMetadata:
        body = self._decrypt(kind, key, metadata.internal.get(IV, ""), metadata.sealed)
        record = _DECODER.decode(body)
        return OpenedMetadata(
            record.size,
            ObjectMetadata(
                record.etag,
                record.headers,
                record.user,
                record.checksums,
                record.checksum_type,
                record.tags,
                self._sealing(metadata.internal, record.key_id),
                metadata.storage_class,
                {},
                b"",
                metadata.lock,
            ),
            record.parts,
        )

    def _sealing(self, entries: Mapping[str, str], key_id: str) -> Sealing | None:
        """
        How the client knows the encryption; *key_id* is how it named the master key.
        """
        return shown_sealing(entries, key_id)

    def _encrypt(
        self, kind: bytes, bound: str, iv: str, record: msgspec.Struct, random: Random
    ) -> bytes:
        nonce = random(_NONCE_SIZE)
        associated = self._associated(kind, bound, iv)
        return kind + nonce + self._aead(iv).encrypt(nonce, _ENCODER.encode(record), associated)

    def _decrypt(self, kind: bytes, bound: str, iv: str, sealed: bytes) -> bytes:
        if not sealed.startswith(kind) or len(sealed) < _START + _TAG_SIZE or not iv:
            raise NotAuthentic("metadata")
        # A listing does this a thousand times.
        aead = self._aeads.get(iv[0]) or self._aead(iv)
        nonce, body = sealed[1:_START], sealed[_START:]
        try:
            return aead.decrypt(nonce, body, self._associated(kind, bound, iv))
        except InvalidTag:
            raise NotAuthentic("metadata") from None

    def _aead(self, iv: str) -> AESGCM:
        shard = iv[0]
        aead = self._aeads.get(shard)
        if aead is None:
            key = derived_key(self._key, f"object metadata {shard}")
            aead = self._aeads[shard] = AESGCM(key)
        return aead

    def _associated(self, kind: bytes, bound: str, iv: str) -> bytes:
        # Neither bucket names nor keys nor IVs hold a NUL.
        text = f"{self._bucket}\0{bound}\0{iv}".encode()
        return text if kind == _OBJECT else text + b"\0" + kind


@define(eq=False)
class CustomerMetadataKey(MetadataKey):
    """
    Seals and opens the metadata of one object whose external key is its client's.

    :ivar _md5: Of the client's key, as the client gave it.
    """

    _md5: str

    @classmethod
    def derive(
        cls, bucket: str, object_key: bytes, customer_key: CustomerKey
    ) -> "CustomerMetadataKey":
        """
        The metadata key of an object.
        """
        return cls(bucket, derived_key(object_key, "Kypello metadata"), customer_key.md5)

    def seal_part(
        self, key: str, entries: Mapping[str, str], part: OpenedPart, random: Random
    ) -> ObjectMetadata:
        """
        As for all, with the ETag in clear.
        """
        sealed = super().seal_part(key, entries, part, random)
        return evolve(sealed, etag=part.metadata.etag)

    def open_part(
        self, key: str, entries: Mapping[str, str], number: int, metadata: ObjectMetadata
    ) -> OpenedPart:
        """
        As for all; the ETag in clear must be the one that was sealed.
        """
        part = super().open_part(key, entries, number, metadata)
        _same(part.metadata, metadata)
        return part

    def _seal(
        self,
        kind: bytes,
        key: str,
        metadata: ObjectMetadata,
        size: int,
        random: Random,
        parts: bytes,
    ) -> ObjectMetadata:
        sealed = super()._seal(kind, key, evolve(metadata, tags={}), size, random, parts)
        return evolve(sealed, etag=metadata.etag, tags=metadata.tags)

    def _open(self, kind: bytes, key: str, metadata: ObjectMetadata) -> OpenedMetadata:
        opened = super()._open(kind, key, metadata)
        if kind == _OBJECT:
            _same(opened.metadata, metadata)
        shown = evolve(opened.metadata, etag=metadata.etag, tags=metadata.tags)
        return evolve(opened, metadata=shown)

    def _sealing(self, entries: Mapping[str, str], key_id: str) -> Sealing | None:
        """
        With what tells the client which key it was.
        """
        return Sealing(SSE_C, customer_md5=self._md5)


def is_carried_over(metadata: ObjectMetadata) -> bool:
    """
    Whether what is sealed belongs to the upload that an object was, for want of a key.
    """
    return metadata.sealed[:1] == _UPLOAD


def metadata_without_key(metadata: ObjectMetadata) -> ObjectMetadata:
    """
    What can be told of an encrypted object or part without the key of its metadata.

    With a key of the client that is all that others should see.  Otherwise the ETag is that of
    no content, but the same as long as the object is.
    """
    if domain_of(metadata.internal) is Domain.SSE_C or metadata.etag:
        etag = metadata.etag
    else:
        etag = metadata.sealed[-_TAG_SIZE:].hex()
    return ObjectMetadata(
        etag=etag,
        tags=metadata.tags,
        sealing=shown_sealing(metadata.internal),
        storage_class=metadata.storage_class,
        lock=metadata.lock,
    )


def _key_id(metadata: ObjectMetadata) -> str:
    return "" if metadata.sealing is None else metadata.sealing.key_id


def _bound_part(key: str, number: int) -> str:
    return f"{key}\0{number}"


def _same(sealed: ObjectMetadata, clear: ObjectMetadata) -> None:
    if sealed.etag != clear.etag:
        raise NotAuthentic("etag")

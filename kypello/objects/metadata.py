# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What clients gave with an encrypted object, sealed under the metadata key of its bucket.

One key per bucket means that HEAD and listings need no call of the KMS per object.  What is
sealed is bound to bucket, key and the random IV of the object, which binds the object key in
turn: none can be exchanged for that of another object or of another write.
"""

from collections.abc import Mapping

import msgspec
from attrs import define, field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kypello.crypto.keys import derived_key
from kypello.crypto.metadata import IV, shown_sealing
from kypello.crypto.randomness import Random
from kypello.errors import NotAuthentic
from kypello.model import ObjectMetadata

_NONCE_SIZE = 12
_TAG_SIZE = 16
_VERSION = b"\x01"


class _Record(msgspec.Struct, array_like=True):
    """
    The plaintext.  Fields are only ever added at the end, with a default.

    :ivar size: Plain bytes of content: no stored object passes for a shorter one.
    """

    size: int
    etag: str
    headers: Mapping[str, str]
    user: Mapping[str, str]
    checksums: Mapping[str, str]
    checksum_type: str
    tags: Mapping[str, str]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Record)


@frozen
class OpenedMetadata:
    """
    The metadata of an encrypted object as the client gave it.

    :ivar size: Plain bytes of content.
    """

    size: int
    metadata: ObjectMetadata


@define(eq=False)
class MetadataKey:
    """
    Seals and opens the metadata of the objects of one bucket.

    Random nonces of 12 bytes suffice for 2**32 messages, so the key is divided: the first
    character of the IV of an object, six bits, chooses which of its 64 derived keys is used.
    """

    _bucket: str
    _key: bytes = field(repr=False)
    _aeads: dict[str, AESGCM] = field(factory=dict, repr=False)

    def seal(self, key: str, metadata: ObjectMetadata, size: int, random: Random) -> ObjectMetadata:
        """
        Move what clients gave into :attr:`ObjectMetadata.sealed`.

        :param metadata: Holds the entries of the encryption already.
        :param size: Plain bytes of content.
        """
        record = _Record(
            size,
            metadata.etag,
            metadata.headers,
            metadata.user,
            metadata.checksums,
            metadata.checksum_type,
            metadata.tags,
        )
        nonce = random(_NONCE_SIZE)
        iv = metadata.internal[IV]
        body = self._aead(iv).encrypt(nonce, _ENCODER.encode(record), self._bound(key, iv))
        return ObjectMetadata(
            storage_class=metadata.storage_class,
            internal=metadata.internal,
            sealed=_VERSION + nonce + body,
        )

    def open(self, key: str, metadata: ObjectMetadata) -> OpenedMetadata:
        """
        The inverse of :meth:`seal`, without what is only for the wrapper.

        :raises NotAuthentic: It was sealed under another key, for another object, or is
            damaged.
        """
        sealed, iv = metadata.sealed, metadata.internal.get(IV, "")
        if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE_SIZE + _TAG_SIZE or not iv:
            raise NotAuthentic("metadata")
        nonce, body = sealed[1 : 1 + _NONCE_SIZE], sealed[1 + _NONCE_SIZE :]
        try:
            record = _DECODER.decode(self._aead(iv).decrypt(nonce, body, self._bound(key, iv)))
        except InvalidTag:
            raise NotAuthentic("metadata") from None
        return OpenedMetadata(
            record.size,
            ObjectMetadata(
                record.etag,
                record.headers,
                record.user,
                record.checksums,
                record.checksum_type,
                record.tags,
                shown_sealing(metadata.internal),
                metadata.storage_class,
            ),
        )

    def _aead(self, iv: str) -> AESGCM:
        shard = iv[0]
        aead = self._aeads.get(shard)
        if aead is None:
            key = derived_key(self._key, f"object metadata {shard}")
            aead = self._aeads[shard] = AESGCM(key)
        return aead

    def _bound(self, key: str, iv: str) -> bytes:
        # Neither bucket names nor keys hold a NUL.
        return f"{self._bucket}\0{key}\0{iv}".encode()


def opaque_metadata(metadata: ObjectMetadata) -> ObjectMetadata:
    """
    What stands for the metadata of an object that cannot be opened now, in a listing.

    Its ETag is that of no content, but the same as long as the object is.
    """
    return ObjectMetadata(
        etag=metadata.sealed[-_TAG_SIZE:].hex(),
        sealing=shown_sealing(metadata.internal),
        storage_class=metadata.storage_class,
    )

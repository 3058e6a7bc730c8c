# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The metadata entries that tell how an object is encrypted.

Their names and values are MinIO's, but for some of our own.  Two mark an object whose data key
belongs to the bucket, and one whose ETag is older than its encryption.  Three hold the keys of an
object in two layers: who does not know them finds no sealed key, and refuses the object.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from attrs import define

from kypello.crypto.keys import SEAL_ALGORITHM, Domain, SealedObjectKey, context_bytes
from kypello.errors import NotAuthentic
from kypello.model import DSSE, SSE_C, Sealing

_PREFIX = "X-Minio-Internal-Server-Side-Encryption-"

#: The random value of an object; no other object has the same.
IV = f"{_PREFIX}Iv"

#: Present, and empty, when the content was encrypted part by part.
MULTIPART = "X-Minio-Internal-Encrypted-Multipart"

#: Plain bytes of content in decimal digits, of an object that was encrypted part by part.
ACTUAL_SIZE = "X-Minio-Internal-actual-size"

#: The name of the master key.
KEY_NAME = f"{_PREFIX}S3-Kms-Key-Id"

_ALGORITHM = f"{_PREFIX}Seal-Algorithm"
_DATA_KEY = f"{_PREFIX}S3-Kms-Sealed-Key"
_CONTEXT = f"{_PREFIX}Context"
_OWN_PREFIX = "X-Kypello-Internal-Server-Side-Encryption-"
_BUCKET_KEY = f"{_OWN_PREFIX}Bucket-Key"
_OPAQUE = f"{_OWN_PREFIX}Opaque-Etag"
_INNER_KEY = f"{_OWN_PREFIX}Inner-Sealed-Key"
_OUTER_KEY = f"{_OWN_PREFIX}Outer-Sealed-Key"
_OUTER_DATA_KEY = f"{_OWN_PREFIX}Outer-Sealed-Data-Key"
_OUTER = frozenset({_OUTER_KEY, _OUTER_DATA_KEY})

# The first of these that is present tells the domain.
_SEALED_KEYS = {
    Domain.SSE_KMS: f"{_PREFIX}Kms-Sealed-Key",
    Domain.SSE_S3: f"{_PREFIX}S3-Sealed-Key",
    Domain.SSE_C: f"{_PREFIX}Sealed-Key",
    Domain.DSSE_KMS: _INNER_KEY,
}
_NAMES = {
    *(IV, MULTIPART, KEY_NAME, _ALGORITHM, _DATA_KEY, _CONTEXT, _BUCKET_KEY, _OPAQUE),
    *_OUTER,
    *_SEALED_KEYS.values(),
}
_WITH_CONTEXT = frozenset({Domain.SSE_KMS, Domain.DSSE_KMS})


@define
class OuterKey:
    """
    What is kept to find the key of the outer layer again; it is under the master key of the inner
    one, and has its IV and its context.

    :ivar data_key: The external key as the KMS sealed it.
    """

    object_key: SealedObjectKey
    data_key: bytes


@define
class KeyRecord:
    """
    What is kept to find the object key again.

    :ivar key_name: The master key; ``None`` when the client has the external key.
    :ivar data_key: The external key as the KMS sealed it; ``None`` likewise.
    :ivar context: What the client gave for SSE-KMS, in one layer or two; the path is not in it.
    :ivar bucket_key: Whether the data key is bound to the bucket only, not to the object; then
        there is no *context*.
    :ivar multipart: Whether the content was encrypted part by part.
    :ivar opaque: Whether the ETag is no digest of the content although SSE-S3 would have it so, as
        it was given with another encryption.
    :ivar outer: Of the layer around that of *object_key*; ``None`` unless there are two.
    """

    object_key: SealedObjectKey
    key_name: str | None = None
    data_key: bytes | None = None
    context: Mapping[str, str] | None = None
    bucket_key: bool = False
    multipart: bool = False
    opaque: bool = False
    outer: OuterKey | None = None


#: The key of an object, sealed by one of its client.
CUSTOMERS_KEY = _SEALED_KEYS[Domain.SSE_C]


def is_encrypted(entries: Mapping[str, str]) -> bool:
    """
    Whether any entry claims that the object is encrypted, be they complete or not.
    """
    return not _NAMES.isdisjoint(entries)


def domain_of(entries: Mapping[str, str]) -> Domain | None:
    """
    Who has the external key of an object; ``None`` when it is not encrypted or damaged.
    """
    # A listing asks this thousands of times: no generator.
    for domain, name in _SEALED_KEYS.items():
        if name in entries:
            return domain
    return None


def is_dual(entries: Mapping[str, str]) -> bool:
    """
    Whether content is encrypted in two layers.
    """
    return _INNER_KEY in entries


def encryption_of(entries: Mapping[str, str]) -> tuple[str, str]:
    """
    How an object is encrypted, as it lies there: the algorithm, as clients ask for it, and the name
    of the master key; both empty when it is not encrypted, or damaged.
    """
    sealing = shown_sealing(entries)
    return ("", "") if sealing is None else (sealing.algorithm, entries.get(KEY_NAME, ""))


def write_entries(record: KeyRecord) -> dict[str, str]:
    """
    The entries for *record*.
    """
    sealed = record.object_key
    entries = {
        IV: b64encode(sealed.iv).decode(),
        _ALGORITHM: SEAL_ALGORITHM,
        _SEALED_KEYS[sealed.domain]: b64encode(sealed.ciphertext).decode(),
    }
    if record.key_name is not None and record.data_key is not None:
        entries[KEY_NAME] = record.key_name
        entries[_DATA_KEY] = b64encode(record.data_key).decode()
    if record.context:
        entries[_CONTEXT] = b64encode(context_bytes(record.context)).decode()
    if record.bucket_key:
        entries[_BUCKET_KEY] = "true"
    if record.multipart:
        entries[MULTIPART] = ""
    if record.opaque:
        entries[_OPAQUE] = "true"
    if record.outer is not None:
        entries[_OUTER_KEY] = b64encode(record.outer.object_key.ciphertext).decode()
        entries[_OUTER_DATA_KEY] = b64encode(record.outer.data_key).decode()
    return entries


def replace_entries(entries: Mapping[str, str], record: KeyRecord) -> dict[str, str]:
    """
    The entries of an object whose key is sealed anew: those of *record*, and what *entries* tell
    beside the encryption.
    """
    others = {name: value for name, value in entries.items() if name not in _NAMES}
    return {**others, **write_entries(record)}


def read_entries(entries: Mapping[str, str]) -> KeyRecord:
    """
    The record that *entries* make; other entries are ignored.

    :raises NotAuthentic: Something is missing, malformed or does not fit together; the text
        says what.
    """
    domain = domain_of(entries)
    if domain is None:
        raise NotAuthentic("metadata: the sealed object key is missing")
    if entries.get(_ALGORITHM) != SEAL_ALGORITHM:
        raise NotAuthentic("metadata: the seal algorithm is missing or unknown")
    if (KEY_NAME in entries) != (_DATA_KEY in entries):
        raise NotAuthentic("metadata: of key name and sealed data key one is missing")
    if (KEY_NAME in entries) != (domain is not Domain.SSE_C):
        raise NotAuthentic("metadata: the key name does not fit the kind of encryption")
    if entries.get(_BUCKET_KEY, "true") != "true":
        raise NotAuthentic("metadata: the bucket key mark is malformed")
    if _CONTEXT in entries and (domain not in _WITH_CONTEXT or _BUCKET_KEY in entries):
        raise NotAuthentic("metadata: nothing is bound to the context")
    dual = domain is Domain.DSSE_KMS
    if len(_OUTER.intersection(entries)) != len(_OUTER) * dual:
        raise NotAuthentic("metadata: the keys do not fit the number of layers")
    if dual and _BUCKET_KEY in entries:
        raise NotAuthentic("metadata: keys of two layers are not shared")
    try:
        return KeyRecord(
            SealedObjectKey(domain, _decoded(entries, IV), _decoded(entries, _SEALED_KEYS[domain])),
            entries.get(KEY_NAME),
            _decoded(entries, _DATA_KEY) if _DATA_KEY in entries else None,
            _context(entries),
            _BUCKET_KEY in entries,
            MULTIPART in entries,
            _OPAQUE in entries,
            _outer(entries) if dual else None,
        )
    except (KeyError, ValueError) as error:
        raise NotAuthentic(f"metadata: {error}") from None


def shown_sealing(entries: Mapping[str, str], key_id: str = "") -> Sealing | None:
    """
    What a client may know of an encryption; ``None`` when the entries do not tell.

    Damaged entries tell less; they are refused when the object is read.

    :param key_id: How the client named the master key; empty when it did not, or when that is
        not known now.
    """
    domain = domain_of(entries)
    if domain is Domain.SSE_C:
        return Sealing(SSE_C)
    name = entries.get(KEY_NAME)
    if domain is None or name is None:
        return None
    if domain is Domain.SSE_S3:
        return _sse_s3(name, _OPAQUE in entries)
    algorithm = DSSE if domain is Domain.DSSE_KMS else "aws:kms"
    return Sealing(
        algorithm, key_id or f"arn:aws:kms:{name}", _shown_context(entries), _BUCKET_KEY in entries
    )


@lru_cache(maxsize=256)
def _sse_s3(key_name: str, opaque: bool, /) -> Sealing:
    return Sealing("AES256", key_name, opaque=opaque)


def _shown_context(entries: Mapping[str, str]) -> Mapping[str, str]:
    try:
        return _context(entries) or {}
    except ValueError:
        return {}


def _outer(entries: Mapping[str, str]) -> OuterKey:
    sealed = SealedObjectKey(
        Domain.DSSE_KMS_OUTER, _decoded(entries, IV), _decoded(entries, _OUTER_KEY)
    )
    return OuterKey(sealed, _decoded(entries, _OUTER_DATA_KEY))


def _context(entries: Mapping[str, str]) -> dict[str, str] | None:
    if _CONTEXT not in entries:
        return None
    return msgspec.json.decode(_decoded(entries, _CONTEXT), type=dict[str, str])


def _decoded(entries: Mapping[str, str], name: str) -> bytes:
    return b64decode(entries[name], validate=True)

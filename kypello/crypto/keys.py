# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The key hierarchy of an encrypted object, and the bytes that keys are bound to.

An external key (a data key of the KMS, or the client's own) and the path of the object make
the key-encryption key; that seals the object key; that encrypts the content.
"""

import hmac
from collections.abc import Mapping
from enum import StrEnum
from posixpath import normpath

from attrs import field, frozen

from kypello.crypto import dare
from kypello.crypto.randomness import Random
from kypello.errors import NotAuthentic

#: Bytes of every key.
KEY_SIZE = 32

#: How object keys are sealed: the only way there is.
SEAL_ALGORITHM = "DAREv2-HMAC-SHA256"

_SEALED_SIZE = KEY_SIZE + dare.OVERHEAD
_WRAPPING = "Kypello wrapped key"


class Domain(StrEnum):
    """
    Who provides the external key; keys of one domain do not open what another sealed.
    """

    SSE_C = "SSE-C"
    SSE_S3 = "SSE-S3"
    SSE_KMS = "SSE-KMS"
    #: The inner one of two layers, and the outer one.
    DSSE_KMS = "DSSE-KMS"
    DSSE_KMS_OUTER = "DSSE-KMS-OUTER"


@frozen
class SealedObjectKey:
    """
    An object key under its key-encryption key.

    :ivar iv: 32 random bytes that make the key-encryption key unique.
    :ivar ciphertext: 64 bytes.
    """

    domain: Domain
    iv: bytes = field()
    ciphertext: bytes = field()

    @iv.validator
    def _iv_sized(self, _attribute: object, value: bytes) -> None:
        if len(value) != KEY_SIZE:
            raise ValueError("the encryption IV has 32 bytes")

    @ciphertext.validator
    def _ciphertext_sized(self, _attribute: object, value: bytes) -> None:
        if len(value) != _SEALED_SIZE:
            raise ValueError("a sealed object key has 64 bytes")


def object_path(bucket: str, key: str) -> str:
    """
    The path that keys are bound to: joined, with empty, ``.`` and ``..`` segments resolved.
    """
    return normpath(f"{bucket}/{key}")


def generate_object_key(external_key: bytes, random: Random) -> bytes:
    """
    Make a fresh object key: 32 bytes, unpredictable as long as either source is.
    """
    return hmac.digest(
        external_key, b"object-encryption-key generation" + random(KEY_SIZE), "sha256"
    )


def seal_object_key(
    external_key: bytes,
    object_key: bytes,
    domain: Domain,
    path: str,
    random: Random,
    iv: bytes | None = None,
) -> SealedObjectKey:
    """
    Encrypt an object key and bind it to its domain and path.

    :param path: See :func:`object_path`.
    :param iv: That of an object whose key is sealed anew; ``None`` for a new object.
    """
    iv = random(KEY_SIZE) if iv is None else iv
    kek = _key_encryption_key(external_key, iv, domain, path)
    return SealedObjectKey(domain, iv, dare.encrypt(kek, random(dare.NONCE_SIZE), object_key))


def open_object_key(external_key: bytes, sealed: SealedObjectKey, path: str) -> bytes:
    """
    Decrypt an object key.

    :raises NotAuthentic: Another external key, another domain, another path or other bytes.
    """
    kek = _key_encryption_key(external_key, sealed.iv, sealed.domain, path)
    try:
        return dare.decrypt(kek, sealed.ciphertext)
    except NotAuthentic:
        raise NotAuthentic("object key") from None


def part_key(object_key: bytes, number: int) -> bytes:
    """
    The key of one part of a multipart object.

    :param number: As the client numbered it.
    """
    return hmac.digest(object_key, number.to_bytes(4, "little"), "sha256")


def part_stream_key(object_key: dare.StreamKey, number: int) -> dare.StreamKey:
    """
    The key of one part, in as many layers as the object has.
    """
    outer = None if object_key.outer is None else part_stream_key(object_key.outer, number)
    return dare.StreamKey(part_key(object_key.secret, number), outer)


def derived_key(key: bytes, label: str) -> bytes:
    """
    A key for one purpose; those of two labels tell nothing of each other.
    """
    return hmac.digest(key, label.encode(), "sha256")


def wrap_key(data_key: bytes, key: bytes, random: Random) -> bytes:
    """
    Encrypt a key that stays the same under another data key.
    """
    return dare.encrypt(derived_key(data_key, _WRAPPING), random(dare.NONCE_SIZE), key)


def unwrap_key(data_key: bytes, wrapped: bytes) -> bytes:
    """
    Decrypt what :func:`wrap_key` gave.

    :raises NotAuthentic: Another data key, or other bytes.
    """
    try:
        return dare.decrypt(derived_key(data_key, _WRAPPING), wrapped)
    except NotAuthentic:
        raise NotAuthentic("wrapped key") from None


def context_bytes(context: Mapping[str, str]) -> bytes:
    """
    The canonical form of a KMS context: what data keys are bound to, byte for byte.

    It is JSON without white space, sorted by the UTF-8 bytes of the keys, with the escapes
    that Go's encoder makes.

    :param context: Bytes that are no UTF-8 come as surrogate escapes and go as U+FFFD.
    """
    entries = sorted(context.items(), key=lambda entry: entry[0].encode("utf-8", "surrogateescape"))
    text = ",".join(
        f'"{name.translate(_ESCAPES)}":"{value.translate(_ESCAPES)}"' for name, value in entries
    )
    return f"{{{text}}}".encode()


_ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), *map(ord, "<>&\u2028\u2029"))},
    **dict.fromkeys(range(55296, 57344), "\\ufffd"),
    **{ord(char): f"\\{char}" for char in '"\\'},
    **{ord(char): escape for char, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))},
}


def _key_encryption_key(external_key: bytes, iv: bytes, domain: Domain, path: str) -> bytes:
    bound = iv + f"{domain}{SEAL_ALGORITHM}{path}".encode()
    return hmac.digest(external_key, bound, "sha256")

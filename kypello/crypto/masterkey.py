# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Master keys as KES keeps them: what they seal, and how they are stored.

A master key seals a message under a key of its own, derived from 16 random bytes: with
HMAC-SHA-256 for AES-256-GCM, with HChaCha20 for ChaCha20-Poly1305.  Three encodings of
ciphertexts and two of stored keys are in use; all are read, the newest of each is written.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from struct import pack, unpack
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from kypello.crypto import protobuf
from kypello.crypto.randomness import Random
from kypello.errors import KeyStoreFailed, NotAuthentic

Algorithm: TypeAlias = Literal["AES256", "ChaCha20"]

_KEY_SIZE = 32
_TAG_SIZE = 16
_IV_SIZE = 16
_NONCE_SIZE = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS: dict[Algorithm, int] = {"AES256": 1, "ChaCha20": 2}
_SHA256 = 1
_ALGORITHMS: dict[str, Algorithm] = {
    "AES256": "AES256",
    "AES256-GCM_SHA256": "AES256",
    "AES-256-GCM-HMAC-SHA-256": "AES256",
    "ChaCha20": "ChaCha20",
    "XCHACHA20-POLY1305": "ChaCha20",
    "ChaCha20Poly1305": "ChaCha20",
}


class _Sealed(NamedTuple):
    """
    A ciphertext taken apart.

    :ivar algorithm: What it names; ``None`` when it names none.
    """

    algorithm: str | None
    iv: bytes
    nonce: bytes
    body: bytes


class _JSONSealed(msgspec.Struct):
    """
    A ciphertext as it was written before March 2022.
    """

    aead: str
    iv: bytes
    nonce: bytes
    bytes: bytes


class _JSONKey(msgspec.Struct):
    """
    A stored key as it was written from 2021 to January 2024.
    """

    bytes: bytes
    algorithm: str | None = None
    created_at: str | None = None
    created_by: str | None = None


@frozen
class MasterKey:
    """
    A key that seals data keys.

    :ivar key: 32 bytes.
    :ivar hmac_key: 32 bytes; ``None`` for a key that was stored before 2024.
    :ivar created_at: RFC 3339; empty when unknown.
    :ivar created_by: The identity that made it; empty when unknown.
    """

    key: bytes = field(repr=False)
    algorithm: Algorithm
    hmac_key: bytes | None = field(repr=False)
    created_at: str
    created_by: str

    @key.validator
    @hmac_key.validator
    def _sized(self, attribute: object, value: bytes | None) -> None:
        if value is not None and len(value) != _KEY_SIZE:
            raise ValueError("a master key has 32 bytes")

    @classmethod
    def generate(cls, random: Random, now: float, created_by: str) -> "MasterKey":
        """
        Make a fresh key for AES-256-GCM.

        :param now: Seconds since the epoch.
        """
        return cls.imported(random(_KEY_SIZE), "AES256", random, now, created_by)

    @classmethod
    def imported(
        cls, key: bytes, algorithm: Algorithm, random: Random, now: float, created_by: str
    ) -> "MasterKey":
        """
        Adopt key material from elsewhere, with a fresh HMAC key.

        :param key: 32 bytes.
        :param now: Seconds since the epoch.
        :raises ValueError: The key has another length.
        """
        created = _rfc3339(int(now // 1), int(now % 1 * 1_000_000) * 1000)
        return cls(key, algorithm, random(_KEY_SIZE), created, created_by)

    @property
    def key_id(self) -> str:
        """
        32 hex digits that name the material without telling it.
        """
        return hashlib.sha256(self.key).hexdigest()[:32]

    def seal(self, plaintext: bytes, context: bytes, random: Random) -> bytes:
        """
        Encrypt *plaintext* and bind it to *context*.

        :return: The ciphertext: 44 bytes more than the plaintext.
        """
        iv, nonce = random(_IV_SIZE), random(_NONCE_SIZE)
        body = self._aead(self.algorithm, iv).encrypt(nonce, plaintext, context)
        return body + iv + nonce

    def open(self, ciphertext: bytes, context: bytes) -> bytes:
        """
        Decrypt what this key sealed, in any of the three encodings.

        The two older ones name their algorithm, which counts more than that of the key: a
        key server of that time chose it by the machine it ran on.

        :raises NotAuthentic: Another key, another context or other bytes.
        """
        sealed = _parse(ciphertext)
        algorithm = self.algorithm if sealed.algorithm is None else _ALGORITHMS[sealed.algorithm]
        try:
            return self._aead(algorithm, sealed.iv).decrypt(sealed.nonce, sealed.body, context)
        except InvalidTag:
            raise NotAuthentic() from None

    def to_bytes(self) -> bytes:
        """
        Encode for a key store, as KES does since January 2024.

        :raises ValueError: There is no HMAC key, without which KES cannot read the result.
        """
        if self.hmac_key is None:
            raise ValueError("a key without HMAC key cannot be stored")
        return b64encode(
            protobuf.message(
                (1, protobuf.message((1, self.key), (2, _NUMBERS[self.algorithm]))),
                (2, protobuf.message((1, self.hmac_key), (2, _SHA256))),
                (3, _timestamp(self.created_at) if self.created_at else None),
                (4, self.created_by.encode() or None),
            )
        )

    @classmethod
    def from_bytes(cls, stored: bytes) -> "MasterKey":
        """
        Decode what a key store holds: base64 of a protobuf message, or JSON.

        :raises KeyStoreFailed: It is no key.
        """
        try:
            return _from_json(stored) if stored.lstrip()[:1] == b"{" else _from_protobuf(stored)
        except (ValueError, KeyError, OverflowError):
            # The cause is dropped: its text may quote what is stored.
            raise KeyStoreFailed("the stored value is not a master key") from None

    def _aead(self, algorithm: Algorithm, iv: bytes) -> AESGCM | ChaCha20Poly1305:
        if algorithm == "AES256":
            return AESGCM(hmac.digest(self.key, iv, "sha256"))
        return ChaCha20Poly1305(hchacha20(self.key, iv))


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """
    Derive a key: HChaCha20 of draft-irtf-cfrg-xchacha-03, section 2.2.

    A key stream block of ChaCha20 is its state after 20 rounds plus its first state; HChaCha20
    is eight words of the state after 20 rounds.  So the block is made and what was added is
    taken away again.

    :param key: 32 bytes.
    :param nonce: 16 bytes.
    :return: 32 bytes.
    """
    block = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64))
    words = unpack("<16I", block)
    added = unpack("<8I", b"expand 32-byte k" + nonce)
    return pack(
        "<8I",
        *(
            (word - first) % 2**32
            for word, first in zip(words[:4] + words[12:], added, strict=True)
        ),
    )


def _parse(ciphertext: bytes) -> _Sealed:
    # The newest encoding has no mark and may begin with the first byte of an older one by
    # chance; then the rest does not fit.
    try:
        if ciphertext[:1] == b"\x95":
            name, _key_id, iv, nonce, body = msgspec.msgpack.decode(
                ciphertext, type=tuple[str, str, bytes, bytes, bytes]
            )
            return _checked(_Sealed(name, iv, nonce, body))
        if ciphertext[:1] == b"{":
            old = msgspec.json.decode(ciphertext, type=_JSONSealed)
            return _checked(_Sealed(old.aead, old.iv, old.nonce, old.bytes))
    except ValueError:
        pass
    if len(ciphertext) < _TAG_SIZE + _IV_SIZE + _NONCE_SIZE:
        raise NotAuthentic()
    return _Sealed(None, ciphertext[-28:-12], ciphertext[-12:], ciphertext[:-28])


def _checked(sealed: _Sealed) -> _Sealed:
    if (
        sealed.algorithm not in _ALGORITHMS
        or len(sealed.iv) != _IV_SIZE
        or len(sealed.nonce) != _NONCE_SIZE
    ):
        raise ValueError("another encoding")
    return sealed


def _from_json(stored: bytes) -> MasterKey:
    old = msgspec.json.decode(stored, type=_JSONKey)
    return MasterKey(
        old.bytes,
        _ALGORITHMS[old.algorithm or "AES256"],
        None,
        old.created_at or "",
        old.created_by or "",
    )


def _from_protobuf(stored: bytes) -> MasterKey:
    version = protobuf.fields(b64decode(stored.strip(), validate=True))
    secret = protobuf.fields(protobuf.data(version, 1))
    algorithm = {number: name for name, number in _NUMBERS.items()}[protobuf.integer(secret, 2)]
    hmac_key = None
    if 2 in version:
        hmac_secret = protobuf.fields(protobuf.data(version, 2))
        if protobuf.integer(hmac_secret, 2) != _SHA256:
            raise ValueError("an unknown hash")
        hmac_key = protobuf.data(hmac_secret, 1)
    created_at = ""
    if 3 in version:
        created = protobuf.fields(protobuf.data(version, 3))
        created_at = _rfc3339(protobuf.integer(created, 1), protobuf.integer(created, 2))
    created_by = protobuf.data(version, 4).decode()
    return MasterKey(protobuf.data(secret, 1), algorithm, hmac_key, created_at, created_by)


def _rfc3339(seconds: int, nanos: int) -> str:
    moment = _EPOCH + timedelta(seconds=seconds)
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + fraction + "Z"


def _timestamp(text: str) -> bytes:
    # Done by hand where it matters: datetime keeps microseconds, a stored key nanoseconds.
    moment = datetime.fromisoformat(text)
    digits = text[20:] if text[19:20] == "." else ""
    nanos = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return protobuf.message((1, seconds), (2, int(nanos[:9].ljust(9, "0"))))

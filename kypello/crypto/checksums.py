# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The checksums that S3 clients send: names, sizes, and how they are computed and put together.

CRCs are written big-endian; all are base64 on the wire.  CRC32C is that of RFC 3720, CRC64NVME
that of the NVM Express command set (reflected, polynomial 0xAD93D23594C93659, all ones in and
out).
"""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable, Iterable, Mapping
from hashlib import md5, sha1, sha256
from types import MappingProxyType
from typing import Protocol
from zlib import crc32

from attrs import define, field
from awscrt.checksums import (
    combine_crc32,
    combine_crc32c,
    combine_crc64nvme,
    crc32c,
    crc64nvme,
)
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, Hash

from kypello.model import Buffer

#: Bytes of a digest by the name of its algorithm, in lower case as in the header names.
SIZES: Mapping[str, int] = MappingProxyType(
    {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "sha1": 20, "sha256": 32}
)

_CRCS: dict[str, Callable[[Buffer, int], int]] = {
    "crc32": crc32,
    "crc32c": crc32c,
    "crc64nvme": crc64nvme,
}

_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "crc32": combine_crc32,
    "crc32c": combine_crc32c,
    "crc64nvme": combine_crc64nvme,
}

#: The algorithms whose value for a whole follows from those for its pieces.
COMBINABLE = frozenset(_COMBINE)


class Checksum(Protocol):
    """
    A checksum over bytes that come piece by piece.
    """

    def update(self, data: Buffer, /) -> None:
        """
        Take the next bytes.
        """

    def digest(self) -> bytes:
        """
        The checksum of all bytes so far.
        """


@define
class _CRC:
    _step: Callable[[Buffer, int], int]
    _size: int
    _value: int = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


# What clients ask for; nothing rests on its strength.
_MD5_ALGORITHM = MD5()  # noqa: S303


@define
class _MD5:
    _hash: Hash = field(factory=lambda: Hash(_MD5_ALGORITHM))

    def update(self, data: Buffer, /) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return self._hash.copy().finalize()


def new_md5() -> Checksum:
    """
    Begin the MD5 digest that ETags and ``Content-MD5`` are made of.

    That of ``cryptography`` is some 6 % faster than that of ``hashlib``, where its OpenSSL is the
    newer one.
    """
    try:
        return _MD5()
    except UnsupportedAlgorithm:
        # An OpenSSL where it is not allowed.
        return md5(usedforsecurity=False)


def new_checksum(algorithm: str) -> Checksum:
    """
    Begin a checksum.

    :param algorithm: One of :data:`SIZES`.
    :raises KeyError: There is no such algorithm.
    """
    if algorithm == "sha1":
        # What a client asks to be compared with; nothing rests on its strength.
        return sha1(usedforsecurity=False)
    if algorithm == "sha256":
        return sha256()
    return _CRC(_CRCS[algorithm], SIZES[algorithm])


def combine(algorithm: str, pieces: Iterable[tuple[bytes, int]]) -> bytes:
    """
    The checksum of pieces in a row, without a look at their content.

    :param algorithm: One of :data:`COMBINABLE`.
    :param pieces: The checksum and the size in bytes of each.
    """
    step, value = _COMBINE[algorithm], 0
    for digest, size in pieces:
        value = step(value, int.from_bytes(digest, "big"), size)
    return value.to_bytes(SIZES[algorithm], "big")


def compose(algorithm: str, digests: Iterable[bytes]) -> bytes:
    """
    The checksum of the checksums of pieces, which S3 calls composite.
    """
    checksum = new_checksum(algorithm)
    for digest in digests:
        checksum.update(digest)
    return checksum.digest()


def encode(digest: bytes) -> str:
    """
    A digest as headers show it, in base64.
    """
    return b64encode(digest).decode("ascii")


def decode(text: str, size: int) -> bytes | None:
    """
    Read a digest in base64, ``None`` when it is not one of *size* bytes in the one right form.
    """
    try:
        digest = b64decode(text, validate=True)
    except (Error, ValueError):
        return None
    return digest if len(digest) == size and encode(digest) == text else None

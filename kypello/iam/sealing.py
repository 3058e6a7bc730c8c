# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How the records of accounts are sealed.

A record is one byte that tells the format, then:

1. nothing is sealed: MessagePack and its CRC32C;
2. a random nonce of 12 bytes, and MessagePack under AES-256-GCM, bound to the key of the record.

All are under one data key, which the KMS sealed for the context ``{"kypello": "accounts"}``.
Nonces at random are good for 2³² records, which is more than a hundred sessions a second for a
year.
"""

from typing import Final, Protocol

from attrs import define, field, frozen
from awscrt.checksums import crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kypello.crypto.keys import context_bytes
from kypello.crypto.randomness import Random
from kypello.errors import Damaged, KMSNotConfigured, NotAuthentic
from kypello.iam.records import DataKeyRecord, R, decode, encode
from kypello.model import DataKey

#: What the data key is bound to.
CONTEXT: Final = context_bytes({"kypello": "accounts"})

_PLAIN, _SEALED = b"\x01", b"\x02"
_NONCE = 12
_SUM = 4


class IssuesDataKeys(Protocol):
    """
    Makes and opens data keys, and keeps what it opened for a bounded time
    (:class:`kypello.objects.datakeys.DataKeys`).
    """

    async def generate(self, context: bytes, key_name: str = "") -> DataKey:
        """
        A fresh data key, under the default master key unless another is named.
        """

    async def open(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """


@frozen(eq=False)
class Box:
    """
    Writes and reads records.

    :ivar _key: ``None`` when nothing is sealed.
    """

    _key: AESGCM | None = field(repr=False)
    _random: Random = field(repr=False)

    def close(self, key: bytes, record: R) -> bytes:
        """
        Write a record.

        :param key: Where it is kept.
        """
        if self._key is None:
            return _plain(record)
        nonce = self._random(_NONCE)
        return _SEALED + nonce + self._key.encrypt(nonce, encode(record), key)

    def open(self, kind: type[R], key: bytes, value: bytes) -> R:
        """
        Read a record.

        :raises KMSNotConfigured: It is sealed, and there is no KMS.
        :raises Damaged: It is not what was written.
        """
        if self._key is None:
            return _read_plain(kind, value)
        nonce, sealed = value[1 : 1 + _NONCE], value[1 + _NONCE :]
        # One that is not sealed may come from anybody who can write to the disk.
        if value[:1] != _SEALED or len(nonce) < _NONCE:
            raise Damaged(f"{kind.__name__} of the accounts")
        try:
            return decode(kind, self._key.decrypt(nonce, sealed, key))
        except InvalidTag:
            raise Damaged(f"{kind.__name__} of the accounts") from None


@define(eq=False)
class Boxes:
    """
    Opens the data key of the accounts, as long as the KMS, or what is kept of it, opens it.

    :ivar _keys: ``None`` to seal nothing.
    :ivar _last: What was opened last, with its key.
    """

    _keys: IssuesDataKeys | None
    _random: Random
    _last: tuple[bytes, Box] | None = field(init=False, default=None, repr=False)
    _record: tuple[bytes, DataKeyRecord] | None = field(init=False, default=None, repr=False)

    async def make(self) -> bytes | None:
        """
        Make a data key, as it is kept; ``None`` to seal nothing.
        """
        if self._keys is None:
            return None
        made = await self._keys.generate(CONTEXT)
        return _plain(DataKeyRecord(made.key_name, made.sealed))

    async def open(self, stored: bytes | None) -> Box:
        """
        What writes and reads records.

        :param stored: The data key as it is kept.
        :raises KMSNotConfigured: There is one, and no KMS.
        :raises Damaged: There should be one, or it is none.
        :raises NotAuthentic: The key server holds another master key of the name.
        :raises KypelloError: What the KMS raises otherwise; nothing is kept open then.
        """
        if self._keys is None:
            if stored is not None:
                raise KMSNotConfigured()
            return Box(None, self._random)
        if stored is None:
            raise Damaged("the data key of the accounts is missing")
        if self._record is None or self._record[0] != stored:
            self._record = (stored, _read_plain(DataKeyRecord, stored))
        record = self._record[1]
        try:
            plaintext = await self._keys.open(record.key_name, record.sealed, CONTEXT)
        except NotAuthentic:
            self._last = None
            raise NotAuthentic(
                f"the data key of the accounts does not open with the key {record.key_name} that"
                " the key server holds"
            ) from None
        except BaseException:
            self._last = None
            raise
        if self._last is None or self._last[0] != plaintext:
            self._last = (plaintext, Box(AESGCM(plaintext), self._random))
        return self._last[1]

    async def again(self) -> None:
        """
        See that what was opened last could be opened now.

        :raises KypelloError: As :meth:`open`.
        """
        if self._record is not None:
            await self.open(self._record[0])


def _plain(record: R) -> bytes:
    encoded = encode(record)
    checksum: int = crc32c(encoded)
    return _PLAIN + encoded + checksum.to_bytes(_SUM, "big")


def _read_plain(kind: type[R], value: bytes) -> R:
    if value[:1] == _SEALED:
        raise KMSNotConfigured()
    encoded = value[1:-_SUM]
    if value[:1] != _PLAIN or crc32c(encoded) != int.from_bytes(value[-_SUM:], "big"):
        raise Damaged(f"{kind.__name__} of the accounts")
    return decode(kind, encoded)


def sealing_key(stored: bytes | None) -> str:
    """
    The master key that seals the accounts; empty when none does.

    :param stored: The data key as it is kept.
    :raises Damaged: It is none.
    """
    return "" if stored is None else _read_plain(DataKeyRecord, stored).key_name

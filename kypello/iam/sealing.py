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

from kypello.crypto.keys import context_bytes, unwrap_key, wrap_key
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
    :ivar _last: What was opened last, with what opened it: a data key, and what is under that.
    """

    _keys: IssuesDataKeys | None
    _random: Random
    _last: tuple[tuple[bytes, bytes], Box] | None = field(init=False, default=None, repr=False)
    _record: tuple[bytes, DataKeyRecord] | None = field(init=False, default=None, repr=False)

    async def make(self) -> bytes | None:
        """
        Make a data key, as it is kept; ``None`` to seal nothing.
        """
        if self._keys is None:
            return None
        made = await self._keys.generate(CONTEXT)
        return _plain(DataKeyRecord(made.key_name, made.sealed))

    def master_key(self, stored: bytes) -> str:
        """
        The name of the master key that seals a data key.

        :param stored: As it is kept.
        :raises Damaged: It is none.
        """
        return self._read(stored).key_name

    async def rewrap(self, stored: bytes, key_name: str) -> bytes:
        """
        Seal a data key under another master key, or the same anew.

        :param stored: As it is kept.
        :return: As it shall be kept; it seals what it sealed.
        :raises KypelloError: As :meth:`open`.
        """
        if self._keys is None:
            raise KMSNotConfigured()
        key = await self._plaintext(self._keys, self._read(stored))
        made = await self._keys.generate(CONTEXT, key_name)
        wrapped = wrap_key(made.plaintext, _unwrapped(*key), self._random)
        return _plain(DataKeyRecord(made.key_name, made.sealed, wrapped))

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
        try:
            key = await self._plaintext(self._keys, self._read(stored))
            if self._last is None or self._last[0] != key:
                self._last = (key, Box(AESGCM(_unwrapped(*key)), self._random))
        except BaseException:
            self._last = None
            raise
        return self._last[1]

    def _read(self, stored: bytes) -> DataKeyRecord:
        if self._record is None or self._record[0] != stored:
            self._record = (stored, _read_plain(DataKeyRecord, stored))
        return self._record[1]

    async def _plaintext(self, keys: IssuesDataKeys, record: DataKeyRecord) -> tuple[bytes, bytes]:
        """
        What opens a data key: what the KMS gives, and what is under that.
        """
        try:
            return await keys.open(record.key_name, record.sealed, CONTEXT), record.wrapped
        except NotAuthentic:
            raise NotAuthentic(
                f"the data key of the accounts does not open with the key {record.key_name} that"
                " the key server holds"
            ) from None

    async def again(self) -> None:
        """
        See that what was opened last could be opened now.

        :raises KypelloError: As :meth:`open`.
        """
        if self._record is not None:
            await self.open(self._record[0])


def _unwrapped(opened: bytes, wrapped: bytes) -> bytes:
    """
    The data key of the accounts.

    :raises Damaged: What is under *opened* is not what was put there.
    """
    if not wrapped:
        return opened
    try:
        return unwrap_key(opened, wrapped)
    except NotAuthentic:
        raise Damaged("the data key of the accounts") from None


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

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How events are kept until they are sent.

What was told of an encrypted object must not lie in clear on the disk.  It is sealed with
AES-256-GCM, bound to where it is kept, under a data key that each process makes for itself, uses
for some minutes, and keeps, as the KMS sealed it, beside each event: so no event depends on
anything else that is kept.
"""

from typing import Final, Protocol

import msgspec
from attrs import define, field
from awscrt.checksums import crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.crypto.keys import context_bytes
from kypello.crypto.randomness import Random
from kypello.errors import Damaged, KypelloError
from kypello.model import DataKey

#: What data keys are bound to.
CONTEXT: Final = context_bytes({"kypello": "events"})

#: How long a data key is used, and how long none is asked for after that failed, in seconds.
LIFETIME = 300.0
RETRY = 10.0

_NONCE = 12
_SUM = 4

_log = Logger()


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """
    An event that waits for its target.

    :ivar subject: What it is about.
    :ivar content: The message; sealed if there is a data key.
    :ivar key_name: The master key that sealed the data key.
    :ivar data_key: As it was sealed; empty for what lies in clear.
    """

    subject: str
    content: bytes
    key_name: str = ""
    data_key: bytes = b""
    nonce: bytes = b""


class IssuesDataKeys(Protocol):
    """
    Makes and opens data keys (:class:`kypello.objects.datakeys.DataKeys`).
    """

    async def generate(self, context: bytes, key_name: str = "") -> DataKey:
        """
        A fresh data key, under the default master key unless another is named.
        """

    async def open(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """


_decoder = msgspec.msgpack.Decoder(Kept)


def pack(kept: Kept) -> bytes:
    """
    Write an event, with a checksum.
    """
    encoded = msgspec.msgpack.encode(kept)
    checksum: int = crc32c(encoded)
    return encoded + checksum.to_bytes(_SUM, "big")


def unpack(value: bytes) -> Kept:
    """
    Read an event.

    :raises Damaged: It is not what was written.
    """
    encoded = value[:-_SUM]
    if crc32c(encoded) != int.from_bytes(value[-_SUM:], "big"):
        raise Damaged("an event that waits for its target")
    try:
        return _decoder.decode(encoded)
    except msgspec.MsgspecError:
        raise Damaged("an event that waits for its target") from None


@define(eq=False)
class Sealer:
    """
    Seals messages, and opens them.

    :ivar _until: From when on another data key is asked for.
    """

    _keys: IssuesDataKeys
    _clock: IReactorTime
    _random: Random
    _key: DataKey | None = field(init=False, default=None, repr=False)
    _until: float = field(init=False, default=0.0)
    _asking: DeferredLock = field(init=False, factory=DeferredLock, repr=False)

    async def seal(self, place: bytes, subject: str, content: bytes) -> Kept | None:
        """
        Seal a message.

        :param place: Where it is to be kept.
        :return: ``None`` while there is no data key: the KMS is away.
        """
        key = await self._data_key()
        if key is None:
            return None
        nonce = self._random(_NONCE)
        sealed = AESGCM(key.plaintext).encrypt(nonce, content, place)
        return Kept(subject, sealed, key.key_name, key.sealed, nonce)

    async def open(self, place: bytes, kept: Kept) -> bytes:
        """
        The message of an event.

        :raises Damaged: It is not what was written, or was not kept here.
        :raises KypelloError: What the KMS raises.
        """
        if not kept.data_key:
            return kept.content
        key = await self._keys.open(kept.key_name, kept.data_key, CONTEXT)
        try:
            return AESGCM(key).decrypt(kept.nonce, kept.content, place)
        except (InvalidTag, ValueError):
            raise Damaged("an event that waits for its target") from None

    async def _data_key(self) -> DataKey | None:
        async with self._asking:
            now = self._clock.seconds()
            if now < self._until:
                return self._key
            try:
                self._key = await self._keys.generate(CONTEXT)
            except KypelloError as error:
                self._until = now + RETRY
                _log.warn("there is no new data key for events: {error}", error=error)
            else:
                self._until = now + LIFETIME
            return self._key

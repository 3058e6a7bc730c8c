# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Master keys are never guessed: each is known by what it sealed when it was first used.

The canary of a master key is a data key that the KMS sealed under it.  It is kept with the
data, with a digest of its plaintext, the fingerprint.  A key service that cannot open it, or
opens it to something else, holds other material under the name; what it would seal could not
be read after the mistake is mended, and what is stored cannot be read now.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest

import msgspec
from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kypello.crypto.keys import context_bytes
from kypello.errors import (
    Conflict,
    Damaged,
    KeyExists,
    KeyMismatch,
    KeyNotFound,
    KMSUnavailable,
    NotAuthentic,
)
from kypello.interfaces import IKMS, IIndex
from kypello.model import DataKey, KeyInfo, KMSStatus, Write
from kypello.objects.sharing import SharedCalls

_SPACE = "canaries"

#: How many canaries are read at a time.
_PAGE = 1000


@frozen
class Known:
    """
    A master key that has been used.

    :ivar fingerprint: Identifies its material to people.
    :ivar since: First use, in seconds since the epoch.
    """

    name: str
    fingerprint: str
    since: float


class _Canary(msgspec.Struct, array_like=True):
    """
    What is kept of a master key.

    :ivar sealed: A data key under the master key.
    :ivar digest: SHA-256 of its plaintext.
    :ivar since: First use, in seconds since the epoch.
    """

    sealed: bytes
    digest: bytes
    since: float

    @property
    def fingerprint(self) -> str:
        """
        The digest for people: 16 hex digits in groups of four.
        """
        return self.digest[:8].hex("-", 2)


@implementer(IKMS)
@define(eq=False)
class GuardedKMS:
    """
    A key service that makes data keys only under master keys it has proved to hold.

    The proof is asked for at the first use of a name, and again after the service was out of
    reach: then it may be another that answers.  Besides its own errors, every call may raise
    :class:`StorageFailed` from the index.

    Opening needs no proof before, since it is one: what opens is authentic.

    :ivar _lost: Called with the name of a master key that data depends on, whenever a server holds
        other material under it, or none.
    """

    _kms: IKMS
    _index: IIndex
    _clock: IReactorTime
    _lost: Callable[[str], object] = lambda _name: None
    _proved: set[str] = field(init=False, factory=set)
    _proving: SharedCalls[str, _Canary] = field(init=False, factory=SharedCalls)
    _log: Logger = field(init=False, factory=Logger)

    @property
    def default_key(self) -> str:
        """
        That of the guarded service.
        """
        return self._kms.default_key

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Make a data key.

        :raises KeyMismatch: The service holds other material under the name.
        :raises KeyNotFound: It has no such key; the default key is created unless data hangs
            on it.
        """
        if key_name not in self._proved:
            await self._proving.run(key_name, lambda: self._prove(key_name))
        try:
            return await self._kms.generate_key(key_name, context)
        except KMSUnavailable:
            self._proved.clear()
            raise

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.

        :raises KeyMismatch: It does not open because the service holds other material.
        """
        try:
            return await self._kms.decrypt_key(key_name, sealed, context)
        except KMSUnavailable:
            self._proved.clear()
            raise
        except NotAuthentic:
            canary = await self._canary(key_name)
            if canary is not None:
                await self._checked(key_name, canary)
            raise

    async def create_key(self, key_name: str) -> None:
        """
        Make a new master key, unless data hangs on one of this name.
        """
        if await self._canary(key_name) is not None:
            raise KeyExists(key_name)
        await self._kms.create_key(key_name)

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Tell about a master key.
        """
        return await self._kms.describe_key(key_name)

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The names of the master keys that begin so.
        """
        return await self._kms.list_keys(prefix)

    async def status(self) -> KMSStatus:
        """
        How the service is.
        """
        return await self._kms.status()

    async def prove(self, key_name: str) -> str:
        """
        See that the service holds a master key; one that has never been used is taken into use.

        :return: The fingerprint, which identifies the material to people, such as
            ``93ab-61e0-1c42-f37d``.
        :raises KypelloError: As :meth:`generate_key`.
        """
        canary = await self._proving.run(key_name, lambda: self._prove(key_name))
        return canary.fingerprint

    async def holds(self, kms: IKMS, key_name: str) -> bool:
        """
        See that one of several servers, given as a service of its own, holds a master key.

        :return: Whether there was anything to prove: the key has been used before.
        :raises KeyMismatch: It holds other material under the name.
        """
        canary = await self._canary(key_name)
        if canary is not None:
            await self._check(kms, key_name, canary)
        return canary is not None

    async def _prove(self, key_name: str) -> _Canary:
        canary = await self._canary(key_name)
        if canary is None:
            canary = await self._begin(key_name)
        await self._checked(key_name, canary)
        self._proved.add(key_name)
        return canary

    async def _checked(self, key_name: str, canary: _Canary) -> None:
        try:
            await self._check(self._kms, key_name, canary)
        except KeyMismatch:
            self._proved.discard(key_name)
            raise

    async def _check(self, kms: IKMS, key_name: str, canary: _Canary) -> None:
        try:
            plaintext = await kms.decrypt_key(key_name, canary.sealed, _context(key_name))
        except NotAuthentic:
            plaintext = b""
        except KeyNotFound:
            self._lost(key_name)
            raise
        if not compare_digest(sha256(plaintext).digest(), canary.digest):
            self._lost(key_name)
            raise KeyMismatch(key_name, canary.since, canary.fingerprint)

    async def _begin(self, key_name: str) -> _Canary:
        try:
            key = await self._kms.generate_key(key_name, _context(key_name))
        except KeyNotFound:
            if key_name != self.default_key:
                raise
            self._log.info("creating the master key {name}, which no data needs", name=key_name)
            await self._create_missing(key_name)
            key = await self._kms.generate_key(key_name, _context(key_name))
        canary = _Canary(key.sealed, sha256(key.plaintext).digest(), self._clock.seconds())
        write = Write(key_name.encode(), msgspec.msgpack.encode(canary))
        try:
            await self._index.commit(_SPACE, [write], {write.key: None}, [])
        except Conflict:
            # Another process was first.  Canaries are never removed.
            winner = await self._canary(key_name)
            if winner is None:
                raise
            return winner
        return canary

    async def _create_missing(self, key_name: str) -> None:
        try:
            await self._kms.create_key(key_name)
        except KeyExists:
            self._log.debug("another process created {name} first", name=key_name)

    async def _canary(self, key_name: str) -> _Canary | None:
        (stored,) = await self._index.get(_SPACE, [key_name.encode()])
        return None if stored is None else _decoded(key_name, stored)


def _context(key_name: str) -> bytes:
    # Bucket names have no blanks, so no data key of a bucket has this context.
    return context_bytes({"Kypello canary": key_name})


def _decoded(key_name: str, stored: bytes) -> _Canary:
    try:
        return msgspec.msgpack.decode(stored, type=_Canary)
    except ValueError:
        raise Damaged(f"the canary of the master key {key_name}") from None


async def known_keys(index: IIndex) -> Sequence[Known]:
    """
    The master keys that have been used, by name.

    :raises Damaged: A canary is unreadable.
    :raises StorageFailed:
    """
    found: list[Known] = []
    start = b""
    while rows := await index.scan(_SPACE, start, None, _PAGE):
        for key, stored in rows:
            name = key.decode()
            canary = _decoded(name, stored)
            found.append(Known(name, canary.fingerprint, canary.since))
        start = rows[-1][0] + b"\0"
    return found

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The master keys of a key server, over a key store.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from attrs import define, field
from twisted.logger import Logger

from kypello.crypto.masterkey import Algorithm, MasterKey
from kypello.crypto.randomness import Random
from kypello.errors import KeyExists, KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import IKeyStore
from kypello.kes.cache import KeyCache
from kypello.objects.sharing import SharedCalls

T = TypeVar("T")

_log = Logger()


@define(eq=False)
class Keyring:
    """
    Master keys by name.

    All calls raise :class:`KeyStoreUnreachable` and :class:`KeyStoreFailed`.  Names are checked
    by the caller.

    :ivar _random: What keys are made of.
    :ivar _now: Seconds since the epoch.
    """

    _store: IKeyStore
    _cache: KeyCache
    _random: Random
    _now: Callable[[], float]
    _reads: SharedCalls[str, MasterKey] = field(factory=SharedCalls)
    _deletions: int = 0

    async def create(self, name: str, created_by: str) -> None:
        """
        Make a fresh key.

        :raises KeyExists: The existing one has not changed.
        """
        await self._add(name, MasterKey.generate(self._random, self._now(), created_by))

    async def adopt(self, name: str, key: bytes, algorithm: Algorithm, created_by: str) -> None:
        """
        Store key material that was made elsewhere.

        :param key: 32 bytes.
        :raises KeyExists: The existing one has not changed.
        """
        made = MasterKey.imported(key, algorithm, self._random, self._now(), created_by)
        await self._add(name, made)

    async def ensure(self, name: str, created_by: str) -> None:
        """
        Make a key unless there is one of this name.
        """
        try:
            await self._asked(self._store.get(name))
        except KeyNotFound:
            try:
                await self.create(name, created_by)
            except KeyExists:
                # Another server on the same store was faster.
                return

    async def get(self, name: str) -> MasterKey:
        """
        Look up a key; one read of the store serves all who ask at the same time.

        :raises KeyNotFound:
        """
        cached = self._cache.get(name)
        if cached is None and self._cache.offline:
            cached = self._cache.stale(name)
        if cached is not None:
            return cached
        try:
            return await self._reads.run(name, lambda: self._read(name))
        except KeyStoreUnreachable:
            stale = self._cache.stale(name)
            if stale is None:
                raise
            return stale

    async def delete(self, name: str) -> None:
        """
        Remove a key for good, with all that it has sealed.

        :raises KeyNotFound:
        """
        try:
            await self._asked(self._store.delete(name))
        finally:
            # A read that has begun before may still bring the key: it must not be kept.
            self._deletions += 1
            self._cache.drop(name)

    async def names(self) -> Sequence[str]:
        """
        The names of all keys, sorted by their bytes.
        """
        return await self._asked(self._store.names())

    async def status(self) -> float:
        """
        How long the key store takes to answer, in seconds.

        Who asks wants to know soon: after somebody has waited in vain, others are told so at once.
        """
        if self._cache.silent:
            raise KeyStoreUnreachable("it did not answer a moment ago")
        return await self._asked(self._store.status())

    async def look(self) -> None:
        """
        See whether the key store answers, so that what is kept for an outage counts from the
        last time that it did, and not from the last use.
        """
        try:
            await self._asked(self._store.status())
        except (KeyStoreUnreachable, KeyStoreFailed) as error:
            _log.debug("the key store does not answer: {reason}", reason=error.reason)

    async def _add(self, name: str, key: MasterKey) -> None:
        value = key.to_bytes()
        await self._asked(self._store.create(name, value))
        # A key that cannot be read back would lose what is sealed under it.  It is not kept
        # here either: the first use reads it once more.
        try:
            stored = await self._asked(self._store.get(name))
        except KeyNotFound:
            raise KeyStoreFailed("the key that was just stored is not there") from None
        if stored != value:
            raise KeyStoreFailed("the key store holds another value than was stored")

    async def _read(self, name: str) -> MasterKey:
        deletions = self._deletions
        key = MasterKey.from_bytes(await self._asked(self._store.get(name)))
        if deletions == self._deletions:
            self._cache.put(name, key)
        return key

    async def _asked(self, answer: Awaitable[T]) -> T:
        asked = self._cache.asked()
        try:
            result = await answer
        except (KeyExists, KeyNotFound):
            self._cache.contact()
            raise
        except KeyStoreUnreachable:
            self._cache.lost(asked)
            raise
        self._cache.contact()
        return result

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.keyring``.
"""

import os
from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.errors import KeyExists, KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import IKeyStore
from kypello.kes.cache import Expiry, KeyCache
from kypello.kes.keyring import Keyring
from kypello.keystore.memory import MemoryKeyStore
from tests.cases import AsyncCase


@implementer(IKeyStore)
@define(eq=False)
class Scripted:
    """
    A key store over another one, which the test can stop, slow down and corrupt.

    :ivar reads: How often a key was asked for.
    :ivar failure: Raised by all calls, when set.
    :ivar gate: Awaited by reads before they answer, when set.
    :ivar forgets: What is created is lost.
    :ivar spoils: What is created becomes another value.
    """

    store: MemoryKeyStore = field(factory=MemoryKeyStore)
    reads: int = 0
    failure: Exception | None = None
    gate: Deferred[None] | None = None
    forgets: bool = False
    spoils: bool = False

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def create(self, name: str, value: bytes) -> None:
        """
        Store, forget or spoil.
        """
        self._fail()
        if not self.forgets:
            await self.store.create(name, b"spoilt" if self.spoils else value)

    async def get(self, name: str) -> bytes:
        """
        Read when the gate is open.
        """
        self.reads += 1
        self._fail()
        value = await self.store.get(name)
        if self.gate is not None:
            await self.gate
        return value

    async def delete(self, name: str) -> None:
        """
        Remove.
        """
        self._fail()
        await self.store.delete(name)

    async def names(self) -> Sequence[str]:
        """
        List.
        """
        self._fail()
        return await self.store.names()

    async def status(self) -> float:
        """
        Answer or fail.
        """
        self._fail()
        if self.gate is not None:
            await self.gate
        return await self.store.status()

    async def close(self) -> None:
        """
        Nothing.
        """


class KeyringTests(AsyncCase):
    """
    ``Keyring`` makes, finds and removes master keys.
    """

    def setUp(self) -> None:
        """
        A keyring over a scripted store.
        """
        self.clock = Clock()
        self.store = Scripted()
        cache = KeyCache(self.clock, Expiry(100.0, 30.0, 300.0))
        self.keys = Keyring(self.store, cache, os.urandom, lambda: 1700000000.5)

    async def test_create(self) -> None:
        """
        A key is stored whole, says when and by whom it was made, and is read back.
        """
        await self.keys.create("k", "me")
        self.assertEqual(self.store.reads, 1)
        key = await self.keys.get("k")
        self.assertEqual((key.algorithm, key.created_by), ("AES256", "me"))
        self.assertEqual(key.created_at, "2023-11-14T22:13:20.5Z")
        self.assertEqual(key, MasterKey.from_bytes(await self.store.store.get("k")))

    async def test_create_is_not_cached(self) -> None:
        """
        The first use of a fresh key reads the store.
        """
        await self.keys.create("k", "me")
        await self.keys.get("k")
        self.assertEqual(self.store.reads, 2)

    async def test_create_twice(self) -> None:
        """
        A name that is taken is refused, and its key stays.
        """
        await self.keys.create("k", "me")
        before = await self.keys.get("k")
        with self.assertRaises(KeyExists):
            await self.keys.create("k", "you")
        self.assertEqual(await self.keys.get("k"), before)

    async def test_lost_write(self) -> None:
        """
        A store that takes a key and has it not is reported at once.
        """
        self.store.forgets = True
        with self.assertRaises(KeyStoreFailed):
            await self.keys.create("k", "me")

    async def test_spoilt_write(self) -> None:
        """
        A store that keeps something else than it was given is reported at once.
        """
        self.store.spoils = True
        with self.assertRaises(KeyStoreFailed):
            await self.keys.create("k", "me")

    async def test_adopt(self) -> None:
        """
        Imported material is kept as it is.
        """
        await self.keys.adopt("k", b"m" * 32, "ChaCha20", "me")
        key = await self.keys.get("k")
        self.assertEqual((key.key, key.algorithm), (b"m" * 32, "ChaCha20"))

    async def test_ensure(self) -> None:
        """
        A key that is missing is made; one that is there stays.
        """
        await self.keys.ensure("k", "me")
        before = await self.keys.get("k")
        await self.keys.ensure("k", "me")
        self.assertEqual(await self.store.store.get("k"), before.to_bytes())

    async def test_not_a_key(self) -> None:
        """
        A stored value that is no key is a failure of the store, and is not kept.
        """
        await self.store.store.create("k", b"")
        with self.assertRaises(KeyStoreFailed):
            await self.keys.get("k")
        with self.assertRaises(KeyStoreFailed):
            await self.keys.get("k")

    async def test_cached(self) -> None:
        """
        A key that was read is not read again before it expires; a missing one is.
        """
        await self.keys.create("k", "me")
        first = await self.keys.get("k")
        reads = self.store.reads
        self.assertIs(await self.keys.get("k"), first)
        self.assertEqual(self.store.reads, reads)
        self.clock.advance(30.0)
        await self.keys.get("k")
        self.assertEqual(self.store.reads, reads + 1)
        for _ in range(2):
            with self.assertRaises(KeyNotFound):
                await self.keys.get("other")
        self.assertEqual(self.store.reads, reads + 3)

    async def test_shared_read(self) -> None:
        """
        Those who want one key at the same time share one read.
        """
        await self.keys.create("k", "me")
        self.store.gate = Deferred()
        reads = self.store.reads
        waiting = [Deferred.fromCoroutine(self.keys.get("k")) for _ in range(5)]
        self.assertEqual(self.store.reads, reads + 1)
        self.store.gate.callback(None)
        found = [await one for one in waiting]
        self.assertEqual(len({id(key) for key in found}), 1)

    async def test_delete(self) -> None:
        """
        A deleted key is gone at once, cached or not.
        """
        await self.keys.create("k", "me")
        await self.keys.get("k")
        await self.keys.delete("k")
        with self.assertRaises(KeyNotFound):
            await self.keys.get("k")
        with self.assertRaises(KeyNotFound):
            await self.keys.delete("k")

    async def test_delete_during_read(self) -> None:
        """
        A read that a deletion overtakes does not bring the key back.
        """
        await self.keys.create("k", "me")
        self.store.gate = Deferred()
        reading = Deferred.fromCoroutine(self.keys.get("k"))
        await self.keys.delete("k")
        self.store.gate.callback(None)
        await reading
        with self.assertRaises(KeyNotFound):
            await self.keys.get("k")

    async def test_outage(self) -> None:
        """
        Keys that were read serve on for the offline time when the store cannot be reached.
        """
        await self.keys.create("k", "me")
        before = await self.keys.get("k")
        self.store.failure = KeyStoreUnreachable("gone")
        self.clock.advance(299.0)
        self.assertEqual(await self.keys.get("k"), before)
        with self.assertRaises(KeyStoreUnreachable):
            await self.keys.get("other")
        self.clock.advance(1.0)
        with self.assertRaises(KeyStoreUnreachable):
            await self.keys.get("k")

    async def test_nobody_waits_in_an_outage(self) -> None:
        """
        Once the store has not answered, expired keys serve without asking it, until a look finds
        it again.
        """
        await self.keys.create("k", "me")
        await self.keys.get("k")
        self.store.failure = KeyStoreUnreachable("gone")
        await self.keys.look()
        self.clock.advance(200.0)
        reads = self.store.reads
        await self.keys.get("k")
        self.assertEqual(self.store.reads, reads)
        self.store.failure = None
        await self.keys.look()
        await self.keys.get("k")
        self.assertEqual(self.store.reads, reads + 1)

    async def test_silence(self) -> None:
        """
        After one has waited for the store in vain, others that ask how it is are told at once,
        for a moment, and not when it has answered since.
        """
        await self.keys.create("k", "me")
        self.store.gate = Deferred()
        waiting = Deferred.fromCoroutine(self.keys.status())
        self.clock.advance(9.0)
        self.store.gate.errback(KeyStoreUnreachable("no answer"))
        with self.assertRaises(KeyStoreUnreachable):
            await waiting
        self.store.gate = None
        self.clock.advance(9.0)
        with self.assertRaises(KeyStoreUnreachable):
            await self.keys.status()
        await self.keys.look()
        await self.keys.status()
        self.store.failure = KeyStoreUnreachable("refused")
        await self.keys.look()
        self.store.failure = None
        await self.keys.status()

    async def test_looks_count(self) -> None:
        """
        The offline time begins with the last look that found the store, not with the last use.
        """
        await self.keys.create("k", "me")
        await self.keys.get("k")
        self.clock.advance(1000.0)
        await self.keys.look()
        self.store.failure = KeyStoreFailed("sealed")
        await self.keys.look()
        self.store.failure = KeyStoreUnreachable("gone")
        self.clock.advance(299.0)
        await self.keys.get("k")

    async def test_refusal_is_no_outage(self) -> None:
        """
        A store that answers with an error is believed, whatever was read before.
        """
        await self.keys.create("k", "me")
        await self.keys.get("k")
        self.clock.advance(200.0)
        self.store.failure = KeyStoreFailed("sealed")
        with self.assertRaises(KeyStoreFailed):
            await self.keys.get("k")

    async def test_names_and_status(self) -> None:
        """
        Names and status are those of the store.
        """
        await self.keys.create("b", "me")
        await self.keys.create("a", "me")
        self.assertEqual(await self.keys.names(), ["a", "b"])
        self.assertEqual(await self.keys.status(), 0.0)

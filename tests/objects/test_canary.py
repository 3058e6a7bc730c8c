# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of canaries.
"""

import os

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kypello.crypto.masterkey import MasterKey
from kypello.errors import (
    Damaged,
    KeyExists,
    KeyMismatch,
    KeyNotFound,
    KMSUnavailable,
    NotAuthentic,
)
from kypello.interfaces import IKMS, IIndex
from kypello.model import Write
from kypello.objects.canary import GuardedKMS
from kypello.store.memory import MemoryIndex
from tests.cases import AsyncCase
from tests.objects.keyservice import MemoryKMS


class GuardedKMSTests(AsyncCase):
    """
    Which key material is used.
    """

    def setUp(self) -> None:
        """
        Start with data of its own and a key service that holds the default key.
        """
        self.index = MemoryIndex()
        self.clock = Clock()
        self.clock.advance(1000)
        self.kms = MemoryKMS.with_default_key()

    def guard(self, kms: MemoryKMS | None = None, index: IIndex | None = None) -> GuardedKMS:
        """
        A process that starts with the data and a key service.
        """
        return GuardedKMS(kms or self.kms, index or self.index, self.clock)

    async def canaries(self) -> list[tuple[bytes, bytes]]:
        """
        What is kept of master keys.
        """
        return list(await self.index.scan("canaries", b"", None, 10))

    async def test_provides(self) -> None:
        """
        It is a key service, and passes on what needs no proof.
        """
        guarded = self.guard()
        verifyObject(IKMS, guarded)
        self.assertEqual(guarded.default_key, "my-key")
        self.assertEqual(await guarded.list_keys(""), ["my-key"])
        self.assertEqual((await guarded.describe_key("my-key")).name, "my-key")
        self.assertEqual((await guarded.status()).name, "memory")
        self.assertEqual(await self.canaries(), [])

    async def test_round_trip(self) -> None:
        """
        Data keys are made and opened; the proof is asked for once.
        """
        guarded = self.guard()
        for _ in range(2):
            made = await guarded.generate_key("my-key", b"c")
            self.assertEqual(await guarded.decrypt_key("my-key", made.sealed, b"c"), made.plaintext)
        self.assertEqual(self.kms.calls.count("generate"), 3)
        self.assertEqual(len(await self.canaries()), 1)

    async def test_shared_proof(self) -> None:
        """
        Many who use a key for the first time at once share the proof.
        """
        guarded = self.guard()
        pause = self.kms.pause = Deferred()
        waiting = [Deferred.fromCoroutine(guarded.generate_key("my-key", b"c")) for _ in range(3)]
        self.kms.pause = None
        pause.callback(None)
        for each in waiting:
            await each
        self.assertEqual(self.kms.calls.count("generate"), 4)

    async def test_other_material(self) -> None:
        """
        Other material under a known name makes no data key, and the error tells which key,
        since when and what was expected; reading what the material sealed goes on.
        """
        fingerprint = await self.guard().prove("my-key")
        self.clock.advance(500)
        other = MemoryKMS.with_default_key()
        guarded = self.guard(other)
        with self.assertRaises(KeyMismatch) as caught:
            await guarded.generate_key("my-key", b"c")
        error = caught.exception
        self.assertEqual((error.name, error.since, error.expected), ("my-key", 1000, fingerprint))
        self.assertEqual(other.calls, ["decrypt"])
        theirs = await other.generate_key("my-key", b"c")
        self.assertEqual(await guarded.decrypt_key("my-key", theirs.sealed, b"c"), theirs.plaintext)

    async def test_one_of_several(self) -> None:
        """
        Each of several servers has to hold the key, once it was used; before that there is
        nothing to prove.
        """
        guarded, other = self.guard(), MemoryKMS.with_default_key()
        self.assertFalse(await guarded.holds(other, "my-key"))
        await guarded.prove("my-key")
        self.assertTrue(await guarded.holds(self.kms, "my-key"))
        with self.assertRaises(KeyMismatch):
            await guarded.holds(other, "my-key")
        other.keys.clear()
        with self.assertRaises(KeyNotFound):
            await guarded.holds(other, "my-key")

    async def test_material_comes_back(self) -> None:
        """
        Once the right material is back, all goes on without a restart.
        """
        right = self.kms.keys["my-key"]
        await self.guard().prove("my-key")
        self.kms.keys["my-key"] = MasterKey.generate(os.urandom, 0, "")
        guarded = self.guard()
        with self.assertRaises(KeyMismatch):
            await guarded.generate_key("my-key", b"c")
        self.kms.keys["my-key"] = right
        await guarded.generate_key("my-key", b"c")

    async def test_reading_with_other_material(self) -> None:
        """
        What does not open because of other material is told apart from what was tampered with.
        """
        guarded = self.guard()
        made = await guarded.generate_key("my-key", b"c")
        with self.assertRaises(NotAuthentic):
            await guarded.decrypt_key("my-key", made.sealed, b"other")
        self.kms.keys["my-key"] = MasterKey.generate(os.urandom, 0, "")
        with self.assertRaises(KeyMismatch):
            await guarded.decrypt_key("my-key", made.sealed, b"c")
        with self.assertRaises(KeyMismatch):
            await guarded.generate_key("my-key", b"c")

    async def test_after_outage(self) -> None:
        """
        After the service was out of reach the proof is asked for again.
        """
        guarded = self.guard()
        made = await guarded.generate_key("my-key", b"c")
        for call in (
            lambda: guarded.generate_key("my-key", b"c"),
            lambda: guarded.decrypt_key("my-key", made.sealed, b"c"),
        ):
            self.kms.down = True
            with self.assertRaises(KMSUnavailable):
                await call()
            self.kms.down = False
            self.kms.calls.clear()
            await guarded.generate_key("my-key", b"c")
            self.assertEqual(self.kms.calls, ["decrypt", "generate"])

    async def test_down_at_first(self) -> None:
        """
        A service that is down at first is tried again at the next use.
        """
        guarded = self.guard()
        self.kms.down = True
        with self.assertRaises(KMSUnavailable):
            await guarded.generate_key("my-key", b"c")
        self.assertEqual(await self.canaries(), [])
        self.kms.down = False
        await guarded.generate_key("my-key", b"c")

    async def test_missing_key(self) -> None:
        """
        A missing default key is created when no data hangs on it; another one is not.
        """
        self.kms.keys.clear()
        guarded = self.guard()
        with self.assertRaises(KeyNotFound):
            await guarded.generate_key("other", b"c")
        await guarded.generate_key("my-key", b"c")
        self.assertEqual(list(self.kms.keys), ["my-key"])

    async def test_lost_key(self) -> None:
        """
        A key that data hangs on is never created anew, not by request either.
        """
        await self.guard().prove("my-key")
        self.kms.keys.clear()
        guarded = self.guard()
        with self.assertRaises(KeyNotFound):
            await guarded.generate_key("my-key", b"c")
        with self.assertRaises(KeyExists):
            await guarded.create_key("my-key")
        self.assertEqual(self.kms.keys, {})
        await guarded.create_key("other")
        self.assertEqual(list(self.kms.keys), ["other"])

    async def test_race(self) -> None:
        """
        Of two processes that use a key first, one leaves the canary and both go on.
        """
        first, second = self.guard(), self.guard()
        pause = self.kms.pause = Deferred()
        waiting = [
            Deferred.fromCoroutine(guarded.generate_key("my-key", b"c"))
            for guarded in (first, second)
        ]
        self.kms.pause = None
        pause.callback(None)
        for each in waiting:
            await each
        self.assertEqual(len(await self.canaries()), 1)
        self.assertEqual(await first.prove("my-key"), await second.prove("my-key"))

    async def test_fingerprint(self) -> None:
        """
        The fingerprint is 16 hex digits in groups, and the same in every process.
        """
        fingerprint = await self.guard().prove("my-key")
        self.assertRegex(fingerprint, "^[0-9a-f]{4}(-[0-9a-f]{4}){3}$")
        self.assertEqual(await self.guard().prove("my-key"), fingerprint)

    async def test_no_plaintext(self) -> None:
        """
        What is kept holds no plaintext: it opens with the key service only.
        """
        await self.guard().prove("my-key")
        ((_, stored),) = await self.canaries()
        sealed = msgspec.msgpack.decode(stored)[0]
        plaintext = await self.kms.decrypt_key("my-key", sealed, b'{"Kypello canary":"my-key"}')
        self.assertNotIn(plaintext, stored)

    async def test_damaged(self) -> None:
        """
        A canary that is unreadable stops the use of its key.
        """
        await self.index.commit("canaries", [Write(b"my-key", b"x")], {}, [])
        with self.assertRaises(Damaged):
            await self.guard().generate_key("my-key", b"c")

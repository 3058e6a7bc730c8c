# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.reseal``.
"""

import os
from pathlib import Path

from twisted.internet.task import Clock

from kypello.crypto.masterkey import MasterKey
from kypello.errors import KeyStoreFailed
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import Passphrase
from kypello.keystore.reseal import Resealing
from kypello.keystore.seal import WrongPassphrase, is_sealed
from kypello.keystore.sealedfs import SealedFSKeyStore
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.keystore.test_seal import QUICK

_KEYS = {
    name: MasterKey.generate(os.urandom, 1_800_000_000.0, "me").to_bytes() for name in ("a", "b")
}


class ResealingTests(AsyncCase):
    """
    ``Resealing`` changes what files are sealed under.
    """

    async def setUp(self) -> None:
        """
        Two keys in clear.
        """
        self.path = Path(self.mktemp())
        os.makedirs(self.path)
        self.files = FSKeyStore(self.path, InlineLanes(), Clock(), os.urandom)
        for name, value in _KEYS.items():
            await self.files.create(name, value)

    def resealing(self, old: str | None, new: str | None) -> Resealing:
        """
        One with these passphrases.
        """
        passphrases = (None if text is None else Passphrase(text) for text in (old, new))
        return Resealing(self.files, *passphrases, InlineLanes().lane(), os.urandom, QUICK)

    def held(self) -> dict[str, bytes]:
        """
        What is on the disk.
        """
        return {name: (self.path / name).read_bytes() for name in os.listdir(self.path)}

    async def assert_under(self, passphrase: str) -> None:
        """
        Check that all keys are sealed under a passphrase.
        """
        self.assertTrue(all(map(is_sealed, self.held().values())))
        store = SealedFSKeyStore(
            self.files, Passphrase(passphrase), InlineLanes().lane(), os.urandom
        )
        self.assertEqual({name: await store.get(name) for name in _KEYS}, _KEYS)

    async def test_there_and_back(self) -> None:
        """
        Keys are sealed, brought under another passphrase, and back into clear.
        """
        self.assertEqual(await self.resealing(None, "one").run(), 2)
        await self.assert_under("one")
        self.assertEqual(await self.resealing("one", "two").run(), 2)
        await self.assert_under("two")
        self.assertEqual(await self.resealing("two", None).run(), 2)
        self.assertEqual(self.held(), _KEYS)
        self.assertEqual(await self.resealing("two", None).run(), 0)

    async def test_interrupted(self) -> None:
        """
        What was half done goes on.
        """
        await self.resealing(None, "one").run()
        before = self.held()
        await self.resealing("one", "two").run()
        await self.files.replace("b", before["b"])
        self.assertEqual(await self.resealing("one", "two").run(), 1)
        await self.assert_under("two")
        self.assertEqual(await self.resealing("one", "two").run(), 0)

    async def test_wrong_passphrase(self) -> None:
        """
        When one file does not open, none has changed.
        """
        await self.resealing(None, "one").run()
        await self.files.replace("a", _KEYS["a"])
        before = self.held()
        for old in ("other", None):
            with self.assertRaises(WrongPassphrase):
                await self.resealing(old, "two").run()
            self.assertEqual(self.held(), before)

    async def test_no_key(self) -> None:
        """
        A file that is no key is told before anything is written.
        """
        await self.files.create("notes", b"buy milk")
        before = self.held()
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.resealing(None, "one").run()
        self.assertIn("notes is no key", caught.exception.reason)
        self.assertEqual(self.held(), before)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.sealedfs`` and ``kypello.keystore.fsconfig``.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from twisted.internet.task import Clock

from kypello.crypto.masterkey import MasterKey
from kypello.document import Report, read
from kypello.errors import InvalidKeyName, KeyNotFound, KeyStoreFailed
from kypello.interfaces import IKeyStore
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import MAX_PASSPHRASE, FSSettings, Passphrase
from kypello.keystore.seal import WrongPassphrase, is_sealed
from kypello.keystore.sealedfs import SealedFSKeyStore
from kypello.keystore.table import Parts, make_keystore, read_keystore
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase, SyncCase
from tests.contracts.keystore import NAME, KeyStoreContract
from tests.keystore.test_seal import QUICK

_KEY = MasterKey.generate(os.urandom, 1_800_000_000.0, "me").to_bytes()


class SealedFSKeyStoreTests(KeyStoreContract, AsyncCase):
    """
    The contract of a key store, in sealed files, and what is particular to them.
    """

    def setUp(self) -> None:
        """
        A directory.
        """
        self.path = Path(self.mktemp())
        self.path.mkdir(parents=True)

    def make_store(self, passphrase: str = "opensesame") -> SealedFSKeyStore:
        """
        A store in the directory.
        """
        lane = InlineLanes().lane()
        return SealedFSKeyStore(self.plain(), Passphrase(passphrase), lane, os.urandom, QUICK)

    def plain(self) -> FSKeyStore:
        """
        The same without a passphrase.
        """
        return FSKeyStore(self.path, InlineLanes(), Clock(), os.urandom)

    def files(self) -> dict[str, bytes]:
        """
        What is on the disk.
        """
        return {name: (self.path / name).read_bytes() for name in os.listdir(self.path)}

    async def test_files(self) -> None:
        """
        A key is one sealed file that only its owner may read, and nothing else is left.
        """
        await self.make_store().create(NAME, _KEY)
        (name,) = self.files()
        self.assertEqual(name, NAME)
        self.assertTrue(is_sealed(self.files()[NAME]))
        self.assertNotIn(_KEY, self.files()[NAME])
        self.assertEqual(stat.S_IMODE((self.path / NAME).stat().st_mode), 0o600)
        self.assertEqual(await self.make_store().get(NAME), _KEY)

    async def test_wrong_passphrase(self) -> None:
        """
        Another passphrase is told as such by everything, and nothing is written.
        """
        await self.make_store().create(NAME, _KEY)
        await self.plain().create("clear", _KEY)
        before = self.files()
        store = self.make_store("closesesame")
        for call in (
            store.prepare(),
            store.get(NAME),
            store.create("other", _KEY),
            store.status(),
        ):
            with self.assertRaises(WrongPassphrase):
                await call
        self.assertEqual(self.files(), before)

    async def test_no_passphrase(self) -> None:
        """
        A server without the passphrase does not start, and does not take a file for a key.
        """
        await self.make_store().create(NAME, _KEY)
        for call in (self.plain().prepare(), self.plain().get(NAME)):
            with self.assertRaises(KeyStoreFailed) as caught:
                await call
            self.assertIn("passphrase", caught.exception.reason)

    async def test_conversion(self) -> None:
        """
        Files that are not sealed are read, and sealed when a server starts.
        """
        await self.plain().create(NAME, _KEY)
        store = self.make_store()
        self.assertEqual(await store.get(NAME), _KEY)
        await store.prepare()
        self.assertEqual(list(self.files()), [NAME])
        self.assertTrue(is_sealed(self.files()[NAME]))
        self.assertEqual(await self.make_store().get(NAME), _KEY)
        self.assertEqual(stat.S_IMODE((self.path / NAME).stat().st_mode), 0o600)

    async def test_strangers(self) -> None:
        """
        A file that is no key stays as it is.
        """
        await self.plain().create("notes", b"buy milk")
        await self.make_store().prepare()
        self.assertEqual(self.files(), {"notes": b"buy milk"})

    async def test_damaged(self) -> None:
        """
        One damaged file hinders neither the start nor the other keys.
        """
        store = self.make_store()
        await store.create("a", _KEY)
        await store.create("b", _KEY)
        damaged = bytearray(self.files()["a"])
        damaged[-5] ^= 1
        _write(self.path / "a", bytes(damaged))
        store = self.make_store()
        await store.prepare()
        self.assertEqual(await store.get("b"), _KEY)
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get("a")
        self.assertIn("damaged", caught.exception.reason)

    async def test_only_damaged(self) -> None:
        """
        When nothing can tell whether the passphrase is right, nothing is sealed under it.
        """
        await self.make_store().create("a", _KEY)
        _write(self.path / "a", self.files()["a"][:-8])
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.make_store().create("b", _KEY)
        self.assertNotIsInstance(caught.exception, WrongPassphrase)
        self.assertEqual(list(self.files()), ["a"])

    async def test_swapped(self) -> None:
        """
        A file under the name of another is refused.
        """
        store = self.make_store()
        await store.create("a", _KEY)
        _write(self.path / "b", self.files()["a"])
        with self.assertRaises(KeyStoreFailed):
            await store.get("b")

    async def test_names_that_are_no_file_names(self) -> None:
        """
        A name that could leave the directory is refused by all calls.
        """
        store = self.make_store()
        for name in ("", "..", "a/b", ".a"):
            for call in (store.get(name), store.delete(name), store.create(name, _KEY)):
                with self.assertRaises(InvalidKeyName):
                    await call

    async def test_replace(self) -> None:
        """
        Only a file that is there can be replaced, and nothing is left of the attempt.
        """
        with self.assertRaises(KeyNotFound):
            await self.plain().replace(NAME, b"x")
        with self.assertRaises(InvalidKeyName):
            await self.plain().replace("a/b", b"x")
        self.assertEqual(self.files(), {})


class PassphraseTests(SyncCase):
    """
    ``Passphrase`` reads files.
    """

    def test_file(self) -> None:
        """
        Line ends behind a passphrase do not count; a file of bytes is as good.
        """
        path = Path(self.mktemp())
        for content, expected in ((b"pass word\r\n", b"pass word"), (b"\xff\x00\n\n", b"\xff\x00")):
            path.write_bytes(content)
            self.assertEqual(Passphrase(file=path).read(), expected)

    def test_unusable(self) -> None:
        """
        No file, an empty one, and one that is no passphrase are told by name, without content.
        """
        path = Path(self.mktemp())
        for content in (None, b"", b"\n", b"x" * (MAX_PASSPHRASE + 1)):
            if content is not None:
                path.write_bytes(content)
            with self.assertRaises(KeyStoreFailed) as caught:
                Passphrase(file=path).read()
            self.assertIn(str(path), caught.exception.reason)
            self.assertNotIn("xx", caught.exception.reason)

    def test_no_secrets(self) -> None:
        """
        The text form does not tell it.
        """
        self.assertNotIn("opensesame", repr(FSSettings(Path(), Passphrase("opensesame"))))


class ReadTests(SyncCase):
    """
    The section ``keystore.fs``.
    """

    def parsed(
        self, text: str, environment: Mapping[str, str] | None = None
    ) -> tuple[FSSettings | None, list[str]]:
        """
        Settings and mistakes of a section.
        """
        report = Report("kes.yml")
        return read_keystore(read(text, report, environment or {})), report.mistakes

    def test_passphrases(self) -> None:
        """
        A passphrase is given as it is, by its file, or by a credential of systemd.
        """
        environment = {"P": "opensesame", "CREDENTIALS_DIRECTORY": "/run/c"}
        for text, expected in (
            ("passphrase: '${P}'", Passphrase("opensesame")),
            ("passphrase_file: /etc/p", Passphrase(file=Path("/etc/p"))),
            ("passphrase_credential: p", Passphrase(file=Path("/run/c/p"))),
        ):
            settings, mistakes = self.parsed(f"fs: {{path: a, {text}}}", environment)
            self.assertEqual((settings, mistakes), (FSSettings(Path("a"), expected), []))

    def test_mistakes(self) -> None:
        """
        A passphrase that is empty, given twice, or cannot be had is a mistake.
        """
        for text, expected in (
            ("passphrase: ''", "1: fs.passphrase: is required"),
            ("passphrase: '${NONE}'", "1: fs.passphrase: the environment variable NONE"),
            ("passphrase_file:", "1: fs.passphrase_file: is required"),
            ("passphrase: a, passphrase_file: b", "1: fs: must have one passphrase"),
            ("passphrase_credential: p", "1: fs.passphrase_credential: needs a service"),
        ):
            _, (mistake,) = self.parsed(f"fs: {{path: a, {text}}}")
            self.assertTrue(mistake.startswith(f"kes.yml:{expected}"), mistake)

    def test_make(self) -> None:
        """
        With a passphrase the store seals.
        """
        parts = Parts(Clock(), InlineLanes(), os.urandom)
        for passphrase, kind in ((None, FSKeyStore), (Passphrase("a"), SealedFSKeyStore)):
            made: IKeyStore = make_keystore(FSSettings(Path("a"), passphrase), parts)
            self.assertIs(type(made), kind)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)

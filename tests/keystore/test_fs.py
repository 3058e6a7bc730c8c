# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.fs``.
"""

import os
import stat
from pathlib import Path

from attrs import define
from twisted.internet.task import Clock

from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyStoreFailed,
    KeyStoreUnreachable,
)
from kypello.keystore.fs import MAX_VALUE, FSKeyStore
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME, KeyStoreContract


@define
class Counted:
    """
    Randomness that counts.
    """

    made: int = 0

    def __call__(self, size: int) -> bytes:
        """
        The next number.
        """
        self.made += 1
        return self.made.to_bytes(size, "big")


class FSKeyStoreTests(KeyStoreContract, AsyncCase):
    """
    The contract of a key store, in a directory, and what is particular to files.
    """

    def make_store(self) -> FSKeyStore:
        """
        A store in a fresh directory.
        """
        self.path = Path(self.mktemp())
        self.path.mkdir(parents=True)
        return FSKeyStore(self.path, InlineLanes(), Clock(), Counted())

    async def test_files(self) -> None:
        """
        A key is one file that only its owner may read, and nothing else is left.
        """
        store = self.make_store()
        await store.create(NAME, b"value")
        self.assertEqual(os.listdir(self.path), [NAME])
        self.assertEqual((self.path / NAME).read_bytes(), b"value")
        self.assertEqual(stat.S_IMODE((self.path / NAME).stat().st_mode), 0o600)

    async def test_refused_create_leaves_nothing(self) -> None:
        """
        A name that is taken leaves no temporary file.
        """
        store = self.make_store()
        await store.create(NAME, b"first")
        with self.assertRaises(KeyExists):
            await store.create(NAME, b"second")
        self.assertEqual(os.listdir(self.path), [NAME])

    async def test_names_that_are_no_file_names(self) -> None:
        """
        A name that could leave the directory, or hide in it, is refused by all calls.
        """
        store = self.make_store()
        for name in ("", ".", "..", "a/b", "../a", "a.b", ".a", "a\\b", "a\0b"):
            for call in (store.get, store.delete):
                with self.assertRaises(InvalidKeyName):
                    await call(name)
            with self.assertRaises(InvalidKeyName):
                await store.create(name, b"value")

    async def test_strangers(self) -> None:
        """
        Directories, hidden files and files with dots are not listed; symbolic links are.
        """
        store = self.make_store()
        (self.path / "directory").mkdir()
        (self.path / ".left-over").write_bytes(b"x")
        (self.path / "notes.txt").write_bytes(b"x")
        (self.path / "linked").symlink_to("notes.txt")
        self.assertEqual(await store.names(), ["linked"])

    async def test_lost_directory(self) -> None:
        """
        Without its directory the store is unreachable: its keys are not reported as missing.
        """
        store = self.make_store()
        self.path.rmdir()
        for call in (store.get(NAME), store.delete(NAME), store.create(NAME, b"v")):
            with self.assertRaises(KeyStoreUnreachable):
                await call
        with self.assertRaises(KeyStoreUnreachable):
            await store.names()
        with self.assertRaises(KeyStoreUnreachable):
            await store.status()

    async def test_no_directory(self) -> None:
        """
        A file in place of the directory makes the store unreachable.
        """
        store = self.make_store()
        self.path.rmdir()
        self.path.write_bytes(b"")
        with self.assertRaises(KeyStoreUnreachable):
            await store.status()
        with self.assertRaises(KeyStoreFailed):
            await store.prepare()

    async def test_prepare(self) -> None:
        """
        The directory is made for its owner alone, with its parents; one that exists stays.
        """
        self.make_store()
        path = self.path / "deep" / "keys"
        store = FSKeyStore(path, InlineLanes(), Clock(), Counted())
        await store.prepare()
        await store.prepare()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)

    async def test_unreadable(self) -> None:
        """
        What cannot be read is a failure that names the directory, and no missing key.
        """
        store = self.make_store()
        (self.path / NAME).mkdir()
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn(str(self.path), caught.exception.reason)

    async def test_away(self) -> None:
        """
        A disk that does not answer is out of reach, so that keys in memory go on to serve.
        """
        store = self.make_store()
        # Nothing can be read at its beginning: EIO.
        (self.path / NAME).symlink_to("/proc/self/mem")
        with self.assertRaises(KeyStoreUnreachable) as caught:
            await store.get(NAME)
        self.assertIn("Input/output error", str(caught.exception))

    async def test_too_long(self) -> None:
        """
        A file that is longer than any key is refused.
        """
        store = self.make_store()
        (self.path / NAME).write_bytes(bytes(MAX_VALUE + 1))
        with self.assertRaises(KeyStoreFailed):
            await store.get(NAME)

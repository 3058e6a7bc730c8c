# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.directory``.
"""

import os
import stat
from pathlib import Path

from kypello.errors import ConfigurationError
from kypello.model import Identity
from kypello.store.directory import DataDirectory, write_private
from tests.cases import SyncCase


class DirectoryCase(SyncCase):
    """
    A test with a path for a data directory.
    """

    def setUp(self) -> None:
        """
        Name a directory that does not exist yet.
        """
        self.path = Path(self.mktemp()) / "data"

    def open(self) -> DataDirectory:
        """
        Open it until the test ends.
        """
        directory = DataDirectory(self.path)
        self.addCleanup(directory.close)
        return directory

    def mistake(self) -> str:
        """
        Why it cannot be opened.
        """
        with self.assertRaises(ConfigurationError) as caught:
            DataDirectory(self.path)
        (mistake,) = caught.exception.mistakes
        self.assertIn(str(self.path), mistake)
        return mistake


class DataDirectoryTests(DirectoryCase):
    """
    ``DataDirectory`` makes, recognizes and holds a directory.
    """

    def test_made(self) -> None:
        """
        All of it is made, with its parents, for nobody else to look into.
        """
        directory = self.open()
        self.assertTrue(directory.index.is_dir())
        self.assertTrue(directory.blobs.is_dir())
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        self.assertEqual(set(os.listdir(self.path)), {"format", "lock", "index", "blobs"})

    def test_again(self) -> None:
        """
        It is opened again as it was left.
        """
        directory = DataDirectory(self.path)
        (directory.blobs / "kept").touch()
        directory.close()
        self.assertTrue((self.open().blobs / "kept").exists())

    def test_in_use(self) -> None:
        """
        Only one server at a time holds it; the other one is told who does.
        """
        self.open()
        self.assertIn(f"in use by another server (process {os.getpid()})", self.mistake())

    def test_other_format(self) -> None:
        """
        A later format is refused.
        """
        DataDirectory(self.path).close()
        (self.path / "format").write_text("kypello 2\n")
        self.assertIn("kypello 2", self.mistake())

    def test_minio(self) -> None:
        """
        A MinIO server's directory is refused with what to do instead, and stays as it is.
        """
        (self.path / ".minio.sys").mkdir(parents=True)
        self.assertIn("mc mirror", self.mistake())
        self.assertEqual(os.listdir(self.path), [".minio.sys"])

    def test_foreign(self) -> None:
        """
        A directory that holds something else is refused, and stays as it is.
        """
        (self.path / "photos").mkdir(parents=True)
        self.assertIn("'photos'", self.mistake())
        self.assertEqual(os.listdir(self.path), ["photos"])

    def test_fresh_file_system(self) -> None:
        """
        What a new file system holds by itself does not matter.
        """
        (self.path / "lost+found").mkdir(parents=True)
        self.open()

    def test_file(self) -> None:
        """
        A file in its place is told.
        """
        self.path.parent.mkdir(parents=True)
        self.path.touch()
        self.mistake()


class CredentialsTests(DirectoryCase):
    """
    ``credentials`` makes and keeps root credentials.
    """

    def test_kept(self) -> None:
        """
        They are made once, with the rights of the owner alone, and read from then on.
        """
        directory = self.open()
        made, new = directory.credentials(os.urandom)
        self.assertTrue(new)
        self.assertRegex(made.access_key, "^[A-Z2-7]{20}$")
        self.assertRegex(made.secret_key, "^[A-Z2-7]{40}$")
        self.assertEqual(stat.S_IMODE(directory.credentials_file.stat().st_mode), 0o600)
        self.assertEqual(directory.credentials(os.urandom), (made, False))

    def test_edited(self) -> None:
        """
        Credentials that were written by hand are used; half of them are refused.
        """
        directory = self.open()
        text = "MINIO_ROOT_USER=admin\nMINIO_ROOT_PASSWORD=pass=word\n"
        directory.credentials_file.write_text(text)
        self.assertEqual(directory.credentials(os.urandom), (Identity("admin", "pass=word"), False))
        directory.credentials_file.write_text("MINIO_ROOT_USER=admin\n")
        with self.assertRaises(ConfigurationError):
            directory.credentials(os.urandom)


class WritePrivateTests(SyncCase):
    """
    ``write_private`` writes all or nothing.
    """

    def test_replaces(self) -> None:
        """
        A file is replaced, and no temporary file stays.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        for content in (b"one", b"two"):
            write_private(folder / "f", content, os.urandom)
            self.assertEqual((folder / "f").read_bytes(), content)
        self.assertEqual(os.listdir(folder), ["f"])

    def test_failure(self) -> None:
        """
        When it fails, nothing is left.
        """
        folder = Path(self.mktemp())
        (folder / "f").mkdir(parents=True)
        with self.assertRaises(OSError):
            write_private(folder / "f", b"x", os.urandom)
        self.assertEqual(os.listdir(folder), ["f"])

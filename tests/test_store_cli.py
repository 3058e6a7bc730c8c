# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store_cli``, with its keys and its report.
"""

import io
import json
import os
import sqlite3
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kypello.crypto.masterkey import MasterKey
from kypello.errors import ConfigurationError, KeyNotFound, KMSNotSupported, NotAuthentic
from kypello.interfaces import IKMS
from kypello.keystore.fsconfig import Passphrase
from kypello.keystore.memory import MemoryKeyStore
from kypello.kms.wire import bound
from kypello.kmsconfig import StaticKeySettings
from kypello.model import ObjectMetadata
from kypello.store.directory import DataDirectory
from kypello.store.files import FileBlobs
from kypello.store.findings import Figures, Problem
from kypello.store.layout import LayoutStore
from kypello.store.readonly import ReadOnly, held
from kypello.store.rebuilt import Rebuilt
from kypello.store.sqlite import SQLiteIndex
from kypello.store_cli import check_directory, main
from kypello.storekeys import Keys, LocalKMS, find_keys
from kypello.storereport import Report, amount, describe
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase, SyncCase
from tests.integration.server import STATIC_KEY
from tests.store.disk import DiskCase, held_open


class Terminal(io.StringIO):
    """
    A terminal.
    """

    def isatty(self) -> bool:
        """
        Say so.
        """
        return True


class CommandTests(SyncCase):
    """
    What is refused.
    """

    def setUp(self) -> None:
        """
        A data directory that nobody uses.
        """
        self.path = Path(self.mktemp()) / "data"
        DataDirectory(self.path).close()

    def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """
        Run ``kypello store``: exit code, output, errors.
        """
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as ended:
                code = int(str(ended.code))
        return code, out.getvalue(), err.getvalue()

    def refused(self, *parts: str, command: str = "check") -> None:
        """
        See that the directory is refused in words that hold *parts*.
        """
        code, out, err = self.run_command(command, str(self.path))
        self.assertEqual((code, out, err.count("\n")), (2, "", 1), err)
        for part in ("Error: ", str(self.path), *parts):
            self.assertIn(part, err)

    def test_usage(self) -> None:
        """
        Without a command or a directory the usage is printed.
        """
        for arguments in ((), ("nonsense",), ("check",), ("rebuild",), ("check", "a", "b")):
            code, _out, err = self.run_command(*arguments)
            self.assertEqual(code, 2)
            self.assertIn("usage: kypello store", err)

    def test_in_use(self) -> None:
        """
        A directory that a server uses is refused, and the server is named.
        """
        directory = DataDirectory(self.path)
        self.addCleanup(directory.close)
        for command in ("check", "rebuild"):
            self.refused("in use by a server", str(os.getpid()), command=command)

    def test_foreign(self) -> None:
        """
        What is no data directory of this version is refused.
        """
        (self.path / "format").write_bytes(b"kypello 2\n")
        self.refused("format")
        (self.path / "format").unlink()
        self.refused("no data directory of Kypello", "format is not there")
        self.path = self.path / "missing"
        self.refused("no data directory of Kypello")

    def test_incomplete(self) -> None:
        """
        A directory without blobs is refused, and one without an index is not checked.
        """
        (self.path / "index").rmdir()
        self.refused("index is not there", "kypello store rebuild")
        (self.path / "index").mkdir()
        (self.path / "blobs").rmdir()
        for command in ("check", "rebuild"):
            self.refused("blobs is not there", command=command)

    def test_held(self) -> None:
        """
        While it is held no server can use it, and nothing in it changes.
        """
        before = {path: path.stat().st_mtime_ns for path in self.path.rglob("*")}
        with held(self.path), self.assertRaises(ConfigurationError):
            DataDirectory(self.path)
        after = {path: path.stat().st_mtime_ns for path in self.path.rglob("*")}
        self.assertEqual(before, after)
        DataDirectory(self.path).close()

    def test_without_lock(self) -> None:
        """
        A copy may lack the lock.
        """
        (self.path / "lock").unlink()
        with held(self.path):
            self.assertFalse((self.path / "lock").exists())

    def test_held_for_rebuild(self) -> None:
        """
        While an index is rebuilt no server can use the directory, also where the lock was
        missing, and so was the index.
        """
        (self.path / "lock").unlink()
        (self.path / "index").rmdir()
        with held(self.path, rebuild=True), self.assertRaises(ConfigurationError):
            DataDirectory(self.path)
        (self.path / "lock").unlink()
        (self.path / "lock").mkdir()
        self.refused("lock", "irectory", command="rebuild")


class KeysTests(SyncCase):
    """
    ``find_keys`` finds the keys of the server.
    """

    def setUp(self) -> None:
        """
        A directory.
        """
        self.path = Path(self.mktemp())
        self.path.mkdir()

    def test_static(self) -> None:
        """
        The variables of the server count, under our names too, and more than the directory.
        """
        (self.path / "kes" / "keys").mkdir(parents=True)
        for name in ("MINIO_KMS_SECRET_KEY", "KYPELLO_KMS_SECRET_KEY"):
            found = find_keys(self.path, {name: STATIC_KEY})
            self.assertIsInstance(found.settings, StaticKeySettings)
            self.assertIsNone(found.folder)

    def test_folder(self) -> None:
        """
        Without them the keys in the directory count, if there are any.
        """
        self.assertEqual(find_keys(self.path, {}), Keys())
        (self.path / "kes" / "keys").mkdir(parents=True)
        self.assertEqual(find_keys(self.path, {}).folder, self.path / "kes" / "keys")
        found = find_keys(self.path, {"KYPELLO_KMS_PASSPHRASE_FILE": "p"})
        self.assertEqual(found.passphrase, Passphrase(file=Path("p")))

    def test_mistakes(self) -> None:
        """
        Mistakes are told, also those about files.
        """
        for variables in (
            {"MINIO_KMS_SECRET_KEY": "nonsense"},
            {"MINIO_CONFIG_ENV_FILE": str(self.path / "missing")},
            {
                "MINIO_KMS_KES_ENDPOINT": "https://127.0.0.1:1",
                "MINIO_KMS_KES_KEY_NAME": "k",
                "MINIO_KMS_KES_API_KEY": "nonsense",
            },
        ):
            with self.assertRaises(ConfigurationError):
                find_keys(self.path, variables)


class LocalKMSTests(AsyncCase):
    """
    ``LocalKMS`` opens what the key server sealed.
    """

    async def test_keys(self) -> None:
        """
        It opens data keys, and makes nothing.
        """
        verifyObject(IKMS, kms := LocalKMS(store := MemoryKeyStore()))
        key = MasterKey.generate(os.urandom, 0.0, "")
        await store.create("k", key.to_bytes())
        for context in (b"", b'{"b":"b/k"}'):
            sealed = key.seal(b"d" * 32, bound(context), os.urandom)
            self.assertEqual(await kms.decrypt_key("k", sealed, context), b"d" * 32)
            with self.assertRaises(NotAuthentic):
                await kms.decrypt_key("k", sealed, b"other")
        with self.assertRaises(KeyNotFound):
            await kms.decrypt_key("missing", sealed, b"")
        self.assertEqual(await kms.list_keys("k"), ["k"])
        self.assertEqual((await kms.status()).endpoints, ())
        for call in (
            kms.generate_key("k", b""),
            kms.create_key("new"),
            kms.describe_key("k"),
        ):
            with self.assertRaises(KMSNotSupported):
                await call


class ReadOnlyTests(SyncCase):
    """
    ``ReadOnly`` reads databases and changes none.
    """

    def setUp(self) -> None:
        """
        A database with a log, as a process leaves it that is killed.
        """
        self.folder = Path(self.mktemp()) / "a folder?"
        self.folder.mkdir(parents=True)
        self.path = self.folder / "a.sqlite"
        made = self.folder / "made"
        connection = sqlite3.connect(made, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO t VALUES (1)")
        self.path.write_bytes(made.read_bytes())
        self.log = (self.folder / "made-wal").read_bytes()
        connection.close()
        made.unlink()

    def rows(self) -> int:
        """
        How many rows there are.
        """
        databases = ReadOnly()
        connection = databases.connect_to(self.path)
        try:
            with self.assertRaises(sqlite3.OperationalError):
                connection.execute("INSERT INTO t VALUES (2)")
            (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
        finally:
            connection.close()
            databases.clean()
        return int(count)

    def test_log(self) -> None:
        """
        What is only in the log is read, and the log stays as it is.
        """
        log = self.folder / "a.sqlite-wal"
        log.write_bytes(self.log)
        before = self.path.read_bytes()
        self.assertEqual(self.rows(), 1)
        self.assertEqual((self.path.read_bytes(), log.read_bytes()), (before, self.log))
        self.assertEqual(sorted(os.listdir(self.folder)), ["a.sqlite", "a.sqlite-wal"])

    def test_no_log(self) -> None:
        """
        Without a log, or with an empty one, no file is made.
        """
        self.assertEqual(self.rows(), 0)
        self.assertEqual(os.listdir(self.folder), ["a.sqlite"])
        (self.folder / "a.sqlite-wal").touch()
        self.assertEqual(self.rows(), 0)
        self.assertEqual(sorted(os.listdir(self.folder)), ["a.sqlite", "a.sqlite-wal"])


class DirectoryTests(DiskCase):
    """
    ``check_directory`` over files.
    """

    async def test_directory(self) -> None:
        """
        It finds what is wrong with files and databases, and lets go of all.
        """
        path = self.directory()
        DataDirectory(path).close()
        report = Report(out := io.StringIO(), io.StringIO())
        await check_directory(reactor, path, False, Keys(), report)
        self.assertTrue(report.sound)
        index = SQLiteIndex(path / "index", self.lanes)
        store = LayoutStore(index, FileBlobs(path / "blobs", self.lanes), Clock(), os.urandom)
        await store.create_bucket("b", {})
        (described,) = (path / "blobs").glob("*/*")
        await store.put("b", "k", BytesSource([bytes(100_000)]), lambda _: ObjectMetadata())
        await index.close()
        for deep in (False, True):
            await check_directory(reactor, path, deep, Keys(), report)
            self.assertTrue(report.sound, out.getvalue())
        (blob,) = set((path / "blobs").glob("*/*")) - {described}
        blob.write_bytes(blob.read_bytes()[:-1])
        (space,) = (path / "index").glob("??/*.sqlite")
        await check_directory(reactor, path, False, Keys(folder=path), report)
        self.assertFalse(report.sound)
        self.assertIn(f"b/k, version null: blob {blob.name} has no valid", out.getvalue())
        space.write_bytes(b"junk" * 1000)
        await check_directory(reactor, path, True, Keys(), report)
        self.assertIn("file is not a database", out.getvalue())
        self.assertEqual(held_open(path), [])


class ReportTests(SyncCase):
    """
    What is printed.
    """

    def setUp(self) -> None:
        """
        Figures.
        """
        self.out, self.clock = io.StringIO(), Clock()
        self.figures = Figures(objects=12345, bytes=5_000_000, read=3_000_000)

    def test_line(self) -> None:
        """
        A problem is one line, whatever the key is.
        """
        self.assertEqual(describe(Problem("no space")), "no space")
        self.assertEqual(describe(Problem("gone", "b")), "b: gone")
        self.assertEqual(
            describe(Problem("gone", "b", "ü\n\x1b[1m\udcff", "null", part=3)),
            "b/ü\\n\\x1b[1m\\udcff, version null, part 3: gone",
        )
        self.assertEqual(describe(Problem("gone", "b", "k", upload="1")), "b/k, upload 1: gone")

    def test_people(self) -> None:
        """
        People get problems, figures and a verdict.
        """
        report = Report(self.out, err := io.StringIO())
        report.follow(self.clock, self.figures, 0.0)
        report.tell(Problem("gone", "b"))
        self.figures.problems = 1
        self.figures.undecided = 2
        report.conclude(self.figures, False)
        lines = self.out.getvalue().splitlines()
        self.assertEqual(lines[0], "b: gone")
        self.assertIn("Objects       12,345", lines)
        self.assertIn("Undecided     2 blobs may belong to records that cannot be read", lines)
        self.assertEqual(lines[-1], "Something is wrong: see above.")
        self.assertFalse(report.sound)
        self.assertEqual(err.getvalue(), "")

    def test_deep(self) -> None:
        """
        A deep check tells what was decrypted, and what was not.
        """
        report = Report(self.out, io.StringIO())
        self.figures.decrypted, self.figures.client_keys, self.figures.not_decrypted = 1, 2, 3
        report.conclude(self.figures, True)
        self.assertIn("Decrypted     1 objects\nNot decrypted 2 objects", self.out.getvalue())
        self.assertIn("3 objects, for want of keys", self.out.getvalue())
        self.assertTrue(report.sound)

    def test_damaged_index(self) -> None:
        """
        Where the index itself is damaged, or does not name all, it is told that it can be
        rebuilt.
        """
        for broken, orphans, told in ((0, 0, ""), (1, 0, "anew"), (0, 1, "aside"), (1, 1, "anew")):
            report = Report(out := io.StringIO(), io.StringIO())
            report.conclude(Figures(problems=1, broken=broken, orphans=orphans), False)
            self.assertEqual("kypello store rebuild" in out.getvalue(), bool(told))
            self.assertIn(told, out.getvalue())

    def test_rebuild(self) -> None:
        """
        The summary of a rebuild tells what was found and made, and where the old index is.
        """
        figures = Rebuilt(databases=3, damaged=1, records=12345, objects=7, problems=1)
        report = Report(self.out, err := Terminal())
        report.follow_rebuild(figures)
        report.conclude_rebuild(figures, Path("/data/set-aside-1"), False)
        lines = self.out.getvalue().splitlines()
        self.assertIn("Databases     3, 1 of them damaged", lines)
        self.assertIn("Records       12,345 were read from them", lines)
        self.assertEqual(
            lines[-2:],
            [
                "What was there before is kept in /data/set-aside-1.",
                "Something is lost: see above.",
            ],
        )
        self.assertFalse(report.sound)
        self.assertEqual(err.getvalue(), "\r12,345 records, 0 blobs\x1b[K\r\x1b[K")
        report.conclude_rebuild(Rebuilt(), None, True)
        lines = self.out.getvalue().splitlines()
        self.assertEqual(lines[-2:], ["Nothing was changed.", "Nothing is lost."])
        self.assertTrue(report.sound)

    def test_rebuild_json(self) -> None:
        """
        Programs get the same as an object.
        """
        report = Report(self.out, io.StringIO(), True)
        report.conclude_rebuild(Rebuilt(objects=7), Path("/data/set-aside-1"), False)
        summary = json.loads(self.out.getvalue())["summary"]
        self.assertEqual((summary["objects"], summary["complete"]), (7, True))
        self.assertEqual(summary["set_aside"], "/data/set-aside-1")

    def test_json(self) -> None:
        """
        Programs get an object in each line, without what is not known.
        """
        report = Report(self.out, err := Terminal(), True)
        report.follow(self.clock, self.figures, 0.0)
        report.tell(Problem("gone", "b", "\ud800"))
        report.conclude(self.figures, False)
        problem, summary = map(json.loads, self.out.getvalue().splitlines())
        self.assertEqual(problem, {"problem": {"what": "gone", "bucket": "b", "key": "\ud800"}})
        self.assertEqual(
            (summary["summary"]["objects"], summary["summary"]["sound"]), (12345, True)
        )
        self.assertEqual(err.getvalue(), "")

    def test_progress(self) -> None:
        """
        A terminal shows how far it has come, and is cleared for what else is printed.
        """
        report = Report(self.out, err := Terminal())
        self.clock.advance(2)
        report.follow(self.clock, self.figures, 0.0)
        self.assertEqual(err.getvalue(), "\r12,345 objects, 2.9 MiB, 1.4 MiB/s\x1b[K")
        report.tell(Problem("gone"))
        report.clear()
        self.assertTrue(err.getvalue().endswith("/s\x1b[K\r\x1b[K"))

    def test_encoding(self) -> None:
        """
        What the output cannot show is escaped.
        """
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, "ascii")
        Report(out, io.StringIO()).tell(Problem("gone", "b", "ü"))
        self.assertEqual(raw.getvalue(), b"b/\\xfc: gone\n")

    def test_amounts(self) -> None:
        """
        Bytes are told in units.
        """
        told = [amount(size) for size in (0, 1023, 1024, 5 * 2**20, 2**30, 3 * 2**50)]
        self.assertEqual(told, ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "1.0 GiB", "3,072.0 TiB"])

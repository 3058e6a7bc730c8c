# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello store check`` over the directories of real servers.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kypello.crypto.apikey import APIKey
from kypello.store.records import ObjectRecord, object_key, unpack
from tests.cases import SyncCase
from tests.integration.server import STATIC_KEY, ServerProcess, base_environment
from tests.integration.test_clients import boto3_client

_WAIT = 60.0
_BIG = os.urandom(300_000)
_SETTINGS = {
    "MINIO_KMS_AUTO_ENCRYPTION": "on",
    "KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on",
}


def tree(directory: Path) -> dict[str, str]:
    """
    All files below a directory with their digests, but for those that hold nothing of their own.
    """
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


def record_of(directory: Path, key: str) -> tuple[Path, bytes]:
    """
    The database with the record of an object, and the record.
    """
    for path in (directory / "index").glob("??/*.sqlite"):
        connection = sqlite3.connect(path)
        try:
            row = connection.execute(
                "SELECT value FROM records WHERE key = ?", (object_key(key),)
            ).fetchone()
        finally:
            connection.close()
        if row is not None:
            return path, row[0]
    raise AssertionError(f"no record of {key}")


class StoreCheckCase(SyncCase):
    """
    A test with the directory of a server that was killed.
    """

    environment: Mapping[str, str] = _SETTINGS

    def setUp(self) -> None:
        """
        Fill a directory.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.directory = self.work / "data"
        server = ServerProcess(self.directory, self.environment)
        server.start()
        try:
            self.fill(boto3_client(server))
        finally:
            # A worker that was just starting may open databases until it notices.
            server.kill_and_wait()

    def fill(self, s3: Any) -> None:
        """
        Store something of all kinds.
        """
        s3.create_bucket(Bucket="bucket")
        s3.create_bucket(Bucket="empty")
        for number in range(5):
            s3.put_object(Bucket="bucket", Key=f"small-{number}", Body=b"x" * (100 + number))
            s3.put_object(Bucket="bucket", Key=f"big-{number}", Body=_BIG)
        s3.put_object(
            Bucket="bucket",
            Key="client's",
            Body=_BIG,
            SSECustomerAlgorithm="AES256",
            SSECustomerKey="k" * 32,
        )
        upload = s3.create_multipart_upload(Bucket="bucket", Key="unfinished")
        s3.upload_part(
            Bucket="bucket",
            Key="unfinished",
            UploadId=upload["UploadId"],
            PartNumber=1,
            Body=_BIG,
        )

    def serve(self, **environment: str) -> None:
        """
        Have a server look into each bucket, which makes up for the kill, and stop it.
        """
        server = ServerProcess(self.directory, {**self.environment, **environment})
        server.start()
        try:
            for bucket in ("bucket", "empty"):
                boto3_client(server).list_objects_v2(Bucket=bucket)
        finally:
            code = server.stop()
        self.assertEqual(code, 0)

    def run_check(self, *arguments: str, **environment: str) -> tuple[int, list[Any], str]:
        """
        Run the command: exit code, the objects that it prints, and errors.
        """
        done = subprocess.run(
            self.command("--json", *arguments),
            env={**base_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        self.assertNotIn(b"Traceback", done.stderr)
        return (
            done.returncode,
            list(map(json.loads, done.stdout.splitlines())),
            done.stderr.decode(),
        )

    def command(self, *arguments: str) -> list[str]:
        """
        How the command is run.
        """
        check = (sys.executable, "-m", "kypello.cli", "store", "check")
        return [*check, *arguments, str(self.directory)]

    def sound(self, *arguments: str, **environment: str) -> Any:
        """
        See that all is sound, and give the figures.
        """
        before = tree(self.directory)
        code, printed, err = self.run_check(*arguments, **environment)
        self.assertEqual((code, err, len(printed)), (0, "", 1), printed)
        self.assertEqual(tree(self.directory), before)
        return printed[0]["summary"]

    def only_problem(self, *arguments: str) -> Any:
        """
        The one thing that is wrong.
        """
        code, printed, _ = self.run_check(*arguments)
        self.assertEqual((code, len(printed)), (1, 2), printed)
        return printed[0]["problem"]

    def blob(self, key: str) -> Path:
        """
        The file with the content of an object.
        """
        name = unpack(ObjectRecord, record_of(self.directory, key)[1]).parts[0].blob
        return self.directory / "blobs" / name[:2] / name


class SoundTests(StoreCheckCase):
    """
    A server that was killed leaves a sound directory.
    """

    def test_killed(self) -> None:
        """
        What was committed last lies in logs beside the databases, and is found there; nothing
        is changed, and no file of SQLite stays that was not there.
        """
        logs = list((self.directory / "index").rglob("*-wal"))
        self.assertTrue(any(log.stat().st_size for log in logs))
        for path in (self.directory / "index").rglob("*-shm"):
            path.unlink()
        figures = self.sound()
        self.assertEqual(
            [figures[name] for name in ("buckets", "objects", "parts", "uploads")],
            [2, 11, 1, 1],
        )
        # Those of objects and of the part, and what describes the buckets; beyond these there may
        # be leftovers, of which the sweeper may just have removed some.
        beyond = figures["blobs"] - (7 + 2)
        self.assertTrue(0 <= beyond <= figures["leftovers"], figures)
        self.assertEqual(list((self.directory / "index").rglob("*-shm")), [])
        figures = self.sound("--deep")
        self.assertEqual([figures["decrypted"], figures["client_keys"]], [10, 1])

    def test_stopped(self) -> None:
        """
        What a server leaves when it is stopped is sound, and neither it nor a check leaves logs
        of databases, be it one process or several.
        """
        for workers in ("1", "2"):
            self.serve(KYPELLO_WORKERS=workers)
            self.assertEqual(list((self.directory / "index").rglob("*-*")), [])
            self.sound("--deep")
            self.assertEqual(list((self.directory / "index").rglob("*-*")), [])

    def test_in_use(self) -> None:
        """
        The directory of a running server is not checked, but a copy of it.
        """
        server = ServerProcess(self.directory, self.environment)
        server.start()
        try:
            code, printed, err = self.run_check()
            self.assertEqual((code, printed), (2, []))
            self.assertIn(f"in use by a server (process {server.pid})", err)
        finally:
            server.stop()

    def test_no_keys(self) -> None:
        """
        Without the keys encrypted objects are counted, and no problem.
        """
        shutil.rmtree(self.directory / "kes")
        figures = self.sound("--deep")
        self.assertEqual([figures["decrypted"], figures["not_decrypted"]], [0, 10])
        code, printed, _ = self.run_check("--deep", MINIO_KMS_SECRET_KEY=STATIC_KEY)
        self.assertEqual((code, len(printed)), (1, 11))
        self.assertIn("there is no key", printed[0]["problem"]["what"])

    def test_interrupted(self) -> None:
        """
        Ctrl-C ends it at once, here while it waits for a key server that never answers.
        """
        with socket.create_server(("127.0.0.1", 0)) as silent:
            process = subprocess.Popen(
                self.command("--deep"),
                env={
                    **base_environment(),
                    "MINIO_KMS_KES_ENDPOINT": f"https://127.0.0.1:{silent.getsockname()[1]}",
                    "MINIO_KMS_KES_KEY_NAME": "k",
                    "MINIO_KMS_KES_API_KEY": APIKey.generate(os.urandom).text,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            silent.settimeout(_WAIT)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=_WAIT)
        self.assertEqual((process.returncode, out), (130, ""), err)
        self.assertEqual(err, "Interrupted: the check is not complete.\n")


class StaticKeyTests(StoreCheckCase):
    """
    The key of the server is that of the environment.
    """

    environment: Mapping[str, str] = {**_SETTINGS, "MINIO_KMS_SECRET_KEY": STATIC_KEY}

    def test_deep(self) -> None:
        """
        It opens all.
        """
        self.assertEqual(self.sound("--deep", MINIO_KMS_SECRET_KEY=STATIC_KEY)["decrypted"], 10)


class DamageTests(StoreCheckCase):
    """
    Each damage is told, where it is, and nothing else.
    """

    def told(self, problem: Any, key: str) -> str:
        """
        What is wrong with an object.
        """
        where = (problem["bucket"], problem["key"], problem["version"])
        self.assertEqual(where, ("bucket", key, "null"))
        what: str = problem["what"]
        return what

    def test_flipped(self) -> None:
        """
        A changed byte is found by a deep check, in objects with and without our keys.
        """
        for key in ("big-1", "client's"):
            path = self.blob(key)
            content = bytearray(path.read_bytes())
            content[70_000] ^= 1
            path.write_bytes(content)
            self.sound()
            what = self.told(self.only_problem("--deep"), key)
            self.assertEqual(what, f"blob {path.name} at 65568")
            content[70_000] ^= 1
            path.write_bytes(content)
        self.sound("--deep")

    def test_cut_short(self) -> None:
        """
        A blob that was cut short is told.
        """
        path = self.blob("big-2")
        os.truncate(path, 1000)
        for options in ((), ("--deep",)):
            what = self.told(self.only_problem(*options), "big-2")
            self.assertIn(f"blob {path.name}", what)

    def test_missing(self) -> None:
        """
        A blob that is missing is told.
        """
        path = self.blob("big-3")
        path.unlink()
        for options in ((), ("--deep",)):
            what = self.told(self.only_problem(*options), "big-3")
            self.assertEqual(what, f"blob {path.name} is missing")

    def test_orphan(self) -> None:
        """
        A file that nothing names is told, with the object that it was written for.
        """
        path = self.blob("big-4")
        name = "0" * 32
        (self.directory / "blobs" / "00").mkdir(exist_ok=True)
        shutil.copy(path, self.directory / "blobs" / "00" / name)
        problem = self.only_problem()
        self.assertTrue(problem["orphan"])
        self.assertEqual(self.told(problem, "big-4"), f"nothing names blob {name}")

    def test_record(self) -> None:
        """
        A record that cannot be read is told, and the blob that it named is no orphan.
        """
        path, record = record_of(self.directory, "big-0")
        connection = sqlite3.connect(path)
        damaged = record[:1] + b"\xff" + record[2:]
        with connection:
            connection.execute(
                "UPDATE records SET value = ? WHERE key = ?", (damaged, object_key("big-0"))
            )
        connection.close()
        problem = self.only_problem("--deep")
        self.assertEqual(
            problem,
            {
                "bucket": "bucket",
                "key": "big-0",
                "what": "its record cannot be read (ObjectRecord)",
            },
        )

    def test_database(self) -> None:
        """
        A database that is none any more is told.
        """
        path, _ = record_of(self.directory, "big-0")
        for log in path.parent.glob("*-*"):
            log.unlink()
        path.write_bytes(b"junk" * 1000)
        code, printed, _ = self.run_check()
        self.assertEqual(code, 1)
        self.assertTrue(all(line["problem"]["bucket"] == "bucket" for line in printed[:-1]))
        self.assertIn("file is not a database", printed[0]["problem"]["what"])
        self.assertEqual(printed[-1]["summary"]["orphans"], 0)

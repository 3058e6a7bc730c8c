# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello store rebuild`` over the directories of real servers.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.integration.server import ServerProcess, base_environment
from tests.integration.test_clients import boto3_client
from tests.integration.test_store_check import StoreCheckCase

_WAIT = 60.0
_PARTS = (os.urandom(5 * 1024 * 1024), os.urandom(300_000))
_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
_RULE = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}


class RebuildCase(StoreCheckCase):
    """
    A test with the directory of a server that was killed, and a way to see all that it served.
    """

    def fill(self, s3: Any) -> None:
        """
        Store something of all kinds.
        """
        super().fill(s3)
        s3.put_bucket_encryption(
            Bucket="bucket", ServerSideEncryptionConfiguration={"Rules": [_RULE]}
        )
        upload = s3.create_multipart_upload(Bucket="bucket", Key="parts", Metadata={"a": "b"})
        parts = []
        for number, body in enumerate(_PARTS, 1):
            sent = s3.upload_part(
                Bucket="bucket",
                Key="parts",
                UploadId=upload["UploadId"],
                PartNumber=number,
                Body=body,
            )
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        s3.complete_multipart_upload(
            Bucket="bucket",
            Key="parts",
            UploadId=upload["UploadId"],
            MultipartUpload={"Parts": parts},
        )
        s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/parts")
        s3.put_object(Bucket="bucket", Key="big-1", Body=os.urandom(400_000), Metadata={"c": "d"})
        s3.delete_object(Bucket="bucket", Key="big-0")
        s3.put_bucket_encryption(
            Bucket="empty", ServerSideEncryptionConfiguration={"Rules": [_RULE]}
        )
        self.served = self.everything(s3)

    def everything(self, s3: Any) -> dict[str, Any]:
        """
        All that a client can see.
        """
        found: dict[str, Any] = {}
        for bucket in s3.list_buckets()["Buckets"]:
            name = bucket["Name"]
            rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]
            found[name] = rules
            for each in s3.list_objects_v2(Bucket=name).get("Contents", []):
                key = each["Key"]
                more = _CUSTOMER if key == "client's" else {}
                got = s3.get_object(Bucket=name, Key=key, **more)
                found[f"{name}/{key}"] = (
                    got["Body"].read(),
                    got["ETag"],
                    got["Metadata"],
                    got["ContentType"],
                )
            for each in s3.list_multipart_uploads(Bucket=name).get("Uploads", []):
                parts = s3.list_parts(Bucket=name, Key=each["Key"], UploadId=each["UploadId"])
                told = [(part["PartNumber"], part["ETag"], part["Size"]) for part in parts["Parts"]]
                found[f"{name}/{each['Key']}/{each['UploadId']}"] = told
        return found

    def rebuild(self, *arguments: str) -> tuple[int, list[Any], Any]:
        """
        Run the command: exit code, what is lost, and the summary.
        """
        done = subprocess.run(
            self.rebuilding("--json", *arguments),
            env=base_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        self.assertEqual(done.stderr, b"")
        *problems, summary = map(json.loads, done.stdout.splitlines())
        told = [each["problem"] for each in problems]
        return (
            done.returncode,
            [each for each in told if not each.get("orphan")],
            summary["summary"],
        )

    def rebuilding(self, *arguments: str) -> list[str]:
        """
        How the command is run.
        """
        command = (sys.executable, "-m", "kypello.cli", "store", "rebuild")
        return [*command, *arguments, str(self.directory)]

    def assert_served(self, *, small: bool) -> None:
        """
        See that all is sound and served as before.

        :param small: Whether small objects are, too.
        """
        self.sound("--deep")
        server = ServerProcess(self.directory, self.environment)
        server.start()
        try:
            found = self.everything(boto3_client(server))
        finally:
            self.assertEqual(server.stop(), 0)
        expected = {key: what for key, what in self.served.items() if small or "small" not in key}
        self.assertEqual(sorted(found), sorted(expected))
        self.assertEqual(found, expected)
        self.sound("--deep")

    def database(self) -> Path:
        """
        The database of the bucket that has the most.
        """
        paths = (self.directory / "index").glob("??/*.sqlite")
        return max(paths, key=lambda path: path.stat().st_size)


class RebuildTests(RebuildCase):
    """
    What is lost comes back, and the server serves it.
    """

    def test_lost(self) -> None:
        """
        Without the database of the system nothing is lost; without the index, what is small.
        """
        for path in (self.directory / "index").glob("system.sqlite*"):
            path.unlink()
        code, printed, _ = self.run_check()
        self.assertEqual(code, 1)
        self.assertGreater(printed[-1]["summary"]["broken"], 0)
        code, problems, summary = self.rebuild()
        self.assertEqual((code, problems), (0, []))
        self.assertEqual(summary["buckets"], 2)
        self.assert_served(small=True)
        shutil.rmtree(self.directory / "index")
        code, problems, summary = self.rebuild()
        self.assertEqual(code, 1)
        self.assertEqual([each["bucket"] for each in problems], ["bucket", "empty"])
        self.assertGreater(summary["described"], 7)
        self.assert_served(small=False)

    def test_overwritten(self) -> None:
        """
        With junk in the middle of a database, its log gone, in a copy of the directory without
        its lock: what is there is served as it was.
        """
        server = ServerProcess(self.directory, self.environment)
        server.start()
        self.assertEqual(server.stop(), 0)
        copy = self.directory.with_name("copy")
        shutil.copytree(self.directory, copy)
        (copy / "lock").unlink()
        self.directory = copy
        path = self.database()
        content = bytearray(path.read_bytes())
        # The root of the table.
        content[4096:8192] = os.urandom(4096)
        path.write_bytes(content)
        code, problems, summary = self.rebuild("--dry-run")
        self.assertEqual((code, summary["dry_run"], path.read_bytes()), (1, True, content))
        code, problems, summary = self.rebuild()
        self.assertEqual((code, len(problems), summary["damaged"]), (1, 1, 1))
        self.assertIn("is damaged", problems[0]["what"])
        self.assert_served(small=self.small_found())

    def small_found(self) -> bool:
        """
        Whether small objects are in the index.
        """
        code, printed, _ = self.run_check()
        self.assertEqual(code, 0)
        objects = len([key for key in self.served if "/" in key and "unfinished" not in key])
        count: int = printed[-1]["summary"]["objects"]
        return count == objects

    def test_people(self) -> None:
        """
        People read a summary, and where the old index is; a server in use is refused.
        """
        server = ServerProcess(self.directory, self.environment)
        server.start()
        try:
            refused = self.for_people()
        finally:
            server.stop()
        self.assertEqual(refused.returncode, 2)
        self.assertIn("in use by a server", refused.stderr)
        done = self.for_people()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        aside = self.directory / "set-aside-1"
        self.assertIn(f"What was there before is kept in {aside}.", lines)
        self.assertEqual(lines[-1], "Nothing is lost.")
        self.assertTrue((aside / "index" / "system.sqlite").exists())

    def for_people(self) -> "subprocess.CompletedProcess[str]":
        """
        Run the command without options.
        """
        return subprocess.run(
            self.rebuilding(),
            env=base_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
            text=True,
        )

    def test_killed(self) -> None:
        """
        Killed at any instant, it leaves an index in its place, the old one or the new one, and
        can be run again.
        """
        for path in (self.directory / "index").glob("system.sqlite*"):
            path.unlink()
        began = time.monotonic()
        self.assertEqual(self.rebuild("--dry-run")[0], 0)
        duration = time.monotonic() - began
        for step in range(12):
            process = subprocess.Popen(
                self.rebuilding(),
                env=base_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # From when the interpreter has started until the end.
            wait = duration * (0.4 + 0.05 * step)
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.assertTrue(list((self.directory / "index").glob("??/*.sqlite")))
        code, problems, _ = self.rebuild()
        self.assertEqual((code, problems), (0, []))
        self.assertFalse((self.directory / "rebuilding").exists())
        self.assert_served(small=True)

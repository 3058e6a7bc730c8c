# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
restic.
"""

import json
import os
import shlex
from pathlib import Path
from typing import ClassVar

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import KIB, MIB, PLAIN, SSE_S3, content, digest
from tests.integration.server import STATIC_KEY
from tests.integration.test_clients import boto3_client

SETTINGS = """
```sh
export RESTIC_REPOSITORY=s3:http://127.0.0.1:9000/backup/laptop
export AWS_ACCESS_KEY_ID=ACCESS_KEY
export AWS_SECRET_ACCESS_KEY=SECRET_KEY
export RESTIC_PASSWORD=...
```

`restic init` makes the bucket. What it stores it has encrypted itself; to let the server encrypt it
once more, let it or the bucket encrypt everything (`MINIO_KMS_AUTO_ENCRYPTION=on`).
"""

_BUCKET = "backup"
#: Names of files below the folder that is kept, with their sizes.
_FILES = {
    "empty": 0,
    "notes.txt": 3 * KIB,
    "photos/one.raw": 9 * MIB,
    "photos/ü b/fünf +&.raw": 40 * MIB,
    **{f"many/{number}/file": 1000 + number for number in range(200)},
}


class ResticTests(CommandStory, SyncCase):
    """
    Not the story of the others: a folder is backed up, and comes back.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN,)
    environment: ClassVar[dict[str, str]] = {}
    encryption: ClassVar[str | None] = None

    def prepare(self) -> None:
        """
        Find restic.
        """
        self.program = tools.client("restic")

    def connect(self) -> None:
        """
        Prepare its environment.
        """
        words = shlex.split(block(SETTINGS, self.server))
        self.settings = dict(word.split("=", 1) for word in words if word != "export")

    def restic(self, *arguments: str | Path) -> str:
        """
        Run a command.
        """
        cache = ("--cache-dir", self.work / "cache")
        printed = self.run_command(self.program, *cache, *arguments, **self.settings)
        return printed.decode()

    def plant(self) -> Path:
        """
        Make the folder that is backed up.
        """
        folder = self.work / "folder"
        for name, size in _FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(size, "backup"))
        return folder

    def assert_restored(self, snapshot: str, wanted: dict[str, str]) -> None:
        """
        See that a snapshot brings back what was there.
        """
        target = self.work / f"back-{snapshot}"
        self.restic("restore", snapshot, "--target", target)
        self.assertEqual(_digests(target / (self.work / "folder").relative_to("/")), wanted)

    def test_story(self) -> None:
        """
        Two backups of a folder that changes are sound and restore what was there; without the
        first and its data, the second still is and does.
        """
        folder = self.plant()
        self.restic("init")
        self.restic("backup", folder)
        before = _digests(folder)
        (folder / "notes.txt").write_bytes(os.urandom(5000))
        (folder / "photos" / "one.raw").unlink()
        (folder / "photos" / "two.raw").write_bytes(os.urandom(6 * MIB))
        self.restic("backup", folder)
        after = _digests(folder)
        self.restic("check", "--read-data")
        first, _second = json.loads(self.restic("snapshots", "--json"))
        self.assert_restored(first["short_id"], before)
        self.assert_restored("latest", after)
        self.restic("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
        self.restic("check", "--read-data")
        self.assert_restored("latest", after)
        self.assert_encrypted()

    def assert_encrypted(self) -> None:
        """
        See how every object is encrypted.
        """
        s3 = boto3_client(self.server)
        self.addCleanup(s3.close)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET)
        keys = [entry["Key"] for page in pages for entry in page["Contents"]]
        self.assertGreater(len(keys), 4)
        for key in keys:
            head = s3.head_object(Bucket=_BUCKET, Key=key)
            self.assertEqual(head.get("ServerSideEncryption"), self.encryption, key)


class EncryptedResticTests(ResticTests):
    """
    The same when the server encrypts everything.
    """

    kinds: ClassVar[tuple[str, ...]] = (SSE_S3,)
    environment: ClassVar[dict[str, str]] = {
        "MINIO_KMS_SECRET_KEY": STATIC_KEY,
        "MINIO_KMS_AUTO_ENCRYPTION": "on",
    }
    encryption: ClassVar[str | None] = "AES256"


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for path in folder.rglob("*")
        if path.is_file()
    }

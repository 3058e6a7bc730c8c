# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Archives whose entries become objects, as ``minio-py`` sends them to a real server of two workers,
and archives that ``mc`` reads in.
"""

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

from kypello.crypto.dare import encrypted_size
from tests.integration.quotas import set_quota
from tests.integration.server import ACCESS_KEY, SECRET_KEY
from tests.integration.test_everyday import MCCase
from tests.integration.test_workers import WorkersCase

_COUNT = 200


class SnowballTests(WorkersCase):
    """
    ``upload_snowball_objects``.
    """

    def setUp(self) -> None:
        """
        Make some content, of small objects and large ones.
        """
        from minio import Minio  # type: ignore[import-untyped]  # slow

        super().setUp()
        self.minio = Minio(f"127.0.0.1:{self.server.port}", ACCESS_KEY, SECRET_KEY, secure=False)
        self.content = {
            f"folder/{number}": os.urandom(number % 7 * 1000 if number % 50 else 3_000_000)
            for number in range(_COUNT)
        }

    def upload(self, **options: Any) -> None:
        """
        Send all of it as an archive.
        """
        from minio.commonconfig import SnowballObject  # type: ignore[import-untyped]

        objects = [
            SnowballObject(name, data=io.BytesIO(content), length=len(content))
            for name, content in self.content.items()
        ]
        self.minio.upload_snowball_objects("bucket", objects, **options)

    def listed(self) -> dict[str, str]:
        """
        The keys and entity tags of what is stored.
        """
        pages = self.first.get_paginator("list_objects_v2").paginate(Bucket="bucket")
        return {
            each["Key"]: each["ETag"].strip('"')
            for page in pages
            for each in page.get("Contents", [])
        }

    def test_upload(self) -> None:
        """
        All entries become objects, whether or not the archive is compressed.
        """
        expected = {
            name: hashlib.md5(content).hexdigest() for name, content in self.content.items()
        }
        for compression in (False, True):
            self.upload(compression=compression)
            self.assertEqual(self.listed(), expected)
            got = self.second.get_object(Bucket="bucket", Key="folder/50")
            self.assertEqual(got["Body"].read(), self.content["folder/50"])
            for name in self.listed():
                self.first.delete_object(Bucket="bucket", Key=name)

    def test_quota(self) -> None:
        """
        What does not fit into the bucket is refused, or passed over when errors are; and takes no
        room.
        """
        from minio.error import S3Error  # type: ignore[import-untyped]

        large = encrypted_size(3_000_000)
        set_quota(self.server, "bucket", large + 1_000_000)
        with self.assertRaises(S3Error) as caught:
            self.upload()
        self.assertEqual(caught.exception.code, "XMinioAdminBucketQuotaExceeded")
        self.upload(metadata={"X-Amz-Meta-Minio-Snowball-Ignore-Errors": "true"})
        stored = self.listed()
        self.assertEqual(stored.keys() & {f"folder/{number}" for number in (0, 50)}, {"folder/0"})
        self.assertEqual(len(stored), _COUNT - 3)

    def test_memory(self) -> None:
        """
        A worker holds a small part of an archive only.
        """
        self.content = {"large": bytes(200_000_000)}
        self.upload(compression=True)
        told = self.first.head_object(Bucket="bucket", Key="large")
        self.assertEqual(told["ContentLength"], 200_000_000)
        for worker in self.server.workers():
            lines = Path(f"/proc/{worker}/status").read_text(encoding="ascii").splitlines()
            (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
            self.assertLess(int(peak), 200_000)


class ZipTests(MCCase):
    """
    ``mc`` within zip archives.
    """

    def test_zip(self) -> None:
        """
        ``cat``, ``ls`` and ``cp`` with ``--zip`` read and list what is in an archive.
        """
        path = self.work / "a.zip"
        content = os.urandom(300_000)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/one", content)
            archive.writestr("two.txt", "2" * 1000)
        self.mc("cp", path, f"{self.bucket}/a.zip")
        self.assertEqual(self.mc("cat", "--zip", f"{self.bucket}/a.zip/two.txt"), b"2" * 1000)
        listed = self.told("ls", "--zip", "-r", f"{self.bucket}/a.zip/")
        self.assertEqual(
            {each["key"]: each["size"] for each in listed},
            {"folder/one": 300_000, "two.txt": 1000},
        )
        self.mc("cp", "--zip", f"{self.bucket}/a.zip/folder/one", self.work / "one")
        self.assertEqual((self.work / "one").read_bytes(), content)

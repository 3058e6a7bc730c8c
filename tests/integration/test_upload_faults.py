# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Uploads in parts and copies that are cut: by clients, by a full disk, by a kill of the server.
"""

import contextlib
import hashlib
import os
import random
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import ACCESS_KEY, SECRET_KEY, STATIC_KEY, ServerProcess, contents
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import refusal, wait_until

_PART = 5 * 1024 * 1024
_ENVIRONMENT = {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_KMS_AUTO_ENCRYPTION": "on"}

#: How often the server is killed.
_CYCLES = 8


class UploadCase(SyncCase):
    """
    A test with a server that encrypts everything, and a bucket.
    """

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(self.place(), _ENVIRONMENT)
        self.server.start()
        self.addCleanup(self.server.stop)
        self.s3 = boto3_client(self.server, max_pool_connections=16)
        self.s3.create_bucket(Bucket="bucket")

    def place(self) -> Path:
        """
        Where the data is.
        """
        return self.work / "data"

    def begin(self, key: str) -> dict[str, str]:
        """
        Begin an upload; what names it.
        """
        made = self.s3.create_multipart_upload(Bucket="bucket", Key=key)
        return {"Bucket": "bucket", "Key": key, "UploadId": made["UploadId"]}

    def part(self, upload: dict[str, str], number: int, content: bytes) -> dict[str, Any]:
        """
        Store a part; what a completion says of it.
        """
        etag = self.s3.upload_part(**upload, PartNumber=number, Body=content)["ETag"]
        return {"PartNumber": number, "ETag": etag}

    def complete(self, upload: dict[str, str], parts: list[dict[str, Any]]) -> str:
        """
        Complete an upload; the entity tag of what it made.
        """
        answer = self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        etag: str = answer["ETag"]
        return etag

    def blobs(self) -> list[Path]:
        """
        The files of content.
        """
        return contents(self.place())


class CutTests(UploadCase):
    """
    Clients that go away.
    """

    def test_part(self) -> None:
        """
        A part that is cut leaves nothing; it can be sent again, and the upload be completed.
        """
        upload = self.begin("k")
        first = self.part(upload, 1, bytes(_PART))
        url = urlsplit(
            self.s3.generate_presigned_url("upload_part", Params={**upload, "PartNumber": 2})
        )
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as connection:
            connection.sendall(
                f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n"
                f"Content-Length: {_PART}\r\n\r\n".encode()
                + bytes(_PART // 2)
            )
            time.sleep(0.3)
        wait_until(lambda: len(self.blobs()) == 1)
        self.assertEqual(len(self.s3.list_parts(**upload)["Parts"]), 1)
        second = self.part(upload, 2, b"end")
        self.complete(upload, [first, second])
        got = self.s3.get_object(Bucket="bucket", Key="k")["Body"].read()
        self.assertEqual(got, bytes(_PART) + b"end")

    def test_aborted(self) -> None:
        """
        An upload that is aborted while a part comes leaves nothing.
        """
        upload = self.begin("k")
        self.part(upload, 1, bytes(_PART))
        url = urlsplit(
            self.s3.generate_presigned_url("upload_part", Params={**upload, "PartNumber": 2})
        )
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as connection:
            connection.sendall(
                f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n"
                f"Content-Length: {_PART}\r\n\r\n".encode()
                + bytes(_PART // 2)
            )
            time.sleep(0.3)
            self.s3.abort_multipart_upload(**upload)
            with contextlib.suppress(ConnectionError):
                connection.sendall(bytes(_PART - _PART // 2))
            self.assertIn(b" 404 ", connection.recv(65536).partition(b"\r\n")[0])
        wait_until(lambda: not self.blobs())
        self.assertEqual(refusal(self.s3.list_parts, **upload), (404, "NoSuchUpload"))

    def test_copy(self) -> None:
        """
        A copy whose client goes away leaves nothing, and the source is as it was.
        """
        content = os.urandom(30 * 1024 * 1024)
        self.s3.put_object(Bucket="bucket", Key="source", Body=content)
        for _ in range(5):
            request = self.signed_copy()
            with socket.create_connection(("127.0.0.1", self.server.port), 20) as connection:
                connection.sendall(request)
                time.sleep(random.uniform(0, 0.05))
        time.sleep(0.5)
        keys = {entry["Key"] for entry in self.s3.list_objects_v2(Bucket="bucket")["Contents"]}
        wait_until(lambda: len(self.blobs()) == len(keys))
        for key in keys:
            self.assertEqual(self.s3.get_object(Bucket="bucket", Key=key)["Body"].read(), content)

    def signed_copy(self) -> bytes:
        """
        The bytes of a signed request to copy.
        """
        headers = {"x-amz-copy-source": "/bucket/source", "Content-Length": "0"}
        request = AWSRequest("PUT", f"{self.server.endpoint}/bucket/target", headers, b"")
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(request)
        lines = [f"Host: 127.0.0.1:{self.server.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return "\r\n".join(["PUT /bucket/target HTTP/1.1", *lines, "", ""]).encode()


class KillTests(UploadCase):
    """
    A server that is killed.
    """

    def test_complete(self) -> None:
        """
        Killed at any instant of a completion, the server comes back with the parts or with the
        object, and the same completion succeeds; what was acknowledged is there.
        """
        chance = random.Random(11)
        content = os.urandom(_PART)
        acknowledged: dict[str, str] = {}
        for cycle in range(_CYCLES):
            uploads = []
            for number in range(6):
                upload = self.begin(f"k{cycle}-{number}")
                parts = [self.part(upload, 1, content), self.part(upload, 2, b"%d" % number)]
                uploads.append((upload, parts))

            def work(upload: dict[str, str], parts: list[dict[str, Any]]) -> None:
                """
                Complete, and note it if that is acknowledged.
                """
                with contextlib.suppress(BotoCoreError, ClientError):
                    acknowledged[upload["Key"]] = self.complete(upload, parts)

            threads = [threading.Thread(target=work, args=each) for each in uploads]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.0, 0.06))
            self.server.kill()
            for thread in threads:
                thread.join()
            self.server.start()
            for upload, parts in uploads:
                etag = self.complete(upload, parts)
                self.assertEqual(acknowledged.setdefault(upload["Key"], etag), etag)
        for key, etag in acknowledged.items():
            got = self.s3.get_object(Bucket="bucket", Key=key)
            self.assertEqual(got["ETag"], etag)
            expected = content + key.rpartition("-")[2].encode()
            self.assertEqual(
                hashlib.sha256(got["Body"].read()).digest(), hashlib.sha256(expected).digest()
            )
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket="bucket"))
        wait_until(lambda: len(self.blobs()) == 2 * len(acknowledged))


class FullDiskTests(UploadCase):
    """
    A disk without room.
    """

    def place(self) -> Path:
        """
        Mount a small disk.
        """
        disk = self.work / "disk"
        if not disk.exists():
            disk.mkdir()
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)],
                capture_output=True,
                check=False,
            )
            if mounted.returncode:
                tools.missing("the right to mount")
            self.addCleanup(subprocess.run, ["umount", "-l", str(disk)], check=False)
        return disk / "data"

    def test_part_and_copy(self) -> None:
        """
        A part and a copy for which there is no room are refused and leave nothing; the upload
        goes on when there is room again.
        """
        upload = self.begin("k")
        first = self.part(upload, 1, bytes(_PART))
        self.s3.put_object(Bucket="bucket", Key="large", Body=bytes(20_000_000))
        count = len(self.blobs())
        too_much = {**upload, "PartNumber": 2, "Body": bytes(18_000_000)}
        self.assertEqual(refusal(self.s3.upload_part, **too_much), (507, "XMinioStorageFull"))
        source = {"Bucket": "bucket", "Key": "large"}
        copying = {"Bucket": "bucket", "Key": "copy", "CopySource": source}
        self.assertEqual(refusal(self.s3.copy_object, **copying), (507, "XMinioStorageFull"))
        wait_until(lambda: len(self.blobs()) == count)
        self.assertEqual(len(self.s3.list_parts(**upload)["Parts"]), 1)
        self.s3.delete_object(Bucket="bucket", Key="large")
        wait_until(lambda: len(self.blobs()) == count - 1)
        second = self.part(upload, 2, bytes(18_000_000))
        self.complete(upload, [first, second])
        head = self.s3.head_object(Bucket="bucket", Key="k")
        self.assertEqual(head["ContentLength"], _PART + 18_000_000)

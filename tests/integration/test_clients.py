# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Stock clients against a real server with SSE-S3: boto3, minio-py, the AWS command line and mc.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import (
    ACCESS_KEY,
    SECRET_KEY,
    STATIC_KEY,
    ServerProcess,
    base_environment,
)

#: Text that must never be found on disk.
MARK = b"PLAINTEXT-MARK-7f3a"


def boto3_client(server: ServerProcess, verify: str | None = None, **config: Any) -> Any:
    """
    A boto3 client with signature V4 and default settings otherwise.

    :param verify: The certificate to trust.
    """
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        verify=verify,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", **{"retries": {"max_attempts": 1}, **config}),
    )


def files_with(directory: Path, mark: bytes) -> list[Path]:
    """
    The files under a directory that hold some bytes.
    """
    return [path for path in directory.rglob("*") if path.is_file() and mark in path.read_bytes()]


class ClientCase(SyncCase):
    """
    A test with a running server, a static master key and a bucket encrypted by default.
    """

    environment: dict[str, str] = {"MINIO_KMS_SECRET_KEY": STATIC_KEY}  # noqa: RUF012

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(self.work / "data", self.environment)
        self.server.start()
        self.addCleanup(self.server.stop)

    def write(self, name: str, content: bytes) -> Path:
        """
        A file of the test.
        """
        path = self.work / name
        path.write_bytes(content)
        return path


class Boto3Tests(ClientCase):
    """
    The newest boto3 with its default checksums.
    """

    def test_objects(self) -> None:
        """
        Objects of all sizes come back intact, encrypted on request, with the right headers.
        """
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        for size in (0, 1, 65536, 65537, 5 * 1024 * 1024 + 3):
            content = (MARK + os.urandom(1009) * (size // 1009 + 1))[:size]
            put = s3.put_object(
                Bucket="bucket",
                Key=f"dir/o {size}+é",
                Body=content,
                ServerSideEncryption="AES256",
                Metadata={"colour": "blue"},
                ContentType="text/x-test",
            )
            digest = hashlib.md5(content).hexdigest()
            self.assertEqual(put["ETag"], f'"{digest}"')
            self.assertEqual(put["ServerSideEncryption"], "AES256")
            head = s3.head_object(Bucket="bucket", Key=f"dir/o {size}+é")
            self.assertEqual(head["ContentLength"], size)
            self.assertEqual(head["ServerSideEncryption"], "AES256")
            self.assertEqual(head["Metadata"], {"colour": "blue"})
            self.assertEqual(head["ContentType"], "text/x-test")
            got = s3.get_object(Bucket="bucket", Key=f"dir/o {size}+é")
            self.assertEqual(got["Body"].read(), content)
            self.assertEqual(got["ETag"], f'"{digest}"')
        listing = s3.list_objects_v2(Bucket="bucket", Prefix="dir/")
        self.assertEqual(
            sorted(entry["Size"] for entry in listing["Contents"]),
            [0, 1, 65536, 65537, 5 * 1024 * 1024 + 3],
        )
        self.assertEqual(files_with(self.work / "data", MARK), [])

    def test_ranges(self) -> None:
        """
        Ranges around the package borders are the slices of the content.
        """
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        content = os.urandom(3 * 1024 * 1024 + 17)
        s3.put_object(Bucket="bucket", Key="k", Body=content, ServerSideEncryption="AES256")
        for first, last in (
            (0, 0),
            (65535, 65536),
            (65536, 131071),
            (1_000_000, 2_000_001),
            (len(content) - 1, len(content) - 1),
        ):
            got = s3.get_object(Bucket="bucket", Key="k", Range=f"bytes={first}-{last}")
            self.assertEqual(got["ResponseMetadata"]["HTTPStatusCode"], 206)
            self.assertEqual(got["Body"].read(), content[first : last + 1])
            self.assertEqual(got["ContentRange"], f"bytes {first}-{last}/{len(content)}")

    def test_lists_2500_keys(self) -> None:
        """
        Two and a half thousand keys are listed in three pages and deleted in three requests.
        """
        s3 = boto3_client(self.server, max_pool_connections=8)
        s3.create_bucket(Bucket="bucket")
        names = [f"k/{number:05d}" for number in range(2500)]

        def put(own: Sequence[str]) -> None:
            for name in own:
                s3.put_object(Bucket="bucket", Key=name, Body=b"x", ServerSideEncryption="AES256")

        threads = [threading.Thread(target=put, args=(names[part::8],)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="bucket"))
        self.assertEqual([page["KeyCount"] for page in pages], [1000, 1000, 500])
        found = [entry["Key"] for page in pages for entry in page["Contents"]]
        self.assertEqual(found, names)
        for start in range(0, len(found), 1000):
            answer = s3.delete_objects(
                Bucket="bucket",
                Delete={"Objects": [{"Key": key} for key in found[start : start + 1000]]},
            )
            self.assertNotIn("Errors", answer)
        s3.delete_bucket(Bucket="bucket")

    def test_presigned(self) -> None:
        """
        A presigned PUT stores and a presigned GET reads; a changed one is refused.
        """
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        target = {"Bucket": "bucket", "Key": "p q"}
        put = s3.generate_presigned_url("put_object", Params=target)
        with urlopen(Request(put, data=b"by url", method="PUT")) as answer:
            self.assertEqual(answer.status, 200)
        get = s3.generate_presigned_url("get_object", Params=target)
        with urlopen(get) as answer:
            self.assertEqual(answer.read(), b"by url")
        with self.assertRaises(HTTPError) as caught:
            urlopen(get.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601"))
        self.assertEqual(caught.exception.code, 403)
        self.assertIn(b"SignatureDoesNotMatch", caught.exception.read())

    def test_default_encryption(self) -> None:
        """
        A bucket's default encryption applies to objects that ask for none.
        """
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="plain", Body=b"plain")
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        s3.put_bucket_encryption(
            Bucket="bucket", ServerSideEncryptionConfiguration={"Rules": [rule]}
        )
        got = s3.get_bucket_encryption(Bucket="bucket")["ServerSideEncryptionConfiguration"]
        self.assertEqual(
            got["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], "AES256"
        )
        s3.put_object(Bucket="bucket", Key="sealed", Body=MARK)
        sealed = s3.head_object(Bucket="bucket", Key="sealed")
        self.assertEqual(sealed["ServerSideEncryption"], "AES256")
        self.assertNotIn("ServerSideEncryption", s3.head_object(Bucket="bucket", Key="plain"))
        self.assertEqual(files_with(self.work / "data", MARK), [])
        s3.delete_bucket_encryption(Bucket="bucket")
        with self.assertRaises(s3.exceptions.ClientError) as caught:
            s3.get_bucket_encryption(Bucket="bucket")
        self.assertEqual(
            caught.exception.response["Error"]["Code"],
            "ServerSideEncryptionConfigurationNotFoundError",
        )

    def test_survives_kill(self) -> None:
        """
        What was acknowledged before a SIGKILL is there, and readable, after a restart.
        """
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        contents = {f"k{number}": os.urandom(40_000 * number + 1) for number in range(12)}
        for key, content in contents.items():
            s3.put_object(Bucket="bucket", Key=key, Body=content, ServerSideEncryption="AES256")
        self.server.kill()
        self.server.start()
        for key, content in contents.items():
            self.assertEqual(s3.get_object(Bucket="bucket", Key=key)["Body"].read(), content)


class AutoEncryptionTests(ClientCase):
    """
    ``MINIO_KMS_AUTO_ENCRYPTION=on``.
    """

    environment = {  # noqa: RUF012
        "MINIO_KMS_SECRET_KEY": STATIC_KEY,
        "MINIO_KMS_AUTO_ENCRYPTION": "on",
    }

    def test_everything_is_sse_s3(self) -> None:
        """
        An object that asks for nothing is AES256, and its plaintext, name of metadata and
        value are nowhere under the data directory.
        """
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        metadata = {"note": MARK.decode()}
        for size in (100, 3_000_000):
            body = MARK * (size // len(MARK))
            s3.put_object(Bucket="bucket", Key=f"k{size}", Body=body, Metadata=metadata)
            head = s3.head_object(Bucket="bucket", Key=f"k{size}")
            self.assertEqual(head["ServerSideEncryption"], "AES256")
            self.assertEqual(head["Metadata"], metadata)
        self.assertEqual(files_with(self.work / "data", MARK), [])


class MinioPyTests(ClientCase):
    """
    minio-py.
    """

    def test_round_trip(self) -> None:
        """
        put, stat, get, list and remove work, with SSE-S3.
        """
        import io

        from minio import Minio  # type: ignore[import-untyped]
        from minio.sse import SseS3  # type: ignore[import-untyped]

        client = Minio(
            endpoint=f"127.0.0.1:{self.server.port}",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            secure=False,
        )
        client.make_bucket(bucket_name="bucket")
        self.assertTrue(client.bucket_exists(bucket_name="bucket"))
        content = os.urandom(1_000_003)
        client.put_object(
            bucket_name="bucket",
            object_name="a/b",
            data=io.BytesIO(content),
            length=len(content),
            sse=SseS3(),
        )
        stat = client.stat_object(bucket_name="bucket", object_name="a/b")
        self.assertEqual(stat.size, len(content))
        self.assertEqual(stat.etag, hashlib.md5(content).hexdigest())
        answer = client.get_object(bucket_name="bucket", object_name="a/b")
        self.assertEqual(answer.read(), content)
        answer.close()
        names = [
            entry.object_name for entry in client.list_objects(bucket_name="bucket", recursive=True)
        ]
        self.assertEqual(names, ["a/b"])
        client.remove_object(bucket_name="bucket", object_name="a/b")
        client.remove_bucket(bucket_name="bucket")


class CommandCase(ClientCase):
    """
    A test that runs a command line client.
    """

    def run_command(self, *arguments: str, **environment: str) -> str:
        """
        Run a command that must succeed, and give what it printed.
        """
        done = subprocess.run(
            arguments,
            env={**base_environment(), "HOME": str(self.work), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        output = (done.stdout + done.stderr).decode("utf-8", "replace")
        self.assertEqual(done.returncode, 0, f"{arguments}: {output}\n{self.server.log}")
        return output


class AwsTests(CommandCase):
    """
    The AWS command line.
    """

    def aws(self, *arguments: str) -> str:
        """
        Run ``aws`` against the server.
        """
        command = Path(sys.executable).with_name("aws")
        if not command.exists():
            tools.missing("aws")
        return self.run_command(
            str(command),
            "--endpoint-url",
            self.server.endpoint,
            *arguments,
            AWS_ACCESS_KEY_ID=ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=SECRET_KEY,
            AWS_DEFAULT_REGION="us-east-1",
        )

    def test_round_trip(self) -> None:
        """
        mb, cp with SSE, ls, head-object, ranges, presign, rm and rb work.
        """
        content = os.urandom(700_001)
        source = self.write("source", content)
        self.aws("s3", "mb", "s3://bucket")
        self.aws("s3", "cp", str(source), "s3://bucket/a/b", "--sse", "AES256")
        self.assertIn("700001", self.aws("s3", "ls", "s3://bucket/a/"))
        head = json.loads(self.aws("s3api", "head-object", "--bucket", "bucket", "--key", "a/b"))
        self.assertEqual(head["ServerSideEncryption"], "AES256")
        target = self.work / "target"
        self.aws("s3", "cp", "s3://bucket/a/b", str(target))
        self.assertEqual(target.read_bytes(), content)
        self.aws(
            *("s3api", "get-object", "--bucket", "bucket", "--key", "a/b"),
            *("--range", "bytes=65530-65545", str(target)),
        )
        self.assertEqual(target.read_bytes(), content[65530:65546])
        url = self.aws("s3", "presign", "s3://bucket/a/b").strip()
        with urlopen(url) as answer:
            self.assertEqual(answer.read(), content)
        self.aws("s3", "rm", "s3://bucket/a/b")
        self.aws("s3", "rb", "s3://bucket")

    def test_layers(self) -> None:
        """
        put-object asks for two layers, or the bucket does, as cp cannot; all answers tell them.
        """
        content = MARK + os.urandom(700_001)
        source, target = self.write("source", content), self.work / "target"
        self.aws("s3", "mb", "s3://bucket")
        put = ("s3api", "put-object", "--bucket", "bucket", "--body", str(source))
        dual = ("--server-side-encryption", "aws:kms:dsse")
        told = [json.loads(self.aws(*put, "--key", "put", *dual))]
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms:dsse"}}
        self.aws(
            *("s3api", "put-bucket-encryption", "--bucket", "bucket"),
            *("--server-side-encryption-configuration", json.dumps({"Rules": [rule]})),
        )
        self.aws("s3", "cp", str(source), "s3://bucket/cp")
        told.append(json.loads(self.aws(*put, "--key", "default")))
        for key in ("cp", "put", "default"):
            self.aws("s3", "cp", f"s3://bucket/{key}", str(target))
            self.assertEqual(target.read_bytes(), content)
            head = ("s3api", "head-object", "--bucket", "bucket", "--key", key)
            told.append(json.loads(self.aws(*head)))
        for answer in told:
            self.assertEqual(answer["ServerSideEncryption"], "aws:kms:dsse")
            self.assertRegex(answer["SSEKMSKeyId"], "^arn:aws:kms:[a-z-]+$")
            self.assertNotIn("BucketKeyEnabled", answer)
        self.assertEqual(files_with(self.work / "data", MARK), [])


class McTests(CommandCase):
    """
    ``mc``.
    """

    def mc(self, *arguments: str) -> str:
        """
        Run ``mc`` with a configuration of the test.
        """
        return self.run_command(
            str(tools.require("mc")), "--config-dir", str(self.work / "mc"), *arguments
        )

    def test_round_trip(self) -> None:
        """
        alias, mb, encrypt, cp, stat, cat, ls, rm and rb work; stat shows the encryption.
        """
        content = MARK + os.urandom(900_000)
        source = self.write("source", content)
        self.mc("alias", "set", "k", self.server.endpoint, ACCESS_KEY, SECRET_KEY)
        self.mc("mb", "k/bucket")
        self.mc("encrypt", "set", "sse-s3", "k/bucket")
        self.assertIn("sse-s3", self.mc("encrypt", "info", "k/bucket"))
        self.mc("cp", str(source), "k/bucket/dir/file")
        stat = json.loads(self.mc("--json", "stat", "k/bucket/dir/file"))
        self.assertEqual(stat["metadata"]["X-Amz-Server-Side-Encryption"], "AES256")
        self.assertIn("SSE-S3", self.mc("stat", "k/bucket/dir/file"))
        target = self.work / "target"
        self.mc("cp", "k/bucket/dir/file", str(target))
        self.assertEqual(target.read_bytes(), content)
        small = self.write("small", b"a few words\n")
        self.mc("cp", str(small), "k/bucket/small")
        self.assertEqual(self.mc("cat", "k/bucket/small"), "a few words\n")
        self.assertIn("dir/", self.mc("ls", "k/bucket"))
        self.assertIn("file", self.mc("ls", "--recursive", "k/bucket"))
        self.mc("stat", "k/bucket")
        boto3_client(self.server).put_object(
            Bucket="bucket", Key="dual", Body=content, ServerSideEncryption="aws:kms:dsse"
        )
        stat = json.loads(self.mc("--json", "stat", "k/bucket/dual"))
        self.assertEqual(stat["metadata"]["X-Amz-Server-Side-Encryption"], "aws:kms:dsse")
        self.assertEqual(stat["size"], len(content))
        self.mc("cp", "k/bucket/dual", str(target))
        self.assertEqual(target.read_bytes(), content)
        self.mc("rm", "k/bucket/dual")
        self.mc("encrypt", "clear", "k/bucket")
        self.mc("rm", "--recursive", "--force", "k/bucket/dir")
        self.mc("rm", "k/bucket/small")
        self.mc("rb", "k/bucket")
        self.assertEqual(files_with(self.work / "data", MARK), [])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Stock clients that upload in parts and copy, against a real server, with each kind of encryption.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cases import SyncCase
from tests.integration import test_clients
from tests.integration.server import ACCESS_KEY, SECRET_KEY, STATIC_KEY, ServerProcess
from tests.integration.test_clients import boto3_client, files_with
from tests.kes.certificates import certificate, key_pem, new_key, pem

MIB = 1024 * 1024
MARK = b"PLAINTEXT-MARK-9c51"
_PART = 5 * MIB
_CUSTOMER_KEY = bytes(range(32))
_MASTER_KEY = STATIC_KEY.partition(":")[0]
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "s3": {"ServerSideEncryption": "AES256"},
    "kms": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": _MASTER_KEY},
    "dual": {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": _MASTER_KEY},
    "customer": {
        "SSECustomerAlgorithm": "AES256",
        "SSECustomerKey": _CUSTOMER_KEY,
    },
}


def random_content(size: int) -> bytes:
    """
    Bytes that no part of it repeats at the place of another, and that can be found on a disk.
    """
    block = MARK + os.urandom(65536 - len(MARK))
    numbered = (block + number.to_bytes(4, "big") for number in range(size // len(block) + 1))
    return b"".join(numbered)[:size]


def digest_of(path: Path) -> str:
    """
    The digest of a large file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def opening(kind: str) -> Mapping[str, Any]:
    """
    The arguments with which an object of this kind is read.
    """
    return _KINDS[kind] if kind == "customer" else {}


class SecureCase(SyncCase):
    """
    A test with a server over TLS, with a static master key.
    """

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        certs, key = self.work / "certs", new_key()
        certs.mkdir()
        (certs / "private.key").write_bytes(key_pem(key))
        (certs / "public.crt").write_bytes(pem(certificate(key)))
        self.server = ServerProcess(
            self.work / "data",
            {"MINIO_KMS_SECRET_KEY": STATIC_KEY},
            ("--certs-dir", str(certs)),
            "https",
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        self.s3 = boto3_client(self.server, verify=str(certs / "public.crt"))
        self.addCleanup(self.s3.close)
        self.s3.create_bucket(Bucket="bucket")


class Boto3Tests(SecureCase):
    """
    boto3 with its defaults.
    """

    def transfer(self) -> Any:
        """
        Uploads in parts of the smallest size.
        """
        from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

        return TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART)

    def test_upload_file(self) -> None:
        """
        Large files of each kind of encryption come back intact, whole and in ranges across
        parts, and nothing of what is encrypted is found on the disk.
        """
        content = random_content(3 * _PART + 12345)
        path = self.work / "file"
        path.write_bytes(content)
        for kind, arguments in _KINDS.items():
            metadata = {"Metadata": {"colour": "blue"}, "ContentType": "text/x-test"}
            self.s3.upload_file(
                str(path), "bucket", kind, ExtraArgs={**arguments, **metadata},
                Config=self.transfer(),
            )  # fmt: skip
            head = self.s3.head_object(Bucket="bucket", Key=kind, **opening(kind))
            self.assertEqual(head["ContentLength"], len(content))
            self.assertTrue(head["ETag"].endswith('-4"'), head["ETag"])
            self.assertEqual((head["Metadata"], head["ContentType"]), tuple(metadata.values()))
            for name in ("ServerSideEncryption", "SSEKMSKeyId", "SSECustomerAlgorithm"):
                self.assertEqual(head.get(name), arguments.get(name))
            self.s3.download_file(
                "bucket", kind, str(self.work / "back"),
                ExtraArgs=dict(opening(kind)), Config=self.transfer(),
            )  # fmt: skip
            self.assertEqual((self.work / "back").read_bytes(), content)
            for start, stop in (
                (0, 1),
                (_PART - 1, _PART + 1),
                (_PART, 2 * _PART),
                (_PART - 65536, 2 * _PART + 65537),
                (3 * _PART + 12344, 3 * _PART + 12345),
            ):
                wanted = f"bytes={start}-{stop - 1}"
                got = self.s3.get_object(Bucket="bucket", Key=kind, Range=wanted, **opening(kind))
                self.assertEqual(got["Body"].read(), content[start:stop])
            part = self.s3.get_object(Bucket="bucket", Key=kind, PartNumber=4, **opening(kind))
            self.assertEqual((part["Body"].read(), part["PartsCount"]), (content[-12345:], 4))
        self.s3.delete_object(Bucket="bucket", Key="plain")
        listed = self.s3.list_objects_v2(Bucket="bucket")["Contents"]
        self.assertEqual([entry["Size"] for entry in listed], [len(content)] * 3)

    def test_nothing_in_clear(self) -> None:
        """
        Encrypted parts are nowhere in clear, finished or not.
        """
        for kind in ("s3", "kms", "customer"):
            upload = self.s3.create_multipart_upload(Bucket="bucket", Key=kind, **_KINDS[kind])
            for number in (1, 2):
                self.s3.upload_part(
                    Bucket="bucket", Key=kind, UploadId=upload["UploadId"], PartNumber=number,
                    Body=random_content(MIB), **opening(kind),
                )  # fmt: skip
        self.assertEqual(files_with(self.work / "data", MARK), [])

    def test_copy(self) -> None:
        """
        Copies, in one piece and in parts, go from each kind of encryption to each.
        """
        content = random_content(2 * _PART + 1)
        for kind, arguments in _KINDS.items():
            self.s3.put_object(Bucket="bucket", Key=kind, Body=content, **arguments)
        for source in _KINDS:
            key = {"Bucket": "bucket", "Key": source}
            reading = {f"CopySource{name}": value for name, value in opening(source).items()}
            for target, arguments in _KINDS.items():
                self.s3.copy_object(
                    Bucket="bucket", Key="copy", CopySource=key, **arguments, **reading
                )
                got = self.s3.get_object(Bucket="bucket", Key="copy", **opening(target))
                self.assertEqual(got["Body"].read(), content)
                name = "ServerSideEncryption"
                self.assertEqual(got.get(name), arguments.get(name))
                managed = {**arguments, **reading}
                self.s3.copy(key, "bucket", "managed", ExtraArgs=managed, Config=self.transfer())
                got = self.s3.get_object(Bucket="bucket", Key="managed", **opening(target))
                self.assertEqual(got["Body"].read(), content)
                self.assertTrue(got["ETag"].endswith('-3"'))

    def test_by_hand(self) -> None:
        """
        Parts are listed, replaced and copied; an upload is aborted, completed, and completed
        again.
        """
        where = {"Bucket": "bucket", "Key": "k"}
        upload = {**where, "UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
        parts = []
        for number in (1, 2):
            for body in (b"old", random_content(_PART)):
                sent = self.s3.upload_part(**upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        self.s3.put_object(Bucket="bucket", Key="source", Body=b"0123456789")
        copied = self.s3.upload_part_copy(
            **upload, PartNumber=3, CopySource="bucket/source", CopySourceRange="bytes=2-4"
        )
        parts.append({"PartNumber": 3, "ETag": copied["CopyPartResult"]["ETag"]})
        listed = self.s3.list_parts(**upload)["Parts"]
        self.assertEqual([part["Size"] for part in listed], [_PART, _PART, 3])
        self.assertEqual([part["ETag"] for part in listed], [part["ETag"] for part in parts])
        pages = self.s3.get_paginator("list_parts").paginate(
            **upload, PaginationConfig={"PageSize": 1}
        )
        self.assertEqual(sum(len(page["Parts"]) for page in pages), 3)
        uploads = self.s3.list_multipart_uploads(Bucket="bucket")["Uploads"]
        self.assertEqual([entry["UploadId"] for entry in uploads], [upload["UploadId"]])
        for _ in range(2):
            made = self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            self.assertTrue(made["ETag"].endswith('-3"'))
        head = self.s3.head_object(**where)
        self.assertEqual((head["ContentLength"], head["ETag"]), (2 * _PART + 3, made["ETag"]))
        other = {**where, "UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
        self.s3.upload_part(**other, PartNumber=1, Body=b"x")
        self.s3.abort_multipart_upload(**other)
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket="bucket"))
        for call in (self.s3.list_parts, self.s3.abort_multipart_upload):
            with self.assertRaises(self.s3.exceptions.NoSuchUpload):
                call(**other)

    def test_checksums(self) -> None:
        """
        Checksums of each kind are computed as the SDK does and verified by it.
        """
        content = random_content(_PART + 1)
        for algorithm, kind in (
            ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT"),
            ("CRC64NVME", "FULL_OBJECT"), ("SHA1", "COMPOSITE"), ("SHA256", "COMPOSITE"),
        ):  # fmt: skip
            where = {"Bucket": "bucket", "Key": "k"}
            upload = self.s3.create_multipart_upload(
                **where, ChecksumAlgorithm=algorithm, ChecksumType=kind
            )
            self.assertEqual(upload["ChecksumAlgorithm"], algorithm)
            upload = {**where, "UploadId": upload["UploadId"]}
            parts = []
            for number, body in enumerate((content[:_PART], content[_PART:]), 1):
                sent = self.s3.upload_part(
                    **upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm
                )
                name = f"Checksum{algorithm}"
                parts.append({"PartNumber": number, "ETag": sent["ETag"], name: sent[name]})
            made = self.s3.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, ChecksumType=kind
            )
            self.assertEqual(made["ChecksumType"], kind)
            got = self.s3.get_object(**where, ChecksumMode="ENABLED")
            self.assertEqual(got["Body"].read(), content)
            self.assertEqual(got[name], made[name])


class AwsTests(test_clients.AwsTests):
    """
    The AWS command line.
    """

    def test_round_trip(self) -> None:
        """
        A file of 30 MiB is sent in parts, copied and fetched.
        """
        content = random_content(30 * MIB)
        source, target = self.write("source", content), self.work / "target"
        self.aws("s3", "mb", "s3://bucket")
        self.aws("s3", "cp", str(source), "s3://bucket/a", "--sse", "AES256")
        self.aws("s3", "cp", "s3://bucket/a", "s3://bucket/b", "--sse", "aws:kms")
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms:dsse"}}
        self.aws(
            *("s3api", "put-bucket-encryption", "--bucket", "bucket"),
            *("--server-side-encryption-configuration", json.dumps({"Rules": [rule]})),
        )
        self.aws("s3", "cp", "s3://bucket/b", "s3://bucket/c")
        for key, kind in (("b", "aws:kms"), ("c", "aws:kms:dsse")):
            self.aws("s3", "cp", f"s3://bucket/{key}", str(target))
            self.assertEqual(target.read_bytes(), content)
            head = json.loads(self.aws("s3api", "head-object", "--bucket", "bucket", "--key", key))
            self.assertEqual(head["ServerSideEncryption"], kind)
            self.assertRegex(head["ETag"], '-4"$')
        self.assertEqual(files_with(self.work / "data", MARK), [])


class McTests(test_clients.McTests):
    """
    ``mc``.
    """

    def test_round_trip(self) -> None:
        """
        A file of 200 MiB with few bytes in it is sent, fetched, and looked at in the middle.
        """
        source, target = self.work / "source", self.work / "target"
        size = 200 * MIB
        with source.open("wb") as file:
            file.truncate(size)
            for at in range(0, size, 7 * MIB):
                file.seek(at)
                file.write(MARK + os.urandom(100))
        self.mc("alias", "set", "k", self.server.endpoint, ACCESS_KEY, SECRET_KEY)
        self.mc("mb", "k/bucket")
        self.mc("encrypt", "set", "sse-kms", _MASTER_KEY, "k/bucket")
        self.mc("cp", str(source), "k/bucket/file")
        stat = json.loads(self.mc("--json", "stat", "k/bucket/file"))
        self.assertEqual(stat["size"], size)
        self.assertEqual(stat["metadata"]["X-Amz-Server-Side-Encryption"], "aws:kms")
        self.mc("cp", "k/bucket/file", "k/bucket/copy")
        self.mc("cp", "k/bucket/copy", str(target))
        self.assertEqual(digest_of(target), digest_of(source))
        self.assertEqual(self.mc("ls", "--incomplete", "--recursive", "k/bucket"), "")
        self.assertEqual(files_with(self.work / "data", MARK), [])


class MinioPyTests(SecureCase):
    """
    minio-py.
    """

    def test_unknown_length(self) -> None:
        """
        A stream whose length nobody knows becomes an object, with each kind of encryption.
        """
        import urllib3
        from minio import Minio  # type: ignore[import-untyped]
        from minio.sse import SseCustomerKey, SseKMS, SseS3  # type: ignore[import-untyped]

        client = Minio(
            endpoint=f"127.0.0.1:{self.server.port}",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            secure=True,
            http_client=urllib3.PoolManager(ca_certs=str(self.work / "certs" / "public.crt")),
        )
        content = random_content(12 * MIB + 3)
        for sse in (None, SseS3(), SseKMS(_MASTER_KEY, {"a": "b"}), SseCustomerKey(_CUSTOMER_KEY)):
            client.put_object(
                bucket_name="bucket",
                object_name="k",
                data=io.BytesIO(content),
                length=-1,
                part_size=_PART,
                sse=sse,
            )
            opening = sse if isinstance(sse, SseCustomerKey) else None
            answer = client.get_object(bucket_name="bucket", object_name="k", ssec=opening)
            self.assertEqual(answer.read(), content)
            answer.close()

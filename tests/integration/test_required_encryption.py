# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Required encryption of buckets: set by the command, and held on every entry by real servers of two
workers, for the root user, too.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from botocore.exceptions import ClientError

from kypello.kmsconfig import AUTO_ENCRYPTION
from tests.integration import tools
from tests.integration.server import ACCESS_KEY, SECRET_KEY, base_environment
from tests.integration.test_account_cli import run
from tests.integration.test_clients import files_with
from tests.integration.test_faults import refusal
from tests.integration.test_workers import WorkersCase

_MARK = b"a text that has to be found nowhere"
_BODY = _MARK + os.urandom(40_000)
_PART = _MARK + os.urandom(5 * 1024 * 1024)
_S3 = {"ServerSideEncryption": "AES256"}
_DEFAULT_KEY = {"ServerSideEncryption": "aws:kms"}
_KMS = {**_DEFAULT_KEY, "SSEKMSKeyId": "arn:aws:kms:us-east-1:123456789012:key/wanted"}
_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
_DENIED = (403, "AccessDenied")

#: What a bucket with SSE-KMS under one key refuses.
_REFUSED: tuple[dict[str, str], ...] = ({}, _S3, _DEFAULT_KEY, _CUSTOMER)


class RequiredCase(WorkersCase):
    """
    A test with a server that has a key server of its own, two master keys, and ``mc``.
    """

    environment = {"KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on"}  # noqa: RUF012

    def setUp(self) -> None:
        """
        Make the second key.
        """
        self.program = tools.require("mc")
        super().setUp()
        self.mc("alias", "set", "k", self.server.endpoint, ACCESS_KEY, SECRET_KEY)
        self.mc("admin", "kms", "key", "create", "k", "wanted")

    def mc(self, *arguments: str, given: bytes = b"", code: int = 0) -> str:
        """
        Run ``mc``.
        """
        done = subprocess.run(
            [self.program, "--config-dir", self.work / "mc", "--no-color", *arguments],
            env={**base_environment(), "HOME": str(self.work)},
            input=given,
            capture_output=True,
            timeout=120,
            check=False,
        )
        output = (done.stdout + done.stderr).decode()
        self.assertEqual(done.returncode, code, output)
        return output

    def kypello(self, *arguments: str, code: int = 0) -> list[Any]:
        """
        Run a command, and give the objects that it prints.
        """
        done = run(self.work, self.server.endpoint, *arguments, "--json")
        self.assertEqual(done[0], code, done)
        return list(map(json.loads, done[1].splitlines()))

    def require(self, *arguments: str, bucket: str = "bucket") -> None:
        """
        Have a bucket require something.
        """
        self.kypello("bucket", "require", bucket, *arguments)

    def refused(self, call: Callable[..., Any], **arguments: Any) -> None:
        """
        See that something is refused for what its bucket requires.
        """
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response
        self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 403, error)
        self.assertEqual(error["Error"]["Code"], "AccessDenied")
        self.assertIn("requires encryption by SSE-KMS", error["Error"]["Message"])

    def form(self, key: str, **fields: str) -> int:
        """
        The status of an upload by a form.
        """
        conditions = [{name: value} for name, value in fields.items()]
        made = self.first.generate_presigned_post("bucket", key, fields, conditions)
        body = b"".join(
            b'--cut\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (name.encode(), value)
            for name, value in (
                *((name, text.encode()) for name, text in made["fields"].items()),
                ("file", _BODY),
            )
        )
        kind = {"Content-Type": "multipart/form-data; boundary=cut"}
        request = Request(made["url"], body + b"--cut--\r\n", kind, method="POST")
        try:
            with urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code

    def archive(self, **options: str) -> None:
        """
        Send an archive of two entries.
        """
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            for number in range(2):
                entry = tarfile.TarInfo(f"archive/{number}")
                entry.size = len(_BODY)
                archive.addfile(entry, io.BytesIO(_BODY))
        self.first.put_object(
            Bucket="bucket",
            Key="archive.tar",
            Body=written.getvalue(),
            Metadata={"snowball-auto-extract": "true", **options},
        )

    def stored(self) -> list[str]:
        """
        The keys of all versions.
        """
        listed = self.first.list_object_versions(Bucket="bucket").get("Versions", [])
        return [each["Key"] for each in listed]


class EntriesTests(RequiredCase):
    """
    What comes in by any entry is encrypted as it is required.
    """

    def test_new_objects(self) -> None:
        """
        PUT, chunked PUT, form, archive and the beginning of an upload: all but the encryption
        that is required is refused, by both workers as soon as the rule is set; nothing is stored.
        """
        for count, client in enumerate((self.first, self.second) * 2):
            self.require("--none")
            client.put_object(Bucket="bucket", Key="k", Body=_BODY, **_S3)
            self.require("--key", "wanted", *(("--kinds", "sse-kms") if count % 2 else ()))
            for other in (self.first, self.second):
                for asked in _REFUSED:
                    self.refused(other.put_object, Bucket="bucket", Key="n", Body=b"x", **asked)
        for asked in _REFUSED:
            self.refused(self.first.create_multipart_upload, Bucket="bucket", Key="n", **asked)
        self.assertIn(
            "Insufficient permissions",
            self.mc("pipe", "k/bucket/chunked", given=_BODY * 10, code=1),
        )
        self.assertEqual(self.form("form"), 403)
        for options in ({}, {"minio-snowball-ignore-errors": "true"}):
            self.refused(self.archive, **options)
        self.assertEqual(self.stored(), ["k"])
        self.assertEqual(files_with(self.work / "data", _MARK), [])

    def test_accepted(self) -> None:
        """
        What is asked for as it is required is stored, and with a default encryption that meets
        the rule also what asks for nothing.
        """
        self.require("--key", "wanted")
        self.first.put_object(Bucket="bucket", Key="put", Body=_BODY, **_KMS)
        self.mc("cp", "--enc-kms", "k/bucket=wanted", str(self.file()), "k/bucket/mc")
        header = "x-amz-server-side-encryption"
        fields = {header: "aws:kms", f"{header}-aws-kms-key-id": "alias/wanted"}
        self.assertEqual(self.form("form", **fields), 204)
        self.mc("encrypt", "set", "sse-kms", "wanted", "k/bucket")
        self.archive()
        self.second.put_object(Bucket="bucket", Key="unasked", Body=_BODY)
        self.mc("pipe", "k/bucket/chunked", given=_BODY * 10)
        self.refused(self.first.put_object, Bucket="bucket", Key="n", Body=b"x", **_S3)
        expected = ["archive/0", "archive/1", "chunked", "form", "mc", "put", "unasked"]
        self.assertEqual(self.stored(), expected)
        for key in expected:
            told = self.second.head_object(Bucket="bucket", Key=key)
            self.assertEqual(told["ServerSideEncryption"], "aws:kms")
            self.assertTrue(told["SSEKMSKeyId"].endswith("wanted"), told)

    def file(self) -> Path:
        """
        A file with content.
        """
        path = self.work / "file"
        path.write_bytes(_BODY)
        return path

    def test_uploads(self) -> None:
        """
        An upload that began before the rule takes no parts, by PUT or by copy, and is not
        completed; one that meets it does. A master key that is taken off the list ends both.
        """
        self.first.put_object(Bucket="bucket", Key="source", Body=_PART)
        began = [
            (asked, self.first.create_multipart_upload(Bucket="bucket", Key="k", **asked))
            for asked in (*_REFUSED, _KMS)
        ]
        sent = [self.part(upload, 1, asked) for asked, upload in began]
        self.require("--key", "wanted")
        for (asked, upload), part in zip(began[:-1], sent, strict=False):
            again = self.place(upload, asked)
            self.refused(self.second.upload_part, **again, PartNumber=2, Body=b"x")
            source = {"CopySource": "bucket/source", "PartNumber": 2}
            self.refused(self.second.upload_part_copy, **again, **source)
            completion = {"MultipartUpload": {"Parts": [part]}}
            self.refused(self.second.complete_multipart_upload, **again, **completion)
            self.first.abort_multipart_upload(**self.place(upload, {}))
        asked, upload = began[-1]
        parts = [sent[-1], self.part(upload, 2, asked)]
        completion = {"MultipartUpload": {"Parts": parts}}
        default = self.default_key()
        self.require("--key", default)
        self.refused(self.second.complete_multipart_upload, **self.place(upload, {}), **completion)
        self.require("--key", "wanted", "--key", default)
        self.second.complete_multipart_upload(**self.place(upload, {}), **completion)
        self.assertEqual(self.stored(), ["k", "source"])

    def place(self, upload: dict[str, Any], asked: dict[str, str]) -> dict[str, Any]:
        """
        What names an upload, with the key that its parts bring.
        """
        theirs = {name: value for name, value in asked.items() if name in _CUSTOMER}
        return {"Bucket": "bucket", "Key": "k", "UploadId": upload["UploadId"], **theirs}

    def part(self, upload: dict[str, Any], number: int, asked: dict[str, str]) -> dict[str, Any]:
        """
        Send a part.
        """
        place = self.place(upload, asked)
        told = self.first.upload_part(**place, PartNumber=number, Body=_PART)
        return {"PartNumber": number, "ETag": told["ETag"]}

    def default_key(self) -> str:
        """
        The name of the server's default key.
        """
        self.first.create_bucket(Bucket="other")
        told = self.first.put_object(Bucket="other", Key="k", Body=b"", **_DEFAULT_KEY)
        return str(told["SSEKMSKeyId"]).rpartition(":")[2]

    def test_copies_and_keys(self) -> None:
        """
        Copies, also of an object onto itself, UpdateObjectEncryption and ``kypello encrypt
        rotate`` end in what is required, or are refused.
        """
        self.first.put_object(Bucket="bucket", Key="s3", Body=_BODY, **_S3)
        self.first.put_object(Bucket="bucket", Key="c", Body=_BODY, **_CUSTOMER)
        default = self.default_key()
        self.require("--key", "wanted")
        source = {"CopySource": "bucket/s3"}
        for asked in _REFUSED:
            for key in ("n", "s3"):
                changed = {"MetadataDirective": "REPLACE", "Metadata": {"a": "b"}}
                self.refused(
                    self.second.copy_object, Bucket="bucket", Key=key, **source, **changed, **asked
                )
        exchange = {
            **{f"CopySource{name}": value for name, value in _CUSTOMER.items()},
            "CopySource": "bucket/c",
            "SSECustomerAlgorithm": "AES256",
            "SSECustomerKey": "n" * 32,
        }
        self.refused(self.first.copy_object, Bucket="bucket", Key="c", **exchange)
        update = self.first.update_object_encryption
        place = {"Bucket": "bucket", "Key": "s3"}
        wrong = {"SSEKMS": {"KMSKeyArn": f"arn:aws:kms:us-east-1:123456789012:key/{default}"}}
        self.refused(update, **place, ObjectEncryption=wrong)
        rotate = ("encrypt", "rotate", "bucket", "--to", "wanted")
        for options, code in (((), 1), (("--dry-run",), 0)):
            told = self.kypello(*rotate, *options, code=code)
            self.assertIn("requires encryption", told[0]["failed"]["reason"])
            self.assertEqual((told[-1]["changed"], told[-1]["failed"]), (0, 1))
        told = self.kypello(*rotate, "--type", "sse-kms")
        self.assertEqual(told[-1]["changed"], 1)
        right = {"SSEKMS": {"KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/wanted"}}
        update(**place, ObjectEncryption=right)
        self.second.copy_object(Bucket="bucket", Key="n", **source, **_KMS)
        self.assertEqual(self.stored(), ["c", "n", "s3"])
        self.assertEqual(self.second.get_object(Bucket="bucket", Key="n")["Body"].read(), _BODY)

    def test_customer_keys(self) -> None:
        """
        Keys of clients can be required.
        """
        self.require("--kinds", "sse-c")
        for asked in ({}, _S3, _KMS):
            self.assertEqual(
                refusal(self.first.put_object, Bucket="bucket", Key="k", Body=b"x", **asked),
                _DENIED,
            )
        self.second.put_object(Bucket="bucket", Key="k", Body=_BODY, **_CUSTOMER)

    def test_kept(self) -> None:
        """
        The rule outlives the removal of the default encryption, a restart, and the loss of the
        index.
        """
        self.require("--key", "wanted")
        self.first.delete_bucket_encryption(Bucket="bucket")
        put = {"Bucket": "bucket", "Key": "k", "Body": b"x"}
        self.refused(self.second.put_object, **put)
        self.server.kill()
        data = self.work / "data"
        shutil.rmtree(data / "index")
        rebuild = (sys.executable, "-m", "kypello.cli", "store", "rebuild", str(data))
        done = subprocess.run(
            rebuild, env=base_environment(), capture_output=True, timeout=60, check=False
        )
        # What was small is lost with the index, and there was nothing.
        self.assertIn(b"Buckets       1\nObjects       0\n", done.stdout)
        self.server.start()
        client = self.client()
        self.refused(client.put_object, **put)
        client.put_object(**put, **_KMS)


class VerifyTests(RequiredCase):
    """
    What ``kypello encrypt verify`` tells of objects that are older than the rule.
    """

    def found(self, code: int = 1, **environment: str) -> dict[str, tuple[str, str]]:
        """
        The kind and the words of what is found, by key.
        """
        verify = (sys.executable, "-m", "kypello.cli", "encrypt", "verify")
        done = subprocess.run(
            [*verify, str(self.work / "data"), "bucket", "--json"],
            env={**base_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (code, b""), done.stdout)
        told = list(map(json.loads, done.stdout.splitlines()))
        found = [each["finding"] for each in told[:-1]]
        summary = told[-1]["summary"]
        self.assertEqual(summary["plaintext"] + summary["refused"], len(found))
        return {each["key"]: (each["kind"], each["what"]) for each in found}

    def fill(self) -> None:
        """
        Store an object of each kind.
        """
        named = {"plain": {}, "s3": _S3, "default": _DEFAULT_KEY, "kms": _KMS, "c": _CUSTOMER}
        for key, asked in named.items():
            self.first.put_object(Bucket="bucket", Key=key, Body=_BODY, **asked)

    def test_required(self) -> None:
        """
        What lies in clear, and what has another kind or key, is told, with what is required; so
        are unfinished uploads.
        """
        self.fill()
        self.assertEqual(self.found(0), {})
        for arguments, expected in (
            ((), {"plain"}),
            (("--kinds", "sse-s3,sse-kms"), {"plain", "c"}),
            (("--key", "wanted"), {"plain", "c", "s3", "default"}),
        ):
            self.require(*arguments)
            found = self.found()
            self.assertEqual({*found}, expected)
            for key, (kind, what) in found.items():
                self.assertEqual(kind, "plaintext" if key == "plain" else "refused encryption")
                self.assertIn("its bucket requires encryption by SSE-", what)
        self.require("--none")
        for key, asked in (("upload", _S3), ("upload in clear", {}), ("right", _KMS)):
            self.first.create_multipart_upload(Bucket="bucket", Key=key, **asked)
        self.require("--key", "wanted")
        found = self.found()
        self.assertEqual(found["upload"][0], "refused encryption")
        self.assertEqual(found["upload in clear"][0], "plaintext")
        self.assertNotIn("right", found)
        self.require("--none")
        self.assertEqual(self.found(0), {})
        self.assertEqual({*self.found(**{AUTO_ENCRYPTION: "on"})}, {"plain", "upload in clear"})

    def deny(self, **condition: dict[str, Any]) -> None:
        """
        Set a policy that denies to put what fits.
        """
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::bucket/*",
            "Condition": condition,
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.first.put_bucket_policy(Bucket="bucket", Policy=json.dumps(policy))

    def test_policy(self) -> None:
        """
        What the policy of the bucket would deny for its encryption is told, unless policies count
        for strangers only.
        """
        self.fill()
        sse = "s3:x-amz-server-side-encryption"
        self.deny(Null={sse: "true"})
        found = self.found()
        self.assertEqual(
            found["plain"], ("plaintext", "it lies in clear, which the policy of its bucket denies")
        )
        self.assertEqual({*found}, {"plain", "c"})
        self.assertEqual(self.found(0, KYPELLO_BUCKET_POLICY_SCOPE="anonymous"), {})
        self.deny(StringNotEquals={sse: "aws:kms"})
        self.assertEqual({*self.found()}, {"plain", "c", "s3"})
        key = "arn:aws:kms:us-east-1:123456789012:key/wanted"
        self.deny(StringNotEqualsIfExists={f"{sse}-aws-kms-key-id": key})
        self.assertEqual({*self.found()}, {"plain", "c", "s3", "default"})

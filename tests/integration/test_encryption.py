# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The three kinds of encryption with stock clients, keys coming from a real key server.
"""

import os
import signal
import subprocess
from base64 import b64encode
from typing import Any

from tests.integration import tools
from tests.integration.server import ACCESS_KEY, SECRET_KEY, base_environment
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import KeyServerCase, refusal

_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}


class EncryptionCase(KeyServerCase):
    """
    A test with an original key server that has two keys, and a server that encrypts everything.
    """

    def setUp(self) -> None:
        """
        Start both.
        """
        super().setUp()
        self.kes_server = self.original()
        self.kes(self.kes_server, "key", "create", "my-key", "other-key")
        self.object = self.object_server(
            self.kes_server.port,
            MINIO_KMS_AUTO_ENCRYPTION="on",
            KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP="on",
        )
        self.s3 = boto3_client(self.object)
        self.s3.create_bucket(Bucket="bucket")

    def put(self, key: str, **arguments: Any) -> dict[str, Any]:
        """
        Store an object, read it, and give what a HEAD tells.
        """
        reading = {name: value for name, value in arguments.items() if "Customer" in name}
        self.s3.put_object(Bucket="bucket", Key=key, Body=b"content", **arguments)
        got = self.s3.get_object(Bucket="bucket", Key=key, **reading)
        self.assertEqual(got["Body"].read(), b"content")
        told: dict[str, Any] = self.s3.head_object(Bucket="bucket", Key=key, **reading)
        return told


class KindsTests(EncryptionCase):
    """
    What each kind needs and tells.
    """

    def test_named_key(self) -> None:
        """
        SSE-KMS uses the key that is named, bound to the context that is given, and tells the
        key as the client wrote it; an unknown key is refused and not made.
        """
        for key_id in ("other-key", "arn:aws:kms:other-key"):
            told = self.put("k", ServerSideEncryption="aws:kms", SSEKMSKeyId=key_id)
            self.assertEqual(
                (told["ServerSideEncryption"], told["SSEKMSKeyId"]), ("aws:kms", key_id)
            )
        context = b64encode(b'{"department":"research"}').decode()
        self.put(
            "c",
            ServerSideEncryption="aws:kms",
            SSEKMSKeyId="other-key",
            SSEKMSEncryptionContext=context,
        )
        unknown = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "third-key"}
        self.assertEqual(
            refusal(self.s3.put_object, Bucket="bucket", Key="x", Body=b"x", **unknown),
            (400, "kms:KeyNotFound"),
        )
        self.assertEqual({path.name for path in self.keys.iterdir()}, {"my-key", "other-key"})

    def test_layers(self) -> None:
        """
        DSSE-KMS uses the key that is named for both layers, bound to the context that is given;
        the key server sees which layer each data key is for.
        """
        context = b64encode(b'{"department":"research"}').decode()
        for key_id, told_id in (("other-key", "other-key"), ("", "arn:aws:kms:my-key")):
            asked = {"SSEKMSKeyId": key_id} if key_id else {}
            told = self.put(
                "k",
                ServerSideEncryption="aws:kms:dsse",
                SSEKMSEncryptionContext=context,
                BucketKeyEnabled=True,
                **asked,
            )
            self.assertEqual(
                (told["ServerSideEncryption"], told["SSEKMSKeyId"]), ("aws:kms:dsse", told_id)
            )
            self.assertNotIn("BucketKeyEnabled", told)
        unknown = {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "third-key"}
        self.assertEqual(
            refusal(self.s3.put_object, Bucket="bucket", Key="x", Body=b"x", **unknown),
            (400, "kms:KeyNotFound"),
        )
        self.assertEqual({path.name for path in self.keys.iterdir()}, {"my-key", "other-key"})
        os.kill(self.kes_server.process.pid, signal.SIGKILL)
        asked = {"ServerSideEncryption": "aws:kms:dsse"}
        status, _ = refusal(self.s3.put_object, Bucket="bucket", Key="x", Body=b"x", **asked)
        self.assertEqual(status, 503)

    def test_own_key(self) -> None:
        """
        SSE-C wins over auto-encryption and never needs the key server; the key is needed to
        read, and nothing of it is on the disk.
        """
        os.kill(self.kes_server.process.pid, signal.SIGKILL)
        told = self.put("k", **_CUSTOMER)
        self.assertEqual(told["SSECustomerAlgorithm"], "AES256")
        self.assertNotIn("ServerSideEncryption", told)
        key = {"Bucket": "bucket", "Key": "k"}
        self.assertEqual(refusal(self.s3.get_object, **key), (400, "InvalidRequest"))
        wrong = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(32)}
        self.assertEqual(refusal(self.s3.get_object, **key, **wrong), (403, "AccessDenied"))
        for path in (self.folder / "data").rglob("*"):
            if path.is_file():
                self.assertNotIn(bytes(range(32)), path.read_bytes())

    def test_remote_own_key(self) -> None:
        """
        Keys of clients are refused over plain HTTP where they are not allowed.
        """
        self.object.stop()
        server = self.object_server(self.kes_server.port)
        s3 = boto3_client(server)
        refused = refusal(s3.put_object, Bucket="bucket", Key="k", Body=b"x", **_CUSTOMER)
        self.assertEqual(refused, (400, "InvalidRequest"))


class CallsTests(KeyServerCase):
    """
    How often the key server is asked.
    """

    def test_few_calls(self) -> None:
        """
        A thousand requests for objects of one bucket ask the key server less than ten times, by
        one worker; each has to prove the master key and to open the keys of the bucket.
        """
        kes = self.start()
        settings = {"MINIO_KMS_AUTO_ENCRYPTION": "on", "KYPELLO_WORKERS": "1"}
        s3 = boto3_client(self.object_server(kes.port, **settings))
        s3.create_bucket(Bucket="bucket")
        for number in range(250):
            s3.put_object(Bucket="bucket", Key=f"k{number}", Body=b"x")
        for number in range(250):
            s3.get_object(Bucket="bucket", Key=f"k{number}")["Body"].read()
            s3.head_object(Bucket="bucket", Key=f"k{number}")
            s3.list_objects_v2(Bucket="bucket", MaxKeys=10)
        log = kes.log.read_text()
        calls = log.count("/v1/key/generate/") + log.count("/v1/key/decrypt/")
        self.assertIn(calls, range(1, 10))


class DefaultTests(EncryptionCase):
    """
    Default encryption of buckets by ``mc``.
    """

    def mc(self, *arguments: str, code: int = 0) -> str:
        """
        Run ``mc``.
        """
        done = subprocess.run(
            [
                *(str(tools.require("mc")), "--config-dir", str(self.folder / "mc"), "--no-color"),
                *arguments,
            ],
            env={**base_environment(), "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        output = (done.stdout + done.stderr).decode()
        self.assertEqual(done.returncode, code, output)
        return output

    def test_kms(self) -> None:
        """
        ``mc encrypt set sse-kms`` sets a named key for what asks for nothing, and refuses one
        that the key server does not have.
        """
        self.mc("alias", "set", "k", self.object.endpoint, ACCESS_KEY, SECRET_KEY)
        self.mc("encrypt", "set", "sse-kms", "other-key", "k/bucket")
        self.assertIn("other-key", self.mc("encrypt", "info", "k/bucket"))
        told = self.put("k")
        self.assertEqual(told["ServerSideEncryption"], "aws:kms")
        self.assertIn("other-key", told["SSEKMSKeyId"])
        self.assertIn(
            "third-key", self.mc("encrypt", "set", "sse-kms", "third-key", "k/bucket", code=1)
        )
        self.assertIn("other-key", self.mc("encrypt", "info", "k/bucket"))
        self.mc("encrypt", "clear", "k/bucket")
        self.assertEqual(self.put("k")["ServerSideEncryption"], "AES256")

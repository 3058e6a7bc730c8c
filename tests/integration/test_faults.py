# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What goes wrong around a server: its key servers, its disk, its clients.

Each fault gets its documented answer, leaves nothing behind, and is over when its cause is.
"""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from botocore.exceptions import ClientError

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import STATIC_KEY, ServerProcess, contents
from tests.integration.test_clients import boto3_client
from tests.integration.test_kes_server import Person, Running, ServerCase
from tests.kes.certificates import certificate, key_pem, new_key

_SSE = {"ServerSideEncryption": "AES256"}


def wait_until(done: Any, seconds: float = 20.0) -> None:
    """
    Wait until something is so.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError("it does not come to pass")
        time.sleep(0.1)


def refusal(call: Any, **arguments: Any) -> tuple[int, str]:
    """
    Status and code of a call that must fail.
    """
    try:
        call(**arguments)
    except ClientError as error:
        answer = error.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
    raise AssertionError("it has worked")


class KeyServerCase(ServerCase):
    """
    A test with a server whose keys come from key servers.
    """

    def object_server(self, *ports: int, ca: Path | None = None, **more: str) -> ServerProcess:
        """
        Start a server that uses the key servers on these ports.
        """
        endpoints = ",".join(f"https://127.0.0.1:{port}" for port in ports)
        server = ServerProcess(
            self.folder / "data",
            {
                "MINIO_KMS_KES_ENDPOINT": endpoints,
                "MINIO_KMS_KES_KEY_NAME": "my-key",
                "MINIO_KMS_KES_KEY_FILE": str(self.admin.key),
                "MINIO_KMS_KES_CERT_FILE": str(self.admin.cert),
                "MINIO_KMS_KES_CAPATH": str(ca or self.server.cert),
                **more,
            },
        )
        server.start()
        self.addCleanup(server.stop)
        return server

    def original(self) -> Running:
        """
        Start an original key server.
        """
        return self.start((str(tools.require("kes")), "server"))

    def nothing_left(self) -> None:
        """
        See that no content is on the disk.
        """
        wait_until(lambda: not contents(self.folder / "data"))


class OutageTests(KeyServerCase):
    """
    Key servers that fail.
    """

    def test_two_of_three_killed(self) -> None:
        """
        Of three original key servers two are killed under load, and no request fails, with a
        data key for each object.
        """
        kes = [self.original() for _ in range(3)]
        server = self.object_server(*(one.port for one in kes))
        s3 = boto3_client(server, max_pool_connections=8)
        s3.create_bucket(Bucket="bucket")
        ended, failures, count = threading.Event(), [], [0] * 6

        def work(number: int) -> None:
            """
            Write to and read from buckets of its own, so that the key servers are asked.
            """
            try:
                while not ended.is_set():
                    bucket = f"bucket-{number}-{count[number]}"
                    s3.create_bucket(Bucket=bucket)
                    body = os.urandom(1000)
                    s3.put_object(Bucket=bucket, Key="k", Body=body, **_SSE)
                    if s3.get_object(Bucket=bucket, Key="k")["Body"].read() != body:
                        failures.append("other content")
                    count[number] += 1
            except Exception as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for one in kes[:2]:
            time.sleep(1.5)
            os.kill(one.process.pid, signal.SIGKILL)
        time.sleep(2.5)
        ended.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(count), 5)

    def test_down_and_back(self) -> None:
        """
        While the only key server is down the server starts and serves what needs no key;
        encrypted writes are 503; it recovers by itself.
        """
        ours = self.start()
        command = list(ours.process.args)  # type: ignore[call-overload]
        ours.end()
        server = self.object_server(ours.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="plain", Body=b"plain")
        self.assertEqual(s3.get_object(Bucket="bucket", Key="plain")["Body"].read(), b"plain")
        sealed = {"Bucket": "bucket", "Key": "sealed", "Body": bytes(100_000), **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed), (503, "ServiceUnavailable"))
        self.assertEqual(server.health("ready"), 503)
        self.assertEqual((server.health("live"), server.health("cluster")), (200, 200))
        self.nothing_left()
        self.run_server(tuple(command), ours.port).wait()
        wait_until(lambda: server.health("ready") == 200, 30)
        s3.put_object(**sealed)
        self.assertEqual(s3.head_object(Bucket="bucket", Key="sealed")["ContentLength"], 100_000)

    def test_reading_goes_on(self) -> None:
        """
        When the key server is gone, listings and HEAD go on, and so do objects whose key was
        opened a moment ago.
        """
        kes = self.start()
        server = self.object_server(kes.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content", **_SSE)
        os.kill(kes.process.pid, signal.SIGKILL)
        self.assertEqual(s3.head_object(Bucket="bucket", Key="k")["ServerSideEncryption"], "AES256")
        (entry,) = s3.list_objects_v2(Bucket="bucket")["Contents"]
        self.assertEqual(entry["ETag"], f'"{hashlib.md5(b"content").hexdigest()}"')
        self.assertEqual(s3.get_object(Bucket="bucket", Key="k")["Body"].read(), b"content")

    def test_lost_key(self) -> None:
        """
        A master key that data hangs on is never made anew when the key server has lost it.
        """
        kes = self.start()
        server = self.object_server(kes.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content", **_SSE)
        server.stop()
        kes.end()
        (self.keys / "my-key").rename(self.folder / "kept")
        self.run_server(tuple(kes.process.args), kes.port).wait()  # type: ignore[arg-type]
        server.start()
        sealed = {"Bucket": "bucket", "Key": "new", "Body": b"x", **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed), (400, "kms:KeyNotFound"))
        self.assertEqual(list(self.keys.iterdir()), [])
        self.assertIn("my-key", server.log)
        wait_until(lambda: "1 objects (1 versions)" in server.log)

    def test_other_material(self) -> None:
        """
        A key server with other material under the name is refused before anything is written.
        """
        kes = self.start()
        server = self.object_server(kes.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content", **_SSE)
        server.stop()
        (self.keys / "my-key").unlink()
        kes.end()
        again = self.run_server(tuple(kes.process.args), kes.port)  # type: ignore[arg-type]
        again.wait()
        self.kes(again, "key", "create", "my-key")
        server.start()
        sealed = {"Bucket": "bucket", "Key": "new", "Body": b"x", **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed), (503, "kms:KeyMismatch"))
        self.assertEqual(s3.list_objects_v2(Bucket="bucket")["KeyCount"], 1)
        for words in ("1 objects (1 versions)", "in use since", f"127.0.0.1:{kes.port}: it is not"):
            wait_until(lambda words=words: words in server.log)

    def test_one_of_two_wrong(self) -> None:
        """
        Of two key servers one holds other material: it is left out, and what is written can be
        read with the right one alone.
        """
        right = self.start()
        self.kes(right, "key", "create", "my-key")
        server = self.object_server(right.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content", **_SSE)
        server.stop()
        self.keys = self.folder / "other-keys"
        wrong = self.start()
        self.kes(wrong, "key", "create", "my-key")
        server = self.object_server(wrong.port, right.port, MINIO_PROMETHEUS_AUTH_TYPE="public")
        s3 = boto3_client(server)
        for number in range(8):
            s3.create_bucket(Bucket=f"bucket-{number}")
            s3.put_object(Bucket=f"bucket-{number}", Key="k", Body=b"content", **_SSE)
        refused = f'endpoint="https://127.0.0.1:{wrong.port}",key="my-key"}} 1'

        def told() -> bool:
            """
            See whether the metrics tell that one is left out.
            """
            with urlopen(f"{server.endpoint}/minio/v2/metrics/cluster") as answer:
                return refused in answer.read().decode()

        wait_until(told, 60)
        right.end()
        s3.create_bucket(Bucket="bucket-8")
        sealed = {"Bucket": "bucket-8", "Key": "k", "Body": b"content", **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed)[0], 503)
        self.assertIn(f"https://127.0.0.1:{wrong.port}: it is not used for", server.log)
        wrong.end()
        server.stop()
        right = self.run_server(tuple(right.process.args), right.port)  # type: ignore[arg-type]
        right.wait()
        s3 = boto3_client(self.object_server(right.port))
        for number in range(8):
            got = s3.get_object(Bucket=f"bucket-{number}", Key="k")
            self.assertEqual(got["Body"].read(), b"content")


class CertificateTests(KeyServerCase):
    """
    Keys and certificates that do not fit.
    """

    def refused_start(self, **environment: str) -> str:
        """
        What a server prints that does not start.
        """
        with self.assertRaises(AssertionError) as caught:
            self.object_server(7373, **environment)
        printed = str(caught.exception)
        self.assertIn("the server ended at once", printed)
        self.assertNotIn("Traceback", printed)
        return printed

    def test_wrong_password(self) -> None:
        """
        A private key that its password does not open keeps the server from starting.
        """
        locked = self.folder / "locked.key"
        subprocess.run(
            [
                *("openssl", "pkcs8", "-topk8", "-in", str(self.admin.key)),
                *("-out", str(locked), "-v2", "aes-256-cbc", "-passout", "pass:right"),
            ],
            check=True,
            capture_output=True,
        )
        printed = self.refused_start(
            MINIO_KMS_KES_KEY_FILE=str(locked), MINIO_KMS_KES_KEY_PASSWORD="swordfish"
        )
        self.assertIn("MINIO_KMS_KES_KEY_PASSWORD", printed)
        self.assertNotIn("swordfish", printed)

    def test_wrong_ca(self) -> None:
        """
        A key server that a foreign authority vouches for is not talked to, and the log says so.
        """
        kes = self.start()
        server = self.object_server(kes.port, ca=self.user.cert)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        sealed = {"Bucket": "bucket", "Key": "k", "Body": b"x", **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed), (503, "ServiceUnavailable"))
        self.assertRegex(server.log, "(?i)certificate")
        self.assertIn(f"https://127.0.0.1:{kes.port}", server.log)

    def test_expired(self) -> None:
        """
        A key server with an expired certificate is not talked to, and the log says so.
        """
        past = datetime(2021, 1, 1, tzinfo=UTC)
        self.server = Person.make(self.folder, "server", past)
        kes = self.start()
        server = self.object_server(kes.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        sealed = {"Bucket": "bucket", "Key": "k", "Body": b"x", **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed), (503, "ServiceUnavailable"))
        self.assertIn("expired", server.log)

    def test_stranger(self) -> None:
        """
        A key server that does not know us forbids, and the client is told.
        """
        kes = self.start()
        server = self.object_server(
            kes.port,
            MINIO_KMS_KES_KEY_FILE=str(self.user.key),
            MINIO_KMS_KES_CERT_FILE=str(self.user.cert),
        )
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        sealed = {"Bucket": "bucket", "Key": "k", "Body": b"x", **_SSE}
        self.assertEqual(refusal(s3.put_object, **sealed), (403, "kms:NotAuthorized"))

    def test_expired_client(self) -> None:
        """
        Our own certificate may be expired: the key server knows us by the key; it is warned of.
        """
        past = datetime(2021, 1, 1, tzinfo=UTC)
        key = new_key()
        self.admin = Person.write(self.folder, "admin", key_pem(key), certificate(key, until=past))
        kes = self.start()
        server = self.object_server(kes.port)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"x", **_SSE)
        self.assertIn("expired", server.log)


class ClientFaultTests(SyncCase):
    """
    Requests that are cut, wrong or forged.
    """

    def setUp(self) -> None:
        """
        Start a server with a bucket that encrypts.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(
            self.work / "data",
            {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_KMS_AUTO_ENCRYPTION": "on"},
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        self.s3 = boto3_client(self.server)
        self.s3.create_bucket(Bucket="bucket")
        self.s3.put_object(Bucket="bucket", Key="k", Body=b"before")
        self.addCleanup(self.check_what_is_left)

    def check_what_is_left(self) -> None:
        """
        Nothing but the first object is there, on disk either.
        """
        self.assertEqual(self.s3.get_object(Bucket="bucket", Key="k")["Body"].read(), b"before")
        self.assertEqual(self.s3.list_objects_v2(Bucket="bucket")["KeyCount"], 1)
        wait_until(lambda: not contents(self.work / "data"))

    def url(self, **parameters: Any) -> str:
        """
        A presigned URL to put the object.
        """
        target = {"Bucket": "bucket", "Key": "k", **parameters}
        url: str = self.s3.generate_presigned_url("put_object", Params=target)
        return url

    def put(self, url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """
        Send a PUT; status and document.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urlopen(Request(url, data=body, method="PUT", headers=named)) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def send(self, head: str, body: bytes) -> bytes:
        """
        Send bytes, end the sending side, and give what comes back.
        """
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionError):
                while block := connection.recv(65536):
                    received += block
            return received

    def head(self, *lines: str) -> str:
        """
        The head of a presigned PUT.
        """
        parts = urlsplit(self.url())
        target = f"{parts.path}?{parts.query}"
        return "\r\n".join([f"PUT {target} HTTP/1.1", f"Host: {parts.netloc}", *lines, "", ""])

    def test_truncated(self) -> None:
        """
        A body that ends early is refused.
        """
        answer = self.send(self.head("Content-Length: 3000000"), bytes(2_000_000))
        self.assertIn(b"IncompleteBody", answer)

    def test_half_closed(self) -> None:
        """
        A client that ends its side after a whole request gets its answer.
        """
        answer = self.send("GET /minio/health/live HTTP/1.1\r\nHost: kypello\r\n\r\n", b"")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

    def test_vanished(self) -> None:
        """
        A client that goes away leaves nothing.
        """
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as connection:
            connection.sendall(self.head("Content-Length: 3000000").encode() + bytes(2_000_000))
            time.sleep(0.3)

    def test_bad_signature(self) -> None:
        """
        A signature that does not fit is refused before the body is read.
        """
        url = self.url()
        status, document = self.put(url[:-1] + ("0" if url[-1] != "0" else "1"), bytes(100_000))
        self.assertEqual((status, b"SignatureDoesNotMatch" in document), (403, True))

    def test_wrong_digests(self) -> None:
        """
        Content-MD5 and checksums that do not fit the content are refused.
        """
        content = bytes(100_000)
        wrong = b64encode(hashlib.md5(b"other").digest()).decode()
        self.assertEqual(
            refusal(self.s3.put_object, Bucket="bucket", Key="k", Body=content, ContentMD5=wrong),
            (400, "BadDigest"),
        )
        for algorithm, size in (("CRC32", 4), ("CRC32C", 4), ("CRC64NVME", 8), ("SHA256", 32)):
            checksum = {f"Checksum{algorithm}": b64encode(bytes(size)).decode()}
            if algorithm == "CRC64NVME":
                # The digest of zeros would be right for too many.
                checksum = {f"Checksum{algorithm}": b64encode(b"\x01" * size).decode()}
            self.assertEqual(
                refusal(self.s3.put_object, Bucket="bucket", Key="k", Body=content, **checksum),
                (400, "BadDigest"),
            )

    def test_bad_chunks(self) -> None:
        """
        Chunks that are malformed, cut, or end without their trailer are refused.
        """
        url = urlsplit(self.url())
        for body in (
            b"zz\r\nabc\r\n0\r\n\r\n",
            b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
        ):
            head = "\r\n".join(
                [
                    f"PUT {url.path}?{url.query} HTTP/1.1",
                    f"Host: {url.netloc}",
                    "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                    "x-amz-decoded-content-length: 3",
                    "x-amz-trailer: x-amz-checksum-crc32",
                    f"Content-Length: {len(body)}",
                    "",
                    "",
                ]
            )
            answer = self.send(head, body)
            self.assertRegex(answer, rb"^HTTP/1.1 4\d\d ")

    def test_no_secret_in_the_log(self) -> None:
        """
        Neither signatures nor secrets are in the log.
        """
        url = self.url()
        self.put(url[:-1] + "x", b"body")
        signature = url.rpartition("=")[2]
        for secret in (signature, "integration-secret-key", "QUJDREVG"):
            self.assertNotIn(secret, self.server.log)


class FullDiskTests(SyncCase):
    """
    A disk without room.
    """

    def setUp(self) -> None:
        """
        Mount a small disk.
        """
        self.work = Path(self.mktemp()).resolve()
        (self.work / "disk").mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(self.work / "disk")],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            tools.missing("the right to mount")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.work / "disk")], check=False)

    def test_full(self) -> None:
        """
        A write for which there is no room is refused and leaves nothing; reading goes on, and
        after a deletion so does writing.
        """
        server = ServerProcess(
            self.work / "disk" / "data",
            {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_KMS_AUTO_ENCRYPTION": "on"},
        )
        server.start()
        self.addCleanup(server.stop)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        content = os.urandom(8_000_000)
        s3.put_object(Bucket="bucket", Key="first", Body=content)
        free = os.statvfs(server.directory).f_bavail
        large = {"Bucket": "bucket", "Key": "large", "Body": bytes(20_000_000)}
        for _ in range(3):
            self.assertEqual(refusal(s3.put_object, **large), (507, "XMinioStorageFull"))
        wait_until(lambda: os.statvfs(server.directory).f_bavail > free - 64)
        self.assertEqual(s3.get_object(Bucket="bucket", Key="first")["Body"].read(), content)
        self.assertEqual(s3.list_objects_v2(Bucket="bucket")["KeyCount"], 1)
        s3.delete_object(Bucket="bucket", Key="first")
        wait_until(lambda: os.statvfs(server.directory).f_bavail > free + 1500)
        s3.put_object(Bucket="bucket", Key="second", Body=content)
        self.assertEqual(s3.get_object(Bucket="bucket", Key="second")["Body"].read(), content)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Several processes serve one directory: what one acknowledged holds in all of them, they share
the connections, and one that dies takes nobody along.
"""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from kypello.iam.slowing import BURST
from tests.cases import SyncCase
from tests.integration.server import STATIC_KEY, ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import refusal, wait_until

_ENVIRONMENT = {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_KMS_AUTO_ENCRYPTION": "on"}
_PART = 5 * 1024 * 1024


class WorkersCase(SyncCase):
    """
    A test with a server of two workers, and a client for each of them.

    :cvar environment: Of the server.
    """

    environment: Mapping[str, str] = _ENVIRONMENT

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(self.work / "data", self.environment, ("--workers", "2"))
        self.server.start()
        self.addCleanup(self.server.stop)
        self.client().create_bucket(Bucket="bucket")
        self.first, self.second = self.client_of_each()

    def client(self) -> Any:
        """
        A client that keeps one connection.
        """
        return boto3_client(self.server, max_pool_connections=1)

    def client_of_each(self) -> list[Any]:
        """
        For each worker a client whose connection it has.
        """
        return client_of_each(self.server, "bucket")

    def connections(self) -> list[int]:
        """
        How many connections each worker has.
        """
        return connections(self.server)


def client_of_each(server: ServerProcess, bucket: str) -> list[Any]:
    """
    For each worker a client that keeps one connection, which that worker has.
    """
    found: dict[int, Any] = {}
    more = []
    for _ in range(50):
        before, client = connections(server), boto3_client(server, max_pool_connections=1)
        client.head_bucket(Bucket=bucket)
        (worker,) = (n for n, count in enumerate(connections(server)) if count > before[n])
        more.append(client)
        found.setdefault(worker, client)
        if len(found) == len(before):
            return [found[number] for number in sorted(found)]
    raise AssertionError("one worker takes all connections")


def connections(server: ServerProcess) -> list[int]:
    """
    How many connections each worker has.
    """
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{server.port:04X}") and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    return [sum(link in inodes for link in _links(pid)) for pid in server.workers()]


def _links(pid: int) -> Iterator[str]:
    """
    What a process holds open.
    """
    for each in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed just now.
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(each)


class SharingTests(WorkersCase):
    """
    What workers share.
    """

    def test_connections(self) -> None:
        """
        Connections that stay open are shared: no worker has nearly all of them.
        """
        before = sum(self.connections())
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                address = ("127.0.0.1", self.server.port)
                stack.enter_context(socket.create_connection(address, 10))
            wait_until(lambda: sum(self.connections()) == before + 40)
            self.assertGreater(min(self.connections()), 10)

    def test_objects(self) -> None:
        """
        What one worker has acknowledged, the other one shows at once, however often it has
        shown something else before.
        """
        for number in range(50):
            body, size = b"%d" % number, number % 3 * 40_000
            writer, reader = (self.first, self.second) if number % 2 else (self.second, self.first)
            writer.put_object(Bucket="bucket", Key="k", Body=body + bytes(size))
            got = reader.get_object(Bucket="bucket", Key="k")
            self.assertEqual(got["Body"].read(), body + bytes(size))
            self.assertEqual(writer.head_object(Bucket="bucket", Key="k")["ETag"], got["ETag"])
            if number % 5 == 0:
                reader.delete_object(Bucket="bucket", Key="k")
                self.assertEqual(refusal(writer.head_object, Bucket="bucket", Key="k")[0], 404)

    def test_buckets(self) -> None:
        """
        Buckets and their settings, likewise.
        """
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        for _ in range(5):
            self.first.create_bucket(Bucket="other")
            self.second.put_object(Bucket="other", Key="k", Body=b"x")
            self.first.put_bucket_encryption(
                Bucket="other", ServerSideEncryptionConfiguration={"Rules": [rule]}
            )
            shown = self.second.get_bucket_encryption(Bucket="other")
            self.assertEqual(len(shown["ServerSideEncryptionConfiguration"]["Rules"]), 1)
            self.first.delete_object(Bucket="other", Key="k")
            self.second.delete_bucket(Bucket="other")
            self.assertEqual(refusal(self.first.head_bucket, Bucket="other")[0], 404)

    def test_upload(self) -> None:
        """
        The parts of an upload may go to any worker, and any may complete it, or repeat that.
        """
        upload = {"Bucket": "bucket", "Key": "k"}
        upload["UploadId"] = self.first.create_multipart_upload(**upload)["UploadId"]
        parts = []
        for number, client in enumerate((self.second, self.first, self.second), 1):
            body = bytes([number]) * (_PART if number < 3 else 1000)
            etag = client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        self.assertEqual(len(self.first.list_parts(**upload)["Parts"]), 3)
        etags = {
            client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["ETag"]
            for client in (self.first, self.second, self.first)
        }
        self.assertEqual(len(etags), 1)
        for client in (self.first, self.second):
            got = client.get_object(Bucket="bucket", Key="k")["Body"].read()
            self.assertEqual(got, bytes([1]) * _PART + bytes([2]) * _PART + bytes([3]) * 1000)

    def test_read_while_deleted(self) -> None:
        """
        An object of parts that one worker sends is whole although another one has removed it
        and swept.
        """
        upload = {"Bucket": "bucket", "Key": "k"}
        upload["UploadId"] = self.first.create_multipart_upload(**upload)["UploadId"]
        parts = []
        for number in range(1, 9):
            body = bytes([number]) * _PART
            etag = self.first.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        self.first.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        stream = self.first.get_object(Bucket="bucket", Key="k")["Body"]
        begin = stream.read(1000)
        self.second.delete_object(Bucket="bucket", Key="k")
        self.assertEqual(refusal(self.second.head_object, Bucket="bucket", Key="k")[0], 404)
        time.sleep(6)  # longer than sweepers wait
        rest = stream.read()
        self.assertEqual(begin + rest, b"".join(bytes([n]) * _PART for n in range(1, 9)))
        # One is left, which describes the bucket.
        wait_until(lambda: len(list((self.work / "data" / "blobs").glob("*/*"))) == 1)

    def test_conditional_writes(self) -> None:
        """
        Of a hundred at once that may only write an object one succeeds, whichever worker they came
        to.
        """
        client = boto3_client(self.server, max_pool_connections=100)
        self.one_of_a_hundred(client.put_object, "written", [{"Body": b"x"}] * 100)

    def test_conditional_copies(self) -> None:
        """
        Of a hundred copies that may only be made where nothing is one is made.
        """
        client = boto3_client(self.server, max_pool_connections=100)
        client.put_object(Bucket="bucket", Key="source", Body=b"x")
        copy = {"CopySource": "bucket/source"}
        self.one_of_a_hundred(client.copy_object, "copied", [copy] * 100)

    def test_conditional_uploads(self) -> None:
        """
        Of a hundred uploads that may only be completed where nothing is one is, and the others are
        still there.
        """
        client = boto3_client(self.server, max_pool_connections=100)
        target = {"Bucket": "bucket", "Key": "uploaded"}
        uploads = []
        for _ in range(100):
            upload_id = client.create_multipart_upload(**target)["UploadId"]
            part = client.upload_part(**target, UploadId=upload_id, PartNumber=1, Body=b"x")
            parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
            uploads.append({"UploadId": upload_id, "MultipartUpload": {"Parts": parts}})
        self.one_of_a_hundred(client.complete_multipart_upload, "uploaded", uploads)
        self.assertEqual(len(client.list_multipart_uploads(Bucket="bucket")["Uploads"]), 99)

    def test_same_deletions(self) -> None:
        """
        Who deletes the same objects at once, with whichever worker, is told by each answer that all
        of them are deleted.
        """
        client = boto3_client(self.server, max_pool_connections=16)
        keys = [{"Key": f"k{number}"} for number in range(50)]
        for key in keys:
            client.put_object(Bucket="bucket", **key, Body=b"x")
        answers = self.at_once(
            16, lambda: client.delete_objects(Bucket="bucket", Delete={"Objects": keys})
        )
        self.assertEqual([answer["Deleted"] for answer in answers], [keys] * 16)
        self.assertFalse(any("Errors" in answer for answer in answers))

    def test_same_completions(self) -> None:
        """
        Who completes one upload at once, with whichever worker, gets the same answer each time, and
        there is one version.
        """
        client = boto3_client(self.server, max_pool_connections=16)
        client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        target = {"Bucket": "bucket", "Key": "uploaded"}
        upload = {**target, "UploadId": client.create_multipart_upload(**target)["UploadId"]}
        part = client.upload_part(**upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        answers = self.at_once(
            16, lambda: client.complete_multipart_upload(**upload, MultipartUpload=parts)
        )
        told = {(answer["ETag"], answer["VersionId"]) for answer in answers}
        versions = client.list_object_versions(Bucket="bucket")["Versions"]
        self.assertEqual(told, {(each["ETag"], each["VersionId"]) for each in versions})
        self.assertEqual(len(versions), 1)

    def at_once(self, times: int, call: Callable[[], Any]) -> list[Any]:
        """
        Do the same several times at once, over connections to both workers.

        :return: What each has given.
        """
        outcomes: list[Any] = []
        together = threading.Barrier(times)

        def run() -> None:
            """
            Do it once.
            """
            together.wait()
            outcomes.append(call())

        threads = [threading.Thread(target=run) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertNotIn(0, self.connections())
        self.assertEqual(len(outcomes), times)
        return outcomes

    def one_of_a_hundred(
        self, create: Callable[..., object], key: str, calls: list[dict[str, Any]]
    ) -> None:
        """
        Create an object by many calls at once, none of which may replace it.
        """
        left = iter(calls)

        def call() -> str:
            """
            Try to be the one.
            """
            try:
                create(Bucket="bucket", Key=key, IfNoneMatch="*", **next(left))
            except ClientError as error:
                return str(error.response["Error"]["Code"])
            return ""

        outcomes = self.at_once(len(calls), call)
        self.assertEqual(outcomes.count(""), 1, outcomes)
        self.assertLessEqual(set(outcomes), {"", "PreconditionFailed"})

    def test_guesses(self) -> None:
        """
        Who guesses with all workers in turn is slowed down, and told of in the log, as early as
        with one.
        """

        def spoil(request: Any, **_more: Any) -> None:
            """
            Send a wrong signature.
            """
            right = request.headers["Authorization"].decode()
            request.headers["Authorization"] = right[:-1] + ("1" if right[-1] == "0" else "0")

        told = "fails to authenticate again and again"
        for client in (self.first, self.second):
            client.meta.events.register("before-send.s3.HeadBucket", spoil)
        for guess in range(BURST - 1):
            client = (self.first, self.second)[guess % 2]
            self.assertEqual(refusal(client.head_bucket, Bucket="bucket"), (403, "403"))
        self.assertNotIn(told, self.server.log)
        self.assertEqual(refusal(self.second.head_bucket, Bucket="bucket"), (403, "403"))
        wait_until(lambda: told in self.server.log)
        self.assertEqual(self.server.log.count(told), 1)


class EndTests(WorkersCase):
    """
    How workers and supervisors end.
    """

    def test_killed_worker(self) -> None:
        """
        A worker that is killed is started again, and told of; the other serves on meanwhile,
        and what either acknowledged is there.
        """
        stopped, acknowledged, lost = threading.Event(), {}, []

        def write(name: str) -> None:
            """
            Write until the end, and note what is acknowledged.
            """
            client, number = self.client(), 0
            while not stopped.is_set():
                number += 1
                body = f"{name}-{number}" * 3000
                try:
                    client.put_object(Bucket="bucket", Key=name, Body=body.encode())
                    acknowledged[name] = body
                except BotoCoreError:
                    lost.append(name)
                    acknowledged.pop(name, None)

        threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = set(self.server.workers())
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda before=before: len(set(self.server.workers()) - before) == 1)
            time.sleep(0.5)
            for _ in range(5):
                self.client().head_bucket(Bucket="bucket")
        stopped.set()
        for thread in threads:
            thread.join()
        self.assertTrue(acknowledged)
        for name, body in acknowledged.items():
            got = self.client().get_object(Bucket="bucket", Key=name)["Body"].read()
            self.assertEqual(got, body.encode())
        told = re.findall(r"worker \d ended \(SIGKILL\); the others serve on", self.server.log)
        self.assertEqual(len(told), 3)
        self.assertNotIn("Traceback", self.server.log)

    def test_killed_supervisor(self) -> None:
        """
        When the supervisor is killed its workers end, and the next one starts at once.
        """
        self.first.put_object(Bucket="bucket", Key="k", Body=b"x")
        workers = self.server.workers()
        self.assertEqual(len(workers), 2)
        self.server.kill()
        self.server.start()
        self.assertEqual([pid for pid in workers if Path(f"/proc/{pid}").exists()], [])
        self.assertEqual(self.client().get_object(Bucket="bucket", Key="k")["Body"].read(), b"x")

    def test_signals_of_the_group(self) -> None:
        """
        Ctrl-C, which reaches all processes, lets what is under way be finished; one to a worker
        alone does nothing.
        """
        workers = self.server.workers()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(workers[0], number)
        size = 20 * 1024 * 1024
        url = self.first.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "k"})
        target = url.removeprefix(self.server.endpoint)
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as connection:
            connection.sendall(
                f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\n"
                f"Content-Length: {size}\r\n\r\n".encode()
                + bytes(size // 2)
            )
            time.sleep(0.3)
            self.assertEqual(self.server.workers(), workers)
            for pid in (*workers, self.server.pid):
                os.kill(pid, signal.SIGINT)
            time.sleep(0.3)
            connection.sendall(bytes(size - size // 2))
            answer = connection.recv(65536)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(self.server.stop(), 0)
        self.assertNotIn("Traceback", self.server.log)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Other master keys for what a real server keeps, with key servers in processes.
"""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from attrs import evolve

from kypello.store.records import ObjectRecord, unpack
from tests.integration.receiver import Receiver
from tests.integration.server import (
    ACCESS_KEY,
    SECRET_KEY,
    STATIC_KEY,
    ServerProcess,
    base_environment,
)
from tests.integration.test_account_cli import run
from tests.integration.test_clients import boto3_client
from tests.integration.test_events import notify
from tests.integration.test_events import settings as event_settings
from tests.integration.test_faults import KeyServerCase, refusal, wait_until
from tests.integration.test_kes_server import Running
from tests.integration.test_store_check import record_of
from tests.integration.test_workers import WorkersCase

_S3 = {"ServerSideEncryption": "AES256"}
_KMS = {"ServerSideEncryption": "aws:kms"}
_CONTEXT = {**_KMS, "SSEKMSEncryptionContext": b64encode(b'{"team":"blue"}').decode()}
_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}
_PART = os.urandom(5 * 1024 * 1024)
_SMALL = os.urandom(1000)
_DATA_KEY = "X-Minio-Internal-Server-Side-Encryption-S3-Kms-Sealed-Key"

#: How many uploads are unfinished while somebody is killed.
_BEGUN = 5
_WAIT = 120.0


class RotateCase(KeyServerCase):
    """
    A test with a key server that has two keys, and an object server.
    """

    def serve(self, key_server: Running, **settings: str) -> None:
        """
        Start the object server.

        :param settings: More of them.
        """
        self.key_server = key_server
        self.kes(key_server, "key", "create", "my-key", "new-key")
        more = {"KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on", **settings}
        self.object = self.object_server(key_server.port, **more)
        self.s3 = boto3_client(self.object)

    def serve_with_workers(self, key_server: Running, **settings: str) -> None:
        """
        The same, with two workers.
        """
        self.serve(key_server, **settings)
        self.object.stop()
        self.object = evolve(self.object, arguments=("--workers", "2"), process=None)
        self.object.start()
        self.addCleanup(self.object.stop)
        self.s3 = boto3_client(self.object)

    def command(self, *arguments: str) -> list[str]:
        """
        How the command is run.
        """
        return [sys.executable, "-m", "kypello.cli", *arguments]

    def environment(self) -> Mapping[str, str]:
        """
        What the command finds in its environment.
        """
        return {
            **base_environment(),
            "KYPELLO_ENDPOINT": self.object.endpoint,
            "KYPELLO_ROOT_USER": ACCESS_KEY,
            "KYPELLO_ROOT_PASSWORD": SECRET_KEY,
        }

    def run_command(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """
        Run a command to its end; give what it prints.
        """
        done = subprocess.run(
            self.command(*arguments),
            env={**self.environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_WAIT,
            check=False,
        )
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def retire(self) -> ServerProcess:
        """
        Have the object server use the new key, and remove the old one for good.
        """
        self.object.stop()
        self.kes(self.key_server, "key", "rm", "my-key")
        self.assertEqual({path.name for path in self.keys.iterdir()}, {"new-key"})
        settings = {**self.object.environment, "MINIO_KMS_KES_KEY_NAME": "new-key"}
        server = evolve(self.object, environment=settings, process=None)
        server.start()
        self.addCleanup(server.stop)
        self.object, self.s3 = server, boto3_client(server)
        return server

    def upload(self, bucket: str, key: str, **arguments: Any) -> None:
        """
        Store an object in two parts.
        """
        self.complete(bucket, key, self.begin(bucket, key, **arguments))

    def begin(self, bucket: str, key: str, body: bytes = _PART, **arguments: Any) -> str:
        """
        Begin an upload, and send its first part.
        """
        place = {"Bucket": bucket, "Key": key}
        upload: str = self.s3.create_multipart_upload(**place, **arguments)["UploadId"]
        theirs = {name: value for name, value in arguments.items() if "Customer" in name}
        named = {"PartNumber": 1, "UploadId": upload}
        self.s3.upload_part(**place, **named, **theirs, Body=body)
        return upload

    def complete(self, bucket: str, key: str, upload: str, **theirs: Any) -> None:
        """
        Send the last part of an upload, and make an object of all.
        """
        place = {"Bucket": bucket, "Key": key, "UploadId": upload}
        self.s3.upload_part(**place, PartNumber=2, Body=b"end", **theirs)
        listed = [
            {"PartNumber": part["PartNumber"], "ETag": part["ETag"]}
            for part in self.s3.list_parts(**place)["Parts"]
        ]
        made = {"MultipartUpload": {"Parts": listed}}
        self.s3.complete_multipart_upload(**place, **made, **theirs)


class UpdateTests(RotateCase):
    """
    ``UpdateObjectEncryption`` with boto3.
    """

    def test_boto3(self) -> None:
        """
        The encryption of an object changes; all else that boto3 tells stays, and content is read.
        """
        self.serve(self.original())
        self.s3.create_bucket(Bucket="bucket")
        place = {"Bucket": "bucket", "Key": "k"}
        self.s3.put_object(**place, Body=_PART, Metadata={"a": "b"}, **_S3)
        before = self.s3.head_object(**place, ChecksumMode="ENABLED")
        arn = "arn:aws:kms:us-east-1:123456789012:key/new-key"
        wanted = {"SSEKMS": {"KMSKeyArn": arn, "BucketKeyEnabled": True}}
        self.s3.update_object_encryption(**place, ObjectEncryption=wanted)
        after = self.s3.head_object(**place, ChecksumMode="ENABLED")
        told = (after["ServerSideEncryption"], after["SSEKMSKeyId"], after["BucketKeyEnabled"])
        self.assertEqual(told, ("aws:kms", arn, True))
        for name in ("ETag", "LastModified", "ContentLength", "Metadata", "ChecksumCRC32"):
            self.assertEqual(after[name], before[name])
        self.assertEqual(self.s3.get_object(**place)["Body"].read(), _PART)
        absent = {"SSEKMS": {"KMSKeyArn": arn.replace("new", "absent")}}
        refused = refusal(self.s3.update_object_encryption, **place, ObjectEncryption=absent)
        self.assertEqual(refused, (400, "kms:KeyNotFound"))


class RetireTests(RotateCase):
    """
    A master key that is not needed any more.
    """

    def test_everything(self) -> None:
        """
        After ``kypello encrypt rotate --all`` nothing needs the old key, which can be deleted:
        every object, version, part, tag and account is there, and all is proved sound from the
        disk; uploads that were begun before are completed.
        """
        self.serve_with_workers(self.original())
        self.s3.create_bucket(Bucket="bucket")
        self.s3.create_bucket(Bucket="versions")
        enabled = {"Status": "Enabled"}
        self.s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration=enabled)
        shared = {**_KMS, "BucketKeyEnabled": True}
        kinds = {"s3": _S3, "kms": _KMS, "context": _CONTEXT, "shared": shared, "plain": {}}
        for name, kind in {**kinds, "own": _CUSTOMER}.items():
            for size in (0, 10, 300_000):
                body = os.urandom(size)
                self.s3.put_object(Bucket="bucket", Key=f"{name}/{size}", Body=body, **kind)
                self.s3.put_object(Bucket="versions", Key=name, Body=body, **kind)
        for name, kind in kinds.items():
            self.upload("bucket", f"{name}/parts", **kind)
        begun = {
            name: self.begin("bucket", f"begun/{name}", **kind)
            for name, kind in {**kinds, "own": _CUSTOMER}.items()
        }
        self.run_command("user", "add", "alice", "--secret-file", str(self.secret()))
        self.run_command("policy", "attach", "readonly", "--user", "alice")
        before = self.everything()
        told = json.loads(
            self.run_command("encrypt", "rotate", "--all", "--to", "new-key", "--json")
        )
        # Of either bucket: three sizes and the parts, three versions.
        self.assertEqual((told["changed"], told["failed"]), (16 + 12, 0))
        names = ("uploads", "uploads_changed", "uploads_customers")
        self.assertEqual([told[name] for name in names], [6, 4, 1])
        self.assertEqual(self.everything(), before)
        used = json.loads(self.run_command("kms", "usage", "my-key", "--json"))
        self.assertFalse(used["needed"])
        self.retire()
        self.assertEqual(self.everything(), before)
        for name, upload in begun.items():
            theirs = _CUSTOMER if name == "own" else {}
            self.complete("bucket", f"begun/{name}", upload, **theirs)
            told = self.s3.get_object(Bucket="bucket", Key=f"begun/{name}", **theirs)
            self.assertEqual(told["Body"].read(), _PART + b"end")
        alice = boto3.client(
            "s3",
            endpoint_url=self.object.endpoint,
            aws_access_key_id="alice",
            aws_secret_access_key="alice-secret",
            region_name="us-east-1",
        )
        self.assertEqual(alice.get_object(Bucket="bucket", Key="s3/0")["Body"].read(), b"")
        self.s3.put_object(Bucket="bucket", Key="later", Body=b"later", **_S3)
        settings = {**self.object.environment}
        verified = self.run_command(
            "encrypt", "verify", str(self.object.directory), "--json", **settings
        )
        summary = json.loads(verified.splitlines()[-1])["summary"]
        self.assertTrue(summary["sound"])
        self.assertEqual(summary["opened"], 28 + 4 + 1)

    def test_events(self) -> None:
        """
        An event that waits for its target keeps the old key needed, which is told; when it has been
        sent the key can be deleted.
        """
        receiver = Receiver()
        self.addCleanup(receiver.stop)
        events = event_settings(receiver)
        del events["MINIO_KMS_SECRET_KEY"]
        self.serve_with_workers(self.start(), **events)
        self.s3.create_bucket(Bucket="bucket")
        notify(self.s3)
        self.s3.put_object(Bucket="bucket", Key="k", Body=b"content")
        self.object.stop()
        changed = {**self.object.environment, "MINIO_KMS_KES_KEY_NAME": "new-key"}
        self.object = evolve(self.object, environment=changed, process=None)
        self.object.start()
        self.addCleanup(self.object.stop)
        rotate = ("encrypt", "rotate", "--all", "--to", "new-key", "--json")
        told = json.loads(self.run_command(*rotate, code=1))
        self.assertEqual((told["events"], told["changed"], told["complete"]), (1, 1, False))
        used = json.loads(self.run_command("kms", "usage", "my-key", "--json"))
        self.assertEqual((used["needed"], used["events"]), (True, 1))
        receiver.start()
        wait_until(lambda: receiver.keys() == ["bucket/k"], _WAIT)

        def sent() -> bool:
            """
            Whether nothing needs the old key any more.
            """
            used = json.loads(self.run_command("kms", "usage", "my-key", "--json"))
            return not used["needed"]

        wait_until(sent, _WAIT)
        self.assertTrue(json.loads(self.run_command(*rotate))["complete"])
        self.retire()
        self.assertEqual(self.s3.get_object(Bucket="bucket", Key="k")["Body"].read(), b"content")

    def test_rebuilt(self) -> None:
        """
        A lost index is rebuilt with the keys that came last: the old key is not needed for that,
        nor to complete what was begun before.
        """
        self.serve(self.start())
        for bucket in ("bucket", "versions"):
            self.s3.create_bucket(Bucket=bucket)
        enabled = {"Status": "Enabled"}
        self.s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration=enabled)
        for name, kind in {"s3": _S3, "kms": _KMS, "context": _CONTEXT}.items():
            for bucket in ("bucket", "versions", "versions"):
                self.s3.put_object(Bucket=bucket, Key=name, Body=os.urandom(300_000), **kind)
            self.upload("bucket", f"{name}/parts", **kind)
        begun = self.begin("bucket", "begun", **_KMS)
        before = self.everything()
        self.assertEqual(len(before), 12)
        self.run_command("encrypt", "rotate", "--all", "--to", "new-key")
        self.retire().stop()
        shutil.rmtree(self.object.directory / "index")
        # What small objects there were would be lost.
        self.run_command("store", "rebuild", str(self.object.directory), code=1)
        self.object.start()
        self.assertEqual(self.everything(), before)
        self.complete("bucket", "begun", begun)
        told = self.s3.get_object(Bucket="bucket", Key="begun")
        self.assertEqual(told["Body"].read(), _PART + b"end")

    def secret(self) -> Any:
        """
        A file with the secret key of a user.
        """
        path = self.folder / "secret"
        path.write_text("alice-secret")
        return path

    def everything(self) -> dict[tuple[str, str, str], tuple[Any, ...]]:
        """
        What boto3 tells of all versions but their encryption, and the digests of their content.
        """
        found = {}
        for bucket in ("bucket", "versions"):
            for one in self.s3.list_object_versions(Bucket=bucket).get("Versions", ()):
                if one["Key"] == "later" or one["Key"].startswith("begun"):
                    continue
                place = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
                theirs = _CUSTOMER if one["Key"].startswith("own") else {}
                told = self.s3.get_object(**place, **theirs, ChecksumMode="ENABLED")
                digest = md5(told["Body"].read()).hexdigest()
                names = ("ETag", "LastModified", "ContentLength", "ChecksumCRC32", "PartsCount")
                known = tuple(told.get(name) for name in names)
                found[bucket, one["Key"], one["VersionId"]] = (digest, *known, one["IsLatest"])
        return found


class KilledTests(RotateCase):
    """
    What happens when somebody is killed.
    """

    def test_server_killed(self) -> None:
        """
        The server is killed again and again while keys are changed; the command goes on, nothing
        is lost, and the old key can be deleted.
        """
        self.fill(200)
        running = self.start_rotation("--rate", "60")
        for _ in range(2):
            before = self.moved()
            wait_until(lambda seen=before: self.moved() > seen + 20 or running.poll() is not None)
            self.object.kill()
            self.object.start()
        printed, errors = running.communicate(timeout=_WAIT)
        self.assertEqual(running.returncode, 0, errors)
        self.assertIn("trying again", errors)
        self.assertEqual(json.loads(printed)["failed"], 0)
        self.retire()
        self.check()

    def test_command_killed(self) -> None:
        """
        The command is killed, and goes on where it was with the file that it keeps.
        """
        self.fill(150)
        file = self.folder / "progress"
        running = self.start_rotation("--rate", "50", "--again", "--resume", str(file))
        wait_until(lambda: self.moved() > 50)
        running.kill()
        running.communicate(timeout=_WAIT)
        reached = json.loads(file.read_bytes())["counts"]["changed"]
        self.assertGreater(reached, 0)
        self.assertLess(reached, 150)
        arguments = ("--to", "new-key", "--again", "--resume", str(file), "--json")
        told = json.loads(self.run_command("encrypt", "rotate", "--all", *arguments))
        self.assertEqual((told["seen"], told["changed"]), (150, 150))
        self.assertEqual((told["uploads"], told["uploads_changed"]), (_BEGUN, _BEGUN))
        self.assertFalse(file.exists())
        self.retire()
        self.check()

    def test_killed_among_uploads(self) -> None:
        """
        Command and server are killed among the uploads; what goes on does not begin anew.
        """
        self.fill(10, 60)
        file = self.folder / "progress"
        arguments = ("--rate", "10", "--again", "--resume", str(file))
        for kill_server in (True, False):
            running = self.start_rotation(*arguments)
            before = self.position(file)
            wait_until(lambda seen=before: self.position(file) > seen)
            if kill_server:
                self.object.kill()
                self.object.start()
                seen = self.position(file)
                wait_until(lambda seen=seen: self.position(file) > seen)
            running.kill()
            running.communicate(timeout=_WAIT)
        reached = json.loads(file.read_bytes())
        self.assertEqual(reached["position"][3], "uploads")
        self.assertLess(reached["counts"]["uploads"], 60)
        told = json.loads(
            self.run_command("encrypt", "rotate", "--all", "--to", "new-key", "--json", *arguments)
        )
        self.assertEqual((told["uploads"], told["uploads_changed"]), (60, 60))
        self.assertEqual((told["seen"], told["changed"], told["failed"]), (10, 10, 0))
        self.retire()
        self.check()

    def position(self, file: Path) -> str:
        """
        Up to which key the command has come, as it keeps it.
        """
        try:
            return str(json.loads(file.read_bytes())["position"][1])
        except FileNotFoundError:
            return ""

    def fill(self, count: int, uploads: int = _BEGUN) -> None:
        """
        Start servers, store objects with their own data keys, some of them large, and begin
        uploads.
        """
        self.serve(self.start())
        self.s3.create_bucket(Bucket="bucket")
        self.contents = {
            f"{number:04}": os.urandom(200_000 if number % 10 == 0 else 100)
            for number in range(count)
        }
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.store, self.contents.items()))
            keys = [f"begun/{number:04}" for number in range(uploads)]
            begun = pool.map(lambda key: self.begin("bucket", key, _SMALL, **_KMS), keys)
            self.begun = dict(zip(keys, begun, strict=True))

    def store(self, item: tuple[str, bytes]) -> None:
        """
        Store one.
        """
        key, body = item
        kind = (_S3, _KMS)[int(key) % 2]
        self.s3.put_object(Bucket="bucket", Key=key, Body=body, **kind)

    def start_rotation(self, *arguments: str) -> "subprocess.Popen[str]":
        """
        Begin to change keys.
        """
        rotate = ("encrypt", "rotate", "--all", "--to", "new-key", "--json", *arguments)
        process = subprocess.Popen(
            self.command(*rotate),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def moved(self) -> int:
        """
        How far the new key has come, by the objects with SSE-KMS.
        """
        low, keys = 0, sorted(key for key in self.contents if int(key) % 2)
        high = len(keys)
        while low < high:
            middle = (low + high) // 2
            told = self.s3.head_object(Bucket="bucket", Key=keys[middle])["SSEKMSKeyId"]
            low, high = (middle + 1, high) if told.endswith("new-key") else (low, middle)
        return 2 * low

    def check(self) -> None:
        """
        See that all that was stored is there.
        """
        for key, body in self.contents.items():
            self.assertEqual(self.s3.get_object(Bucket="bucket", Key=key)["Body"].read(), body)
        for key, upload in self.begun.items():
            (part,) = self.s3.list_parts(Bucket="bucket", Key=key, UploadId=upload)["Parts"]
            listed = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            place = {"Bucket": "bucket", "Key": key}
            made = {"UploadId": upload, "MultipartUpload": listed}
            self.s3.complete_multipart_upload(**place, **made)
            self.assertEqual(self.s3.get_object(**place)["Body"].read(), _SMALL)


class RenewalTests(WorkersCase):
    """
    New data keys, asked for through one of two workers.
    """

    environment: Mapping[str, str] = {"MINIO_KMS_SECRET_KEY": STATIC_KEY}

    def test_in_all_workers(self) -> None:
        """
        Each worker has a data key that its new objects share; when the command has ended, both use
        others, for objects and for uploads.
        """
        before = self.put_by_each("before")
        self.assertEqual(len(before), 2)
        self.assertEqual(self.put_by_each("again"), before)
        told, _, errors = run(
            self.work, self.server.endpoint, "encrypt", "rotate", "bucket", "--again"
        )
        self.assertEqual(told, 0, errors)
        after = self.put_by_each("after")
        self.assertEqual((len(after), after & before), (2, set()))
        code, printed, errors = run(
            self.work, self.server.endpoint, "encrypt", "rotate", "bucket", "--again", "--dry-run"
        )
        self.assertEqual(code, 0, errors)
        self.assertIn("6 would get other keys", printed)
        self.assertEqual(self.put_by_each("later"), after)

    def put_by_each(self, name: str) -> set[str]:
        """
        Store an object through each worker; give their data keys, as they are sealed.
        """
        keys = set()
        for number, client in enumerate((self.first, self.second)):
            key = f"{name}/{number}"
            client.put_object(Bucket="bucket", Key=key, Body=b"content", **_S3)
            record = unpack(ObjectRecord, record_of(self.server.directory, key)[1])
            keys.add(record.metadata.internal[_DATA_KEY])
        return keys

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello encrypt verify`` over the directories of real servers.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kypello.store.records import (
    ObjectRecord,
    PartRecord,
    UploadRecord,
    object_key,
    pack,
    part_key,
    unpack,
    upload_key,
)
from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import STATIC_KEY, ServerProcess, base_environment
from tests.integration.test_account_cli import run
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import KeyServerCase, wait_until
from tests.integration.test_kes_server import OURS
from tests.integration.test_store_check import record_of, tree

_WAIT = 60.0
_BIG = os.urandom(300_000)
_PART = os.urandom(5 * 1024 * 1024)
_SETTINGS = {
    "MINIO_KMS_SECRET_KEY": STATIC_KEY,
    "KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on",
}
_OTHER_KEY = f"test-key:{b64encode(bytes(32)).decode()}"
_S3 = {"ServerSideEncryption": "AES256"}
_KMS = {"ServerSideEncryption": "aws:kms"}
_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}


class VerifyCase(SyncCase):
    """
    A test with the directory of a server that was stopped.
    """

    def setUp(self) -> None:
        """
        Store something of all kinds.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.directory = self.work / "data"
        self.server = ServerProcess(self.directory, _SETTINGS)
        self.server.start()
        try:
            self.fill(boto3_client(self.server))
        finally:
            self.assertEqual(self.server.stop(), 0)

    def fill(self, s3: Any) -> None:
        """
        Seven encrypted versions, three of them with a key of their client; one in clear; and a
        delete marker.  Three unfinished uploads of two parts, one of them in clear and one with a
        key of its client.
        """
        for bucket in ("bucket", "other"):
            s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket="bucket", Key="s3", Body=b"earlier", **_S3)
        s3.put_object(Bucket="bucket", Key="s3", Body=_BIG, ChecksumAlgorithm="SHA256", **_S3)
        s3.put_object(Bucket="bucket", Key="kms", Body=_BIG, **_KMS)
        self.parts(s3, "parts", {**_S3, "ChecksumAlgorithm": "CRC32C"})
        s3.put_object(Bucket="bucket", Key="empty", Body=b"", **_CUSTOMER)
        s3.put_object(Bucket="bucket", Key="client's", Body=_BIG, **_CUSTOMER)
        self.parts(s3, "client's parts", _CUSTOMER)
        s3.put_object(Bucket="other", Key="plain", Body=_BIG)
        s3.put_object(Bucket="bucket", Key="gone", Body=b"", **_S3)
        s3.delete_object(Bucket="bucket", Key="gone")
        self.uploads = {
            key: self.begin(s3, bucket, key, kind)[0]
            for bucket, key, kind in (
                ("bucket", "begun", _KMS),
                ("bucket", "begun client's", _CUSTOMER),
                ("other", "begun plain", {}),
            )
        }

    def parts(self, s3: Any, key: str, arguments: dict[str, str]) -> None:
        """
        Store an object in two parts.
        """
        upload, listed = self.begin(s3, "bucket", key, arguments)
        theirs = {name: value for name, value in arguments.items() if "Customer" in name}
        made = {"UploadId": upload, "MultipartUpload": {"Parts": listed}}
        s3.complete_multipart_upload(Bucket="bucket", Key=key, **made, **theirs)

    def begin(
        self, s3: Any, bucket: str, key: str, arguments: dict[str, str]
    ) -> tuple[str, list[dict[str, Any]]]:
        """
        Begin an upload, and send two parts.
        """
        place = {"Bucket": bucket, "Key": key}
        upload = s3.create_multipart_upload(**place, **arguments)["UploadId"]
        theirs = {name: value for name, value in arguments.items() if "Customer" in name}
        more = {name: value for name, value in arguments.items() if "Checksum" in name}
        listed = []
        for number, body in ((2, _PART), (7, b"the end")):
            named = {"PartNumber": number, "UploadId": upload, "Body": body}
            told = s3.upload_part(**place, **named, **theirs, **more)
            kept = {name: told[name] for name in ("ETag", "ChecksumCRC32C") if name in told}
            listed.append({"PartNumber": number, **kept})
        return upload, listed

    def run_verify(self, *arguments: str, **environment: str) -> tuple[int, list[Any], str]:
        """
        Run the command: exit code, the objects that it prints, and errors.
        """
        done = subprocess.run(
            self.command(*arguments, "--json"),
            env={**base_environment(), "MINIO_KMS_SECRET_KEY": STATIC_KEY, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        self.assertNotIn(b"Traceback", done.stderr)
        told = list(map(json.loads, done.stdout.splitlines()))
        return done.returncode, told, done.stderr.decode()

    def command(self, *arguments: str) -> list[str]:
        """
        How the command is run.
        """
        verify = (sys.executable, "-m", "kypello.cli", "encrypt", "verify")
        return [*verify, str(self.directory), *arguments]

    def found(self, *arguments: str, **environment: str) -> list[tuple[str, str, str]]:
        """
        What is wrong: kind, key and words, in order of keys.
        """
        code, printed, err = self.run_verify(*arguments, **environment)
        self.assertEqual((code, err), (1, ""), printed)
        self.assertFalse(printed[-1]["summary"]["sound"])
        findings = [each["finding"] for each in printed[:-1]]
        return [(each["kind"], each["key"], each["what"]) for each in findings]

    def blob(self, key: str, part: int = 0) -> Path:
        """
        The file with the content of an object.
        """
        record = unpack(ObjectRecord, record_of(self.directory, key)[1])
        name = record.parts[part].blob
        return self.directory / "blobs" / name[:2] / name


class SoundTests(VerifyCase):
    """
    What a sound directory tells.
    """

    def test_all(self) -> None:
        """
        All versions are opened to their end, those of clients' keys are counted apart, and
        nothing is changed; a bucket, or keys that begin so, can be chosen.
        """
        before = tree(self.directory)
        code, (told,), err = self.run_verify()
        self.assertEqual((code, err), (0, ""))
        figures = told["summary"]
        names = ("buckets", "versions", "opened", "structure", "plain")
        self.assertEqual([figures[name] for name in names], [2, 9, 5, 3, 1])
        names = ("uploads", "parts", "parts_structure")
        self.assertEqual([figures[name] for name in names], [3, 2, 2])
        self.assertGreater(figures["bytes"], 4 * len(_PART) + 3 * len(_BIG))
        for target, versions, uploads in (
            ("bucket/client", 2, 0),
            ("bucket/begun c", 0, 1),
            ("other", 1, 1),
            ("bucket/no", 0, 0),
        ):
            code, (told,), _ = self.run_verify(target)
            figures = told["summary"]
            self.assertEqual(
                (code, figures["versions"], figures["uploads"]), (0, versions, uploads)
            )
        self.assertEqual(tree(self.directory), before)

    def test_for_people(self) -> None:
        """
        The summary is text, too.
        """
        environment = {**base_environment(), "MINIO_KMS_SECRET_KEY": STATIC_KEY}
        done = subprocess.run(
            self.command(), env=environment, capture_output=True, timeout=_WAIT, check=True
        )
        self.assertIn("Opened        5 are encrypted, and sound to their end", done.stdout.decode())
        self.assertIn("Parts         2 of these are encrypted, and sound", done.stdout.decode())
        self.assertTrue(done.stdout.endswith(b"All is sound.\n"))

    def test_beside_a_server(self) -> None:
        """
        A server may use the directory, and what it stored just now is seen.
        """
        self.server.start()
        try:
            s3 = boto3_client(self.server)
            s3.put_object(Bucket="other", Key="new", Body=b"new", **_S3)
            code, (told,), err = self.run_verify()
            self.assertEqual((code, err, told["summary"]["opened"]), (0, "", 6))
            s3.put_object(Bucket="other", Key="newer", Body=b"newer", **_S3)
            self.assertEqual(s3.get_object(Bucket="other", Key="new")["Body"].read(), b"new")
        finally:
            self.assertEqual(self.server.stop(), 0)

    def test_changed_encryption(self) -> None:
        """
        An ETag that was random stays so when the encryption becomes SSE-S3, and is no damage.
        """
        self.server.start()
        words = ("encrypt", "rotate", "--type", "sse-s3", "--again", "bucket/kms")
        code, _, err = run(self.work, self.server.endpoint, *words)
        self.assertEqual(code, 0, err)
        self.assertEqual(self.server.stop(), 0)
        code, (told,), err = self.run_verify()
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(told["summary"]["opened"], 5)

    def test_impossible(self) -> None:
        """
        What cannot be verified at all has an exit code of its own.
        """
        wrong = self.work / "wrong"
        wrong.write_text("{}")
        resume = ("--resume", str(wrong))
        for arguments, said in ((("no-such-bucket",), "no bucket"), (resume, "does not tell")):
            code, printed, err = self.run_verify(*arguments)
            self.assertEqual((code, printed), (2, []))
            self.assertIn(said, err)
        shutil.rmtree(self.directory / "blobs")
        code, printed, err = self.run_verify()
        self.assertEqual((code, printed), (2, []))
        self.assertIn("no data directory", err)


class FoundTests(VerifyCase):
    """
    What is wrong is found, and nothing else.
    """

    def change(self, path: Path, change: Callable[[bytes], bytes]) -> None:
        """
        Change a file.
        """
        path.write_bytes(change(path.read_bytes()))

    def test_damaged(self) -> None:
        """
        A bit of content, of a large object or of a part, a file that is missing, and packages of
        a client's object that are not where they should be.
        """

        def flip(content: bytes) -> bytes:
            """
            Change a bit of the content, which comes first.
            """
            return content[:20] + bytes([content[20] ^ 1]) + content[21:]

        self.change(self.blob("s3"), flip)
        self.change(self.blob("parts", 1), flip)
        self.blob("kms").unlink()
        self.change(self.blob("client's"), flip)
        found = self.found()
        self.assertEqual([kind for kind, _, _ in found], ["damaged"] * 4)
        self.assertEqual([key for _, key, _ in found], ["client's", "kms", "parts", "s3"])

    def test_uploads(self) -> None:
        """
        A part whose content, or header, is not what was written, one that took the place of
        another, and one that is missing are told by upload and part; so is an upload whose key is
        that of another.
        """
        path, rows = self.upload_rows("begun")
        (upload, begun), (first, one), (second, two) = rows
        records = [unpack(PartRecord, value) for value in (one, two)]
        files = [self.directory / "blobs" / one.blob[:2] / one.blob for one in records]
        soundly = [file.read_bytes() for file in files]
        wheres = [(self.uploads["begun"], 2), (self.uploads["begun"], 7)]

        def broken(content: bytes, at: int) -> bytes:
            """
            Change a bit.
            """
            return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

        for at in (0, 20):
            files[0].write_bytes(broken(soundly[0], at))
            files[1].unlink()
            found = self.found_uploads()
            self.assertEqual(found, [("damaged", *where) for where in wheres])
            for file, content in zip(files, soundly, strict=True):
                file.write_bytes(content)
        exchanged = [replace(records[0], number=7), replace(records[1], number=2)]
        self.write_rows(path, {first: pack(exchanged[1]), second: pack(exchanged[0])})
        self.assertEqual(self.found_uploads(), [("damaged", *where) for where in wheres])
        self.write_rows(path, {first: one, second: two})
        record = unpack(UploadRecord, begun)
        sealed = "X-Minio-Internal-Server-Side-Encryption-Kms-Sealed-Key"
        entries = {**record.metadata.internal, sealed: b64encode(bytes(64)).decode()}
        other = replace(record, metadata=replace(record.metadata, internal=entries))
        self.write_rows(path, {upload: pack(other)})
        self.assertEqual(self.found_uploads(), [("damaged", self.uploads["begun"], 0)])
        self.write_rows(path, {upload: begun})
        theirs = self.upload_rows("begun client's")[1][1][1]
        blob = unpack(PartRecord, theirs).blob
        self.change(self.directory / "blobs" / blob[:2] / blob, lambda content: broken(content, 20))
        where = self.uploads["begun client's"]
        self.assertEqual(self.found_uploads(), [("damaged", where, 2)])
        done = subprocess.run(
            self.command(),
            env={**base_environment(), "MINIO_KMS_SECRET_KEY": STATIC_KEY},
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        said = f"damaged: bucket/begun client's, upload {where}, part 2: "
        self.assertIn(said, done.stdout.decode())

    def found_uploads(self) -> list[tuple[str, str, int]]:
        """
        What is wrong with uploads: kind, upload and part.
        """
        code, printed, err = self.run_verify()
        self.assertEqual((code, err), (1, ""), printed)
        findings = [each["finding"] for each in printed[:-1]]
        return [(each["kind"], each["upload"], each.get("part", 0)) for each in findings]

    def upload_rows(self, key: str) -> tuple[Path, list[tuple[bytes, bytes]]]:
        """
        The records of an upload and its parts, and the database that they are in.
        """
        upload = self.uploads[key]
        for path in (self.directory / "index").rglob("*.sqlite"):
            with closing(sqlite3.connect(path)) as connection:
                select = "SELECT key, value FROM records WHERE key >= ? AND key < ? ORDER BY key"
                row = upload_key(key, upload)
                found = connection.execute(select, (row, row + b"\x00")).fetchall()
                parts = part_key(upload, 0), part_key(upload, 0xFFFF)
                if found:
                    return path, found + connection.execute(select, parts).fetchall()
        raise AssertionError(key)

    def write_rows(self, path: Path, rows: dict[bytes, bytes]) -> None:
        """
        Change records behind the server's back.
        """
        with closing(sqlite3.connect(path)) as connection, connection:
            for key, value in rows.items():
                connection.execute("UPDATE records SET value = ? WHERE key = ?", (value, key))

    def test_records(self) -> None:
        """
        What is kept of an object and does not belong to it: another master key's name, a context,
        the sealed metadata of another object.
        """
        self.server.start()
        s3 = boto3_client(self.server)
        for key in ("1 context", "2 name", "3 foreign", "4 metadata", "5 sound"):
            s3.put_object(Bucket="other", Key=key, Body=b"content", **_KMS)
        self.assertEqual(self.server.stop(), 0)
        sound = unpack(ObjectRecord, record_of(self.directory, "5 sound")[1])
        entry = "X-Minio-Internal-Server-Side-Encryption-"
        context, name = f"{entry}Context", f"{entry}S3-Kms-Key-Id"
        for key, changes, sealed in (
            ("1 context", {context: b64encode(b'{"a":"b"}').decode()}, b""),
            ("2 name", {name: "gone"}, b""),
            ("3 foreign", {name: "../gone"}, b""),
            ("4 metadata", {}, sound.metadata.sealed),
        ):
            path, raw = record_of(self.directory, key)
            record = unpack(ObjectRecord, raw)
            metadata = replace(
                record.metadata,
                internal={**record.metadata.internal, **changes},
                sealed=sealed or record.metadata.sealed,
            )
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(
                    "UPDATE records SET value = ? WHERE key = ?",
                    (pack(replace(record, metadata=metadata)), object_key(key)),
                )
        self.assertEqual(
            [each[:2] for each in self.found("other")],
            [
                ("damaged", "1 context"),
                ("missing key", "2 name"),
                ("missing key", "3 foreign"),
                ("damaged", "4 metadata"),
            ],
        )

    def test_keys(self) -> None:
        """
        Without the master key, or with another one of its name, everything with a key of the KMS
        is told, and what is wrong with the key.
        """
        keys = ["gone", "kms", "parts", "s3", "s3", "begun"]
        missing = f"other-key:{STATIC_KEY.partition(':')[2]}"
        for key, kind in ((missing, "missing key"), (_OTHER_KEY, "wrong key")):
            found = self.found(MINIO_KMS_SECRET_KEY=key)
            self.assertEqual([(kind, each) for each in keys], [each[:2] for each in found])
            self.assertIn("test-key", found[0][2])
        found = self.found(MINIO_KMS_SECRET_KEY="")
        self.assertEqual([each[:2] for each in found], [("missing key", each) for each in keys])

    def test_plaintext(self) -> None:
        """
        What lies in clear where all is to be encrypted: by the server, or by the bucket.
        """
        auto = self.found(MINIO_KMS_AUTO_ENCRYPTION="on")
        plain = [("plaintext", "plain"), ("plaintext", "begun plain")]
        self.assertEqual([each[:2] for each in auto], plain)
        self.server.start()
        s3 = boto3_client(self.server)
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        s3.put_bucket_encryption(
            Bucket="other", ServerSideEncryptionConfiguration={"Rules": [rule]}
        )
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual([each[:2] for each in self.found()], plain)


class InterruptionTests(VerifyCase):
    """
    A run that is interrupted can go on.
    """

    def test_resumed(self) -> None:
        """
        What was seen before the interruption is not read again, and counts, with what was found;
        a file of another target is refused, and at the end it is removed.
        """
        self.blob("kms").unlink()
        file = self.work / "progress"
        process = subprocess.Popen(
            self.command("--json", "--resume", str(file), "--rate", "1"),
            env={**base_environment(), "MINIO_KMS_SECRET_KEY": STATIC_KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            # Then it reads the parts, which takes five seconds.
            self.assertIn(b'"kms"', process.stdout.readline())
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=_WAIT)
            self.assertEqual((process.returncode, time.monotonic() - began < _WAIT), (130, True))
            self.assertIn(b"Interrupted", err)
        finally:
            process.kill()
            process.wait()
        code, _, err_text = self.run_verify("other", "--resume", str(file))
        self.assertEqual(code, 2)
        self.assertIn("not of", err_text)
        seen = json.loads(file.read_text())
        self.assertEqual(seen["position"]["key"], "kms")
        self.assertEqual(seen["figures"]["damaged"], 1)
        code, (told,), _ = self.run_verify("--resume", str(file))
        figures = told["summary"]
        self.assertEqual((code, figures["versions"], figures["damaged"]), (1, 9, 1))
        self.assertFalse(file.exists())

    def test_killed(self) -> None:
        """
        A run that is killed goes on from what it kept last: here among the uploads, which are
        counted once.
        """
        file = self.work / "progress"
        target = "bucket/begun"
        process = subprocess.Popen(
            # Each of two uploads takes longer than three seconds, and it is kept after five.
            self.command(target, "--json", "--resume", str(file), "--rate", "1.5"),
            env={**base_environment(), "MINIO_KMS_SECRET_KEY": STATIC_KEY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: self.position(file).get("upload", "") != "")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(_WAIT)
        seen = json.loads(file.read_text())
        self.assertEqual(seen["position"]["upload"], self.uploads["begun"])
        self.assertEqual((seen["figures"]["uploads"], seen["figures"]["parts"]), (1, 2))
        code, (told,), _ = self.run_verify(target, "--resume", str(file))
        figures = told["summary"]
        self.assertEqual((code, figures["uploads"], figures["parts"]), (0, 2, 2))
        self.assertEqual((figures["buckets"], figures["parts_structure"]), (1, 2))
        self.assertFalse(file.exists())

    def position(self, file: Path) -> dict[str, str]:
        """
        How far a run has come.
        """
        try:
            told: dict[str, str] = json.loads(file.read_text())["position"]
        except FileNotFoundError:
            return {}
        return told


class KeyServiceTests(KeyServerCase):
    """
    Keys that come from elsewhere.
    """

    def verify(self, **environment: str) -> tuple[int, str, str]:
        """
        Run the command: exit code, output and errors.
        """
        done = subprocess.run(
            [
                *(sys.executable, "-m", "kypello.cli", "encrypt", "verify"),
                str(self.folder / "data"),
                *("--resume", str(self.folder / "progress"), "--patience", "1.5"),
            ],
            env={**base_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        self.assertNotIn(b"Traceback", done.stderr)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def fill(self, server: ServerProcess) -> None:
        """
        Store an object with a key of the KMS.
        """
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=_BIG, **_KMS)
        s3.close()

    def test_key_server(self) -> None:
        """
        An original key server opens the keys, beside the server; while none answers, it cannot be
        verified, which can go on later.
        """
        kes = self.original()
        server = self.object_server(kes.port)
        self.fill(server)
        settings = dict(server.environment)
        code, out, err = self.verify(**settings)
        self.assertEqual((code, err), (0, ""), out)
        self.assertIn("Opened        1 are", out)
        kes.end()
        code, out, err = self.verify(**settings)
        self.assertEqual((code, out), (2, ""))
        self.assertIn("trying again in 1 s", err)
        self.assertIn("trying again in 0.5 s", err)
        self.assertIn("cannot be verified: no key server answers", err)
        self.assertIn("goes on where it ended", err)
        self.assertTrue((self.folder / "progress").exists())

    def test_forbidden(self) -> None:
        """
        What is under a master key that the key server does not let the command use is told, and
        the rest is looked at.
        """
        policy = (
            "policy:\n  verifier:\n    allow: [/v1/key/decrypt/my-key]\n"
            f"    identities: [{self.user.identity}]\n"
        )
        for command in ((str(tools.require("kes")), "server"), OURS):
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            kes = self.start(command, policy)
            if command != OURS:
                self.kes(kes, "key", "create", "my-key", "other-key")
            server = self.object_server(kes.port)
            self.fill(server)
            s3 = boto3_client(server)
            other = {**_KMS, "SSEKMSKeyId": "other-key"}
            s3.put_object(Bucket="bucket", Key="other", Body=b"content", **other)
            s3.put_object(Bucket="bucket", Key="this", Body=b"content", **_S3)
            s3.create_multipart_upload(Bucket="bucket", Key="begun", **other)
            s3.close()
            verifier = {
                **server.environment,
                "MINIO_KMS_KES_KEY_FILE": str(self.user.key),
                "MINIO_KMS_KES_CERT_FILE": str(self.user.cert),
            }
            code, out, err = self.verify(**verifier)
            self.assertEqual((code, err), (1, ""), out)
            told = [line for line in out.splitlines() if line.startswith("key forbidden")]
            self.assertIn("bucket/other, version null: the key server forbids us", told[0])
            self.assertIn("bucket/begun, upload ", told[1])
            self.assertEqual(len(told), 2)
            self.assertIn("Opened        2 are", out)
            self.assertIn("Key forbidden 2 that", out)
            server.stop()
            kes.end()

    def test_inside(self) -> None:
        """
        The keys of a key server inside are found beside the data.
        """
        server = ServerProcess(self.folder / "data")
        server.start()
        self.addCleanup(server.stop)
        self.fill(server)
        code, out, err = self.verify()
        self.assertEqual((code, err), (0, ""), out)
        self.assertIn("Opened        1 are", out)

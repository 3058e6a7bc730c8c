# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A real server on a disk that is full, that goes away, or that somebody has damaged.
"""

import os
import resource
import subprocess
from pathlib import Path
from unittest import SkipTest

from botocore.exceptions import ClientError

from kypello.store.checkednames import HEX
from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import STATIC_KEY, ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import refusal, wait_until

_ENVIRONMENT = {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_KMS_AUTO_ENCRYPTION": "on"}
_FULL = (507, "XMinioStorageFull")
_FAILED = (503, "ServiceUnavailable")
_SMALL, _LARGE = os.urandom(2000), os.urandom(4_000_000)


class DiskCase(SyncCase):
    """
    A test with a server that encrypts everything, in one process.

    :cvar logs_apart: Whether its log lies on another disk than the data.
    """

    logs_apart = False

    def setUp(self) -> None:
        """
        Make the data directory, and start the server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(
            self.place() / "data",
            _ENVIRONMENT,
            ("--workers", "1"),
            logs=self.work if self.logs_apart else None,
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        self.s3 = boto3_client(self.server)
        self.s3.create_bucket(Bucket="bucket")

    def place(self) -> Path:
        """
        The disk.
        """
        return self.work

    def put(self, key: str, content: bytes, bucket: str = "bucket") -> None:
        """
        Store an object.
        """
        self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def refused(self, key: str, content: bytes, bucket: str = "bucket") -> tuple[int, str]:
        """
        How storing an object is refused.
        """
        return refusal(self.s3.put_object, Bucket=bucket, Key=key, Body=content)

    def content(self, key: str, bucket: str = "bucket") -> bytes:
        """
        The content of an object.
        """
        content: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def healthy(self) -> tuple[int, int, int]:
        """
        What the probes ``live``, ``cluster`` and ``cluster/read`` say.
        """
        live, cluster, reading = map(self.server.health, ("live", "cluster", "cluster/read"))
        return live, cluster, reading

    def wait_for_health(self, *expected: int) -> None:
        """
        Wait until the probes say that; what they say is good for some time.
        """
        wait_until(lambda: self.healthy() == expected)


class FullDiskContract:
    """
    What happens on a file system without a single free block.  Subclasses mount one.
    """

    def fill(self) -> None:
        """
        Leave no room, as somebody else who uses the disk.
        """
        with (self.place() / "filler").open("ab", 0) as filler:
            size = 1 << 20
            while size >= 512:
                try:
                    filler.write(bytes(size))
                except OSError:
                    size //= 2
            filler.flush()
        self.assertEqual(os.statvfs(self.place()).f_bavail, 0)

    def fill_index(self) -> None:
        """
        Store small objects, as long as there is room in what the index has taken already.
        """
        for number in range(1000):
            try:
                self.put(f"more-{number}", _SMALL)
            except ClientError:
                self.assertEqual(self.refused("more", _SMALL), _FULL)
                return
        self.fail("there is always room")

    def blobs(self) -> int:
        """
        How many files of content there are.
        """
        return sum(path.is_file() for path in (self.server.directory / "blobs").rglob("*"))

    def test_delete(self) -> None:
        """
        On a full disk nothing is stored, and everything can be read and deleted, also after a
        restart and in buckets that were not used yet; when that has made room, storing goes on.
        """
        self.s3.create_bucket(Bucket="other")
        for number in range(4):
            self.put(f"large-{number}", _LARGE)
            self.put(f"small-{number}", _SMALL)
            self.put(f"small-{number}", _SMALL, "other")
        upload = self.s3.create_multipart_upload(Bucket="bucket", Key="upload")
        where = {"Bucket": "bucket", "Key": "upload", "UploadId": upload["UploadId"]}
        self.s3.upload_part(**where, PartNumber=1, Body=_LARGE)
        self.fill()
        for restart in (False, True):
            if restart:
                self.server.kill()
                self.server.start()
            self.assertEqual(self.refused("new", _LARGE), _FULL)
            self.fill_index()
            self.assertEqual(refusal(self.s3.create_bucket, Bucket="third"), _FULL)
            self.assertEqual(self.content("large-0"), _LARGE)
            self.assertEqual(self.content("small-0", "other"), _SMALL)
            self.wait_for_health(200, 503, 200)
        self.s3.delete_object(Bucket="other", Key="small-3")
        self.s3.delete_object(Bucket="bucket", Key="small-3")
        self.fill()
        self.s3.delete_objects(
            Bucket="bucket", Delete={"Objects": [{"Key": "small-0"}, {"Key": "small-1"}]}
        )
        before = self.blobs()
        self.s3.delete_object(Bucket="bucket", Key="large-3")
        self.s3.abort_multipart_upload(**where)
        wait_until(lambda: self.blobs() == before - 2)
        self.wait_for_health(200, 200, 200)
        self.put("new", _LARGE)
        self.put("new-small", _SMALL, "other")
        self.assertEqual(self.content("new"), _LARGE)
        entries = self.s3.list_objects_v2(Bucket="bucket")["Contents"]
        keys = [entry["Key"] for entry in entries if not entry["Key"].startswith("more")]
        self.assertEqual(keys, ["large-0", "large-1", "large-2", "new", "small-2"])

    def test_many_deletions(self) -> None:
        """
        However many small objects are deleted on a full disk, none of them fails for want of
        room, although that makes none outside of the index.
        """
        count = 600
        for number in range(count):
            self.put(f"{number:04}", b"")
        self.fill()
        for number in range(count):
            self.s3.delete_object(Bucket="bucket", Key=f"{number:04}")
        self.assertEqual(self.refused("new", _LARGE), _FULL)
        self.assertEqual(self.s3.list_objects_v2(Bucket="bucket")["KeyCount"], 0)


class TmpfsCase(DiskCase):
    """
    A file system in memory.

    :cvar size: In MiB.
    """

    size = 48

    def place(self) -> Path:
        """
        Mount it.
        """
        disk = self.work / "disk"
        if not disk.exists():
            disk.mkdir()
            if not mount(self, "-t", "tmpfs", "-o", f"size={self.size}m", "tmpfs", str(disk)):
                tools.missing("the right to mount")
        return disk


class TmpfsTests(FullDiskContract, TmpfsCase):
    """
    What the disk is does not matter.
    """


class SmallObjectsTests(TmpfsCase):
    """
    What lies in the index fills the disk.
    """

    size = 256

    def test_small_objects(self) -> None:
        """
        A disk that was filled by small objects has room for everything again when they are
        deleted, in other buckets, too.
        """
        self.s3.create_bucket(Bucket="other")
        # All but some 40 MiB belongs to somebody else.
        (self.place() / "filler").write_bytes(bytes(210 << 20))
        content, keys = os.urandom(60_000), []
        for number in range(2000):
            try:
                self.put(f"{number:04}", content)
            except ClientError:
                break
            keys.append(f"{number:04}")
        self.assertLess(len(keys), 2000)
        self.assertEqual(self.refused("large", _LARGE, "other"), _FULL)
        wanted = [{"Key": key} for key in keys[:-10]]
        answer = self.s3.delete_objects(Bucket="bucket", Delete={"Objects": wanted})
        self.assertNotIn("Errors", answer)
        wait_until(lambda: os.statvfs(self.place()).f_bavail > 25 << 20 >> 12)
        for number in range(5):
            self.put(f"large-{number}", _LARGE, "other")
        for key in keys[-10:]:
            self.assertEqual(self.content(key), content)


class Ext4Case(DiskCase):
    """
    A file system with a journal and delayed allocation.
    """

    #: Of its blocks, in bytes.
    block = 4096

    #: How it is mounted.
    options = "loop"

    def place(self) -> Path:
        """
        Mount it.
        """
        disk = self.work / "disk"
        if not disk.exists():
            disk.mkdir()
            image = self.work / "image"
            with image.open("wb") as file:
                file.truncate(64 << 20)
            make = [tools.require("mkfs.ext4"), "-q", "-m", "0", "-b", str(self.block)]
            subprocess.run([*make, image], check=True, timeout=60)
            if not mount(self, "-o", self.options, str(image), str(disk)):
                # A container may mount what is in memory and have no such device.
                raise SkipTest("no loop device can be mounted")
        return disk


class Ext4Tests(FullDiskContract, Ext4Case):
    """
    Its blocks are as large as pages of memory, as they are on disks of some size.
    """


class SmallBlocksTests(Ext4Case):
    """
    Its blocks are smaller, as those that ``mkfs`` makes for small ones.
    """

    block = 1024

    def test_warning(self) -> None:
        """
        The start tells that they are a risk.
        """
        self.assertIn("with blocks of 1024 bytes", self.server.log)


class ReadOnlyTests(Ext4Case):
    """
    The system finds an error of its own in the file system, and lets nobody write any more.
    """

    options = "loop,errors=remount-ro"

    # Python would end with 120 when the last lines cannot be written.
    logs_apart = True

    def test_read_only(self) -> None:
        """
        What is there can be read and listed, all else is refused, and the server ends as always.
        """
        self.put("small", _SMALL)
        self.put("large", _LARGE)
        number = self.place().stat().st_dev
        device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
        # Never that of the machine.
        self.assertRegex(device.name, r"\Aloop[0-9]+\Z")
        Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("1")
        with self.assertRaises(OSError):
            (self.place() / "other").touch()
        self.wait_for_health(200, 503, 200)
        for key, content in (("small", _SMALL), ("large", _LARGE)):
            self.assertEqual(self.refused(key, content), _FAILED)
            self.assertEqual(self.refused("new", content), _FAILED)
            delete = {"Bucket": "bucket", "Key": key}
            self.assertEqual(refusal(self.s3.delete_object, **delete), _FAILED)
            self.assertEqual(self.content(key), content)
        listed = self.s3.list_objects_v2(Bucket="bucket")["Contents"]
        self.assertEqual([each["Key"] for each in listed], ["large", "small"])
        self.assertEqual(self.server.stop(), 0)
        self.assertNotIn("Traceback", self.server.log)


def mount(case: SyncCase, *arguments: str) -> bool:
    """
    Mount a file system for one test; tell whether that was possible.
    """
    mounted = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    if mounted.returncode:
        return False
    case.addCleanup(subprocess.run, ["umount", "-l", arguments[-1]], check=False)
    return True


class VanishedTests(DiskCase):
    """
    What a server needs is not there, for a while.
    """

    def setUp(self) -> None:
        """
        Store something.
        """
        super().setUp()
        self.put("small", _SMALL)
        self.put("large", _LARGE)

    def back(self) -> None:
        """
        All is as before.
        """
        self.wait_for_health(200, 200, 200)
        self.assertEqual((self.content("small"), self.content("large")), (_SMALL, _LARGE))
        self.put("new", _LARGE)
        self.s3.delete_object(Bucket="bucket", Key="new")

    def test_directory(self) -> None:
        """
        A data directory that is gone, as a disk that is not mounted, loses nothing: requests
        fail until it is there again.
        """
        data = self.server.directory
        for part in (data, data / "index", data / "blobs"):
            away = part.with_name(f"{part.name}-away")
            part.rename(away)
            self.wait_for_health(200, 503, 503)
            self.assertEqual(self.refused("new", _LARGE), _FAILED)
            if part != data / "index":
                # What is remembered of the index is good for reading.
                get = {"Bucket": "bucket", "Key": "large"}
                self.assertEqual(refusal(self.s3.get_object, **get), _FAILED)
            if part != data / "blobs":
                delete = {"Bucket": "bucket", "Key": "large"}
                self.assertEqual(refusal(self.s3.delete_object, **delete), _FAILED)
                self.assertEqual(refusal(self.s3.list_objects_v2, Bucket="bucket"), _FAILED)
            away.rename(part)
            self.back()

    def test_descriptors(self) -> None:
        """
        A server that may open no more files refuses what needs one, and recovers.
        """
        limits = resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE)
        self.content("small")
        highest = max(int(link.name) for link in Path(f"/proc/{self.server.pid}/fd").iterdir())
        # As many as are open, so that none is free below the limit; and this connection.
        taken = len(list(Path(f"/proc/{self.server.pid}/fd").iterdir()))
        self.assertGreaterEqual(highest + 1, taken)
        resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, (taken, limits[1]))
        self.assertEqual(self.refused("new", _LARGE), _FAILED)
        resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, limits)
        self.back()


class DamagedIndexTests(DiskCase):
    """
    Somebody writes into a database of a server that runs.
    """

    def databases(self) -> set[Path]:
        """
        Those of all buckets.
        """
        found = (self.server.directory / "index").glob("??/*.sqlite")
        return {path for path in found if HEX.fullmatch(path.stem)}

    def not_wrong(self) -> None:
        """
        What SQLite has in memory is listed, or the damage told.
        """
        try:
            entries = self.s3.list_objects_v2(Bucket="other")["Contents"]
        except ClientError:
            told = refusal(self.s3.list_objects_v2, Bucket="other")
            self.assertEqual(told, (500, "InternalError"))
        else:
            self.assertEqual([entry["Key"] for entry in entries], ["k", "large"])

    def test_damaged(self) -> None:
        """
        A database that is overwritten or cut is told to be damaged, and nothing is taken for
        absent; other buckets go on; what it was is there when it is put back.
        """
        self.put("k", _SMALL)
        before = self.databases()
        self.s3.create_bucket(Bucket="other")
        (path,) = self.databases() - before
        self.put("k", _SMALL, "other")
        self.put("large", _LARGE, "other")
        self.server.stop()
        whole = path.read_bytes()
        for damaged in (b"", bytes(len(whole)), b"x" * 100, whole[:4096]):
            path.write_bytes(whole)
            self.server.start()
            self.assertEqual(self.content("k", "other"), _SMALL)
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            # In place: the server has this very file open.
            path.write_bytes(damaged)
            self.not_wrong()
            self.assertEqual(self.content("k"), _SMALL)
            self.server.kill()
            self.server.start()
            self.assertEqual(
                refusal(self.s3.get_object, Bucket="other", Key="k"), (500, "InternalError")
            )
            self.put("new", _SMALL)
            self.server.kill()
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            path.write_bytes(whole)
            self.server.start()
            self.assertEqual(self.content("k", "other"), _SMALL)
            self.assertEqual(self.content("large", "other"), _LARGE)
            self.server.stop()

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
s3fs-fuse.
"""

import base64
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, PLAIN, SSE_C, SSE_S3
from tests.integration.server import base_environment
from tests.integration.test_clients import boto3_client

SETTINGS = """
```sh
echo ACCESS_KEY:SECRET_KEY >~/.passwd-s3fs
chmod 600 ~/.passwd-s3fs
```

```sh
s3fs BUCKET FOLDER -o url=http://127.0.0.1:9000 -o use_path_request_style
```

The bucket must be there before. `-o use_sse` asks for SSE-S3, but, in version 1.90, not for what it
uploads in parts: let the bucket or the server encrypt everything, with
`mc encrypt set sse-s3 kypello/BUCKET` or `MINIO_KMS_AUTO_ENCRYPTION=on`. `-o use_sse=custom:FILE`
with `-o nomultipart` asks for SSE-C with the key in a file, in Base64; that needs HTTPS. A
certificate of your own is trusted with the environment variable `CURL_CA_BUNDLE`.
"""

#: Files above 12 MiB go in parts of 6 MiB.
_PARTS = ("-o", "multipart_threshold=12", "-o", "multipart_size=6", "-o", "singlepart_copy_limit=8")
#: A zero in it would end it.
_KEY = bytes(range(1, 33))
_PATIENCE = 20


class S3fsTests(CommandStory, SyncCase):
    """
    Files and folders that s3fs-fuse shows, one folder for each kind of encryption.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    secure: ClassVar[bool] = True

    def prepare(self) -> None:
        """
        Find s3fs, and see whether anything can be mounted here.
        """
        self.program = tools.client("s3fs-fuse")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
            raise SkipTest("/dev/fuse is needed, and root")

    def connect(self) -> None:
        """
        Write its credentials, and a key; make what makes the bucket.
        """
        self.run_command("sh", "-c", block(SETTINGS, self.server))
        self.key = self.work / "key"
        self.key.touch(0o600)
        self.key.write_bytes(base64.b64encode(_KEY) + b"\n")
        self.s3: Any = boto3_client(self.server, verify=str(self.certificate))
        self.addCleanup(self.s3.close)
        self.mounted: dict[str, Path] = {}

    def folder(self, kind: str) -> Path:
        """
        Where the bucket is mounted for this kind.

        With ``use_sse`` alone, what goes in parts would be stored in clear.
        """
        if kind in self.mounted:
            return self.mounted[kind]
        folder = self.work / f"mounted-{kind}"
        folder.mkdir()
        kinds = {
            PLAIN: _PARTS,
            SSE_S3: (*_PARTS, "-o", "use_sse"),
            SSE_C: ("-o", f"use_sse=custom:{self.key}", "-o", "nomultipart"),
        }
        words = {"BUCKET": BUCKET, "FOLDER": str(folder), "s3fs": str(self.program)}
        command = [words.get(word, word) for word in shlex.split(block(SETTINGS, self.server, 1))]
        said = self.work / f"said-{kind}"
        with said.open("wb") as errors:
            process = subprocess.Popen(
                [*command, *kinds[kind], "-f", "-o", "retries=2"],
                env={
                    **base_environment(),
                    "HOME": str(self.work),
                    "CURL_CA_BUNDLE": str(self.certificate),
                },
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self.addCleanup(self.unmount, folder, process)
        deadline = time.monotonic() + _PATIENCE
        while not _is_mounted(folder):
            if process.poll() is not None and "not permitted" in said.read_text():
                raise SkipTest("nothing can be mounted here")
            if process.poll() is not None or time.monotonic() > deadline:
                self.fail(f"{kind} is not mounted: {said.read_text()}\n{self.server.log}")
            time.sleep(0.05)
        self.mounted[kind] = folder
        if kind == SSE_S3:
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            self.s3.put_bucket_encryption(
                Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]}
            )
        else:
            self.s3.delete_bucket_encryption(Bucket=BUCKET)
        return folder

    def unmount(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        """
        End s3fs.
        """
        process.terminate()
        try:
            process.wait(_PATIENCE)
        finally:
            process.kill()
            if _is_mounted(folder):
                subprocess.run(["umount", "-l", folder], check=False)

    def path(self, key: str, kind: str = "") -> Path:
        """
        The file of an object.
        """
        return self.folder(kind or self.kind(key)) / key

    def kind(self, key: str) -> str:
        """
        The kind of a key of the story, which begins with it.
        """
        return next((kind for kind in self.kinds if key.startswith(kind)), PLAIN)

    def make_bucket(self) -> None:
        """
        Make the bucket, which s3fs cannot.
        """
        self.s3.create_bucket(Bucket=BUCKET)

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.s3.delete_bucket(Bucket=BUCKET)

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Copy a file there, with its mode and time.
        """
        path = self.path(key, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, path)

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Copy a file from there.
        """
        shutil.copy2(self.path(key, kind), target)

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read some bytes.
        """
        with self.path(key, kind).open("rb") as file:
            file.seek(first)
            return file.read(last + 1 - first)

    def keys(self, prefix: str) -> dict[str, int]:
        """
        The files below a folder.
        """
        top = self.folder(self.kind(prefix))
        return {
            path.relative_to(top).as_posix(): path.stat().st_size
            for path in (top / prefix).rglob("*")
            if path.is_file()
        }

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Move a copy, and write into it, which copies the rest of it on the server.
        """
        first = self.path(f"{kind}/first", kind)
        shutil.copyfile(self.path(source, kind), first)
        first.chmod(0o600)
        path = self.path(target, kind)
        first.rename(path)
        with path.open("r+b") as file:
            start = file.read(10)
            file.seek(0)
            file.write(start)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        return True

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Copy the tree.
        """
        shutil.copytree(folder, self.path(prefix, kind), dirs_exist_ok=True)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove the files, and the folders that become empty.
        """
        for key in keys:
            path = self.path(key)
            path.unlink()
            for parent in path.parents:
                if parent in self.mounted.values() or any(parent.iterdir()):
                    break
                parent.rmdir()


def _is_mounted(folder: Path) -> bool:
    # Unlike Path.is_mount this asks no file system, of which s3fs may just have died.
    return f" {folder} " in Path("/proc/mounts").read_text()

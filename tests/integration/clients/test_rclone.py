# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
rclone.
"""

import base64
import json
from pathlib import Path
from typing import ClassVar

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, PLAIN, SSE_C, SSE_S3

SETTINGS = """
In `~/.config/rclone/rclone.conf`:

```ini
[kypello]
type = s3
provider = Minio
endpoint = http://127.0.0.1:9000
access_key_id = ACCESS_KEY
secret_access_key = SECRET_KEY
```

`server_side_encryption = AES256` asks for SSE-S3; `sse_customer_algorithm = AES256` and
`sse_customer_key_base64 = KEY` for SSE-C, which needs HTTPS. A certificate of your own is trusted
with `--ca-cert /path/to/public.crt`.
"""

_OPTIONS: dict[str, dict[str, str]] = {
    PLAIN: {},
    SSE_S3: {"RCLONE_S3_SERVER_SIDE_ENCRYPTION": "AES256"},
    SSE_C: {
        "RCLONE_S3_SSE_CUSTOMER_ALGORITHM": "AES256",
        "RCLONE_S3_SSE_CUSTOMER_KEY_BASE64": base64.b64encode(CUSTOMER_KEY).decode(),
    },
}
#: So that the largest file of the story goes in parts, and comes in several streams.
_PARTS = {
    "RCLONE_S3_UPLOAD_CUTOFF": "16M",
    "RCLONE_S3_CHUNK_SIZE": "8M",
    "RCLONE_S3_COPY_CUTOFF": "16M",
    "RCLONE_MULTI_THREAD_CUTOFF": "16M",
}


class RcloneTests(CommandStory, SyncCase):
    """
    rclone over HTTPS, which compares what it has sent with entity tags.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    secure: ClassVar[bool] = True

    def prepare(self) -> None:
        """
        Find rclone.
        """
        self.program = tools.client("rclone")

    def connect(self) -> None:
        """
        Write its configuration.
        """
        (self.work / "rclone.conf").write_text(block(SETTINGS, self.server))

    def rclone(self, *arguments: str | Path, kind: str = PLAIN) -> bytes:
        """
        Run a command, and let no failure be hidden by another try.
        """
        options = {
            "RCLONE_CONFIG": str(self.work / "rclone.conf"),
            "RCLONE_CA_CERT": str(self.certificate),
            "RCLONE_RETRIES": "1",
            "RCLONE_LOW_LEVEL_RETRIES": "1",
        }
        environment = {**options, **_PARTS, **_OPTIONS[kind]}
        return self.run_command(self.program, *arguments, **environment)

    def place(self, key: str = "") -> str:
        """
        How it calls an object.
        """
        return f"kypello:{BUCKET}/{key}"

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.rclone("mkdir", self.place())

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.rclone("rmdir", self.place())

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Copy a file there.
        """
        self.rclone("copyto", source, self.place(key), kind=kind)

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Copy a file from there.
        """
        self.rclone("copyto", self.place(key), target, kind=kind)

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read some bytes.
        """
        span = ("--offset", str(first), "--count", str(last + 1 - first))
        return self.rclone("cat", *span, self.place(key), kind=kind)

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List recursively.
        """
        listed = self.rclone("lsjson", "-R", "--files-only", "--no-modtime", self.place(prefix))
        return {prefix + entry["Path"]: entry["Size"] for entry in json.loads(listed)}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy on the server, in parts, and then onto itself, to set its time.
        """
        self.rclone("copyto", self.place(source), self.place(target), kind=kind)
        self.rclone("touch", "-t", "2020-02-02T02:02:02", self.place(target), kind=kind)
        (told,) = json.loads(self.rclone("lsjson", self.place(target), kind=kind))
        self.assertEqual(told["ModTime"][:10], "2020-02-02")
        return True

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Synchronize, and compare.
        """
        self.rclone("sync", folder, self.place(prefix), kind=kind)
        self.rclone("check", "--download", folder, self.place(prefix), kind=kind)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all.
        """
        (self.work / "unwanted").write_text("".join(f"{key}\n" for key in keys))
        self.rclone("delete", "--files-from", self.work / "unwanted", self.place())

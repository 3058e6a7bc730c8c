# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
s3cmd.
"""

import re
from pathlib import Path

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, PLAIN, SSE_S3

SETTINGS = """
`~/.s3cfg`:

```ini
[default]
host_base = 127.0.0.1:9000
host_bucket = 127.0.0.1:9000
bucket_location = us-east-1
use_https = False
access_key = ACCESS_KEY
secret_key = SECRET_KEY
```

`--server-side-encryption` asks for SSE-S3.
"""


class S3cmdTests(CommandStory, SyncCase):
    """
    s3cmd, which knows no SSE-C.
    """

    def prepare(self) -> None:
        """
        Find the program.
        """
        self.program = tools.client("s3cmd") / "bin" / "s3cmd"

    def connect(self) -> None:
        """
        Write its settings.
        """
        (self.work / ".s3cfg").write_text(block(SETTINGS, self.server))

    def s3cmd(self, *arguments: str | Path, kind: str = PLAIN) -> str:
        """
        Run a command that writes as *kind* says.
        """
        protection = ("--server-side-encryption",) if kind == SSE_S3 else ()
        return self.run_command(self.program, "--no-progress", *protection, *arguments).decode()

    def make_bucket(self) -> None:
        """
        Make the bucket, and see that it can be described.
        """
        self.s3cmd("mb", f"s3://{BUCKET}")
        self.assertIn("us-east-1", self.s3cmd("info", f"s3://{BUCKET}"))

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.s3cmd("rb", f"s3://{BUCKET}")

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file, in parts if it is large, and see that it can be described.
        """
        self.s3cmd("put", source, f"s3://{BUCKET}/{key}", kind=kind)
        info = self.s3cmd("info", f"s3://{BUCKET}/{key}")
        self.assertEqual(re.findall(r"SSE: +(\w+)", info), ["AES256" if kind == SSE_S3 else "none"])

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Read into a file.
        """
        self.s3cmd("get", "--force", f"s3://{BUCKET}/{key}", target)

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Continue a file, the only range that it reads: the last bytes.
        """
        target = self.work / "continued"
        self.get(key, target, kind)
        whole = target.read_bytes()
        target.write_bytes(whole[:first])
        self.s3cmd("get", "--continue", f"s3://{BUCKET}/{key}", target)
        return target.read_bytes()[first : last + 1]

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List.
        """
        found = {}
        for line in self.s3cmd("ls", "--recursive", f"s3://{BUCKET}/{prefix}").splitlines():
            _, _, size, key = line.split(maxsplit=3)
            found[key.removeprefix(f"s3://{BUCKET}/")] = int(size)
        return found

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy, in parts if it is large.
        """
        self.s3cmd("cp", f"s3://{BUCKET}/{source}", f"s3://{BUCKET}/{target}", kind=kind)
        return True

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Synchronize by sizes and MD5.
        """
        self.s3cmd("sync", f"{folder}/", f"s3://{BUCKET}/{prefix}", kind=kind)
        return True

    def fetch(self, prefix: str, folder: Path, kind: str) -> bool:
        """
        Synchronize the other way.
        """
        folder.mkdir()
        self.s3cmd("sync", f"s3://{BUCKET}/{prefix}", f"{folder}/")
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        self.s3cmd("rm", *(f"s3://{BUCKET}/{key}" for key in keys))

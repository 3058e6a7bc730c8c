# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
s5cmd.
"""

import json
import shlex
from pathlib import Path

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, PLAIN, SSE_S3

SETTINGS = """
```sh
export S3_ENDPOINT_URL=http://127.0.0.1:9000
export AWS_ACCESS_KEY_ID=ACCESS_KEY
export AWS_SECRET_ACCESS_KEY=SECRET_KEY
export AWS_REGION=us-east-1
```

`cp --sse AES256` and `sync --sse AES256` ask for SSE-S3; it knows no SSE-C. It cannot copy objects
whose keys have blanks within the server: it writes them as `+`, which stands for itself.
"""


class S5cmdTests(CommandStory, SyncCase):
    """
    s5cmd, which sends and reads parts at once.
    """

    def prepare(self) -> None:
        """
        Find s5cmd.
        """
        self.program = tools.client("s5cmd")

    def connect(self) -> None:
        """
        Prepare its environment.
        """
        words = shlex.split(block(SETTINGS, self.server))
        self.settings = dict(word.split("=", 1) for word in words if word != "export")

    def s5cmd(self, *arguments: str | Path) -> bytes:
        """
        Run a command, and let no failure be hidden by another try.
        """
        options = ("--retry-count", "0", "--json")
        return self.run_command(self.program, *options, *arguments, **self.settings)

    def place(self, key: str = "") -> str:
        """
        How it calls an object.
        """
        return f"s3://{BUCKET}/{key}"

    def writing(self, kind: str) -> tuple[str, ...]:
        """
        The options of a write, with parts smaller than the largest file.
        """
        parts = ("--part-size", "6", "--concurrency", "4")
        return (*parts, "--sse", "AES256") if kind == SSE_S3 else parts

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.s5cmd("mb", f"s3://{BUCKET}")

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.s5cmd("rb", f"s3://{BUCKET}")

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Copy a file there.
        """
        self.s5cmd("cp", *self.writing(kind), source, self.place(key))

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Copy a file from there, in ranges.
        """
        self.s5cmd("cp", *self.writing(PLAIN), self.place(key), target)

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List recursively; that there is nothing is an error for it.
        """
        try:
            listed = self.s5cmd("ls", "--show-fullpath", self.place(f"{prefix}*"))
        except AssertionError as error:
            if "no object found" not in str(error):
                raise
            return {}
        entries = [json.loads(line) for line in listed.splitlines()]
        return {entry["key"].removeprefix(self.place()): entry.get("size", 0) for entry in entries}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy on the server, from a key without blanks.
        """
        local, clean = self.work / "local", f"{kind}/source"
        self.get(source, local, kind)
        self.put(local, clean, kind)
        self.s5cmd("cp", *self.writing(kind), self.place(clean), self.place(target))
        self.delete([clean])
        return True

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Synchronize, and remove what the folder no longer has.
        """
        self.s5cmd("sync", "--delete", *self.writing(kind), f"{folder}/", self.place(prefix))
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all.
        """
        self.s5cmd("rm", *map(self.place, keys))

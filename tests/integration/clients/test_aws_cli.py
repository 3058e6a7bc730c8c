# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
aws-cli.

Version 1 comes from PyPI, version 2 from Debian.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import ClassVar

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, PLAIN, SSE_C, SSE_S3

SETTINGS = """
```sh
export AWS_ACCESS_KEY_ID=ACCESS_KEY
export AWS_SECRET_ACCESS_KEY=SECRET_KEY
export AWS_DEFAULT_REGION=us-east-1
export AWS_ENDPOINT_URL=http://127.0.0.1:9000
```

Versions before 1.29 and 2.13, such as Debian's of 2022, do not know `AWS_ENDPOINT_URL`: give them
`--endpoint-url http://127.0.0.1:9000` with each command.

`aws s3` takes `--sse AES256` for SSE-S3, `--sse-c AES256 --sse-c-key fileb://KEY` for SSE-C with a
file of 32 bytes.
"""


class AWSTests(CommandStory, SyncCase):
    """
    aws-cli 1.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)

    def prepare(self) -> None:
        """
        Find the program.
        """
        self.program = Path(sys.executable).with_name("aws")
        if not self.program.exists():
            tools.missing("aws")

    def connect(self) -> None:
        """
        Read the settings, and write the key of SSE-C.
        """
        lines = shlex.split(block(SETTINGS, self.server))
        self.settings = dict(word.split("=", 1) for word in lines if word != "export")
        (self.work / "key").write_bytes(CUSTOMER_KEY)

    def aws(self, *arguments: str | Path) -> bytes:
        """
        Run a command.
        """
        return self.run_command(self.program, *arguments, **self.settings)

    def protection(self, kind: str) -> tuple[str, ...]:
        """
        What ``aws s3`` says to write.
        """
        return {
            PLAIN: (),
            SSE_S3: ("--sse", "AES256"),
            SSE_C: ("--sse-c", "AES256", "--sse-c-key", "fileb://key"),
        }[kind]

    def reading(self, kind: str) -> tuple[str, ...]:
        """
        What ``aws s3`` says to read.
        """
        return self.protection(kind) if kind == SSE_C else ()

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.aws("s3", "mb", f"s3://{BUCKET}")

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.aws("s3", "rb", f"s3://{BUCKET}")

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file, in parts if it is large.
        """
        self.aws("s3", "cp", source, f"s3://{BUCKET}/{key}", *self.protection(kind))

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Read into a file, in ranges if it is large.
        """
        self.aws("s3", "cp", f"s3://{BUCKET}/{key}", target, *self.reading(kind))

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read a range.
        """
        customer = ("--sse-customer-algorithm", "AES256", "--sse-customer-key", "fileb://key")
        self.aws(
            *("s3api", "get-object", "--bucket", BUCKET, "--key", key),
            *("--range", f"bytes={first}-{last}"),
            *(customer if kind == SSE_C else ()),
            "range",
        )
        return (self.work / "range").read_bytes()

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List.
        """
        printed = self.aws(
            *("s3api", "list-objects-v2", "--bucket", BUCKET, "--prefix", prefix),
            *("--query", "Contents[].[Key, Size]", "--output", "json"),
        )
        return dict(json.loads(printed) or ())

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy, in parts if it is large.
        """
        customer = ("--sse-c-copy-source", "AES256", "--sse-c-copy-source-key", "fileb://key")
        self.aws(
            *("s3", "cp", f"s3://{BUCKET}/{source}", f"s3://{BUCKET}/{target}"),
            *self.protection(kind),
            *(customer if kind == SSE_C else ()),
        )
        return True

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Synchronize by sizes and times.
        """
        self.aws("s3", "sync", folder, f"s3://{BUCKET}/{prefix}", *self.protection(kind))
        return True

    def fetch(self, prefix: str, folder: Path, kind: str) -> bool:
        """
        Synchronize the other way.
        """
        self.aws("s3", "sync", f"s3://{BUCKET}/{prefix}", folder, *self.reading(kind))
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        objects = json.dumps({"Objects": [{"Key": key} for key in keys]})
        printed = self.aws(
            "s3api", "delete-objects", "--bucket", BUCKET, "--delete", objects, "--output", "json"
        )
        self.assertNotIn("Errors", json.loads(printed))


class AWS2Tests(AWSTests):
    """
    aws-cli 2 of Debian.
    """

    def prepare(self) -> None:
        """
        Find the program; Debian had version 1 before.
        """
        self.program = tools.client("aws-cli-2")
        if not self.run_command(self.program, "--version").startswith(b"aws-cli/2."):
            self.skipTest("awscli of this Debian is not version 2")

    def aws(self, *arguments: str | Path) -> bytes:
        """
        Run a command with the endpoint among its arguments.
        """
        return super().aws("--endpoint-url", self.server.endpoint, *arguments)

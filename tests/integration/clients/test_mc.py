# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
mc.
"""

import base64
import json
import shlex
from pathlib import Path
from typing import ClassVar

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, PLAIN, SSE_C, SSE_S3

SETTINGS = """
```sh
mc alias set kypello http://127.0.0.1:9000 ACCESS_KEY SECRET_KEY
```

`--enc-s3 kypello/BUCKET` asks for SSE-S3, `--enc-c kypello/BUCKET=KEY` for SSE-C with a key of 32
bytes in Base64 without `=`. SSE-C needs HTTPS; a certificate of your own goes to
`~/.mc/certs/CAs`.
"""

_ALIAS = "kypello"


class MCTests(CommandStory, SyncCase):
    """
    mc over HTTPS.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    secure: ClassVar[bool] = True

    def prepare(self) -> None:
        """
        Find mc.
        """
        self.program = tools.require("mc")

    def connect(self) -> None:
        """
        Let it trust the server, and name it.
        """
        trusted = self.work / "mc" / "certs" / "CAs"
        trusted.mkdir(parents=True)
        (trusted / "kypello.crt").write_bytes(self.certificate.read_bytes())
        self.mc(*shlex.split(block(SETTINGS, self.server))[1:])

    def mc(self, *arguments: str | Path, kind: str = PLAIN, reads: bool = False) -> bytes:
        """
        Run a command.

        :param reads: Whether it does nothing but read, which names a key of SSE-C only.
        """
        key = base64.b64encode(CUSTOMER_KEY).decode().rstrip("=")
        protection: tuple[str, ...] = ()
        if kind == SSE_C:
            protection = ("--enc-c", f"{_ALIAS}/{BUCKET}={key}")
        elif kind == SSE_S3 and not reads:
            protection = ("--enc-s3", f"{_ALIAS}/{BUCKET}")
        command, *rest = arguments
        config = ("--config-dir", self.work / "mc")
        return self.run_command(self.program, *config, command, *protection, *rest)

    def place(self, key: str = "") -> str:
        """
        How it calls an object.
        """
        return f"{_ALIAS}/{BUCKET}/{key}"

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.mc("mb", f"{_ALIAS}/{BUCKET}")

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.mc("rb", f"{_ALIAS}/{BUCKET}")

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Copy a file there.
        """
        self.mc("cp", source, self.place(key), kind=kind)

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Copy a file from there.
        """
        self.mc("cp", self.place(key), target, kind=kind, reads=True)

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read from an offset; it knows no end.
        """
        offset = ("--offset", str(first)) if first else ()
        found = self.mc("cat", *offset, self.place(key), kind=kind, reads=True)
        return found[: last + 1 - first]

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List recursively.
        """
        lines = self.mc("ls", "--json", "-r", self.place(prefix)).splitlines()
        return {prefix + entry["key"]: entry["size"] for entry in map(json.loads, lines)}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy on the server.
        """
        self.mc("cp", self.place(source), self.place(target), kind=kind)
        return True

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Mirror, and remove what the folder no longer has.
        """
        self.mc("mirror", "--overwrite", "--remove", folder, self.place(prefix), kind=kind)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all.
        """
        self.mc("rm", *map(self.place, keys))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Stories of clients that are command lines, and of those that are libraries of another Python.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from tests.integration import tools
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, SSE_S3, ClientStory
from tests.integration.server import base_environment
from tests.integration.test_clients import boto3_client

_SCRIPTS = Path(__file__).with_name("scripts")
_TIMEOUT = 120
_STOP = 10


class CommandStory(ClientStory):
    """
    Lives through the story with a program, whose home is a folder of the test.
    """

    def run_command(self, *command: str | Path, **environment: str) -> bytes:
        """
        Run a command that must succeed.

        :param environment: What it has beside the environment of this process.

        :return: What it printed.
        """
        done = subprocess.run(
            command,
            env={**base_environment(), "HOME": str(self.work), **environment},
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode("utf-8", "replace")
            log = self.server.log[-2000:] if hasattr(self, "server") else ""
            self.fail(f"{command}: {done.returncode}, {said}\n{log}")
        return done.stdout


class LibraryStory(ClientStory):
    """
    Lives through the story with a library in a Python of its own, where a script does what the
    story asks for.

    :cvar name: The client, as ``.ci/clients`` names it; ``use_NAME.py`` is its script.
    :cvar settings: What makes the client; the first block is run by the script.
    :cvar by_default: It cannot ask for SSE-S3, so that the bucket must be set to it.
    """

    name: ClassVar[str]
    settings: ClassVar[str]
    by_default: ClassVar[bool] = False

    def prepare(self) -> None:
        """
        Find the library.
        """
        self.python = tools.client(self.name) / "bin" / "python"

    def connect(self) -> None:
        """
        Start the script, and give it the settings.
        """
        said = self.work / "said"
        with said.open("wb") as errors:
            self.script = subprocess.Popen(
                [self.python, _SCRIPTS / f"use_{self.name.replace('-', '_')}.py"],
                env={
                    **base_environment(),
                    "HOME": str(self.work),
                    "AWS_MAX_ATTEMPTS": "1",
                    **({"AWS_CA_BUNDLE": str(self.certificate)} if self.secure else {}),
                },
                cwd=self.work,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.addCleanup(self.end)
        # For what is not the business of such a client.
        self.boto3 = boto3_client(self.server, str(self.certificate) if self.secure else None)
        self.addCleanup(self.boto3.close)
        self.ask(
            "connect",
            code=block(self.settings, self.server),
            bucket=BUCKET,
            customer_key=CUSTOMER_KEY.hex(),
        )

    def end(self) -> None:
        """
        End the script.
        """
        self.script.communicate(timeout=_STOP)

    def ask(self, operation: str, **arguments: str | int | list[str]) -> Any:
        """
        Let the script do something.
        """
        assert self.script.stdin is not None
        assert self.script.stdout is not None
        print(json.dumps([operation, arguments]), file=self.script.stdin, flush=True)
        line = self.script.stdout.readline()
        if not line:
            self.fail(f"{operation}: {(self.work / 'said').read_text()}\n{self.server.log[-2000:]}")
        return json.loads(line)

    def live(self, kind: str) -> None:
        """
        Set the bucket to SSE-S3 if need be, and go through the story.
        """
        if self.by_default and kind == SSE_S3:
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            self.boto3.put_bucket_encryption(
                Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]}
            )
        super().live(kind)

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.ask("make_bucket")

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.ask("remove_bucket")

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file.
        """
        self.ask("put", source=str(source), key=key, kind=kind)

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Read an object into a file.
        """
        self.ask("get", key=key, target=str(target), kind=kind)

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read a range, if the script can.
        """
        found = self.ask("get_range", key=key, first=first, last=last, kind=kind)
        return None if found is None else bytes.fromhex(found)

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List.
        """
        found: dict[str, int] = self.ask("keys", prefix=prefix)
        return found

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy, if the script can.
        """
        return self.ask("copy", source=source, target=target, kind=kind) is not None

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Synchronize, if the script can.
        """
        return self.ask("sync", folder=str(folder), prefix=prefix, kind=kind) is not None

    def delete(self, keys: list[str]) -> None:
        """
        Remove objects.
        """
        self.ask("delete", keys=keys)

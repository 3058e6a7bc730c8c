# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A real ``kypello server`` process for tests.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from attrs import define, field

from tests.integration.tools import free_port

#: The credentials that tests give their servers.
ACCESS_KEY = "integration"
SECRET_KEY = "integration-secret-key"

#: One master key in the environment: 32 bytes of ASCII letters.
STATIC_KEY = "test-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="

_START = 20.0
_STOP = 15.0


def base_environment() -> dict[str, str]:
    """
    The environment of this process without any setting of Kypello, MinIO, KES or AWS, and
    without the paths that trial gives to its processes.
    """
    prefixes = ("MINIO_", "KYPELLO_", "KES_", "AWS_", "MC_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def contents(directory: Path) -> list[Path]:
    """
    The blobs of a data directory that have content, or may have: others only describe something.
    """
    found = []
    for path in (directory / "blobs").glob("??/*"):
        # The server may remove it just now.
        with suppress(FileNotFoundError):
            footer = path.read_bytes()[-28:]
            if footer[:7] != b"KYPBLOB" or footer[8:16] != bytes(8):
                found.append(path)
    return found


@define
class ServerProcess:
    """
    A server on a free port, with its data in a directory of the test.

    :ivar directory: The data directory; it survives :meth:`kill` and :meth:`stop`.
    :ivar environment: Settings beside the root credentials.
    :ivar logs: Where what it prints is written to; beside the data directory if ``None``.
    """

    directory: Path
    environment: Mapping[str, str] = field(factory=dict)
    arguments: tuple[str, ...] = ()
    scheme: str = "http"
    port: int = field(factory=free_port)
    logs: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """
        The URL for S3 clients.
        """
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """
        What the server has printed so far.
        """
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """
        The process id.
        """
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """
        Whether the process lives.
        """
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[int]:
        """
        The process ids of its workers, in the order of their start.
        """
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sorted(map(int, children))

    @property
    def _log_path(self) -> Path:
        return (self.logs or self.directory.parent) / f"{self.directory.name}-{self.port}.log"

    def start(self) -> None:
        """
        Start the server and wait until it answers.
        """
        environment = {
            **base_environment(),
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "KYPELLO_WORKERS": "2",
            **self.environment,
        }
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "kypello.cli",
                    "server",
                    "--address",
                    f"127.0.0.1:{self.port}",
                    *self.arguments,
                    str(self.directory),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_live()

    def health(self, kind: str) -> int:
        """
        The status of one health probe: ``live``, ``ready`` or ``cluster``.
        """
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/minio/health/{kind}", timeout=10) as answer:
                status: int = answer.status
                return status
        except HTTPError as error:
            return error.code

    def kill(self) -> None:
        """
        End the server as a crash would: SIGKILL.
        """
        assert self._process is not None
        self._process.kill()
        self._process.wait(_STOP)

    def kill_and_wait(self) -> None:
        """
        End the server as a crash would, and wait until its workers have noticed and ended.
        """
        workers = self.workers()
        self.kill()
        deadline = time.monotonic() + _STOP
        while any(map(_lives, workers)):
            if time.monotonic() > deadline:
                raise AssertionError(f"the workers do not end:\n{self.log}")
            time.sleep(0.05)

    def stop(self) -> int:
        """
        Ask the server to stop and wait for it.

        :return: Its exit code.
        """
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server does not end:\n{self.log[-4000:]}") from None

    def _wait_until_live(self) -> None:
        assert self._process is not None
        if self.scheme == "https":
            self._wait_until(lambda: "Endpoint" in self.log)
        else:
            self._wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.health("live") == 200
        except (URLError, OSError):
            return False

    def _wait_until(self, done: Callable[[], bool]) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START
        while not done():
            if self._process.poll() is not None:
                code = self._process.returncode
                raise AssertionError(f"the server ended at once with {code}:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server does not answer:\n{self.log}")
            time.sleep(0.05)


def _lives(process: int) -> bool:
    """
    Whether a process runs; one that has ended may not have been taken notice of yet.
    """
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

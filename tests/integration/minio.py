# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A real MinIO for tests: where accounts and objects come from, and accounts go to.
"""

import ssl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from attrs import define, field

from tests.integration.server import base_environment
from tests.integration.tools import free_port, require

#: Who may do everything there.
OLD_ROOT = "oldroot"
OLD_SECRET = "oldroot-secret"

_START = 60.0
_STOP = 15.0


@define
class MinIOProcess:
    """
    A server on a free port, with its data in a directory of the test.

    :ivar settings: Beside the root credentials.
    :ivar certs: Has its certificate and key; ``None`` for plain HTTP.
    """

    directory: Path
    settings: Mapping[str, str] = field(factory=dict)
    certs: Path | None = None
    port: int = field(factory=free_port)
    _console: int = field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """
        The URL for S3 clients.
        """
        return f"{'http' if self.certs is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """
        Start the server and wait until it answers.

        :raises SkipTest: There is no MinIO.
        """
        program = require("minio")
        log = self.directory.with_suffix(".log")
        settings = {
            "MINIO_ROOT_USER": OLD_ROOT,
            "MINIO_ROOT_PASSWORD": OLD_SECRET,
            "MINIO_UPDATE": "off",
            "HOME": str(self.directory.parent),
            **self.settings,
        }
        certificates = () if self.certs is None else ("--certs-dir", self.certs)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    program,
                    "server",
                    "--quiet",
                    "--address",
                    f"127.0.0.1:{self.port}",
                    "--console-address",
                    f"127.0.0.1:{self._console}",
                    *certificates,
                    self.directory,
                ],
                env={**base_environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"MinIO does not answer:\n{log.read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """
        End the server, if it runs.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP)

    def _answers(self) -> bool:
        trust = None
        if self.certs is not None:
            trust = ssl.create_default_context(cafile=str(self.certs / "public.crt"))
        url = f"{self.endpoint}/minio/health/cluster"
        try:
            with urlopen(url, timeout=5, context=trust) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The servers that are measured, as processes on loopback.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from bench.client import Credentials

CREDENTIALS = Credentials("benchmark", "benchmark-secret-key")

#: One master key: 32 bytes of ASCII letters.
_STATIC_KEY = "bench-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="

_TICKS = os.sysconf("SC_CLK_TCK")

_NGINX = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;
user root;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{ listen 127.0.0.1:{port}; root {root}/files; }}
}}
"""


@frozen
class Server:
    """
    A running server.

    :ivar pid: The head of its process group.
    """

    name: str
    address: tuple[str, int]
    pid: int

    @property
    def host(self) -> str:
        """
        The value of the ``Host`` header.
        """
        return f"{self.address[0]}:{self.address[1]}"

    def cpu(self) -> float:
        """
        The CPU time of all its living processes so far, in seconds.
        """
        return sum((int(fields[11]) + int(fields[12])) / _TICKS for fields in self._processes())

    def memory(self) -> int:
        """
        The resident memory of all its processes, in bytes.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(fields[21]) * page for fields in self._processes())

    def _processes(self) -> Iterator[list[str]]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == self.pid:
                        yield fields


def free_port() -> int:
    """
    A free port below those that the kernel hands out by itself.
    """
    for port in random.sample(range(20000, 30000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


@contextlib.contextmanager
def kypello(root: Path) -> Iterator[Server]:
    """
    Run ``kypello server`` on an empty directory, with a static master key.
    """
    port = free_port()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MINIO_", "KYPELLO_", "AWS_"))
    }
    environment |= {
        "MINIO_ROOT_USER": CREDENTIALS.access_key,
        "MINIO_ROOT_PASSWORD": CREDENTIALS.secret_key,
        "MINIO_KMS_SECRET_KEY": _STATIC_KEY,
    }
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "kypello.cli", "server", "--address", address]
    with _running("kypello", [*command, str(root / "data")], port, root, environment) as server:
        yield server


def nginx_path() -> str | None:
    """
    Where nginx is installed; ``None`` when it is not.
    """
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def nginx(root: Path) -> Iterator[Server]:
    """
    Run nginx with one worker over the files in ``files`` below *root*.
    """
    path = nginx_path()
    assert path is not None
    port = free_port()
    configuration = root / "nginx.conf"
    configuration.write_text(_NGINX.format(root=root, port=port))
    command = [path, "-c", str(configuration), "-e", str(root / "nginx.log")]
    with _running("nginx", command, port, root, dict(os.environ)) as server:
        yield server


@contextlib.contextmanager
def _running(
    name: str, command: list[str], port: int, root: Path, environment: dict[str, str]
) -> Iterator[Server]:
    log = root / f"{name}.out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield Server(name, ("127.0.0.1", port), process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)

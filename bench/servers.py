# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The servers that are measured, as processes on loopback.
"""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from bench import processes
from bench.messages import Credentials

CREDENTIALS = Credentials("benchmark", "benchmark-secret-key")

#: One master key: 32 bytes of ASCII letters.
STATIC_KEY = {"MINIO_KMS_SECRET_KEY": "bench-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="}

_NGINX = """
daemon off; worker_processes {workers}; pid {root}/nginx.pid; error_log {root}/nginx.log;
user root; worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{ listen 127.0.0.1:{port}; root {root}/files; }}
}}
"""

_START, _STOP = 30, 20

_PR_SET_PDEATHSIG = 1


@frozen
class Server:
    """
    A running server.

    :ivar pid: The process whose descendants serve; ``None`` when it runs who knows where.
    """

    name: str
    address: tuple[str, int]
    pid: int | None

    @property
    def host(self) -> str:
        """
        The value of the ``Host`` header.
        """
        return f"{self.address[0]}:{self.address[1]}"

    def cpu(self) -> float | None:
        """
        The CPU time of all its processes so far, in seconds; ``None`` when nobody can tell.
        """
        return None if self.pid is None else processes.cpu(self.pid)

    def memory(self) -> int | None:
        """
        The proportional set size of all its processes, in bytes; ``None`` as above.
        """
        return None if self.pid is None else sum(processes.memory(self.pid).values())


def free_port() -> int:
    """
    A free port below those that the kernel hands out by itself.

    :raises OSError: None was found.
    """
    for port in random.sample(range(20000, 30000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


@contextlib.contextmanager
def kypello(
    data: Path, workers: int | None = None, kms: Mapping[str, str] = STATIC_KEY
) -> Iterator[Server]:
    """
    Run ``kypello server``.

    :param data: The data directory; what the server prints goes to a file beside it.
    :param workers: How many processes serve; ``None`` for what the server thinks best.
    :param kms: The settings of the KMS.
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
        **kms,
    }
    command = [sys.executable, "-m", "kypello.cli", "server", "--address", f"127.0.0.1:{port}"]
    if workers is not None:
        command += ["--workers", str(workers)]
    log = data.with_name(f"{data.name}.out")
    with running("kypello", [*command, str(data)], port, log, environment) as server:
        yield server


def nginx_path() -> str | None:
    """
    Where nginx is installed; ``None`` when it is not.
    """
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def nginx(root: Path, workers: int) -> Iterator[Server]:
    """
    Run nginx over the files in ``files`` below *root*.

    :param workers: How many processes serve.
    """
    path = nginx_path()
    assert path is not None
    port = free_port()
    configuration = root / "nginx.conf"
    configuration.write_text(_NGINX.format(root=root, port=port, workers=workers))
    command = [path, "-c", str(configuration), "-e", str(root / "nginx.log")]
    with running("nginx", command, port, root / "nginx.out", dict(os.environ)) as server:
        yield server


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """
    Run a server that listens on a port of loopback, and end it with all its processes.

    :param log: Where it prints to.
    :raises RuntimeError: It does not start.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # no other thread runs now
        )
    try:
        _wait(process, port, log)
        yield Server(name, ("127.0.0.1", port), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            print(f"{name} does not stop, and is killed", file=sys.stderr)
        # Its children are in its group, whatever became of it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_with_parent() -> None:
    """
    Called in a new process: be terminated when the run is killed, and cannot end its servers.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)

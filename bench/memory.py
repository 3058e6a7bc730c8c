# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What connections cost in memory: large streams, and those that are idle.
"""

import resource
from itertools import repeat

from bench.client import Client
from bench.messages import plain
from bench.objects import LARGE, uploads
from bench.pairs import Figure, Target
from bench.processes import Peak, memory
from bench.stage import Endpoint, Stage, transfer

_MIB = 1024 * 1024
_STREAMS = 32

_LIMIT = Target(300.0, 150.0, least=True)
_IDLE_LIMIT = Target(25.0, least=True)

#: Files that a process needs beside its connections.
_OTHER_FILES = 500


def streams(stage: Stage, ours: Endpoint) -> None:
    """
    The largest process with 32 uploads, and then with 32 downloads, of 64 MiB.
    """
    pid = ours.server.pid
    assert pid is not None
    idle = max(memory(pid).values()) / _MIB
    body = stage.random.randbytes(LARGE)
    puts = uploads(ours, body, _STREAMS)
    gets = [ours.message("GET", f"written/{number}") for number in range(_STREAMS)]
    for name, messages in (("PUT", puts), ("GET", gets)):
        with Peak(pid) as peak:
            transfer(ours.server, messages, LARGE, 2 * _STREAMS)
        stage.add(
            Figure(
                f"memory of a worker, {_STREAMS} encrypted {name}s of 64 MiB",
                peak.largest / _MIB,
                "MiB",
                _LIMIT,
                {"MiB before": idle, "MiB of all": peak.total / _MIB},
            )
        )


def idle_connections(stage: Stage, ours: Endpoint, count: int) -> None:
    """
    Connections that have sent a request and are kept alive.

    :param ours: A fresh server: what others have left free in its memory would hide the cost.
    :param count: How many; fewer if the system allows fewer files.
    """
    pid = ours.server.pid
    assert pid is not None
    count = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES)
    message = plain("GET", "/minio/health/live", ours.server.host)
    with Client(ours.server.address, 64) as client:
        # What the first connections bring to life serves all others.
        client.run(repeat(message, 1000))
    before = sum(memory(pid).values())
    with Client(ours.server.address, count) as client:
        client.run(repeat(message, count))
        cost = (sum(memory(pid).values()) - before) / count / 1024
    stage.add(Figure(f"{count} idle kept-alive connections", cost, "KiB each", _IDLE_LIMIT))


def allow_many_files() -> None:
    """
    Raise the limit of open files of this process, and of those that it starts, to what the
    system allows.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

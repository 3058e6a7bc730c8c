# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What all measurements share: the servers, how requests are sent, and where results go.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from random import Random

from attrs import define, field, frozen

from bench.client import Client, fetch
from bench.messages import Credentials, Message, signed
from bench.pairs import Figure, Result, Sample
from bench.processes import tree
from bench.servers import CREDENTIALS, Server, kypello, nginx, nginx_path

#: How many clients send small requests at once.
CLIENTS = 32

#: The headers that ask for encryption.
SSE_S3 = (("x-amz-server-side-encryption", "AES256"),)
SSE_KMS = (("x-amz-server-side-encryption", "aws:kms"),)


@frozen
class Endpoint:
    """
    A bucket of an S3 server, and who may use it.
    """

    server: Server
    credentials: Credentials
    bucket: str = "bench"

    def message(
        self,
        method: str,
        name: str = "",
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        digest: str | None = None,
    ) -> Message:
        """
        A signed request.

        :param name: Key, or query with its question mark; empty for the bucket itself.
        :param digest: As in :func:`bench.messages.signed`.
        """
        target = f"/{self.bucket}" + (name if name[:1] in ("", "?") else f"/{name}")
        return signed(
            self.credentials,
            method,
            target,
            self.server.host,
            body=body,
            headers=headers,
            digest=digest,
        )

    def ask(self, message: Message) -> tuple[bytes, bytes]:
        """
        Head and body of the answer.

        :raises RuntimeError: It is no success.
        """
        head, body = fetch(self.server.address, message)
        if not head.startswith(b"HTTP/1.1 2"):
            first = message.head.partition(b"\r\n")[0]
            raise RuntimeError(f"{self.server.name}: {first!r}: {head!r} {body!r}")
        return head, body

    def store(
        self, name: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = SSE_S3
    ) -> None:
        """
        Store an object.
        """
        self.ask(self.message("PUT", name, body, headers))

    def send(self, messages: Iterable[Message], clients: int = CLIENTS) -> float:
        """
        Send everything, and give the seconds it took.
        """
        with Client(self.server.address, clients) as client:
            return client.run(iter(messages))


@define
class Stage:
    """
    One run.

    :ivar root: A directory on the disk to measure.
    :ivar workers: How many processes shall serve; ``None`` for what the server thinks best.
    :ivar pairs: How often each pair is measured.
    """

    root: Path
    workers: int | None
    pairs: int
    results: list[Result | Figure] = field(factory=list)
    random: Random = field(factory=lambda: Random(1))

    @contextmanager
    def ours(self, name: str = "data") -> Iterator[Endpoint]:
        """
        Run Kypello on a data directory, which has a bucket afterwards.
        """
        with kypello(self.root / name, self.workers) as server:
            endpoint = Endpoint(server, CREDENTIALS)
            head, answer = fetch(server.address, endpoint.message("PUT"))
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 409")):
                raise RuntimeError(f"no bucket: {head!r} {answer!r}")
            yield endpoint

    @contextmanager
    def both(self) -> Iterator[tuple[Endpoint, Server | None]]:
        """
        Run Kypello, and nginx with as many workers if it is installed.
        """
        (self.root / "files").mkdir(exist_ok=True)
        with ExitStack() as stack:
            ours = stack.enter_context(self.ours())
            static = None
            if nginx_path() is not None:
                static = stack.enter_context(nginx(self.root, self.count(ours.server)))
            yield ours, static

    def count(self, server: Server) -> int:
        """
        How many processes serve: one without children, else those asked for, or one per core.
        """
        assert server.pid is not None
        if len(tree(server.pid)) == 1:
            return 1
        return self.workers or os.cpu_count() or 1

    def add(self, result: Result | Figure) -> None:
        """
        Keep a result, and show it.
        """
        self.results.append(result)
        print(result.line(), file=sys.stderr, flush=True)


def transfer(server: Server, messages: Sequence[Message], size: int, count: int) -> Sample:
    """
    Move large bodies, each message over a connection of its own, in GB/s.

    :param size: Of each body, in bytes.
    :param count: How often, all in all.
    """
    moved = size * count / 1e9
    with Client(server.address, len(messages)) as client:
        before = server.cpu()
        elapsed = client.run(islice(cycle(messages), count))
        return Sample(moved / elapsed, used(server, before, moved))


def rate(server: Server, messages: Sequence[Message], count: int, clients: int = CLIENTS) -> Sample:
    """
    Send small requests over many connections, per second.

    :param count: How many, all in all.
    """
    with Client(server.address, clients) as client:
        before = server.cpu()
        elapsed = client.run(islice(cycle(messages), count))
        return Sample(count / elapsed, used(server, before, count / 1e6))


def used(server: Server, before: float | None, amount: float) -> float | None:
    """
    The CPU time of a server since *before*, by an amount; ``None`` when nobody can tell.
    """
    after = server.cpu()
    return None if before is None or after is None else (after - before) / amount

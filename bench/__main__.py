# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``python -m bench``: measure ``kypello server`` against the limits of this machine.

Everything runs on loopback, in a temporary directory, for a bounded time.  The result is one JSON
document on standard output; progress goes to standard error.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import md5
from itertools import islice, repeat
from pathlib import Path
from random import Random
from time import perf_counter

from attrs import define, field

from bench.client import Client, Message, fetch, plain, signed
from bench.pairs import Result, Sample, compare
from bench.servers import CREDENTIALS, Server, kypello, nginx, nginx_path

_LARGE = 64 * 1024 * 1024
_SMALL = 4096
_BUCKET = "bench"
_ENCRYPTED = (("x-amz-server-side-encryption", "AES256"),)
_CLIENTS = 32


@define
class Bench:
    """
    One run.

    :ivar root: An empty directory on the disk to measure.
    :ivar server: Kypello.
    :ivar static: nginx over the same objects as plain files; ``None`` when it is not installed.
    """

    root: Path
    server: Server
    static: Server | None
    pairs: int
    listed: int
    results: list[Result] = field(factory=list)
    _random: Random = field(factory=lambda: Random(1))

    def message(
        self, method: str, target: str, body: bytes = b"", encrypted: bool = False
    ) -> Message:
        """
        A signed request.
        """
        headers = _ENCRYPTED if encrypted else ()
        return signed(CREDENTIALS, method, target, self.server.host, body=body, headers=headers)

    def store(self, target: str, body: bytes, encrypted: bool = True) -> None:
        """
        Store something, or fail.
        """
        head, answer = fetch(self.server.address, self.message("PUT", target, body, encrypted))
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{target}: {head!r} {answer!r}")

    def transfer(self, server: Server, message: Message, streams: int, rounds: int) -> Sample:
        """
        Move 64 MiB several times, in GB/s.
        """
        size = _LARGE * rounds / 1e9
        with Client(server.address, streams) as client:
            before = server.cpu()
            elapsed = client.run(repeat(message, rounds))
            return Sample(size / elapsed, (server.cpu() - before) / size)

    def rate(self, server: Server, messages: Callable[[], Iterator[Message]], count: int) -> Sample:
        """
        Send small requests over many connections, per second.
        """
        with Client(server.address, _CLIENTS) as client:
            before = server.cpu()
            elapsed = client.run(islice(messages(), count))
            return Sample(count / elapsed, (server.cpu() - before) / count * 1e6)

    def add(self, result: Result) -> None:
        """
        Keep a result, and show it.
        """
        self.results.append(result)
        cpu = "" if result.our_cpu is None else f", {result.our_cpu:.3g} {result.cpu_unit}"
        print(
            f"{result.name}: {result.ours:.4g} {result.unit}{cpu};"
            f" {result.ratio:.2f} of {result.reference} ({result.theirs:.4g})",
            file=sys.stderr,
            flush=True,
        )

    def large_objects(self) -> None:
        """
        64 MiB up and down, over one stream and over eight.
        """
        body = self._random.randbytes(_LARGE)
        target = f"/{_BUCKET}/large"
        self.store(target, body)
        head, stored = fetch(self.server.address, self.message("GET", target))
        if stored != body or b"aes256" not in head.lower():
            raise RuntimeError("what is read is not what was written, or not encrypted")
        if self.static is not None:
            (self.root / "files" / "large").write_bytes(body)
            static = self.static
            for streams, must, stretch in ((1, 0.75, 1.0), (8, 0.6, 0.8)):
                rounds = 8 * streams if streams == 1 else 3 * streams
                get = self.message("GET", target)
                file = plain("/large", static.host)
                self.add(
                    compare(
                        f"encrypted GET of 64 MiB, {streams} streams",
                        lambda: self.transfer(self.server, get, streams, rounds),  # noqa: B023
                        lambda: self.transfer(static, file, streams, rounds),  # noqa: B023
                        reference="nginx sendfile of plain files",
                        unit="GB/s",
                        cpu_unit="CPU s/GB",
                        pairs=self.pairs,
                        must=must,
                        stretch=stretch,
                    )
                )
        put = self.message("PUT", f"/{_BUCKET}/written", body, encrypted=True)
        for streams, must, stretch in ((1, 0.65, 0.8), (8, 0.75, 0.95)):
            self.add(
                compare(
                    f"encrypted, signed, durable PUT of 64 MiB, {streams} streams",
                    lambda: self.transfer(self.server, put, streams, 2 * streams),  # noqa: B023
                    lambda: _md5_limit(body),
                    reference="MD5 on one core",
                    unit="GB/s",
                    cpu_unit="CPU s/GB",
                    pairs=self.pairs,
                    must=must,
                    stretch=stretch,
                )
            )

    def small_objects(self) -> None:
        """
        4 KiB up and down, over 32 connections.
        """
        body = self._random.randbytes(_SMALL)
        keys = [f"/{_BUCKET}/small/{number:04}" for number in range(64)]
        for key in keys:
            self.store(key, body)
        gets = [self.message("GET", key) for key in keys]
        if self.static is not None:
            (self.root / "files" / "small").write_bytes(body)
            static = self.static
            file = plain("/small", static.host)
            self.add(
                compare(
                    "encrypted, signed GET of 4 KiB, 32 connections",
                    lambda: self.rate(self.server, lambda: _around(gets), 6000),
                    lambda: self.rate(static, lambda: repeat(file), 20_000),
                    reference="nginx, one worker",
                    unit="per s",
                    cpu_unit="CPU us each",
                    pairs=self.pairs,
                    must=0.30,
                    stretch=0.45,
                )
            )
        puts = [self.message("PUT", key, body, encrypted=True) for key in keys]
        self.add(
            compare(
                "encrypted, signed, durable PUT of 4 KiB, 32 connections",
                lambda: self.rate(self.server, lambda: _around(puts), 3000),
                lambda: _durable_files(self.root, body),
                reference="durable files, one thread",
                unit="per s",
                cpu_unit="CPU us each",
                pairs=self.pairs,
                must=2.0,
                stretch=4.0,
            )
        )

    def listing(self) -> dict[str, float]:
        """
        Pages of 1000 keys: milliseconds of time and of CPU, first page and middle page.
        """
        puts = (
            self.message("PUT", f"/{_BUCKET}/listed/{number:08}", b"x", encrypted=True)
            for number in range(self.listed)
        )
        with Client(self.server.address, _CLIENTS) as client:
            client.run(puts)
        times: dict[str, float] = {"keys": self.listed}
        middle = f"listed%2F{self.listed // 2:08}"
        for name, start in (("first", ""), ("middle", f"&start-after={middle}")):
            target = f"/{_BUCKET}?list-type=2&prefix=listed%2F{start}"
            page = self.message("GET", target)
            with Client(self.server.address, 1) as client:
                client.run(repeat(page, 3))
                before, rounds = self.server.cpu(), 40
                elapsed = client.run(repeat(page, rounds))
                times[f"{name} page, ms"] = round(elapsed / rounds * 1e3, 3)
                times[f"{name} page, CPU ms"] = round(
                    (self.server.cpu() - before) / rounds * 1e3, 3
                )
        return times


def _around(messages: list[Message]) -> Iterator[Message]:
    while True:
        yield from messages


def _md5_limit(body: bytes) -> Sample:
    started = perf_counter()
    for _ in range(3):
        md5(body, usedforsecurity=False).digest()
    return Sample(3 * len(body) / 1e9 / (perf_counter() - started))


def _durable_files(root: Path, body: bytes) -> Sample:
    """
    Create, write, sync, rename and sync the directory, one file after the other.
    """
    directory = root / "durable"
    directory.mkdir(exist_ok=True)
    count = 400
    folder = os.open(directory, os.O_RDONLY)
    started = perf_counter()
    for number in range(count):
        name = directory / f"{number}.new"
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.write(file, body)
        os.fdatasync(file)
        os.close(file)
        name.rename(directory / str(number))
        os.fsync(folder)
    elapsed = perf_counter() - started
    os.close(folder)
    return Sample(count / elapsed)


def main() -> None:
    """
    Run everything, or what was asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="how often each pair is measured")
    parser.add_argument("--listed", type=int, default=10_000, help="keys in the listed bucket")
    parser.add_argument("--directory", help="where to work (default: the temporary directory)")
    parser.add_argument(
        "--only", choices=("large", "small", "listing"), action="append", help="measure only this"
    )
    options = parser.parse_args()
    wanted = options.only or ["large", "small", "listing"]
    report: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "processor": platform.processor()},
        "python": platform.python_version(),
    }
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory, prefix="bench"))
        )
        (root / "files").mkdir()
        static = None
        if nginx_path() is None:
            report["nginx"] = "not installed: nothing to compare GET with"
            print(report["nginx"], file=sys.stderr)
        else:
            static = stack.enter_context(nginx(root))
        bench = Bench(
            root, stack.enter_context(kypello(root)), static, options.pairs, options.listed
        )
        bench.store(f"/{_BUCKET}", b"", encrypted=False)
        if "large" in wanted:
            bench.large_objects()
        if "small" in wanted:
            bench.small_objects()
        if "listing" in wanted:
            report["listing"] = bench.listing()
        report["memory"] = bench.server.memory()
        report["results"] = [result.as_json() for result in bench.results]
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

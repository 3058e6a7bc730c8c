# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``python -m bench``: measure Kypello against the limits of this machine, or against another server.

Everything runs on loopback, in a temporary directory, for a bounded time.  Progress goes to
standard error; the result is one JSON document on standard output, or in a file.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import NoReturn

from bench.authorization import decisions
from bench.keyserver import calls, generating
from bench.listing import listings
from bench.memory import allow_many_files, idle_connections, streams
from bench.objects import USUAL, large_objects, scaling, small_objects, unsigned_uploads
from bench.peer import against, peer_endpoint
from bench.servers import nginx_path
from bench.stage import CLIENTS, Stage


def large(stage: Stage, _options: argparse.Namespace) -> None:
    """
    64 MiB up and down, over one stream and over eight.
    """
    with stage.both() as (ours, static):
        large_objects(stage, ours, static, USUAL)
        unsigned_uploads(stage, ours)


def small(stage: Stage, _options: argparse.Namespace) -> None:
    """
    4 KiB up and down, over 32 connections.
    """
    with stage.both() as (ours, static):
        small_objects(stage, ours, static, CLIENTS)


def listing(stage: Stage, options: argparse.Namespace) -> None:
    """
    A bucket of very many keys.
    """
    listings(stage, options.keys)


def memory(stage: Stage, options: argparse.Namespace) -> None:
    """
    The memory of large streams, and of idle connections.
    """
    with stage.ours("idle") as ours:
        idle_connections(stage, ours, options.connections)
    with stage.ours() as ours:
        streams(stage, ours)


def keys(stage: Stage, _options: argparse.Namespace) -> None:
    """
    The key server, and how often it is asked.
    """
    calls(stage)
    generating(stage)


def authorization(stage: Stage, _options: argparse.Namespace) -> None:
    """
    Decisions by many policies.
    """
    decisions(stage)


def many(stage: Stage, _options: argparse.Namespace) -> None:
    """
    Large and small objects over 1 to 512 connections.
    """
    with stage.both() as (ours, static):
        scaling(stage, ours, static)


def peer(stage: Stage, options: argparse.Namespace) -> None:
    """
    The same work on another server.
    """
    with stage.ours() as ours:
        against(stage, ours, peer_endpoint(options.peer))


_GROUPS: dict[str, Callable[[Stage, argparse.Namespace], None]] = {
    "large": large,
    "small": small,
    "listing": listing,
    "memory": memory,
    "keys": keys,
    "authorization": authorization,
    "scaling": many,
}

#: What is left out unless it is asked for.
_EXTRA = frozenset({"scaling"})


def measure(stage: Stage, options: argparse.Namespace) -> None:
    """
    Measure what is asked for, or the whole table of targets.
    """
    if options.peer:
        peer(stage, options)
        return
    root = stage.root
    for name in options.only or [name for name in _GROUPS if name not in _EXTRA]:
        # Each with data of its own, and gone when the next begins.
        with tempfile.TemporaryDirectory(dir=root, prefix=name) as folder:
            stage.root = Path(folder)
            _GROUPS[name](stage, options)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Measure, and tell.
    """
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    allow_many_files()
    started = perf_counter()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench") as root:
        stage = Stage(Path(root), options.workers, options.pairs)
        measure(stage, options)
    report = {
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "python": platform.python_version(),
        "workers": options.workers,
        "nginx": nginx_path() is not None,
        "seconds": round(perf_counter() - started),
        "results": [result.as_json() for result in stage.results],
    }
    missed = [one["name"] for one in report["results"] if one.get("verdict") == "MISSED"]
    print(f"{report['seconds']} s; missed: {', '.join(missed) or 'nothing'}", file=sys.stderr)
    text = json.dumps(report, indent=2) + "\n"
    if options.json is None:
        sys.stdout.write(text)
    else:
        options.json.write_text(text)


def _end(*_arguments: object) -> NoReturn:
    # As an interrupt from the keyboard would: everything that was started is ended.
    raise SystemExit("terminated")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=_GROUPS, action="append", help="measure only this")
    parser.add_argument("--pairs", type=int, default=5, help="how often each pair is measured")
    parser.add_argument(
        "--keys", type=int, default=1_000_000, help="in the large bucket; default 1000000"
    )
    parser.add_argument(
        "--connections", type=int, default=10_000, help="how many idle ones; default 10000"
    )
    parser.add_argument("--workers", type=int, help="processes of the server (and of nginx)")
    parser.add_argument(
        "--peer",
        metavar="URL",
        help="compare with another S3 server instead; PEER_ACCESS_KEY and PEER_SECRET_KEY, or"
        " AWS's variables, are the credentials for it",
    )
    parser.add_argument("--directory", help="where to work (default: the temporary directory)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to a file")
    return parser


if __name__ == "__main__":
    main()

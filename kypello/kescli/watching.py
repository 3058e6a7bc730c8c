# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The commands that look at a key server itself: its status, its numbers, its logs.
"""

import json
import re
import sys
from typing import Any

from kypello.document import parse_duration
from kypello.kescli.command import CommandError, printable
from kypello.kescli.remote import Work, put, rows
from kypello.kms.wire import STATUS_PATH

_SAMPLE = re.compile(r'([a-z_:]+)(?:\{[^}]*?(?:le="([^"]+)")?[^}]*\})? ([0-9.eE+-]+)')
_NANOSECONDS = 1_000_000_000
#: Those that the original tells in nanoseconds.
_TIMES = ("kes_system_up_time",)
_HISTOGRAM = "kes_http_response_time"
_RULE = "{:<10}{:<8}{:<26}{:<18}{:<34}{}"


async def status(work: Work) -> None:
    """
    Tell how a server is.
    """
    options = work.options
    began = work.client.now()
    told = await work.client.ask("GET", STATUS_PATH)
    took = work.client.now() - began
    routes = await work.client.ask("GET", "/v1/api") if options.api else []
    if options.json:
        put({**told, "api": routes} if options.api else told)
        return
    print(f"● {work.client.target.endpoints[0].removeprefix('https://')}")
    if options.short:
        return
    rows(
        [
            ("  Version", told.get("version", "unknown")),
            ("  Uptime", _duration(told.get("uptime", 0))),
            ("  Latency", f"{took * 1000:.0f}ms"),
            ("  OS", told.get("os", "unknown")),
            ("  CPUs", f"{told.get('num_cpu', '?')} {told.get('arch', '')}"),
            ("  Memory", f"{told.get('mem_heap_used', 0) / 1e6:.1f}MB"),
            ("  Keystore", _keystore(told)),
        ]
    )
    if routes:
        print(f"\n  {'Method':<8}{'API':<32}Timeout")
    for one in routes:
        limit = f"{one['timeout']}s" if one.get("timeout") else "none"
        print(printable(f"  {one['method']:<8}{one['path']:<32}{limit}"))


def _keystore(told: dict[str, Any]) -> str:
    if told.get("keystore_unreachable"):
        return "NOT REACHABLE"
    if told.get("keystore_unavailable"):
        return "NOT AVAILABLE"
    return f"answers in {told.get('keystore_latency', '?')}ms"


def _duration(seconds: int) -> str:
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}"
    return f"{days} days {clock}" if days else clock


async def metric(work: Work) -> None:
    """
    Tell the numbers of a server, again and again.
    """
    rate = parse_duration(work.options.rate)
    if not rate:
        raise CommandError("--rate must be a duration such as 5s")
    while True:
        text = (await work.client.call("GET", "/v1/metrics")).decode("utf-8", "replace")
        if work.for_scripts:
            print(json.dumps(read_numbers(text), separators=(",", ":")), flush=True)
        else:
            numbers = read_numbers(text)
            rows([(name, value) for name, value in numbers.items() if name != _HISTOGRAM])
            print(flush=True)
        if work.options.once:
            return
        await work.client.wait(rate)


def read_numbers(text: str) -> dict[str, Any]:
    """
    Numbers in the shape that the original command prints them: sums over all labels, times in
    nanoseconds.

    :param text: In the format of Prometheus.
    """
    found: dict[str, Any] = {}
    histogram: dict[str, int] = {}
    for line in text.splitlines():
        sample = _SAMPLE.fullmatch(line)
        if sample is None or not sample.group(1).startswith("kes_"):
            continue
        name, limit, value = sample.group(1), sample.group(2), float(sample.group(3))
        if name == f"{_HISTOGRAM}_bucket":
            if limit not in (None, "+Inf"):
                histogram[str(round(float(limit) * _NANOSECONDS))] = int(value)
        elif not name.startswith(_HISTOGRAM):
            scale = _NANOSECONDS if name in _TIMES else 1
            found[name] = found.get(name, 0) + round(value * scale)
    return found | ({_HISTOGRAM: histogram} if histogram else {})


async def follow(work: Work) -> None:
    """
    Tell a log while it is written.

    :raises CommandError: The server has ended it.
    """
    kind = "error" if work.options.error else "audit"
    told = _Lines(kind, work.options.json or not sys.stdout.isatty())
    await work.client.follow(f"/v1/log/{kind}", told.hear)
    raise CommandError("the server has ended the log")


class _Lines:
    """
    Prints the lines of a log.
    """

    def __init__(self, kind: str, for_scripts: bool) -> None:
        """
        Begin with a title, for people.
        """
        self._kind = kind
        self._for_scripts = for_scripts
        self._rest = b""
        if kind == "audit" and not for_scripts:
            print(_RULE.format("Time", "Status", "Identity", "IP", "API", "Latency"), flush=True)

    def hear(self, part: bytes) -> None:
        """
        Print the lines that are whole now.
        """
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if text:
                print(printable(text if self._for_scripts else self._told(text)), flush=True)

    def _told(self, text: str) -> str:
        try:
            record = json.loads(text)
            if self._kind == "error":
                return str(record["message"]).strip()
            asked, answer = record["request"], record["response"]
            identity = asked["identity"]
            return _RULE.format(
                record["time"][11:19],
                answer["code"],
                f"{identity[:22]}..." if identity else "nobody",
                asked["ip"],
                asked["path"],
                f"{answer['time'] / 1e6:.1f}ms",
            )
        except (ValueError, KeyError, TypeError):
            return text

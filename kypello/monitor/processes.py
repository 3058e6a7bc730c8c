# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the processes of a server take from the machine, as Linux tells it in ``/proc``.

The figures of a process that has ended are those of its parent from then on, so that the sums do
not go back when a worker dies.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from kypello.monitor.text import Family, counter, gauge

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: How often figures are read again when a process has ended meanwhile.
_ATTEMPTS = 5

#: By the names that Linux has for them.
_IO = {
    "rchar": ("minio_node_io_rchar_bytes", "Bytes read, sockets and cached files included."),
    "wchar": ("minio_node_io_wchar_bytes", "Bytes written, sockets and cached files included."),
    "read_bytes": ("minio_node_io_read_bytes", "Bytes read from storage."),
    "write_bytes": ("minio_node_io_write_bytes", "Bytes written to storage."),
    "syscr": ("minio_node_syscall_read_total", "System calls that read."),
    "syscw": ("minio_node_syscall_write_total", "System calls that write."),
}


@frozen
class _Process:
    """
    A process.

    :ivar parent: Its process id.
    :ivar cpu: Seconds that it and its children that have ended took.
    :ivar ended: Those of the children alone.
    :ivar started: In seconds since the machine was started.
    :ivar resident: Bytes of memory.
    :ivar files: How many are open; with :attr:`limit` ``None`` when it is not told.
    :ivar io: By the names of Linux.
    """

    parent: int
    cpu: float
    ended: float
    started: float
    resident: int
    files: int | None
    limit: int | None
    io: Mapping[str, int]


def process_series(main: int, others: Iterable[int], now: float) -> list[Family]:
    """
    The sums of all processes; blocking.  What Linux does not tell is left out.

    :param main: The process id of the one that was started first.
    :param others: Those of its children; what is none of them is left out.
    :param now: Seconds since the epoch.
    """
    found = _stable(main, [pid for pid in others if pid != main])
    if not found:
        return []
    uptime = now - _boot_time() - found[0].started
    families = [
        counter(
            "minio_node_process_cpu_total_seconds",
            "Processor time of all processes.",
            sum(one.cpu for one in found),
        ),
        gauge(
            "minio_node_process_resident_memory_bytes",
            "Memory of all processes, what they share counted for each.",
            sum(one.resident for one in found),
        ),
        gauge(
            "minio_node_process_starttime_seconds",
            "When the server was started, in seconds since the epoch.",
            now - uptime,
        ),
        gauge("minio_node_process_uptime_seconds", "How long the server has run.", uptime),
        gauge("kypello_processes", "Processes of the server.", len(found)),
    ]
    files = [one.files for one in found if one.files is not None]
    limits = [one.limit for one in found if one.limit is not None]
    if len(files) == len(limits) == len(found):
        families += [
            gauge("minio_node_file_descriptor_open_total", "Open files.", sum(files)),
            gauge("minio_node_file_descriptor_limit_total", "Most open files.", sum(limits)),
        ]
    families += [
        counter(name, text, sum(one.io[word] for one in found))
        for word, (name, text) in _IO.items()
        if all(word in one.io for one in found)
    ]
    return families


def machine_series() -> list[Family]:
    """
    The load and the memory of the machine; blocking.
    """
    families = [
        gauge(f"minio_node_cpu_avg_load{minutes}", f"Load of the last {minutes} minutes.", load)
        for minutes, load in zip((1, 5, 15), os.getloadavg(), strict=True)
    ]
    told = _numbers((_PROC / "meminfo").read_text())
    for word, name in (("MemTotal", "total"), ("MemFree", "free"), ("MemAvailable", "available")):
        if word in told:
            text = f"Memory of the machine: {name}."
            families.append(gauge(f"minio_node_mem_{name}", text, told[word] * 1024))
    return families


def _stable(main: int, others: list[int]) -> list[_Process]:
    """
    The figures of all of them at one time: not those of a child by itself and by its parent.
    """
    for _ in range(_ATTEMPTS):
        before = _read(main)
        children = [one for pid in others if (one := _read(pid)) is not None]
        after = _read(main)
        if before is None or after is None:
            break
        if before.ended == after.ended:
            return [after, *(one for one in children if one.parent == main)]
    return []


def _read(pid: int) -> _Process | None:
    folder = _PROC / str(pid)
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    files = limit = None
    io: Mapping[str, int] = {}
    # Of a process that was started with other rights these are not told.
    with suppress(OSError):
        io = _numbers((folder / "io").read_text())
    with suppress(OSError, StopIteration, ValueError):
        files = len(os.listdir(folder / "fd"))
        lines = (folder / "limits").read_text().splitlines()
        limit = int(next(line for line in lines if line.startswith("Max open files")).split()[3])
    return _Process(
        parent=int(fields[1]),
        cpu=sum(map(int, fields[11:15])) / _TICKS,
        ended=sum(map(int, fields[13:15])) / _TICKS,
        started=int(fields[19]) / _TICKS,
        resident=int(fields[21]) * _PAGE,
        files=files,
        limit=limit,
        io=io,
    )


def _numbers(text: str) -> dict[str, int]:
    """
    Lines of a name, a colon and a number.
    """
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: int(rest.split()[0]) for name, _colon, rest in pairs if rest.strip()}


def _boot_time() -> float:
    lines = (_PROC / "stat").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("btime ")).split()[1])

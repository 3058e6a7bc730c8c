# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a process and its descendants have used of CPU and memory; Linux alone tells.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from attrs import define, field

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")

#: How often the memory is looked at, in seconds.
_PERIOD = 0.05

_LISTENING = "0A"


def tree(root: int) -> list[int]:
    """
    A process and all its living descendants.
    """
    children: dict[int, list[int]] = {}
    for pid, fields in _processes():
        children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found


def cpu(root: int) -> float:
    """
    The CPU time of a process and its descendants, ended ones too, in seconds.
    """
    family = set(tree(root))
    # utime, stime, and those of children that were waited for.
    return sum(
        sum(map(int, fields[11:15])) / _TICKS for pid, fields in _processes() if pid in family
    )


def memory(root: int) -> dict[int, int]:
    """
    The proportional set size of a process and each of its descendants, in bytes.
    """
    sizes: dict[int, int] = {}
    for pid in tree(root):
        with suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    sizes[pid] = int(line.split()[1]) * 1024
    return sizes


def listener(port: int) -> int | None:
    """
    The eldest process of this machine that listens on a port; ``None`` if none can be seen.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for pid in sorted(pid for pid, _ in _processes()):
        with suppress(OSError):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                if os.readlink(descriptor) in sockets:
                    return pid
    return None


def _listening(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            # It may end meanwhile.
            with suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


@define(eq=False)
class Peak:
    """
    The most memory of a process and its descendants while a block runs, in bytes.

    :ivar largest: Of one process.
    :ivar total: Of all at once.
    """

    _root: int
    largest: int = 0
    total: int = 0
    _over: Event = field(factory=Event)
    _watcher: Thread = field(init=False)

    def __enter__(self) -> "Peak":
        """
        Begin to look.
        """
        self._watcher = Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """
        Look no more.
        """
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            sizes = memory(self._root).values()
            self.largest = max(self.largest, *sizes, 0)
            self.total = max(self.total, sum(sizes))
            if self._over.wait(_PERIOD):
                return

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where processes of the model keep their data, and how to get at it without a reactor.
"""

import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from kypello.interfaces import IBlobs, IIndex
from kypello.store.files import FileBlobs
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.sqlite import SQLiteIndex
from kypello.testing.fakes import InlineLanes


class Seams(Protocol):
    """
    Where the processes keep their data.
    """

    def open(self) -> tuple[IIndex, IBlobs]:
        """
        The seams of one process.
        """

    def close(self) -> None:
        """
        Release everything.
        """


@define(eq=False)
class MemorySeams:
    """
    Data in memory.
    """

    _seams: tuple[MemoryIndex, MemoryBlobs] = field(factory=lambda: (MemoryIndex(), MemoryBlobs()))

    def open(self) -> tuple[IIndex, IBlobs]:
        """
        The same for all.
        """
        return self._seams

    def close(self) -> None:
        """
        There is nothing to release.
        """


@define(eq=False)
class DiskSeams:
    """
    Data in a directory, where a process has connections and files of its own.
    """

    path: Path
    _open: list[SQLiteIndex] = field(init=False, factory=list)

    def open(self) -> tuple[IIndex, IBlobs]:
        """
        New ones; those of dead processes stay as they are.
        """
        for name in ("index", "blobs"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        index = SQLiteIndex(self.path / "index", InlineLanes())
        self._open.append(index)
        return index, FileBlobs(self.path / "blobs", InlineLanes())

    def close(self) -> None:
        """
        Close the databases, and the files that dead processes have left open.
        """
        for index in self._open:
            drive(index.close())
        for link in list(Path("/proc/self/fd").iterdir()):
            if link.is_symlink() and link.readlink().is_relative_to(self.path.absolute()):
                os.close(int(link.name))


def drive(work: Coroutine[Any, Any, Any]) -> Any:
    """
    Do something that waits for nothing.
    """
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result

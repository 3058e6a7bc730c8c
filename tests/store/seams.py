# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where processes of the model keep their data, and how to get at it without a reactor.
"""

import os
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from kypello.interfaces import IBlobs, IIndex
from kypello.store.files import FileBlobs
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.sqlite import SQLiteIndex
from kypello.testing.fakes import InlineLanes
from tests.store.device import DeviceCalls, DeviceVFS
from tests.store.powercut import PowerCutDevice


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

    def __attrs_post_init__(self) -> None:
        """
        Make the directory.
        """
        for name in ("index", "blobs"):
            (self.path / name).mkdir(parents=True)

    def open(self) -> tuple[IIndex, IBlobs]:
        """
        New ones; those of dead processes stay as they are.
        """
        index = SQLiteIndex(self.path / "index", InlineLanes())
        self._open.append(index)
        return index, FileBlobs(self.path / "blobs", InlineLanes())

    def close(self) -> None:
        """
        Close the databases, and the files that dead processes have left open.
        """
        for index in self._open:
            drive(index.close())
        close_files(self.path)


@define(eq=False)
class PowerCutSeams:
    """
    Data on a disk whose power can be cut.

    :ivar _path: Holds a directory for each time that there is power.
    :ivar device: The disk.
    """

    _path: Path
    device: PowerCutDevice = field(init=False)
    _cuts: int = field(init=False, default=0)
    _vfs: list[DeviceVFS] = field(init=False, factory=list)
    _open: list[SQLiteIndex] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        """
        Make the directory, durably.
        """
        root = self._path / "0"
        for name in ("index", "blobs"):
            (root / name).mkdir(parents=True)
        self._use(PowerCutDevice(root))
        for name in ("index", "blobs"):
            self.device.after("make_directory", root / name, 0, b"")
        self.device.directory(root).sync()

    def open(self) -> tuple[IIndex, IBlobs]:
        """
        New ones; those of dead processes stay as they are.
        """
        lanes, calls = InlineLanes(), DeviceCalls(self.device)
        root = self.device.root
        index = SQLiteIndex(root / "index", lanes, connect=self._vfs[-1].connect, calls=calls)
        self._open.append(index)
        return index, FileBlobs(root / "blobs", lanes, calls)

    def cut(self, chance: Random) -> None:
        """
        Cut the power.
        """
        self._cuts += 1
        self._use(self.device.cut(chance, self._path / f"{self._cuts}"))

    def close(self) -> None:
        """
        Close everything.
        """
        self.device.failing = False
        for index in self._open:
            drive(index.close())
        close_files(self._path)
        for vfs in self._vfs:
            vfs.close()

    def _use(self, device: PowerCutDevice) -> None:
        self.device = device
        self._vfs.append(DeviceVFS(device))


def close_files(root: Path) -> None:
    """
    Close what dead processes have left open below *root*.
    """
    for link in list(Path("/proc/self/fd").iterdir()):
        if link.is_symlink() and link.readlink().is_relative_to(root.absolute()):
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

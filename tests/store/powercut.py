# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A disk that keeps what was synced, when its power is cut, and of the rest what chance wants.

What a file holds is durable after a sync of it, what names there are after one of their
directory.  Before, any of it may be on the disk, or a part of it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from attrs import define, field

from tests.store.device import Device

#: One change of a file.
Change = Callable[[bytearray], None]


@define(eq=False)
class _File:
    """
    The content of one file, whatever its name.

    :ivar durable: What is on the disk.
    :ivar waiting: Changes that may be, or not.
    """

    durable: bytearray = field(factory=bytearray)
    waiting: list[Change] = field(factory=list)

    def sync(self) -> None:
        """
        Make all of it durable.
        """
        for change in self.waiting:
            change(self.durable)
        self.waiting.clear()

    def cut(self, chance: Random) -> bytes:
        """
        What is left when the power is cut: of what waits, some.
        """
        left = bytearray(self.durable)
        for change in self.waiting:
            if chance.random() < 0.5:
                change(left)
        return bytes(left)


def _writing(data: bytes, offset: int, size: int) -> Change:
    def change(content: bytearray) -> None:
        """
        Write it; what is left out before it is zero.
        """
        content.extend(bytes(max(0, offset + size - len(content))))
        content[offset : offset + size] = data[:size]

    return change


def _truncating(size: int) -> Change:
    def change(content: bytearray) -> None:
        """
        Cut it.
        """
        del content[size:]

    return change


@define(eq=False)
class _Directory:
    """
    The names in one directory; ``None`` for a directory below it.

    :ivar waiting: Changes of a name that may be on the disk: in the order of their making, as
        far as they are.
    """

    now: dict[str, _File | None] = field(factory=dict)
    durable: dict[str, _File | None] = field(factory=dict)
    waiting: list[tuple[str, _File | None, bool]] = field(factory=list)

    def change(self, name: str, file: _File | None, there: bool) -> None:
        """
        Add or remove a name.
        """
        self._apply(self.now, name, file, there)
        self.waiting.append((name, file, there))

    def sync(self) -> None:
        """
        Make all names durable.
        """
        for change in self.waiting:
            self._apply(self.durable, *change)
        self.waiting.clear()

    def cut(self, chance: Random) -> dict[str, _File | None]:
        """
        The names that are left.
        """
        left = dict(self.durable)
        for change in self.waiting[: chance.randrange(len(self.waiting) + 1)]:
            self._apply(left, *change)
        return left

    def _apply(
        self, names: dict[str, _File | None], name: str, file: _File | None, there: bool
    ) -> None:
        if there:
            names[name] = file
        else:
            names.pop(name, None)


@define(eq=False)
class PowerCutDevice(Device):
    """
    Notes what is durable.

    :ivar failing: Whether syncs of files fail.  What they should have made durable is then on
        the disk or not, and no later sync changes that, although it can be read.
    """

    root: Path
    failing: bool = False
    _directories: dict[Path, _Directory] = field(init=False, factory=dict)
    _chance: Random = field(init=False, factory=lambda: Random(1))

    def directory(self, path: Path) -> _Directory:
        """
        What is noted of a directory.
        """
        return self._directories.setdefault(path, _Directory())

    def before(self, call: str, path: Path, offset: int) -> None:
        """
        Fail to sync, if that is wanted.
        """
        if call == "sync" and self.failing:
            file = self._file(path)
            file.durable = bytearray(file.cut(self._chance))
            file.waiting.clear()
            raise OSError(5, "Input/output error")

    def after(self, call: str, path: Path, offset: int, data: bytes) -> None:
        """
        Note a change.
        """
        # What lies in shared memory is made anew after a crash.
        if path.suffix == ".sqlite-shm" or path.name in ("reserve", "lock"):
            return
        names = self.directory(path.parent)
        match call:
            case "make":
                names.change(path.name, _File(), True)
            case "open" if path.name not in names.now:
                names.change(path.name, _File(), True)
            case "make_directory":
                names.change(path.name, None, True)
            case "write":
                self._file(path).waiting += self._pieces(data, offset)
            case "truncate":
                self._file(path).waiting.append(_truncating(offset))
            case "sync":
                self._file(path).sync()
                if path.name.endswith(("-wal", "-journal")):
                    # SQLite syncs the directory when it syncs such a file first.
                    names.sync()
            case "sync_directory":
                self.directory(path).sync()
            case "rename":
                new = Path(os.fsdecode(data))
                file = self._file(path)
                names.change(new.name, file, True)
                names.change(path.name, None, False)
            case "unlink":
                if path.name in names.now:
                    names.change(path.name, None, False)

    def cut(self, chance: Random, into: Path) -> "PowerCutDevice":
        """
        Cut the power: make a directory of what is left, on a disk of its own.
        """
        other = PowerCutDevice(into)
        self._restore(self.root, into, other, chance)
        return other

    def _restore(self, old: Path, new: Path, other: "PowerCutDevice", chance: Random) -> None:
        new.mkdir(mode=0o700, exist_ok=True)
        names = self.directory(old).cut(chance)
        for name, file in names.items():
            if file is None:
                self._restore(old / name, new / name, other, chance)
                copied = None
            else:
                content = file.cut(chance)
                (new / name).write_bytes(content)
                copied = _File(bytearray(content))
            directory = other.directory(new)
            directory.change(name, copied, True)
            directory.sync()

    def _pieces(self, data: bytes, offset: int) -> list[Change]:
        """
        A write as the device may do it, or leave it: sector by sector.
        """
        return [
            _writing(data[at : at + 512], offset + at, len(data[at : at + 512]))
            for at in range(0, len(data), 512)
        ]

    def _file(self, path: Path) -> _File:
        file = self.directory(path.parent).now[path.name]
        assert file is not None, path
        return file

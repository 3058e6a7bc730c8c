# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a disk is asked to do, by blobs and by SQLite, under the eyes and hands of a test.

SQLite reaches the system through a *VFS*, a table of functions.  Here is one that asks the test
before it calls those of the system, and tells it afterwards.
"""

import ctypes
import errno
import os
import sqlite3
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from attrs import define, field

from kypello.model import Buffer
from kypello.store.filecalls import FileCalls
from tests.integration import tools

_OK, _FULL, _CANTOPEN = sqlite3.SQLITE_OK, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN
_ERRORS = {
    "open": _CANTOPEN,
    "read": sqlite3.SQLITE_IOERR_READ,
    "write": sqlite3.SQLITE_IOERR_WRITE,
    "sync": sqlite3.SQLITE_IOERR_FSYNC,
    "truncate": sqlite3.SQLITE_IOERR_TRUNCATE,
    "unlink": sqlite3.SQLITE_IOERR_DELETE,
}

#: The functions of an open file and of a VFS, in the order of SQLite's documented structures.
_METHODS = (
    *("close", "read", "write", "truncate", "sync", "size", "lock", "unlock", "reserved"),
    *("control", "sector", "characteristics", "shm_map", "shm_lock", "shm_barrier"),
    *("shm_unmap", "fetch", "unfetch"),
)
_FUNCTIONS = (
    *("open", "unlink", "access", "full_path", "dl_open", "dl_error", "dl_sym", "dl_close"),
    *("random", "sleep", "time", "last_error", "time64", "set_call", "get_call", "next_call"),
)

_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


class _Methods(ctypes.Structure):
    """
    ``sqlite3_io_methods``.
    """

    _fields_ = (("version", _I), *((name, _P) for name in _METHODS))


class _File(ctypes.Structure):
    """
    ``sqlite3_file``.
    """

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class _VFS(ctypes.Structure):
    """
    ``sqlite3_vfs``.
    """

    _fields_ = (
        ("version", _I),
        ("file_size", _I),
        ("path_size", _I),
        ("next", _P),
        ("name", ctypes.c_char_p),
        ("data", _P),
        *((name, _P) for name in _FUNCTIONS),
    )


# SQLite keeps the address of a name, so that it must not come as a copy.
_OPEN = ctypes.CFUNCTYPE(_I, _P, _P, ctypes.POINTER(_File), _I, _P)
_UNLINK = ctypes.CFUNCTYPE(_I, _P, _P, _I)
_TRANSFER = ctypes.CFUNCTYPE(_I, _P, _P, _I, _L)
_TRUNCATE = ctypes.CFUNCTYPE(_I, _P, _L)
_SYNC = ctypes.CFUNCTYPE(_I, _P, _I)


class Device:
    """
    A disk that does what it is asked to; tests derive others.
    """

    def before(self, call: str, path: Path, offset: int) -> None:
        """
        A call is about to be made.

        :param call: ``make``, ``make_directory``, ``write``, ``allocate``, ``read``, ``sync``,
            ``truncate``, ``sync_directory``, ``rename``, ``unlink``, or SQLite's ``open``.
        :raises OSError: It fails with that.
        """

    def after(self, call: str, path: Path, offset: int, data: bytes) -> None:
        """
        A call was made.

        :param data: What was written; the new name of what was renamed.
        """


@define
class DeviceCalls(FileCalls):
    """
    The calls of the system, under the eyes of a device.
    """

    _device: Device

    def make(self, path: Path) -> int:
        """
        Make a file.
        """
        return self._do("make", path, super().make, path)

    def make_directory(self, path: Path) -> None:
        """
        Make a directory.
        """
        if not path.is_dir():
            self._do("make_directory", path, super().make_directory, path)

    def write(self, descriptor: int, data: Buffer, offset: int) -> int:
        """
        Write at most 50 000 bytes.
        """
        piece = bytes(memoryview(data)[:50_000])
        return self._do(
            "write",
            _path(descriptor),
            super().write,
            descriptor,
            piece,
            offset,
            at=offset,
            data=piece,
        )

    def read(self, descriptor: int, into: Buffer, offset: int) -> int:
        """
        Read.
        """
        return self._do("read", _path(descriptor), super().read, descriptor, into, offset)

    def read_cached(self, descriptor: int, into: Buffer, offset: int) -> int:
        """
        Have nothing in memory.
        """
        return 0

    def allocate(self, descriptor: int, size: int) -> None:
        """
        Make room.
        """
        self._do("allocate", _path(descriptor), super().allocate, descriptor, size)

    def sync(self, descriptor: int) -> None:
        """
        Sync a file.
        """
        self._do("sync", _path(descriptor), super().sync, descriptor)

    def begin_sync(self, descriptor: int, offset: int, size: int) -> None:
        """
        Take no hint.
        """

    def sync_directory(self, path: Path) -> None:
        """
        Sync a directory.
        """
        self._do("sync_directory", path, super().sync_directory, path)

    def rename(self, old: Path, new: Path) -> None:
        """
        Rename a file.
        """
        self._do("rename", old, super().rename, old, new, data=os.fsencode(new))

    def unlink(self, path: Path) -> None:
        """
        Remove a file.
        """
        self._do("unlink", path, super().unlink, path)

    def _do(
        self,
        call: str,
        path: Path,
        work: Callable[..., Any],
        *arguments: object,
        at: int = 0,
        data: bytes = b"",
    ) -> Any:
        self._device.before(call, path, at)
        result = work(*arguments)
        self._device.after(call, path, at, data)
        return result


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


@define(eq=False)
class DeviceVFS:
    """
    Opens SQLite databases under the eyes of a device.

    :ivar _paths: Of the open files, by address.
    :ivar _kept: What SQLite refers to.
    """

    _device: Device
    _sqlite: ctypes.CDLL = field(init=False)
    _name: str = field(init=False)
    _paths: dict[int, Path] = field(init=False, factory=dict)
    _patched: dict[int, Any] = field(init=False, factory=dict)
    _kept: list[Any] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        """
        Tell SQLite of it.
        """
        library = find_library("sqlite3")
        with open("/proc/self/maps", encoding="utf-8") as maps:
            if library is None or library not in maps.read():
                # Python has one of its own inside, whose functions cannot be reached.
                tools.missing("libsqlite3-0")
        self._sqlite = ctypes.CDLL(library)
        self._sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_VFS)
        original = self._sqlite.sqlite3_vfs_find(None).contents
        vfs = _VFS.from_buffer_copy(original)
        self._name = f"device-{id(self):x}"
        vfs.name = self._name.encode()
        vfs.open = self._keep(_OPEN, self._opening(_OPEN(original.open)))
        vfs.unlink = self._keep(_UNLINK, self._unlinking(_UNLINK(original.unlink)))
        self._kept.append(vfs)
        assert self._sqlite.sqlite3_vfs_register(ctypes.byref(vfs), 0) == _OK

    def close(self) -> None:
        """
        Have SQLite forget it, when all its databases are closed.
        """
        self._sqlite.sqlite3_vfs_unregister(ctypes.byref(self._kept[-1]))

    def connect(self, database: str, **options: Any) -> sqlite3.Connection:
        """
        Do as ``sqlite3.connect`` does.

        :param database: A URI with a query.
        """
        return sqlite3.connect(f"{database}&vfs={self._name}", **options)

    def _keep(self, kind: Any, function: Callable[..., int]) -> int | None:
        kept = kind(function)
        self._kept.insert(0, kept)
        return ctypes.cast(kept, _P).value

    def _do(
        self, call: str, path: Path, work: Callable[[], int], at: int = 0, data: bytes = b""
    ) -> int:
        try:
            self._device.before(call, path, at)
        except OSError as error:
            # As SQLite tells errors of the system: it knows but one that says "full".
            full = call == "write" and error.errno == errno.ENOSPC
            return _FULL if full else _ERRORS[call]
        code = work()
        if code == _OK:
            self._device.after(call, path, at, data)
        return code

    def _opening(self, original: Any) -> Callable[..., int]:
        def opening(vfs: int, name: int | None, file: Any, flags: int, out: int) -> int:
            """
            Open a file, and have its functions lead here.
            """
            path = Path(os.fsdecode(ctypes.string_at(name) if name else b""))
            code = self._do("open", path, lambda: int(original(vfs, name, file, flags, out)))
            if code == _OK:
                self._paths[ctypes.addressof(file.contents)] = path
                file.contents.methods = self._patch(file.contents.methods)
            return code

        return opening

    def _unlinking(self, original: Any) -> Callable[..., int]:
        def unlinking(vfs: int, name: int, durably: int) -> int:
            """
            Remove a file.
            """
            path = Path(os.fsdecode(ctypes.string_at(name)))
            code = self._do("unlink", path, lambda: int(original(vfs, name, durably)))
            if durably and code == _OK:
                self._device.after("sync_directory", path.parent, 0, b"")
            return code

        return unlinking

    def _patch(self, methods: Any) -> Any:
        address = ctypes.addressof(methods.contents)
        if address not in self._patched:
            original = methods.contents
            patched = _Methods.from_buffer_copy(original)
            for name, kind in (
                ("read", _TRANSFER),
                ("write", _TRANSFER),
                ("truncate", _TRUNCATE),
                ("sync", _SYNC),
            ):
                function = self._method(name, kind(getattr(original, name)))
                setattr(patched, name, self._keep(kind, function))
            self._kept.insert(0, patched)
            self._patched[address] = ctypes.pointer(patched)
        return self._patched[address]

    def _method(self, name: str, original: Any) -> Callable[..., int]:
        def method(file: int, *arguments: Any) -> int:
            """
            Do one thing with an open file.
            """
            data, at = b"", 0
            if name in ("read", "write"):
                at = arguments[2]
            elif name == "truncate":
                at = arguments[0]
            if name == "write":
                data = ctypes.string_at(arguments[0], arguments[1])
            work = lambda: int(original(file, *arguments))  # noqa: E731
            return self._do(name, self._paths[file], work, at, data)

        return method

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The calls of the operating system that blobs and the index depend on.

They can fail, and what they write is durable only after a sync: of a file for its content, of a
directory for the names in it.  All of them block, and raise :class:`OSError`.
"""

import ctypes
import os
from pathlib import Path
from typing import Any

from kypello.model import Buffer

_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)


class FileCalls:
    """
    The calls as they are; tests pass in others.
    """

    def make(self, path: Path) -> int:
        """
        Make a file that nobody else may read; its descriptor, for writing.
        """
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def make_directory(self, path: Path) -> None:
        """
        Make a directory that nobody else may read, unless there is one.
        """
        path.mkdir(mode=0o700, exist_ok=True)

    def write(self, descriptor: int, data: Buffer, offset: int) -> int:
        """
        Write some of *data*; how much.
        """
        return os.pwrite(descriptor, data, offset)

    def read(self, descriptor: int, into: Buffer, offset: int) -> int:
        """
        Read into a buffer; how much, 0 at the end of the file.
        """
        return os.preadv(descriptor, [into], offset)

    def read_cached(self, descriptor: int, into: Buffer, offset: int) -> int:
        """
        Read into a buffer what is in memory already; how much, 0 for nothing.
        """
        try:
            return os.preadv(descriptor, [into], offset, os.RWF_NOWAIT)
        except OSError:
            # It would block, or the file system does not know: a lane reads it then.
            return 0

    def allocate(self, descriptor: int, size: int) -> None:
        """
        See that a file has room for so many bytes; what is new in it is zero.
        """
        os.posix_fallocate(descriptor, 0, size)

    def sync(self, descriptor: int) -> None:
        """
        Make the content of a file durable.
        """
        os.fdatasync(descriptor)

    def begin_sync(self, descriptor: int, offset: int, size: int) -> None:
        """
        Ask for a range to be written to the device soon, so that the sync at the end is short.

        Where the system has no such call, that sync does all.
        """
        if _sync_file_range is not None:
            _sync_file_range(
                descriptor,
                ctypes.c_int64(offset),
                ctypes.c_int64(size),
                ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
            )

    def sync_directory(self, path: Path) -> None:
        """
        Make the names in a directory durable.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """
        Give a file another name in its directory.
        """
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """
        Remove a name; one that is absent is removed already.
        """
        path.unlink(missing_ok=True)

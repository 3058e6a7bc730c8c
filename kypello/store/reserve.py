# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Room on the disk that is kept for deleting.

To delete takes room: the index writes ahead what it changes.  So a file takes some while the disk
has it.  When a deletion finds no room, a piece of it is given up; and until it can be made whole
again nothing is stored, so that what filled the disk does not take this room, too.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from kypello.errors import StorageFull
from kypello.store.filecalls import FileCalls

#: How much is kept, in bytes, and at most which part of the disk: SQLite moves what it wrote
#: ahead into its database after some 4 MiB, and begins anew in the same place.
SIZE, _PART = 6 * 1024 * 1024, 8

#: In how many pieces it is given up: somebody else may be quicker to use one.
_PIECES = 4

#: How much must be there for the disk not to be full, in bytes.
_SOME = 128 * 1024

#: What the system says when there is no room: none on the disk, or none for us.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@define(eq=False)
class Reserve:
    """
    The room that is kept for all databases of an index, by a file; all processes share it.

    :ivar _kept: How much this process has seen kept last, in bytes.
    """

    _path: Path
    _calls: FileCalls
    _kept: int = field(init=False, default=0)

    def keep(self) -> None:
        """
        See that the room is there; takes some microseconds when it is.

        :raises StorageFull: The disk has no room; nothing may be stored.
        :raises OSError: The file cannot be used.
        """
        if not self._whole() and not self._allocate(0):
            raise StorageFull()

    def give(self) -> bool:
        """
        Give some of the room up.

        :return: Whether there was any.
        :raises OSError: The file cannot be used.
        """
        with self._locked() as descriptor:
            left = os.fstat(descriptor).st_size
            os.ftruncate(descriptor, max(0, left - self._size() // _PIECES))
            return left > 0

    def full(self) -> bool:
        """
        Whether the disk has no room at the moment.

        :raises OSError: The file cannot be used.
        """
        return not self._allocate(_SOME)

    def _whole(self) -> bool:
        try:
            return 0 < self._kept <= os.stat(self._path).st_size
        except FileNotFoundError:
            return False

    def _size(self) -> int:
        disk = os.statvfs(self._path.parent)
        return min(SIZE, disk.f_blocks * disk.f_frsize // _PART)

    def _allocate(self, more: int) -> bool:
        with self._locked() as descriptor:
            size, before = self._size(), os.fstat(descriptor).st_size
            try:
                self._calls.allocate(descriptor, size + more)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                # Some of it may have been taken.
                os.ftruncate(descriptor, before)
                return False
            os.ftruncate(descriptor, size)
            self._kept = size
            return True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        # Who gives it up waits for who tries to take it, which may need all that is left.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

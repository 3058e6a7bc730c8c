# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is wrong with key servers, told to all processes that ask the same ones.

A server that does not answer costs the one who finds out its whole patience, and should cost
nobody else anything.
"""

import mmap
import struct
import sys
from zlib import crc32

from attrs import define, field

from kypello.sharedmemory import locked, make_shared_memory

#: How many servers there may be; what is wrong with others each process finds out for itself.
ROWS = 64

#: A row: how often something was told, what was told last in UTF-8, empty for nothing wrong, and
#: a checksum of both.
_ROW = struct.Struct("=Q244sI")
_CHECKED, _WORDS = 252, 244


def shared_troubles(_workers: int = 1) -> int:
    """
    Make memory for it.

    :return: A file descriptor for all processes to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("troubles", ROWS * _ROW.size)


@define(eq=False)
class Troubles:
    """
    What is known of one server, as one process sees it.

    :ivar _number: Of the server; the same in all processes.
    :ivar _descriptor: Of the memory; ``-1`` when this process is the only one.
    :ivar _seen: How often something had been told when this process looked last.
    """

    _number: int = 0
    _descriptor: int = -1
    _memory: mmap.mmap | None = field(init=False, default=None, repr=False)
    _seen: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """
        Map the memory, if there are others to share it with.
        """
        if self._descriptor >= 0 and self._number < ROWS:
            self._memory = mmap.mmap(self._descriptor, ROWS * _ROW.size)

    def tell(self, trouble: str) -> None:
        """
        Tell the others.

        :param trouble: For people; empty when nothing is wrong any more.
        """
        if self._memory is None:
            return
        place = self._number * _ROW.size
        # A character may be cut in two.
        words = trouble.encode(errors="replace")[:_WORDS]
        with locked(self._descriptor):
            count, *_rest = _ROW.unpack_from(self._memory, place)
            row = _ROW.pack(count + 1, words, 0)[:_CHECKED]
            self._memory[place : place + _ROW.size] = row + crc32(row).to_bytes(4, sys.byteorder)
            self._seen = count + 1

    def news(self) -> str | None:
        """
        What others have told last since this was called; ``None`` for nothing.
        """
        if self._memory is None:
            return None
        place = self._number * _ROW.size
        row = self._memory[place : place + _ROW.size]
        count, words, check = _ROW.unpack(row)
        # What somebody is writing now is seen the next time.
        if count == self._seen or check != crc32(row[:_CHECKED]):
            return None
        self._seen = count
        told: bytes = words.rstrip(b"\0")
        return told.decode(errors="ignore")

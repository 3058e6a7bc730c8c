# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The pages in a write-ahead log of SQLite, also in one that is damaged; blocking.

SQLite stops at the first frame that is not as it should be, and forgets all behind it.  But the
checksum of a frame continues the one that is written in the frame before, so that those behind
can be verified, too.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

_HEADER, _FRAME = 32, 24
_MAGIC = b"\x37\x7f\x06\x82"
_NOTHING = bytes(8)
_MASK = 0xFFFFFFFF


@frozen
class Log:
    """
    What is in a log.

    :ivar page_size: In bytes.
    :ivar pages: Where the newest version of each page begins in the file, by its number.
    :ivar damaged: Whether something that was committed is not as it was written.
    """

    page_size: int
    pages: Mapping[int, int] = field(factory=dict)
    damaged: bool = False


def read_log(path: Path, page_size: int) -> Log:
    """
    Read a log; one that is missing is empty.

    Frames behind the last commit count for nothing.  Nor does the last commit when a frame of it
    is torn: it is so when the machine loses its power before the commit is done.

    :param page_size: What to assume when the log does not tell.
    :raises OSError:
    """
    if not path.exists() or path.stat().st_size < _HEADER:
        return Log(page_size)
    pages: dict[int, int] = {}
    group: dict[int, int] = {}
    waiting: dict[int, int] | None = None
    with path.open("rb") as file:
        header = file.read(_HEADER)
        damaged = header[:4] != _MAGIC or _checksum(header[:24], _NOTHING) != header[24:]
        if not damaged:
            page_size = int.from_bytes(header[8:12], "big")
        salts = b"" if damaged else header[16:24]
        before = b"" if damaged else header[24:]
        torn, at = False, _HEADER
        while len(frame := file.read(_FRAME)) == _FRAME:
            page = file.read(page_size)
            # Without a header, the first frame tells what the others have to be like.
            salts = salts or frame[8:16]
            sound = frame[8:16] == salts and len(page) == page_size and before != b""
            if sound and _checksum(frame[:8] + page, before) == frame[16:24]:
                group[int.from_bytes(frame[:4], "big")] = at + _FRAME
                if frame[4:8] != bytes(4):
                    if waiting is not None:
                        # It was not the last commit, so the machine has not torn it.
                        pages.update(waiting)
                        damaged = True
                    waiting = group if torn else None
                    if not torn:
                        pages.update(group)
                    group, torn = {}, False
            else:
                torn = True
            before = frame[16:24]
            at += _FRAME + page_size
    return Log(page_size, pages, damaged and bool(pages))


def _checksum(data: bytes, seed: bytes) -> bytes:
    first, second = struct.unpack(">II", seed)
    words = struct.unpack(f"<{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & _MASK
        second = (second + words[at + 1] + first) & _MASK
    return struct.pack(">II", first, second)

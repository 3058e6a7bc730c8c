# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Large buffers that are used again.

A fresh buffer of 1 MiB costs as much as to encrypt it: the kernel finds and clears its pages.
"""

from sys import getrefcount

#: Bytes of a large buffer: a MiB of content, and what encryption adds to it.
_LARGE = (1 << 20) + (1 << 12)

#: How many large buffers wait for other streams: as many as one upload uses, and a download.
_SPARES = 16

#: What counts for a buffer that only its recycler holds: the list, the loop and the argument.
_FREE = 3

# Threads share it, and a recycler: only whole operations of a list are used, and who looks at a
# buffer holds it, so that it is not free for another.
_spare: list[bytearray] = []


class Recycler:
    """
    The buffers of one stream.  One is given out again when nobody else holds it or a view of
    it any more, which CPython counts.

    Large ones go to other streams afterwards.  So whoever takes a buffer fills all of it before
    anything of it is read.
    """

    def __init__(self, most: int = 3) -> None:
        """
        Keep at most *most* buffers; those beyond are others each time.
        """
        self._most = most
        self._buffers: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """
        A buffer of *size* bytes with any content.
        """
        whole = _LARGE if _LARGE // 2 < size < _LARGE else size
        for buffer in self._buffers:
            if getrefcount(buffer) == _FREE and len(buffer) == whole:
                return memoryview(buffer)[:size]
        other = _another(whole)
        if len(self._buffers) == self._most:
            self._buffers.pop(0)
        self._buffers.append(other)
        return memoryview(other)[:size]

    def close(self) -> None:
        """
        Forget all buffers: some go to other streams, and those that are in use live as long as
        somebody holds them.

        What is left of a stream that is over may wait long for the collector of garbage, which
        counts objects and not their bytes.
        """
        for buffer in self._buffers:
            if getrefcount(buffer) == _FREE and len(buffer) == _LARGE and len(_spare) < _SPARES:
                _spare.append(buffer)
        self._buffers.clear()


def _another(size: int) -> bytearray:
    if size == _LARGE:
        try:
            return _spare.pop()
        except IndexError:
            pass
    return bytearray(size)

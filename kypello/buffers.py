# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Large buffers that are used again.

A fresh buffer of 1 MiB costs as much as to encrypt it: the kernel finds and clears its pages.
"""

from sys import getrefcount

#: What counts for a buffer that only its recycler holds: the list, the loop and the argument.
_FREE = 3


class Recycler:
    """
    The buffers of one stream.  One is given out again when nobody else holds it or a view of
    it any more, which CPython counts.  Streams share none, so that nothing leaks between them.
    """

    def __init__(self, most: int = 3) -> None:
        """
        Keep at most *most* buffers; those beyond are fresh each time.
        """
        self._most = most
        self._buffers: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """
        A buffer of *size* bytes with any content.
        """
        for buffer in self._buffers:
            if getrefcount(buffer) == _FREE and len(buffer) == size:
                return buffer
        fresh = bytearray(size)
        if len(self._buffers) == self._most:
            self._buffers.pop(0)
        self._buffers.append(fresh)
        return fresh

    def keep(self, most: int) -> None:
        """
        Forget all but *most* buffers; those that are in use live as long as somebody holds them.

        A stream that is over keeps none: what is left of it may wait long for the collector of
        garbage, which counts objects and not their bytes.
        """
        del self._buffers[most:]

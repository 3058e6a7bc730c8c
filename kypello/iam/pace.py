# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How often somebody may try in a while, counted in memory that all processes of a server share.
"""

import mmap
import os
import struct
from hashlib import blake2b

from attrs import define, field

from kypello.sharedmemory import locked, make_shared_memory

#: How many names are remembered; among those that may lie in the same place, who has not tried
#: for longest is forgotten first.
ROWS = 16_384

#: How many places a name may have.
_REACH = 16

#: A row: whose it is, the attempts that are not borne yet, and when that was, in seconds.
_ROW = struct.Struct("=8sdd")

#: A row of nobody.
_FREE = bytes(8), 0.0, 0.0

#: Before the rows: what makes it impossible to choose names that lie in the same place.
_SECRET = 32


def shared_attempts(_workers: int = 1) -> int:
    """
    Make memory in which attempts are counted.

    :return: A file descriptor for all processes to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("attempts", _SECRET + ROWS * _ROW.size, os.urandom(_SECRET))


@define(eq=False)
class Attempts:
    """
    The attempts that were counted, as one process sees them.

    :ivar _descriptor: Of the memory; ``-1`` when this process is the only one.
    """

    _descriptor: int = -1
    _memory: mmap.mmap = field(init=False, repr=False)
    _secret: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        Map the memory.
        """
        self._memory = mmap.mmap(self._descriptor, _SECRET + ROWS * _ROW.size)
        if self._descriptor < 0:
            self._memory[:_SECRET] = os.urandom(_SECRET)
        self._secret = self._memory[:_SECRET]

    def count(self, name: str, attempts: int, rate: float, now: float) -> float:
        """
        Count attempts, or fewer of them.

        :param rate: How many are borne in a second.
        :param now: In seconds; the same clock for all processes.
        :return: The attempts that are not borne yet.
        """
        content = name.encode(errors="surrogatepass")
        digest = blake2b(content, digest_size=16, key=self._secret).digest()
        known, first = digest[:8], int.from_bytes(digest[8:], "big")
        with locked(self._descriptor):
            places = [_SECRET + (first + step) % ROWS * _ROW.size for step in range(_REACH)]
            rows = {place: _ROW.unpack_from(self._memory, place) for place in places}
            found = (place for place, (identity, *_rest) in rows.items() if identity == known)
            level, place = 0.0, next(found, None)
            if place is not None:
                _identity, before, since = rows[place]
                # A clock that was set back must not count against anybody.
                level = max(0.0, before - max(0.0, now - since) * rate)
            else:
                place = min(rows, key=lambda place: (rows[place] != _FREE, rows[place][2]))
            level = max(0.0, level + attempts)
            if attempts:
                _ROW.pack_into(self._memory, place, *((known, level, now) if level else _FREE))
        return level


@define(eq=False)
class Pace:
    """
    How many attempts of each name are borne.

    :ivar burst: At once.
    :ivar rate: In a second, afterwards.
    :ivar _attempts: Where they are counted.
    :ivar _kind: Tells these names from those of other paces there.
    """

    burst: float
    rate: float
    _attempts: Attempts = field(factory=Attempts)
    _kind: str = ""

    def wait(self, name: str, now: float) -> float:
        """
        How long the next attempt has to wait, in seconds.
        """
        return self.add(name, 0, now)

    def add(self, name: str, attempts: int, now: float) -> float:
        """
        Count attempts, or fewer of them.

        :return: How long the next one has to wait, in seconds.
        """
        level = self._attempts.count(f"{self._kind}:{name}", attempts, self.rate, now)
        return max(0.0, level + 1 - self.burst) / self.rate

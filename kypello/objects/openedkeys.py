# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Opened data keys, in memory that all processes of a server share.

What one process has opened, all can use: while no key server answers, it is the same for a client
which of them it meets.  Who may read the memory of such a process may read this; nobody else can,
it is in no core dump, and it is locked where the process may lock it.

A slot is read without a lock.  Its digest tells whether it is whole: what two wrote at once, or a
process that died while it wrote, counts as nothing, and is wiped like what has expired.
"""

import math
import mmap
import os
import struct
from hashlib import blake2b
from typing import TypeAlias

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.sharedmemory import keep_to_ourselves, locked, make_shared_memory

#: Key name, sealed data key and context: what decides what a call of the KMS gives.
Opening: TypeAlias = tuple[str, bytes, bytes]

#: How many keys are kept at most, whatever is wanted.
SLOTS = 65_536

#: How many slots a key may lie in.
_REACH = 16

#: A slot: the name of the master key and the opening, both as digests; when the key is fresh no
#: longer, and when it is forgotten; the number of the write; the key; a digest of all that.
_SLOT = struct.Struct("=8s16sddQ32s16s")
_IDENTITY_AT, _CHECKED, _KEY_SIZE = 8, 80, 32
_EMPTY = bytes(_SLOT.size)

#: Before the slots: what the digests depend on, how many writes there were, and revocations.
_SECRET, _HEAD = 64, 96
_WRITES, _REVOCATIONS = _SECRET // 8, _SECRET // 8 + 1

#: Into how many parts the slots are divided, of which each call of ``wipe`` looks at one.
PARTS = 10


def shared_opened_keys(_workers: int = 1) -> int:
    """
    Make memory for opened keys; what is not used of it takes no room.

    :return: A file descriptor for all processes to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("opened-keys", _HEAD + SLOTS * _SLOT.size, os.urandom(_SECRET))


@frozen
class Opened:
    """
    An opened data key.

    :ivar fresh: Until when it is used without asking, in seconds of the clock.
    :ivar until: Until when it is kept; infinity for as long as there is room.
    """

    plaintext: bytes = field(repr=False)
    fresh: float
    until: float


@define(eq=False)
class OpenedKeys:
    """
    The opened keys, as one process sees them.

    :ivar _limit: How many are kept; zero for none.
    :ivar _longest: No longer than so many seconds from now is one kept, unless for ever: what says
        so is of a time before the clock was set back.
    :ivar _descriptor: Of the memory; ``-1`` when this process is the only one.
    :ivar _part: Which part is wiped next.
    """

    _clock: IReactorTime
    _limit: int
    _longest: float
    _descriptor: int = -1
    _memory: mmap.mmap = field(init=False, repr=False)
    _numbers: memoryview = field(init=False, repr=False)
    _names: bytes = field(init=False, repr=False)
    _checks: bytes = field(init=False, repr=False)
    _part: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """
        Map the memory.
        """
        self._limit = min(self._limit, SLOTS)
        self._memory = mmap.mmap(self._descriptor, _HEAD + self._limit * _SLOT.size)
        if self._descriptor < 0:
            self._memory[:_SECRET] = os.urandom(_SECRET)
        keep_to_ourselves(self._memory)
        self._names, self._checks = self._memory[: _SECRET // 2], self._memory[_SECRET // 2 : 64]
        self._numbers = memoryview(self._memory).cast("Q")

    @property
    def revocations(self) -> int:
        """
        How often keys were revoked, by any process.
        """
        count: int = self._numbers[_REVOCATIONS]
        return count

    def get(self, opening: Opening) -> Opened | None:
        """
        What was opened, unless it is forgotten.
        """
        if not self._limit:
            return None
        identity = self._identity(opening)
        place = self._place(identity)
        return None if place is None else self._read(place, identity)

    def put(self, opening: Opening, plaintext: bytes, fresh: float, until: float) -> None:
        """
        Keep an opened key in place of what was there.

        :param fresh: Until when it is used without asking.
        :param until: Until when it is kept; infinity for as long as there is room.
        """
        now = self._clock.seconds()
        if not self._limit or until <= now or len(plaintext) != _KEY_SIZE:
            return
        identity = self._identity(opening)
        with locked(self._descriptor):
            place = self._place(identity)
            if place is None:
                place = min(self._places(identity), key=self._worth)
            number = self._numbers[_WRITES] = self._numbers[_WRITES] + 1
            name = self._name(opening[0])
            content = _SLOT.pack(name, identity, fresh, until, number, plaintext, b"")[:_CHECKED]
            self._memory[place : place + _SLOT.size] = content + self._check(content)

    def drop(self, opening: Opening) -> None:
        """
        Forget what was opened.
        """
        if not self._limit:
            return
        identity = self._identity(opening)
        with locked(self._descriptor):
            place = self._place(identity)
            if place is not None:
                self._wipe(place)

    def revoke(self, key_name: str) -> bool:
        """
        Forget all that a master key has opened.

        :return: Whether there was anything.
        """
        name, found, at = self._name(key_name), False, _HEAD
        with locked(self._descriptor):
            while (at := self._memory.find(name, at)) >= 0:
                if (at - _HEAD) % _SLOT.size == 0:
                    self._wipe(at)
                    found = True
                at += 1
            if found:
                self._numbers[_REVOCATIONS] += 1
        return found

    def wipe(self) -> None:
        """
        Wipe what has expired, or is broken, in the next part of the slots.
        """
        size = -(-self._limit // PARTS)
        first = self._part * size
        self._part = (self._part + 1) % PARTS
        slots = range(first, min(first + size, self._limit))
        stale = [place for slot in slots if self._stale(place := _HEAD + slot * _SLOT.size)]
        if stale:
            with locked(self._descriptor):
                for place in stale:
                    # It may have been used again before the lock.
                    if self._stale(place):
                        self._wipe(place)

    def _stale(self, place: int) -> bool:
        return self._memory[place : place + _SLOT.size] != _EMPTY and self._read(place) is None

    def _wipe(self, place: int) -> None:
        self._memory[place : place + _SLOT.size] = _EMPTY

    def _read(self, place: int, identity: bytes | None = None) -> Opened | None:
        slot = self._memory[place : place + _SLOT.size]
        _name, found, fresh, until, _number, plaintext, check = _SLOT.unpack(slot)
        if check != self._check(slot[:_CHECKED]) or identity not in (None, found):
            return None
        now = self._clock.seconds()
        kept = now < until <= now + self._longest or until == math.inf
        return Opened(plaintext, fresh, until) if kept else None

    def _worth(self, place: int) -> tuple[int, int]:
        """
        Which slot is kept rather than another one: nothing, what is kept for a time, what is kept
        for ever; of the same kind, what was written later.
        """
        found = self._read(place)
        number: int = _SLOT.unpack_from(self._memory, place)[4]
        return 0 if found is None else 1 + (found.until == math.inf), number

    def _places(self, identity: bytes) -> range:
        reach = min(_REACH, self._limit)
        first = int.from_bytes(identity[:8], "big") % (self._limit - reach + 1)
        start = _HEAD + first * _SLOT.size
        return range(start, start + reach * _SLOT.size, _SLOT.size)

    def _place(self, identity: bytes) -> int | None:
        places = self._places(identity)
        at = self._memory.find(identity, places.start, places.stop) - _IDENTITY_AT
        return at if at in places else None

    def _identity(self, opening: Opening) -> bytes:
        key_name, sealed, context = opening
        digest = blake2b(digest_size=16, key=self._names)
        for part in (key_name.encode(errors="surrogatepass"), sealed, context):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def _name(self, key_name: str) -> bytes:
        content = key_name.encode(errors="surrogatepass")
        return blake2b(content, digest_size=8, key=self._names).digest()

    def _check(self, content: bytes) -> bytes:
        return blake2b(content, digest_size=16, key=self._checks).digest()

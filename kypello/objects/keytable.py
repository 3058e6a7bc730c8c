# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Data keys in memory that all processes of a server share.

What one process has opened or made, all can use: while no key server answers, it is the same for a
client which of them it meets.  Who may read the memory of such a process may read this, and nobody
else: it is in no core dump, and it is locked where the process may lock it.

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

#: The name of a master key, and what else identifies what is kept.
Name: TypeAlias = tuple[str, *tuple[bytes, ...]]

#: How many opened keys are kept at most, and of how many buckets those for new objects, whatever is
#: wanted.
OPENED, BUCKETS = 65_536, 4096

#: How large they are at most, in bytes; those for new objects come with what sealed them.
OPENED_SIZE, BUCKET_SIZE = 32, 512

#: How many slots a key may lie in.
_REACH = 16

#: A slot begins with digests of the name of its master key and of its whole name; then, when it is
#: fresh no longer, and when it is forgotten; the number of the write; a bit for each process that
#: has claimed it; its size; all that is followed by the value, and a digest of the whole slot.
_FIELDS = struct.Struct("=8s16sddQQQ")
_IDENTITY_AT, _CHECK_SIZE = 8, 16

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
    size = _HEAD + OPENED * _slot_size(OPENED_SIZE)
    return make_shared_memory("opened-keys", size, os.urandom(_SECRET))


def shared_bucket_keys(_workers: int = 1) -> int:
    """
    Make memory for the data keys of new objects.

    :return: A file descriptor for all processes to inherit.
    :raises OSError: The system has no memory for it.
    """
    size = _HEAD + BUCKETS * _slot_size(BUCKET_SIZE)
    return make_shared_memory("bucket-keys", size, os.urandom(_SECRET))


@frozen
class Kept:
    """
    What is kept of a key.

    :ivar fresh: Until when it is used without asking, in seconds of the clock.
    :ivar until: Until when it is kept; infinity for as long as there is room.
    """

    value: bytes = field(repr=False)
    fresh: float
    until: float


@define(eq=False)
class KeyTable:
    """
    The keys, as one process sees them.

    :ivar _limit: How many are kept; zero for none.
    :ivar _room: How large they are at most, in bytes.
    :ivar _longest: No longer than so many seconds from now is one kept, unless for ever: what says
        so is of a time before the clock was set back.
    :ivar _descriptor: Of the memory; ``-1`` when this process is the only one.
    :ivar _size: Of a slot, in bytes.
    :ivar _part: Which part is wiped next.
    """

    _clock: IReactorTime
    _limit: int
    _room: int
    _longest: float
    _descriptor: int = -1
    _size: int = field(init=False)
    _memory: mmap.mmap = field(init=False, repr=False)
    _numbers: memoryview = field(init=False, repr=False)
    _names: bytes = field(init=False, repr=False)
    _checks: bytes = field(init=False, repr=False)
    _part: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """
        Map the memory.
        """
        self._size = _slot_size(self._room)
        self._memory = mmap.mmap(self._descriptor, _HEAD + self._limit * self._size)
        if self._descriptor < 0:
            self._memory[:_SECRET] = os.urandom(_SECRET)
        keep_to_ourselves(self._memory)
        half = _SECRET // 2
        self._names, self._checks = self._memory[:half], self._memory[half:_SECRET]
        self._numbers = memoryview(self._memory).cast("Q")

    @property
    def revocations(self) -> int:
        """
        How often keys were revoked, by any process.
        """
        count: int = self._numbers[_REVOCATIONS]
        return count

    def get(self, name: Name) -> Kept | None:
        """
        What is kept under a name, unless it is forgotten.
        """
        if not self._limit:
            return None
        identity = self._identity(name)
        place = self._place(identity)
        return None if place is None else self._read(place, identity)

    def claim(self, name: Name, process: int) -> Kept | None:
        """
        What is kept under a name, unless a process has claimed it before.

        :param process: Its number; those that differ by 64 count as one.
        """
        if not self._limit:
            return None
        identity = self._identity(name)
        with locked(self._descriptor):
            place = self._place(identity)
            found = None if place is None else self._read(place, identity)
            if place is None or found is None:
                return None
            master, *more, number, claimed, size = _FIELDS.unpack_from(self._memory, place)
            if claimed & _bit(process):
                return None
            fields = _FIELDS.pack(master, *more, number, claimed | _bit(process), size)
            self._write(place, fields, found.value)
        return found

    def put(
        self, name: Name, value: bytes, fresh: float, until: float, process: int | None = None
    ) -> None:
        """
        Keep a key in place of what was there; one that is too large is not kept.

        :param fresh: Until when it is used without asking.
        :param until: Until when it is kept; infinity for as long as there is room.
        :param process: Which process has claimed it.
        """
        if not self._limit or until <= self._clock.seconds() or len(value) > self._room:
            return
        identity = self._identity(name)
        with locked(self._descriptor):
            place = self._place(identity)
            if place is None:
                place = min(self._places(identity), key=self._worth)
            number = self._numbers[_WRITES] = self._numbers[_WRITES] + 1
            claimed = 0 if process is None else _bit(process)
            master = self._master(name[0])
            fields = _FIELDS.pack(master, identity, fresh, until, number, claimed, len(value))
            self._write(place, fields, value)

    def drop(self, name: Name) -> None:
        """
        Forget what is kept under a name.
        """
        if not self._limit:
            return
        identity = self._identity(name)
        with locked(self._descriptor):
            place = self._place(identity)
            if place is not None:
                self._wipe(place)

    def revoke(self, key_name: str) -> bool:
        """
        Forget all that is of a master key.

        :return: Whether there was anything.
        """
        master, found, at = self._master(key_name), False, _HEAD
        with locked(self._descriptor):
            while (at := self._memory.find(master, at)) >= 0:
                if (at - _HEAD) % self._size == 0:
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
        stale = [place for slot in slots if self._stale(place := _HEAD + slot * self._size)]
        if stale:
            with locked(self._descriptor):
                for place in stale:
                    # It may have been used again before the lock.
                    if self._stale(place):
                        self._wipe(place)

    def _stale(self, place: int) -> bool:
        used = self._memory[place : place + self._size].strip(b"\0")
        return bool(used) and self._read(place) is None

    def _write(self, place: int, fields: bytes, value: bytes) -> None:
        content = fields + value.ljust(self._room, b"\0")
        self._memory[place : place + self._size] = content + self._check(content)

    def _wipe(self, place: int) -> None:
        self._memory[place : place + self._size] = bytes(self._size)

    def _read(self, place: int, identity: bytes | None = None) -> Kept | None:
        slot = self._memory[place : place + self._size]
        content, check = slot[:-_CHECK_SIZE], slot[-_CHECK_SIZE:]
        _master, found, fresh, until, _number, _claimed, size = _FIELDS.unpack_from(content)
        if check != self._check(content) or identity not in (None, found):
            return None
        now = self._clock.seconds()
        if until < math.inf and not now < until <= now + self._longest:
            return None
        return Kept(content[_FIELDS.size : _FIELDS.size + size], fresh, until)

    def _worth(self, place: int) -> tuple[int, int]:
        """
        Which slot is kept rather than another one: nothing, what is kept for a time, what is kept
        for ever; of the same kind, what was written later.
        """
        found = self._read(place)
        number: int = _FIELDS.unpack_from(self._memory, place)[4]
        return 0 if found is None else 1 + (found.until == math.inf), number

    def _places(self, identity: bytes) -> range:
        reach = min(_REACH, self._limit)
        first = int.from_bytes(identity[:8], "big") % (self._limit - reach + 1)
        start = _HEAD + first * self._size
        return range(start, start + reach * self._size, self._size)

    def _place(self, identity: bytes) -> int | None:
        places = self._places(identity)
        at = self._memory.find(identity, places.start, places.stop) - _IDENTITY_AT
        return at if at in places else None

    def _identity(self, name: Name) -> bytes:
        key_name, *parts = name
        digest = blake2b(digest_size=16, key=self._names)
        for part in (key_name.encode(errors="surrogatepass"), *parts):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def _master(self, key_name: str) -> bytes:
        content = key_name.encode(errors="surrogatepass")
        return blake2b(content, digest_size=8, key=self._names).digest()

    def _check(self, content: bytes) -> bytes:
        return blake2b(content, digest_size=_CHECK_SIZE, key=self._checks).digest()


def _bit(process: int) -> int:
    return 1 << process % 64


def _slot_size(room: int) -> int:
    return _FIELDS.size + room + _CHECK_SIZE

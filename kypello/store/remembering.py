# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An index that remembers records, so that reading them again asks nobody.

To ask a database in a lane and to come back costs more than all else that a small request
needs.  What is remembered counts only while it is the same as in the index, whichever process
changes that (``changes.py``).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from kypello.errors import Conflict
from kypello.interfaces import IIndex
from kypello.model import Write
from kypello.store.changes import Changes
from kypello.store.undisturbed import undisturbed

#: How much is remembered, in bytes.
LIMIT = 32 * 1024 * 1024

#: Longer records are not remembered, in bytes: one would take the place of many.  The content of
#: a small object is below that.
LONGEST = 72 * 1024

#: What an entry takes beside its key and its value, about, in bytes.
_ENTRY = 400


@define(eq=False)
class _Entry:
    """
    A record in memory.

    :ivar value: ``None`` when the key has none.
    :ivar place: Where the stamp of its group of keys lies.
    :ivar stamp: What that was when this was true.
    """

    value: bytes | None
    place: slice
    stamp: bytes


@implementer(IIndex)
@define(eq=False)
class RememberingIndex:
    """
    Remembers what was read from, or written to, another index.

    :ivar _spaces: What is remembered of each space; the record that was used last comes last,
        and so does the space.
    :ivar _size: Of all that is remembered, in bytes.
    """

    _index: IIndex
    _limit: int = LIMIT
    _changes: Changes = field(factory=Changes)
    _spaces: "OrderedDict[str, OrderedDict[bytes, _Entry]]" = field(init=False, factory=OrderedDict)
    _size: int = field(init=False, default=0)

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys, from memory if all of them are there.
        """
        known = self.recall(space, keys)
        if known is not None:
            return known
        changes = self._changes
        groups = [changes.group(space, key) for key in keys]
        # Before the index is asked: what changes afterwards changes them.
        stamps = [changes.stamp(group) for group in groups]
        entries = self._space(space)
        found = await self._index.get(space, keys)
        if self._spaces.get(space) is entries:
            for key, value, group, stamp in zip(keys, found, groups, stamps, strict=True):
                if changes.quiet(stamp):
                    self._remember(entries, key, _Entry(value, changes.place(group), stamp))
            self._shrink()
        return found

    def recall(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """
        The values of *keys*, if all of them are in memory and true.
        """
        entries, stamps = self._space(space), self._changes.stamps
        values: list[bytes | None] = []
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                return None
            if stamps[entry.place] != entry.stamp:
                self._forget(entries, key)
                return None
            values.append(entry.value)
            entries.move_to_end(key)
        return values

    def knows(self, space: str, key: bytes) -> bool:
        """
        Whether something is in memory of a key, true or not.
        """
        return key in self._space(space)

    async def scan(
        self, space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        The first records of a range.
        """
        return await self._index.scan(space, start, stop, limit)

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Make all changes or none, and remember them.
        """
        entries = self._space(space)
        before = self._changes.begin(space, writes)
        made = False
        try:
            commit = self._index.commit(space, writes, expect, empty)
            _, cancelled = await undisturbed(commit)
            made = True
        except Conflict as conflict:
            self._forget(entries, conflict.key)
            raise
        finally:
            alone = self._changes.end(before)
            if made and self._spaces.get(space) is entries:
                self._written(space, entries, writes, alone)
        if cancelled:
            raise CancelledError()

    async def drop(self, space: str) -> None:
        """
        Remove a space.  Other processes have seen by its records that it was closed before.
        """
        self._forget_space(space)
        try:
            await self._index.drop(space)
        finally:
            self._forget_space(space)

    async def spaces(self) -> Sequence[str]:
        """
        The names of all spaces that exist.
        """
        return await self._index.spaces()

    def _space(self, name: str) -> "OrderedDict[bytes, _Entry]":
        space = self._spaces.get(name)
        if space is None:
            space = self._spaces[name] = OrderedDict()
        self._spaces.move_to_end(name)
        return space

    def _written(
        self,
        space: str,
        entries: "OrderedDict[bytes, _Entry]",
        writes: Iterable[Write],
        alone: Mapping[int, bytes],
    ) -> None:
        for write in writes:
            group = self._changes.group(space, write.key)
            stamp = alone.get(group)
            if stamp is None:
                # Somebody else may have written it after us.
                self._forget(entries, write.key)
            else:
                entry = _Entry(write.value, self._changes.place(group), stamp)
                self._remember(entries, write.key, entry)
        self._shrink()

    def _remember(self, entries: "OrderedDict[bytes, _Entry]", key: bytes, entry: _Entry) -> None:
        self._forget(entries, key)
        if entry.value is None or len(entry.value) <= LONGEST:
            entries[key] = entry
            self._size += _size(key, entry)

    def _forget(self, entries: "OrderedDict[bytes, _Entry]", key: bytes) -> None:
        entry = entries.pop(key, None)
        if entry is not None:
            self._size -= _size(key, entry)

    def _forget_space(self, name: str) -> None:
        # What is under way there goes on with a space that nobody knows any more.
        entries = self._spaces.pop(name, None)
        if entries is not None:
            for key in list(entries):
                self._forget(entries, key)

    def _shrink(self) -> None:
        # The space that was used least recently gives first.
        while self._size > self._limit:
            for name, entries in list(self._spaces.items()):
                if entries:
                    self._forget(entries, next(iter(entries)))
                    break
                del self._spaces[name]


def _size(key: bytes, entry: _Entry) -> int:
    return len(key) + (0 if entry.value is None else len(entry.value)) + _ENTRY

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An index that remembers records, so that reading them again asks nobody.

To ask a database in a lane and to come back costs more than all else that a small request
needs.  What is remembered is exact as long as this process alone changes the index.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from kypello.errors import Conflict
from kypello.interfaces import IIndex
from kypello.model import Write
from kypello.store.undisturbed import undisturbed

#: How much is remembered, in bytes.
LIMIT = 32 * 1024 * 1024

#: Longer records are not remembered, in bytes: one would take the place of many.
LONGEST = 64 * 1024

#: What an entry takes beside its key and its value, about, in bytes.
_ENTRY = 300


@define(eq=False)
class _Space:
    """
    What is known of one space.

    :ivar values: The record that was used last comes last; ``None`` for a key without one.
    :ivar changing: How many commits that are under way write a key.
    :ivar readings: For each read that is under way, the keys that commits have written since
        it began, or were about to.
    """

    values: "OrderedDict[bytes, bytes | None]" = field(factory=OrderedDict)
    changing: Counter[bytes] = field(factory=Counter)
    readings: list[set[bytes]] = field(factory=list)

    @property
    def idle(self) -> bool:
        """
        Whether nothing refers to it.
        """
        return not self.values and not self.changing and not self.readings


@implementer(IIndex)
@define(eq=False)
class RememberingIndex:
    """
    Remembers what was read from, or written to, another index.

    A key that a commit under way writes is not given from memory: somebody may have seen the
    new record already.

    :ivar _size: Of all that is remembered, in bytes.
    """

    _index: IIndex
    _limit: int = LIMIT
    _spaces: "OrderedDict[str, _Space]" = field(init=False, factory=OrderedDict)
    _size: int = field(init=False, default=0)

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys, from memory if all of them are there.
        """
        known = self._space(space)
        values, changing = known.values, known.changing
        if all(key in values and key not in changing for key in keys):
            for key in keys:
                values.move_to_end(key)
            return [values[key] for key in keys]
        changed = {key for key in keys if key in changing}
        known.readings.append(changed)
        try:
            found = await self._index.get(space, keys)
        finally:
            # By identity: two reads may have met the same changes.
            known.readings[:] = [each for each in known.readings if each is not changed]
        exact = [pair for pair in zip(keys, found, strict=True) if pair[0] not in changed]
        self._remember(space, known, exact)
        return found

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
        known = self._space(space)
        keys = [write.key for write in writes]
        self._begin(known, keys)
        try:
            commit = self._index.commit(space, writes, expect, empty)
            _, cancelled = await undisturbed(commit)
        except Conflict as conflict:
            self._forget(known, conflict.key)
            raise
        except BaseException:
            # It may have happened.
            for key in keys:
                self._forget(known, key)
            raise
        finally:
            known.changing.subtract(keys)
            for key in keys:
                if not known.changing[key]:
                    del known.changing[key]
        self._remember(space, known, [(write.key, write.value) for write in writes])
        if cancelled:
            raise CancelledError()

    async def drop(self, space: str) -> None:
        """
        Remove a space.
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

    def _space(self, name: str) -> _Space:
        space = self._spaces.get(name)
        if space is None:
            space = self._spaces[name] = _Space()
        self._spaces.move_to_end(name)
        return space

    def _remember(
        self, name: str, space: _Space, records: Sequence[tuple[bytes, bytes | None]]
    ) -> None:
        if self._spaces.get(name) is not space:
            return  # it was dropped meanwhile
        for key, value in records:
            self._forget(space, key)
            if value is None or len(value) <= LONGEST:
                space.values[key] = value
                self._size += _size(key, value)
        self._shrink()

    def _forget(self, space: _Space, key: bytes) -> None:
        if key in space.values:
            self._size -= _size(key, space.values.pop(key))

    def _begin(self, space: _Space, keys: Sequence[bytes]) -> None:
        space.changing.update(keys)
        for changed in space.readings:
            changed.update(keys)

    def _forget_space(self, name: str) -> None:
        # What is under way there goes on with a space that nobody knows any more.
        space = self._spaces.pop(name, None)
        if space is not None:
            for key in list(space.values):
                self._forget(space, key)

    def _shrink(self) -> None:
        # The space that was used least recently gives first.
        while self._size > self._limit:
            for name, space in list(self._spaces.items()):
                if space.values:
                    self._forget(space, next(iter(space.values)))
                    break
                if space.idle:
                    del self._spaces[name]


def _size(key: bytes, value: bytes | None) -> int:
    return len(key) + (0 if value is None else len(value)) + _ENTRY

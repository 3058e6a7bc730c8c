# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Both seams of the layout in memory: for tests, and the reference of what they mean.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen
from zope.interface import implementer

from kypello.buffersource import BufferSource
from kypello.errors import Conflict, Damaged, StorageFailed
from kypello.interfaces import IBlob, IBlobs, IBodySource, IIndex, IPin
from kypello.model import Write


@define(eq=False)
class _Space:
    """
    One ordered map.

    :ivar keys: Those of *records*, sorted.
    """

    keys: list[bytes] = field(factory=list)
    records: dict[bytes, bytes] = field(factory=dict)

    def range(self, start: bytes, stop: bytes | None) -> tuple[int, int]:
        """
        Where the keys ``start <= key < stop`` lie.
        """
        end = len(self.keys) if stop is None else bisect_left(self.keys, stop)
        return bisect_left(self.keys, start), end

    def apply(self, write: Write) -> None:
        """
        Make one change.
        """
        known = write.key in self.records
        if write.value is not None:
            self.records[write.key] = bytes(write.value)
            if not known:
                insort(self.keys, write.key)
        elif known:
            del self.records[write.key]
            del self.keys[bisect_left(self.keys, write.key)]


@implementer(IIndex)
@define(eq=False)
class MemoryIndex:
    """
    Ordered maps in memory.
    """

    _spaces: dict[str, _Space] = field(init=False, factory=dict, repr=False)

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys.
        """
        records = self._spaces.get(space, _Space()).records
        return [records.get(key) for key in keys]

    def recall(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """
        Nothing is remembered.
        """
        return None

    def knows(self, space: str, key: bytes) -> bool:
        """
        Nothing is remembered.
        """
        return False

    async def scan(
        self, space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        The first records of a range.
        """
        found = self._spaces.get(space, _Space())
        first, end = found.range(start, stop)
        return [(key, found.records[key]) for key in found.keys[first : min(end, first + limit)]]

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Make all changes or none.
        """
        found = self._spaces.get(space, _Space())
        for key, value in expect.items():
            if found.records.get(key) != value:
                raise Conflict(key)
        for start, stop in empty:
            first, end = found.range(start, stop)
            if first < end:
                raise Conflict(found.keys[first])
        for write in writes:
            found.apply(write)
        self._spaces[space] = found

    async def drop(self, space: str) -> None:
        """
        Remove a space.
        """
        self._spaces.pop(space, None)

    async def spaces(self) -> Sequence[str]:
        """
        The names of all spaces, sorted.
        """
        return sorted(self._spaces)


@implementer(IBlob)
@frozen(eq=False)
class _MemoryBlob:
    """
    One object in memory, with what is kept beside it.
    """

    _content: bytes = field(repr=False)
    described: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """
        Bytes of content.
        """
        return len(self._content)

    def read(self, start: int, stop: int) -> IBodySource:
        """
        Read a range.
        """
        return BufferSource(self._content[start:stop])

    def close(self) -> None:
        """
        There is nothing to release.
        """


@implementer(IPin)
@define(eq=False)
class _MemoryPin:
    """
    One of the reasons to keep a blob.
    """

    _pinned: Counter[str]
    _name: str
    _released: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Count it.
        """
        self._pinned[self._name] += 1

    def release(self) -> None:
        """
        Count it no more.
        """
        if not self._released:
            self._released = True
            self._pinned[self._name] -= 1
            self._pinned += Counter()  # drops what counts zero


@implementer(IBlobs)
@define(eq=False)
class MemoryBlobs:
    """
    Byte objects in memory.
    """

    _blobs: dict[str, _MemoryBlob] = field(init=False, factory=dict, repr=False)
    _pinned: Counter[str] = field(init=False, factory=Counter)

    async def write(self, name: str, body: IBodySource, describe: Callable[[int], bytes]) -> int:
        """
        Keep the whole of *body*.
        """
        try:
            if name in self._blobs:
                raise StorageFailed(f"blob {name} exists")
            content = bytearray()
            while block := await body.read():
                content += block
            self._blobs[name] = _MemoryBlob(bytes(content), describe(len(content)))
            return len(content)
        finally:
            body.close()

    async def open(self, name: str) -> IBlob:
        """
        Open for reading.
        """
        return self._blob(name)

    async def describe(self, name: str) -> bytes:
        """
        What was kept beside the content.
        """
        return self._blob(name).described

    async def pin(self, name: str) -> IPin:
        """
        Keep it from being removed.
        """
        self._blob(name)
        return _MemoryPin(self._pinned, name)

    async def delete(self, names: Sequence[str]) -> Sequence[str]:
        """
        Remove several, but for those that are pinned.
        """
        pinned = [name for name in names if name in self._pinned]
        for name in names:
            if name not in self._pinned:
                self._blobs.pop(name, None)
        return pinned

    async def names(self, after: str, limit: int) -> Sequence[str]:
        """
        The next names.
        """
        names = sorted(self._blobs)
        first = bisect_right(names, after)
        return names[first : first + limit]

    def _blob(self, name: str) -> _MemoryBlob:
        try:
            return self._blobs[name]
        except KeyError:
            raise Damaged(f"blob {name}") from None

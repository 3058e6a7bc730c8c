# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The records of accounts in an index: read as of one instant, and changed all at once.

Every change rewrites the generation, and expects it as it was when it began to read: changes
are made one after the other, whichever process makes them, and each sees those before it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from attrs import define, field, frozen

from kypello.crypto.randomness import Random
from kypello.errors import Conflict, StorageFailed
from kypello.iam.records import DATA_KEY, GENERATION, SPACE, R
from kypello.iam.sealing import Box, Boxes, sealing_key
from kypello.interfaces import IIndex
from kypello.model import Write

#: How often a change is tried again when others come between, before it fails.
ATTEMPTS = 256

#: How many records are read, and opened, in one go.
_PAGE = 256

T = TypeVar("T")


class Unread(Exception):
    """
    What depends on records that have not been read cannot be told.

    :ivar keys: Theirs.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """
        :param keys: Of the records.
        """
        super().__init__()
        self.keys = keys


@frozen(eq=False)
class Seen:
    """
    Some records as of one instant.

    :ivar generation: ``None`` when there are no accounts at all.
    :ivar values: Of the keys that were asked for, as they are kept.
    :ivar _box: ``None`` when none of these is there.
    """

    generation: bytes | None
    values: Mapping[bytes, bytes | None]
    _box: Box | None

    def get(self, kind: type[R], key: bytes) -> R | None:
        """
        A record, opened; ``None`` when there is none.

        :raises Unread: It was not asked for.
        :raises Damaged: It is not what was written.
        """
        return self.several(kind, (key,))[0]

    def several(self, kind: type[R], keys: Sequence[bytes]) -> list[R | None]:
        """
        Records of one kind, as :meth:`get` tells them.
        """
        missing = [key for key in keys if key not in self.values]
        if missing:
            raise Unread(missing)
        return [self._opened(kind, key) for key in keys]

    def stamp(self, key: bytes) -> Mapping[bytes, bytes | None]:
        """
        The generation and one record, for :meth:`Ledger.still`.
        """
        return {GENERATION: self.generation, key: self.values[key]}

    def _opened(self, kind: type[R], key: bytes) -> R | None:
        value = self.values[key]
        if value is None:
            return None
        assert self._box is not None
        return self._box.open(kind, key, value)


@define(eq=False)
class Draft:
    """
    A change that is being prepared: what it writes, and how it reads.

    :ivar expected: Records, as they are kept, that have to be so in the instant of the commit;
        ``None`` for none.
    """

    _ledger: "Ledger"
    expected: dict[bytes, bytes | None]
    _writes: dict[bytes, Callable[[Box], Write]] = field(init=False, factory=dict)

    async def get(self, kind: type[R], key: bytes) -> R | None:
        """
        Read a record, as it was before this change.
        """
        return (await self._ledger.read((key,))).get(kind, key)

    async def holds(self, *keys: bytes) -> bool:
        """
        Whether any of these records is there.
        """
        return any(await self._ledger.raw(keys))

    def put(self, key: bytes, record: R) -> None:
        """
        Write a record.
        """
        self._writes[key] = lambda box: Write(key, box.close(key, record))

    def note(self, key: bytes) -> None:
        """
        Write a key that has nothing to it.
        """
        self._writes[key] = lambda _box: Write(key, b"")

    def remove(self, key: bytes) -> None:
        """
        Remove a record, if it is there.
        """
        self._writes[key] = lambda _box: Write(key, None)

    def renew(self, generation: bytes) -> None:
        """
        Tell everybody that something changes.
        """
        self._writes[GENERATION] = lambda _box: Write(GENERATION, generation)

    def writes(self, box: Box) -> list[Write]:
        """
        All that it writes, sealed.
        """
        return [make(box) for make in self._writes.values()]

    @property
    def empty(self) -> bool:
        """
        Whether it writes nothing.
        """
        return not self._writes


@define(eq=False)
class Ledger:
    """
    The records of accounts in an index.

    All calls raise what the KMS raises, unless nothing was asked for that is there, and
    :class:`StorageFailed`.

    :ivar _index: One that remembers: what is read again and again costs nothing then.
    """

    _index: IIndex
    _boxes: Boxes
    _random: Random

    async def raw(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Records as they are kept.
        """
        return await self._index.get(SPACE, keys)

    async def read(self, keys: Sequence[bytes]) -> Seen:
        """
        Read records as of one instant.
        """
        generation, stored, *values = await self.raw((GENERATION, DATA_KEY, *keys))
        box = None
        if any(value is not None for value in values):
            box = await self._boxes.open(stored)
        return Seen(generation, dict(zip(keys, values, strict=True)), box)

    async def exists(self, key: bytes) -> bool:
        """
        Whether there is a record, asked of the index itself: that there is none is not
        remembered, however many keys somebody tries.
        """
        return bool(await self.first((key, key + b"\x00"), 1))

    async def still(self, stamp: Mapping[bytes, bytes | None]) -> bool:
        """
        Whether records are as they were, and could be read now.
        """
        if tuple(await self.raw(tuple(stamp))) != tuple(stamp.values()):
            return False
        await self._boxes.again()
        return True

    async def resolve(self, keys: Sequence[bytes], tell: Callable[[Seen], T]) -> T:
        """
        Tell something by records that lead to other ones, all as of one instant.

        :param keys: Of the first ones.
        :param tell: Called again with more records when it raises :class:`Unread`.
        :raises StorageFailed: Also when others change them all the time.
        """
        wanted = dict.fromkeys(keys)
        for _ in range(ATTEMPTS):
            seen = await self.read(tuple(wanted))
            try:
                return tell(seen)
            except Unread as unread:
                wanted |= dict.fromkeys(unread.keys)
        raise _restless()

    async def scan(
        self, kind: type[R], within: tuple[bytes, bytes]
    ) -> AsyncIterator[tuple[str, R]]:
        """
        All records of a kind with the names that follow the prefix, in order.

        Each is told as it is when its page is read.
        """
        prefix = len(within[0])
        async for page in self._pages(within):
            (stored,) = await self.raw((DATA_KEY,))
            box = await self._boxes.open(stored)
            for key, value in page:
                yield key[prefix:].decode(), box.open(kind, key, value)

    async def notes(self, within: tuple[bytes, bytes]) -> list[str]:
        """
        What follows the prefix in all keys of a range.
        """
        prefix = len(within[0])
        return [key[prefix:].decode() async for page in self._pages(within) for key, _ in page]

    async def first(self, within: tuple[bytes, bytes], limit: int) -> list[bytes]:
        """
        The first keys of a range.
        """
        return [key for key, _ in await self._index.scan(SPACE, *within, limit)]

    async def change(self, work: Callable[[Draft], Awaitable[T]]) -> T:
        """
        Make a change, all of it or nothing.

        :param work: Prepares it; called again when another change came between.  What it reads
            is true in the instant of the commit.
        :return: What *work* gave.
        :raises KypelloError: Also whatever *work* raises.
        """

        async def attempt(draft: Draft) -> T:
            """
            Expect what *work* is going to read.
            """
            (draft.expected[GENERATION],) = await self.raw((GENERATION,))
            result = await work(draft)
            if not draft.empty:
                draft.renew(self._random(16))
            return result

        return await self.add(attempt)

    async def add(self, work: Callable[[Draft], Awaitable[T]]) -> T:
        """
        Make a change that nobody need know of who knows something else: the generation stays.

        :param work: Prepares it, and says what it expects; called again when that is not so.
        """
        for _ in range(ATTEMPTS):
            draft = Draft(self, {})
            result = await work(draft)
            if draft.empty or await self._commit(draft):
                return result
        raise _restless()

    async def master_key(self) -> str:
        """
        The name of the master key that seals all records; empty when none does.
        """
        (stored,) = await self.raw((DATA_KEY,))
        return "" if stored is None else self._boxes.master_key(stored)

    async def rewrap(self, key_name: str) -> None:
        """
        Seal the data key of all records, if there is one, under another master key, or the same
        anew.  The records stay as they are.
        """
        for _ in range(ATTEMPTS):
            generation, stored = await self.raw((GENERATION, DATA_KEY))
            if stored is None:
                return
            renewed = await self._boxes.rewrap(stored, key_name)
            # Whoever remembers something sees by the generation whether the key still opens it.
            writes = [Write(DATA_KEY, renewed), Write(GENERATION, self._random(16))]
            expected = {GENERATION: generation, DATA_KEY: stored}
            with suppress(Conflict):
                await self._index.commit(SPACE, writes, expected, ())
                return
        raise _restless()

    async def _commit(self, draft: Draft) -> bool:
        """
        Commit a draft; whether all was as it expected.
        """
        generation, stored = await self.raw((GENERATION, DATA_KEY))
        if generation is None and stored is None:
            await self._begin()
            return False
        writes = draft.writes(await self._boxes.open(stored))
        expected = {DATA_KEY: stored, **draft.expected}
        try:
            await self._index.commit(SPACE, writes, expected, ())
        except Conflict:
            return False
        return True

    async def _begin(self) -> None:
        """
        Make the data key, before anything is sealed under it.
        """
        writes = [Write(GENERATION, self._random(16))]
        stored = await self._boxes.make()
        if stored is not None:
            writes.append(Write(DATA_KEY, stored))
        # Another process may be first: its key counts then.
        with suppress(Conflict):
            await self._index.commit(SPACE, writes, {GENERATION: None, DATA_KEY: None}, ())

    async def _pages(
        self, within: tuple[bytes, bytes]
    ) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        start, stop = within
        while rows := await self._index.scan(SPACE, start, stop, _PAGE):
            yield rows
            if len(rows) < _PAGE:
                break
            start = rows[-1][0] + b"\x00"


def _restless() -> StorageFailed:
    return StorageFailed("others change the accounts all the time")


async def accounts_key(index: IIndex) -> str:
    """
    The master key that seals the accounts; empty when none does.

    :raises Damaged: The data key of the accounts is unreadable.
    :raises StorageFailed:
    """
    (stored,) = await index.get(SPACE, [DATA_KEY])
    return sealing_key(stored)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.remembering``.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from kypello.errors import Conflict, StorageFailed
from kypello.interfaces import IIndex
from kypello.model import Write
from kypello.store.changes import Changes, shared_table
from kypello.store.memory import MemoryIndex
from kypello.store.remembering import LONGEST, RememberingIndex
from tests.cases import AsyncCase, SyncCase
from tests.contracts.index import IndexContract


@define(eq=False)
class WatchedIndex(MemoryIndex):
    """
    An index that tells when it is asked, and can be slow.

    :ivar asked: The keys of each read.
    :ivar reading: Awaited after a read, before its answer is given.
    :ivar committing: Awaited after a commit, likewise.
    :ivar failure: Raised at the end of a commit, which has happened.
    """

    asked: list[tuple[bytes, ...]] = field(factory=list)
    reading: Deferred[None] | None = None
    committing: Deferred[None] | None = None
    failure: Exception | None = None

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read, and answer when the test says so.
        """
        self.asked.append(tuple(keys))
        found = await super().get(space, keys)
        if self.reading is not None:
            await self.reading
        return found

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Commit, and answer when the test says so.
        """
        await super().commit(space, writes, expect, empty)
        if self.committing is not None:
            await self.committing
        if self.failure is not None:
            raise self.failure


@implementer(IIndex)
@frozen
class InTurn:
    """
    Several ways to one index, taken in turn.
    """

    _turns: Iterator[IIndex]

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys.
        """
        return await next(self._turns).get(space, keys)

    def recall(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """
        What is in memory.
        """
        return next(self._turns).recall(space, keys)

    def knows(self, space: str, key: bytes) -> bool:
        """
        Whether anything is in memory of a key.
        """
        return next(self._turns).knows(space, key)

    async def scan(
        self, space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        The first records of a range.
        """
        return await next(self._turns).scan(space, start, stop, limit)

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
        await next(self._turns).commit(space, writes, expect, empty)

    async def drop(self, space: str) -> None:
        """
        Remove a space, of which the others know nothing any more.
        """
        index = next(self._turns)
        for key, _ in await index.scan(space, b"", None, 1000):
            await index.commit(space, [Write(key, None)], {}, ())
        await index.drop(space)

    async def spaces(self) -> Sequence[str]:
        """
        The names of all spaces that exist.
        """
        return await next(self._turns).spaces()


class RememberingContractTests(IndexContract, AsyncCase):
    """
    The contract of an index.
    """

    async def make_index(self) -> RememberingIndex:
        """
        An empty index.
        """
        return RememberingIndex(MemoryIndex())


class ForgetfulContractTests(IndexContract, AsyncCase):
    """
    The contract of an index that has room for next to nothing.
    """

    async def make_index(self) -> RememberingIndex:
        """
        An empty index.
        """
        return RememberingIndex(MemoryIndex(), 700)


class SharedContractTests(IndexContract, AsyncCase):
    """
    The contract of an index of which each call comes to another of several processes.
    """

    async def make_index(self) -> IIndex:
        """
        An empty index.
        """
        below, descriptor = MemoryIndex(), shared_table(3)
        self.addCleanup(os.close, descriptor)
        turns = cycle(
            [RememberingIndex(below, changes=Changes(n, 3, descriptor)) for n in range(3)]
        )
        return InTurn(turns)


class RememberingTests(SyncCase):
    """
    What is remembered, and what is not.
    """

    def setUp(self) -> None:
        """
        Remember an index that holds ``a``.
        """
        self.below = WatchedIndex()
        self.index = RememberingIndex(self.below)
        self.commit(b"a", b"1")
        self.below.asked.clear()

    def start_commit(self, key: bytes, value: bytes | None) -> "Deferred[None]":
        """
        Begin to commit one record.
        """
        return Deferred.fromCoroutine(self.index.commit("s", [Write(key, value)], {}, ()))

    def commit(self, key: bytes, value: bytes | None) -> None:
        """
        Commit one record.
        """
        self.successResultOf(self.start_commit(key, value))

    def start_get(self, *keys: bytes) -> "Deferred[Sequence[bytes | None]]":
        """
        Begin to read.
        """
        return Deferred.fromCoroutine(self.index.get("s", keys))

    def get(self, *keys: bytes) -> list[bytes | None]:
        """
        Read.
        """
        return list(self.successResultOf(self.start_get(*keys)))

    def test_written(self) -> None:
        """
        What was written is known without asking, and so is what was removed.
        """
        self.assertEqual(self.get(b"a"), [b"1"])
        self.commit(b"a", None)
        self.assertEqual(self.get(b"a"), [None])
        self.assertEqual(self.below.asked, [])

    def test_read(self) -> None:
        """
        What was read is known, also that it is absent; several keys are asked for together.
        """
        self.assertEqual(self.get(b"x"), [None])
        self.assertEqual(self.get(b"a", b"x"), [b"1", None])
        self.assertEqual(self.get(b"a", b"y"), [b"1", None])
        self.assertEqual(self.below.asked, [(b"x",), (b"a", b"y")])

    def test_recall(self) -> None:
        """
        What is in memory can be had without asking, all of it or nothing.
        """
        self.assertEqual(self.index.recall("s", [b"a"]), [b"1"])
        self.assertIsNone(self.index.recall("s", [b"a", b"x"]))
        self.assertIsNone(self.index.recall("other", [b"a"]))
        self.assertEqual([self.index.knows("s", key) for key in (b"a", b"x")], [True, False])
        self.get(b"x")
        self.assertEqual(self.index.recall("s", [b"a", b"x"]), [b"1", None])
        self.assertTrue(self.index.knows("s", b"x"))
        self.assertEqual(self.below.asked, [(b"x",)])

    def test_recall_of_what_changes(self) -> None:
        """
        What somebody is changing cannot be had, but is known to be there.
        """
        slow = self.below.committing = Deferred()
        committing = self.start_commit(b"a", b"2")
        self.assertTrue(self.index.knows("s", b"a"))
        self.assertIsNone(self.index.recall("s", [b"a"]))
        slow.callback(None)
        self.successResultOf(committing)
        self.assertEqual(self.index.recall("s", [b"a"]), [b"2"])

    def test_commit_under_way(self) -> None:
        """
        A key that is being written is asked for, since others may have seen the new record.
        """
        slow = self.below.committing = Deferred()
        committing = self.start_commit(b"a", b"2")
        self.assertEqual(self.get(b"a"), [b"2"])
        self.assertEqual(self.below.asked, [(b"a",)])
        self.assertNoResult(committing)
        slow.callback(None)
        self.successResultOf(committing)
        self.assertEqual(self.get(b"a"), [b"2"])
        self.assertEqual(len(self.below.asked), 1)

    def test_overtaken_read(self) -> None:
        """
        What was read before a commit is not remembered after it.
        """
        slow = self.below.reading = Deferred()
        reading = self.start_get(b"b")
        self.below.reading = None
        self.commit(b"b", b"new")
        slow.callback(None)
        self.assertEqual(self.successResultOf(reading), [None])
        self.assertEqual(self.get(b"b"), [b"new"])

    def test_doubtful_commit(self) -> None:
        """
        After a commit that may or may not have happened the key is asked for.
        """
        self.below.failure = StorageFailed("power")
        self.failureResultOf(self.start_commit(b"a", b"2"), StorageFailed)
        self.assertEqual(self.get(b"a"), [b"2"])
        self.assertEqual(self.below.asked, [(b"a",)])

    def test_conflict(self) -> None:
        """
        A key whose record is not the expected one is asked for.
        """
        write = [Write(b"b", b"1")]
        committing = Deferred.fromCoroutine(self.index.commit("s", write, {b"a": b"0"}, ()))
        self.failureResultOf(committing, Conflict)
        self.assertEqual(self.get(b"a"), [b"1"])
        self.assertEqual(self.below.asked, [(b"a",)])

    def test_cancelled(self) -> None:
        """
        A commit that is cancelled is waited for, and its record known.
        """
        slow = self.below.committing = Deferred()
        committing = self.start_commit(b"a", b"2")
        committing.cancel()
        self.assertNoResult(committing)
        slow.callback(None)
        self.failureResultOf(committing, CancelledError)
        self.assertEqual(self.get(b"a"), [b"2"])
        self.assertEqual(self.below.asked, [])

    def test_long(self) -> None:
        """
        Long records are asked for each time.
        """
        self.commit(b"a", bytes(LONGEST + 1))
        self.assertEqual(self.get(b"a"), [bytes(LONGEST + 1)])
        self.assertEqual(self.get(b"a"), [bytes(LONGEST + 1)])
        self.assertEqual(len(self.below.asked), 2)

    def test_dropped(self) -> None:
        """
        Nothing is known of a space that was dropped, whatever was under way.
        """
        slow = self.below.reading = Deferred()
        reading = self.start_get(b"z")
        self.below.reading = None
        self.successResultOf(Deferred.fromCoroutine(self.index.drop("s")))
        slow.callback(None)
        self.successResultOf(reading)
        self.below.asked.clear()
        self.assertEqual(self.get(b"a", b"z"), [None, None])
        self.assertEqual(len(self.below.asked), 1)

    def processes(self) -> tuple[RememberingIndex, RememberingIndex]:
        """
        Two processes over one index.
        """
        descriptor = shared_table(2)
        self.addCleanup(os.close, descriptor)
        first, second = (
            RememberingIndex(self.below, changes=Changes(number, 2, descriptor))
            for number in range(2)
        )
        return first, second

    def test_changed_by_another(self) -> None:
        """
        What another process changes is asked for again; the rest is still known.
        """
        self.index, other = self.processes()
        self.assertEqual(self.get(b"a", b"x"), [b"1", None])
        committing = other.commit("s", [Write(b"x", b"2")], {}, ())
        self.successResultOf(Deferred.fromCoroutine(committing))
        self.below.asked.clear()
        self.assertEqual((self.get(b"x"), self.get(b"x"), self.get(b"a")), ([b"2"], [b"2"], [b"1"]))
        self.assertEqual(self.below.asked, [(b"x",)])

    def test_being_changed_by_another(self) -> None:
        """
        What another process is changing is asked for each time, and so it is when that dies,
        until its successor has started.
        """
        self.index, other = self.processes()
        self.get(b"a")
        writes = [Write(b"a", b"2")]
        other._changes.begin("s", writes)
        self.successResultOf(Deferred.fromCoroutine(self.below.commit("s", writes, {}, ())))
        self.below.asked.clear()
        self.assertEqual([self.get(b"a") for _ in range(3)], [[b"2"]] * 3)
        self.assertEqual(len(self.below.asked), 3)
        Changes(1, 2, other._changes._descriptor)
        self.assertEqual([self.get(b"a") for _ in range(3)], [[b"2"]] * 3)
        self.assertEqual(len(self.below.asked), 4)

    def test_both_change(self) -> None:
        """
        What two processes changed at the same time is not taken for what one of them wrote.
        """
        self.index, other = self.processes()
        slow = self.below.committing = Deferred()
        ours = self.start_commit(b"a", b"2")
        self.below.committing = None
        theirs = other.commit("s", [Write(b"a", b"3")], {}, ())
        self.successResultOf(Deferred.fromCoroutine(theirs))
        slow.callback(None)
        self.successResultOf(ours)
        self.assertEqual(self.get(b"a"), [b"3"])

    @given(
        st.integers(0, 5000),
        st.lists(st.tuples(st.sampled_from("ab"), st.binary(max_size=2), st.binary(max_size=900))),
    )
    def test_bounded(self, limit: int, writes: list[tuple[str, bytes, bytes]]) -> None:
        """
        No more than the limit is remembered, and all answers are right.
        """
        below = WatchedIndex()
        index = RememberingIndex(below, limit)
        right: dict[tuple[str, bytes], bytes] = {}
        for space, key, value in writes:
            commit = index.commit(space, [Write(key, value)], {}, ())
            self.successResultOf(Deferred.fromCoroutine(commit))
            right[space, key] = value
            self.assertLessEqual(index._size, limit)
        for (space, key), value in right.items():
            got = self.successResultOf(Deferred.fromCoroutine(index.get(space, [key])))
            self.assertEqual(list(got), [value])
            self.assertLessEqual(index._size, limit)

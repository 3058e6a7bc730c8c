# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.remembering``.
"""

from collections.abc import Mapping, Sequence

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from kypello.errors import Conflict, StorageFailed
from kypello.model import Write
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

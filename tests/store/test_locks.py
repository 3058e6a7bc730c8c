# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Two processes over the same data, one of which locks a version while the other removes it.
"""

import os
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import NoSuchVersion, Refused
from kypello.model import NULL_VERSION, VersionQuery
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.sqlite import SQLiteIndex
from kypello.testing.fakes import BytesSource
from kypello.versioning import SETTING, Versioning
from tests.cases import SyncCase
from tests.contracts.locks import LOCK, assert_race, keep_locked, locked
from tests.contracts.object_store import blocks, metadata_of, pattern
from tests.contracts.versions import VersionsCase
from tests.store.disk import DiskCase
from tests.store.stepping import Gate, SteppedBlobs, SteppedIndex

#: No work takes more steps.
_MOST = 40

#: Where the version is that both want: which of those that there are, and whether it was stored
#: before there were versions.
_PLACES = ("only", "newest", "older", "below a marker", "null", "null below")


class Pair:
    """
    A process that locks a version and one that removes it.

    :ivar gates: What each passes.
    """

    def __init__(self, place: str, size: int) -> None:
        """
        Store a version, and let both begin.
        """
        index, blobs, clock = MemoryIndex(), MemoryBlobs(), Clock()
        self.store = LayoutStore(index, blobs, clock, os.urandom)
        self._do(self.store.create_bucket("b", {}))
        null = place.startswith("null")
        if null:
            self.version_id = self._put(size)
        enabled = {SETTING: Versioning("Enabled").to_bytes()}
        self._do(self.store.change_bucket("b", lambda _: enabled))
        if place == "newest":
            self._put(size)
        if not null:
            self.version_id = self._put(size)
        if place in ("older", "null below"):
            self._put(size)
        if place == "below a marker":
            self._do(self.store.delete("b", "k"))
        assert (self.version_id == NULL_VERSION) == null
        self.gates = Gate(), Gate()
        locker, remover = (
            LayoutStore(
                SteppedIndex(index, gate), SteppedBlobs(blobs, gate), clock, os.urandom, worker, 2
            )
            for worker, gate in enumerate(self.gates)
        )
        self.tasks = (
            Deferred.fromCoroutine(self._lock(locker)),
            Deferred.fromCoroutine(self._remove(remover)),
        )

    def _do(self, call: Any) -> Any:
        found: list[Any] = []
        Deferred.fromCoroutine(call).addCallback(found.append)
        (result,) = found
        return result

    def _put(self, size: int) -> str:
        data = pattern(size)
        made = self.store.put("b", "k", BytesSource(blocks(data)), lambda _: metadata_of(data))
        version_id: str = self._do(made).version_id
        return version_id

    async def _lock(self, store: LayoutStore) -> bool:
        """
        Lock the version if it is there.
        """
        try:
            await store.change_version("b", "k", self.version_id, locked(LOCK))
        except NoSuchVersion:
            return False
        return True

    async def _remove(self, store: LayoutStore) -> bool:
        """
        Remove the version if it is not locked.
        """
        try:
            await store.delete("b", "k", None, self.version_id, keep_locked)
        except Refused:
            return False
        return True

    def go(self, which: int, steps: int) -> bool:
        """
        Let one of both take steps.

        :return: Whether it is done.
        """
        for _ in range(steps):
            if not self.tasks[which].called:
                self.gates[which].go()
        return self.tasks[which].called

    def finish(self, which: int) -> None:
        """
        Let one of both come to its end.
        """
        self.gates[which].finish(self.tasks[which])

    def outcome(self) -> tuple[bool, bool, bool]:
        """
        Whether the version was locked, was removed, and is there.
        """
        results: list[bool] = []
        for task in self.tasks:
            task.addCallback(results.append)
        was_locked, was_removed = results
        listing = self._do(self.store.list_versions("b", VersionQuery()))
        found = [
            each.info.metadata.lock
            for each in listing.versions
            if each.info.version_id == self.version_id
        ]
        if found:
            assert found == [LOCK], found
        return was_locked, was_removed, bool(found)


class RaceTests(SyncCase):
    """
    Every instant at which the one can come between the steps of the other.
    """

    def assert_kept(self, pair: Pair) -> bool:
        """
        See that a version is gone only if nobody was told that it is locked.

        :return: Whether it was locked.
        """
        was_locked, was_removed, there = pair.outcome()
        self.assertEqual((was_removed, there), (not was_locked, was_locked))
        return was_locked

    def interleaved(self, place: str, size: int, first: int) -> Iterator[bool]:
        """
        Let one of both stop after each of its steps, while the other is done.
        """
        for steps in range(_MOST):
            pair = Pair(place, size)
            done = pair.go(first, steps)
            pair.finish(1 - first)
            pair.finish(first)
            yield self.assert_kept(pair)
            if done:
                return
        raise AssertionError("it takes more steps")

    def test_each_step(self) -> None:
        """
        Whichever comes between whichever steps of the other, a version that was locked is there.
        """
        for place in _PLACES:
            for size in (20, 100_000):
                for first in (0, 1):
                    outcomes = set(self.interleaved(place, size, first))
                    self.assertEqual(outcomes, {False, True}, (place, size, first))

    @given(st.sampled_from(_PLACES), st.lists(st.booleans(), max_size=60))
    def test_any_order(self, place: str, order: list[bool]) -> None:
        """
        In whatever order their steps come, a version that was locked is there.
        """
        pair = Pair(place, 100_000)
        for which in order:
            pair.go(int(which), 1)
        for which in (0, 1):
            pair.finish(which)
        self.assert_kept(pair)


class DiskTests(VersionsCase, DiskCase):
    """
    The same on disk, with two stores.
    """

    async def test_at_once(self) -> None:
        """
        A version that gets a lock while another store removes it is kept, or it is gone before.
        """
        path = self.directory()
        blobs = MemoryBlobs()
        stores = []
        for worker in range(2):
            index = SQLiteIndex(path, self.lanes)
            self.addCleanup(lambda each=index: Deferred.fromCoroutine(each.close()))
            stores.append(LayoutStore(index, blobs, Clock(), os.urandom, worker, 2))
        one, other = stores
        await one.create_bucket("b", {SETTING: Versioning("Enabled").to_bytes()})
        was_locked, was_removed = await assert_race(self, one, other)
        self.assertEqual(was_locked + was_removed, 24)

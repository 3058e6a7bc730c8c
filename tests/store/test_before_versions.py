# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests with data that was written before there were versions.

``before_versions.json`` holds the rows of an index and the descriptions of blobs as they were
written then: the bucket ``b`` with objects of all kinds, each of which was overwritten once, and
an unfinished upload.
"""

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from kypello.model import NO_LOCK, NULL_VERSION, ListQuery, Write
from kypello.store.check import Checker
from kypello.store.findings import Problem
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.rebuild import Rebuilder
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.cases import AsyncCase
from tests.contracts.locks import LOCK, LocksContract, locked
from tests.contracts.object_store import pattern
from tests.contracts.versions import VersionsContract
from tests.store.faults import whats_wrong

_CONTENTS = {
    "small": pattern(700, 2),
    "large": pattern(20_000, 2),
    "empty": b"",
    "few": b"".join(pattern(100, number) for number in (1, 2)),
    "many": b"".join(pattern(100, number) for number in range(1, 19)),
}


class EarlierTests(VersionsContract, LocksContract, AsyncCase):
    """
    The contract in a store that was written before, and what is in there.
    """

    async def make_store(self) -> LayoutStore:
        """
        A store with what was written then, but for its bucket in contracts.
        """
        store = await self.open()
        for key in _CONTENTS:
            await store.delete("b", key)
        await store.delete_bucket("b")
        return store

    async def open(self) -> LayoutStore:
        """
        A store with what was written then.
        """
        self.index, self.blobs, self.clock = MemoryIndex(), MemoryBlobs(), Clock()
        self.clock.advance(1_700_001_000)
        path = Path(__file__).with_name("before_versions.json")
        stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
        for space, rows in stored["spaces"].items():
            writes = [
                Write(bytes.fromhex(key), bytes.fromhex(value) or _CONTENTS["small"])
                for key, value in rows
            ]
            await self.index.commit(space, writes, {}, ())
        for name, (size, seed, described) in stored["blobs"].items():
            body = BytesSource([pattern(size, seed)] if size else [])
            await self.blobs.write(name, body, lambda _, beside=described: bytes.fromhex(beside))
        return LayoutStore(self.index, self.blobs, self.clock, os.urandom)

    async def settle(self, _store: object) -> None:
        """
        Sweep as a process that has just begun.
        """
        store = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        await Sweeper(self.index, self.blobs, store.intents).sweep()

    async def assert_sound(self) -> None:
        """
        See that a deep check finds nothing, and that nothing is left.
        """
        problems: list[Problem] = []
        checker = Checker(self.index, self.blobs, InlineLanes(), problems.append, deep=True)
        await checker.run()
        self.assertEqual(problems, [])
        self.assertEqual(await whats_wrong(self.index, self.blobs), [])

    async def assert_contents(self, store: LayoutStore, version_id: str = "") -> None:
        """
        See that all objects are there.
        """
        for key, content in _CONTENTS.items():
            self.assertEqual(await self.read(store, key, version_id), content)
        if not version_id:
            self.assertEqual(await self.keys(store, ListQuery()), sorted(_CONTENTS))

    async def test_read(self) -> None:
        """
        All is found, under its key and as the version null, and is sound.
        """
        store = await self.open()
        await self.assert_sound()
        await self.assert_contents(store)
        await self.assert_contents(store, NULL_VERSION)
        for key in _CONTENTS:
            self.assertEqual(await self.stack(store, key), [NULL_VERSION])

    async def test_locked_since(self) -> None:
        """
        It has no lock, and can get one.
        """
        store = await self.open()
        await self.switch(store, "Enabled")
        for key in _CONTENTS:
            self.assertEqual((await store.head("b", key)).metadata.lock, NO_LOCK)
            await store.change_version("b", key, NULL_VERSION, locked(LOCK))
            self.assertEqual((await store.head("b", key)).metadata.lock, LOCK)
        await self.settle(store)
        await self.assert_sound()
        await self.assert_contents(store)

    async def test_versioned_since(self) -> None:
        """
        It becomes the oldest version of what is stored since versioning is enabled, or replaced by
        what is stored since it is suspended.
        """
        store = await self.open()
        await self.switch(store, "Enabled")
        made = {key: (await self.put(store, key)).version_id for key in _CONTENTS}
        await self.settle(store)
        await self.assert_sound()
        await self.assert_contents(store, NULL_VERSION)
        for key, version_id in made.items():
            self.assertEqual(await self.stack(store, key), [version_id, NULL_VERSION])
        await self.switch(store, "Suspended")
        for key in _CONTENTS:
            await store.delete("b", key)
        await self.settle(store)
        await self.assert_sound()
        for key, version_id in made.items():
            self.assertEqual(await self.stack(store, key), [NULL_VERSION, version_id])

    async def test_rebuilt(self) -> None:
        """
        When the index is lost, what blobs tell comes back, below versions that were stored since.
        """
        store = await self.open()
        await self.switch(store, "Enabled")
        made = await self.put(store, "large", pattern(100_000))
        marker = await store.delete("b", "few")
        await self.settle(store)
        index, problems = MemoryIndex(), list[Problem]()
        rebuilder = Rebuilder(index, self.blobs, {}, InlineLanes(), os.urandom, problems.append)
        await rebuilder.run()
        await rebuilder.close()
        self.index = index
        await self.assert_sound()
        store = LayoutStore(index, self.blobs, self.clock, os.urandom)
        self.assertEqual(await self.stack(store, "large"), [made.version_id, NULL_VERSION])
        self.assertEqual(await self.stack(store, "few"), [marker.version_id, NULL_VERSION])
        self.assertEqual(await self.stack(store, "many"), [NULL_VERSION])
        for key in ("large", "few", "many"):
            self.assertEqual(await self.read(store, key, NULL_VERSION), _CONTENTS[key])
        again = await self.put(store, "few")
        ids = [again.version_id, marker.version_id, NULL_VERSION]
        self.assertEqual(await self.stack(store, "few"), ids)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IObjectStore`` must do with locks of versions, and with guards of removals.
"""

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from kypello.errors import NoSuchVersion, Refused
from kypello.interfaces import Change, Guard, IObjectStore
from kypello.model import (
    COMPLIANCE,
    GOVERNANCE,
    NO_LOCK,
    NULL_VERSION,
    Assembly,
    ListQuery,
    Lock,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    VersionQuery,
)
from kypello.testing.fakes import BytesSource
from tests.contracts.object_store import blocks, metadata_of, pattern
from tests.contracts.uploads import BEGUN, choose
from tests.contracts.versions import VersionsCase, tagged

#: Content in the index, and in a blob.
_SIZES = (20, 100_000)

LOCK = Lock(COMPLIANCE, 1_900_000_000_000_000_000, True)


def locked(lock: Lock) -> Change:
    """
    A change that sets this lock.
    """

    def change(info: ObjectInfo) -> ObjectMetadata:
        """
        Change nothing else.
        """
        return evolve(info.metadata, lock=lock)

    return change


def watching(seen: list[ObjectInfo | None]) -> Guard:
    """
    A guard that lets everything happen, and notes what it sees.
    """
    return seen.append


def keep_locked(removed: ObjectInfo | None) -> None:
    """
    A guard that keeps what has a lock.

    :raises Refused:
    """
    if removed is not None and removed.metadata.lock != NO_LOCK:
        raise Refused("AccessDenied", "It is locked.")


def _keep_lock(upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
    """
    Make an object of all parts, with the lock of the upload.
    """
    made = choose()(upload, parts)
    return evolve(made, metadata=evolve(made.metadata, lock=upload.metadata.lock))


class LocksContract(VersionsCase):
    """
    The contract of an object store with locks.
    """

    async def test_guard_of_objects(self) -> None:
        """
        In a bucket without versions a guard sees the object that is removed, and nothing when
        there is none.
        """
        store = await self.with_bucket()
        for size in _SIZES:
            for version_id in ("", NULL_VERSION):
                made = await self.put(store, "k", pattern(size))
                seen: list[ObjectInfo | None] = []
                await store.delete("b", "k", None, version_id, watching(seen))
                self.assertEqual(seen, [made])
                await store.delete("b", "k", None, version_id, watching(seen))
                self.assertEqual(seen, [made, None])

    async def test_guard_of_versions(self) -> None:
        """
        A guard sees the version that is removed, wherever it is, but no delete marker, and nothing
        when a marker is made.
        """
        store = await self.versioned()
        made = [await self.put(store, "k", pattern(size)) for size in _SIZES * 2]
        seen: list[ObjectInfo | None] = []
        marker = await store.delete("b", "k", None, "", watching(seen))
        for number in (1, 3, 0, 2):
            await store.delete("b", "k", None, made[number].version_id, watching(seen))
        await store.delete("b", "k", None, marker.version_id, watching(seen))
        await store.delete("b", "k", None, made[0].version_id, watching(seen))
        self.assertEqual(seen, [None, made[1], made[3], made[0], made[2], None, None])
        self.assertEqual(await self.stack(store), [])

    async def test_guard_of_null(self) -> None:
        """
        While versioning is suspended a guard sees the version null that a marker takes the place
        of, also one that was stored before there were versions, or below others.
        """
        for between in (False, True):
            store = await self.with_bucket()
            made = await self.put(store, "k")
            if between:
                await self.switch(store, "Enabled")
                await self.put(store, "k")
            await self.switch(store, "Suspended")
            seen: list[ObjectInfo | None] = []
            for _ in range(2):
                await store.delete("b", "k", None, "", watching(seen))
            # The second time that is the marker.
            self.assertEqual(seen, [made, None])
            again = await self.put(store, "k")
            await store.delete("b", "k", None, NULL_VERSION, watching(seen))
            self.assertEqual(seen, [made, None, again])

    async def test_guard_refuses(self) -> None:
        """
        What a guard raises is raised, and nothing is removed.
        """

        def refuse(_removed: ObjectInfo | None) -> None:
            """
            Refuse.
            """
            raise Refused("AccessDenied", "No.")

        store = await self.with_bucket()
        made = await self.put(store, "k")
        for version_id in ("", NULL_VERSION):
            await self.raises(Refused, store.delete("b", "k", None, version_id, refuse))
        self.assertEqual(await store.head("b", "k"), made)
        for status in ("Suspended", "Enabled"):
            await self.switch(store, status)
            before = await self.stack(store)
            for version_id in ("", *before):
                await self.raises(Refused, store.delete("b", "k", None, version_id, refuse))
            self.assertEqual(await self.stack(store), before)
            await self.put(store, "k")
        await self.settle(store)
        await self.read(store, "k")

    async def test_lock(self) -> None:
        """
        A lock is set, changed and taken away, and nothing else of the version changes; tags are
        changed beside it.
        """
        store = await self.versioned()
        for size in _SIZES:
            made = await self.put(store, f"k{size}", pattern(size))
            self.assertEqual(made.metadata.lock, NO_LOCK)
            newer = await self.put(store, f"k{size}")
            for lock in (LOCK, Lock(GOVERNANCE, 5), Lock(hold=False), LOCK, NO_LOCK, LOCK):
                change = locked(lock)
                told = await store.change_version("b", made.key, made.version_id, change)
                expected = evolve(made, metadata=evolve(made.metadata, lock=lock))
                self.assertEqual(told, expected)
                await self.assert_told(store, expected)
            change = tagged(a="1")
            told = await store.change_version("b", made.key, made.version_id, change)
            self.assertEqual((told.metadata.lock, told.metadata.tags), (LOCK, {"a": "1"}))
            await self.assert_told(store, told)
            self.assertEqual(await store.head("b", newer.key), newer)
            await self.stack(store, made.key)
            await self.settle(store)
            content = await self.read(store, made.key, made.version_id)
            self.assertEqual(content, pattern(size))

    async def assert_told(self, store: IObjectStore, info: ObjectInfo) -> None:
        """
        HEAD and listings tell the same of a version.
        """
        told = await store.head("b", info.key, None, info.version_id)
        self.assertEqual(told, info)
        listing = await store.list_versions("b", VersionQuery(prefix=info.key))
        found = {each.info.version_id: each.info for each in listing.versions}
        self.assertEqual(found[info.version_id], info)

    async def test_lock_from_the_start(self) -> None:
        """
        What is stored with a lock has it from the start, in one piece or in parts.
        """
        store = await self.versioned()
        data = pattern(100)

        def describe(_size: int) -> ObjectMetadata:
            """
            Describe it with a lock.
            """
            return evolve(metadata_of(data), lock=LOCK)

        made = await store.put("b", "k", BytesSource(blocks(data)), describe)
        self.assertEqual(made.metadata.lock, LOCK)
        upload = await store.create_upload("b", "parts", evolve(BEGUN, lock=LOCK), "crc32c")
        self.assertEqual(upload.metadata.lock, LOCK)
        where = "b", "parts", upload.upload_id
        self.assertEqual((await store.upload(*where)).metadata.lock, LOCK)
        await self.put_part(store, upload, 1, data)
        made = await self.complete(store, upload, _keep_lock)
        self.assertEqual(made.metadata.lock, LOCK)
        listing = await store.list("b", ListQuery())
        self.assertEqual([each.metadata.lock for each in listing.objects], [LOCK, LOCK])

    async def test_lock_at_the_end(self) -> None:
        """
        An upload can get its lock when it is completed.
        """
        store = await self.versioned()
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, b"data")

        def assemble(upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
            """
            Set the lock.
            """
            made = choose()(upload, parts)
            return evolve(made, metadata=evolve(made.metadata, lock=LOCK))

        made = await self.complete(store, upload, assemble)
        self.assertEqual(made.metadata.lock, LOCK)
        self.assertEqual((await store.head("b", "k")).metadata.lock, LOCK)

    async def test_lock_and_removal_at_once(self) -> None:
        """
        A version that gets a lock while it is removed is kept, or it is gone before.
        """
        store = await self.versioned()
        await assert_race(self, store, store)


async def assert_race(case: Any, remover: IObjectStore, locker: IObjectStore) -> tuple[int, int]:
    """
    Race removals with locks, and see that nothing with a lock is gone.

    :param remover: Has the bucket ``b`` with versioning enabled.
    :param locker: Over the same data.
    :return: How often the one and the other came first.
    """
    outcomes: list[bool] = []

    async def lock(made: ObjectInfo) -> bool:
        """
        Lock a version, if it is there still.
        """
        try:
            await locker.change_version("b", made.key, made.version_id, locked(LOCK))
        except NoSuchVersion:
            return False
        return True

    async def remove(made: ObjectInfo) -> bool:
        """
        Remove a version, if it is not locked.
        """
        try:
            await remover.delete("b", made.key, None, made.version_id, keep_locked)
        except Refused:
            return False
        return True

    for number in range(24):
        made = await case.put(remover, f"k{number}", pattern(_SIZES[number % 2]))
        if number % 3 == 0:
            await case.put(remover, made.key)
        calls = [lock(made), remove(made)]
        if number % 4 < 2:
            calls.reverse()
        results = await gatherResults([Deferred.fromCoroutine(call) for call in calls])
        was_locked, was_removed = results if number % 4 >= 2 else results[::-1]
        case.assertEqual(was_locked, not was_removed)
        ids = await case.stack(remover, made.key)
        case.assertEqual(made.version_id in ids, was_locked)
        outcomes.append(was_locked)
    return sum(outcomes), len(outcomes) - sum(outcomes)

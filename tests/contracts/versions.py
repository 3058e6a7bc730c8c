# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IObjectStore`` must do with versions of objects.
"""

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from kypello.errors import (
    BucketNotEmpty,
    IsDeleteMarker,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PreconditionFailed,
)
from kypello.interfaces import IObjectStore
from kypello.model import (
    NULL_VERSION,
    Deletion,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    VersionListing,
    VersionQuery,
)
from kypello.versioning import SETTING, Versioning, is_version_id
from tests.contracts.object_store import (
    StuckSource,
    blocks,
    if_match,
    if_none_match,
    metadata_of,
    pattern,
)
from tests.contracts.uploads import UploadsCase, choose

#: Content in the index, and in a blob.
_SIZES = (20, 100_000)

#: Well-formed ids that no version has, and others.
_UNKNOWN = ("0" * 32, f"{1:016x}{'f' * 16}", "f" * 32, "x", "../x", "0" * 31, "a\x00b", "ü")


def tagged(**tags: str) -> Any:
    """
    A change that sets these tags.
    """

    def change(info: ObjectInfo) -> ObjectMetadata:
        """
        Change nothing else.
        """
        return evolve(info.metadata, tags=tags)

    return change


def _modified(info: ObjectInfo) -> int:
    return info.modified


class VersionsCase(UploadsCase):
    """
    What tests of versions have in common.
    """

    async def versioned(self, status: Any = "Enabled") -> IObjectStore:
        """
        A store with the bucket ``b``, whose versioning is enabled or suspended.
        """
        store = await self.make_store()
        await store.create_bucket("b", {SETTING: Versioning(status).to_bytes()})
        return store

    async def switch(self, store: IObjectStore, status: Any) -> None:
        """
        Enable or suspend versioning.
        """
        setting = Versioning(status).to_bytes()
        await store.change_bucket("b", lambda settings: {**settings, SETTING: setting})

    async def read(self, store: IObjectStore, key: str, version_id: str = "") -> bytes:
        """
        The content of a version, told by HEAD as by reading.
        """
        opened = await store.open("b", key, None, version_id)
        try:
            told = await store.head("b", key, None, version_id)
            self.assertEqual(told, opened.info)
            if version_id:
                self.assertEqual(told.version_id, version_id)
            return await self.drain(opened)
        finally:
            opened.close()

    async def stack(self, store: IObjectStore, key: str = "k") -> list[str]:
        """
        The ids of all versions of a key, from the newest to the oldest, as told by a listing that
        is right otherwise.
        """
        listing = await store.list_versions("b", VersionQuery())
        found = [each for each in listing.versions if each.info.key == key]
        self.assertEqual(
            [each.latest for each in found], [number == 0 for number in range(len(found))]
        )
        times = [each.info.modified for each in found]
        self.assertEqual(times, sorted(set(times), reverse=True))
        current = [each.info for each in found[:1] if not each.marker]
        listed = await store.list("b", ListQuery())
        self.assertEqual([info for info in listed.objects if info.key == key], current)
        for each in found:
            if each.marker:
                await self.raises(IsDeleteMarker, store.head("b", key, None, each.info.version_id))
            else:
                told = await store.head("b", key, None, each.info.version_id)
                self.assertEqual(evolve(told, parts=()), each.info)
        if found and found[0].marker:
            error = await self.raises(NoSuchKey, store.head("b", key))
            self.assertEqual(error.marker, found[0].info.version_id)
        return [each.info.version_id for each in found]


class VersionsContract(VersionsCase):
    """
    The contract of an object store with versions.
    """

    async def test_versions_kept(self) -> None:
        """
        Each write makes a version with an id of its own; the newest is the current one, and the
        others stay as they were.
        """
        store = await self.versioned()
        for size in _SIZES:
            key = f"k{size}"
            made = [await self.put(store, key, pattern(size, seed)) for seed in range(3)]
            ids = [info.version_id for info in made]
            self.assertEqual(len({*ids, NULL_VERSION}), 4)
            self.assertTrue(all(map(is_version_id, ids)))
            self.assertEqual(await self.stack(store, key), ids[::-1])
            await self.settle(store)
            for seed, info in enumerate(made):
                self.assertEqual(await self.read(store, key, info.version_id), pattern(size, seed))
                self.assertEqual(await store.head("b", key, None, info.version_id), info)
            self.assertEqual(await self.read(store, key), pattern(size, 2))
            self.assertEqual(await store.head("b", key), made[2])

    async def test_version_absent(self) -> None:
        """
        What names a version that is not there says so; to remove it does nothing.
        """
        store = await self.versioned()
        made = await self.put(store, "k", pattern(100_000))
        for key in ("k", "absent"):
            for version_id in (*_UNKNOWN, NULL_VERSION):
                await self.raises(NoSuchVersion, store.head("b", key, None, version_id))
                await self.raises(NoSuchVersion, store.open("b", key, None, version_id))
                change = store.change_version("b", key, version_id, tagged(a="1"))
                await self.raises(NoSuchVersion, change)
                deletion = await store.delete("b", key, None, version_id)
                self.assertEqual(deletion, Deletion(version_id))
        await self.raises(NoSuchVersion, store.head("b", "other", None, made.version_id))
        self.assertEqual(await self.stack(store), [made.version_id])
        await self.raises(NoSuchBucket, store.head("x", "k", None, made.version_id))
        await self.raises(NoSuchBucket, store.delete("x", "k", None, made.version_id))
        await self.raises(NoSuchBucket, store.list_versions("x", VersionQuery()))
        await self.raises(NoSuchBucket, store.change_version("x", "k", "", tagged()))

    async def test_never_versioned(self) -> None:
        """
        Without versioning a key has one version, with the id ``null``.
        """
        store = await self.with_bucket()
        for size in _SIZES:
            made = await self.put(store, "k", pattern(size))
            self.assertEqual(made.version_id, NULL_VERSION)
            self.assertEqual(await self.stack(store), [NULL_VERSION])
            self.assertEqual(await self.read(store, "k", NULL_VERSION), pattern(size))
            self.assertEqual(await store.delete("b", "k"), Deletion())
            self.assertEqual(await self.stack(store), [])
            error = await self.raises(NoSuchKey, store.head("b", "k"))
            self.assertEqual(error.marker, "")
            await self.put(store, "k", pattern(size))
            deletion = await store.delete("b", "k", None, NULL_VERSION)
            self.assertEqual(deletion, Deletion(NULL_VERSION))
            self.assertEqual(await self.stack(store), [])
        await store.delete_bucket("b")

    async def test_delete_markers(self) -> None:
        """
        A deletion hides what there was, even nothing; to remove the marker brings it back.
        """
        store = await self.versioned()
        made = await self.put(store, "k", pattern(100_000))
        markers = [await store.delete("b", "k") for _ in range(3)]
        self.assertTrue(all(marker.marker for marker in markers))
        ids = [marker.version_id for marker in markers]
        self.assertEqual(await self.stack(store), [*ids[::-1], made.version_id])
        await self.raises(NoSuchKey, store.open("b", "k"))
        await self.raises(IsDeleteMarker, store.open("b", "k", None, ids[0]))
        await self.raises(NoSuchKey, store.change_version("b", "k", "", tagged()))
        await self.raises(IsDeleteMarker, store.change_version("b", "k", ids[0], tagged()))
        self.assertEqual(await self.read(store, "k", made.version_id), pattern(100_000))
        for version_id in (ids[0], ids[2], ids[1]):
            deletion = await store.delete("b", "k", None, version_id)
            self.assertEqual(deletion, Deletion(version_id, True))
        self.assertEqual(await self.stack(store), [made.version_id])
        self.assertEqual(await self.read(store, "k"), pattern(100_000))
        again = await store.delete("b", "absent")
        self.assertEqual(await self.stack(store, "absent"), [again.version_id])
        await self.settle(store)

    async def test_remove_versions(self) -> None:
        """
        A version can be removed for good, wherever it is; the newest that is left is current.  A
        bucket is empty when it has no versions and no markers.
        """
        store = await self.versioned()
        for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
            made = [await self.put(store, "k", pattern(_SIZES[n % 2], n)) for n in range(3)]
            left = [info.version_id for info in made]
            left.append((await store.delete("b", "k")).version_id)
            ids = list(left)
            for number in order:
                await self.raises(BucketNotEmpty, store.delete_bucket("b"))
                deletion = await store.delete("b", "k", None, ids[number])
                self.assertEqual(deletion, Deletion(ids[number], number == 3))
                left.remove(ids[number])
                await self.settle(store)
                self.assertEqual(await self.stack(store), left[::-1])
                for info in made:
                    if info.version_id in left:
                        await self.read(store, "k", info.version_id)
            self.assertEqual(await self.stack(store), [])
            error = await self.raises(NoSuchKey, store.head("b", "k"))
            self.assertEqual(error.marker, "")
        await store.delete_bucket("b")

    async def test_null_version(self) -> None:
        """
        What was there before is the version ``null``, and stays when versioning is enabled.
        """
        store = await self.with_bucket()
        for size in _SIZES:
            key = f"k{size}"
            await self.put(store, key, pattern(size))
        await self.switch(store, "Enabled")
        for size in _SIZES:
            key = f"k{size}"
            self.assertEqual(await self.stack(store, key), [NULL_VERSION])
            made = await self.put(store, key, b"new")
            self.assertEqual(await self.stack(store, key), [made.version_id, NULL_VERSION])
            self.assertEqual(await self.read(store, key, NULL_VERSION), pattern(size))
            self.assertEqual(await self.read(store, key), b"new")
            await store.delete("b", key, None, made.version_id)
            self.assertEqual(await self.read(store, key), pattern(size))
            deletion = await store.delete("b", key, None, NULL_VERSION)
            self.assertEqual(deletion, Deletion(NULL_VERSION))
            self.assertEqual(await self.stack(store, key), [])
        self.assertEqual(await self.keys(store), [])

    async def test_null_hidden(self) -> None:
        """
        A marker hides what was there before versioning was enabled, which can still be removed.
        """
        store = await self.with_bucket()
        await self.put(store, "k", pattern(100_000))
        await self.switch(store, "Enabled")
        marker = await store.delete("b", "k")
        self.assertEqual(await self.stack(store), [marker.version_id, NULL_VERSION])
        await store.delete("b", "k", None, NULL_VERSION)
        self.assertEqual(await self.stack(store), [marker.version_id])
        made = await self.put(store, "k", b"new")
        self.assertEqual(await self.stack(store), [made.version_id, marker.version_id])
        await self.settle(store)

    async def test_suspended(self) -> None:
        """
        While versioning is suspended, the version ``null`` is replaced wherever it is, and becomes
        the current one; all others stay.
        """
        store = await self.with_bucket()
        await self.put(store, "k", pattern(100_000))
        await self.switch(store, "Enabled")
        first = await self.put(store, "k", b"first")
        await self.switch(store, "Suspended")
        for seed, size in enumerate((30, 100_000, 0)):
            made = await self.put(store, "k", pattern(size, seed))
            self.assertEqual(made.version_id, NULL_VERSION)
            self.assertEqual(await self.stack(store), [NULL_VERSION, first.version_id])
            self.assertEqual(await self.read(store, "k", NULL_VERSION), pattern(size, seed))
            await self.settle(store)
        await self.switch(store, "Enabled")
        second = await self.put(store, "k", b"second")
        ids = [second.version_id, NULL_VERSION, first.version_id]
        self.assertEqual(await self.stack(store), ids)
        await self.switch(store, "Suspended")
        self.assertEqual(await store.delete("b", "k"), Deletion(NULL_VERSION, True))
        ids = [NULL_VERSION, second.version_id, first.version_id]
        self.assertEqual(await self.stack(store), ids)
        self.assertEqual(await store.delete("b", "k"), Deletion(NULL_VERSION, True))
        self.assertEqual(await self.stack(store), ids)
        await self.put(store, "k", b"null")
        self.assertEqual(await self.stack(store), ids)
        self.assertEqual(await self.read(store, "k"), b"null")
        await self.settle(store)
        await store.delete("b", "k", None, NULL_VERSION)
        self.assertEqual(await self.read(store, "k"), b"second")
        self.assertEqual(await self.read(store, "k", first.version_id), b"first")

    async def test_suspended_first(self) -> None:
        """
        Versioning may be suspended before it was ever enabled.
        """
        store = await self.with_bucket()
        await self.put(store, "before", b"x")
        await self.switch(store, "Suspended")
        for key in ("before", "k"):
            await self.put(store, key, b"1")
            await self.put(store, key, b"2")
            self.assertEqual(await self.stack(store, key), [NULL_VERSION])
            self.assertEqual(await self.read(store, key), b"2")
            self.assertEqual(await store.delete("b", key), Deletion(NULL_VERSION, True))
            self.assertEqual(await self.stack(store, key), [NULL_VERSION])
            deletion = await store.delete("b", key, None, NULL_VERSION)
            self.assertEqual(deletion, Deletion(NULL_VERSION, True))
            self.assertEqual(await self.stack(store, key), [])
        await self.settle(store)
        await store.delete_bucket("b")

    async def test_excluded(self) -> None:
        """
        Keys that are excluded from versioning are treated as if it were suspended.
        """
        store = await self.make_store()
        setting = Versioning("Enabled", ("tmp/", "log"), True).to_bytes()
        await store.create_bucket("b", {SETTING: setting})
        for key in ("tmp/a", "logs", "folder/"):
            for _ in range(2):
                await self.put(store, key)
            self.assertEqual(await self.stack(store, key), [NULL_VERSION])
        for _ in range(2):
            await self.put(store, "a/tmp/a")
        self.assertEqual(len(await self.stack(store, "a/tmp/a")), 2)

    async def test_version_conditions(self) -> None:
        """
        Conditions see the current version only; a delete marker is nothing.
        """
        store = await self.versioned()
        first = await self.put(store, "k", b"1")
        second = await self.put(store, "k", b"2", if_match(first.etag))
        await self.raises(PreconditionFailed, self.put(store, "k", b"3", if_match(first.etag)))
        await self.raises(PreconditionFailed, self.put(store, "k", b"3", if_none_match))
        await self.raises(PreconditionFailed, store.delete("b", "k", if_match(first.etag)))
        removal = store.delete("b", "k", if_match(first.etag), first.version_id)
        await self.raises(PreconditionFailed, removal)
        self.assertEqual(await self.stack(store), [second.version_id, first.version_id])
        await store.delete("b", "k", if_match(second.etag), first.version_id)
        marker = await store.delete("b", "k", if_match(second.etag))
        third = await self.put(store, "k", b"3", if_none_match)
        ids = [third.version_id, marker.version_id, second.version_id]
        self.assertEqual(await self.stack(store), ids)
        await self.settle(store)

    async def test_version_uploads(self) -> None:
        """
        Each upload makes a version with its own parts; whoever asks again gets the same answer as
        long as that version is there.
        """
        store = await self.versioned()
        made = []
        for count in (2, 20):
            upload = await self.begin(store)
            data = [pattern(1000 + n, count) for n in range(count)]
            for number, part in enumerate(data, 1):
                await self.put_part(store, upload, number, part)
            where = "b", "k", upload.upload_id, b"request"
            info = await store.complete_upload(*where, choose())
            made.append((info, b"".join(data), where))
        await self.put(store, "k", b"last")
        await self.settle(store)
        ids = await self.stack(store)
        self.assertEqual(ids[1:], [info.version_id for info, _, _ in reversed(made)])
        for info, content, where in made:
            self.assertEqual(await self.read(store, "k", info.version_id), content)
            self.assertEqual(await store.complete_upload(*where, choose()), info)
            await store.change_version("b", "k", info.version_id, tagged(new="1"))
            self.assertEqual(await self.read(store, "k", info.version_id), content)
            await store.delete("b", "k", None, info.version_id)
            await self.raises(NoSuchUpload, store.complete_upload(*where, choose()))
        self.assertEqual(await self.stack(store), ids[:1])
        await self.settle(store)

    async def test_tags(self) -> None:
        """
        The tags of a version can be replaced; all else of it, and all other versions, stay.
        """
        for store in (await self.with_bucket(), await self.versioned()):
            made = [await self.put(store, "k", pattern(size, size)) for size in _SIZES]
            for info in made[-len(await self.stack(store)) :]:
                changed = await store.change_version("b", "k", info.version_id, tagged(a="1", b=""))
                expected = evolve(info, metadata=evolve(info.metadata, tags={"a": "1", "b": ""}))
                self.assertEqual(changed, expected)
                told = await store.head("b", "k", None, info.version_id)
                self.assertEqual(told, expected)
                await self.read(store, "k", info.version_id)
            await store.change_version("b", "k", "", tagged())
            self.assertEqual((await store.head("b", "k")).metadata.tags, {})
            await self.read(store, "k")
            await self.stack(store)

    async def test_tags_refused(self) -> None:
        """
        A change sees the version as HEAD tells it, and may refuse.
        """
        store = await self.versioned()
        made = await self.put(store, "k")

        def refuse(info: ObjectInfo) -> ObjectMetadata:
            """
            Refuse.
            """
            self.assertEqual((info.version_id, info.etag), (made.version_id, made.etag))
            raise PreconditionFailed("x")

        await self.raises(PreconditionFailed, store.change_version("b", "k", "", refuse))
        self.assertEqual(await store.head("b", "k"), made)

    async def test_tags_at_once(self) -> None:
        """
        Of changes that come at once none is lost.
        """
        store = await self.versioned()
        made = await self.put(store, "k")

        async def add(name: str) -> None:
            """
            Add a tag.
            """

            def change(info: ObjectInfo) -> ObjectMetadata:
                """
                Leave the others.
                """
                return evolve(info.metadata, tags={**info.metadata.tags, name: ""})

            await store.change_version("b", "k", made.version_id, change)

        names = [f"t{number}" for number in range(6)]
        await gatherResults([Deferred.fromCoroutine(add(name)) for name in names])
        tags = (await store.head("b", "k")).metadata.tags
        self.assertEqual(sorted(tags), sorted([*names, "tag"]))

    async def fill(self, store: IObjectStore) -> list[tuple[str, str]]:
        """
        Store versions of many keys, and give keys with ids in the order of a listing.
        """
        expected = []
        for key in ("a", "a/1", "a/2", "a0", "b/1", "\x01", "ü", "z"):
            await self.put(store, key)
        await self.switch(store, "Enabled")
        for key, writes in (("\x01", 0), ("a", 3), ("a/1", 2), ("a/2", 0), ("a0", 1)):
            ids = [(await self.put(store, key)).version_id for _ in range(writes)]
            expected += [(key, each) for each in [*reversed(ids), NULL_VERSION]]
        marker = await store.delete("b", "b/1")
        expected += [("b/1", marker.version_id), ("b/1", NULL_VERSION)]
        for key in ("b/2", "c"):
            ids = [(await self.put(store, key)).version_id for _ in range(2)]
            expected += [(key, each) for each in reversed(ids)]
        expected += [("z", NULL_VERSION), ("ü", NULL_VERSION)]
        return expected

    def told(self, listing: VersionListing) -> list[tuple[str, str]]:
        """
        What a page tells, groups having no id.
        """
        found = [(each.info.key, each.info.version_id) for each in listing.versions]
        groups = [(prefix, "") for prefix in listing.prefixes]
        self.assertEqual(found, sorted(found, key=lambda each: each[0].encode()))
        self.assertEqual(groups, sorted(groups))
        return sorted([*found, *groups], key=lambda each: each[0].encode())

    async def pages(self, store: IObjectStore, query: VersionQuery) -> list[tuple[str, str]]:
        """
        All pages of a listing.
        """
        found = []
        while True:
            listing = await store.list_versions("b", query)
            page = self.told(listing)
            self.assertTrue(len(page) <= query.limit)
            found += page
            if listing.next is None:
                return found
            self.assertEqual(len(page), query.limit)
            self.assertEqual(listing.next, page[-1])
            query = evolve(query, after_key=listing.next[0], after_version=listing.next[1])

    async def test_version_pages(self) -> None:
        """
        Pages of any size tell the same, in the same order, whatever is grouped.
        """
        store = await self.with_bucket()
        expected = await self.fill(store)
        grouped = [each for each in expected if "/" not in each[0]]
        grouped[-6:-6] = [("b/", "")]
        grouped.insert(grouped.index(("a", NULL_VERSION)) + 1, ("a/", ""))
        for limit in (1, 2, 3, 5, 1000):
            for brief in (False, True):
                query = VersionQuery(limit=limit, brief=brief)
                self.assertEqual(await self.pages(store, query), expected)
            query = VersionQuery(delimiter="/", limit=limit)
            self.assertEqual(sorted(await self.pages(store, query)), sorted(grouped))
            query = VersionQuery(prefix="a/", limit=limit)
            below = [each for each in expected if each[0].startswith("a/")]
            self.assertEqual(await self.pages(store, query), below)
        self.assertEqual(await store.list_versions("b", VersionQuery(limit=0)), VersionListing())
        self.assertEqual(await self.pages(store, VersionQuery(prefix="x")), [])

    async def test_version_markers(self) -> None:
        """
        A listing goes on behind a key, or behind a version of it, which need not be there.
        """
        store = await self.with_bucket()
        expected = await self.fill(store)
        for position, (key, version_id) in enumerate(expected):
            query = VersionQuery(after_key=key, after_version=version_id)
            rest = expected[position + 1 :]
            self.assertEqual(await self.pages(store, query), rest)
            later = [each for each in rest if each[0] != key]
            self.assertEqual(await self.pages(store, VersionQuery(after_key=key)), later)
        query = VersionQuery(delimiter="/", after_key="a/")
        self.assertEqual((await self.pages(store, query))[0][0], "a0")
        for key, version_id in expected:
            await store.delete("b", key, None, version_id)
            query = VersionQuery(after_key=key, after_version=version_id)
            rest = expected[expected.index((key, version_id)) + 1 :]
            self.assertEqual(await self.pages(store, query), rest)
        await store.delete_bucket("b")

    async def test_emptied_by_pages(self) -> None:
        """
        Who removes what each page tells, and goes on behind it, empties a bucket.
        """
        for limit in (1, 2, 7):
            store = await self.with_bucket()
            await self.fill(store)
            query = VersionQuery(limit=limit)
            while True:
                listing = await store.list_versions("b", query)
                for each in listing.versions:
                    await store.delete("b", each.info.key, None, each.info.version_id)
                if listing.next is None:
                    break
                key, version_id = listing.next
                query = evolve(query, after_key=key, after_version=version_id)
            self.assertEqual(await self.pages(store, VersionQuery()), [])
            await store.delete_bucket("b")

    async def test_many_versions(self) -> None:
        """
        Hundreds of versions of one key are told page by page.
        """
        store = await self.versioned()
        ids = [(await self.put(store, "k")).version_id for _ in range(300)]
        expected = [("k", each) for each in reversed(ids)]
        self.assertEqual(await self.pages(store, VersionQuery(limit=70)), expected)
        query = VersionQuery(delimiter="k", limit=1)
        self.assertEqual(await self.pages(store, query), [("k", "")])

    async def test_writers_at_once(self) -> None:
        """
        Of those who write one key at once each makes a version, and none is lost; who writes on
        condition follows the version that met it.
        """
        store = await self.versioned()
        for size in _SIZES:
            await self.write_at_once(store, f"k{size}", size)

    async def write_at_once(self, store: IObjectStore, key: str, size: int) -> None:
        """
        Write and delete one key at once.
        """
        made: list[ObjectInfo] = []
        markers: list[str] = []

        async def write(number: int) -> None:
            """
            Write, or delete.
            """
            if number % 4 == 3:
                markers.append((await store.delete("b", key)).version_id)
            else:
                made.append(await self.put(store, key, pattern(size, number)))

        async def follow() -> None:
            """
            Write after the current version.
            """
            try:
                current = await store.head("b", key)
                info = await self.put(store, key, b"after", if_match(current.etag))
            except (NoSuchKey, PreconditionFailed):
                return
            made.append(info)
            order = await self.ids(store, key)
            self.assertEqual(order.index(info.version_id) + 1, order.index(current.version_id))

        work: Sequence[Any] = [*(write(number) for number in range(8)), follow(), follow()]
        await gatherResults([Deferred.fromCoroutine(each) for each in work])
        ids = await self.stack(store, key)
        self.assertEqual(sorted(ids), sorted([info.version_id for info in made] + markers))
        order = [ids.index(info.version_id) for info in sorted(made, key=_modified)]
        self.assertEqual(order, sorted(order, reverse=True))

    async def ids(self, store: IObjectStore, key: str) -> list[str]:
        """
        The ids of all versions of a key that others are writing.
        """
        listing = await store.list_versions("b", VersionQuery(prefix=key))
        return [each.info.version_id for each in listing.versions]

    async def test_removals_at_once(self) -> None:
        """
        Versions of one key can be removed at once, while others are written.
        """
        store = await self.versioned()
        ids = [(await self.put(store, "k", pattern(100 * n, n))).version_id for n in range(6)]
        ids.append((await store.delete("b", "k")).version_id)
        made: list[str] = []

        async def write() -> None:
            """
            Write one more.
            """
            made.append((await self.put(store, "k", b"new")).version_id)

        removals: list[Any] = [store.delete("b", "k", None, each) for each in ids]
        work = [Deferred.fromCoroutine(each) for each in [*removals, write(), write()]]
        await gatherResults(work)
        self.assertEqual(sorted(await self.stack(store)), sorted(made))
        again = [Deferred.fromCoroutine(store.delete("b", "k", None, each)) for each in made * 2]
        await gatherResults(again)
        self.assertEqual(await self.stack(store), [])
        await self.settle(store)

    async def test_version_pinned(self) -> None:
        """
        A version that is open can be read to its end although it was removed.
        """
        store = await self.versioned()
        made = await self.put(store, "k", pattern(200_000))
        await self.put(store, "k", b"new")
        opened = await store.open("b", "k", None, made.version_id)
        await store.delete("b", "k", None, made.version_id)
        await self.settle(store)
        self.assertEqual(await self.drain(opened), pattern(200_000))
        opened.close()
        await self.settle(store)
        await self.raises(NoSuchVersion, store.open("b", "k", None, made.version_id))

    async def test_switched_meanwhile(self) -> None:
        """
        Versions that were stored since versioning was enabled stay, even if the write of another
        one began before.
        """
        for size in (100, 200_000):
            store = await self.with_bucket()
            await self.put(store, "k", b"before")
            body = StuckSource(blocks(pattern(size)))
            put = Deferred.fromCoroutine(
                store.put("b", "k", body, lambda _: metadata_of(b"content"))
            )
            while body.waiting is None:
                await self.turn()
            await self.switch(store, "Enabled")
            made = await self.put(store, "k", b"since")
            body.waiting.callback(b"")
            last = await put
            ids = [last.version_id, made.version_id, NULL_VERSION]
            self.assertEqual(await self.stack(store), ids)
            self.assertEqual(await self.read(store, "k", made.version_id), b"since")
            self.assertEqual(await self.read(store, "k", NULL_VERSION), b"before")
            self.assertEqual(await self.read(store, "k"), pattern(size))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.rebuild``: versions of objects, and delete markers.
"""

from typing import Any

from twisted.internet.defer import Deferred

from kypello.model import GOVERNANCE, Lock, VersionQuery
from kypello.store.records import (
    BlobRecord,
    ObjectRecord,
    object_key,
    pack,
    place_key,
    unpack,
    version_key,
    versions_of,
)
from kypello.versioning import SETTING, Versioning, told_sequence
from tests.contracts.locks import locked
from tests.contracts.object_store import StuckSource, blocks, metadata_of, pattern
from tests.contracts.versions import tagged
from tests.http.resources import read_all
from tests.store.faults import whats_wrong
from tests.store.rebuilding import BIG, SMALL, SSE_S3, RebuildCase, lose, write_row

#: Key, id, whether it is the newest, and what else is told, with the content.
_Told = tuple[str, str, bool, object, bytes]


class VersionsCase(RebuildCase):
    """
    A test with versions of all kinds.
    """

    async def switch(self, status: Any) -> None:
        """
        Enable or suspend versioning.
        """
        setting = Versioning(status).to_bytes()
        await self.store.change_bucket("b", lambda settings: {**settings, SETTING: setting})

    async def delete(self, key: str, version_id: str = "") -> str:
        """
        Delete an object or a version, a second later.
        """
        self.clock.advance(1)
        return (await self.store.delete("b", key, None, version_id)).version_id

    async def fill(self) -> None:
        """
        Store it.
        """
        await self.store.create_bucket("b", {})
        for name, encryption in (("plain", None), ("sealed", SSE_S3)):
            for key in ("before", "hidden", "null", "removed", "only"):
                await self.put(f"{name}/{key}", BIG, encryption, seed=1)
        await self.switch("Enabled")
        for name, encryption in (("plain", None), ("sealed", SSE_S3)):
            for seed, size in enumerate((BIG, SMALL, BIG, 0, BIG)):
                await self.put(f"{name}/stack", size, encryption, seed=seed)
            await self.assemble(f"{name}/stack", 3, encryption)
            await self.assemble(f"{name}/stack", 20, encryption)
            await self.put(f"{name}/before", BIG, encryption, seed=2)
            await self.delete(f"{name}/hidden")
            await self.delete(f"{name}/never")
            await self.put(f"{name}/again", BIG, encryption)
            await self.delete(f"{name}/again")
            await self.delete(f"{name}/again")
            await self.put(f"{name}/again", BIG + 1, encryption)
            await self.put(f"{name}/removed", BIG, encryption, seed=2)
            await self.delete(f"{name}/removed", "null")
            await self.put(f"{name}/gone", BIG, encryption)
            gone = await self.store.head("b", f"{name}/gone")
            await self.delete(f"{name}/gone", gone.version_id)
            await self.put(f"{name}/null", BIG, encryption, seed=2)
        await self.switch("Suspended")
        for name, encryption in (("plain", None), ("sealed", SSE_S3)):
            await self.put(f"{name}/null", BIG, encryption, seed=3)
            await self.delete(f"{name}/before")
            await self.put(f"{name}/before", BIG, encryption, seed=4)
        await self.switch("Enabled")
        await self.put("plain/null", BIG, None, seed=5)
        await self.delete("sealed/null")
        await self.at_once()
        await self.tag_some()
        await self.sweep()
        self.before = await self.stacks()

    async def tag_some(self) -> None:
        """
        Change the tags of a version of each key, in one piece and in parts, some of them twice, and
        lock some.
        """
        listing = await self.store.list_versions("b", VersionQuery())
        for number, each in enumerate(listing.versions):
            for count in range(number % 3):
                if not each.marker:
                    self.clock.advance(1)
                    await self.store.change_version(
                        "b", each.info.key, each.info.version_id, tagged(count=str(count))
                    )
            if number % 2 and not each.marker:
                self.clock.advance(1)
                await self.store.change_version(
                    "b", each.info.key, each.info.version_id, locked(Lock(GOVERNANCE, number, True))
                )

    async def at_once(self) -> None:
        """
        Store versions of one key that began at once, so that ids do not tell all their places.
        """
        begun = []
        for seed in range(3):
            self.clock.advance(1)
            body = StuckSource(blocks(pattern(BIG, seed)))
            put = self.store.put("b", "once", body, lambda _: metadata_of(b"once"), None)
            begun.append((body, Deferred.fromCoroutine(put)))
            while body.waiting is None:
                await self.lanes.lane().run(int)
        for body, made in begun:
            assert body.waiting is not None
            body.waiting.callback(b"")
            self.assertEqual(told_sequence((await made).version_id), 1)

    async def stacks(self) -> list[_Told]:
        """
        All versions, read to their ends.
        """
        found: list[_Told] = []
        for each in (await self.store.list_versions("b", VersionQuery())).versions:
            told, content = each.info, b"marker"
            if not each.marker:
                opened = await self.store.open("b", told.key, None, told.version_id)
                source = await opened.read(None)
                told, content = opened.info, await read_all(source)
                source.close()
                opened.close()
            found.append((told.key, told.version_id, each.latest, told.metadata, content))
        return found

    def without(self, lost: set[tuple[str, str]]) -> list[_Told]:
        """
        What there was, but for some keys with ids.
        """
        kept = [each for each in self.before if each[:2] not in lost]
        keys = [each[0] for each in kept]
        return [
            (key, version_id, keys.index(key) == number, *told)
            for number, (key, version_id, _, *told) in enumerate(kept)
        ]

    async def as_it_was(self, lost: set[tuple[str, str]]) -> None:
        """
        See that all is as it was, but for what is lost; and that it goes on from there.
        """
        await self.assert_sound()
        self.assertEqual(
            [each[:3] for each in await self.stacks()], [each[:3] for each in self.without(lost)]
        )
        self.assertEqual(await self.stacks(), self.without(lost))
        for key in {each[0] for each in self.before}:
            await self.put(key, SMALL)
            await self.delete(key)
        await self.assert_sound()
        listing = await self.store.list_versions("b", VersionQuery())
        for each in listing.versions:
            await self.delete(each.info.key, each.info.version_id)
        self.assertEqual(await self.stacks(), [])
        await self.sweep()
        self.assertEqual(await whats_wrong(self.index, self.blobs), [])

    async def rows(self, key: str) -> list[tuple[bytes, ObjectRecord]]:
        """
        All rows of versions of a key.
        """
        rows = await self.index.scan(await self.space(), *versions_of(key), 100)
        return [(row, unpack(ObjectRecord, raw)) for row, raw in rows]

    async def without_rows(self, *rows: bytes) -> Any:
        """
        Rebuild when rows are lost.

        :return: The problems.
        """
        database = await self.database()
        await self.index.close()
        for row in rows:
            write_row(database, row, None)
        return (await self.rebuild())[1]


class RebuiltVersionsTests(VersionsCase):
    """
    Versions come back.
    """

    async def test_sound(self) -> None:
        """
        Of a sound index all is kept as it is.
        """
        await self.fill()
        summary, problems = await self.rebuild()
        self.assertEqual((problems, summary["described"]), ([], 0))
        objects = [each for each in self.before if each[4] != b"marker"]
        self.assertEqual(summary["objects"], len(objects))
        await self.as_it_was(set())

    async def test_all(self) -> None:
        """
        When the whole index is lost all versions come back that are not small, with their ids and
        in their order, and so do delete markers: what was deleted stays deleted.
        """
        await self.fill()
        await self.index.close()
        lose(self.path / "index")
        await self.rebuild()
        small = {each[:2] for each in self.before if len(each[4]) <= SMALL}
        markers = {each[:2] for each in self.before if each[4] == b"marker"}
        self.assertEqual(len(small - markers), 4)
        await self.as_it_was(small - markers)

    async def test_versions_lost(self) -> None:
        """
        Versions whose rows are lost come back at their places: the current one from its other
        record, and others from their blobs.
        """
        await self.fill()
        lost = []
        for key in ("plain/stack", "sealed/before", "plain/again", "sealed/null", "once"):
            rows = await self.rows(key)
            lost += [rows[0][0], rows[-1][0]]
        self.assertEqual(await self.without_rows(*lost), [])
        await self.as_it_was(set())

    async def test_current_lost(self) -> None:
        """
        The current version comes back from among all versions.
        """
        await self.fill()
        keys = {each[0] for each in self.before}
        rows = [object_key(key) for key in keys if not key.endswith("/only")]
        self.assertEqual(await self.without_rows(*rows), [])
        await self.as_it_was(set())

    async def test_places_lost(self) -> None:
        """
        Where versions are is told again.
        """
        await self.fill()
        rows = [place_key(key, version_id) for key, version_id, *_ in self.before]
        self.assertEqual(await self.without_rows(*rows), [])
        await self.as_it_was(set())

    async def test_contradictions(self) -> None:
        """
        A current version that is none, and a place that is that of another version, are put right.
        """
        await self.fill()
        rows = await self.rows("plain/stack")
        database, marked = await self.database(), await self.rows("plain/again")
        await self.index.close()
        write_row(database, object_key("plain/stack"), pack(rows[2][1]))
        write_row(database, object_key("sealed/never"), pack(rows[2][1]))
        write_row(database, place_key("plain/again", marked[1][1].version_id), pack(rows[0][1]))
        write_row(database, version_key("once", 9)[:-1], pack(rows[0][1]))
        write_row(database, version_key("once", 9), pack(rows[0][1]))
        await self.rebuild()
        await self.as_it_was(set())

    async def test_small_lost(self) -> None:
        """
        A small version whose content is lost is lost, and told; the others stay.
        """
        await self.fill()
        small = [each for each in self.before if len(each[4]) == SMALL]
        rows = [b"c%b\x00%b" % (key.encode(), each.encode()) for key, each, *_ in small]
        problems = await self.without_rows(*rows)
        self.assertEqual({each["key"] for each in problems}, {each[0] for each in small})
        await self.as_it_was({each[:2] for each in small})

    async def test_settings_lost(self) -> None:
        """
        A bucket whose settings are lost keeps its versions, as if versioning were suspended.
        """
        await self.fill()
        space = await self.space()
        await self.index.close()
        lose(self.path / "index")
        for name in await self.blobs.names("", 10_000):
            described = unpack(BlobRecord, await self.blobs.describe(name))
            if described.about is not None or "sealed/" in described.key:
                await self.blobs.delete([name])
        await self.rebuild()
        self.assertNotEqual(await self.space(), space)
        plain = [each for each in self.before if not each[0].startswith("sealed/")]
        kept = [each for each in plain if each[4] == b"marker" or len(each[4]) > SMALL]
        self.assertEqual([each[:2] for each in await self.stacks()], [each[:2] for each in kept])
        await self.put("once", BIG)
        self.assertEqual((await self.store.head("b", "once")).version_id, "null")
        self.assertEqual(len(await self.rows("once")), 4)
        await self.assert_sound()

    async def test_tagged_and_replaced(self) -> None:
        """
        A change of tags does not bring back what was replaced since, by a write that began before
        it, although nothing has been swept.
        """
        await self.store.create_bucket("b", {})
        await self.put("k", BIG, None, seed=1)
        self.clock.advance(1)
        body = StuckSource(blocks(pattern(BIG, 2)))
        put = Deferred.fromCoroutine(
            self.store.put("b", "k", body, lambda _: metadata_of(b"new"), None)
        )
        while body.waiting is None:
            await self.lanes.lane().run(int)
        self.clock.advance(1)
        await self.store.change_version("b", "k", "", tagged(old="yes"))
        body.waiting.callback(b"")
        await put
        before = await self.stacks()
        await self.index.close()
        lose(self.path / "index")
        await self.rebuild()
        self.assertEqual(await self.stacks(), before)
        await self.assert_sound()

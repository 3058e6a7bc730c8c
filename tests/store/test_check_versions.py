# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.check``: versions of objects, and delete markers.
"""

import msgspec

from kypello.model import NULL_VERSION
from kypello.store import checkedobjects
from kypello.store.records import (
    STATE,
    ObjectRecord,
    PlaceRecord,
    content_key,
    object_key,
    pack,
    place_key,
    unpack,
    versions_of,
)
from kypello.versioning import SETTING, Versioning
from tests.store.test_check import BIG, SMALL, SSE_S3, CheckCase


class VersionTests(CheckCase):
    """
    Versions of objects.
    """

    async def fill(self) -> None:
        """
        Store versions of all kinds.
        """
        await self.put("k", SMALL)
        await self.put("only", BIG)
        setting = Versioning("Enabled").to_bytes()
        await self.encrypted.change_bucket("b", lambda old: {**old, SETTING: setting})
        for encryption in (None, SSE_S3):
            for size in (0, SMALL, BIG):
                await self.put("k", size, encryption)
            await self.assemble("k", 3, encryption)
            await self.assemble("k", 20, encryption)
        await self.encrypted.delete("b", "hidden")
        await self.put("other", BIG)

    async def versions(self, key: str = "k") -> list[tuple[bytes, ObjectRecord]]:
        """
        All versions of a key, with their rows.
        """
        rows = await self.index.scan(await self.space(), *versions_of(key), 100)
        return [(row, unpack(ObjectRecord, raw)) for row, raw in rows]

    async def test_sound(self) -> None:
        """
        Each version is counted and read once, however versions lie in pages.
        """
        await self.fill()
        for page, many in ((256, 4096), (2, 4096), (256, 1), (2, 3)):
            self.patch(checkedobjects, "PAGE", page)
            self.patch(checkedobjects, "_MANY", many)
            figures, problems = await self.check(deep=True)
            self.assertEqual(problems, [])
            self.assertEqual((figures.objects, figures.parts, figures.decrypted), (13, 46, 5))
            self.assertEqual(figures.not_decrypted, 0)

    async def test_current(self) -> None:
        """
        The newest version is the current one, and a current one is among all versions.
        """
        await self.fill()
        rows = await self.versions()
        newest, older = rows[0][1], rows[1][1]
        for key, value, version, what in (
            ("k", pack(older), newest.version_id, "not the current one"),
            ("k", None, newest.version_id, "not the current one"),
            ("hidden", pack(older), "", "not the current one"),
        ):
            (before,) = await self.index.get(await self.space(), [object_key(key)])
            await self.write(object_key(key), value)
            problems = await self.problems()
            self.assertIn(what, problems[0].what)
            self.assertEqual(problems[0].key, key)
            if version:
                self.assertEqual(problems[0].version, version)
            await self.write(object_key(key), before)
        ((row, _),) = await self.versions("other")
        await self.write(row, None)
        (problem,) = await self.problems()
        self.assertEqual(problem.key, "other")
        self.assertIn("not among the versions", problem.what)

    async def test_places(self) -> None:
        """
        Where a version is, is told if its id does not tell it, and is true.
        """
        await self.fill()
        place = place_key("k", NULL_VERSION)
        await self.write(place, pack(PlaceRecord(7)))
        self.assertIn("place is told to be 7", (await self.problems())[0].what)
        await self.write(place, None)
        self.assertIn("place is not told", (await self.problems())[0].what)
        await self.write(place, pack(PlaceRecord(1)))
        await self.write(place_key("k", "0" * 32), pack(PlaceRecord(1)))
        self.assertIn("there is a place of it", (await self.problems())[0].what)
        await self.write(place_key("k", "0" * 32), None)
        row, record = (await self.versions())[0]
        moved = msgspec.structs.replace(record, sequence=99)
        await self.write(row, pack(moved))
        self.assertIn("that of place 99", (await self.problems())[0].what)

    async def test_damaged(self) -> None:
        """
        What is wrong with an older version is told of that version.
        """
        await self.fill()
        rows = await self.versions()
        small = next(each for _, each in rows if each.size == SMALL)
        await self.write(content_key("k", small.version_id), None)
        (problem,) = await self.problems()
        self.assertEqual((problem.key, problem.version), ("k", small.version_id))
        sealed = next(each for _, each in rows if each.size > BIG and not each.manifest)
        await self.damage(sealed.parts[0].blob, bytes(sealed.size))
        versions = {each.version for each in await self.problems()}
        self.assertEqual(versions, {small.version_id, sealed.version_id})
        ((_, marker),) = await self.versions("hidden")
        await self.blobs.delete([marker.manifest])
        versions = {each.version for each in await self.problems()}
        self.assertIn(marker.version_id, versions)
        await self.write(STATE, b"junk")
        self.assertIn("StateRecord", " ".join(each.what for each in await self.problems()))
        await self.write(STATE, None)
        self.assertIn("no record says so", (await self.problems())[0].what)

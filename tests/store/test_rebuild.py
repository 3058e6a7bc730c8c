# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.rebuild``: what becomes of databases that are lost.
"""

import os
from pathlib import Path

from tests.store.rebuilding import BIG, SMALL, SSE_S3, LosingCase, lose


class LostTests(LosingCase):
    """
    Databases that are not there any more.
    """

    async def test_nothing(self) -> None:
        """
        Of a sound index all records are copied, and nothing else is done; the old one is kept.
        """
        await self.fill()
        await self.remember()
        before = sorted(path.name for path in (self.path / "index").rglob("*.sqlite"))
        summary, problems = await self.rebuild()
        self.assertEqual(problems, [])
        self.assertTrue(summary["complete"])
        self.assertEqual((summary["damaged"], summary["described"]), (0, 0))
        self.assertEqual(summary["buckets"], 3)
        self.assertEqual(summary["objects"], len(self.remembered))
        self.assertEqual(summary["uploads"], len(self.uploads))
        aside = Path(summary["set_aside"])
        self.assertEqual(os.listdir(aside), ["index"])
        kept = sorted(path.name for path in (aside / "index").rglob("*.sqlite"))
        self.assertEqual(kept, before)
        self.assertFalse((self.path / "rebuilding").exists())
        await self.as_before()

    async def test_all(self) -> None:
        """
        When the whole index is lost, all that is not small comes back: buckets with their
        settings, the last of several versions, parts in order, unfinished uploads.  What was
        deleted does not.
        """
        await self.fill()
        await self.remember()
        await self.index.close()
        lose(self.path / "index")
        summary, problems = await self.rebuild()
        self.assertEqual(
            sorted((each["bucket"], each["what"].partition(":")[0]) for each in problems),
            [(name, "its database is not there") for name in ("b", "empty", "other")],
        )
        self.assertEqual(summary["set_aside"], "")
        self.assertGreater(len(self.small), 0)
        await self.as_before(without=self.small)

    async def test_system(self) -> None:
        """
        When the database of the system is lost nothing is: it comes back from descriptions.
        """
        await self.fill()
        await self.remember()
        await self.index.close()
        lose(self.path / "index" / "system.sqlite")
        summary, problems = await self.rebuild()
        self.assertEqual((problems, summary["described"]), ([], 0))
        await self.as_before()

    async def test_bucket(self) -> None:
        """
        When the database of a bucket is lost all of it that is not small comes back.
        """
        await self.fill()
        await self.remember()
        database = await self.database()
        await self.index.close()
        lose(database)
        _, problems = await self.rebuild()
        self.assertEqual([each["bucket"] for each in problems], ["b"])
        await self.as_before(without=self.small)

    async def test_canaries(self) -> None:
        """
        A lost canary is made again when its master key is used.
        """
        await self.fill()
        await self.remember()
        await self.index.close()
        lose(self.path / "index" / "ca" / "canaries.sqlite")
        _, problems = await self.rebuild()
        self.assertEqual(problems, [])
        await self.as_before()
        await self.store.create_bucket("fresh", {})
        await self.put("k", BIG, SSE_S3, "fresh")
        self.assertIn("canaries", await self.index.spaces())

    async def test_log(self) -> None:
        """
        What is in the log only counts, also when its database is lost.
        """
        await self.fill()
        await self.remember()
        database = await self.database()
        copies = {path: path.read_bytes() for path in database.parent.glob(database.name + "*")}
        self.assertEqual(len(copies), 3)
        await self.index.close()
        for path, content in copies.items():
            path.write_bytes(content)
        database.unlink()
        summary, problems = await self.rebuild()
        self.assertEqual(summary["damaged"], 1)
        self.assertEqual([each["bucket"] for each in problems], ["b"])
        await self.as_before()

    async def test_lost_log(self) -> None:
        """
        When the last commits are lost with the log, what they stored is newer than what the
        database tells, and counts.
        """
        await self.store.create_bucket("b", {})
        await self.put("small", SMALL)
        await self.put("big", BIG)
        await self.assemble("parts", 2)
        upload = await self.upload("completed", 2)
        database = await self.database()
        await self.index.close()
        before = database.read_bytes()
        self.open()
        for key in ("small", "big", "parts", "new"):
            await self.put(key, BIG, None, seed=5)
        await self.complete("completed", upload, (1, 2))
        await self.sweep()
        await self.remember()
        await self.index.close()
        database.write_bytes(before)
        _, problems = await self.rebuild()
        self.assertEqual([each for each in problems if not each.get("orphan")], [])
        await self.as_before()

    async def test_again(self) -> None:
        """
        A second rebuild changes nothing and keeps the first one's index.
        """
        await self.fill()
        await self.remember()
        await self.index.close()
        lose(self.path / "index")
        await self.rebuild()
        summary, problems = await self.rebuild()
        self.assertEqual((problems, summary["described"]), ([], 0))
        summary, problems = await self.rebuild()
        self.assertEqual(problems, [])
        self.assertEqual(sorted(os.listdir(self.path))[-2:], ["set-aside-1", "set-aside-2"])
        await self.as_before(without=self.small)

    async def test_dry_run(self) -> None:
        """
        A dry run tells the same and changes nothing.
        """
        await self.fill()
        database = await self.database()
        await self.index.close()
        lose(database)
        before = {path: path.stat().st_mtime_ns for path in self.path.rglob("*") if path.is_file()}
        dry, told = await self.rebuild(dry_run=True)
        after = {path: path.stat().st_mtime_ns for path in self.path.rglob("*") if path.is_file()}
        self.assertEqual(after, before)
        self.assertFalse((self.path / "rebuilding").exists())
        summary, problems = await self.rebuild()
        self.assertEqual(told, problems)
        self.assertEqual({**dry, "dry_run": False, "set_aside": summary["set_aside"]}, summary)

    async def test_completed_again(self) -> None:
        """
        Who completed an upload and asks again gets the same answer after a rebuild.
        """
        await self.store.create_bucket("b", {})
        upload = await self.upload("k", 3)
        info = await self.complete("k", upload, (1, 3))
        await self.sweep()
        await self.index.close()
        lose(self.path / "index")
        await self.rebuild()
        again = await self.complete("k", upload, (1, 3))
        self.assertEqual((again.size, again.metadata), (info.size, info.metadata))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.rebuild``: what counts when records and blobs contradict each other.
"""

import os
from pathlib import Path

import msgspec

from kypello.model import ListQuery, ObjectMetadata, Write
from kypello.store.records import (
    META,
    SYSTEM,
    BlobRecord,
    BucketRecord,
    Garbage,
    Intent,
    ObjectRecord,
    PartRecord,
    SpaceRecord,
    bucket_key,
    content_key,
    garbage_key,
    intent_key,
    metadata_record,
    object_key,
    pack,
    part_key,
    parts_key,
    unpack,
    upload_key,
)
from kypello.testing.fakes import BytesSource
from tests.store.rebuilding import BIG, SMALL, SSE_S3, RebuildCase, lose, write_row


class RecordsCase(RebuildCase):
    """
    A test with a bucket ``b`` whose records are changed.
    """

    async def begin(self) -> None:
        """
        Make the bucket.
        """
        await self.store.create_bucket("b", {"a": b"b"})

    async def write(self, key: bytes, value: bytes | None, bucket: str = "b") -> None:
        """
        Change a row behind the store's back.

        :param bucket: Empty for the space of the system.
        """
        path = self.path / "index" / "system.sqlite"
        if bucket:
            path = await self.database(bucket)
        await self.index.close()
        write_row(path, key, value)

    async def raw(self, key: bytes, space: str = "") -> bytes:
        """
        A record of the bucket.
        """
        (value,) = await self.index.get(space or await self.space(), [key])
        assert value is not None
        return value

    async def record(self, key: str) -> ObjectRecord:
        """
        The record of an object.
        """
        return unpack(ObjectRecord, await self.raw(object_key(key)))

    async def blob(self, described: BlobRecord | None, content: bytes = b"") -> str:
        """
        Write a blob that nothing names; half of one without a description.
        """
        name = os.urandom(16).hex()
        await self.blobs.write(
            name, BytesSource([content] if content else []), lambda _: pack(described or ODD)
        )
        if described is None:
            path = self.blob_path(name)
            path.write_bytes(path.read_bytes()[:-10])
        return name

    def blob_path(self, name: str) -> Path:
        """
        Where a blob is.
        """
        return self.path / "blobs" / name[:2] / name

    async def keys(self, bucket: str = "b") -> list[str]:
        """
        The keys of the objects.
        """
        return [each.key for each in (await self.store.list(bucket, ListQuery())).objects]

    async def lost(self) -> list[tuple[str, str, str]]:
        """
        Rebuild, see that all is sound then, and tell bucket, key, and what is lost.
        """
        _, problems = await self.rebuild()
        await self.assert_sound()
        return [
            (each.get("bucket", ""), each.get("key", ""), each["what"])
            for each in problems
            if not each.get("orphan")
        ]

    async def unused(self) -> list[tuple[str, str]]:
        """
        Rebuild, see that nothing is lost and all is sound, and tell which blobs are not used,
        and why.
        """
        summary, problems = await self.rebuild()
        await self.assert_sound()
        self.assertEqual([each for each in problems if not each.get("orphan")], [])
        told = [each["what"].removeprefix("blob ") for each in problems]
        found = [(what[:32], what.partition(": ")[2]) for what in told]
        aside = Path(summary["set_aside"]) / "blobs"
        moved = sorted(path.name for path in aside.glob("??/*"))
        self.assertEqual(moved, sorted(name for name, _ in found))
        return found


NO_METADATA = metadata_record(ObjectMetadata())
ODD = BlobRecord("b", "odd", "null", 1, NO_METADATA)


class ObjectTests(RecordsCase):
    """
    Objects.
    """

    async def test_record(self) -> None:
        """
        An object whose record cannot be read comes back; a small one is lost, and is told of.
        """
        await self.begin()
        for key, size in (("big", BIG), ("small", SMALL), ("empty", 0)):
            await self.put(key, size, SSE_S3)
            await self.write(object_key(key), b"\x02junk")
        await self.assemble("many", 20, SSE_S3)
        before = (await self.store.head("b", "many")).metadata
        await self.write(object_key("many"), b"\x02junk")
        self.assertEqual(
            await self.lost(),
            [("b", key, "its record cannot be read") for key in ("empty", "small")],
        )
        self.assertEqual(await self.keys(), ["big", "many"])
        self.assertEqual((await self.store.head("b", "many")).metadata, before)

    async def test_content(self) -> None:
        """
        A small object whose content is missing, cut short or changed is lost; content without a
        record, too.
        """
        await self.begin()
        for key in ("kept", "missing", "short", "changed", "stray"):
            await self.put(key, SMALL, SSE_S3)
        content = await self.raw(content_key("short", "null"))
        await self.write(content_key("missing", "null"), None)
        await self.write(content_key("short", "null"), content[:-1])
        await self.write(content_key("changed", "null"), bytes(len(content)))
        await self.write(object_key("stray"), None)
        changed = "its content, which was small, is not what was written"
        self.assertEqual(
            await self.lost(),
            [
                ("b", "changed", changed),
                ("b", "missing", "its content, which was small, is lost"),
                ("b", "short", changed),
                ("b", "stray", "its record is lost"),
            ],
        )
        self.assertEqual(await self.keys(), ["kept"])

    async def test_list_of_parts(self) -> None:
        """
        A list of parts that is missing or of another object is made again.
        """
        await self.begin()
        await self.assemble("k", 20, SSE_S3)
        await self.assemble("other", 18, SSE_S3)
        before = (await self.store.head("b", "k")).parts
        other = await self.raw(parts_key("other", "null"))
        for value in (None, other, b"\x02junk"):
            await self.write(parts_key("k", "null"), value)
            self.assertEqual(await self.lost(), [])
            after = (await self.store.head("b", "k")).parts
            self.assertEqual([part.metadata for part in after], [part.metadata for part in before])
        await self.write(parts_key("gone", "null"), other)
        self.assertEqual(await self.lost(), [("b", "gone", "its record is lost")])

    async def test_blob(self) -> None:
        """
        An object whose blob is missing or cut short is lost.
        """
        await self.begin()
        for key in ("missing", "short", "kept"):
            await self.put(key, BIG, SSE_S3)
        await self.assemble("parts", 2, SSE_S3)
        for key in ("missing", "parts"):
            self.blob_path((await self.record(key)).parts[-1].blob).unlink()
        short = self.blob_path((await self.record("short")).parts[0].blob)
        short.write_bytes(short.read_bytes()[:-5])
        lost = await self.lost()
        self.assertEqual([key for _, key, _ in lost], ["missing", "parts", "short"])
        self.assertIn("is missing", lost[0][2])
        self.assertIn("no valid footer", lost[2][2])
        self.assertEqual(await self.keys(), ["kept"])

    async def test_wrong_key(self) -> None:
        """
        An object whose key has changed gets the one back for which its blob was written.
        """
        await self.begin()
        await self.put("kex", BIG, SSE_S3)
        await self.assemble("parts", 2, SSE_S3)
        before = await self.contents()
        for key, wrong in (("kex", "key"), ("parts", "pants")):
            raw = await self.raw(object_key(key))
            await self.write(object_key(key), None)
            await self.write(object_key(wrong), raw)
        lost = await self.lost()
        self.assertEqual([key for _, key, _ in lost], ["key", "pants"])
        self.assertIn("is that of something else", lost[0][2])
        after = await self.contents()
        self.assertEqual(
            [(where, content) for where, (_, content) in after.items()],
            [(where, content) for where, (_, content) in before.items()],
        )

    async def test_manifest(self) -> None:
        """
        Without its manifest an object in parts stays, as it does that an earlier release made.
        """
        await self.begin()
        await self.assemble("k", 3, SSE_S3)
        self.blob_path((await self.record("k")).manifest).unlink()
        self.assertEqual(await self.lost(), [])
        self.assertEqual((await self.record("k")).manifest, "")
        self.assertEqual(await self.lost(), [])
        self.assertEqual(len((await self.store.head("b", "k")).parts), 3)
        # But it cannot be made again.
        names = {part.blob for part in (await self.record("k")).parts}
        await self.write(object_key("k"), None)
        told = dict(await self.unused())
        self.assertEqual(set(told), names)
        self.assertEqual(set(told.values()), {"its upload ended, or nobody knows of it"})

    async def test_newest(self) -> None:
        """
        Of several blobs the newest counts, and one that is older than the record does not; they
        are set aside.
        """
        await self.begin()
        now = int(self.clock.seconds() * 1e9)
        names = [
            await self.blob(BlobRecord("b", "k", "null", now + age, NO_METADATA), b"%d" % age)
            for age in (5, 9, 7)
        ]
        why = "there is a newer object"
        self.assertEqual(await self.unused(), [(names[0], why), (names[2], why)])
        found = await self.contents()
        self.assertEqual(found["b", "k"][1], b"9")
        old = await self.blob(BlobRecord("b", "k", "null", now, NO_METADATA), b"old")
        self.assertEqual(await self.unused(), [(old, why)])
        new = await self.blob(BlobRecord("b", "k", "null", now + 99, NO_METADATA), b"new")
        self.assertEqual(await self.unused(), [(names[1], why)])
        self.assertEqual((await self.record("k")).parts[0].blob, new)
        self.assertEqual((await self.record("k")).sequence, 4)

    async def test_left(self) -> None:
        """
        What an intent or the garbage queue names comes back in no case, and is left to the
        sweeper; what is named there and is current stays.
        """
        await self.begin()
        await self.put("k", BIG, SSE_S3)
        current = (await self.record("k")).parts[0].blob
        named = [await self.blob(ODD, b"x") for _ in range(2)]
        await self.write(intent_key(b"1" * 18), pack(Intent(5, (named[0], current))))
        await self.write(intent_key(b"2" * 18), pack(Intent(5, (current,))))
        await self.write(garbage_key(b"1" * 16), pack(Garbage((named[1],))))
        self.assertEqual(await self.lost(), [])
        self.assertEqual(await self.keys(), ["k"])
        space = await self.space()
        (intent, gone) = await self.index.get(space, [intent_key(b"1" * 18), intent_key(b"2" * 18)])
        assert intent is not None
        self.assertEqual((unpack(Intent, intent).blobs, gone), ((named[0],), None))
        await self.sweep()
        self.assertFalse(any(self.blob_path(name).exists() for name in named))

    async def test_stale(self) -> None:
        """
        A record whose blob the garbage queue names was replaced, and is left out.
        """
        await self.begin()
        await self.put("k", BIG)
        blob = (await self.record("k")).parts[0].blob
        await self.write(garbage_key(b"1" * 16), pack(Garbage((blob,))))
        self.assertEqual(await self.lost(), [])
        self.assertEqual(await self.keys(), [])

    async def test_torn_blobs(self) -> None:
        """
        Blobs that were not finished, or whose descriptions cannot be read, are set aside; what
        is no blob is left alone.
        """
        await self.begin()
        half = await self.blob(None)
        odd = await self.blob(ODD)
        path = self.blob_path(odd)
        path.write_bytes(path.read_bytes().replace(b"odd", b"oddly"[:3].upper()))
        (self.path / "blobs" / "notes").mkdir()
        (self.path / "blobs" / "notes" / "a").write_bytes(b"note")
        _, problems = await self.rebuild()
        why = {each["what"][5:37]: each["what"] for each in problems}
        self.assertEqual(set(why), {half, odd})
        self.assertIn("no valid footer", why[half])
        self.assertIn(f"description of blob {odd}", why[odd])
        self.assertTrue((self.path / "blobs" / "notes" / "a").exists())


class UploadTests(RecordsCase):
    """
    Unfinished uploads.
    """

    async def test_upload(self) -> None:
        """
        An upload that lost its record, or parts of theirs, comes back from its parts.
        """
        await self.begin()
        upload = await self.upload("k", 3, SSE_S3)
        before = await self.unfinished()
        await self.write(upload_key("k", upload), None)
        await self.write(part_key(upload, 2), b"\x02junk")
        self.assertEqual(await self.lost(), [])
        self.assertEqual(await self.unfinished(), before)
        await self.complete("k", upload, (1, 2, 3))
        self.assertEqual(len((await self.contents())["b", "k"][1]), 12006)

    async def test_part(self) -> None:
        """
        A part whose blob is missing is lost; the upload stays.
        """
        await self.begin()
        upload = await self.upload("k", 2)
        raw = await self.raw(part_key(upload, 1))
        self.blob_path(unpack(PartRecord, raw).blob).unlink()
        _, problems = await self.rebuild()
        self.assertEqual(
            [(each["bucket"], each["upload"], each["part"]) for each in problems],
            [("b", upload, 1)],
        )
        await self.assert_sound()
        self.assertEqual([part[0] for part in (await self.unfinished())[0][1]], [2])

    async def test_no_upload(self) -> None:
        """
        A part of which nobody knows the upload, as an earlier release wrote it, is set aside; so
        is an earlier one of a number.
        """
        await self.begin()
        upload = "1" * 48
        blob = await self.blob(BlobRecord("b", "k", "null", 1, NO_METADATA, upload, 1), b"x")
        await self.write(part_key(upload, 1), pack(PartRecord(1, 1, blob, 1, NO_METADATA)))
        self.assertEqual(await self.unused(), [(blob, "its upload ended, or nobody knows of it")])
        known = await self.upload("k", 1)
        blob = await self.blob(BlobRecord("b", "k", "null", 1, NO_METADATA, known, 1), b"x")
        self.assertEqual(await self.unused(), [(blob, "there is a newer part")])
        before = unpack(PartRecord, await self.raw(part_key(known, 1))).blob
        now = int(self.clock.seconds() * 1e9) + 1
        blob = await self.blob(BlobRecord("b", "k", "null", now, NO_METADATA, known, 1), b"x")
        self.assertEqual(await self.unused(), [(before, "there is a newer part")])
        self.assertEqual(unpack(PartRecord, await self.raw(part_key(known, 1))).blob, blob)

    async def test_completed(self) -> None:
        """
        Parts of an upload that was completed without them make no upload.
        """
        await self.begin()
        upload = await self.upload("k", 3)
        await self.complete("k", upload, (1, 3))
        await self.index.close()
        lose(self.path / "index")
        _, problems = await self.rebuild()
        self.assertEqual([each.get("part") for each in problems if each.get("orphan")], [2])
        self.assertEqual(await self.unfinished(), [])
        self.assertEqual(await self.keys(), ["k"])

    async def test_half_deleted(self) -> None:
        """
        An object in parts of which some were removed does not come back, nor does its upload.
        """
        await self.begin()
        await self.assemble("k", 3)
        self.blob_path((await self.record("k")).parts[0].blob).unlink()
        await self.index.close()
        lose(self.path / "index")
        summary, _ = await self.rebuild()
        await self.assert_sound()
        self.assertEqual((await self.keys(), await self.unfinished()), ([], []))
        self.assertEqual(summary["unused"], 3)


class BucketTests(RecordsCase):
    """
    Buckets.
    """

    async def bucket_record(self, name: str = "b") -> BucketRecord:
        """
        The record of a bucket.
        """
        return unpack(BucketRecord, await self.raw(bucket_key(name), SYSTEM))

    async def test_description(self) -> None:
        """
        A bucket without a description, as an earlier release made it, loses its settings with
        its record, and is told of; its objects stay.
        """
        await self.begin()
        await self.put("k", BIG)
        await self.put("small", SMALL)
        record = await self.bucket_record()
        self.blob_path(record.blob).unlink()
        self.assertEqual(await self.lost(), [])
        self.assertEqual((await self.bucket_record()).blob, "")
        await self.write(bucket_key("b"), None, "")
        self.assertEqual(await self.lost(), [("b", "", "its settings are lost")])
        self.assertEqual(await self.keys(), ["k", "small"])
        self.assertEqual((await self.store.bucket("b")).settings, {})
        await self.store.change_bucket("b", lambda _: {"new": b""})
        self.assertTrue(self.blob_path((await self.bucket_record()).blob).exists())

    async def test_newer_settings(self) -> None:
        """
        A description that is newer than the record counts; one that is older is set aside.
        """
        await self.begin()
        old = await self.raw(bucket_key("b"), SYSTEM)
        await self.store.change_bucket("b", lambda _: {"new": b""})
        before = unpack(BucketRecord, old).blob
        await self.write(bucket_key("b"), old, "")
        where = "it describes the bucket as it was before"
        (self.path / "index" / "system.sqlite").stat()
        await self.write(garbage_key(b"x" * 16), None, "")
        _, problems = await self.rebuild()
        await self.assert_sound()
        self.assertEqual((await self.store.bucket("b")).settings, {"new": b""})
        self.assertEqual([each["what"] for each in problems], [])
        await self.sweep()
        self.assertFalse(self.blob_path(before).exists())
        described = msgspec.structs.replace(await self.bucket_record(), revision=1)
        again = await self.blob(BlobRecord("b", "", "", 1, NO_METADATA, about=described))
        self.assertEqual(await self.unused(), [(again, where)])

    async def test_space(self) -> None:
        """
        A space that lost its own record stays that of its bucket; one of which nobody knows the
        bucket is left out, and what is not small of it comes back all the same.
        """
        await self.begin()
        await self.put("k", BIG)
        await self.write(META, None)
        self.assertEqual(await self.lost(), [])
        space = await self.space()
        await self.write(META, None)
        lose(self.path / "index" / "system.sqlite")
        lost = await self.lost()
        self.assertEqual(lost[0][2], f"nobody knows whose space {space} is: it is left out")
        self.assertEqual(lost[1][:2], ("b", ""))
        self.assertEqual(await self.keys(), ["k"])

    async def test_deleted(self) -> None:
        """
        A bucket that is being deleted does not come back, whatever was lost: its closed space,
        and what describes it, are left to the sweeper.
        """
        for lost in ("nothing", "system"):
            await self.store.create_bucket(lost, {})
            space = await self.space(lost)
            await self.upload("k", 2, None, lost)
            await self.write(META, pack(SpaceRecord(lost, False)), lost)
            if lost == "system":
                lose(self.path / "index" / "system.sqlite")
            else:
                # Nor does it when something was left of its objects.
                left = await self.blob(BlobRecord(lost, "k", "null", 1, NO_METADATA), b"x")
                self.assertEqual(await self.unused(), [(left, "its bucket was deleted")])
            await self.rebuild()
            self.assertEqual(await self.index.get(SYSTEM, [bucket_key("system")]), [None])
            await self.sweep()
            await self.assert_sound()
            self.assertEqual(list(await self.store.buckets()), [])
            self.assertNotIn(space, await self.index.spaces())

    async def test_race(self) -> None:
        """
        Of two spaces that say they are those of a bucket the one with objects counts.
        """
        await self.begin()
        await self.put("small", SMALL)
        for _ in range(4):
            other = os.urandom(16).hex()
            made = pack(SpaceRecord("b", True))
            await self.layout._index.commit(other, [Write(META, made)], {}, ())
        await self.index.close()
        lose(self.path / "index" / "system.sqlite")
        self.assertEqual(await self.lost(), [])
        self.assertEqual(await self.keys(), ["small"])

    async def test_made_anew(self) -> None:
        """
        A bucket that was made anew after its record was lost keeps its new settings, and it is
        told that there were others.
        """
        await self.begin()
        await self.put("k", BIG)
        await self.index.close()
        lose(self.path / "index")
        (self.path / "index").mkdir()
        self.open()
        await self.store.create_bucket("b", {"new": b""})
        what = "it was made anew; its settings before that are not used"
        self.assertEqual(await self.lost(), [("b", "", what)])
        self.assertEqual((await self.store.bucket("b")).settings, {"new": b""})
        self.assertEqual(await self.keys(), ["k"])

    async def test_unknown_bucket(self) -> None:
        """
        A bucket of which only blobs know comes back without its settings.
        """
        await self.begin()
        await self.put("k", BIG)
        self.blob_path((await self.bucket_record()).blob).unlink()
        await self.index.close()
        lose(self.path / "index")
        lost = await self.lost()
        self.assertEqual([what.partition(" ")[0] for _, _, what in lost], ["its", "its"])
        self.assertEqual(await self.keys(), ["k"])

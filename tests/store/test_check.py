# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.check``, over the seams in memory.
"""

import os
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import Damaged, StorageFailed
from kypello.model import SSE_C, Assembly, CustomerKey, EncryptionRequest, ObjectMetadata, Write
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.store import check, checkedobjects
from kypello.store.check import Checker
from kypello.store.findings import Figures, Problem
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.records import (
    META,
    SYSTEM,
    BucketRecord,
    Garbage,
    Intent,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    SpaceRecord,
    bucket_key,
    content_key,
    done_key,
    garbage_key,
    intent_key,
    object_key,
    pack,
    part_key,
    parts_key,
    unpack,
    upload_key,
)
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.cases import AsyncCase
from tests.contracts.object_store import StuckSource, blocks, metadata_of, pattern
from tests.objects.keyservice import MemoryKMS

BIG, SMALL = 100_000, 700
SSE_S3 = EncryptionRequest("AES256")
CUSTOMER = EncryptionRequest(SSE_C, customer_key=CustomerKey(bytes(range(32)), "bWQ1"))


class FailingIndex(MemoryIndex):
    """
    An index of which a range of keys cannot be read.

    :ivar failing: The first byte of these keys.
    """

    failing = b""

    async def scan(
        self, space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        Fail on what cannot be read.
        """
        if self.failing and start.startswith(self.failing):
            raise Damaged("rows of the index")
        return await super().scan(space, start, stop, limit)


class UnlistedBlobs(MemoryBlobs):
    """
    Blobs that cannot be listed.
    """

    async def names(self, after: str, limit: int) -> Sequence[str]:
        """
        Fail.
        """
        raise StorageFailed("the directory is gone")


class CheckCase(AsyncCase):
    """
    A test with a store that can be damaged.
    """

    def setUp(self) -> None:
        """
        An empty store with a bucket ``b``.
        """
        self.index, self.blobs, self.clock = FailingIndex(), MemoryBlobs(), Clock()
        self.store = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        self.kms = MemoryKMS.with_default_key()
        self.encrypted = self.encrypting()
        return Deferred.fromCoroutine(self.store.create_bucket("b", {}))

    def encrypting(self) -> EncryptedStore:
        """
        A process that encrypts, and has opened no key.
        """
        guarded = GuardedKMS(self.kms, self.index, self.clock)
        return EncryptedStore(self.store, DataKeys(guarded, self.clock), os.urandom)

    async def put(
        self, key: str, size: int, encryption: EncryptionRequest | None = None, bucket: str = "b"
    ) -> None:
        """
        Store an object.
        """
        data = pattern(size)
        body = BytesSource(blocks(data))
        await self.encrypted.put(bucket, key, body, lambda _: metadata_of(data), encryption)

    async def upload(
        self, key: str, parts: int, encryption: EncryptionRequest | None = None
    ) -> str:
        """
        Begin an upload and send parts.
        """
        made = await self.encrypted.create_upload("b", key, ObjectMetadata(), "", encryption)
        for number in range(1, parts + 1):
            body = BytesSource(blocks(pattern(1000 + number)))
            await self.encrypted.put_part(
                "b", key, made.upload_id, number, body, lambda _: metadata_of(b"part")
            )
        return made.upload_id

    async def assemble(
        self, key: str, parts: int, encryption: EncryptionRequest | None = None
    ) -> None:
        """
        Store an object in parts.
        """
        name = await self.upload(key, parts, encryption)
        numbers = tuple(range(1, parts + 1))
        await self.encrypted.complete_upload(
            "b", key, name, b"", lambda upload, _: Assembly(numbers, upload.metadata)
        )

    async def space(self, bucket: str = "b") -> str:
        """
        The space of a bucket.
        """
        (raw,) = await self.index.get(SYSTEM, [bucket_key(bucket)])
        assert raw is not None
        return unpack(BucketRecord, raw).space

    async def write(self, key: bytes, value: bytes | None, space: str | None = None) -> None:
        """
        Change a record behind the store's back.
        """
        await self.index.commit(space or await self.space(), [Write(key, value)], {}, [])

    async def change(self, key: str, change: Callable[[ObjectRecord], ObjectRecord]) -> None:
        """
        Change the record of an object.
        """
        record = await self.record(key)
        await self.write(object_key(key), pack(change(record)))

    async def record(self, key: str) -> ObjectRecord:
        """
        The record of an object.
        """
        (raw,) = await self.index.get(await self.space(), [object_key(key)])
        assert raw is not None
        return unpack(ObjectRecord, raw)

    async def blob(self, key: str, number: int = 0) -> str:
        """
        The name of a blob of an object.
        """
        return (await self.record(key)).parts[number].blob

    async def damage(self, name: str, content: bytes) -> None:
        """
        Replace the content of a blob.
        """
        described = await self.blobs.describe(name)
        await self.blobs.delete([name])
        await self.blobs.write(name, BytesSource([content]), lambda _: described)

    async def check(
        self, *, deep: bool = False, keys: bool = True, **options: object
    ) -> tuple[Figures, list[Problem]]:
        """
        Check all.
        """
        problems: list[Problem] = []
        store = self.encrypting() if keys else None
        checker = Checker(
            self.index,
            self.blobs,
            InlineLanes(),
            problems.append,
            deep=deep,
            store=store,
            **options,
        )
        figures = await checker.run()
        self.assertEqual(figures.orphans, len([each for each in problems if each.orphan]))
        self.assertEqual(figures.problems, len(problems) - figures.orphans)
        return figures, problems

    async def problems(self, **options: bool) -> list[Problem]:
        """
        What is wrong, by a deep check unless told otherwise.
        """
        return (await self.check(**{"deep": True, **options}))[1]


class SoundTests(CheckCase):
    """
    What is as it should be.
    """

    async def fill(self) -> None:
        """
        Store something of all kinds.
        """
        for encryption in (None, SSE_S3, CUSTOMER):
            name = "plain" if encryption is None else encryption.algorithm
            for size in (0, SMALL, BIG):
                await self.put(f"{name}/{size}", size, encryption)
        for encryption in (None, SSE_S3):
            name = "plain" if encryption is None else encryption.algorithm
            await self.assemble(f"{name}/few", 3, encryption)
            await self.assemble(f"{name}/many", 20, encryption)
            await self.upload(f"{name}/unfinished", 2, encryption)
        await self.encrypted.create_bucket("empty", {})

    async def test_sound(self) -> None:
        """
        Nothing is told of a store that is whole, and all of it is counted.
        """
        await self.fill()
        for deep in (False, True):
            figures, problems = await self.check(deep=deep)
            self.assertEqual(problems, [])
            self.assertTrue(figures.sound)
            self.assertEqual(
                (figures.buckets, figures.objects, figures.parts, figures.uploads),
                (2, 13, 50, 2),
            )
            # Those of objects and parts, and what describes objects in parts, and buckets, once
            # as it was before the first encrypted object.
            self.assertEqual(figures.blobs, 3 + 46 + 4 + 4 + 2 + 1)
            self.assertEqual(figures.broken, 0)
            self.assertEqual((figures.leftovers, figures.undecided), (1, 0))
        self.assertEqual((figures.decrypted, figures.client_keys), (5, 3))
        self.assertEqual(figures.not_decrypted, 0)

    async def test_without_contents(self) -> None:
        """
        Contents are read by a deep check only.
        """
        await self.fill()
        figures, _ = await self.check(keys=False)
        self.assertEqual((figures.read, figures.decrypted, figures.not_decrypted), (0, 0, 0))
        figures, _ = await self.check(deep=True, keys=False)
        # That of small objects with keys cannot be checked, so it is not read.
        self.assertGreaterEqual(figures.read, 3 * BIG)
        self.assertEqual(figures.not_decrypted, 5)

    async def test_pages(self) -> None:
        """
        Objects are found with what belongs to them, however they lie in pages.
        """
        for name in ("PAGE", "_FEW_CONTENTS", "_FEW_LISTS"):
            self.patch(checkedobjects, name, 2)
        self.patch(check, "_NAMES", 2)
        for key in ("a", "a\x01", "aa", "a/b", "b", "b\x7f", "ü"):
            await self.put(key, SMALL)
            await self.put(key + "big", BIG)
            await self.assemble(key + "many", 17)
        figures, problems = await self.check(deep=True)
        self.assertEqual(problems, [])
        self.assertEqual((figures.objects, figures.blobs), (21, 7 * 19 + 1))

    async def test_leftovers(self) -> None:
        """
        What intents and garbage name is counted and no problem, whether or not it is there.
        """
        await self.put("k", BIG)
        await self.put("k", BIG)
        await self.upload("deleted", 2)
        await self.write(garbage_key(b"1" * 16), pack(Garbage(("0" * 32,))))
        await self.write(intent_key(b"1" * 18), pack(Intent(0, ("1" * 32,))))
        await self.store.create_bucket("left", {})
        stuck = StuckSource(blocks(pattern(BIG)))
        putting = Deferred.fromCoroutine(
            self.store.put("left", "k", stuck, lambda _: ObjectMetadata())
        )
        putting.addErrback(lambda _: None)
        await self.store.delete_bucket("left")
        figures, problems = await self.check(deep=True)
        self.assertEqual(problems, [])
        # The version before, two names, a space with its description, and the blob that is being
        # written into it.
        self.assertEqual(figures.leftovers, 6)
        putting.cancel()

    async def test_interrupted_deletion(self) -> None:
        """
        The space of a bucket whose deletion was interrupted is a leftover, with its uploads.
        """
        await self.upload("k", 2)
        await self.write(META, pack(SpaceRecord("b", False)))
        figures, problems = await self.check(deep=True)
        self.assertEqual((problems, figures.leftovers), ([], 3))

    async def test_canaries(self) -> None:
        """
        The canaries of master keys are known; what cannot be read among them is told.
        """
        await GuardedKMS(self.kms, self.index, self.clock).prove("my-key")
        self.assertEqual(await self.problems(), [])
        await self.write(b"my-key", b"junk", "canaries")
        (problem,) = await self.problems()
        self.assertIn("canary of master key my-key", problem.what)


class DamageTests(CheckCase):
    """
    Each damage is told, where it is, and nothing else.
    """

    async def only(self, *parts: str, **options: bool) -> Problem:
        """
        The one problem, whose text holds *parts*.
        """
        problems = await self.problems(**options)
        self.assertEqual(len(problems), 1, problems)
        for part in parts:
            self.assertIn(part, problems[0].what)
        return problems[0]

    async def test_missing_blob(self) -> None:
        """
        A blob that is missing is told with the object, also when that is encrypted.
        """
        for key, encryption in (("plain", None), ("sealed", SSE_S3)):
            await self.put(key, BIG, encryption)
            name = await self.blob(key)
            kept = self.blobs._blobs.pop(name)
            for deep in (False, True):
                problem = await self.only(name, deep=deep)
                where = (problem.bucket, problem.key, problem.version)
                self.assertEqual(where, ("b", key, "null"))
            self.blobs._blobs[name] = kept

    async def test_part(self) -> None:
        """
        A blob of another size is told with its part, of objects and of uploads.
        """
        await self.assemble("few", 3)
        await self.assemble("many", 20)
        upload = await self.upload("unfinished", 2)
        (raw,) = await self.index.get(await self.space(), [parts_key("many", "null")])
        assert raw is not None
        parts = unpack(PartsRecord, raw).parts
        name = await self.blob("few", 1)
        for blob in (name, parts[18].blob):
            await self.damage(blob, b"short")
        (raw,) = await self.index.get(await self.space(), [part_key(upload, 2)])
        assert raw is not None
        await self.damage(unpack(PartRecord, raw).blob, b"short")
        found = await self.problems(deep=False)
        self.assertEqual(
            sorted((each.key, each.version, each.upload, each.part) for each in found),
            [("few", "null", "", 2), ("many", "null", "", 19), ("unfinished", "", upload, 2)],
        )
        self.assertIn(f"blob {name} has 5 bytes instead of 1002", [each.what for each in found])

    async def test_authenticity(self) -> None:
        """
        Encrypted content that is not what was written is told by a deep check.
        """
        await self.put("k", BIG, SSE_S3)
        await self.put("small", SMALL, SSE_S3)
        await self.assemble("many", 20, SSE_S3)
        name = await self.blob("k")
        content = bytearray(self.blobs._blobs[name]._content)
        content[-5] ^= 1
        await self.damage(name, bytes(content))
        self.assertEqual(await self.problems(deep=False), [])
        problem = await self.only("not authentic")
        self.assertEqual(problem.key, "k")
        space, where = await self.space(), content_key("small", "null")
        (raw,) = await self.index.get(space, [where])
        assert raw is not None
        await self.write(where, bytes([raw[0] ^ 1]) + raw[1:])
        self.assertEqual({each.key for each in await self.problems()}, {"k", "small"})

    async def test_etag(self) -> None:
        """
        Small content that is not what was written is told; that of an earlier release, which
        wrote no checksum, by a deep check, when it does not fit its ETag.
        """
        await self.put("k", SMALL)
        await self.write(content_key("k", "null"), bytes(SMALL))
        await self.only("not what was written", deep=False)
        await self.change("k", lambda record: msgspec.structs.replace(record, checksum=None))
        self.assertEqual(await self.problems(deep=False), [])
        await self.only("another MD5")

    async def test_content(self) -> None:
        """
        Small content that is missing, of another size, or of no object, is told.
        """
        await self.put("k", SMALL)
        await self.write(content_key("k", "null"), b"short")
        await self.only("5 bytes instead of 700", deep=False)
        await self.write(content_key("k", "null"), None)
        await self.only("content is missing", deep=False)
        await self.write(object_key("k"), None)
        await self.write(content_key("k", "null"), b"stray")
        problem = await self.only("no such version", deep=False)
        self.assertEqual((problem.key, problem.version), ("k", "null"))

    async def test_list_of_parts(self) -> None:
        """
        A list of parts that is missing, damaged, too short or of no object is told alone.
        """
        await self.assemble("k", 20)
        space, where = await self.space(), parts_key("k", "null")
        (raw,) = await self.index.get(space, [where])
        assert raw is not None
        await self.write(where, None)
        await self.only("list of parts is missing")
        figures, _ = await self.check()
        self.assertEqual((figures.undecided, figures.orphans, figures.broken), (21, 0, 1))
        await self.write(where, b"\x01\xc1")
        await self.only("list of parts cannot be read")
        parts = unpack(PartsRecord, raw).parts
        await self.write(where, pack(PartsRecord((*parts[:19], parts[0]))))
        self.assertIn("something else", " ".join(each.what for each in await self.problems()))
        await self.write(where, pack(PartsRecord(parts[:19])))
        told = " ".join(each.what for each in await self.problems())
        self.assertIn("19 parts instead of 20", told)
        await self.write(where, raw)
        await self.put("k", SMALL)
        await self.write(where, raw)
        self.assertIn("no such version", (await self.problems())[0].what)

    async def test_records(self) -> None:
        """
        A record that cannot be read is told, and not what it may have named.
        """
        await self.put("big", BIG)
        await self.put("small", SMALL)
        await self.assemble("many", 20)
        upload = await self.upload("unfinished", 2)
        for key, what in (
            (object_key("big"), "ObjectRecord"),
            (object_key("small"), "ObjectRecord"),
            (object_key("many"), "ObjectRecord"),
            (upload_key("unfinished", upload), "UploadRecord"),
            (part_key(upload, 1), "PartRecord"),
            (done_key("0" * 48), "DoneRecord"),
            (garbage_key(b"g" * 16), "Garbage"),
            (intent_key(b"i" * 18), "Intent"),
            (META, "SpaceRecord"),
        ):
            (before,) = await self.index.get(await self.space(), [key])
            # No MessagePack, a later format, and a text that is no UTF-8.
            for value in (b"\x01\xc1", b"\x02\x90", b"\x01\x92\xa2\xff\xff\xc3"):
                await self.write(key, value)
                await self.only(what, "cannot be read")
            await self.write(key, before)
        self.assertEqual(await self.problems(), [])

    async def test_foreign_record(self) -> None:
        """
        A record of no known kind is told.
        """
        for key in (b"", b"a", b"f", b"ma", b"z"):
            await self.write(key, b"?")
            await self.only("no such kind of record")
            await self.write(key, None)
        await self.write(b"x", b"?", SYSTEM)
        await self.only("no such kind of record")

    async def test_sizes(self) -> None:
        """
        An object whose parts do not add up is told, and a part under another number.
        """
        await self.put("k", BIG)
        await self.change("k", lambda record: _sized(record, BIG + 1))
        await self.only("100000 bytes instead of 100001")
        await self.change("k", lambda record: _sized(record, BIG))
        upload = await self.upload("u", 1)
        (raw,) = await self.index.get(await self.space(), [part_key(upload, 1)])
        await self.write(part_key(upload, 1), None)
        await self.write(part_key(upload, 2), raw)
        await self.only("that of part 1")

    async def test_names(self) -> None:
        """
        A record whose blob cannot be one is told, and one that two name.
        """
        await self.put("a", BIG)
        await self.put("b", BIG)
        name = await self.blob("a")
        await self.change("b", lambda record: _naming(record, "../../etc/passwd\x00"))
        await self.only("names no blob")
        await self.change("b", lambda record: _naming(record, name))
        found = await self.problems()
        self.assertEqual(
            sorted((each.key, each.orphan) for each in found),
            [("a", False), ("b", False), ("b", True)],
        )
        self.assertIn(f"blob {name} is named by something else, too", found[0].what)
        await self.write(object_key("b"), None)
        await self.write(garbage_key(b"1" * 16), pack(Garbage((name,))))
        self.assertIn(f"blob {name} is about to be removed", (await self.problems())[0].what)

    async def test_orphans(self) -> None:
        """
        A blob that nothing names is an orphan, with what it tells of itself.
        """
        await self.put("k", BIG)
        name = await self.blob("k")
        await self.write(object_key("k"), None)
        problem = await self.only(name)
        self.assertTrue(problem.orphan)
        self.assertEqual((problem.bucket, problem.key, problem.version), ("b", "k", "null"))
        for foreign in ("f" * 32, "no-blob", "\udcff"):
            await self.blobs.write(foreign, BytesSource([b"x"]), lambda _: b"")
        figures, problems = await self.check()
        self.assertEqual((figures.orphans, figures.problems), (4, 0))
        self.assertFalse(figures.sound)
        self.assertEqual({each.bucket for each in problems}, {"", "b"})

    async def test_part_without_upload(self) -> None:
        """
        A part whose upload is not there is told.
        """
        upload = await self.upload("k", 1)
        await self.write(upload_key("k", upload), None)
        problem = await self.only("its upload is not there")
        self.assertEqual((problem.upload, problem.part), (upload, 1))

    async def test_unreadable_range(self) -> None:
        """
        Where the index itself is damaged, that is told once, and no blob is called an orphan.
        """
        await self.put("k", BIG)
        self.index.failing = b"o"
        await self.only("not all records can be read: rows of the index")
        figures, _ = await self.check()
        self.assertEqual((figures.undecided, figures.orphans), (1, 0))
        self.index.failing = b"p"
        await self.only("not all records can be read: rows of the index")

    async def test_unlisted(self) -> None:
        """
        Blobs that cannot be listed are told.
        """
        known, self.blobs = self.blobs, UnlistedBlobs()
        self.blobs._blobs.update(known._blobs)
        await self.only("the directory is gone")


class BucketTests(CheckCase):
    """
    Buckets and spaces belong together.
    """

    async def told(self) -> list[str]:
        """
        What is wrong.
        """
        return [f"{each.bucket}: {each.what}" for each in await self.problems()]

    async def test_no_space(self) -> None:
        """
        A bucket whose space is gone is told, and its blobs are left undecided.
        """
        await self.put("k", BIG)
        space = await self.space()
        await self.index.drop(space)
        self.assertEqual(await self.told(), [f"b: its space {space} is not there"])

    async def test_no_bucket(self) -> None:
        """
        A space of no bucket is told, and what it holds is looked at.
        """
        await self.put("k", BIG)
        space = await self.space()
        await self.write(bucket_key("b"), None, SYSTEM)
        told = await self.told()
        self.assertEqual(told[0], f"b: space {space} belongs to no bucket")
        self.assertIn("nothing names blob", told[1])
        await self.write(META, b"junk", space)
        told = await self.told()
        self.assertEqual(told[0], f": space {space} belongs to no bucket")

    async def test_record(self) -> None:
        """
        A bucket whose record cannot be read is told once; its objects are looked at.
        """
        await self.put("k", BIG, SSE_S3)
        await self.write(bucket_key("b"), b"junk", SYSTEM)
        self.assertEqual(await self.told(), ["b: its record cannot be read (BucketRecord)"])
        figures, _ = await self.check(deep=True)
        self.assertEqual((figures.objects, figures.not_decrypted), (1, 1))

    async def test_confusion(self) -> None:
        """
        A space of two buckets, of another bucket, or of the garbage queue is told.
        """
        await self.store.create_bucket("c", {})
        space, other = await self.space(), await self.space("c")
        await self.write(bucket_key("d"), pack(BucketRecord(0, space, {})), SYSTEM)
        self.assertEqual(await self.told(), [f"d: its space {space} is that of b, too"])
        await self.write(bucket_key("d"), None, SYSTEM)
        await self.write(META, pack(SpaceRecord("b", True)), other)
        self.assertEqual(await self.told(), [f"c: its space {other} is that of b"])
        await self.write(META, pack(SpaceRecord("c", True)), other)
        await self.write(garbage_key(b"1" * 16), pack(Garbage((), other)), SYSTEM)
        self.assertEqual(await self.told(), [f"c: its space {other} is about to be removed"])

    async def test_examined(self) -> None:
        """
        What the databases say of themselves is told.
        """
        await GuardedKMS(self.kms, self.index, self.clock).prove("my-key")
        examined: list[str] = []

        async def examine(space: str) -> Sequence[str]:
            """
            Find something in the space of the bucket.
            """
            examined.append(space)
            return ["wrong # of entries"] if space == await self.space() else []

        _, problems = await self.check(examine=examine)
        space = await self.space()
        self.assertEqual([each.what for each in problems], [f"space {space}: wrong # of entries"])
        self.assertEqual(sorted(examined), sorted(await self.index.spaces()))


class KeyTests(CheckCase):
    """
    What cannot be decrypted.
    """

    async def test_unavailable(self) -> None:
        """
        Without an answer of the key service that is told once, and the rest is checked without.
        """
        for number in range(20):
            await self.put(str(number), BIG, SSE_S3)
        self.kms.down = True
        figures, problems = await self.check(deep=True)
        self.assertEqual(len(problems), 1)
        self.assertIn("nothing is decrypted any more: no key server", problems[0].what)
        self.assertEqual((figures.decrypted, figures.not_decrypted), (0, 20))
        self.assertGreater(figures.read, 20 * BIG)

    async def test_lost(self) -> None:
        """
        Objects whose master key is gone are told.
        """
        await self.put("k", BIG, SSE_S3)
        self.kms.keys.clear()
        (problem,) = await self.problems()
        self.assertEqual((problem.key, problem.what), ("k", "there is no key my-key"))


def _sized(record: ObjectRecord, size: int) -> ObjectRecord:
    return ObjectRecord(
        record.sequence, record.version_id, size, record.modified, record.metadata, record.parts
    )


def _naming(record: ObjectRecord, blob: str) -> ObjectRecord:
    parts = tuple(PartRecord(part.number, part.size, blob) for part in record.parts)
    return ObjectRecord(
        record.sequence, record.version_id, record.size, record.modified, record.metadata, parts
    )

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.records``.
"""

import msgspec
from attrs import evolve

from kypello.errors import Damaged
from kypello.model import COMPLIANCE, NO_LOCK, Lock, ObjectInfo, ObjectMetadata, PartInfo, Sealing
from kypello.store.parts import Parts
from kypello.store.records import (
    BlobRecord,
    BucketRecord,
    Intent,
    ObjectRecord,
    PartRecord,
    SequenceRecord,
    SpaceRecord,
    content_key,
    listed,
    metadata_record,
    object_key,
    pack,
    unpack,
)
from tests.cases import SyncCase


def _old(*fields: object) -> bytes:
    """
    A record as an earlier release wrote it, without the fields that came later.
    """
    return b"\x01" + msgspec.msgpack.encode(fields)


METADATA = ObjectMetadata(
    "etag",
    {"content-type": "text/plain"},
    {"city": "Zürich"},
    {"crc32": "AAAAAA=="},
    "FULL_OBJECT",
    {"tag": "value"},
    storage_class="STANDARD_IA",
    internal={"X-Minio-Internal": "x"},
    sealed=b"\x00sealed",
    lock=Lock(COMPLIANCE, 1_900_000_000_000_000_000, False),
)


class RecordsTests(SyncCase):
    """
    Records and their keys.
    """

    def test_object(self) -> None:
        """
        Nothing of an object is lost in its record, parts included.
        """
        metadata = ObjectMetadata("part", checksums={"crc32": "AAAAAA=="}, sealed=b"more")
        parts = (
            PartRecord(1, 5, "aa", 10, metadata_record(metadata)),
            PartRecord(7, 4, "bb", 11, metadata_record(metadata)),
        )
        record = ObjectRecord(3, "null", 9, 12, metadata_record(METADATA), parts)
        again = unpack(ObjectRecord, pack(record))
        self.assertEqual(again, record)
        self.assertEqual(
            again.info("b", "k", tuple(part.info() for part in again.parts)),
            ObjectInfo(
                "b",
                "k",
                "null",
                9,
                12,
                METADATA,
                (PartInfo(1, 5, 10, metadata), PartInfo(7, 4, 11, metadata)),
            ),
        )
        self.assertEqual(again.info("b", "k").parts, ())

    def test_sealing(self) -> None:
        """
        How an object is encrypted is not kept: the encryption wrapper tells it from its own
        entries.
        """
        metadata = metadata_record(evolve(METADATA, sealing=Sealing("AES256", "key")))
        info = unpack(ObjectRecord, pack(ObjectRecord(1, "null", 9, 12, metadata))).info("b", "k")
        self.assertEqual(info.metadata, METADATA)

    def test_one_piece(self) -> None:
        """
        The blob of an object that came in one piece is no part of a multipart upload.
        """
        metadata = metadata_record(METADATA)
        record = ObjectRecord(1, "null", 9, 12, metadata, (PartRecord(0, 9, "aa"),))
        self.assertEqual(unpack(ObjectRecord, pack(record)), record)
        self.assertEqual(Parts(record.parts).infos, ())

    def test_damaged(self) -> None:
        """
        What is no record, or another one, or of an unknown format, is damaged.
        """
        good = pack(BucketRecord(1, "space", {"a": b"b"}))
        self.assertEqual(good[0], 2)
        unsummed = b"\x01" + good[1:-4]
        self.assertEqual(unpack(BucketRecord, unsummed), unpack(BucketRecord, good))
        bad_text = unsummed.replace(b"space", b"s\xfface")
        others = (b"", b"\x01", b"\x02", b"\x02abc", good[:-1], good + b"x", b"\xff" * 9)
        for value in (*others, bad_text, unsummed[:-1], unsummed + b"x", b"\x03" + good[1:]):
            with self.assertRaises(Damaged):
                unpack(BucketRecord, value)
        for value in (good, unsummed):
            with self.assertRaises(Damaged):
                unpack(SpaceRecord, value)

    def test_changed(self) -> None:
        """
        A record of which one bit has changed is damaged, wherever that is.
        """
        good = pack(BucketRecord(1, "space", {"a": b"b"}))
        for bit in range(8, 8 * len(good)):
            changed = bytearray(good)
            changed[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(Damaged):
                unpack(BucketRecord, bytes(changed))

    def test_grows(self) -> None:
        """
        Fields that a later release appends do not disturb, and those it knows have defaults.
        """
        self.assertEqual(
            unpack(ObjectRecord, _old(1, "null", 9, 12, metadata_record(METADATA), [], 0)),
            ObjectRecord(1, "null", 9, 12, metadata_record(METADATA)),
        )
        self.assertEqual(
            unpack(BlobRecord, _old("b", "k", "null", 1, metadata_record(METADATA), "id", 2)),
            BlobRecord("b", "k", "null", 1, metadata_record(METADATA), "id", 2),
        )
        self.assertEqual(unpack(BucketRecord, _old(1, "s", {})), BucketRecord(1, "s", {}))
        longer = b"\x01" + msgspec.msgpack.encode([5, ["aa"], "space", "new", 7])
        self.assertEqual(unpack(Intent, longer), Intent(5, ("aa",), "space"))
        shorter = b"\x01" + msgspec.msgpack.encode([5])
        self.assertEqual(unpack(Intent, shorter), Intent(5))

    def test_before_locks(self) -> None:
        """
        A record that was written before there were locks has none.
        """
        before = ["etag", {}, {}, {}, "", {"tag": "value"}, "STANDARD", {}, b"sealed"]
        info = unpack(ObjectRecord, _old(1, "null", 9, 12, before)).info("b", "k")
        expected = ObjectMetadata("etag", tags={"tag": "value"}, sealed=b"sealed")
        self.assertEqual(info.metadata, expected)
        self.assertIs(info.metadata.lock, NO_LOCK)

    def test_content_apart(self) -> None:
        """
        Keys of objects keep the order of their names, and contents do not lie between them.
        """
        keys = [object_key(key) for key in ("a", "a/b", "b", "é")]
        self.assertEqual(keys, sorted(keys))
        self.assertTrue(all(content_key(key, "null") < keys[0] for key in ("a", "é")))
        self.assertNotEqual(content_key("a", "bnull"), content_key("ab", "null"))

    def test_listed(self) -> None:
        """
        Who outlines objects is given nothing but sound records, and what is not outlined is told
        whole.
        """
        record = ObjectRecord(1, "v", 9, 12, metadata_record(METADATA), marker=True)
        raw, before = pack(record), b"\x01" + pack(record)[1:-4]
        outlined = ObjectInfo("b", "k", "v", 1, 12, ObjectMetadata("short"))
        seen: list[tuple[str, bytes]] = []

        def outline(key: str, encoded: bytes) -> ObjectInfo | None:
            """
            Outline every second object.
            """
            seen.append((key, encoded))
            return outlined if len(seen) % 2 else None

        for value in (raw, before):
            self.assertEqual(listed("b", "k", value, outline), (outlined, False))
            self.assertEqual(listed("b", "k", value, outline), (record.info("b", "k"), True))
        self.assertEqual(listed("b", "k", raw, None), (record.info("b", "k"), True))
        self.assertEqual(seen, [("k", raw[1:-4])] * 4)
        for damaged in (raw[:-1], raw[:9] + bytes([raw[9] ^ 1]) + raw[10:], raw[1:], b""):
            with self.assertRaisesRegex(Damaged, "ObjectRecord"):
                listed("b", "k", damaged, outline)
        self.assertEqual(len(seen), 4)

    def test_sequence(self) -> None:
        """
        The place of a version is known without all else.
        """
        record = ObjectRecord(7, "v", 9, 12, metadata_record(METADATA))
        self.assertEqual(unpack(SequenceRecord, pack(record)), SequenceRecord(7))

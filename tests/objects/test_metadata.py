# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of sealed object metadata.
"""

import os
from base64 import b64encode

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.keys import Domain, SealedObjectKey
from kypello.crypto.metadata import IV, KeyRecord, write_entries
from kypello.errors import NotAuthentic
from kypello.model import SSE_C, CustomerKey, ObjectMetadata, Sealing
from kypello.objects.metadata import (
    CustomerMetadataKey,
    MetadataKey,
    OpenedMetadata,
    OpenedPart,
    metadata_without_key,
    parts_digest,
)
from tests.cases import SyncCase

KEY = MetadataKey("bucket", bytes(range(32)))
ENTRIES = write_entries(
    KeyRecord(SealedObjectKey(Domain.SSE_S3, bytes(32), bytes(64)), "my-key", b"sealed")
)
TEXTS = st.dictionaries(st.text(), st.text(), max_size=3)
PLAIN = ObjectMetadata(
    "0123456789abcdef",
    {"content-type": "text/plain"},
    {"colour": "blue"},
    {"crc32": "AAAAAA=="},
    "FULL_OBJECT",
    {"tag": "value"},
    storage_class="STANDARD_IA",
    internal=ENTRIES,
)
PLAINS = st.builds(ObjectMetadata, st.text(), TEXTS, TEXTS, TEXTS, st.text(), TEXTS)


class MetadataKeyTests(SyncCase):
    """
    Sealing and opening.
    """

    @given(PLAINS, st.integers(0, 2**48), st.binary())
    def test_round_trip(self, plain: ObjectMetadata, size: int, iv: bytes) -> None:
        """
        What was sealed comes back, with how the object is encrypted and without the entries.
        """
        plain = evolve(plain, internal={**ENTRIES, IV: b64encode(iv + b"x").decode()})
        sealed = KEY.seal("key", plain, size, os.urandom)
        expected = evolve(plain, internal={}, sealing=Sealing("AES256", "my-key"))
        self.assertEqual(KEY.open("key", sealed), OpenedMetadata(size, expected))

    def test_hidden(self) -> None:
        """
        The store sees the entries of the encryption and the storage class, and nothing else.
        """
        sealed = KEY.seal("key", PLAIN, 5, os.urandom)
        self.assertEqual(
            evolve(sealed, sealed=b""),
            ObjectMetadata(internal=ENTRIES, storage_class="STANDARD_IA"),
        )
        for secret in (b"0123456789abcdef", b"text/plain", b"blue", b"value"):
            self.assertNotIn(secret, sealed.sealed)

    def test_flipped_bits(self) -> None:
        """
        Metadata with any bit flipped, or cut, is refused.
        """
        sealed = KEY.seal("key", PLAIN, 5, os.urandom)
        for bit in range(len(sealed.sealed) * 8):
            tampered = bytearray(sealed.sealed)
            tampered[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(NotAuthentic):
                KEY.open("key", evolve(sealed, sealed=bytes(tampered)))
        for size in range(len(sealed.sealed)):
            with self.assertRaises(NotAuthentic):
                KEY.open("key", evolve(sealed, sealed=sealed.sealed[:size]))

    def test_bound(self) -> None:
        """
        Metadata opens only for its bucket, key and IV, and under its key.
        """
        sealed = KEY.seal("key", PLAIN, 5, os.urandom)
        same_shard = b64encode(bytes(31) + b"x").decode()
        for key, name, metadata in (
            (MetadataKey("other", bytes(range(32))), "key", sealed),
            (MetadataKey("bucket", bytes(32)), "key", sealed),
            (KEY, "other", sealed),
            (KEY, "key", evolve(sealed, internal={**ENTRIES, IV: same_shard})),
            (KEY, "key", evolve(sealed, internal={**ENTRIES, IV: "x"})),
            (KEY, "key", evolve(sealed, internal={})),
        ):
            with self.assertRaises(NotAuthentic):
                key.open(name, metadata)

    def test_opaque(self) -> None:
        """
        Metadata that is not opened has an ETag that tells one write from another.
        """
        first, second = (KEY.seal("key", PLAIN, 5, os.urandom) for _ in range(2))
        self.assertEqual(metadata_without_key(first), metadata_without_key(first))
        self.assertNotEqual(metadata_without_key(first).etag, metadata_without_key(second).etag)
        self.assertEqual(len(metadata_without_key(first).etag), 32)
        self.assertEqual(metadata_without_key(first).sealing, Sealing("AES256", "my-key"))

    def test_repr(self) -> None:
        """
        The key does not show in the repr.
        """
        self.assertNotIn(repr(bytes(range(32))), repr(KEY))


PART = OpenedPart(2, 5, bytes(12), ObjectMetadata("etag", checksums={"crc32": "AAAAAA=="}))


class PurposeTests(SyncCase):
    """
    What is sealed for an object, an upload and a part.
    """

    def test_upload(self) -> None:
        """
        What an upload begins with comes back.
        """
        plain = evolve(PLAIN, etag="")
        opened = KEY.open_upload("key", KEY.seal_upload("key", plain, os.urandom))
        expected = evolve(plain, internal={}, sealing=Sealing("AES256", "my-key"))
        self.assertEqual(opened, OpenedMetadata(0, expected))

    def test_part(self) -> None:
        """
        A part comes back for its number and upload, and shows nothing below.
        """
        sealed = KEY.seal_part("key", ENTRIES, PART, os.urandom)
        self.assertEqual(evolve(sealed, sealed=b""), ObjectMetadata())
        self.assertEqual(KEY.open_part("key", ENTRIES, 2, sealed), PART)
        other = {**ENTRIES, IV: b64encode(bytes(31) + b"x").decode()}
        for key, entries, number in (("other", ENTRIES, 2), ("key", ENTRIES, 3), ("key", other, 2)):
            with self.assertRaises(NotAuthentic):
                KEY.open_part(key, entries, number, sealed)

    def test_exchanged(self) -> None:
        """
        None of the three passes for another, whatever it claims to be.
        """
        sealed = {
            1: KEY.seal("key", PLAIN, 0, os.urandom),
            2: KEY.seal_upload("key", PLAIN, os.urandom),
            3: evolve(KEY.seal_part("key", ENTRIES, PART, os.urandom), internal=ENTRIES),
        }
        for kind, metadata in sealed.items():
            for other, open_ in (
                (1, KEY.open),
                (2, KEY.open_upload),
                (3, lambda key, metadata: KEY.open_part(key, ENTRIES, 2, metadata)),
            ):
                if kind != other:
                    claimed = bytes([other]) + metadata.sealed[1:]
                    for value in (metadata.sealed, claimed):
                        with self.assertRaises(NotAuthentic):
                            open_("key", evolve(metadata, sealed=value))

    def test_digest(self) -> None:
        """
        The digest tells order, numbers, sizes and nonces of parts.
        """
        other = evolve(PART, number=3)
        lists = (
            (),
            (PART,),
            (other,),
            (PART, other),
            (other, PART),
            (evolve(PART, size=6),),
            (evolve(PART, nonce=b"x" * 12),),
        )
        self.assertEqual(len({parts_digest(parts) for parts in lists}), len(lists))
        self.assertEqual(
            parts_digest([PART]), parts_digest([evolve(PART, metadata=ObjectMetadata())])
        )


class CustomerMetadataKeyTests(SyncCase):
    """
    Metadata with a key of the client.
    """

    entries = write_entries(KeyRecord(SealedObjectKey(Domain.SSE_C, bytes(32), bytes(64))))
    client = CustomerKey(bytes(range(1, 33)), "md5")
    key = CustomerMetadataKey.derive("bucket", bytes(range(2, 34)), client)

    def test_clear(self) -> None:
        """
        ETag, tags and storage class stay in clear, and the ETag is bound.
        """
        plain = evolve(PLAIN, internal=self.entries)
        sealed = self.key.seal("key", plain, 5, os.urandom)
        clear = ObjectMetadata(
            plain.etag, tags=plain.tags, storage_class="STANDARD_IA", internal=self.entries
        )
        self.assertEqual(evolve(sealed, sealed=b""), clear)
        shown = evolve(plain, internal={}, sealing=Sealing(SSE_C, customer_md5="md5"))
        self.assertEqual(self.key.open("key", sealed).metadata, shown)
        without = evolve(clear, internal={}, sealing=Sealing(SSE_C))
        self.assertEqual(metadata_without_key(sealed), without)
        with self.assertRaises(NotAuthentic):
            self.key.open("key", evolve(sealed, etag="other"))

    def test_part(self) -> None:
        """
        So does the ETag of a part.
        """
        sealed = self.key.seal_part("key", self.entries, PART, os.urandom)
        self.assertEqual(evolve(sealed, sealed=b""), ObjectMetadata("etag"))
        self.assertEqual(metadata_without_key(sealed), ObjectMetadata("etag"))
        self.assertEqual(self.key.open_part("key", self.entries, 2, sealed), PART)
        with self.assertRaises(NotAuthentic):
            self.key.open_part("key", self.entries, 2, evolve(sealed, etag="other"))

    def test_repr(self) -> None:
        """
        Neither the client's key nor what is derived shows in the repr.
        """
        shown = repr(self.key)
        for secret in (self.client.key, bytes(range(2, 34)), self.key._key):
            self.assertNotIn(repr(secret), shown)

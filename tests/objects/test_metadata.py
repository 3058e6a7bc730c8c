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
from kypello.model import ObjectMetadata, Sealing
from kypello.objects.metadata import MetadataKey, OpenedMetadata, metadata_without_key
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

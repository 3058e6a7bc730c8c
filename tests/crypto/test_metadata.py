# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the metadata entries of encrypted objects.
"""

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.keys import Domain, SealedObjectKey
from kypello.crypto.metadata import (
    KeyRecord,
    OuterKey,
    domain_of,
    is_dual,
    is_encrypted,
    read_entries,
    shown_sealing,
    write_entries,
)
from kypello.errors import NotAuthentic
from kypello.model import DSSE, SSE_C, Sealing
from tests.cases import SyncCase

PREFIX = "X-Minio-Internal-Server-Side-Encryption-"
RECORD = KeyRecord(
    SealedObjectKey(Domain.SSE_S3, b"i" * 32, b"s" * 64), "my-key", b"sealed", bucket_key=True
)

DUAL = KeyRecord(
    SealedObjectKey(Domain.DSSE_KMS, b"i" * 32, b"s" * 64),
    "my-key",
    b"sealed",
    {"a": "b"},
    outer=OuterKey(SealedObjectKey(Domain.DSSE_KMS_OUTER, b"i" * 32, b"o" * 64), b"sealed, too"),
)


def encoded(value: bytes) -> str:
    """
    Base64 as text.
    """
    return b64encode(value).decode()


class MetadataTests(SyncCase):
    """
    Records as entries.
    """

    def test_sse_s3(self) -> None:
        """
        An SSE-S3 object has the entries of MinIO, and ours when the data key is the bucket's.
        """
        self.assertEqual(
            write_entries(RECORD),
            {
                f"{PREFIX}Iv": encoded(b"i" * 32),
                f"{PREFIX}Seal-Algorithm": "DAREv2-HMAC-SHA256",
                f"{PREFIX}S3-Sealed-Key": encoded(b"s" * 64),
                f"{PREFIX}S3-Kms-Key-Id": "my-key",
                f"{PREFIX}S3-Kms-Sealed-Key": encoded(b"sealed"),
                "X-Kypello-Internal-Server-Side-Encryption-Bucket-Key": "true",
            },
        )

    def test_sse_kms(self) -> None:
        """
        An SSE-KMS object keeps the client's context, and a mark when it has parts.
        """
        record = KeyRecord(
            SealedObjectKey(Domain.SSE_KMS, b"i" * 32, b"s" * 64),
            "my-key",
            b"sealed",
            {"b": "<", "a": "1"},
            multipart=True,
        )
        entries = write_entries(record)
        self.assertEqual(entries[f"{PREFIX}Context"], encoded(b'{"a":"1","b":"\\u003c"}'))
        self.assertEqual(entries["X-Minio-Internal-Encrypted-Multipart"], "")
        self.assertEqual(entries[f"{PREFIX}Kms-Sealed-Key"], encoded(b"s" * 64))
        self.assertEqual(read_entries(entries), record)

    def test_sse_c(self) -> None:
        """
        An SSE-C object has no key of the KMS.
        """
        record = KeyRecord(SealedObjectKey(Domain.SSE_C, b"i" * 32, b"s" * 64))
        entries = write_entries(record)
        self.assertEqual(
            set(entries), {f"{PREFIX}Iv", f"{PREFIX}Seal-Algorithm", f"{PREFIX}Sealed-Key"}
        )
        self.assertEqual(read_entries(entries), record)

    def test_dual(self) -> None:
        """
        An object in two layers has a sealed key and a data key for each, and none of the names
        that others look for a sealed key under; without any of them, or with those of another
        kind, it is refused.
        """
        own = "X-Kypello-Internal-Server-Side-Encryption-"
        entries = write_entries(DUAL)
        self.assertEqual(
            entries,
            {
                f"{PREFIX}Iv": encoded(b"i" * 32),
                f"{PREFIX}Seal-Algorithm": "DAREv2-HMAC-SHA256",
                f"{own}Inner-Sealed-Key": encoded(b"s" * 64),
                f"{PREFIX}S3-Kms-Key-Id": "my-key",
                f"{PREFIX}S3-Kms-Sealed-Key": encoded(b"sealed"),
                f"{PREFIX}Context": encoded(b'{"a":"b"}'),
                f"{own}Outer-Sealed-Key": encoded(b"o" * 64),
                f"{own}Outer-Sealed-Data-Key": encoded(b"sealed, too"),
            },
        )
        self.assertEqual(read_entries(entries), DUAL)
        self.assertTrue(is_dual(entries))
        self.assertEqual(shown_sealing(entries, "k"), Sealing(DSSE, "k", {"a": "b"}))
        for name in set(entries) - {f"{PREFIX}Context"}:
            damaged = {other: value for other, value in entries.items() if other != name}
            self.assertTrue(is_encrypted(damaged))
            with self.assertRaises(NotAuthentic):
                read_entries(damaged)
        single = write_entries(RECORD)
        self.assertFalse(is_dual(single))
        outer = {name: entries[name] for name in entries if "Outer" in name}
        for damaged in (
            {**entries, f"{own}Bucket-Key": "true"},
            {**entries, f"{PREFIX}Kms-Sealed-Key": encoded(b"s" * 64)},
            {**entries, f"{own}Outer-Sealed-Key": "!"},
            {**entries, f"{own}Outer-Sealed-Key": encoded(b"o" * 63)},
            {**single, **outer},
            {**single, f"{own}Outer-Sealed-Key": outer[f"{own}Outer-Sealed-Key"]},
        ):
            with self.assertRaises(NotAuthentic):
                read_entries(damaged)

    @given(st.sampled_from(sorted(write_entries(RECORD))))
    def test_missing(self, name: str) -> None:
        """
        Without any one entry the record is refused, but for the mark, which changes it; the
        object still counts as encrypted.
        """
        entries = write_entries(RECORD)
        del entries[name]
        self.assertTrue(is_encrypted(entries))
        if name.endswith("Bucket-Key"):
            self.assertFalse(read_entries(entries).bucket_key)
            return
        with self.assertRaises(NotAuthentic):
            read_entries(entries)

    @given(
        st.sampled_from(
            sorted({*write_entries(RECORD), f"{PREFIX}Context"} - {f"{PREFIX}S3-Kms-Key-Id"})
        ),
        st.sampled_from(["", "x", "AAAA", "!!!!", "A", "e30", "ü"]),
    )
    def test_malformed(self, name: str, value: str) -> None:
        """
        A malformed entry is refused, or read as what it is.
        """
        entries = {**write_entries(RECORD), name: value}
        try:
            record = read_entries(entries)
        except NotAuthentic:
            return
        self.assertEqual(name, f"{PREFIX}S3-Kms-Sealed-Key")
        self.assertIn(record.data_key, (b"", b"\0\0\0"))

    def test_plain(self) -> None:
        """
        Other entries do not make an object encrypted.
        """
        self.assertFalse(is_encrypted({}))
        self.assertFalse(is_encrypted({"X-Minio-Internal-actual-size": "5"}))
        self.assertTrue(is_encrypted({f"{PREFIX}Iv": ""}))

    def test_domains(self) -> None:
        """
        The sealed key tells who has the external key; without one nobody knows.
        """
        for domain, expected in (
            (Domain.SSE_S3, Sealing("AES256", "my-key")),
            (Domain.SSE_KMS, Sealing("aws:kms", "arn:aws:kms:my-key")),
        ):
            sealed = SealedObjectKey(domain, b"i" * 32, b"s" * 64)
            entries = write_entries(KeyRecord(sealed, "my-key", b"sealed"))
            self.assertEqual((domain_of(entries), shown_sealing(entries)), (domain, expected))
        entries = write_entries(KeyRecord(SealedObjectKey(Domain.SSE_C, b"i" * 32, b"s" * 64)))
        self.assertEqual(domain_of(entries), Domain.SSE_C)
        self.assertEqual(shown_sealing(entries), Sealing(SSE_C))
        for damaged in ({}, {f"{PREFIX}Iv": ""}, {f"{PREFIX}S3-Kms-Key-Id": "my-key"}):
            self.assertIsNone(domain_of(damaged))
            self.assertIsNone(shown_sealing(damaged))

    def test_shown(self) -> None:
        """
        A client sees the master key as it named it, its context, and whether keys are shared; a
        damaged context is left out.
        """
        sealed = SealedObjectKey(Domain.SSE_KMS, b"i" * 32, b"s" * 64)
        entries = write_entries(KeyRecord(sealed, "my-key", b"sealed", {"a": "<"}))
        expected = Sealing("aws:kms", "alias/my-key", {"a": "<"})
        self.assertEqual(shown_sealing(entries, "alias/my-key"), expected)
        entries[f"{PREFIX}Context"] = "!"
        self.assertEqual(shown_sealing(entries), Sealing("aws:kms", "arn:aws:kms:my-key"))
        entries = write_entries(KeyRecord(sealed, "my-key", b"sealed", bucket_key=True))
        self.assertTrue(shown_sealing(entries).bucket_key)

    def test_context_unbound(self) -> None:
        """
        A context that nothing is bound to is refused.
        """
        for domain, shared in ((Domain.SSE_S3, False), (Domain.SSE_KMS, True)):
            sealed = SealedObjectKey(domain, b"i" * 32, b"s" * 64)
            record = KeyRecord(sealed, "my-key", b"sealed", {"a": "b"}, bucket_key=shared)
            with self.assertRaises(NotAuthentic):
                read_entries(write_entries(record))

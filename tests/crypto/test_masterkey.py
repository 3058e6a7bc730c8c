# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of master keys.
"""

import json
from base64 import b64decode, b64encode

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.masterkey import MasterKey, hchacha20
from kypello.errors import KeyStoreFailed, NotAuthentic
from tests.cases import SyncCase
from tests.crypto.deterministic import given_random, seeded_random

KEY = bytes(range(32))
IV = bytes(range(0x40, 0x50))
NONCE = bytes(range(0x50, 0x5C))
CONTEXT = b'{"bucket":"bucket/dir/object"}'
DATA_KEY = b"\x33" * 32
ALGORITHMS = st.sampled_from(["AES256", "ChaCha20"])


def master_key(algorithm="AES256", key=KEY):
    """
    A key with fixed material.
    """
    return MasterKey(key, algorithm, b"h" * 32, "2024-01-02T03:04:05.000000006Z", "ab" * 32)


class CiphertextTests(SyncCase):
    """
    Sealing and opening.
    """

    def test_vector(self) -> None:
        """
        The ciphertext equals that of KES and of MinIO's static key.
        """
        expected = b64decode(
            "utL9fQ185UmgYIdAEAGkumOIdNebSY6gV9f1tFVOXyQ44TvNq18pNXbqU+24q3VX"
            "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaWw=="
        )
        sealed = master_key().seal(DATA_KEY, CONTEXT, given_random(IV, NONCE))
        self.assertEqual(sealed, expected)
        self.assertEqual(master_key().open(sealed, CONTEXT), DATA_KEY)

    def test_hchacha20(self) -> None:
        """
        The derivation gives the vector of draft-irtf-cfrg-xchacha-03, section 2.2.1.
        """
        nonce = bytes.fromhex("000000090000004a0000000031415927")
        self.assertEqual(
            hchacha20(KEY, nonce).hex(),
            "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc",
        )

    @given(ALGORITHMS, st.binary(max_size=100), st.binary(max_size=50), st.integers())
    def test_round_trip(self, algorithm, plaintext, context, seed) -> None:
        """
        What a key sealed it opens, 44 bytes longer.
        """
        key = master_key(algorithm)
        sealed = key.seal(plaintext, context, seeded_random(seed))
        self.assertEqual(len(sealed), len(plaintext) + 44)
        self.assertEqual(key.open(sealed, context), plaintext)

    @given(ALGORITHMS, st.integers(0, 76 * 8 - 1))
    def test_flipped_bit(self, algorithm, bit) -> None:
        """
        A ciphertext with any bit flipped is not authentic.
        """
        key = master_key(algorithm)
        sealed = bytearray(key.seal(DATA_KEY, CONTEXT, given_random(IV, NONCE)))
        sealed[bit // 8] ^= 1 << bit % 8
        with self.assertRaises(NotAuthentic):
            key.open(bytes(sealed), CONTEXT)

    @given(ALGORITHMS, st.binary(max_size=80))
    def test_garbage(self, algorithm, garbage) -> None:
        """
        Bytes that were never sealed are not authentic, of whatever length and first byte.
        """
        for prefix in (b"", b"\x95", b"{"):
            with self.assertRaises(NotAuthentic):
                master_key(algorithm).open(prefix + garbage, CONTEXT)

    def test_other_key_or_context(self) -> None:
        """
        Another key, another cipher or another context does not open a ciphertext.
        """
        sealed = master_key().seal(DATA_KEY, CONTEXT, given_random(IV, NONCE))
        for key, context in (
            (master_key(), b""),
            (master_key("ChaCha20"), CONTEXT),
            (master_key(key=bytes(32)), CONTEXT),
        ):
            with self.assertRaises(NotAuthentic):
                key.open(sealed, context)

    @given(ALGORITHMS, ALGORITHMS)
    def test_messagepack(self, own, named) -> None:
        """
        A ciphertext of 2022 and 2023 opens with the algorithm that it names.
        """
        name, aead = {
            "AES256": ("AES256-GCM_SHA256", AESGCM),
            "ChaCha20": ("XCHACHA20-POLY1305", ChaCha20Poly1305),
        }[named]
        body = aead(_message_key(named)).encrypt(NONCE, DATA_KEY, CONTEXT)
        sealed = msgspec.msgpack.encode([name, master_key().key_id, IV, NONCE, body])
        self.assertEqual(master_key(own).open(sealed, CONTEXT), DATA_KEY)
        with self.assertRaises(NotAuthentic):
            master_key(own).open(sealed + b"\0", CONTEXT)

    @given(ALGORITHMS, ALGORITHMS)
    def test_json(self, own, named) -> None:
        """
        A ciphertext from before 2022 opens with the algorithm that it names.
        """
        name, aead = {
            "AES256": ("AES-256-GCM-HMAC-SHA-256", AESGCM),
            "ChaCha20": ("ChaCha20Poly1305", ChaCha20Poly1305),
        }[named]
        body = aead(_message_key(named)).encrypt(NONCE, DATA_KEY, CONTEXT)
        sealed = json.dumps(
            {
                "aead": name,
                "id": master_key().key_id,
                "iv": b64encode(IV).decode(),
                "nonce": b64encode(NONCE).decode(),
                "bytes": b64encode(body).decode(),
            }
        ).encode()
        self.assertEqual(master_key(own).open(sealed, CONTEXT), DATA_KEY)

    @given(st.sampled_from([b"\x95", b"{"]))
    def test_first_byte_by_chance(self, first) -> None:
        """
        A ciphertext without mark opens even if it begins like an older encoding.
        """
        for seed in range(10_000):
            sealed = master_key().seal(b"x", b"", seeded_random(seed))
            if sealed.startswith(first):
                self.assertEqual(master_key().open(sealed, b""), b"x")
                return
        self.fail("no such ciphertext was found")


class StoredKeyTests(SyncCase):
    """
    What is kept in a key store.
    """

    def test_layout(self) -> None:
        """
        A key is written byte for byte as KES writes it.
        """
        encoded = b64decode(master_key().to_bytes(), validate=True)
        created = bytes.fromhex("08a5facdac061006")
        self.assertEqual(
            encoded,
            bytes.fromhex("0a240a20") + KEY + bytes.fromhex("1001")
            + bytes.fromhex("12240a20") + b"h" * 32 + bytes.fromhex("1001")
            + b"\x1a" + bytes([len(created)]) + created
            + b"\x22\x40" + b"ab" * 32,
        )  # fmt: skip

    @given(
        ALGORITHMS,
        st.integers(-62135596800, 253402300799),
        st.integers(0, 999_999),
        st.text(),
        st.integers(),
    )
    def test_round_trip(self, algorithm, seconds, micros, created_by, seed) -> None:
        """
        A key that was stored is the same key, to the microsecond.
        """
        random = seeded_random(seed)
        key = MasterKey.imported(random(32), algorithm, random, seconds + micros / 1e6, created_by)
        self.assertEqual(MasterKey.from_bytes(key.to_bytes()), key)
        self.assertEqual(MasterKey.from_bytes(key.to_bytes() + b"\n"), key)

    def test_nanoseconds(self) -> None:
        """
        The nanoseconds of a stored key are kept.
        """
        self.assertEqual(MasterKey.from_bytes(master_key().to_bytes()), master_key())

    def test_generate(self) -> None:
        """
        A fresh key has material, an HMAC key, a time and an owner, and is for AES.
        """
        key = MasterKey.generate(given_random(b"k" * 32, b"m" * 32), 1.5, "me")
        self.assertEqual(
            key, MasterKey(b"k" * 32, "AES256", b"m" * 32, "1970-01-01T00:00:01.5Z", "me")
        )

    def test_json(self) -> None:
        """
        Keys stored as JSON are read; without algorithm they are for AES.
        """
        value = b64encode(KEY).decode()
        self.assertEqual(
            MasterKey.from_bytes(json.dumps({"bytes": value}).encode()),
            MasterKey(KEY, "AES256", None, "", ""),
        )
        stored = {
            "version": "v1",
            "bytes": value,
            "algorithm": "XCHACHA20-POLY1305",
            "created_at": "2022-03-04T05:06:07.8Z",
            "created_by": "me",
        }
        self.assertEqual(
            MasterKey.from_bytes(json.dumps(stored).encode()),
            MasterKey(KEY, "ChaCha20", None, "2022-03-04T05:06:07.8Z", "me"),
        )

    def test_no_hmac_key(self) -> None:
        """
        A key without HMAC key is not written: KES could not read it.
        """
        with self.assertRaises(ValueError):
            MasterKey(KEY, "AES256", None, "", "").to_bytes()

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.binary(max_size=200).map(b64encode),
            st.dictionaries(st.sampled_from(["bytes", "algorithm"]), st.text()).map(
                lambda value: json.dumps(value).encode()
            ),
        )
    )
    def test_garbage(self, stored) -> None:
        """
        What is no key is refused, and the error does not quote it.
        """
        with self.assertRaises(KeyStoreFailed) as caught:
            MasterKey.from_bytes(stored)
        self.assertIsNone(caught.exception.__cause__)

    def test_key_id(self) -> None:
        """
        The id of the zero key is the one that KES gives it.
        """
        self.assertEqual(master_key(key=bytes(32)).key_id, "66687aadf862bd776c8fc18b8e9f8e20")

    def test_repr(self) -> None:
        """
        Neither key shows in the repr.
        """
        self.assertNotIn(repr(KEY), repr(master_key()))
        self.assertNotIn("hhhh", repr(master_key()))


def _message_key(algorithm):
    from hmac import digest

    return digest(KEY, IV, "sha256") if algorithm == "AES256" else hchacha20(KEY, IV)

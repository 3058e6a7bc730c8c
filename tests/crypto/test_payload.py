# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of encrypted payloads of administration.
"""

import os
from collections.abc import Callable
from hashlib import sha256

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from kypello.crypto.payload import FRAGMENT, PayloadCipher, decrypt, encrypt
from kypello.errors import NotAuthentic
from tests.cases import SyncCase

_PLAINTEXT = b'{"secretKey":"userone123","status":"enabled"}'
#: The cheap algorithm, where the key does not matter.
_CHEAP = PayloadCipher.PBKDF2_AES


@frozen
class Vector:
    """
    A payload that another implementation made, in hex.
    """

    secret_key: str
    plaintext: bytes
    cipher: PayloadCipher
    salt: str
    nonce: str
    stream: str

    @property
    def payload(self) -> bytes:
        """
        As it is sent.
        """
        parts = (self.salt, f"{self.cipher:02x}", self.nonce, self.stream)
        return bytes.fromhex("".join(parts))


VECTORS = (
    Vector(
        "minioadmin",
        b"",
        PayloadCipher.ARGON2_AES,
        "136fc1efe85e3e6d8938a5bfab5b4e85652dca7476386dbd80d7efaa14f2c0d4",
        "db35c931b49bef65",
        "8340fc8088691385d7308e27064382f3",
    ),
    Vector(
        "rootsecret123",
        _PLAINTEXT,
        PayloadCipher.ARGON2_AES,
        "087ede30637f1207348984eb11dcde01be3ab1c224fa89f35dc4f00c665246e7",
        "530fa3d483c461c8",
        "073b598efb5ae47805c6636f918cb620c600a8290a29baa87b227e81b8916f37"
        "1f4aa80c5f22633030e0bfa187d4f4b0b6dc723415abb4153d6f92d677",
    ),
    Vector(
        "rootsecret123",
        _PLAINTEXT,
        PayloadCipher.ARGON2_CHACHA,
        "21036ae384de454913af9f8b3c64b023ef363ea4bd3306a0787e66efcd40ab7d",
        "a6db8f828212c99e",
        "7bc2319413383e5baa0175ade37fd638f8084bf49e7c53b19f3563aeaaa24c7d"
        "75b8d2ca5f6d58172b9278039e663adfeed5be904ecd3c1e7a60ce8733",
    ),
    Vector(
        "rootsecret123",
        _PLAINTEXT,
        PayloadCipher.PBKDF2_AES,
        "9346058001f32f5381597ab9211d99a3c5cf8776226f713160e10519bf44b49d",
        "48ff4f3d7e99c7d6",
        "ebd9ace556357fe2f7530643a491038d70da4128c2a3b8db245f08d35f23c147"
        "56b2c8c66753d4bbe50fb46e31bf5b88febea86958abf011f4ee6d0683",
    ),
)


def drawing(*values: str) -> Callable[[int], bytes]:
    """
    A source of random bytes that gives those that were drawn elsewhere.
    """
    drawn = map(bytes.fromhex, values)
    return lambda size: next(drawn)


class PayloadTests(SyncCase):
    """
    Payloads are those of another implementation, and nothing else opens.
    """

    def test_vectors_open(self) -> None:
        """
        What another implementation made opens to what it took.
        """
        for vector in VECTORS:
            with self.subTest(cipher=vector.cipher):
                self.assertEqual(decrypt(vector.secret_key, vector.payload), vector.plaintext)

    def test_vectors_are_made(self) -> None:
        """
        The same salt and nonce give the same bytes.
        """
        for vector in VECTORS:
            random = drawing(vector.salt, vector.nonce)
            made = encrypt(vector.secret_key, vector.plaintext, random, vector.cipher)
            self.assertEqual(made, vector.payload)

    def test_vector_of_several_fragments(self) -> None:
        """
        Three fragments are those of another implementation, too.
        """
        random = drawing(
            "a04b6279950a0052d1f37cd9e5511d39631e82bd4d975a78e9cbcec46eec1eb4", "c7d38c560a960009"
        )
        plaintext = bytes(number % 251 for number in range(40000))
        made = encrypt("rootsecret123", plaintext, random)
        self.assertEqual(
            sha256(made).hexdigest(),
            "7f08268fce697a0ecd3456d256925d6e7232aa67f18779d77d061804c0bb46d4",
        )
        self.assertEqual(decrypt("rootsecret123", made), plaintext)

    def test_sizes_around_a_fragment(self) -> None:
        """
        A multiple of a fragment has no empty fragment behind it; every size comes back.
        """
        for size in (0, 1, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1, 2 * FRAGMENT):
            plaintext = os.urandom(size)
            made = encrypt("some-secret", plaintext, os.urandom, _CHEAP)
            fragments = max(1, -(-size // FRAGMENT))
            self.assertEqual(len(made), 41 + size + 16 * fragments)
            self.assertEqual(decrypt("some-secret", made), plaintext)

    def test_cut_between_fragments(self) -> None:
        """
        A payload that ends after a whole fragment is refused.
        """
        made = encrypt("some-secret", os.urandom(2 * FRAGMENT), os.urandom, _CHEAP)
        with self.assertRaises(NotAuthentic):
            decrypt("some-secret", made[: 41 + FRAGMENT + 16])

    def test_swapped_fragments(self) -> None:
        """
        Fragments in another order are refused.
        """
        made = encrypt("some-secret", os.urandom(3 * FRAGMENT), os.urandom, _CHEAP)
        first, second = made[41 : 41 + FRAGMENT + 16], made[41 + FRAGMENT + 16 :][: FRAGMENT + 16]
        rest = made[41 + 2 * (FRAGMENT + 16) :]
        with self.assertRaises(NotAuthentic):
            decrypt("some-secret", made[:41] + second + first + rest)

    def test_another_secret(self) -> None:
        """
        Another secret key opens nothing.
        """
        made = encrypt("some-secret", b"text", os.urandom, _CHEAP)
        with self.assertRaises(NotAuthentic):
            decrypt("some-secrets", made)

    @settings(max_examples=60, deadline=None)
    @given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
    def test_every_bit_counts(self, place: int, bit: int) -> None:
        """
        No bit of a payload can be changed, and none of another algorithm taken for it.
        """
        changed = bytearray(encrypt("some-secret", b"text", os.urandom, _CHEAP))
        changed[place % len(changed)] ^= 1 << bit
        with self.assertRaises(NotAuthentic):
            decrypt("some-secret", bytes(changed))

    @given(cut=st.integers(0, 60))
    def test_too_short(self, cut: int) -> None:
        """
        What is cut short is refused.
        """
        made = encrypt("some-secret", b"text", bytes, _CHEAP)
        with self.assertRaises(NotAuthentic):
            decrypt("some-secret", made[:cut])

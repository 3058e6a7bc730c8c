# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of object keys and canonical bytes.
"""

import json
from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto import dare
from kypello.crypto.keys import (
    Domain,
    SealedObjectKey,
    context_bytes,
    derived_key,
    generate_object_key,
    object_path,
    open_object_key,
    part_key,
    seal_object_key,
)
from kypello.errors import NotAuthentic
from tests.cases import SyncCase
from tests.crypto.deterministic import given_random, seeded_random

EXTERNAL_KEY = bytes(range(32))
OBJECT_KEY = bytes.fromhex("67d8d1f2d04109bdb1fa19f5112f2d2cdf81578962b0dbc09b7c51a131b0e34f")
NONCE = bytes(range(12))
PATH = "bucket/dir/object"
SEALED = {
    Domain.SSE_C: "qBeT7xIowJYUnkFazaPgLMoRAvsAbwCG9abZ2QTcdhYylnISPQyFZSDaomqpp/63",
    Domain.SSE_S3: "GEaCFQI8h49R6Msk0+gYRF8lACV8Tp4vlBl5WttuaoCA7LBdgvymHWVYfUOkZOxr",
    Domain.SSE_KMS: "7Amd8X3aIJZGe73KIsgF61zgtVdOJEWs/eKMsxH00J2mzovPwOQz3ic5zpgrOHxp",
}


class HierarchyTests(SyncCase):
    """
    The keys of an object.
    """

    def test_object_key(self) -> None:
        """
        The object key is the published one.
        """
        self.assertEqual(generate_object_key(EXTERNAL_KEY, given_random(b"\x11" * 32)), OBJECT_KEY)

    def test_sealed_key(self) -> None:
        """
        The sealed key of each domain is the published one, and opens.
        """
        for domain, ciphertext in SEALED.items():
            random = given_random(b"\x22" * 32, NONCE)
            sealed = seal_object_key(EXTERNAL_KEY, OBJECT_KEY, domain, PATH, random)
            header = b"\x20\x00\x1f\x00\x80" + NONCE[1:]
            self.assertEqual(sealed.ciphertext, header + b64decode(ciphertext))
            self.assertEqual(open_object_key(EXTERNAL_KEY, sealed, PATH), OBJECT_KEY)

    @given(st.sampled_from(Domain), st.integers(0, 96 * 8 - 1))
    def test_bound(self, domain: Domain, bit: int) -> None:
        """
        A sealed key opens with the same key, IV, bytes, domain and path only.
        """
        sealed = seal_object_key(EXTERNAL_KEY, OBJECT_KEY, domain, PATH, seeded_random(1))
        flipped = bytearray(sealed.iv + sealed.ciphertext)
        flipped[bit // 8] ^= 1 << bit % 8
        tampered = SealedObjectKey(domain, bytes(flipped[:32]), bytes(flipped[32:]))
        other = next(other for other in Domain if other is not domain)
        moved = SealedObjectKey(other, sealed.iv, sealed.ciphertext)
        for key, value, path in (
            (EXTERNAL_KEY, tampered, PATH),
            (EXTERNAL_KEY, moved, PATH),
            (EXTERNAL_KEY, sealed, "bucket/dir/object2"),
            (bytes(32), sealed, PATH),
        ):
            with self.assertRaises(NotAuthentic):
                open_object_key(key, value, path)

    def test_sizes(self) -> None:
        """
        An IV or ciphertext of another size is no sealed key.
        """
        for iv, ciphertext in ((bytes(31), bytes(64)), (bytes(32), b"")):
            with self.assertRaises(ValueError):
                SealedObjectKey(Domain.SSE_S3, iv, ciphertext)

    def test_part_keys(self) -> None:
        """
        Part keys are the published ones.
        """
        for number, expected in (
            (1, "c32a0c6236d56d24707e46e40c392d057b56f9c6411199eddc0c95ed473363f8"),
            (2, "e95178bd09456da976f18d62cd32fd0ffc20f48c3c00200bbb65f4d82c929be2"),
            (10000, "500c7d9eeedd4fa5ef06c79775b9dba5609deb6f405738d9f798c5f8966f0f56"),
        ):
            self.assertEqual(part_key(OBJECT_KEY, number).hex(), expected)

    def test_derived_keys(self) -> None:
        """
        Derived keys are the published ones, and seal an ETag to the published value.
        """
        etag_key = derived_key(OBJECT_KEY, "SSE-etag")
        self.assertEqual(
            etag_key.hex(), "73af41d7cf9407bd7d3c91cc29ae3ac2f548656efd408835c41bdb54212dee9d"
        )
        self.assertEqual(
            derived_key(OBJECT_KEY, "object-checksum").hex(),
            "5a6e4e2a43fc6df0870f971913901223a32a8003f4291cc438c912ec9669ac0c",
        )
        md5 = bytes.fromhex("5eb63bbbe01eeed093cb22bb8f5acdc3")
        self.assertEqual(
            dare.encrypt(etag_key, NONCE, md5).hex(),
            "20000f00800102030405060708090a0b67286017999f9f32d4c02e1d20e291fa"
            "cc063185e7d25670493f3107cdcb0f34",
        )

    def test_etag_of_another_writer(self) -> None:
        """
        A sealed ETag of another implementation opens.
        """
        sealed = bytes.fromhex(
            "20000f00f2cc184414bc982927ec56abb7e18426faa205558982e9a8125c1370"
            "a9cf5754406e428b3343f21ee1125965"
        )
        self.assertEqual(
            dare.decrypt(derived_key(bytes(32), "SSE-etag"), sealed).hex(),
            "6d6cdccb9a7498c871bde8eab2f49141",
        )


class CanonicalTests(SyncCase):
    """
    What keys are bound to.
    """

    def test_paths(self) -> None:
        """
        A path has no empty, ``.`` or ``..`` segments and no slash at its end.
        """
        for key, expected in (
            ("dir/object", "b/dir/object"),
            ("a//b", "b/a/b"),
            ("/a", "b/a"),
            ("dir/", "b/dir"),
            ("./a/../c", "b/c"),
            ("../../a", "../a"),
            ("/", "b"),
        ):
            self.assertEqual(object_path("b", key), expected)

    def test_context(self) -> None:
        """
        A context has the canonical form.
        """
        for context, expected in (
            ({}, b"{}"),
            ({"bucket": "bucket/dir/object"}, b'{"bucket":"bucket/dir/object"}'),
            ({"b": "1", "a<": "é\u2028"}, '{"a\\u003c":"é\\u2028","b":"1"}'.encode()),
            ({"": '"\\/\x7f'}, b'{"":"\\"\\\\/\x7f"}'),
            ({"a": "\n\r\t\b\0\x1f&>"}, b'{"a":"\\n\\r\\t\\u0008\\u0000\\u001f\\u0026\\u003e"}'),
            ({"\uffff": "2", "\U00010000": "3"}, '{"\uffff":"2","\U00010000":"3"}'.encode()),
            ({"a": b"\xff-\xc3".decode("utf-8", "surrogateescape")}, b'{"a":"\\ufffd-\\ufffd"}'),
        ):
            self.assertEqual(context_bytes(context), expected)

    @given(st.dictionaries(st.text(), st.text()))
    def test_context_is_json(self, context: dict[str, str]) -> None:
        """
        The canonical form of any context is JSON for it, sorted by the bytes of the keys.
        """
        decoded = json.loads(context_bytes(context))
        self.assertEqual(decoded, context)
        self.assertEqual(list(decoded), sorted(context, key=str.encode))

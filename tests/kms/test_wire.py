# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES API in bytes, as a client sees it.
"""

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyNotFound,
    KMSForbidden,
    KMSNotSupported,
    NotAuthentic,
)
from kypello.kms import wire
from tests.cases import SyncCase

_B32 = b64encode(bytes(32)).decode()


def told(message: str) -> bytes:
    """
    An error as KES tells it.
    """
    return json.dumps({"message": message}).encode() + b"\n"


class RequestTests(SyncCase):
    """
    What is sent.
    """

    def test_context(self) -> None:
        """
        The context is always sent; an empty one as an empty object.
        """
        self.assertEqual(json.loads(wire.generate_body(b"")), {"context": "e30="})
        self.assertEqual(json.loads(wire.generate_body(b"{}")), {"context": "e30="})
        self.assertEqual(
            json.loads(wire.decrypt_body(b"abc", b"")), {"ciphertext": "YWJj", "context": "e30="}
        )

    def test_paths(self) -> None:
        """
        Names are percent-encoded.
        """
        self.assertEqual(wire.key_path("create", "a_b-1"), "/v1/key/create/a_b-1")
        self.assertEqual(wire.key_path("create", "a?b#%"), "/v1/key/create/a%3Fb%23%25")
        self.assertEqual(wire.list_path(""), "/v1/key/list/%2A")
        self.assertEqual(wire.list_path("my*last"), "/v1/key/list/my%2Alast")

    @given(st.text(max_size=90))
    def test_any_name(self, name: str) -> None:
        """
        Whatever the name, the path stays below the operation, or the name is refused.
        """
        try:
            path = wire.key_path("generate", name)
        except InvalidKeyName:
            return
        self.assertEqual(path.count("/"), 4)
        self.assertTrue(path.isascii())
        if name.isprintable():
            self.assertEqual(wire.key_of(path.encode()), name)

    def test_repeatable(self) -> None:
        """
        All but the making of keys may be repeated.
        """
        self.assertFalse(wire.repeatable(b"/v1/key/create/my-key"))
        for path in (b"/v1/key/generate/k", b"/v1/key/decrypt/k", b"/v1/key/list/", b"/version"):
            self.assertTrue(wire.repeatable(path))


class AnswerTests(SyncCase):
    """
    What is understood.
    """

    def test_errors(self) -> None:
        """
        Refusals are known by status and text, those of old servers too.
        """
        for status, message, kind in (
            (404, "key does not exist", KeyNotFound),
            (400, "key already exists", KeyExists),
            (400, "key does already exist", KeyExists),
            (400, "decryption failed: ciphertext is not authentic", NotAuthentic),
            (403, "not authorized: insufficient permissions", KMSForbidden),
            (403, "prohibited by policy", KMSForbidden),
            (501, "not implemented", KMSNotSupported),
            (404, "404 page not found", KMSNotSupported),
            (
                400,
                "key name 'a b' is empty, too long or contains invalid characters",
                InvalidKeyName,
            ),
        ):
            for body in (told(message), json.dumps({"error": message}).encode(), message.encode()):
                self.assertIsInstance(wire.error_of("generate", "k", status, body), kind)

    def test_other_errors(self) -> None:
        """
        Anything else is not taken for one of them: a wrong "not found" would have keys made.
        """
        for status, message in (
            (404, "not found"),
            (404, "key does not exist."),
            (400, "key does not exist"),
            (404, "key already exists"),
            (403, "forbidden"),
            (409, "key already exists"),
            (400, "invalid request body"),
            (400, ""),
        ):
            self.assertIsNone(wire.error_of("generate", "k", status, told(message)))

    def test_data_keys(self) -> None:
        """
        A data key has 32 bytes and a sealed form, or is refused.
        """
        made = wire.read_sealed_key(
            json.dumps({"plaintext": _B32, "ciphertext": "YWJj", "version": "v1"}).encode()
        )
        self.assertEqual((made.plaintext, made.sealed), (bytes(32), b"abc"))
        self.assertNotIn(repr(made.plaintext), repr(made))
        for members in (
            {},
            {"plaintext": _B32},
            {"plaintext": _B32, "ciphertext": ""},
            {"plaintext": _B32, "ciphertext": "?"},
            {"plaintext": _B32[:-4], "ciphertext": "YWJj"},
            {"plaintext": None, "ciphertext": "YWJj"},
            {"plaintext": 1, "ciphertext": "YWJj"},
            {"plaintext": b64encode(bytes(33)).decode(), "ciphertext": "YWJj"},
        ):
            with self.assertRaises(wire.Nonsense):
                wire.read_sealed_key(json.dumps(members).encode())

    @given(st.binary(max_size=200))
    def test_any_bytes(self, body: bytes) -> None:
        """
        No bytes make a reader fail in another way.
        """
        for path in (b"/v1/key/generate/k", b"/v1/key/describe/k", b"/v1/key/list/"):
            wire.trouble_of(path, 200, body)
        wire.told(500, body)
        wire.error_of("list", "", 400, body)

    def test_deep(self) -> None:
        """
        Neither does depth.
        """
        self.assertTrue(wire.trouble_of(b"/v1/key/list/", 200, b"[" * 100_000))

    def test_algorithms(self) -> None:
        """
        All spellings of the algorithms are known.
        """
        for spelled, known in (
            ("AES256", "AES256"),
            ("AES256-GCM_SHA256", "AES256"),
            ("ChaCha20", "ChaCha20"),
            ("XCHACHA20-POLY1305", "ChaCha20"),
        ):
            info = wire.read_key_info("k", json.dumps({"algorithm": spelled}).encode())
            self.assertEqual((info.algorithm, info.created_at), (known, wire.UNKNOWN_TIME))
        with self.assertRaises(wire.Nonsense):
            wire.read_key_info("k", b'{"algorithm":"DES"}')

    def test_pages(self) -> None:
        """
        Lists of all times are read: pages, pages of nothing, lines, no lines.
        """
        for body, names, more, lines in (
            (b'{"names":["a","b"],"continue_at":"c"}', ("a", "b"), "c", False),
            (b'{"names":["a"]}', ("a",), "", False),
            (b'{"names":null,"continue_at":""}', (), "", False),
            (b'{"names":[]}', (), "", False),
            (b'{"name":"a"}\n{"name":"b","id":"x"}\n', ("a", "b"), "", True),
            (b'{"name":"a"}\n', ("a",), "", True),
            (b"", (), "", True),
        ):
            self.assertEqual(wire.read_page(body), wire.Page(names, more, lines))
        for body in (
            b'{"name":"a"}\n{"error":"failed to list keys"}\n',
            b'{"error":"failed"}',
            b'{"names":[1]}',
            b'{"names":"a"}',
            b"[]",
            b"<html>",
        ):
            with self.assertRaises(wire.Nonsense):
                wire.read_page(body)

    def test_status(self) -> None:
        """
        A server without its store is not well.
        """
        self.assertEqual(wire.read_status(b'{"version":"v0.24.0"}'), "")
        for member in ("keystore_unreachable", "keystore_unavailable"):
            trouble = wire.read_status(json.dumps({"version": "v", member: True}).encode())
            self.assertIn("key store", trouble)
        with self.assertRaises(wire.Nonsense):
            wire.read_status(b"{}")

    def test_message(self) -> None:
        """
        What is shown of an answer is short and printable.
        """
        self.assertEqual(wire.told(502, told("failed to read key")), "502 (failed to read key)")
        self.assertEqual(wire.told(503, b""), "503")
        shown = wire.told(500, b"\x1b[31mred\n" + b"x" * 5000)
        self.assertTrue(shown.isprintable())
        self.assertLess(len(shown), 250)

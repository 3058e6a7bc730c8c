# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.crypto.apikey``.
"""

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.apikey import APIKey
from tests.cases import SyncCase

_TEXT = "kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw"
_IDENTITY = "0426fa9a04bc2756b92fbe8a97e1a1e07b53ecf04ed33da22c33e5c9faeb8cbb"


class APIKeyTests(SyncCase):
    """
    ``APIKey`` reads and writes the text form and knows its identity.
    """

    def test_identity(self) -> None:
        """
        The identities of published keys are those that the original computes.
        """
        self.assertEqual(APIKey.parse(_TEXT).identity, _IDENTITY)
        public_demo = "kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc"
        self.assertEqual(
            APIKey.parse(public_demo).identity,
            "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22",
        )

    @given(st.binary(min_size=32, max_size=32))
    def test_round_trip(self, seed: bytes) -> None:
        """
        The text of a key is read back as the same key, with or without prefix.
        """
        key = APIKey.generate(lambda size: seed[:size])
        self.assertEqual(APIKey.parse(key.text), key)
        self.assertEqual(APIKey.parse(key.text.removeprefix("kes:v1:")), key)
        self.assertTrue(key.text.startswith("kes:v1:"))

    def test_refused(self) -> None:
        """
        Another type, another length and what is no base64 are refused without being repeated.
        """
        for raw in (b"\1" + bytes(32), bytes(32), bytes(34), b""):
            with self.assertRaises(ValueError):
                APIKey.parse("kes:v1:" + b64encode(raw).decode())
        for text in (_TEXT + "=", _TEXT[:-1] + "!", _TEXT + "é", "kes:v2:" + _TEXT[7:]):
            with self.assertRaises(ValueError) as caught:
                APIKey.parse(text)
            self.assertNotIn(text[10:30], str(caught.exception))

    def test_repr(self) -> None:
        """
        The repr of a key shows nothing of it.
        """
        self.assertEqual(repr(APIKey.parse(_TEXT)), "APIKey()")

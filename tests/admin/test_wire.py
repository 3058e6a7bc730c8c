# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of documents and times of the administration API.
"""

from hypothesis import given
from hypothesis import strategies as st

from kypello.admin.errors import Rejected
from kypello.admin.wire import (
    Document,
    read_document,
    read_expiry,
    tell_expiry,
    tell_time,
    tell_update,
)
from tests.cases import SyncCase


class _Secretive(Document):
    """
    A document with a secret.
    """

    secret_key: str


class WireTests(SyncCase):
    """
    What comes is read or refused, and what is told can be read.
    """

    def test_document(self) -> None:
        """
        Names are those of the API, unknown members do not matter, and nothing is shown.
        """
        read = read_document(b'{"secretKey":"hidden-text","more":1}', _Secretive)
        self.assertEqual(read.secret_key, "hidden-text")
        self.assertNotIn("hidden-text", repr(read))

    @given(st.binary(max_size=40))
    def test_no_document(self, content: bytes) -> None:
        """
        Whatever else comes is refused, without being shown.
        """
        with self.assertRaises(Rejected) as caught:
            read_document(content, _Secretive)
        self.assertEqual(caught.exception.code, "XMinioAdminConfigBadJSON")

    def test_deep_document(self) -> None:
        """
        What is nested too deep is refused.
        """
        content = b'{"more":' + b"[" * 100_000 + b"]" * 100_000 + b',"secretKey":"s"}'
        with self.assertRaises(Rejected):
            read_document(content, _Secretive)

    def test_times(self) -> None:
        """
        Times have as many digits as they need.
        """
        self.assertEqual(tell_time(0), "1970-01-01T00:00:00Z")
        self.assertEqual(tell_time(1.5), "1970-01-01T00:00:01.5Z")
        self.assertEqual(tell_time(20.0), "1970-01-01T00:00:20Z")
        self.assertEqual(tell_update(None), "0001-01-01T00:00:00Z")
        self.assertEqual(tell_update(1_250_000_000), "1970-01-01T00:00:01.25Z")

    @given(st.integers(86400, 4_000_000_000))
    def test_expiry(self, seconds: int) -> None:
        """
        When something expires is read as it is told.
        """
        self.assertEqual(read_expiry(tell_expiry(seconds)), seconds)

    def test_expiries(self) -> None:
        """
        Times with zones and many digits are read, all ways to say never are one, and what is no
        time is refused.
        """
        self.assertEqual(read_expiry("2026-01-01T01:00:00.123456789+01:00"), 1767225600.123456)
        for never in (None, "", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"):
            self.assertIsNone(read_expiry(never))
        self.assertEqual(tell_expiry(None), "1970-01-01T00:00:00Z")
        for wrong in ("tomorrow", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "9" * 400):
            with self.assertRaises(Rejected):
                read_expiry(wrong)

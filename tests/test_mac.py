# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.mac``.
"""

import hmac

from hypothesis import given
from hypothesis import strategies as st

from kypello.mac import hmac_sha256
from tests.cases import SyncCase


class HMACTests(SyncCase):
    """
    ``hmac_sha256`` is the one of RFC 2104.
    """

    def test_vectors(self) -> None:
        """
        It gives what RFC 4231 gives, for a short key, a common one and one longer than a block.
        """
        larger = b"Test Using Larger Than Block-Size Key - Hash Key First"
        for key, message, expected in (
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                b"\x0b" * 20,
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"\xaa" * 131,
                larger,
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ):
            self.assertEqual(hmac_sha256(key, message).hex(), expected)

    @given(st.binary(max_size=140), st.binary(max_size=300))
    def test_like_the_library(self, key: bytes, message: bytes) -> None:
        """
        It is what the standard library computes, for keys and messages of any length.
        """
        self.assertEqual(hmac_sha256(key, message), hmac.digest(key, message, "sha256"))

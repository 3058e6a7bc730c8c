# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of payload modes.
"""

from kypello.auth.mode import ChunkSeed, PayloadMode, payload_mode
from kypello.errors import Refused
from tests.cases import SyncCase

SEED = ChunkSeed(bytes(32), "20130524T000000Z", "scope", "0" * 64)
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


class ModeTests(SyncCase):
    """
    Values of ``x-amz-content-sha256``.
    """

    def test_known(self) -> None:
        """
        Each known value has its mode; digests may be in upper case.
        """
        for value, mode in (
            (None, PayloadMode()),
            ("UNSIGNED-PAYLOAD", PayloadMode()),
            ("AB" * 32, PayloadMode(sha256="ab" * 32)),
            (SIGNED, PayloadMode(chunked=True, seed=SEED)),
            (SIGNED + "-TRAILER", PayloadMode(chunked=True, trailer=True, seed=SEED)),
            ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", PayloadMode(chunked=True, trailer=True)),
        ):
            self.assertEqual(payload_mode(value, SEED), mode)

    def test_refused(self) -> None:
        """
        Anything else is refused, and signed chunks without a signature of the request.
        """
        for value, seed, code in (
            ("", SEED, "InvalidArgument"),
            ("unsigned-payload", SEED, "InvalidArgument"),
            ("ab" * 31, SEED, "InvalidArgument"),
            ("ab" * 32 + "," + "ab" * 32, SEED, "InvalidArgument"),
            ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", SEED, "NotImplemented"),
            (SIGNED, None, "InvalidRequest"),
            (SIGNED + "-TRAILER", None, "InvalidRequest"),
        ):
            with self.assertRaises(Refused) as caught:
                payload_mode(value, seed)
            self.assertEqual(caught.exception.code, code, value)

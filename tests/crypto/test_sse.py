# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of which encryption applies.
"""

from kypello.crypto.sse import ServerSideEncryption, encryption_for
from kypello.errors import Damaged, Refused
from kypello.model import EncryptionRequest
from tests.cases import SyncCase

AES256 = ServerSideEncryption("AES256")


class EncryptionTests(SyncCase):
    """
    Defaults and their precedence.
    """

    def test_precedence(self) -> None:
        """
        The client's header counts, else the bucket's setting, else the server's.
        """
        request = EncryptionRequest("AES256")
        setting = AES256.to_bytes()
        for arguments, expected in (
            ((None, None, False), None),
            ((request, None, False), AES256),
            ((None, setting, False), AES256),
            ((None, None, True), AES256),
            ((request, b"damaged", False), AES256),
        ):
            self.assertEqual(encryption_for(*arguments), expected)

    def test_unknown_algorithm(self) -> None:
        """
        An algorithm that is not served is refused, not replaced.
        """
        with self.assertRaises(Refused) as caught:
            encryption_for(EncryptionRequest("AES128"), None, True)
        self.assertEqual(caught.exception.code, "InvalidArgument")

    def test_damaged_setting(self) -> None:
        """
        A bucket whose setting is unreadable takes no write in clear.
        """
        for stored in (b"", b"{", b'{"algorithm":"none"}', b"\xff"):
            with self.assertRaises(Damaged):
                encryption_for(None, stored, False)

    def test_stored(self) -> None:
        """
        A default is stored as JSON and read back.
        """
        self.assertEqual(AES256.to_bytes(), b'{"algorithm":"AES256"}')
        self.assertEqual(ServerSideEncryption.from_bytes(AES256.to_bytes()), AES256)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of checksums.
"""

from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.checksums import SIZES, decode, encode, new_checksum
from tests.cases import SyncCase

#: The published check values: the checksum of the digits 1 to 9.
CHECKS = {
    "crc32": "y/Q5Jg==",
    "crc32c": "4waSgw==",
    "crc64nvme": "rosUhgp5mIg=",
    "sha1": "98O8HYCOBHMq32eZZczDTKeuNEE=",
    "sha256": "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
}


class ChecksumTests(SyncCase):
    """
    Each algorithm.
    """

    def test_published_values(self) -> None:
        """
        The check values of all five algorithms come out.
        """
        self.assertEqual(set(CHECKS), set(SIZES))
        for algorithm, expected in CHECKS.items():
            checksum = new_checksum(algorithm)
            checksum.update(b"123456789")
            self.assertEqual(encode(checksum.digest()), expected, algorithm)

    def test_size(self) -> None:
        """
        A digest has the size told, also that of nothing.
        """
        for algorithm, size in SIZES.items():
            self.assertEqual(len(new_checksum(algorithm).digest()), size)

    @given(st.sampled_from(sorted(SIZES)), st.lists(st.binary(max_size=40), max_size=8))
    def test_cuts(self, algorithm: str, pieces: list[bytes]) -> None:
        """
        The checksum does not depend on how the data is cut, nor on the kind of buffer.
        """
        whole, cut = new_checksum(algorithm), new_checksum(algorithm)
        whole.update(b"".join(pieces))
        for piece in pieces:
            cut.update(memoryview(bytearray(piece)))
        self.assertEqual(whole.digest(), cut.digest())

    def test_unknown(self) -> None:
        """
        An algorithm that is not there raises.
        """
        with self.assertRaises(KeyError):
            new_checksum("adler32")


class TextTests(SyncCase):
    """
    Digests in base64.
    """

    @given(st.binary(min_size=1, max_size=40))
    def test_round_trip(self, digest: bytes) -> None:
        """
        What was encoded is read back.
        """
        self.assertEqual(decode(encode(digest), len(digest)), digest)

    def test_refused(self) -> None:
        """
        Other sizes, foreign characters, blanks and second spellings are no digest.
        """
        for text in ("", "y/Q5", "y/Q5Jg", "y/Q5Jh==", "y_Q5Jg==", " y/Q5Jg==", "é/Q5Jg=="):
            self.assertIsNone(decode(text, 4), text)

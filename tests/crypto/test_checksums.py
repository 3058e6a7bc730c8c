# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of checksums.
"""

from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.checksums import (
    COMBINABLE,
    SIZES,
    combine,
    compose,
    decode,
    encode,
    new_checksum,
)
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


def digest_of(algorithm: str, content: bytes) -> bytes:
    """
    The checksum of some bytes.
    """
    checksum = new_checksum(algorithm)
    checksum.update(content)
    return checksum.digest()


class PiecesTests(SyncCase):
    """
    Checksums of a whole from those of its pieces.
    """

    @given(
        st.sampled_from(sorted(COMBINABLE)),
        st.lists(st.one_of(st.binary(max_size=80), st.integers(0, 200_000).map(bytes)), max_size=6),
    )
    def test_combined(self, algorithm: str, pieces: list[bytes]) -> None:
        """
        The combined checksum is that of the whole, empty pieces included.
        """
        combined = combine(
            algorithm, [(digest_of(algorithm, piece), len(piece)) for piece in pieces]
        )
        self.assertEqual(combined, digest_of(algorithm, b"".join(pieces)))

    def test_known(self) -> None:
        """
        Two pieces, 5 MiB of one letter and ten of another, give the values that S3 gives.
        """
        pieces = [b"a" * 5 * 1024 * 1024, b"b" * 10]
        for algorithm, expected in (("crc32", "1FimjA=="), ("crc64nvme", "om/L0dM0gF4=")):
            digests = [(digest_of(algorithm, piece), len(piece)) for piece in pieces]
            self.assertEqual(encode(combine(algorithm, digests)), expected)
        for algorithm, expected in (
            ("crc32", "meG8JQ=="),
            ("sha256", "zTBnwsNWVkdz0PwZObp0pDCxhYpP8sndExucneRKiO0="),
        ):
            composite = compose(algorithm, [digest_of(algorithm, piece) for piece in pieces])
            self.assertEqual(encode(composite), expected)

    @given(
        st.sampled_from(sorted(COMBINABLE)),
        st.binary(max_size=9),
        st.binary(min_size=1, max_size=9),
    )
    def test_far_apart(self, algorithm: str, first: bytes, second: bytes) -> None:
        """
        Pieces may be larger than any number of 32 bits: the order of combining changes nothing.
        """
        huge = 2**36 + 12345
        one, two = digest_of(algorithm, first), digest_of(algorithm, second)
        pair = combine(algorithm, [(two, len(second)), (two, huge)])
        self.assertEqual(
            combine(algorithm, [(one, len(first)), (pair, len(second) + huge)]),
            combine(algorithm, [(one, len(first)), (two, len(second)), (two, huge)]),
        )


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

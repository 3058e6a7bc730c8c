# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what can be told of packages without their key.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from kypello.crypto.dare import DARECipher, encrypt
from kypello.crypto.structure import Structure
from kypello.errors import NotAuthentic
from tests.cases import SyncCase

_KEY, _NONCE = bytes(range(32)), bytes(range(200, 212))
_PACKAGE = 65568


def look_at(stream: bytes, size: int, step: int = 1 << 20) -> int:
    """
    Feed a stream in blocks, and tell how many packages it has.
    """
    structure = Structure(size)
    for at in range(0, len(stream), step):
        structure.feed(stream[at : at + step])
    structure.finish()
    return structure.packages


class StructureTests(SyncCase):
    """
    Streams that are whole, and others.
    """

    @given(
        st.sampled_from([0, 1, 65535, 65536, 65537, 131072, 200_000]),
        st.sampled_from(DARECipher),
        st.sampled_from([1, 7, 16, 17, 65568, 70_000]),
    )
    @settings(max_examples=30, deadline=None)
    def test_sound(self, size: int, cipher: DARECipher, step: int) -> None:
        """
        However it is cut, a stream has as many packages as its plaintext needs.
        """
        stream = encrypt(_KEY, _NONCE, bytes(size), cipher)
        self.assertEqual(look_at(stream, len(stream), step), -(-size // 65536))

    def test_headers(self) -> None:
        """
        A changed bit in any header is seen, but for those of the nonce and of the cipher where
        there is only one header to compare.
        """
        for size, packages in ((200_000, 4), (5, 1)):
            stream = encrypt(_KEY, _NONCE, bytes(size))
            for package in range(packages):
                for byte in range(16):
                    for bit in range(8):
                        changed = bytearray(stream)
                        changed[package * _PACKAGE + byte] ^= 1 << bit
                        final = byte == 4 and bit == 7
                        lonely = packages == 1 and byte >= 4 and not final
                        lonely |= packages == 1 and byte == 1 and bit == 0
                        if lonely:
                            self.assertEqual(look_at(bytes(changed), len(changed)), 1)
                            continue
                        with self.assertRaises(NotAuthentic):
                            look_at(bytes(changed), len(changed))

    def test_places(self) -> None:
        """
        Packages that are swapped with the final one, dropped, cut or added are seen.
        """
        stream = encrypt(_KEY, _NONCE, bytes(150_000))
        one, two, three = stream[:_PACKAGE], stream[_PACKAGE:-18_960], stream[-18_960:]
        self.assertEqual(one + two + three, stream)
        for other in (
            one + two,
            two + three + one,
            one + three + two,
            one + two + three + three,
            stream[:-1],
            stream[: _PACKAGE + 10],
            bytes(len(stream)),
        ):
            with self.assertRaises(NotAuthentic):
                look_at(other, len(other))

    def test_less(self) -> None:
        """
        Fewer bytes than there should be are seen.
        """
        stream = encrypt(_KEY, _NONCE, bytes(100))
        for came in (0, 10, 16, len(stream) - 1):
            with self.assertRaises(NotAuthentic):
                look_at(stream[:came], len(stream))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of where ranges are found in encrypted content, and of streams that follow each other.
"""

import os
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from kypello.crypto.dare import PACKAGE_SIZE, Decoder, encrypt, encrypted_size
from kypello.errors import NotAuthentic, StorageFailed
from kypello.interfaces import IBodySource
from kypello.model import ByteRange
from kypello.objects.joined import JoinedSource, Piece
from kypello.objects.reading import locate
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase, SyncCase

KEYS = [bytes([number]) * 32 for number in range(3)]
NONCES = [bytes([0x80 + number]) * 12 for number in range(3)]
PLAIN = [os.urandom(size) for size in (70_000, 1, 65536)]


class LocateTests(SyncCase):
    """
    Ranges in streams.
    """

    def test_published(self) -> None:
        """
        The published range is found where the original finds it.
        """
        wanted = ByteRange(594870256, 594870264)
        (found,) = locate([297435132, 297435132], wanted)
        self.assertEqual(
            (found.start, found.stop - found.start, found.packages.skip),
            (595127964, 32796, 32756),
        )
        self.assertEqual((found.packages.sequence, found.index), (4538, 1))

    @given(st.lists(st.integers(0, 200_000), min_size=1, max_size=6), st.data())
    def test_contiguous(self, sizes: list[int], data: st.DataObject) -> None:
        """
        What is found has the size of the range, nothing between, and no package too many.
        """
        total = sum(sizes)
        if not total:
            return
        start = data.draw(st.integers(0, total - 1))
        wanted = ByteRange(start, data.draw(st.integers(start + 1, total)))
        found = locate(sizes, wanted)
        self.assertEqual(sum(each.size for each in found), wanted.size)
        for before, after in pairwise(found):
            self.assertEqual(before.stop, after.start)
            self.assertTrue(before.packages.to_end)
            self.assertEqual((after.packages.sequence, after.packages.skip), (0, 0))
        packages = sum(-(-each.packages.encrypted.size // PACKAGE_SIZE) for each in found)
        least = -(-wanted.size // 65536)
        self.assertLessEqual(packages, least + len(found))
        self.assertLessEqual(found[-1].stop, sum(map(encrypted_size, sizes)))


class JoinedSourceTests(AsyncCase):
    """
    Streams that follow each other.
    """

    def setUp(self) -> None:
        """
        Encrypt three streams.
        """
        self.streams = [
            encrypt(key, nonce, plain)
            for key, nonce, plain in zip(KEYS, NONCES, PLAIN, strict=True)
        ]
        self.made: list[int] = []

    def joined(self, data: bytes, block: int, nonces: list[bytes] = NONCES) -> JoinedSource:
        """
        All of them, from content that comes in blocks.
        """
        sizes = [len(plain) for plain in PLAIN]

        def pieces():
            """
            Make each when it is wanted.
            """
            for found in locate(sizes, ByteRange(0, sum(sizes))):
                self.made.append(found.index)
                key = KEYS[found.index]
                yield Piece(
                    found.packages, found.size, nonces[found.index], lambda key=key: Decoder(key)
                )

        self.source = BytesSource(
            [data[start : start + block] for start in range(0, len(data), block)]
        )
        return JoinedSource(self.source, pieces(), sum(sizes))

    async def drain(self, source: JoinedSource) -> bytes:
        """
        Read all.
        """
        found = b""
        while block := await source.read():
            found += block
        self.assertEqual(await source.read(), b"")
        return found

    async def test_cuts(self) -> None:
        """
        The result does not depend on how the content comes.
        """
        data = b"".join(self.streams)
        for block in (7, 15, 17, 65568, 70_064, 1 << 20):
            source = self.joined(data, block)
            verifyObject(IBodySource, source)
            self.assertEqual(await self.drain(source), b"".join(PLAIN))

    async def test_lazy(self) -> None:
        """
        A stream is begun when the one before is read to its end.
        """
        source = self.joined(b"".join(self.streams), 1000)
        await source.read()
        self.assertEqual(self.made, [0])
        self.assertLess(self.source.reads, 70)
        source.close()
        self.assertTrue(self.source.closed)
        self.assertEqual(await source.read(), b"")

    async def test_refused(self) -> None:
        """
        Streams that are swapped, dropped, cut or of another nonce are refused.
        """
        first, second, third = self.streams
        other = encrypt(KEYS[0], bytes(12), PLAIN[0])
        for data in (
            second + first + third,
            first + third,
            first + second,
            first[:-1] + second + third,
            first + second + third[:-1],
            other + second + third,
            first[:10],
            b"",
        ):
            for block in (9, 1 << 20):
                with self.assertRaises(NotAuthentic):
                    await self.drain(self.joined(data, block))

    async def test_any_nonce(self) -> None:
        """
        Where no nonce was kept, any is good.
        """
        source = self.joined(b"".join(self.streams), 1000, [b""] * 3)
        self.assertEqual(await self.drain(source), b"".join(PLAIN))

    async def test_failure(self) -> None:
        """
        What the store raises is raised.
        """
        source = self.joined(b"", 1)
        self.source._failure = StorageFailed("gone")
        with self.assertRaises(StorageFailed):
            await source.read()

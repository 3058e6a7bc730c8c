# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the aws-chunked framing.
"""

from io import BytesIO
from itertools import pairwise
from typing import Any

from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given
from hypothesis import strategies as st

from kypello.auth.chunked import MAX_LINE, ChunkedDecoder
from kypello.auth.mode import ChunkSeed
from kypello.auth.sigv4 import Scope, signing_key
from kypello.errors import Refused
from kypello.model import Buffer
from tests.auth.examples import (
    CHUNKED_BODY,
    CONTENT,
    IDENTITY,
    SCOPE,
    TIMESTAMP,
    TRAILED_BODY,
    encode_chunks,
)
from tests.cases import SyncCase

KEY = signing_key(IDENTITY.secret_key, Scope("20130524", "us-east-1"))
CHUNKED_SEED = ChunkSeed(
    KEY, TIMESTAMP, SCOPE, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
)
TRAILED_SEED = ChunkSeed(
    KEY, TIMESTAMP, SCOPE, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
)
NAME = "x-amz-checksum-crc32"
VALUE = "y/Q5Jg=="
CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=6)
STYLES = st.sampled_from(["aws", "minio"])


def decode(
    body: bytes | list[Buffer],
    size: int,
    seed: ChunkSeed | None = None,
    trailer: bool = True,
    announced: tuple[str, ...] = (),
) -> tuple[bytes, dict[str, str]]:
    """
    Run a decoder over a body, or over its blocks, and give content and trailers.
    """
    decoder = ChunkedDecoder(size, seed, trailer, announced)
    content = b""
    for block in [body] if isinstance(body, bytes) else body:
        content += b"".join(decoder.feed(block))
    return content, decoder.finish()


class ExampleTests(SyncCase):
    """
    The published bodies.
    """

    def test_signed(self) -> None:
        """
        The upload of 65536 + 1024 bytes is decoded and its signatures match.
        """
        self.assertEqual(decode(CHUNKED_BODY, 66560, CHUNKED_SEED, False), (CONTENT, {}))
        self.assertEqual(len(CHUNKED_BODY), 66824)

    def test_trailer(self) -> None:
        """
        The same upload with a signed CRC32C trailer.
        """
        self.assertEqual(
            decode(TRAILED_BODY, 66560, TRAILED_SEED, True, ("x-amz-checksum-crc32c",)),
            (CONTENT, {"x-amz-checksum-crc32c": "sOO8/Q=="}),
        )

    def test_botocore(self) -> None:
        """
        What botocore frames is decoded.
        """
        wrapper = AwsChunkedWrapper(BytesIO(CONTENT), Crc32Checksum, NAME, chunk_size=20000)
        content, trailers = decode(wrapper.read(), len(CONTENT), announced=(NAME,))
        self.assertEqual(content, CONTENT)
        checksum = Crc32Checksum()
        checksum.update(CONTENT)
        self.assertEqual(trailers, {NAME: checksum.b64digest()})


class CutTests(SyncCase):
    """
    Bodies in any number of pieces.
    """

    @given(CHUNKS, st.lists(st.integers(0, 3000), max_size=12), st.booleans(), STYLES)
    def test_cut(self, chunks: list[bytes], cuts: list[int], signed: bool, style: str) -> None:
        """
        The result does not depend on where the body is cut, signed or not, whoever framed it.
        """
        seed = CHUNKED_SEED if signed else None
        body = encode_chunks(chunks, seed, ((NAME, VALUE),), signed, style)
        places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
        blocks: list[Buffer] = [bytearray(body[start:stop]) for start, stop in pairwise(places)]
        content = b"".join(chunks)
        self.assertEqual(
            decode(blocks, len(content), seed, announced=(NAME,)), (content, {NAME: VALUE})
        )

    @given(CHUNKS, st.integers(0), STYLES)
    def test_cut_short(self, chunks: list[bytes], where: int, style: str) -> None:
        """
        A signed body that ends early is refused wherever it ends.
        """
        body = encode_chunks(chunks, CHUNKED_SEED, ((NAME, VALUE),), True, style)
        with self.assertRaises(Refused):
            decode(body[: where % len(body)], sum(map(len, chunks)), CHUNKED_SEED, True, (NAME,))

    @given(CHUNKS, st.integers(0), st.integers(0, 7))
    def test_flipped(self, chunks: list[bytes], where: int, bit: int) -> None:
        """
        No single bit of a signed body can change and still give other content or trailers.
        """
        body = bytearray(encode_chunks(chunks, CHUNKED_SEED, ((NAME, VALUE),), True))
        body[where % len(body)] ^= 1 << bit
        content = b"".join(chunks)
        try:
            result = decode(bytes(body), len(content), CHUNKED_SEED, True, (NAME,))
        except Refused:
            return
        self.assertEqual(result, (content, {NAME: VALUE}))

    @given(st.binary(max_size=400), st.booleans(), st.integers(0, 50))
    def test_garbage(self, body: bytes, signed: bool, size: int) -> None:
        """
        Whatever the bytes are, they are decoded to the announced size or refused.
        """
        try:
            content, _trailers = decode(body, size, CHUNKED_SEED if signed else None)
        except Refused:
            return
        self.assertEqual(len(content), size)

    def test_not_copied(self) -> None:
        """
        Content is given as views of the block, large chunks before they have ended.
        """
        decoder = ChunkedDecoder(1 << 24, None, True, ())
        self.assertEqual(decoder.feed(b"1000000\r\n"), [])
        block = bytes(1 << 20)
        for _ in range(16):
            (piece,) = decoder.feed(block)
            self.assertIs(piece.obj, block)
            self.assertEqual(len(piece), len(block))
        self.assertEqual(decoder.feed(b"\r\n0\r\n\r\n"), [])
        self.assertEqual(decoder.finish(), {})


class RefusedTests(SyncCase):
    """
    Bodies that break a rule.
    """

    def refused(
        self,
        code: str,
        body: bytes,
        size: int,
        *options: Any,
    ) -> None:
        """
        Assert that a body is refused, whole and byte by byte.

        :param options: The further arguments of :func:`decode`.
        """
        single: list[Buffer] = [body[at : at + 1] for at in range(len(body))]
        for blocks in ([body], single):
            with self.assertRaises(Refused) as caught:
                decode(list(blocks), size, *options)
            self.assertEqual(caught.exception.code, code, body)

    def test_framing(self) -> None:
        """
        Broken framing is an incomplete body.
        """
        for body in (
            b"",
            b"3\r\nabc\r\n",
            b"3\r\nabc\r\n0\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n0\r\n\r\n",
            b"00000000000000003\r\nabc\r\n0\r\n\r\n",
            b"3" * (MAX_LINE + 1),
            b"3\r\nabc\r\n0\r\n\r\n0\r\n\r\n",
        ):
            self.refused("IncompleteBody", body, 3)

    def test_size(self) -> None:
        """
        More or less content than announced is an incomplete body, at once.
        """
        for size in (2, 4):
            self.refused("IncompleteBody", b"3\r\nabc\r\n0\r\n\r\n", size)
        decoder = ChunkedDecoder(2, None, True, ())
        with self.assertRaises(Refused):
            decoder.feed(b"ffffffff\r\n")

    def test_unsigned_chunk(self) -> None:
        """
        A chunk without signature breaks the framing of signed chunks.
        """
        self.refused("IncompleteBody", encode_chunks([b"abc"]), 3, CHUNKED_SEED, False)

    def test_signature(self) -> None:
        """
        A chunk, or the last one, or the trailer, under a false signature is refused.
        """
        other = ChunkSeed(bytes(32), TIMESTAMP, SCOPE, CHUNKED_SEED.signature)
        good = encode_chunks([b"abc"], CHUNKED_SEED)
        bad = encode_chunks([b"abc"], other)
        self.refused("SignatureDoesNotMatch", bad, 3, CHUNKED_SEED, False)
        last = good[:-68] + b"0" * 64 + b"\r\n\r\n"
        self.refused("SignatureDoesNotMatch", last, 3, CHUNKED_SEED, False)
        trailed = encode_chunks([b"abc"], CHUNKED_SEED, ((NAME, VALUE),), True)
        changed = trailed.replace(VALUE.encode(), b"z" + VALUE.encode()[1:])
        self.refused("SignatureDoesNotMatch", changed, 3, CHUNKED_SEED, True, (NAME,))

    def test_chunks_swapped(self) -> None:
        """
        Signed chunks cannot change places, be dropped or be repeated.
        """
        body = encode_chunks([b"abc", b"def"], CHUNKED_SEED)
        at = body.index(b"abc\r\n") + 5
        to = body.index(b"def\r\n") + 5
        one, two, last = body[:at], body[at:to], body[to:]
        self.refused("SignatureDoesNotMatch", two + one + last, 6, CHUNKED_SEED, False)
        self.refused("SignatureDoesNotMatch", two + last, 3, CHUNKED_SEED, False)
        self.refused("SignatureDoesNotMatch", one + one + last, 6, CHUNKED_SEED, False)

    def test_trailers(self) -> None:
        """
        Missing, foreign, repeated and malformed trailers are refused.
        """
        start = b"0\r\n"
        good = f"{NAME}:{VALUE}\r\n".encode()
        for tail in (
            b"\r\n",
            b"x-amz-checksum-sha1:abc\r\n\r\n",
            good + b"x-amz-meta-a:b\r\n\r\n",
            good + good + b"\r\n",
            good + b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n",
            NAME.encode() + b"\r\n\r\n",
            NAME.encode() + b":\r\n\r\n",
            NAME.encode() + b":\xff\r\n\r\n",
            good + b"\n",
        ):
            self.refused("MalformedTrailerError", start + tail, 0, None, True, (NAME,))

    def test_trailer_not_announced(self) -> None:
        """
        A trailer that nobody announced is refused, also after chunks that have none.
        """
        body = encode_chunks([b"abc"], None, ((NAME, VALUE),))
        self.refused("MalformedTrailerError", body, 3)
        body = encode_chunks([b"abc"], CHUNKED_SEED, ((NAME, VALUE),), True)
        self.refused("MalformedTrailerError", body, 3, CHUNKED_SEED, False)

    def test_trailer_signature_missing(self) -> None:
        """
        Signed trailers need their signature, and nothing may follow it.
        """
        body = encode_chunks([b"abc"], CHUNKED_SEED, ((NAME, VALUE),), False)
        self.refused("MalformedTrailerError", body, 3, CHUNKED_SEED, True, (NAME,))
        body = encode_chunks([b"abc"], CHUNKED_SEED, ((NAME, VALUE),), True)
        more = body[:-2] + b"x-amz-checksum-sha1:abc\r\n\r\n"
        self.refused("MalformedTrailerError", more, 3, CHUNKED_SEED, True, (NAME,))

    def test_secrets(self) -> None:
        """
        The signing key is in no representation.
        """
        self.assertNotIn(repr(KEY), repr(CHUNKED_SEED))

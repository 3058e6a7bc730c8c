# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of verified payloads.
"""

from base64 import b64encode
from collections.abc import Callable
from hashlib import md5, sha256
from typing import Any

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kypello.auth.mode import ChunkSeed, PayloadMode
from kypello.auth.request import RequestHead
from kypello.errors import BodyTruncated, Refused
from kypello.iam.authenticate import Authenticated
from kypello.interfaces import IBodySource, ILane, ILanes
from kypello.model import Buffer
from kypello.s3.digests import AT_ONCE, IN_FLIGHT
from kypello.s3.payload import Payload, open_payload, read_small
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.auth.examples import encode_chunks
from tests.cases import AsyncCase, SyncCase

SEED = ChunkSeed(bytes(32), "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", "0" * 64)
DIGITS = b"123456789"
CRC32 = "y/Q5Jg=="
DIGITS_SHA256 = sha256(DIGITS).hexdigest()
DIGITS_MD5 = b64encode(md5(DIGITS).digest()).decode()
PLAIN = PayloadMode()
UNSIGNED = PayloadMode(chunked=True, trailer=True)
SIGNED = PayloadMode(chunked=True, seed=SEED)
SIGNED_TRAILER = PayloadMode(chunked=True, trailer=True, seed=SEED)


def opened(
    body: IBodySource,
    *headers: tuple[str, str],
    mode: PayloadMode = PLAIN,
    lanes: ILanes | None = None,
    want_md5: bool = False,
) -> Payload:
    """
    Open the payload of a PUT.
    """
    authenticated = Authenticated(None, RequestHead("PUT", "/b/k", (), headers), mode)
    return open_payload(authenticated, body, lanes or InlineLanes(), want_md5)


async def content(payload: IBodySource) -> bytes:
    """
    Read all of it, and see that the end lasts.
    """
    blocks = []
    while len(block := await payload.read()):
        blocks.append(bytes(block))
    assert await payload.read() == b""
    return b"".join(blocks)


@implementer(ILane, ILanes)
@define
class HeldLanes:
    """
    Lanes whose calls wait until the test lets them run; all are one lane.

    :ivar waiting: What has not run yet.
    """

    waiting: list[Deferred[None]] = field(factory=list)

    def lane(self, *, bulk: bool = False) -> ILane:
        """
        This object.
        """
        return self

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """
        Wait, then run.
        """
        turn: Deferred[None] = Deferred()
        self.waiting.append(turn)
        await turn
        return call(*arguments)

    def release(self) -> None:
        """
        Let the oldest call run.
        """
        self.waiting.pop(0).callback(None)


class PlainTests(AsyncCase):
    """
    Bodies without framing.
    """

    def test_interface(self) -> None:
        """
        A payload provides the seam.
        """
        verifyObject(IBodySource, opened(BytesSource([DIGITS])))

    async def test_nothing_announced(self) -> None:
        """
        Without digests blocks pass as they are, no lane has work, and nothing is invented.
        """
        block, lanes = bytes(AT_ONCE + 1), InlineLanes()
        payload = opened(BytesSource([block]), lanes=lanes)
        self.assertEqual(payload.size, AT_ONCE + 1)
        self.assertIs(await payload.read(), block)
        self.assertEqual(await content(payload), b"")
        self.assertIsNone(payload.md5)
        self.assertEqual(payload.checksums, {})
        self.assertEqual([lane.calls for lane in lanes.made], [0, 0])

    async def test_everything_announced(self) -> None:
        """
        All digests are verified and given after the end.
        """
        payload = opened(
            BytesSource([b"1234", b"56789"]),
            ("content-md5", DIGITS_MD5),
            ("x-amz-checksum-crc32", CRC32),
            mode=PayloadMode(sha256=DIGITS_SHA256),
        )
        self.assertEqual(await content(payload), DIGITS)
        self.assertEqual(payload.md5, md5(DIGITS).hexdigest())
        self.assertEqual(payload.checksums, {"crc32": CRC32})

    async def test_md5_wanted(self) -> None:
        """
        The MD5 digest is computed when it is wanted, also that of nothing.
        """
        payload = opened(BytesSource([]), want_md5=True)
        self.assertEqual(await content(payload), b"")
        self.assertEqual(payload.md5, "d41d8cd98f00b204e9800998ecf8427e")

    async def test_mismatches(self) -> None:
        """
        A digest that does not match is raised instead of the end, again and again.
        """
        for headers, mode, code, fields in (
            (
                (),
                PayloadMode(sha256="ab" * 32),
                "XAmzContentSHA256Mismatch",
                {
                    "ClientComputedContentSHA256": "ab" * 32,
                    "S3ComputedContentSHA256": DIGITS_SHA256,
                },
            ),
            (
                (("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),),
                PLAIN,
                "BadDigest",
                {"ExpectedDigest": "1B2M2Y8AsgTpgAmY7PhCfg==", "CalculatedDigest": DIGITS_MD5},
            ),
            ((("x-amz-checksum-crc32", "AAAAAA=="),), PLAIN, "BadDigest", {}),
            ((("x-amz-checksum-crc32c", CRC32),), PLAIN, "BadDigest", {}),
        ):
            payload = opened(BytesSource([DIGITS]), *headers, mode=mode)
            self.assertEqual(await payload.read(), DIGITS)
            for _ in range(2):
                with self.assertRaises(Refused) as caught:
                    await payload.read()
                self.assertEqual(caught.exception.code, code)
                self.assertEqual(caught.exception.fields, fields)

    async def test_body_fails(self) -> None:
        """
        What stops the body stops the payload.
        """
        payload = opened(BytesSource([b"3\r\nab"], BodyTruncated()), LENGTH, mode=UNSIGNED)
        self.assertEqual(await payload.read(), b"ab")
        with self.assertRaises(BodyTruncated):
            await payload.read()

    async def test_close(self) -> None:
        """
        Closing it closes the body.
        """
        body = BytesSource([DIGITS])
        payload = opened(body)
        payload.close()
        payload.close()
        self.assertTrue(body.closed)


class FlowTests(AsyncCase):
    """
    Digests beside the stream.
    """

    async def test_in_flight(self) -> None:
        """
        Blocks are handed on while their digests wait, a bounded number of them; the end waits
        for all.
        """
        blocks: list[Buffer] = [bytes([number]) * AT_ONCE for number in range(IN_FLIGHT + 1)]
        lanes, body = HeldLanes(), BytesSource(blocks)
        payload = opened(body, lanes=lanes, want_md5=True)
        for block in blocks[:IN_FLIGHT]:
            self.assertIs(await payload.read(), block)
        reading = Deferred.fromCoroutine(payload.read())
        self.assertNoResult(reading)
        lanes.release()
        self.assertIs(self.successResultOf(reading), blocks[-1])
        ending = Deferred.fromCoroutine(payload.read())
        for _ in range(IN_FLIGHT):
            self.assertNoResult(ending)
            lanes.release()
        self.assertEqual(self.successResultOf(ending), b"")
        self.assertEqual(payload.md5, md5(b"".join(blocks)).hexdigest())

    async def test_lanes(self) -> None:
        """
        MD5 has a lane of its own, and small bodies use none.
        """
        lanes = InlineLanes()
        mode = PayloadMode(sha256=sha256(bytes(AT_ONCE + 1)).hexdigest())
        payload = opened(BytesSource([bytes(AT_ONCE + 1)]), mode=mode, lanes=lanes, want_md5=True)
        await content(payload)
        self.assertEqual([lane.calls for lane in lanes.made], [1, 1])
        lanes = InlineLanes()
        payload = opened(BytesSource([bytes(AT_ONCE)]), lanes=lanes, want_md5=True)
        await content(payload)
        self.assertEqual(lanes.made, [])

    async def test_lane_fails(self) -> None:
        """
        An exception in a lane fails the request.
        """

        class Broken(HeldLanes):
            async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
                raise OSError("broken")

        payload = opened(BytesSource([bytes(AT_ONCE + 1)]), lanes=Broken(), want_md5=True)
        with self.assertRaises(OSError):
            await content(payload)


LENGTH = ("x-amz-decoded-content-length", str(len(DIGITS)))
TRAILER = ("x-amz-trailer", "x-amz-checksum-crc32")
TRAILERS = (("x-amz-checksum-crc32", CRC32),)


class ChunkedTests(AsyncCase):
    """
    Bodies in aws-chunked framing.
    """

    async def test_decoded(self) -> None:
        """
        The content comes out, of the decoded size; trailer checksums are verified and given.
        """
        for mode, body, headers, checksums in (
            (UNSIGNED, encode_chunks([DIGITS]), (), {}),
            (SIGNED, encode_chunks([DIGITS], SEED), (), {}),
            (UNSIGNED, encode_chunks([DIGITS], None, TRAILERS), (TRAILER,), {"crc32": CRC32}),
            (
                SIGNED_TRAILER,
                encode_chunks([DIGITS], SEED, TRAILERS, True),
                (TRAILER,),
                {"crc32": CRC32},
            ),
            (
                UNSIGNED,
                encode_chunks([b"1234", b"5", b"6789"]),
                (("x-amz-checksum-crc32", CRC32), ("content-md5", DIGITS_MD5)),
                {"crc32": CRC32},
            ),
        ):
            payload = opened(BytesSource([body]), LENGTH, *headers, mode=mode, want_md5=True)
            self.assertEqual(payload.size, len(DIGITS))
            self.assertEqual(await content(payload), DIGITS)
            self.assertEqual(payload.checksums, checksums)
            self.assertEqual(payload.md5, md5(DIGITS).hexdigest())

    async def test_refused(self) -> None:
        """
        False trailers, signatures and sizes are raised instead of the end.
        """
        other = ChunkSeed(bytes(31) + b"\x01", SEED.timestamp, SEED.scope, SEED.signature)
        wrong = (("x-amz-checksum-crc32", "AAAAAA=="),)
        short = (("x-amz-checksum-crc32", "AAAA"),)
        for mode, body, code in (
            (UNSIGNED, encode_chunks([DIGITS], None, wrong), "BadDigest"),
            (UNSIGNED, encode_chunks([DIGITS], None, short), "BadDigest"),
            (UNSIGNED, encode_chunks([DIGITS]), "MalformedTrailerError"),
            (UNSIGNED, encode_chunks([DIGITS], None, TRAILERS)[:-2], "IncompleteBody"),
            (UNSIGNED, encode_chunks([DIGITS + b"0"], None, TRAILERS), "IncompleteBody"),
            (UNSIGNED, b"9\r\n" + DIGITS + b"\r\n", "IncompleteBody"),
            (
                SIGNED_TRAILER,
                encode_chunks([DIGITS], other, TRAILERS, True),
                "SignatureDoesNotMatch",
            ),
        ):
            payload = opened(BytesSource([body]), LENGTH, TRAILER, mode=mode)
            with self.assertRaises(Refused) as caught:
                await content(payload)
            self.assertEqual(caught.exception.code, code, body)


class CutTests(SyncCase):
    """
    Bodies in any number of blocks.
    """

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=9), st.integers(1, 60))
    def test_blocks(self, chunks: list[bytes], size: int) -> None:
        """
        The result does not depend on how the body comes.
        """
        plain = b"".join(chunks)
        body = encode_chunks(chunks, SEED)
        payload = opened(
            BytesSource(body[at : at + size] for at in range(0, len(body), size)),
            ("x-amz-decoded-content-length", str(len(plain))),
            mode=SIGNED,
            want_md5=True,
        )
        reading = Deferred.fromCoroutine(content(payload))
        self.assertEqual(self.successResultOf(reading), plain)
        self.assertEqual(payload.md5, md5(plain).hexdigest())


class HeaderTests(SyncCase):
    """
    Headers that are refused before the body is touched.
    """

    def refused(
        self, code: str, text: str, *headers: tuple[str, str], mode: PayloadMode = PLAIN
    ) -> None:
        """
        Assert the error of headers.
        """
        body = BytesSource([DIGITS])
        with self.assertRaises(Refused) as caught:
            opened(body, *headers, mode=mode)
        self.assertEqual(caught.exception.code, code, headers)
        self.assertIn(text, caught.exception.message)
        self.assertEqual(body.reads, 0)

    def test_md5(self) -> None:
        """
        ``Content-MD5`` must be base64 of 16 bytes.
        """
        for value in ("", "x", "AAAA", DIGITS_MD5[:-1], f"{DIGITS_MD5},{DIGITS_MD5}", "é" * 24):
            self.refused("InvalidDigest", "not valid", ("content-md5", value))

    def test_checksum(self) -> None:
        """
        A checksum must be known, well-formed and the only one.
        """
        for code, text, headers in (
            ("BadDigest", "x-amz-checksum-crc32 header is invalid", [TRAILERS[0], TRAILERS[0]]),
            ("BadDigest", "is invalid", [("x-amz-checksum-sha256", CRC32)]),
            ("BadDigest", "is invalid", [("x-amz-checksum-sha1", "")]),
            ("InvalidRequest", "Expecting a single", [*TRAILERS, ("x-amz-checksum-sha1", "x")]),
            ("InvalidRequest", "algorithm type", [("x-amz-checksum-crc16", "x")]),
            ("InvalidRequest", "algorithm type", [("x-amz-checksum-", "x")]),
        ):
            self.refused(code, text, *headers)

    def test_settings(self) -> None:
        """
        Headers about checksums that hold none are none.
        """
        for name in ("mode", "type", "algorithm"):
            opened(BytesSource([]), (f"x-amz-checksum-{name}", "x"))

    def test_sdk_algorithm(self) -> None:
        """
        The algorithm that the SDK names must be that of the checksum.
        """
        name = "x-amz-sdk-checksum-algorithm"
        self.refused("InvalidRequest", "unsupported", (name, "CRC16"))
        self.refused("InvalidRequest", "no corresponding", (name, "CRC32"))
        self.refused("InvalidRequest", f"Value for {name}", (name, "SHA1"), *TRAILERS)
        opened(BytesSource([DIGITS]), (name, "CRC32"), *TRAILERS)
        opened(BytesSource([DIGITS]), (name, "CRC32"), LENGTH, TRAILER, mode=UNSIGNED)
        opened(BytesSource([DIGITS]), (name, "CRC32"), ("content-md5", DIGITS_MD5))
        opened(BytesSource([DIGITS]), (name, "CRC32"), mode=PayloadMode(sha256=DIGITS_SHA256))

    def test_trailer(self) -> None:
        """
        Only one checksum can be announced as a trailer, and only where trailers exist.
        """
        for value in ("", "x-amz-meta-a", "x-amz-checksum-crc16", "x-amz-checksum-crc32,"):
            self.refused(
                "InvalidRequest",
                "x-amz-trailer header is not supported",
                LENGTH,
                ("x-amz-trailer", value),
                mode=UNSIGNED,
            )
        for mode in (PLAIN, SIGNED):
            self.refused("InvalidRequest", "x-amz-trailer", LENGTH, TRAILER, mode=mode)
        for more in (TRAILERS[0], TRAILER, ("x-amz-trailer", "x-amz-checksum-sha1")):
            self.refused("InvalidRequest", "Expecting", LENGTH, TRAILER, more, mode=UNSIGNED)

    def test_length(self) -> None:
        """
        There must be a length; with chunks the decoded one.
        """
        self.refused("MissingContentLength", "Content-Length", mode=UNSIGNED)
        for value in ("", "-1", "1.0", "1" * 20, "9,9", "\xb2"):
            length = ("x-amz-decoded-content-length", value)
            self.refused("InvalidArgument", "must be a number", length, mode=UNSIGNED)
        with self.assertRaises(Refused) as caught:
            opened(BytesSource([], BodyTruncated()))
        self.assertEqual(caught.exception.code, "MissingContentLength")


class SmallTests(AsyncCase):
    """
    Bodies that must fit into memory.
    """

    async def test_read(self) -> None:
        """
        All of it is given, up to the limit, and the body is closed.
        """
        body = BytesSource([b"1234", b"56789"])
        self.assertEqual(await read_small(opened(body), 9), DIGITS)
        self.assertTrue(body.closed)

    async def test_announced_too_large(self) -> None:
        """
        What announces more is refused unread.
        """
        body = BytesSource([DIGITS])
        with self.assertRaises(Refused) as caught:
            await read_small(opened(body), 8)
        self.assertEqual(caught.exception.code, "MaxMessageLengthExceeded")
        self.assertEqual(caught.exception.fields, {"MaxMessageLengthBytes": "8"})
        self.assertEqual(body.reads, 0)
        self.assertTrue(body.closed)

    async def test_turns_out_too_large(self) -> None:
        """
        What has no length is refused as soon as it is too long.
        """
        body = BytesSource([b"1234"] * 9, BodyTruncated())
        with self.assertRaises(Refused) as caught:
            await read_small(body, 8)
        self.assertEqual(caught.exception.code, "MaxMessageLengthExceeded")
        self.assertEqual(body.reads, 3)

    async def test_fails(self) -> None:
        """
        What is not what it should be is refused, and the body is closed.
        """
        body = BytesSource([DIGITS])
        with self.assertRaises(Refused):
            await read_small(opened(body, mode=PayloadMode(sha256="ab" * 32)), 100)
        self.assertTrue(body.closed)

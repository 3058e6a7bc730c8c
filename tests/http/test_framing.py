# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.framing``.
"""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kypello.http.framing import BadRequest, Chunked, Head, HeadTooLarge, Identity, take_head
from tests.cases import SyncCase

LIMIT = 1024


def head_of(*lines: bytes) -> Head:
    """
    Parse a head that is complete.
    """
    head = take_head(bytearray(b"\r\n".join((*lines, b"", b""))), LIMIT)
    assert head is not None
    return head


class HeadTests(SyncCase):
    """
    ``take_head`` understands what can be understood in one way only.
    """

    def refused(self, *lines: bytes) -> int:
        """
        The status with which a head is refused.
        """
        with self.assertRaises(BadRequest) as caught:
            head_of(*lines)
        return caught.exception.status

    def test_takes_one_head(self) -> None:
        """
        A head is removed from the buffer with its empty line; what follows stays.
        """
        buffer = bytearray(b"GET //a%2Fb/../c?x=%20 HTTP/1.1\r\nhost: s3\r\nX-A:  1 \t\r\n\r\nrest")
        head = take_head(buffer, LIMIT)
        assert head is not None
        self.assertEqual((head.method, head.target), (b"GET", b"//a%2Fb/../c?x=%20"))
        self.assertEqual(head.headers, (("host", "s3"), ("x-a", "1")))
        self.assertEqual((head.length, head.persistent), (0, True))
        self.assertEqual(buffer, b"rest")

    def test_waits(self) -> None:
        """
        A head that is not complete stays in the buffer.
        """
        buffer = bytearray(b"GET / HTTP/1.1\r\nHost: a\r\n")
        self.assertIsNone(take_head(buffer, LIMIT))
        self.assertEqual(len(buffer), 25)

    def test_tls(self) -> None:
        """
        Who speaks TLS is refused at once, with what is wrong.
        """
        with self.assertRaises(BadRequest) as caught:
            take_head(bytearray(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), LIMIT)
        self.assertEqual(caught.exception.status, 400)
        self.assertIn("not HTTPS", caught.exception.reason)

    def test_empty_line_before(self) -> None:
        """
        One empty line before the request is ignored.
        """
        self.assertEqual(head_of(b"", b"GET / HTTP/1.1", b"Host: a").method, b"GET")

    def test_too_large(self) -> None:
        """
        A head over the limit is refused, whether or not its end has come.
        """
        for end in (b"", b"\r\n\r\n"):
            with self.assertRaises(HeadTooLarge):
                take_head(bytearray(b"GET / HTTP/1.1\r\nHost: " + b"a" * LIMIT + end), LIMIT)

    def test_request_lines(self) -> None:
        """
        Request lines that are not method, target and version are refused.
        """
        for line in (
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\n HTTP/1.1",
            b"GET a HTTP/1.1",
            b"GET ftp://a/ HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.1 ",
        ):
            self.assertEqual(self.refused(line, b"Host: a"), 400, line)

    def test_versions(self) -> None:
        """
        Only HTTP/1.0 and HTTP/1.1 are spoken.
        """
        self.assertEqual(self.refused(b"PRI * HTTP/2.0", b""), 505)
        self.assertEqual(self.refused(b"GET / HTTP/1.2", b"Host: a"), 505)
        self.assertFalse(head_of(b"GET / HTTP/1.0").persistent)

    def test_header_lines(self) -> None:
        """
        Folded lines, spaces before the colon, bare line ends and control bytes are refused.
        """
        for line in (
            b" a: b",
            b"a : b",
            b"a",
            b": b",
            b"a: b\nc: d",
            b"a: \x00",
            b"a: \x7f",
            b"\t",
        ):
            self.assertEqual(self.refused(b"GET / HTTP/1.1", b"Host: a", line), 400, line)

    def test_any_text_in_values(self) -> None:
        """
        Tabs and bytes beyond ASCII are legal inside of values.
        """
        head = head_of(b"GET / HTTP/1.1", b"Host: a", b"X-Amz-Meta-A: \xc3\xa9\tb")
        self.assertEqual(head.headers[1][1], "\xc3\xa9\tb")

    def test_host(self) -> None:
        """
        HTTP/1.1 needs one ``Host``; nobody may send two.
        """
        self.assertEqual(self.refused(b"GET / HTTP/1.1"), 400)
        self.assertEqual(self.refused(b"GET / HTTP/1.0", b"Host: a", b"host: a"), 400)

    def test_absolute_target(self) -> None:
        """
        The authority of an absolute target overrides ``Host``.
        """
        head = head_of(b"GET http://b:1/k?x HTTP/1.1", b"Host: a")
        self.assertEqual((head.target, head.headers), (b"/k?x", (("host", "b:1"),)))
        self.assertEqual(head_of(b"GET http://b?x HTTP/1.1", b"Host: a").target, b"/?x")

    def test_two_lengths(self) -> None:
        """
        Every way to announce two lengths, or a length that is no number, is refused.
        """
        for lines in (
            (b"Content-Length: 1", b"Content-Length: 1"),
            (b"Content-Length: 1, 1",),
            (b"Content-Length: +1",),
            (b"Content-Length: -1",),
            (b"Content-Length: 0x1",),
            (b"Content-Length: 1_0",),
            (b"Content-Length:",),
            (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked", b"content-length: 1"),
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        ):
            self.assertEqual(self.refused(b"PUT / HTTP/1.1", b"Host: a", *lines), 400, lines)

    def test_codings(self) -> None:
        """
        The one transfer coding is chunked, and only in HTTP/1.1.
        """
        chunked = head_of(b"PUT / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked")
        self.assertIsNone(chunked.length)
        for coding in (b"gzip, chunked", b"identity", b"xchunked", b"chunked\x0b"):
            status = 400 if b"\x0b" in coding else 501
            line = b"Transfer-Encoding: " + coding
            self.assertEqual(self.refused(b"PUT / HTTP/1.1", b"Host: a", line), status, coding)
        self.assertEqual(self.refused(b"PUT / HTTP/1.0", b"Transfer-Encoding: chunked"), 400)

    def test_connection_and_expect(self) -> None:
        """
        ``close`` counts anywhere in ``Connection``; only one expectation is known.
        """
        start = (b"PUT / HTTP/1.1", b"Host: a", b"Content-Length: 3")
        self.assertFalse(head_of(*start, b"Connection: te,Close").persistent)
        self.assertTrue(head_of(*start, b"Expect: 100-Continue").expects_continue)
        self.assertFalse(head_of(*start, b"Expect: 200-ok").expects_continue)
        old = head_of(b"PUT / HTTP/1.0", b"Content-Length: 3", b"Expect: 100-continue")
        self.assertFalse(old.expects_continue)


def chunks(*blocks: bytes) -> bytes:
    """
    Blocks in the chunked coding, with an extension and a trailer.
    """
    coded = b"".join(b"%x;a=b\r\n%b\r\n" % (len(block), block) for block in blocks)
    return coded + b"0\r\nX-Trailer: 1\r\n\r\n"


def fed(decoder: Chunked | Identity, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """
    What a decoder makes of pieces: body and excess.
    """
    body, excess = b"", b""
    for piece in pieces:
        if decoder.complete:
            excess += piece
        else:
            blocks, rest = decoder.feed(piece)
            body += b"".join(blocks)
            excess += rest
    return body, excess


class BodyTests(SyncCase):
    """
    The decoders of bodies.
    """

    @given(
        st.lists(st.binary(min_size=1, max_size=40), max_size=4),
        st.lists(st.integers(0, 200), max_size=8),
        st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]),
    )
    def test_cuts_do_not_matter(self, blocks: list[bytes], cuts: list[int], tail: bytes) -> None:
        """
        The body does not depend on how the bytes arrive, and what follows is left alone.
        """
        plain = b"".join(blocks)
        for decoder, coded in (
            (Chunked(), chunks(*blocks)),
            (Identity(len(plain)), plain),
        ):
            wire = coded + tail
            edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
            pieces = [wire[a:b] for a, b in pairwise(edges)]
            self.assertEqual(fed(decoder, pieces), (plain, tail))
            self.assertTrue(decoder.complete)

    def test_malformed_chunks(self) -> None:
        """
        Whatever is not exactly the coding is refused.
        """
        for coded in (
            b"x\r\n",
            b"\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"1\na",
            b" 1\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1;a=\x00\r\n",
            b"1;a\rb\r\n",
            b"10000000000000000\r\n",
            b"1;" + b"a" * 2000,
            b"0\r\n" + b"a: b\r\n" * 4000,
        ):
            with self.assertRaises(BadRequest, msg=repr(coded)):
                fed(Chunked(), [coded])

    def test_length_unknown(self) -> None:
        """
        Nobody knows how much of a chunked body is left.
        """
        self.assertIsNone(Chunked().remaining)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.formdata``.
"""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from kypello.errors import Refused
from kypello.s3.formdata import MAX_BEFORE_FILE, MAX_FIELDS, FormDecoder, read_boundary
from tests.cases import SyncCase

#: Of the forms here.
BOUNDARY = b"--cut-here"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """
    One part of a form.
    """
    shown = "" if filename is None else f'; filename="{filename}"'
    return (
        b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n'
        b"Content-Type: text/plain\r\n\r\n%b\r\n" % (BOUNDARY, name.encode(), shown.encode(), value)
    )


def form(*parts: bytes, end: bytes = b"--" + BOUNDARY + b"--\r\n") -> bytes:
    """
    A whole form.
    """
    return b"".join(parts) + end


def decode(blocks: Iterable[bytes]) -> tuple[FormDecoder, bytes]:
    """
    Take a form apart; give the decoder and the content of the file.
    """
    decoder = FormDecoder(BOUNDARY)
    content = b"".join([bytes(piece) for block in blocks for piece in decoder.feed(block)])
    decoder.finish()
    return decoder, content


def outcome(blocks: Iterable[bytes]) -> object:
    """
    All that comes out of a form, if only an error.
    """
    try:
        decoder, content = decode(blocks)
    except Refused as error:
        return error.code, error.message
    return decoder.fields, decoder.filename, decoder.before_file, content


class DecodedTests(SyncCase):
    """
    Forms as clients send them.
    """

    def test_fields_and_file(self) -> None:
        """
        Fields have lower-case names and exact values; the file keeps all of its bytes.
        """
        content = b"\r\n--\r\n--cut-her\r\r\n" * 3
        decoder, found = decode(
            [form(part("Key", b"a b\r\n"), part("empty", b""), part("file", content, "n.txt"))]
        )
        self.assertEqual(decoder.fields, {"key": "a b\r\n", "empty": ""})
        self.assertEqual((decoder.filename, found), ("n.txt", content))

    def test_before_file(self) -> None:
        """
        It is known how much of the form is not the file.
        """
        for content in (b"", b"x" * 1000):
            whole = form(part("key", b"k"), part("file", content))
            decoder, _found = decode([whole])
            end = len(b"\r\n--%b--\r\n" % BOUNDARY)
            self.assertEqual(decoder.before_file, len(whole) - len(content) - end)

    def test_file_names(self) -> None:
        """
        A file may have no name, one with escapes, or one with the backslashes of a path.
        """
        for sent, meant in (
            ("", ""),
            ("a b;c.txt", "a b;c.txt"),
            (r"a\"b", 'a"b'),
            (r"a\\b", r"a\b"),
            (r"C:\dir\x.txt", r"C:\dir\x.txt"),
            ("é.txt", "é.txt"),
            ("%22.txt", "%22.txt"),
        ):
            self.assertEqual(decode([form(part("file", b"", sent))])[0].filename, meant)
        self.assertEqual(decode([form(part("file", b"x"))])[0].filename, "")

    def test_around(self) -> None:
        """
        A preamble, an epilogue, blanks after a boundary and further fields mean nothing.
        """
        first = part("key", b"k").replace(b"cut-here\r\n", b"cut-here \t\r\n")
        decoder, found = decode(
            [b"preamble\r\n" + form(first, part("file", b"x"), part("late", b"y" * 100_000))]
            + [b"epilogue\r\n--cut-here\r\n"] * 3
        )
        self.assertEqual((decoder.fields, found), ({"key": "k"}, b"x"))

    def test_ignored_twice(self) -> None:
        """
        Fields that mean nothing may come again.
        """
        ignored = part("x-ignore-a", b"1") + part("X-Ignore-A", b"2")
        self.assertEqual(decode([form(ignored, part("file", b""))])[0].filename, "")

    def test_nothing_held(self) -> None:
        """
        Little of a file is held back, however its bytes come.
        """
        decoder = FormDecoder(BOUNDARY)
        decoder.feed(part("file", b"")[:-2])
        for _ in range(3):
            given_out = sum(len(piece) for piece in decoder.feed(b"\r\n--x" * 200_000))
            self.assertGreater(given_out, 1_000_000 - len(BOUNDARY) - 4)

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"\r\n",
                    b"\r",
                    b"-",
                    b"--",
                    b"--" + BOUNDARY,
                    b"\r\n--" + BOUNDARY,
                    part("key", b"value"),
                    part("key2", b"\r\n--"),
                    part("file", b"content\r\n-", "name"),
                    b'Content-Disposition: form-data; name="x"\r\n\r\n',
                    b"x" * 100,
                    b"y" * 7000,
                    b"z" * 16_000,
                    b"--" + BOUNDARY + b"--\r\n",
                ]
            ),
            max_size=10,
        ),
        st.lists(st.integers(0, 40_000), max_size=10),
    )
    @example([form(part("key", b"k"), part("file", b"\r\n" * 50, "n"))], list(range(0, 700)))
    def test_any_cut(self, pieces: list[bytes], cuts: list[int]) -> None:
        """
        What comes out does not depend on how the bytes are cut, be they a form or not.
        """
        whole = b"".join(pieces)
        edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        blocks = [whole[start:stop] for start, stop in pairwise(edges)]
        self.assertEqual(outcome(blocks), outcome([whole]))

    @given(st.binary(max_size=300), st.integers(1, 40))
    def test_any_content(self, content: bytes, step: int) -> None:
        """
        The file may hold anything but the boundary.
        """
        whole = form(part("key", b"k"), part("file", content, "n"))
        blocks = [whole[at : at + step] for at in range(0, len(whole), step)]
        if b"--" + BOUNDARY not in content:
            self.assertEqual(decode(blocks)[1], content)


class RefusedTests(SyncCase):
    """
    What is no form of one file.
    """

    def refused(self, *blocks: bytes) -> str:
        """
        The code of the error.
        """
        with self.assertRaises(Refused) as caught:
            decode(blocks)
        return caught.exception.code

    def test_framing(self) -> None:
        """
        A form must be complete, and each part must say which field it is.
        """
        whole = form(part("key", b"k"), part("file", b"content"))
        for stop in range(len(whole) - 4):
            self.assertEqual(self.refused(whole[:stop]), "MalformedPOSTRequest")
        for old, new in (
            (b"form-data;", b"attachment;"),
            (b"form-data;", b"form-data"),
            (b"Content-Disposition", b"X-Other"),
            (b'name="key"', b'name=""'),
            (b'name="key"', b'other="key"'),
            (b'name="key"', b'name="key'),
            (b'name="key"', b'name="key"; name="other"'),
            (b'name="key"', b'name="\xff"'),
            (b"\r\n\r\nk", b"\r\n\r\n\xff"),
            (b"cut-here\r\n", b"cut-hereafter\r\n"),
            (b"cut-here\r\n", b"cut-here" + b" " * 200 + b"\r\n"),
            (b"Content-Type", b"X" * 9000),
        ):
            self.assertEqual(
                self.refused(whole.replace(old, new, 1)), "MalformedPOSTRequest", (old, new)
            )

    def test_files(self) -> None:
        """
        There must be one file.
        """
        for whole in (
            form(),
            form(part("key", b"k")),
            form(part("file", b"1"), part("File", b"2")),
        ):
            self.assertEqual(self.refused(b"\r\n" + whole), "InvalidArgument")

    def test_twice(self) -> None:
        """
        A field that comes twice means two things.
        """
        whole = form(part("key", b"a"), part("KEY", b"b"), part("file", b""))
        self.assertEqual(self.refused(whole), "InvalidArgument")

    def test_too_large(self) -> None:
        """
        Fields have a limit together, and so has all that is not the file.
        """
        for first in (
            part("x-amz-meta-a", b"x" * MAX_FIELDS),
            b"".join(part(f"x-amz-meta-{n}", b"x" * 1000) for n in range(21)),
            b"x" * (MAX_BEFORE_FILE + 1) + b"\r\n",
            part("x-ignore-a", b"") * 1000,
        ):
            whole = form(first, part("file", b""))
            self.assertEqual(self.refused(whole), "MaxPostPreDataLengthExceeded")
        fits = part("a", b"x" * (MAX_FIELDS - 1))
        self.assertEqual(decode([form(fits, part("file", b"x" * 100_000))])[0].filename, "")


class BoundaryTests(SyncCase):
    """
    What a request says its boundary is.
    """

    def test_read(self) -> None:
        """
        It may stand in quotes, and beside other parameters.
        """
        for text, boundary in (
            ("multipart/form-data; boundary=abc", b"abc"),
            ('Multipart/Form-Data ;charset=utf-8; BOUNDARY="a b:c"', b"a b:c"),
            ("multipart/form-data; boundary=" + "-" * 70, b"-" * 70),
        ):
            self.assertEqual(read_boundary(text), boundary)

    def test_refused(self) -> None:
        """
        None, an impossible one, or two are refused.
        """
        for text in (
            "multipart/form-data",
            "multipart/form-data;",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary=""',
            'multipart/form-data; boundary="a "',
            'multipart/form-data; boundary="a\\"b"',
            "multipart/form-data; boundary=" + "-" * 71,
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=\xe9",
            "",
        ):
            with self.assertRaises(Refused) as caught:
                read_boundary(text)
            self.assertEqual(caught.exception.code, "MalformedPOSTRequest")

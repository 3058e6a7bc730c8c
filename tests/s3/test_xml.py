# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.xml``.
"""

from xml.etree.ElementTree import fromstring

from hypothesis import given
from hypothesis import strategies as st

from kypello.errors import Refused
from kypello.s3.xml import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    child_texts,
    document,
    error_document,
    escape,
    read_document,
)
from tests.cases import SyncCase

_xml_characters = st.characters(
    exclude_categories=["Cs"],
    exclude_characters=[chr(code) for code in range(32) if chr(code) not in "\t\n\r"]
    + ["\ufffe", "\uffff"],
)


class WritingTests(SyncCase):
    """
    Documents as they are written.
    """

    @given(st.text(_xml_characters))
    def test_round_trip(self, text: str) -> None:
        """
        A parser reads back every text that XML can hold, blanks and line ends too.
        """
        self.assertEqual(fromstring(document("R", escape(text))).text or "", text)

    def test_references(self) -> None:
        """
        Control characters are references, whether or not XML 1.0 likes them.
        """
        self.assertEqual(escape("a\x01\r\n\ufffe"), "a&#x1;&#xD;&#xA;&#xFFFE;")

    @given(st.text())
    def test_messages(self, text: str) -> None:
        """
        An error can be read whatever is in its texts.
        """
        tree = fromstring(error_document([("Code", "X"), ("Message", text)]))
        self.assertEqual(tree.findtext("Code"), "X")


class ReadingTests(SyncCase):
    """
    Documents as they are read.
    """

    def test_namespaces(self) -> None:
        """
        The namespace may be there or not; other namespaces are other documents.
        """
        namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        for start in ("<R>", f"<R {namespace}>"):
            tree = read_document(f"{start}<A> b </A></R>".encode(), "R")
            self.assertEqual(child_texts(tree, frozenset({"A"})), {"A": " b "})
        for body in (b'<R xmlns="urn:x"/>', b'<R><A xmlns="urn:x"/></R>'):
            with self.assertRaises(Refused):
                read_document(body, "R")

    @given(st.binary())
    def test_anything(self, body: bytes) -> None:
        """
        Bytes are a document or malformed, nothing else.
        """
        with self.assertRaises(Refused) as caught:
            read_document(body, "Root")
        self.assertEqual(caught.exception.code, "MalformedXML")

    def test_encodings(self) -> None:
        """
        A document in an encoding that nobody knows is malformed.
        """
        for encoding in ("utf-7", "x-unknown", "big5", "idna", "hex"):
            with self.assertRaises(Refused):
                read_document(f'<?xml version="1.0" encoding="{encoding}"?><R/>'.encode(), "R")

    def test_no_dtd(self) -> None:
        """
        A document with a DTD is malformed: it could name entities.
        """
        with self.assertRaises(Refused):
            read_document(b"<!DOCTYPE R><R/>", "R")

    def test_bounds(self) -> None:
        """
        A document is refused as soon as it has too many elements, or too many within another.
        """
        start, end = b"<R>" * MAX_DEPTH, b"</R>" * MAX_DEPTH
        self.assertEqual(read_document(start + end, "R").tag, "R")
        for body in (
            b"<R>" + start + end + b"</R>",
            b"<R>" * 100_000,
            b"<R>" + b"<A/>" * MAX_ELEMENTS + b"</R>",
            b"<R>" + b"<A/>" * MAX_ELEMENTS,
        ):
            with self.assertRaises(Refused):
                read_document(body, "R")

    def test_text(self) -> None:
        """
        Text is one, whatever it is written with.
        """
        body = "<R><A>a&lt;<!-- no --><![CDATA[&]]>&#xE9;é<?x y?>\r\n&#13;</A></R>".encode()
        tree = read_document(body, "R")
        self.assertEqual(child_texts(tree, frozenset({"A"})), {"A": "a<&éé\n\r"})

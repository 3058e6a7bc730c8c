# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
XML as S3 writes and reads it.

Answers are written as text, which costs a thousandth of building a tree; requests are read
without DTDs, and only if they have the shape that their operation expects.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Never
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers.expat import ExpatError, ParserCreate

from kypello.errors import Refused

#: The namespace of all documents but errors.
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

#: The media type of all documents; minio-py wants exactly this.
CONTENT_TYPE = ("Content-Type", "application/xml")

#: How many elements a request may have, and how many within each other: more than any document
#: of S3 needs but for long lists of parts, and little enough that the tree is not much larger
#: than its text.
MAX_ELEMENTS = 20_000
MAX_DEPTH = 16

#: How every document begins.
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'

_SPECIAL = re.compile("[&<>\"'\x00-\x1f\x7f-\x9f\ufffe\uffff]")
#: What XML 1.0 allows neither as a character nor as a reference.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCES = {
    **{code: f"&#x{code:X};" for code in (*range(0x20), *range(0x7F, 0xA0), 0xFFFE, 0xFFFF)},
    **str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}),
}


def escape(text: str) -> str:
    """
    Make *text* the content of an element, exactly.

    Control characters become references.  XML 1.0 parsers refuse some of those: clients with
    such keys ask for ``encoding-type=url``.
    """
    return text.translate(_REFERENCES) if _SPECIAL.search(text) else text


def escape_message(text: str) -> str:
    """
    Make a text for people the content of an element, without what no parser would take.
    """
    return escape(_FORBIDDEN.sub("", text))


def document(root: str, content: str) -> bytes:
    """
    A document in the namespace of S3.

    :param content: Escaped already.
    """
    return DECLARATION + f'<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()


def error_document(elements: Iterable[tuple[str, str]]) -> bytes:
    """
    An error, which has no namespace.

    :param elements: Names with text that is not escaped yet.
    """
    content = "".join(f"<{name}>{escape_message(text)}</{name}>" for name, text in elements)
    return DECLARATION + f"<Error>{content}</Error>".encode()


def read_document(body: bytes, root: str, most: int = MAX_ELEMENTS) -> Element:
    """
    Read a document, in the namespace of S3 or in none; the tree has no namespaces.

    :param root: The name that its outermost element must have.
    :param most: How many elements it may have.
    :raises Refused: ``MalformedXML``; also for a DTD, which could name entities and files.
    """
    builder = _Builder(most)
    parser = ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(body, True)
    except (ExpatError, ValueError, LookupError):
        # The last two: encodings that the parser does not know.
        raise malformed() from None
    tree: Element = builder.close()
    if tree.tag != root:
        raise malformed()
    return tree


class _Builder(TreeBuilder):
    """
    Builds the tree of a document of bounded size.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most
        self._depth = 0

    def start(self, name: str, attributes: dict[str, str], /) -> Element:
        self._left -= 1
        self._depth += 1
        namespace, _, tag = name.rpartition("}")
        if self._left < 0 or self._depth > MAX_DEPTH or namespace not in ("", NAMESPACE):
            raise malformed()
        return super().start(tag, attributes)

    def end(self, name: str, /) -> Element:
        self._depth -= 1
        return super().end(name)


def _refuse_doctype(*_declaration: object) -> Never:
    raise malformed()


def children(element: Element, names: frozenset[str]) -> Iterator[Element]:
    """
    The elements within one.

    :param names: Those that are known.
    :raises Refused: ``MalformedXML``: another one, or text between them.
    """
    if (element.text or "").strip():
        raise malformed()
    for child in element:
        if child.tag not in names or (child.tail or "").strip():
            raise malformed()
        yield child


def child_texts(element: Element, names: frozenset[str]) -> dict[str, str]:
    """
    The elements within one that hold nothing but text, by name; blanks count.

    :param names: Those that may be there, each at most once.
    :raises Refused: ``MalformedXML``.
    """
    texts: dict[str, str] = {}
    for child in children(element, names):
        if len(child) or child.tag in texts:
            raise malformed()
        texts[child.tag] = child.text or ""
    return texts


def malformed(detail: str = "") -> Refused:
    """
    The refusal of a document.

    :param detail: What is wrong, for people.
    """
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )
    return Refused("MalformedXML", f"{message} ({detail})." if detail else f"{message}.")

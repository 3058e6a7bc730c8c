# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.tagging``.
"""

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.model import ObjectMetadata
from kypello.s3.tagging import (
    read_tagging_document,
    read_tagging_header,
    tagging_document,
    tagging_headers,
)
from tests.cases import SyncCase
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.secure import SecureCase, customer

_LEGAL = st.text(st.sampled_from("aZ09é本 _.:/=+-@\u00a0"), max_size=20)


def from_header(text: str) -> Mapping[str, str]:
    """
    The tags of a header, each byte being one character.
    """
    header = ("x-amz-tagging", text.encode().decode("latin-1"))
    return read_tagging_header(RequestHead("PUT", "/bucket/k", headers=(header,)))


def from_document(*tags: tuple[str, str]) -> Mapping[str, str]:
    """
    The tags of a document.
    """
    content = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags)
    return read_tagging_document(f"<Tagging><TagSet>{content}</TagSet></Tagging>".encode())


class TagsTests(SyncCase):
    """
    What tags may be.
    """

    def refused(self, code: str, read: Callable[..., object], *arguments: object) -> Refused:
        """
        See that reading fails.
        """
        with self.assertRaises(Refused) as caught:
            read(*arguments)
        self.assertEqual(caught.exception.code, code, arguments)
        return caught.exception

    def test_header(self) -> None:
        """
        Tags in a header are a query; a tag may have no value.
        """
        for text, tags in (
            ("a=1&b=2", {"a": "1", "b": "2"}),
            ("bar", {"bar": ""}),
            ("a=1+2%3D&%C3%A9=x", {"a": "1 2=", "é": "x"}),
            ("é=ü", {"é": "ü"}),
            ("", {}),
        ):
            self.assertEqual(from_header(text), tags)
        self.assertEqual(read_tagging_header(RequestHead("PUT", "/bucket/k")), {})

    def test_bad_header(self) -> None:
        """
        The header is UTF-8 and names no tag twice.
        """
        self.refused("InvalidArgument", from_header, "a=1&a=2")
        self.refused("InvalidArgument", from_header, "a=%ff")
        head = RequestHead("PUT", "/bucket/k", headers=(("x-amz-tagging", "a=\xff"),))
        self.refused("InvalidArgument", read_tagging_header, head)

    def test_limits(self) -> None:
        """
        Keys, values and their number are bounded, in characters.
        """
        self.assertEqual(from_header(f"{'é' * 128}={'本' * 256}"), {"é" * 128: "本" * 256})
        self.assertEqual(len(from_header("&".join(f"k{n}=" for n in range(10)))), 10)
        self.refused("InvalidTag", from_header, f"{'a' * 129}=b")
        self.refused("InvalidTag", from_header, f"a={'b' * 257}")
        self.refused("InvalidTag", from_header, "=b")
        error = self.refused("BadRequest", from_header, "&".join(f"k{n}=" for n in range(11)))
        self.assertEqual(error.message, "Object tags cannot be greater than 10")

    def test_characters(self) -> None:
        """
        Letters, digits and blanks of any script are legal, and few signs; some names are not.
        """
        for key in ("a*b", "a%0Ab", "a?", "a%26b", "a%3Cb", "%E2%82%AC"):
            self.refused("InvalidTag", from_header, f"{key}=v")
            self.refused("InvalidTag", from_header, f"k={key}")
        error = self.refused("InvalidTag", from_header, "aws:k=v")
        self.assertEqual(error.fields, {"TagKey": "aws:k", "TagValue": "v"})

    def test_document(self) -> None:
        """
        A document has one set of tags, each with key and value, and none twice.
        """
        self.assertEqual(from_document(("b", "2"), ("a", "")), {"a": "", "b": "2"})
        self.assertEqual(from_document(), {})
        self.refused("InvalidTag", from_document, ("a", "1"), ("a", "2"))
        for body in (
            b"",
            b"<Tagging/>",
            b"<Tagging><TagSet/><TagSet/></Tagging>",
            b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
            b"<Tagging><TagSet><Tag><Key>a</Key><Value/><Value/></Tag></TagSet></Tagging>",
            b"<Tagging><TagSet><Other/></TagSet></Tagging>",
            b"<TagSet/>",
        ):
            self.refused("MalformedXML", read_tagging_document, body)

    @given(st.dictionaries(_LEGAL.filter(bool), _LEGAL, max_size=10))
    def test_round_trip(self, tags: dict[str, str]) -> None:
        """
        Tags survive both forms.
        """
        self.assertEqual(from_header(urlencode(tags)), tags)
        self.assertEqual(read_tagging_document(tagging_document(tags)), tags)

    def test_count(self) -> None:
        """
        A read tells how many tags there are, if there are any.
        """
        tagged = ObjectMetadata(tags={"a": "1", "b": "2"})
        self.assertEqual(list(tagging_headers(tagged)), [("x-amz-tagging-count", "2")])
        self.assertEqual(list(tagging_headers(ObjectMetadata())), [])


class GetTaggingTests(FrontCase):
    """
    ``GET ?tagging``.
    """

    def test_none(self) -> None:
        """
        An object without tags has an empty set of them, one that does not exist has none.
        """
        self.put("k")
        tree = read_xml(self.send("GET", "/bucket/k?tagging", status=200))
        self.assertEqual((tree.tag, texts(tree, "TagSet")), ("Tagging", [""]))
        self.refused("GET", "/bucket/absent?tagging", 404, "NoSuchKey")
        self.refused("GET", "/absent/k?tagging", 404, "NoSuchBucket")

    def test_shown(self) -> None:
        """
        Tags that came with an object are counted on every read, and shown by their keys.
        """
        self.put("k", x_amz_tagging="b=2+3&a=")
        for method in ("GET", "HEAD"):
            answer = self.send(method, "/bucket/k", status=200)
            self.assertEqual(answer.header("x-amz-tagging-count"), "2")
        tree = read_xml(self.send("GET", "/bucket/k?tagging", status=200))
        self.assertEqual(texts(tree, "TagSet/Tag/Key"), ["a", "b"])
        self.assertEqual(texts(tree, "TagSet/Tag/Value"), ["", "2 3"])
        self.refused("DELETE", "/bucket/k?tagging", 501, "NotImplemented")
        self.put("k")
        self.assertIsNone(self.send("HEAD", "/bucket/k").header("x-amz-tagging-count"))

    def test_refused(self) -> None:
        """
        An object with wrong tags is not stored.
        """
        for tagging, code in (
            ("a=1&a=2", "InvalidArgument"),
            (f"{'a' * 129}=b", "InvalidTag"),
            ("&".join(f"k{n}=" for n in range(11)), "BadRequest"),
        ):
            headers = {"x-amz-tagging": tagging}
            self.refused("PUT", "/bucket/k", 400, code, body=b"x", headers=headers)
        self.send("HEAD", "/bucket/k", status=404)

    def test_changes(self) -> None:
        """
        Tags of an object that exists cannot be set yet; where there are none, none need be
        removed.
        """
        self.put("k")
        self.refused("PUT", "/bucket/k?tagging", 501, "NotImplemented", body=b"<Tagging/>")
        self.send("DELETE", "/bucket/k?tagging", status=204)
        self.refused("DELETE", "/bucket/absent?tagging", 404, "NoSuchKey")


class CustomerKeyTests(SecureCase):
    """
    Objects that are stored with a key of their client.
    """

    def test_key(self) -> None:
        """
        Their tags are told with and without that key, as long as there is such an object.
        """
        headers = {**customer(), "x-amz-tagging": "a=1"}
        self.send("PUT", "/bucket/k", b"x", headers, status=200)
        for key in ({}, customer()):
            shown = self.send("GET", "/bucket/k?tagging", headers=key, status=200)
            self.assertEqual(texts(read_xml(shown), "TagSet/Tag/Key"), ["a"])
        self.refused("GET", "/bucket/absent?tagging", 404, "NoSuchKey")

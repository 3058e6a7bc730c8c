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
from tests.contracts.object_store import pattern
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.secure import SecureCase, customer

_LEGAL = st.text(st.sampled_from("aZ09é本 _.:/=+-@\u00a0"), max_size=20)


def from_header(text: str) -> Mapping[str, str]:
    """
    The tags of a header, each byte being one character.
    """
    header = ("x-amz-tagging", text.encode().decode("latin-1"))
    return read_tagging_header(RequestHead("PUT", "/bucket/k", headers=(header,)))


def document(*tags: tuple[str, str]) -> bytes:
    """
    A document with tags.
    """
    content = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags)
    return f"<Tagging><TagSet>{content}</TagSet></Tagging>".encode()


def from_document(*tags: tuple[str, str]) -> Mapping[str, str]:
    """
    The tags of a document.
    """
    return read_tagging_document(document(*tags))


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


class ObjectTaggingTests(FrontCase):
    """
    ``?tagging`` of objects.
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
        Tags can be replaced and removed; nothing else changes.
        """
        for content in (b"small", pattern(100_000)):
            self.put("k", content, x_amz_tagging="a=1", x_amz_meta_colour="blue")
            before = self.send("GET", "/bucket/k")
            body = document(("b", "2"), ("c", ""))
            self.assertEqual(self.send("PUT", "/bucket/k?tagging", body, status=200).body, b"")
            self.assertEqual(self.tags("/bucket/k?tagging"), {"b": "2", "c": ""})
            after = self.send("GET", "/bucket/k")
            self.assertEqual(after.header("x-amz-tagging-count"), "2")
            self.send("PUT", "/bucket/k?tagging", document(), status=200)
            self.assertEqual(self.tags("/bucket/k?tagging"), {})
            self.send("PUT", "/bucket/k?tagging", body, status=200)
            answer = self.send("DELETE", "/bucket/k?tagging", status=204)
            self.assertIsNone(answer.header("x-amz-version-id"))
            self.assertEqual(self.tags("/bucket/k?tagging"), {})
            for name in ("ETag", "Last-Modified", "x-amz-meta-colour"):
                self.assertEqual(after.header(name), before.header(name))
            self.assertEqual((before.body, after.body), (content, content))

    def test_changes_refused(self) -> None:
        """
        Wrong tags change nothing, nor do those of what does not exist.
        """
        self.put("k", x_amz_tagging="a=1")
        for body, code in (
            (b"", "MissingRequestBodyError"),
            (b"<Tagging/>", "MalformedXML"),
            (document(("a", "1"), ("a", "2")), "InvalidTag"),
            (document(("x" * 129, "1")), "InvalidTag"),
            (document(("x", "1" * 257)), "InvalidTag"),
            (document(("aws:x", "1")), "InvalidTag"),
            (document(*((f"k{number}", "") for number in range(11))), "BadRequest"),
        ):
            self.refused("PUT", "/bucket/k?tagging", 400, code, body=body)
        self.assertEqual(self.tags("/bucket/k?tagging"), {"a": "1"})
        for method in ("PUT", "DELETE"):
            for target, status, code in (
                ("/bucket/absent?tagging", 404, "NoSuchKey"),
                ("/absent/k?tagging", 404, "NoSuchBucket"),
                ("/bucket/k?tagging&versionId=x", 400, "InvalidArgument"),
                (f"/bucket/k?tagging&versionId={'0' * 32}", 404, "NoSuchVersion"),
            ):
                self.refused(method, target, status, code, body=document())

    def test_encrypted(self) -> None:
        """
        The tags of encrypted objects are changed as those of others, also of those in parts.
        """
        sealed = {"x-amz-server-side-encryption": "AES256"}
        self.send("PUT", "/bucket/k", b"x", sealed, status=200)
        begun = read_xml(self.send("POST", "/bucket/parts?uploads", headers=sealed, status=200))
        upload = f"uploadId={begun.findtext('UploadId')}"
        part = self.send("PUT", f"/bucket/parts?partNumber=1&{upload}", b"xx", status=200)
        listed = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{part.header('ETag')}</ETag></Part></CompleteMultipartUpload>"
        )
        self.send("POST", f"/bucket/parts?{upload}", listed.encode(), status=200)
        for key in ("k", "parts"):
            before = self.send("GET", f"/bucket/{key}", status=200)
            self.send("PUT", f"/bucket/{key}?tagging", document(("a", "1")), status=200)
            self.assertEqual(self.tags(f"/bucket/{key}?tagging"), {"a": "1"})
            after = self.send("GET", f"/bucket/{key}", status=200)
            self.assertEqual(after.header("x-amz-server-side-encryption"), "AES256")
            self.assertEqual(
                (after.body, after.header("ETag")), (before.body, before.header("ETag"))
            )

    def tags(self, target: str) -> dict[str, str]:
        """
        The tags that are shown there.
        """
        tree = read_xml(self.send("GET", target, status=200))
        keys, values = (texts(tree, f"TagSet/Tag/{name}") for name in ("Key", "Value"))
        return dict(zip(keys, values, strict=True))


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
        self.send("PUT", "/bucket/k?tagging", document(("b", "2")), status=200)
        for key in ({}, customer()):
            shown = self.send("GET", "/bucket/k?tagging", headers=key, status=200)
            self.assertEqual(texts(read_xml(shown), "TagSet/Tag/Key"), ["b"])
        self.assertEqual(self.send("GET", "/bucket/k", headers=customer(), status=200).body, b"x")
        self.send("DELETE", "/bucket/k?tagging", status=204)
        shown = self.send("GET", "/bucket/k?tagging", headers=customer(), status=200)
        self.assertEqual(texts(read_xml(shown), "TagSet/Tag/Key"), [])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.listings``, over the wire.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from urllib.parse import quote, unquote, urlencode
from xml.etree.ElementTree import Element

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.s3.front import FrontCase, read_xml, texts


def expected(keys: Sequence[str], prefix: str, delimiter: str) -> list[str]:
    """
    The keys and groups of a listing, in their order.
    """
    names = set()
    for key in keys:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            names.add(key if end < 0 else key[: end + len(delimiter)])
    return sorted(names, key=str.encode)


class ListingCase(FrontCase):
    """
    A test that lists.
    """

    def page(self, bucket: str = "bucket", **query: str) -> Element:
        """
        One page.
        """
        named = {name.replace("_", "-"): value for name, value in query.items()}
        target = f"/{bucket}?{urlencode(named, quote_via=quote)}"
        return read_xml(self.send("GET", target, status=200))

    def names(self, tree: Element) -> list[str]:
        """
        Keys and groups of a page in one order.
        """
        found = texts(tree, "Contents/Key") + texts(tree, "Version/Key")
        found += texts(tree, "CommonPrefixes/Prefix")
        return sorted((unquote(name) for name in found), key=str.encode)

    def pages(self, **query: str) -> Iterator[Element]:
        """
        All pages of the second form, by their tokens.
        """
        tree = self.page(list_type="2", encoding_type="url", **query)
        yield tree
        while token := tree.findtext("NextContinuationToken"):
            self.assertEqual(tree.findtext("IsTruncated"), "true")
            tree = self.page(list_type="2", encoding_type="url", continuation_token=token, **query)
            self.assertEqual(tree.findtext("ContinuationToken"), token)
            yield tree
        self.assertEqual(tree.findtext("IsTruncated"), "false")


_keys = st.lists(st.text("ab/é\n +%&<", min_size=1, max_size=5), unique=True, max_size=12)


class PagingTests(ListingCase):
    """
    Pages of all sizes show what one page shows.
    """

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        _keys,
        st.text("ab/é", max_size=2),
        st.sampled_from(["", "/", "a", "\n", "b/", "%"]),
        st.integers(1, 4),
    )
    def test_property(self, keys: list[str], prefix: str, delimiter: str, size: int) -> None:
        """
        Each form, page by page, shows each key and group once and in order.
        """
        self.serve()
        for key in keys:
            self.put(key)
        names = expected(keys, prefix, delimiter)
        query = {"prefix": prefix, "delimiter": delimiter, "max_keys": str(size)}
        second = [self.names(tree) for tree in self.pages(**query)]
        self.assertEqual(list(chain.from_iterable(second)), names)
        self.assertTrue(all(len(page) == size for page in second[:-1]))
        for form in (
            {"marker": "NextMarker"},
            {"versions": "", "key_marker": "NextKeyMarker"},
        ):
            self.assertEqual(self.by_marker(form, query), names)

    def by_marker(self, form: dict[str, str], query: dict[str, str]) -> list[str]:
        """
        All names of a form that goes on after a marker.
        """
        parameter, element = list(form.items())[-1]
        seen: list[str] = []
        more = {name: value for name, value in form.items() if name != parameter}
        while True:
            tree = self.page(encoding_type="url", **more, **query)
            page = self.names(tree)
            seen += page
            if tree.findtext("IsTruncated") == "false":
                self.assertIsNone(tree.find(element))
                return seen
            following = tree.findtext(element)
            if query["delimiter"] or "versions" in form:
                self.assertEqual(unquote(following or ""), page[-1])
            else:
                self.assertIsNone(following)
            more[parameter] = page[-1]


class FirstFormTests(ListingCase):
    """
    The first form of listings.
    """

    def test_entry(self) -> None:
        """
        An entry tells all there is to know without reading the object.
        """
        etag = self.put("a<b", b"123456789", x_amz_checksum_crc32="y/Q5Jg==").header("ETag")
        tree = self.page()
        self.assertEqual(tree.tag, "ListBucketResult")
        (entry,) = tree.findall("Contents")
        told = {child.tag: child.text for child in entry}
        self.assertRegex(told.pop("LastModified") or "", r"^[-0-9]{10}T[0-9:]{8}\.[0-9]{3}Z$")
        self.assertEqual(
            told,
            {
                "Key": "a<b",
                "ETag": etag,
                "Size": "9",
                "StorageClass": "STANDARD",
                "ChecksumAlgorithm": "CRC32",
                "ChecksumType": "FULL_OBJECT",
                "Owner": None,
            },
        )
        self.assertTrue(entry.findtext("Owner/ID"))

    def test_frame(self) -> None:
        """
        The request is repeated in the answer, where it said something.
        """
        tree = self.page()
        self.assertEqual(
            [(child.tag, child.text) for child in tree],
            [
                ("Name", "bucket"),
                ("Prefix", None),
                ("MaxKeys", "1000"),
                ("IsTruncated", "false"),
                ("Marker", None),
            ],
        )
        tree = self.page(prefix="p", delimiter="d", marker="m", max_keys="7", encoding_type="url")
        for name, text in {
            "Prefix": "p",
            "Delimiter": "d",
            "Marker": "m",
            "MaxKeys": "7",
            "EncodingType": "url",
        }.items():
            self.assertEqual(tree.findtext(name), text)

    def test_encoding(self) -> None:
        """
        Names are percent-encoded when asked for, a blank as ``%20``.
        """
        self.put("a b+c/d\n")
        tree = self.page(encoding_type="url", prefix="a b+", delimiter="\n")
        self.assertEqual(texts(tree, "CommonPrefixes/Prefix"), ["a%20b%2Bc/d%0A"])
        self.assertEqual(tree.findtext("Delimiter"), "%0A")
        self.assertEqual(tree.findtext("Prefix"), "a%20b%2B")
        for tree in (self.page(), self.page(encoding_type="")):
            self.assertEqual(texts(tree, "Contents/Key"), ["a b+c/d\n"])
            self.assertIsNone(tree.find("EncodingType"))

    def test_maximum(self) -> None:
        """
        A page has at most 1000 entries, and may have none.
        """
        self.put("k")
        for stated, shown in (("", "1000"), ("5000", "1000"), ("2147483647", "1000"), ("3", "3")):
            self.assertEqual(self.page(max_keys=stated).findtext("MaxKeys"), shown)
        tree = self.page(max_keys="0")
        self.assertEqual(self.names(tree), [])
        self.assertEqual(tree.findtext("IsTruncated"), "false")

    def test_arguments(self) -> None:
        """
        Nonsense is refused; an absent bucket is missed before.
        """
        for query in (
            "max-keys=x", "max-keys=-1", "max-keys=2147483648", "max-keys=1.5", "max-keys=%C2%B2",
            "max-keys=" + "9" * 5000, "max-keys=--1", "max-keys=1_0", "encoding-type=x",
        ):  # fmt: skip
            self.refused("GET", f"/bucket?{query}", 400, "InvalidArgument")
            self.refused("GET", f"/absent?{query}", 404, "NoSuchBucket")

    def test_group_marker(self) -> None:
        """
        A marker at or within a group hides it.
        """
        for key in ("a", "b/1", "b/2", "c"):
            self.put(key)
        for marker in ("b/", "b/1"):
            self.assertEqual(self.names(self.page(delimiter="/", marker=marker)), ["c"])


class SecondFormTests(ListingCase):
    """
    The second form of listings.
    """

    def test_frame(self) -> None:
        """
        It counts its entries and has tokens instead of markers.
        """
        for key in ("a", "b/1", "c"):
            self.put(key)
        tree = self.page(list_type="2", delimiter="/", max_keys="2", start_after="A")
        self.assertEqual(tree.findtext("KeyCount"), "2")
        self.assertEqual(tree.findtext("StartAfter"), "A")
        self.assertTrue(tree.findtext("NextContinuationToken"))
        for name in ("Marker", "NextMarker", "ContinuationToken", "EncodingType"):
            self.assertIsNone(tree.find(name), name)

    def test_owner(self) -> None:
        """
        The owner is shown to those who ask.
        """
        self.put("k")
        self.assertIsNone(self.page(list_type="2").find("Contents/Owner"))
        self.assertIsNone(self.page(list_type="2", fetch_owner="false").find("Contents/Owner"))
        self.assertIsNotNone(self.page(list_type="2", fetch_owner="true").find("Contents/Owner"))

    def test_tokens(self) -> None:
        """
        A token wins over the start, works with other sizes, and must be one of ours.
        """
        for key in "abcd":
            self.put(key)
        token = self.page(list_type="2", max_keys="1").findtext("NextContinuationToken") or ""
        self.assertNotIn("a", token)
        tree = self.page(list_type="2", continuation_token=token, start_after="c", max_keys="2")
        self.assertEqual(self.names(tree), ["b", "c"])
        tree = self.page(list_type="2", continuation_token="")
        self.assertEqual(self.names(tree), ["a", "b", "c", "d"])
        self.assertIsNotNone(tree.find("ContinuationToken"))
        for bad in ("a", "YQ", "_w%3D%3D", "%C3%A4"):
            self.refused(
                "GET", f"/bucket?list-type=2&continuation-token={bad}", 400, "InvalidArgument"
            )
        self.refused("GET", "/absent?list-type=2&continuation-token=a", 404, "NoSuchBucket")

    def test_changes(self) -> None:
        """
        A listing goes on after the last name whatever was removed or added meanwhile.
        """
        for key in "abc":
            self.put(key)
        token = self.page(list_type="2", max_keys="1").findtext("NextContinuationToken") or ""
        self.send("DELETE", "/bucket/a", status=204)
        self.put("aa")
        tree = self.page(list_type="2", continuation_token=token)
        self.assertEqual(self.names(tree), ["aa", "b", "c"])


class VersionsTests(ListingCase):
    """
    Versions in a bucket that has none.
    """

    def test_entry(self) -> None:
        """
        Each object is the null version of itself.
        """
        self.put("k")
        tree = self.page(versions="")
        self.assertEqual(tree.tag, "ListVersionsResult")
        (version,) = tree.findall("Version")
        self.assertEqual(version.findtext("VersionId"), "null")
        self.assertEqual(version.findtext("IsLatest"), "true")
        self.assertTrue(version.findtext("Owner/ID"))

    def test_markers(self) -> None:
        """
        A version without a key is no place to go on.
        """
        self.refused("GET", "/bucket?versions&version-id-marker=null", 400, "InvalidArgument")
        self.refused("GET", "/absent?versions&version-id-marker=null", 404, "NoSuchBucket")
        self.page(versions="", key_marker="a", version_id_marker="null")

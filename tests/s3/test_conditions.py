# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.conditions``, over the wire.
"""

from kypello.s3.conditions import matches
from kypello.s3.dates import http_date
from tests.cases import SyncCase
from tests.s3.front import FrontCase, signed

_OTHER = '"00000000000000000000000000000000"'
_DAY = 86_400 * 10**9


class MatchesTests(SyncCase):
    """
    Entity tags in headers.
    """

    def test_forms(self) -> None:
        """
        A tag may be quoted or not, in a list or not; a star means all, a weak tag none.
        """
        for stated in ("*", "abc", '"abc"', '"x", "abc"', "x,abc", "x, *"):
            self.assertTrue(matches(stated, "abc"), stated)
        for stated in ("", '"', "x", '"x"', 'W/"abc"', '"abc', "ab", "ABC"):
            self.assertFalse(matches(stated, "abc"), stated)


class ReadTests(FrontCase):
    """
    Conditional reads.
    """

    def setUp(self) -> None:
        """
        Store an object, and know how clients name its state.
        """
        super().setUp()
        self.etag = self.put("k", cache_control="no-cache", x_amz_meta_a="1").header("ETag") or ""
        modified = int(self.clock.seconds()) * 10**9
        self.now, self.before = http_date(modified), http_date(modified - _DAY)
        self.after = http_date(modified + _DAY)

    def status(self, headers: dict[str, str]) -> int:
        """
        The status of a read, which is that of HEAD too.
        """
        got = self.send("GET", "/bucket/k", headers=headers)
        told = self.send("HEAD", "/bucket/k", headers=headers)
        self.assertEqual(got.status, told.status)
        return got.status

    def test_one(self) -> None:
        """
        Each condition holds or fails by itself; seconds count, and nonsense does not.
        """
        for header, value, status in (
            ("If-Match", self.etag, 200),
            ("If-Match", self.etag.strip('"'), 200),
            ("If-Match", "*", 200),
            ("If-Match", _OTHER, 412),
            ("If-None-Match", self.etag, 304),
            ("If-None-Match", "*", 304),
            ("If-None-Match", _OTHER, 200),
            ("If-Unmodified-Since", self.now, 200),
            ("If-Unmodified-Since", self.after, 200),
            ("If-Unmodified-Since", self.before, 412),
            ("If-Unmodified-Since", "yesterday", 200),
            ("If-Modified-Since", self.now, 304),
            ("If-Modified-Since", self.before, 200),
            ("If-Modified-Since", self.after, 200),
            ("If-Modified-Since", "yesterday", 200),
            ("If-Modified-Since", "Sun, 06 Nov 99999 08:49:37 GMT", 200),
            ("If-Modified-Since", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", 200),
        ):
            self.assertEqual(self.status({header: value}), status, (header, value))

    def test_order(self) -> None:
        """
        Entity tags overrule dates.
        """
        for headers, status in (
            ({"If-Match": self.etag, "If-Unmodified-Since": self.before}, 200),
            ({"If-None-Match": _OTHER, "If-Modified-Since": self.now}, 200),
            ({"If-None-Match": self.etag, "If-Modified-Since": self.before}, 304),
            ({"If-Unmodified-Since": self.before, "If-None-Match": self.etag}, 412),
            ({"If-Match": self.etag, "If-None-Match": self.etag}, 304),
        ):
            self.assertEqual(self.status(headers), status, headers)

    def test_not_modified(self) -> None:
        """
        304 has no body and tells the state of the object, not its metadata.
        """
        answer = self.send("GET", "/bucket/k", headers={"If-None-Match": self.etag}, status=304)
        self.assertEqual(answer.body, b"")
        self.assertEqual(answer.header("ETag"), self.etag)
        self.assertEqual(answer.header("Cache-Control"), "no-cache")
        self.assertTrue(answer.header("Last-Modified"))
        self.assertTrue(answer.header("x-amz-request-id"))
        for name in ("Content-Length", "Content-Type", "x-amz-meta-a"):
            self.assertIsNone(answer.header(name))

    def test_failed(self) -> None:
        """
        412 names the condition.
        """
        tree = self.refused(
            "GET", "/bucket/k", 412, "PreconditionFailed", headers={"If-Match": _OTHER}
        )
        self.assertEqual(tree.findtext("Condition"), "If-Match")

    def test_absent(self) -> None:
        """
        An object that is not there fails no condition.
        """
        self.refused("GET", "/bucket/absent", 404, "NoSuchKey", headers={"If-Match": "*"})

    def test_range(self) -> None:
        """
        Conditions come before ranges.
        """
        self.assertEqual(self.status({"If-None-Match": "*", "Range": "bytes=99-"}), 304)
        self.assertEqual(self.status({"If-Match": self.etag, "Range": "bytes=0-1"}), 206)


class WriteTests(FrontCase):
    """
    Conditional writes.
    """

    def test_none_match(self) -> None:
        """
        ``If-None-Match: *`` writes only where nothing is.
        """
        headers = {"If-None-Match": "*"}
        self.send("PUT", "/bucket/k", b"1", headers, status=200)
        tree = self.refused(
            "PUT", "/bucket/k", 412, "PreconditionFailed", body=b"2", headers=headers
        )
        self.assertEqual(tree.findtext("Condition"), "If-None-Match")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"1")

    def test_none_match_tag(self) -> None:
        """
        ``If-None-Match`` with a tag writes unless that is current.
        """
        etag = self.put("k", b"1").header("ETag") or ""
        headers = {"If-None-Match": etag}
        self.refused("PUT", "/bucket/k", 412, "PreconditionFailed", body=b"2", headers=headers)
        self.send("PUT", "/bucket/k", b"2", {"If-None-Match": _OTHER}, status=200)
        self.send("PUT", "/bucket/absent", b"2", headers, status=200)

    def test_match(self) -> None:
        """
        ``If-Match`` writes over what it names, encrypted or not, and nothing else.
        """
        for sse in ({}, {"x-amz-server-side-encryption": "AES256"}):
            for match in ("*", '"x"'):
                self.refused("PUT", "/bucket/k", 404, "NoSuchKey", headers={"If-Match": match})
            etag = self.send("PUT", "/bucket/k", b"1", sse, status=200).header("ETag") or ""
            self.refused(
                "PUT", "/bucket/k", 412, "PreconditionFailed", headers={"If-Match": _OTHER, **sse}
            )
            for match in (etag, "*"):
                self.send("PUT", "/bucket/k", b"1", {"If-Match": match, **sse}, status=200)
            self.send("DELETE", "/bucket/k", status=204)

    def test_early(self) -> None:
        """
        A body whose condition does not hold is not asked for.
        """
        self.put("k", b"1")
        headers = {"If-None-Match": "*", "Host": "kypello.test"}
        lines = [*signed("PUT", "/bucket/k", headers, b"2"), ("Expect", "100-continue")]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        client = self.harness.connect()
        client.send(f"PUT /bucket/k HTTP/1.1\r\n{head}Content-Length: 1\r\n\r\n".encode())
        self.assertTrue(client.take().startswith(b"HTTP/1.1 412 "))

    def test_both(self) -> None:
        """
        Two conditions must both hold.
        """
        etag = self.put("k", b"1").header("ETag") or ""
        headers = {"If-Match": etag, "If-None-Match": "*"}
        self.refused("PUT", "/bucket/k", 412, "PreconditionFailed", headers=headers)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.objects``, over the wire.
"""

from hashlib import md5

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.s3.front import FrontCase, at, presigned, read_xml, signed, texts


class PutTests(FrontCase):
    """
    Storing an object.
    """

    def test_round_trip(self) -> None:
        """
        What was stored is read back, with the MD5 of it as the entity tag.
        """
        etag = f'"{md5(b"bar").hexdigest()}"'
        answer = self.put("foo", b"bar")
        self.assertEqual((answer.header("ETag"), answer.body), (etag, b""))
        self.assertIsNone(answer.header("x-amz-version-id"))
        for method, body in (("GET", b"bar"), ("HEAD", b"")):
            answer = self.send(method, "/bucket/foo", status=200)
            self.assertEqual(answer.body, body)
            self.assertEqual(answer.header("ETag"), etag)
            self.assertEqual(answer.header("Content-Length"), "3")
            self.assertEqual(answer.header("Content-Type"), "binary/octet-stream")
            self.assertEqual(answer.header("Accept-Ranges"), "bytes")
            self.assertRegex(answer.header("Last-Modified") or "", r"^\w{3}, \d\d \w{3} .* GMT$")

    def test_empty(self) -> None:
        """
        An object may be empty.
        """
        answer = self.put("empty", b"")
        self.assertEqual(answer.header("ETag"), '"d41d8cd98f00b204e9800998ecf8427e"')
        answer = self.send("GET", "/bucket/empty", status=200)
        self.assertEqual((answer.body, answer.header("Content-Length")), (b"", "0"))

    def test_large(self) -> None:
        """
        An object that does not fit into the index is stored and read, encrypted or not.
        """
        content = bytes(range(256)) * 1000
        for headers in ({}, {"x_amz_server_side_encryption": "AES256"}):
            self.put("large", content, **headers)
            self.assertEqual(self.send("GET", "/bucket/large", status=200).body, content)

    def test_metadata(self) -> None:
        """
        System headers come back as they were sent, user metadata in lower case.
        """
        self.put(
            "k",
            content_type="text/plain; charset=x",
            cache_control="no-cache",
            content_disposition="attachment",
            content_language="de",
            content_encoding="gzip",
            expires="not a date",
            X_Amz_Meta_Some_Name="a value",
            x_amz_meta_empty="",
            x_amz_website_redirect_location="/other",
            x_amz_storage_class="REDUCED_REDUNDANCY",
        )
        for method in ("GET", "HEAD"):
            answer = self.send(method, "/bucket/k", status=200)
            for name, value in {
                "Content-Type": "text/plain; charset=x",
                "Cache-Control": "no-cache",
                "Content-Disposition": "attachment",
                "Content-Language": "de",
                "Content-Encoding": "gzip",
                "Expires": "not a date",
                "x-amz-meta-some-name": "a value",
                "x-amz-meta-empty": "",
                "x-amz-website-redirect-location": "/other",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            }.items():
                self.assertEqual((answer.header(name) or "").strip(), value, name)
                self.assertIsNotNone(answer.header(name), name)

    def test_tags(self) -> None:
        """
        A new object may have tags; a read tells how many.
        """
        self.put("k", x_amz_tagging="a=1&b=")
        for method in ("GET", "HEAD"):
            answer = self.send(method, "/bucket/k", status=200)
            self.assertEqual(answer.header("x-amz-tagging-count"), "2")
        self.put("k")
        self.assertIsNone(self.send("GET", "/bucket/k").header("x-amz-tagging-count"))

    def test_replaced(self) -> None:
        """
        A PUT replaces metadata with content: none of the old is left.
        """
        self.put("k", x_amz_meta_a="1", cache_control="no-cache")
        self.put("k")
        answer = self.send("HEAD", "/bucket/k", status=200)
        self.assertIsNone(answer.header("x-amz-meta-a"))
        self.assertIsNone(answer.header("Cache-Control"))

    def test_non_ascii_metadata(self) -> None:
        """
        A value that is not printable ASCII comes back as RFC 2047 words.
        """
        self.put("k", x_amz_meta_a="café")
        answer = self.send("HEAD", "/bucket/k", status=200)
        self.assertEqual(answer.header("x-amz-meta-a"), "=?UTF-8?q?caf=C3=A9?=")

    def test_internal_metadata(self) -> None:
        """
        Internal names of a client become nothing but user metadata, or nothing.
        """
        name = "X-Minio-Internal-Server-Side-Encryption-Iv"
        self.send("PUT", "/bucket/k", b"x", {name: "evil", "X-Amz-Meta-" + name: "mine"})
        answer = self.send("GET", "/bucket/k", status=200)
        self.assertEqual(answer.body, b"x")
        self.assertIsNone(answer.header(name))
        self.assertEqual(answer.header("x-amz-meta-" + name), "mine")

    def test_chunking_is_no_encoding(self) -> None:
        """
        ``aws-chunked`` is taken out of ``Content-Encoding``, wherever it stands.
        """
        for sent, kept in {
            "aws-chunked": None,
            "gzip, aws-chunked": "gzip",
            "AWS-Chunked,gzip": "gzip",
            "deflate, gzip": "deflate, gzip",
            "aws-chunked, aws-chunked": None,
        }.items():
            self.put("k", content_encoding=sent)
            answer = self.send("HEAD", "/bucket/k", status=200)
            self.assertEqual(answer.header("Content-Encoding"), kept, sent)

    def test_empty_type(self) -> None:
        """
        An empty content type is none.
        """
        self.put("k", content_type="")
        answer = self.send("HEAD", "/bucket/k", status=200)
        self.assertEqual(answer.header("Content-Type"), "binary/octet-stream")

    def test_refusals(self) -> None:
        """
        What is wrong in a header is refused, and nothing is stored.
        """
        for headers, status, code in (
            ({"x-amz-meta-a": "x" * 2049}, 400, "MetadataTooLarge"),
            ({"x-amz-storage-class": "GLACIER"}, 400, "InvalidStorageClass"),
            ({"x-amz-website-redirect-location": "ftp://x"}, 400, "InvalidRedirectLocation"),
            ({"Content-MD5": "short"}, 400, "InvalidDigest"),
            ({"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "BadDigest"),
            ({"x-amz-checksum-crc32": "AAAAAA=="}, 400, "BadDigest"),
            ({"x-amz-tagging": "a=b&a=c"}, 400, "InvalidArgument"),
            ({"x-amz-tagging": "a*=b"}, 400, "InvalidTag"),
            ({"x-amz-write-offset-bytes": "3"}, 501, "NotImplemented"),
            ({"x-amz-object-lock-mode": "GOVERNANCE"}, 400, "InvalidRequest"),
        ):
            self.refused("PUT", "/bucket/k", status, code, body=b"content", headers=headers)
            self.refused("GET", "/bucket/k", 404, "NoSuchKey")

    def test_absent_bucket(self) -> None:
        """
        The bucket is missed before anything else is.
        """
        headers = {"Content-MD5": "bad"}
        self.refused("PUT", "/absent/k", 404, "NoSuchBucket", body=b"x", headers=headers)

    def test_no_length(self) -> None:
        """
        A PUT without any length is refused.
        """
        answer = self.plainly("PUT", presigned("PUT", "/bucket/k"), [], b"x")
        self.assertEqual(answer.status, 200)
        client = self.harness.connect()
        target = presigned("PUT", "/bucket/k").encode()
        client.send(b"PUT %b HTTP/1.1\r\nHost: kypello.test\r\n\r\n" % target)
        self.assertIn(b"HTTP/1.1 411 ", client.take())

    def test_too_large(self) -> None:
        """
        An object beyond the limit is refused by its announced size.
        """
        self.serve(max_object=10)
        tree = self.refused("PUT", "/bucket/k", 400, "EntityTooLarge", body=b"x" * 11)
        self.assertEqual(tree.findtext("ProposedSize"), "11")

    def test_truncated(self) -> None:
        """
        When the client goes away in the middle, nothing is stored.
        """
        client = self.harness.connect()
        target = presigned("PUT", "/bucket/k").encode()
        client.send(b"PUT %b HTTP/1.1\r\nHost: kypello.test\r\nContent-Length: 9\r\n\r\nx" % target)
        client.go_away()
        self.refused("GET", "/bucket/k", 404, "NoSuchKey")

    def test_checksums(self) -> None:
        """
        A checksum is told when it is sent, and afterwards to those who ask for it.
        """
        answer = self.put("k", b"123456789", x_amz_checksum_crc32="y/Q5Jg==")
        self.assertEqual(answer.header("x-amz-checksum-crc32"), "y/Q5Jg==")
        self.assertEqual(answer.header("x-amz-checksum-type"), "FULL_OBJECT")
        for method in ("GET", "HEAD"):
            answer = self.send(method, "/bucket/k", status=200)
            self.assertIsNone(answer.header("x-amz-checksum-crc32"))
            mode = {"x-amz-checksum-mode": "enabled"}
            answer = self.send(method, "/bucket/k", headers=mode, status=200)
            self.assertEqual(answer.header("x-amz-checksum-crc32"), "y/Q5Jg==")
            self.assertEqual(answer.header("x-amz-checksum-type"), "FULL_OBJECT")
            answer = self.send(method, "/bucket/k", headers={**mode, "Range": "bytes=0-3"})
            self.assertIsNone(answer.header("x-amz-checksum-crc32"))


class KeyTests(FrontCase):
    """
    Names of objects.
    """

    def test_distinct(self) -> None:
        """
        Keys are bytes: whatever differs is another object.
        """
        keys = [
            "a", "a/", "a/b", "a//b", "//", "/a", "a/./b", "a/../b", ".", "_", ":", " ", "a ",
            "a+b", "a%20b", "a%2Fb", "A", "ä", "a\u0308", "😀", "a\\b", '"<&>\'', "*?|", "\x01\n",
        ]  # fmt: skip
        for key in keys:
            self.put(key, key.encode())
        for key in keys:
            answer = self.send("GET", at("bucket", key), status=200)
            self.assertEqual(answer.body, key.encode())
        answer = self.send("GET", "/bucket?encoding-type=url", status=200)
        self.assertEqual(len(texts(read_xml(answer), "Contents/Key")), len(keys))

    def test_escaped_slash(self) -> None:
        """
        An escaped slash is a slash.
        """
        self.put("a/b", b"1")
        for target in ("/bucket/a%2fb", "/bucket%2Fa/b", "/%62ucket/a/b"):
            lines = signed("GET", "/bucket/a/b", {}, b"")
            self.assertEqual(self.plainly("GET", target, lines).body, b"1")

    @settings(max_examples=50, deadline=None)
    @given(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
            max_size=256,
        )
    )
    def test_any(self, key: str) -> None:
        """
        Every legal key can be stored, read and removed.
        """
        if ".." in key:
            key = key.replace("..", "") + "x"
        self.put(key, b"content")
        self.assertEqual(self.send("GET", at("bucket", key), status=200).body, b"content")
        self.send("DELETE", at("bucket", key), status=204)
        self.refused("GET", at("bucket", key), 404, "NoSuchKey")

    def test_limits(self) -> None:
        """
        A key has at most 1024 bytes, and is UTF-8 without NUL that stays in its bucket.
        """
        self.put("ä" * 512)
        tree = self.refused("PUT", at("bucket", "ä" * 512 + "x"), 400, "KeyTooLongError")
        self.assertEqual(tree.findtext("Size"), "1025")
        for key in (b"\xff", b"a\0b", b"../x", b"a/../../x", b"a/b/../../.."):
            for method in ("PUT", "GET", "DELETE"):
                self.refused(method, at("bucket", key), 400, "InvalidURI")

    def test_bad_escapes(self) -> None:
        """
        A path or query that cannot be decoded is refused.
        """
        for target in (
            "/bucket/%zz", "/bucket/a%", "//bucket/k", "//", "/bucket?prefix=%zz", "/bucket?%",
        ):  # fmt: skip
            answer = self.plainly("GET", target, [])
            self.assert_refused(answer, 400, "InvalidURI")


class GetTests(FrontCase):
    """
    Reading an object.
    """

    def setUp(self) -> None:
        """
        Store an object of 11 bytes and an empty one.
        """
        super().setUp()
        self.put("k", b"hello world")
        self.put("empty", b"")

    def ranged(self, wanted: str, key: str = "k", **headers: str) -> tuple[int, bytes, str | None]:
        """
        Status, content and ``Content-Range`` of a read; those of HEAD are the same.
        """
        sent = {"Range": wanted, **headers}
        got = self.send("GET", f"/bucket/{key}", headers=sent)
        told = self.send("HEAD", f"/bucket/{key}", headers=sent)
        self.assertEqual(told.status, got.status)
        self.assertEqual(told.body, b"")
        if got.status < 400:
            self.assertEqual(told.header("Content-Length"), str(len(got.body)))
            self.assertEqual(told.header("ETag"), got.header("ETag"))
        self.assertEqual(told.header("Content-Range"), got.header("Content-Range"))
        return got.status, got.body, got.header("Content-Range")

    def test_ranges(self) -> None:
        """
        A range that can be satisfied gives its bytes, cut at the end of the object.
        """
        for wanted, expected in {
            "bytes=0-4": (206, b"hello", "bytes 0-4/11"),
            "bytes=4-": (206, b"o world", "bytes 4-10/11"),
            "bytes=-3": (206, b"rld", "bytes 8-10/11"),
            "bytes=-100": (206, b"hello world", "bytes 0-10/11"),
            "bytes=0-99": (206, b"hello world", "bytes 0-10/11"),
            "bytes=0-10": (206, b"hello world", "bytes 0-10/11"),
        }.items():
            self.assertEqual(self.ranged(wanted), expected, wanted)

    def test_ignored_ranges(self) -> None:
        """
        What is no single range is ignored.
        """
        for wanted in (
            "bytes=5-2",
            "bytes=0-0,2-3",
            "bytes=abc",
            "bytes=",
            "bytes=-",
            "bytes=--3",
            "bytes=1-x",
            "bytes 0-3",
            "items=0-3",
            "bytes= 0-3",
            "bytes=0-9223372036854775808",
            "bytes=0-" + "9" * 5000,
            "bytes=\xb2-",
        ):
            self.assertEqual(self.ranged(wanted), (200, b"hello world", None), wanted)
        self.assertEqual(self.ranged("bytes=-5", "empty"), (200, b"", None))

    def test_unsatisfiable_ranges(self) -> None:
        """
        A range that holds no byte is refused, with the size of the object.
        """
        for key, wanted in (
            ("k", "bytes=11-"),
            ("k", "bytes=20-30"),
            ("k", "bytes=-0"),
            ("empty", "bytes=0-"),
            ("empty", "bytes=40-50"),
        ):
            size = 0 if key == "empty" else 11
            status, _body, shown = self.ranged(wanted, key)
            self.assertEqual((status, shown), (416, f"bytes */{size}"), wanted)
            tree = self.refused(
                "GET", f"/bucket/{key}", 416, "InvalidRange", headers={"Range": wanted}
            )
            self.assertEqual(tree.findtext("RangeRequested"), wanted)
            self.assertEqual(tree.findtext("ActualObjectSize"), str(size))

    def test_encrypted_ranges(self) -> None:
        """
        Ranges of encrypted objects count the bytes of the plaintext, across packages.
        """
        content = bytes(range(256)) * 800
        self.put("large", content, x_amz_server_side_encryption="AES256")
        for first, last in ((0, 0), (65535, 65536), (65536, 131071), (131000, 204799)):
            expected = (206, content[first : last + 1], f"bytes {first}-{last}/{len(content)}")
            self.assertEqual(self.ranged(f"bytes={first}-{last}", "large"), expected)

    def test_if_range(self) -> None:
        """
        A range of an object that has changed since is ignored.
        """
        told = self.send("HEAD", "/bucket/k")
        etag, modified = told.header("ETag") or "", told.header("Last-Modified") or ""
        for condition, status in (
            (etag, 206),
            ('"other"', 200),
            (modified, 206),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ):
            self.assertEqual(self.ranged("bytes=0-4", **{"If-Range": condition})[0], status)

    def test_part_number(self) -> None:
        """
        An object that was not uploaded in parts has one part.
        """
        answer = self.send("GET", "/bucket/k?partNumber=1", status=206)
        self.assertEqual(answer.header("Content-Range"), "bytes 0-10/11")
        self.assertEqual(self.send("GET", "/bucket/empty?partNumber=1").status, 200)
        self.refused("GET", "/bucket/k?partNumber=2", 416, "InvalidPartNumber")
        for number in ("0", "x", "", "10001", "%C2%B2"):
            self.refused("GET", f"/bucket/k?partNumber={number}", 400, "InvalidArgument")
        self.refused(
            "GET", "/bucket/k?partNumber=1", 400, "InvalidRequest", headers={"Range": "bytes=0-1"}
        )

    def test_overrides(self) -> None:
        """
        Parameters replace headers of the answer.
        """
        self.put("k", content_type="text/plain")
        query = "response-content-type=text%2Fhtml&response-expires=123&response-cache-control=x"
        for method in ("GET", "HEAD"):
            answer = self.send(method, f"/bucket/k?{query}", status=200)
            self.assertEqual(answer.headers.getRawHeaders("Content-Type"), ["text/html"])
            self.assertEqual(answer.header("Expires"), "123")
            self.assertEqual(answer.header("Cache-Control"), "x")
        target = "/bucket/k?response-content-type=a%0D%0AX-Evil%3A%20b"
        self.refused("GET", target, 400, "InvalidArgument")

    def test_absent(self) -> None:
        """
        What does not exist is told from the bucket down, and HEAD tells it in headers.
        """
        tree = self.refused("GET", "/bucket/absent", 404, "NoSuchKey")
        self.assertEqual(tree.findtext("Key"), "absent")
        self.assertEqual(tree.findtext("BucketName"), "bucket")
        self.assertEqual(tree.findtext("Resource"), "/bucket/absent")
        tree = self.refused("GET", at("bucket", "a b\x01/é"), 404, "NoSuchKey")
        self.assertEqual(tree.findtext("Key"), "a b/é")
        self.assertEqual(tree.findtext("Resource"), "/bucket/a b/é")
        self.refused("GET", "/absent/k", 404, "NoSuchBucket")
        answer = self.send("HEAD", "/bucket/absent", status=404)
        self.assertEqual(answer.body, b"")
        self.assertEqual(answer.header("X-Minio-Error-Code"), "NoSuchKey")
        self.assertEqual(answer.header("X-Minio-Error-Desc"), '"The specified key does not exist."')

    def test_versions(self) -> None:
        """
        The one version that an object has is called null; nobody tells of it unless asked.
        """
        for method, status in (("GET", 200), ("HEAD", 200), ("DELETE", 204)):
            self.send(method, "/bucket/k?versionId=x", status=400)
            answer = self.send(method, "/bucket/k?versionId=null", status=status)
            self.assertIsNone(answer.header("x-amz-version-id"))

    def test_presigned(self) -> None:
        """
        A presigned URL reads without any header.
        """
        answer = self.plainly("GET", presigned("GET", "/bucket/k"), [])
        self.assertEqual((answer.status, answer.body), (200, b"hello world"))


class DeleteTests(FrontCase):
    """
    Removing an object.
    """

    def test_idempotent(self) -> None:
        """
        Removing succeeds whether or not the object exists.
        """
        self.put("k")
        for _ in range(2):
            answer = self.send("DELETE", "/bucket/k", status=204)
            self.assertEqual(answer.body, b"")
            self.assertIsNone(answer.header("Content-Length"))
        self.refused("GET", "/bucket/k", 404, "NoSuchKey")
        self.refused("DELETE", "/absent/k", 404, "NoSuchBucket")

    def test_condition(self) -> None:
        """
        An object with another entity tag stays.
        """
        etag = self.put("k").header("ETag") or ""
        self.refused(
            "DELETE", "/bucket/k", 412, "PreconditionFailed", headers={"If-Match": '"other"'}
        )
        for name in ("x-amz-if-match-size", "x-amz-if-match-last-modified-time"):
            headers = {name: "1"}
            self.refused("DELETE", "/bucket/k", 501, "NotImplemented", headers=headers)
            self.refused("DELETE", "/absent/k", 404, "NoSuchBucket", headers=headers)
        self.send("DELETE", "/bucket/k", headers={"If-Match": etag}, status=204)
        self.send("DELETE", "/bucket/k", headers={"If-Match": etag}, status=204)

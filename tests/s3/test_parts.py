# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.parts``, and reads of parts, over the wire.
"""

from hashlib import md5

from tests.s3.front import at, presigned, read_xml, texts
from tests.s3.secure import SOURCE_SSE, SSE, SecureCase, customer
from tests.s3.test_multipart import UploadCase, checksum, part_list

_RANGE = "x-amz-copy-source-range"


class UploadPartTests(UploadCase):
    """
    Storing a part.
    """

    def test_numbers(self) -> None:
        """
        A part has a number from 1 to 10000.
        """
        upload_id = self.begin()
        for number in ("0", "10001", "x", "-1", "1.0", "", "9" * 30):
            query = f"partNumber={number}&uploadId={upload_id}"
            self.refused("PUT", f"/bucket/k?{query}", 400, "InvalidArgument", body=b"x")
            self.refused("PUT", f"/absent/k?{query}", 404, "NoSuchBucket", body=b"x")
        self.refused("PUT", f"/bucket/k?uploadId={upload_id}", 400, "InvalidArgument", body=b"x")
        self.refused("PUT", "/bucket/k?partNumber=1", 400, "InvalidArgument", body=b"x")
        for number in (1, 10000):
            self.assertEqual(self.part(upload_id, number, b"x"), f'"{md5(b"x").hexdigest()}"')

    def test_digests(self) -> None:
        """
        What is announced of a part is verified; a part that is refused is not there.
        """
        upload_id = self.begin()
        target = f"/bucket/k?partNumber=1&uploadId={upload_id}"
        for headers, code in (
            ({"Content-MD5": "short"}, "InvalidDigest"),
            ({"Content-MD5": "A" * 22 + "=="}, "BadDigest"),
            ({"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
            ({"x-amz-checksum-crc32": "x"}, "BadDigest"),
            ({"x-amz-checksum-crc16": "x"}, "InvalidRequest"),
        ):
            self.refused("PUT", target, 400, code, body=b"x", headers=headers)
        tree = read_xml(self.send("GET", f"/bucket/k?uploadId={upload_id}"))
        self.assertEqual(tree.findall("Part"), [])
        headers = {"x-amz-checksum-sha1": checksum("sha1", b"x")}
        answer = self.send("PUT", target, b"x", headers, status=200)
        self.assertEqual(answer.header("x-amz-checksum-sha1"), headers["x-amz-checksum-sha1"])
        self.assertIsNone(answer.header("x-amz-checksum-type"))

    def test_upload_checksums(self) -> None:
        """
        The checksum of a part is of the upload's algorithm, computed if the client sends none.
        """
        upload_id = self.begin("k", {"x-amz-checksum-algorithm": "SHA256"})
        target = f"/bucket/k?partNumber=1&uploadId={upload_id}"
        headers = {"x-amz-checksum-crc32": checksum("crc32", b"x")}
        tree = self.refused("PUT", target, 400, "InvalidRequest", body=b"x", headers=headers)
        self.assertIn("sha256", tree.findtext("Message") or "")
        answer = self.send("PUT", target, b"x", status=200)
        self.assertEqual(answer.header("x-amz-checksum-sha256"), checksum("sha256", b"x"))

    def test_limits(self) -> None:
        """
        A part must announce its size, and that it is not too large.
        """
        self.serve(max_part=5)
        upload_id = self.begin()
        target = f"/bucket/k?partNumber=1&uploadId={upload_id}"
        tree = self.refused("PUT", target, 400, "EntityTooLarge", body=b"x" * 6)
        self.assertEqual(tree.findtext("ProposedSize"), "6")
        client = self.harness.connect()
        line = f"PUT {presigned('PUT', target)} HTTP/1.1\r\nHost: kypello.test\r\n\r\n"
        client.send(line.encode())
        self.assertIn(b"HTTP/1.1 411 ", client.take())
        self.assertEqual(self.part(upload_id, 1, b"x" * 5), f'"{md5(b"x" * 5).hexdigest()}"')

    def test_truncated(self) -> None:
        """
        When the client goes away in the middle the earlier part stays.
        """
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"x")
        client = self.harness.connect()
        target = presigned("PUT", f"/bucket/k?partNumber=1&uploadId={upload_id}")
        head = f"PUT {target} HTTP/1.1\r\nHost: kypello.test\r\nContent-Length: 9\r\n\r\nx"
        client.send(head.encode())
        client.go_away()
        self.complete(upload_id, part_list((1, etag)))

    def test_copy_headers(self) -> None:
        """
        A range of a source needs a source.
        """
        target = f"/bucket/k?partNumber=1&uploadId={self.begin()}"
        self.refused(
            "PUT", target, 400, "InvalidArgument", body=b"x", headers={_RANGE: "bytes=0-1"}
        )


class CopyPartTests(UploadCase):
    """
    Copying objects into parts.
    """

    def setUp(self) -> None:
        """
        Store a source.
        """
        super().setUp()
        self.put("source", b"hello world")

    def test_copies(self) -> None:
        """
        A part is all of the source, or a range of it.
        """
        upload_id = self.begin()
        parts = []
        for number, (wanted, content) in enumerate(
            ((None, b"hello world"), ("bytes=0-4", b"hello"), ("bytes=10-10", b"d")), 1
        ):
            headers = {"x-amz-copy-source": "/bucket/source"}
            if wanted:
                headers[_RANGE] = wanted
            target = f"/bucket/k?partNumber={number}&uploadId={upload_id}"
            tree = read_xml(self.send("PUT", target, b"", headers, status=200))
            self.assertEqual(tree.tag, "CopyPartResult")
            self.assertEqual(tree.findtext("ETag"), f'"{md5(content).hexdigest()}"')
            self.assertRegex(tree.findtext("LastModified") or "", r"^\d{4}-.*T.*\.\d{3}Z$")
            parts.append((number, tree.findtext("ETag")))
        self.complete(upload_id, part_list(*parts))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"hello worldhellod")

    def test_bad_ranges(self) -> None:
        """
        A range has both ends, within the source.
        """
        target = f"/bucket/k?partNumber=1&uploadId={self.begin()}"
        for wanted in (
            "0-3", "bytes=5-", "bytes=-5", "bytes=9-3", "bytes=a-b", "", "bytes=0-1,3-4",
            "bytes=0-11", "bytes=11-11", "bytes=0-" + "9" * 19, "bytes=0-" + "9" * 30,
        ):  # fmt: skip
            headers = {"x-amz-copy-source": "/bucket/source", _RANGE: wanted}
            self.refused("PUT", target, 400, "InvalidArgument", headers=headers)

    def test_refusals(self) -> None:
        """
        Source, its conditions and the upload are checked as elsewhere.
        """
        target = f"/bucket/k?partNumber=1&uploadId={self.begin()}"
        for headers, status, code in (
            ({"x-amz-copy-source": ""}, 400, "InvalidArgument"),
            ({"x-amz-copy-source": "bucket/absent"}, 404, "NoSuchKey"),
            ({"x-amz-copy-source": "absent/source"}, 404, "NoSuchBucket"),
            (
                {"x-amz-copy-source": "bucket/source", "x-amz-copy-source-if-none-match": "*"},
                412,
                "PreconditionFailed",
            ),
        ):
            self.refused("PUT", target, status, code, headers=headers)
        source = {"x-amz-copy-source": "bucket/source"}
        self.refused(
            "PUT", "/bucket/k?partNumber=1&uploadId=x", 404, "NoSuchUpload", headers=source
        )
        self.refused("PUT", "/bucket/k?partNumber=1", 400, "InvalidArgument", headers=source)

    def test_limit(self) -> None:
        """
        What is copied into one part is not larger than a part may be.
        """
        self.serve(max_part=5)
        self.put("source", b"hello world")
        target = f"/bucket/k?partNumber=1&uploadId={self.begin()}"
        headers = {"x-amz-copy-source": "/bucket/source"}
        self.refused("PUT", target, 400, "InvalidRequest", headers=headers)
        wide = {**headers, _RANGE: "bytes=0-5"}
        self.refused("PUT", target, 400, "InvalidRequest", headers=wide)
        self.send("PUT", target, b"", {**headers, _RANGE: "bytes=0-4"}, status=200)

    def test_checksums(self) -> None:
        """
        A copy has the checksum of the upload.
        """
        upload_id = self.begin("k", {"x-amz-checksum-algorithm": "CRC32C"})
        target = f"/bucket/k?partNumber=1&uploadId={upload_id}"
        headers = {"x-amz-copy-source": "/bucket/source"}
        tree = read_xml(self.send("PUT", target, b"", headers, status=200))
        self.assertEqual(tree.findtext("ChecksumCRC32C"), checksum("crc32c", b"hello world"))

    def test_uploaded_source(self) -> None:
        """
        A source may have been uploaded in parts, and be the object of the same key.
        """
        upload_id, listed = self.upload(b"one", b"two")
        self.complete(upload_id, listed)
        upload_id = self.begin()
        headers = {"x-amz-copy-source": "/bucket/k", _RANGE: "bytes=1-4"}
        target = f"/bucket/k?partNumber=1&uploadId={upload_id}"
        tree = read_xml(self.send("PUT", target, b"", headers, status=200))
        self.complete(upload_id, part_list((1, tree.findtext("ETag"))))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"netw")


class EncryptedCopyPartTests(SecureCase, UploadCase):
    """
    Copying encrypted objects into parts of encrypted uploads.
    """

    def test_all_kinds(self) -> None:
        """
        A source of any kind becomes a part of an upload of any kind.
        """
        kinds = ({}, {SSE: "AES256"}, {SSE: "aws:kms"}, customer(b"s" * 32))
        for source in kinds:
            self.send("PUT", "/bucket/source", b"hello world", source, status=200)
            opening = customer(b"s" * 32, SOURCE_SSE) if source is kinds[3] else {}
            for target in (*kinds[:3], customer(b"t" * 32)):
                bringing = target if SSE not in target else {}
                upload_id = self.begin("k", target)
                part = f"/bucket/k?partNumber=1&uploadId={upload_id}"
                headers = {"x-amz-copy-source": "bucket/source", _RANGE: "bytes=6-9"}
                answer = self.send("PUT", part, b"", {**headers, **opening, **bringing}, status=200)
                self.assertEqual(answer.header(SSE), target.get(SSE))
                name = f"{SSE}-customer-key-MD5"
                self.assertEqual(answer.header(name), target.get(name))
                self.complete(upload_id, part_list((1, read_xml(answer).findtext("ETag"))))
                answer = self.send("GET", "/bucket/k", headers=bringing, status=200)
                self.assertEqual(answer.body, b"worl")

    def test_keys(self) -> None:
        """
        Both keys must be right.
        """
        source, target = customer(b"s" * 32), customer(b"t" * 32)
        opening = customer(b"s" * 32, SOURCE_SSE)
        self.send("PUT", "/bucket/source", b"hello world", source, status=200)
        self.put("plain")
        part = f"/bucket/k?partNumber=1&uploadId={self.begin('k', target)}"
        for name, headers, status, code in (
            ("source", target, 400, "InvalidRequest"),
            ("source", {**customer(b"x" * 32, SOURCE_SSE), **target}, 403, "AccessDenied"),
            ("plain", {**opening, **target}, 400, "InvalidRequest"),
            ("source", opening, 400, "InvalidRequest"),
            ("source", {**opening, **customer(b"x" * 32)}, 400, "InvalidRequest"),
        ):
            copy = {"x-amz-copy-source": f"bucket/{name}", **headers}
            self.refused("PUT", part, status, code, headers=copy)


class ListPartsTests(UploadCase):
    """
    Listings of parts.
    """

    def test_answer(self) -> None:
        """
        The parts come in order, with all that is known of them.
        """
        headers = {
            "x-amz-checksum-algorithm": "CRC32",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        }
        upload_id = self.begin("a <b>", headers)
        etags = [self.part(upload_id, number, b"%d" % number, key="a <b>") for number in (5, 2)]
        target = at("bucket", "a <b>", f"uploadId={upload_id}")
        tree = read_xml(self.send("GET", target, status=200))
        self.assertEqual(tree.tag, "ListPartsResult")
        for name, value in {
            "Bucket": "bucket",
            "Key": "a <b>",
            "UploadId": upload_id,
            "Initiator/DisplayName": "minio",
            "Owner/DisplayName": "minio",
            "StorageClass": "REDUCED_REDUNDANCY",
            "PartNumberMarker": "0",
            "NextPartNumberMarker": "5",
            "MaxParts": "1000",
            "IsTruncated": "false",
            "ChecksumAlgorithm": "CRC32",
            "ChecksumType": "COMPOSITE",
        }.items():
            self.assertEqual(tree.findtext(name), value, name)
        self.assertEqual(texts(tree, "Part/PartNumber"), ["2", "5"])
        self.assertEqual(texts(tree, "Part/ETag"), etags[::-1])
        self.assertEqual(texts(tree, "Part/Size"), ["1", "1"])
        sums = [checksum("crc32", b"2"), checksum("crc32", b"5")]
        self.assertEqual(texts(tree, "Part/ChecksumCRC32"), sums)
        self.assertRegex(tree.findtext("Part/LastModified") or "", r"^\d{4}-.*T.*\.\d{3}Z$")

    def test_pages(self) -> None:
        """
        Pages of any size give all parts.
        """
        upload_id = self.begin()
        for number in range(1, 8):
            self.part(upload_id, number * 3, b"x")
        for size in (1, 2, 3, 7, 1000):
            found: list[str] = []
            marker = "0"
            while True:
                query = f"uploadId={upload_id}&max-parts={size}&part-number-marker={marker}"
                tree = read_xml(self.send("GET", f"/bucket/k?{query}", status=200))
                self.assertEqual(tree.findtext("PartNumberMarker"), marker)
                found += texts(tree, "Part/PartNumber")
                marker = tree.findtext("NextPartNumberMarker") or ""
                if tree.findtext("IsTruncated") == "false":
                    break
                self.assertEqual(len(tree.findall("Part")), size)
            self.assertEqual(found, [str(number * 3) for number in range(1, 8)])

    def test_limits(self) -> None:
        """
        Limit and marker are numbers; the limit has a maximum.
        """
        upload_id = self.begin()
        self.part(upload_id, 1, b"x")
        target = f"/bucket/k?uploadId={upload_id}"
        for name in ("max-parts", "part-number-marker"):
            for value in ("x", "-1", "2147483648"):
                self.refused("GET", f"{target}&{name}={value}", 400, "InvalidArgument")
        for limit, shown, parts in (("0", "0", 0), ("9999", "1000", 1), ("", "1000", 1)):
            tree = read_xml(self.send("GET", f"{target}&max-parts={limit}"))
            self.assertEqual(tree.findtext("MaxParts"), shown)
            self.assertEqual(len(tree.findall("Part")), parts)
            self.assertEqual(tree.findtext("IsTruncated"), "false")
        tree = read_xml(self.send("GET", f"{target}&part-number-marker=2147483647"))
        self.assertEqual(tree.findall("Part"), [])
        self.assertEqual(tree.findtext("NextPartNumberMarker"), "0")


class ReadPartTests(UploadCase):
    """
    Reading a part of an object.
    """

    def test_parts(self) -> None:
        """
        Each part is read by its place, with its checksum; the entity tag is that of the object.
        """
        for encryption in ({}, {SSE: "AES256"}):
            upload_id = self.begin("k", {"x-amz-checksum-algorithm": "CRC32", **encryption})
            bodies = {3: b"one", 7: b"three", 9: b"four"}
            listed = part_list(
                *((number, self.part(upload_id, number, body)) for number, body in bodies.items())
            )
            self.complete(upload_id, listed)
            mode = {"x-amz-checksum-mode": "ENABLED"}
            start = 0
            for place, body in enumerate(bodies.values(), 1):
                for method in ("GET", "HEAD"):
                    target = f"/bucket/k?partNumber={place}"
                    answer = self.send(method, target, headers=mode, status=206)
                    self.assertEqual(answer.body, body if method == "GET" else b"")
                    self.assertEqual(answer.header("Content-Length"), str(len(body)))
                    last = start + len(body) - 1
                    self.assertEqual(answer.header("Content-Range"), f"bytes {start}-{last}/12")
                    self.assertEqual(answer.header("x-amz-mp-parts-count"), "3")
                    self.assertRegex(answer.header("ETag") or "", "-3")
                    expected = checksum("crc32", body)
                    self.assertEqual(answer.header("x-amz-checksum-crc32"), expected)
                    plainly = self.send(method, target, status=206)
                    self.assertIsNone(plainly.header("x-amz-checksum-crc32"))
                start += len(body)
            tree = self.refused("GET", "/bucket/k?partNumber=4", 416, "InvalidPartNumber")
            self.assertEqual(tree.findtext("ActualPartCount"), "3")
            self.assertIsNone(self.send("GET", "/bucket/k").header("x-amz-mp-parts-count"))

    def test_empty_parts(self) -> None:
        """
        The one part of an empty object is read as the whole; an empty part beside others holds
        nothing to give.
        """
        upload_id, listed = self.upload(b"")
        self.complete(upload_id, listed)
        answer = self.send("GET", "/bucket/k?partNumber=1", status=200)
        self.assertEqual((answer.body, answer.header("x-amz-mp-parts-count")), (b"", "1"))
        upload_id, listed = self.upload(b"one", b"")
        self.complete(upload_id, listed)
        self.assertEqual(self.send("GET", "/bucket/k?partNumber=1", status=206).body, b"one")
        self.refused("GET", "/bucket/k?partNumber=2", 416, "InvalidPartNumber")

    def test_arguments(self) -> None:
        """
        A number is one of a part, and excludes a range.
        """
        upload_id, listed = self.upload(b"one", b"two")
        self.complete(upload_id, listed)
        for number in ("0", "x", "10001", ""):
            self.refused("GET", f"/bucket/k?partNumber={number}", 400, "InvalidArgument")
        headers = {"Range": "bytes=0-1"}
        self.refused("GET", "/bucket/k?partNumber=1", 400, "InvalidRequest", headers=headers)

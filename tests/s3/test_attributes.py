# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.attributes``, over the wire.
"""

from hashlib import md5
from xml.etree.ElementTree import Element

from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.secure import SecureCase, customer

_NAMES = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"
_TARGET = "/bucket/k?attributes"


class AttributesCase(FrontCase):
    """
    A test that asks for attributes.
    """

    def ask(self, names: str = _NAMES, **headers: str) -> Element:
        """
        The attributes of an object; underscores in names of headers stand for hyphens.
        """
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = {"x-amz-object-attributes": names, **more}
        tree = read_xml(self.send("GET", _TARGET, headers=asked, status=200))
        self.assertEqual(tree.tag, "GetObjectAttributesResponse")
        return tree


class PlainTests(AttributesCase):
    """
    Objects that were uploaded at once.
    """

    def test_all(self) -> None:
        """
        Everything is told, but for parts and checksums, which the object does not have.
        """
        self.put("k", b"content")
        shown = {element.tag: element.text for element in self.ask()}
        etag = md5(b"content").hexdigest()
        self.assertEqual(shown, {"ETag": etag, "StorageClass": "STANDARD", "ObjectSize": "7"})

    def test_some(self) -> None:
        """
        Only what is asked for is told, in one header or several.
        """
        self.put("k", b"content")
        self.assertEqual([element.tag for element in self.ask("ObjectSize")], ["ObjectSize"])
        shown = self.ask(" ObjectSize , ETag,")
        self.assertEqual([element.tag for element in shown], ["ETag", "ObjectSize"])

    def test_headers(self) -> None:
        """
        The answer has the date of the object, and nothing about versions.
        """
        self.put("k", b"content")
        head = self.send("HEAD", "/bucket/k", status=200)
        headers = {"x-amz-object-attributes": "ETag"}
        answer = self.send("GET", _TARGET, headers=headers, status=200)
        self.assertEqual(answer.header("Last-Modified"), head.header("Last-Modified"))
        for name in ("x-amz-version-id", "x-amz-delete-marker", "ETag"):
            self.assertIsNone(answer.header(name))

    def test_checksum(self) -> None:
        """
        A checksum is told with its type.
        """
        self.put("k", b"hello world", x_amz_checksum_crc32="DUoRhQ==")
        tree = self.ask("Checksum")
        self.assertEqual(texts(tree, "Checksum/ChecksumCRC32"), ["DUoRhQ=="])
        self.assertEqual(texts(tree, "Checksum/ChecksumType"), ["FULL_OBJECT"])

    def test_storage_class(self) -> None:
        """
        The storage class is told as it was labelled; archives are no labels.
        """
        self.serve(storage_classes=frozenset({"STANDARD_IA"}))
        self.put("k", x_amz_storage_class="STANDARD_IA")
        self.assertEqual(texts(self.ask("StorageClass"), "StorageClass"), ["STANDARD_IA"])
        listing = read_xml(self.send("GET", "/bucket", status=200))
        self.assertEqual(texts(listing, "Contents/StorageClass"), ["STANDARD_IA"])
        for name in ("GLACIER", "DEEP_ARCHIVE", "ONEZONE_IA", "standard"):
            headers = {"x-amz-storage-class": name}
            self.refused("PUT", "/bucket/k", 400, "InvalidStorageClass", headers=headers)

    def test_encrypted(self) -> None:
        """
        An encrypted object has the size of its content.
        """
        self.put("k", b"content", x_amz_server_side_encryption="AES256")
        self.assertEqual(texts(self.ask(), "ObjectSize"), ["7"])

    def test_refused(self) -> None:
        """
        What is asked for must be said and known.
        """
        self.put("k")
        for headers, code in (
            ({}, "InvalidRequest"),
            ({"x-amz-object-attributes": ""}, "InvalidRequest"),
            ({"x-amz-object-attributes": " , "}, "InvalidRequest"),
            ({"x-amz-object-attributes": "ETag,Owner"}, "InvalidArgument"),
            ({"x-amz-object-attributes": "etag"}, "InvalidArgument"),
            ({"x-amz-object-attributes": "ETag", "x-amz-max-parts": "x"}, "InvalidArgument"),
            (
                {"x-amz-object-attributes": "ETag", "x-amz-part-number-marker": "-1"},
                "InvalidArgument",
            ),
            (
                {"x-amz-object-attributes": "ETag", "x-amz-server-side-encryption": "AES256"},
                "InvalidArgument",
            ),
        ):
            self.refused("GET", _TARGET, 400, code, headers=headers)
        headers = {"x-amz-object-attributes": "ETag"}
        self.refused("GET", "/bucket/absent?attributes", 404, "NoSuchKey", headers=headers)
        self.refused("GET", "/absent/k?attributes", 404, "NoSuchBucket")


class PartsTests(AttributesCase):
    """
    Objects that were uploaded in parts.
    """

    def setUp(self) -> None:
        """
        Upload parts 1, 3, 4 and 9.
        """
        super().setUp()
        self.serve(min_part=1)
        tree = read_xml(self.send("POST", "/bucket/k?uploads", status=200))
        upload = tree.findtext("UploadId")
        numbers = (1, 3, 4, 9)
        parts = ""
        for number in numbers:
            target = f"/bucket/k?partNumber={number}&uploadId={upload}"
            etag = self.send("PUT", target, b"x" * number, status=200).header("ETag")
            parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self.send("POST", f"/bucket/k?uploadId={upload}", body, status=200)

    def test_parts(self) -> None:
        """
        Parts have numbers and sizes.
        """
        tree = self.ask()
        self.assertEqual(texts(tree, "ObjectSize"), ["17"])
        self.assertRegex(texts(tree, "ETag")[0], "^[0-9a-f]{32}-4$")
        self.assertEqual(texts(tree, "ObjectParts/PartsCount"), ["4"])
        self.assertEqual(texts(tree, "ObjectParts/Part/PartNumber"), ["1", "3", "4", "9"])
        self.assertEqual(texts(tree, "ObjectParts/Part/Size"), ["1", "3", "4", "9"])
        self.assertEqual(texts(tree, "ObjectParts/IsTruncated"), ["false"])
        self.assertEqual(texts(tree, "ObjectParts/MaxParts"), ["1000"])

    def test_pages(self) -> None:
        """
        Parts come in pages, each of which says how to get the next one.
        """
        seen, marker, truncated = [], "0", "true"
        while truncated == "true":
            tree = self.ask(x_amz_max_parts="3", x_amz_part_number_marker=marker)
            self.assertEqual(texts(tree, "ObjectParts/PartNumberMarker"), [marker])
            self.assertEqual(texts(tree, "ObjectParts/PartsCount"), ["4"])
            self.assertEqual(texts(tree, "ObjectParts/MaxParts"), ["3"])
            seen += texts(tree, "ObjectParts/Part/PartNumber")
            (marker,) = texts(tree, "ObjectParts/NextPartNumberMarker")
            (truncated,) = texts(tree, "ObjectParts/IsTruncated")
        self.assertEqual(seen, ["1", "3", "4", "9"])
        self.assertEqual(marker, "9")

    def test_edges(self) -> None:
        """
        A page may be empty; it is the last one then.
        """
        for headers in ({"x_amz_max_parts": "0"}, {"x_amz_part_number_marker": "9"}):
            tree = self.ask(**headers)
            self.assertEqual(texts(tree, "ObjectParts/Part"), [])
            self.assertEqual(texts(tree, "ObjectParts/IsTruncated"), ["false"])


class CustomerKeyTests(SecureCase):
    """
    Objects that are stored with a key of their client.
    """

    def test_key(self) -> None:
        """
        Their attributes are told to whoever has the key.
        """
        self.send("PUT", "/bucket/k", b"content", customer(), status=200)
        headers = {"x-amz-object-attributes": "ObjectSize"}
        answer = self.send("GET", _TARGET, headers={**headers, **customer()}, status=200)
        self.assertEqual(texts(read_xml(answer), "ObjectSize"), ["7"])
        self.refused("GET", _TARGET, 400, "InvalidRequest", headers=headers)
        wrong = {**headers, **customer(b"w" * 32)}
        self.refused("GET", _TARGET, 403, "AccessDenied", headers=wrong)

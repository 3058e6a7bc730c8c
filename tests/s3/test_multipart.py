# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.multipart`` and ``kypello.s3.assembly``, over the wire.
"""

from base64 import b64encode
from hashlib import md5, sha1, sha256
from typing import Any
from urllib.parse import urlencode
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from kypello.crypto.checksums import SIZES, encode, new_checksum
from kypello.testing.harness import Answer
from tests.s3.front import FrontCase, Headers, at, read_xml, texts
from tests.s3.secure import SSE, SecureCase, customer

MIB = 1024 * 1024
_NONE = "0" * 48


def checksum(algorithm: str, content: bytes) -> str:
    """
    The checksum of some bytes as headers show it.
    """
    digest = new_checksum(algorithm)
    digest.update(content)
    return encode(digest.digest())


def part_list(*parts: Any, namespace: str = "") -> bytes:
    """
    The document that completes an upload.

    :param parts: Number and entity tag of each, and further elements if need be.
    """
    content = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{''.join(more)}</Part>"
        for number, etag, *more in parts
    )
    root = "CompleteMultipartUpload"
    return f"<{root}{namespace}>{content}</{root}>".encode()


class UploadCase(FrontCase):
    """
    A test with uploads, whose parts may be of any size.
    """

    def serve(self, **options: Any) -> None:
        """
        Start over.
        """
        super().serve(**{"min_part": 0, **options})

    def begin(self, key: str = "k", headers: Headers | None = None) -> str:
        """
        Begin an upload and give its id.
        """
        answer = self.send("POST", at("bucket", key, "uploads"), b"", headers, status=200)
        upload_id = read_xml(answer).findtext("UploadId")
        assert upload_id
        return upload_id

    def part(
        self,
        upload_id: str,
        number: int,
        body: bytes,
        headers: Headers | None = None,
        key: str = "k",
    ) -> str:
        """
        Store a part and give its entity tag.
        """
        target = at("bucket", key, f"partNumber={number}&uploadId={upload_id}")
        return self.send("PUT", target, body, headers, status=200).header("ETag") or ""

    def upload(self, *bodies: bytes, headers: Headers | None = None) -> tuple[str, bytes]:
        """
        Begin an upload with parts; give its id and the list that completes it.
        """
        upload_id = self.begin("k", headers)
        parts = [
            (number, self.part(upload_id, number, body)) for number, body in enumerate(bodies, 1)
        ]
        return upload_id, part_list(*parts)

    def complete(
        self, upload_id: str, listed: bytes, headers: Headers | None = None, key: str = "k"
    ) -> Answer:
        """
        Complete an upload.
        """
        target = at("bucket", key, f"uploadId={upload_id}")
        return self.send("POST", target, listed, headers, status=200)

    def not_completed(
        self,
        upload_id: str,
        listed: bytes,
        status: int,
        code: str,
        headers: Headers | None = None,
    ) -> None:
        """
        See that an upload is not completed.
        """
        target = f"/bucket/k?uploadId={upload_id}"
        self.refused("POST", target, status, code, body=listed, headers=headers)


class CreateTests(UploadCase):
    """
    The beginning of an upload.
    """

    def test_answer(self) -> None:
        """
        It names the upload; no object appears, and the current one stays.
        """
        self.put("k", b"old")
        answer = self.send("POST", "/bucket/k?uploads", status=200)
        tree = read_xml(answer)
        self.assertEqual(tree.tag, "InitiateMultipartUploadResult")
        self.assertEqual((tree.findtext("Bucket"), tree.findtext("Key")), ("bucket", "k"))
        self.assertRegex(tree.findtext("UploadId") or "", "^[A-Za-z0-9._-]+$")
        self.assertNotEqual(tree.findtext("UploadId"), self.begin())
        self.assertEqual(self.send("GET", "/bucket/k").body, b"old")
        self.begin("new")
        self.refused("GET", "/bucket/new", 404, "NoSuchKey")

    def test_metadata(self) -> None:
        """
        What the object has beside its content is told here.
        """
        headers = {
            "Content-Type": "text/x",
            "x-amz-meta-a": "b",
            "Cache-Control": "no-cache",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-website-redirect-location": "/x",
            "x-amz-tagging": "a=b",
        }
        upload_id, listed = self.upload(b"content", headers=headers)
        self.complete(upload_id, listed, {"x-amz-meta-c": "d"})
        answer = self.send("GET", "/bucket/k", status=200)
        for name, value in headers.items():
            if name != "x-amz-tagging":
                self.assertEqual(answer.header(name), value)
        self.assertEqual(answer.header("x-amz-tagging-count"), "1")
        self.assertIsNone(answer.header("x-amz-meta-c"))

    def test_checksums(self) -> None:
        """
        Algorithm and type of the checksums are told; each algorithm has a type that it takes by
        itself, and some that are impossible.
        """
        algorithm, kind = "x-amz-checksum-algorithm", "x-amz-checksum-type"
        for name, wanted, told in (
            ("CRC32", None, "COMPOSITE"),
            ("crc32c", "FULL_OBJECT", "FULL_OBJECT"),
            ("CRC32C", "COMPOSITE", "COMPOSITE"),
            ("CRC64NVME", None, "FULL_OBJECT"),
            ("SHA1", None, "COMPOSITE"),
            ("SHA256", "COMPOSITE", "COMPOSITE"),
        ):
            headers = {algorithm: name, **({kind: wanted} if wanted else {})}
            answer = self.send("POST", "/bucket/k?uploads", b"", headers, status=200)
            self.assertEqual(answer.header(algorithm), name.upper())
            self.assertEqual(answer.header(kind), told)
        for headers in (
            {kind: "COMPOSITE"},
            {algorithm: "CRC16"},
            {algorithm: "CRC32", kind: "full"},
            {algorithm: "SHA256", kind: "FULL_OBJECT"},
            {algorithm: "SHA1", kind: "FULL_OBJECT"},
            {algorithm: "CRC64NVME", kind: "COMPOSITE"},
        ):
            self.refused("POST", "/bucket/k?uploads", 400, "InvalidRequest", headers=headers)

    def test_refusals(self) -> None:
        """
        What is wrong in a header is refused; the bucket is missed first.
        """
        for headers, status, code in (
            ({"x-amz-meta-a": "x" * 2049}, 400, "MetadataTooLarge"),
            ({"x-amz-storage-class": "GLACIER"}, 400, "InvalidStorageClass"),
            ({"x-amz-object-lock-mode": "GOVERNANCE"}, 400, "InvalidRequest"),
            ({"x-amz-copy-source": "/a/b"}, 501, "NotImplemented"),
            ({"x-amz-tagging": "a=b&a=c"}, 400, "InvalidArgument"),
            ({SSE: "x"}, 400, "InvalidArgument"),
            ({f"{SSE}-aws-kms-key-id": "x"}, 400, "InvalidArgument"),
        ):
            self.refused("POST", "/bucket/k?uploads", status, code, headers=headers)
            self.refused("POST", "/absent/k?uploads", 404, "NoSuchBucket", headers=headers)
        self.refused("POST", "/absent/k?uploads", 404, "NoSuchBucket")
        self.refused("GET", "/bucket/k?uploads", 400, "InvalidRequest")

    def test_not_authorized(self) -> None:
        """
        Nobody begins an upload, or ends one, without a signature.
        """
        upload_id = self.begin()
        for method, query in (
            ("POST", "uploads"),
            ("POST", f"uploadId={upload_id}"),
            ("PUT", f"partNumber=1&uploadId={upload_id}"),
            ("GET", f"uploadId={upload_id}"),
            ("DELETE", f"uploadId={upload_id}"),
        ):
            self.assert_refused(self.plainly(method, f"/bucket/k?{query}", []), 403, "AccessDenied")
        self.assert_refused(self.plainly("GET", "/bucket?uploads", []), 403, "AccessDenied")


class CompleteTests(UploadCase):
    """
    The end of an upload.
    """

    def test_object(self) -> None:
        """
        The parts make an object, and the upload is over.
        """
        upload_id, listed = self.upload(b"one", b"two", b"three")
        tree = read_xml(self.complete(upload_id, listed))
        digests = b"".join(md5(part).digest() for part in (b"one", b"two", b"three"))
        etag = f'"{md5(digests).hexdigest()}-3"'
        self.assertEqual(tree.tag, "CompleteMultipartUploadResult")
        self.assertEqual(tree.findtext("Location"), "http://kypello.test/bucket/k")
        self.assertEqual((tree.findtext("Bucket"), tree.findtext("Key")), ("bucket", "k"))
        self.assertEqual(tree.findtext("ETag"), etag)
        self.assertIsNone(tree.find("ChecksumType"))
        for method, body in (("GET", b"onetwothree"), ("HEAD", b"")):
            answer = self.send(method, "/bucket/k", status=200)
            self.assertEqual((answer.header("ETag"), answer.body), (etag, body))
            self.assertEqual(answer.header("Content-Length"), "11")
        listing = read_xml(self.send("GET", "/bucket"))
        self.assertEqual(texts(listing, "Contents/ETag"), [etag])
        self.refused("GET", f"/bucket/k?uploadId={upload_id}", 404, "NoSuchUpload")

    def test_ranges(self) -> None:
        """
        Ranges count across parts.
        """
        upload_id, listed = self.upload(b"one", b"two", b"three")
        self.complete(upload_id, listed)
        for start in range(11):
            for stop in range(start + 1, 12):
                wanted = {"Range": f"bytes={start}-{stop - 1}"}
                answer = self.send("GET", "/bucket/k", headers=wanted, status=206)
                self.assertEqual(answer.body, b"onetwothree"[start:stop])

    def test_one_part(self) -> None:
        """
        One part, even an empty one, makes an object whose entity tag ends in 1.
        """
        for body in (b"x", b""):
            upload_id, listed = self.upload(body)
            self.complete(upload_id, listed)
            answer = self.send("GET", "/bucket/k", status=200)
            etag = md5(md5(body).digest()).hexdigest()
            self.assertEqual((answer.body, answer.header("ETag")), (body, f'"{etag}-1"'))

    def test_chosen_parts(self) -> None:
        """
        Numbers may have gaps, and what is not listed is not used.
        """
        upload_id = self.begin()
        etags = {number: self.part(upload_id, number, b"%d" % number) for number in (10000, 7, 3)}
        self.complete(upload_id, part_list((3, etags[3]), (10000, etags[10000])))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"310000")

    def test_replaced_part(self) -> None:
        """
        Of a part that was sent twice the later one counts.
        """
        upload_id = self.begin()
        old, new = self.part(upload_id, 1, b"old"), self.part(upload_id, 1, b"new")
        self.not_completed(upload_id, part_list((1, old)), 400, "InvalidPart")
        self.complete(upload_id, part_list((1, new)))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"new")

    def test_spellings(self) -> None:
        """
        Entity tags may be quoted or not, and the document in a namespace or in none.
        """
        namespace = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        for spelling in ('"{}"', "{}", "&quot;{}&quot;", "&#34;{}&#34;", ' "{}"\n'):
            upload_id = self.begin()
            etag = self.part(upload_id, 1, b"x").strip('"')
            listed = part_list((1, spelling.format(etag)), namespace=namespace)
            self.complete(upload_id, listed)

    def test_refusals(self) -> None:
        """
        A list that is wrong leaves the upload as it was.
        """
        upload_id, listed = self.upload(b"one", b"two")
        one, two = (f'"{md5(body).hexdigest()}"' for body in (b"one", b"two"))
        for body, code in (
            (b"text", "MalformedXML"),
            (b"<Other/>", "MalformedXML"),
            (part_list(), "MalformedXML"),
            (part_list(("x", one)), "MalformedXML"),
            (part_list(("1.0", one)), "MalformedXML"),
            (part_list((1, "")), "MalformedXML"),
            (part_list((1, one, "<Other/>")), "MalformedXML"),
            (b"<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>",
             "MalformedXML"),
            (part_list((0, one), (1, one)), "InvalidArgument"),
            (part_list((-1, one)), "InvalidArgument"),
            (part_list((2, two), (1, one)), "InvalidPartOrder"),
            (part_list((1, one), (1, one)), "InvalidPartOrder"),
            (part_list((1, one), (2, one)), "InvalidPart"),
            (part_list((1, one), (3, one)), "InvalidPart"),
            (part_list((1, one), (99999, one)), "InvalidPart"),
            (part_list((1, one, f"<ChecksumCRC32>{checksum('crc32', b'one')}</ChecksumCRC32>")),
             "InvalidPart"),
        ):  # fmt: skip
            self.not_completed(upload_id, body, 400, code)
            self.not_completed(_NONE, body, 404, "NoSuchUpload")
        self.not_completed(upload_id, b"", 400, "MissingRequestBodyError")
        self.not_completed(_NONE, b"", 404, "NoSuchUpload")
        self.refused("GET", "/bucket/k", 404, "NoSuchKey")
        self.complete(upload_id, listed)

    def test_absent(self) -> None:
        """
        An upload is that of one key of one bucket; no id makes more of it.
        """
        self.send("PUT", "/other", status=200)
        upload_id, listed = self.upload(b"one")
        for target in (
            f"/bucket/k?uploadId={_NONE}",
            "/bucket/k?uploadId=",
            "/bucket/k?uploadId=%00%C3%A9%2F..%2Fx",
            f"/bucket/k?uploadId={upload_id}x",
            f"/bucket/other?uploadId={upload_id}",
            f"/other/k?uploadId={upload_id}",
        ):
            for method, body in (("POST", listed), ("GET", b""), ("DELETE", b"")):
                self.refused(method, target, 404, "NoSuchUpload", body=body)
            self.refused("PUT", f"{target}&partNumber=1", 404, "NoSuchUpload", body=b"x")
        self.refused("POST", "/absent/k?uploadId=x", 404, "NoSuchBucket", body=listed)

    def test_small_parts(self) -> None:
        """
        All parts but the last have at least 5 MiB.
        """
        self.serve(min_part=5 * MIB)
        upload_id, listed = self.upload(b"a" * (5 * MIB - 1), b"b")
        target = f"/bucket/k?uploadId={upload_id}"
        tree = self.refused("POST", target, 400, "EntityTooSmall", body=listed)
        self.assertEqual(tree.findtext("PartNumber"), "1")
        self.assertEqual(tree.findtext("ProposedSize"), str(5 * MIB - 1))
        self.assertEqual(tree.findtext("MinSizeAllowed"), str(5 * MIB))
        upload_id, listed = self.upload(b"a" * 5 * MIB, b"b" * 10)
        answer = read_xml(self.complete(upload_id, listed))
        self.assertEqual(answer.findtext("ETag"), '"8b0be7847da5564ae08e97af63b60885-2"')

    def test_too_large(self) -> None:
        """
        The object is not larger than any object may be.
        """
        self.serve(max_object=5)
        upload_id, listed = self.upload(b"one", b"two")
        self.not_completed(upload_id, listed, 400, "EntityTooLarge")

    def test_size(self) -> None:
        """
        A client may tell how large the object must be.
        """
        upload_id, listed = self.upload(b"one", b"two")
        for value in ("5", "x", "06"):
            headers = {"x-amz-mp-object-size": value}
            self.not_completed(upload_id, listed, 400, "InvalidRequest", headers)
        self.complete(upload_id, listed, {"x-amz-mp-object-size": "6"})

    def test_conditions(self) -> None:
        """
        The conditions of a write hold at the end; when they fail the upload stays.
        """
        upload_id, listed = self.upload(b"one")
        self.not_completed(upload_id, listed, 404, "NoSuchKey", {"If-Match": "*"})
        etag = self.put("k", b"old").header("ETag") or ""
        self.not_completed(upload_id, listed, 412, "PreconditionFailed", {"If-None-Match": "*"})
        self.not_completed(upload_id, listed, 412, "PreconditionFailed", {"If-Match": "x"})
        self.assertEqual(self.send("GET", "/bucket/k").body, b"old")
        self.complete(upload_id, listed, {"If-Match": etag})

    def test_repeated(self) -> None:
        """
        The same request again has the same answer, as long as the object is the current one.
        """
        upload_id, listed = self.upload(b"one", b"two")
        first = self.complete(upload_id, listed, {"If-None-Match": "*"})
        again = self.complete(upload_id, listed, {"If-None-Match": "*"})
        self.assertEqual(again.body, first.body)
        one = md5(b"one").hexdigest()
        self.not_completed(upload_id, part_list((1, one)), 404, "NoSuchUpload")
        self.refused("DELETE", f"/bucket/k?uploadId={upload_id}", 404, "NoSuchUpload")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"onetwo")
        self.put("k", b"new")
        self.not_completed(upload_id, listed, 404, "NoSuchUpload")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"new")

    def test_long_list(self) -> None:
        """
        The longest list that there may be is read.
        """
        upload_id = self.begin()
        etag = self.part(upload_id, 1, b"one")
        value = b64encode(bytes(32)).decode()
        more = f"<ChecksumSHA256>{value}</ChecksumSHA256>"
        parts = [(number, etag, more) for number in range(1, 10001)]
        self.not_completed(upload_id, part_list(*parts), 400, "InvalidPart")


class ChecksumTests(UploadCase):
    """
    Checksums of objects from those of their parts.
    """

    def begun(self, algorithm: str, kind: str, *bodies: bytes) -> tuple[str, bytes]:
        """
        An upload with checksums.
        """
        headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        return self.upload(*bodies, headers=headers)

    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(
            [
                *((name, "FULL_OBJECT") for name in ("crc32", "crc32c", "crc64nvme")),
                *((name, "COMPOSITE") for name in ("crc32", "crc32c", "sha1", "sha256")),
            ]
        ),
        st.lists(st.binary(max_size=20), min_size=1, max_size=4),
        st.booleans(),
    )
    def test_computed(self, kind: tuple[str, str], bodies: list[bytes], encrypted: bool) -> None:
        """
        The checksum of the object follows from those of its parts, also if the client sends
        none, and is told to those who ask for it.
        """
        algorithm, form = kind
        headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": form}
        if encrypted:
            headers[SSE] = "AES256"
        upload_id, listed = self.upload(*bodies, headers=headers)
        expected = checksum(algorithm, b"".join(bodies))
        if form == "COMPOSITE":
            digests = []
            for body in bodies:
                digest = new_checksum(algorithm)
                digest.update(body)
                digests.append(digest.digest())
            expected = f"{checksum(algorithm, b''.join(digests))}-{len(bodies)}"
        tree = read_xml(self.complete(upload_id, listed))
        element = f"Checksum{algorithm.upper()}"
        self.assertEqual((tree.findtext(element), tree.findtext("ChecksumType")), (expected, form))
        mode = {"x-amz-checksum-mode": "ENABLED"}
        for method in ("GET", "HEAD"):
            answer = self.send(method, "/bucket/k", headers=mode, status=200)
            self.assertEqual(answer.header(f"x-amz-checksum-{algorithm}"), expected)
            self.assertEqual(answer.header("x-amz-checksum-type"), form)
            self.assertIsNone(self.send(method, "/bucket/k").header("x-amz-checksum-type"))

    def test_known(self) -> None:
        """
        Values that S3 gives for two parts come out.
        """
        bodies = (b"a" * 5 * MIB, b"b" * 10)
        for algorithm, kind, expected in (
            ("crc32", "COMPOSITE", "meG8JQ==-2"),
            ("crc32", "FULL_OBJECT", "1FimjA=="),
            ("sha256", "COMPOSITE", "zTBnwsNWVkdz0PwZObp0pDCxhYpP8sndExucneRKiO0=-2"),
            ("crc64nvme", "FULL_OBJECT", "om/L0dM0gF4="),
        ):
            upload_id, listed = self.begun(algorithm, kind, *bodies)
            tree = read_xml(self.complete(upload_id, listed))
            self.assertEqual(tree.findtext(f"Checksum{algorithm.upper()}"), expected)

    def test_verified(self) -> None:
        """
        The checksum that the client computed is compared; a composite one may come without the
        number of parts.
        """
        name = "x-amz-checksum-crc32"
        whole = checksum("crc32", b"onetwo")
        digests = b"".join(crc32(body).to_bytes(4, "big") for body in (b"one", b"two"))
        composite = checksum("crc32", digests)
        for kind, good in (
            ("FULL_OBJECT", (whole,)),
            ("COMPOSITE", (composite, f"{composite}-2")),
        ):
            for value in good:
                upload_id, listed = self.begun("crc32", kind, b"one", b"two")
                for bad in ("AAAAAA==", "bad", "", f"{value}-3"):
                    self.not_completed(upload_id, listed, 400, "BadDigest", {name: bad})
                other = {"x-amz-checksum-sha1": b64encode(sha1(b"onetwo").digest()).decode()}
                self.not_completed(upload_id, listed, 400, "InvalidRequest", other)
                both = {name: value, **other}
                self.not_completed(upload_id, listed, 400, "InvalidRequest", both)
                told = {"x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-type": kind}
                self.complete(upload_id, listed, {name: value, **told})

    def test_type(self) -> None:
        """
        The type must be that of the upload.
        """
        name = "x-amz-checksum-type"
        upload_id, listed = self.begun("crc32", "COMPOSITE", b"one")
        for kind in ("FULL_OBJECT", "x", ""):
            self.not_completed(upload_id, listed, 400, "InvalidRequest", {name: kind})
        self.complete(upload_id, listed, {name: "COMPOSITE"})
        upload_id, listed = self.upload(b"one")
        self.not_completed(upload_id, listed, 400, "InvalidRequest", {name: "FULL_OBJECT"})

    def test_unasked(self) -> None:
        """
        An object whose upload has no checksums has none, but a claim is not believed unseen.
        """
        upload_id, listed = self.upload(b"one")
        headers = {"x-amz-checksum-crc32": checksum("crc32", b"one")}
        self.not_completed(upload_id, listed, 400, "InvalidRequest", headers)
        tree = read_xml(self.complete(upload_id, listed))
        self.assertIsNone(tree.find("ChecksumCRC32"))

    def test_listed(self) -> None:
        """
        Checksums of parts in the list are compared.
        """
        upload_id = self.begin("k", {"x-amz-checksum-algorithm": "SHA256"})
        etag = self.part(upload_id, 1, b"one")
        good = b64encode(sha256(b"one").digest()).decode()
        for value, name in ((good[:-2] + "A=", "SHA256"), ("x", "SHA256"), (good, "SHA1")):
            listed = part_list((1, etag, f"<Checksum{name}>{value}</Checksum{name}>"))
            self.not_completed(upload_id, listed, 400, "InvalidPart")
        self.complete(upload_id, part_list((1, etag, f"<ChecksumSHA256>{good}</ChecksumSHA256>")))

    def test_parts_with_others(self) -> None:
        """
        An upload without checksums takes parts with any, as SDKs send them by themselves.
        """
        upload_id = self.begin()
        etags = []
        for number, name in enumerate(SIZES, 1):
            headers = {f"x-amz-checksum-{name}": checksum(name, b"%d" % number)}
            etags.append((number, self.part(upload_id, number, b"%d" % number, headers)))
        self.complete(upload_id, part_list(*etags))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"12345")


class AbortTests(UploadCase):
    """
    Uploads that are given up.
    """

    def test_abort(self) -> None:
        """
        Nothing is left of the upload, and the object stays as it is.
        """
        self.put("k", b"old")
        upload_id, listed = self.upload(b"one")
        target = f"/bucket/k?uploadId={upload_id}"
        self.send("DELETE", target, status=204)
        self.refused("DELETE", target, 404, "NoSuchUpload")
        self.refused("PUT", f"{target}&partNumber=1", 404, "NoSuchUpload", body=b"x")
        self.not_completed(upload_id, listed, 404, "NoSuchUpload")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"old")
        tree = read_xml(self.send("GET", "/bucket?uploads"))
        self.assertEqual(tree.findall("Upload"), [])


class ListTests(UploadCase):
    """
    Listings of uploads.
    """

    def pages(self, **query: str) -> list[list[tuple[str, str]]]:
        """
        All pages of a listing: keys and ids, or groups with nothing.
        """
        pages, wanted = [], {name.replace("_", "-"): value for name, value in query.items()}
        while True:
            target = f"/bucket?{urlencode({'uploads': '', **wanted})}"
            tree = read_xml(self.send("GET", target, status=200))
            uploads = zip(texts(tree, "Upload/Key"), texts(tree, "Upload/UploadId"), strict=True)
            groups = [(prefix, "") for prefix in texts(tree, "CommonPrefixes/Prefix")]
            pages.append([*uploads, *groups])
            if tree.findtext("IsTruncated") == "false":
                self.assertEqual(tree.findtext("NextKeyMarker"), "")
                return pages
            wanted["key-marker"] = tree.findtext("NextKeyMarker") or ""
            wanted["upload-id-marker"] = tree.findtext("NextUploadIdMarker") or ""

    def begin_at_intervals(self, *keys: str) -> list[tuple[str, str]]:
        """
        Begin uploads, one after the other.
        """
        begun = []
        for key in keys:
            self.clock.advance(1)
            begun.append((key, self.begin(key)))
        return begun

    def test_order(self) -> None:
        """
        Uploads come by key, then as they began; page by page the same.
        """
        begun = self.begin_at_intervals("b", "a/2", "b", "a/1", "a/2", "b", "c")
        expected = sorted(begun, key=lambda upload: upload[0])
        self.assertEqual(self.pages(), [expected])
        for size in (1, 2, 3, 7):
            pages = self.pages(max_uploads=str(size))
            self.assertEqual([entry for page in pages for entry in page], expected)
            self.assertEqual([len(page) for page in pages[:-1]], [size] * (len(pages) - 1))

    def test_groups(self) -> None:
        """
        Prefix and delimiter work as in listings of objects.
        """
        begun = self.begin_at_intervals("a/1", "a/2", "b", "c/1")
        self.assertEqual(self.pages(delimiter="/"), [[begun[2], ("a/", ""), ("c/", "")]])
        self.assertEqual(
            self.pages(delimiter="/", max_uploads="1"), [[("a/", "")], [begun[2]], [("c/", "")]]
        )
        self.assertEqual(self.pages(prefix="a/"), [begun[:2]])
        self.assertEqual(self.pages(prefix="a/", delimiter="/"), [begun[:2]])
        self.assertEqual(self.pages(prefix="x"), [[]])

    def test_markers(self) -> None:
        """
        A key alone skips all its uploads; an id counts only beside a key.
        """
        begun = self.begin_at_intervals("a", "a", "b")
        self.assertEqual(self.pages(key_marker="a"), [begun[2:]])
        self.assertEqual(self.pages(key_marker="a", upload_id_marker=begun[0][1]), [begun[1:]])
        self.assertEqual(self.pages(upload_id_marker=begun[0][1]), [begun])
        self.refused(
            "GET", "/bucket?uploads&key-marker=a&upload-id-marker=%2F", 400, "InvalidArgument"
        )

    def test_answer(self) -> None:
        """
        The answer repeats the question and tells all of each upload.
        """
        upload_id = self.begin("k <1>", {"x-amz-checksum-algorithm": "SHA1"})
        self.begin("z")
        query = "uploads&prefix=k&delimiter=%2F&max-uploads=5&key-marker=j&encoding-type=url"
        tree = read_xml(self.send("GET", f"/bucket?{query}", status=200))
        self.assertEqual(tree.tag, "ListMultipartUploadsResult")
        for name, value in {
            "Bucket": "bucket",
            "KeyMarker": "j",
            "UploadIdMarker": "",
            "NextKeyMarker": "",
            "NextUploadIdMarker": "",
            "Prefix": "k",
            "Delimiter": "/",
            "MaxUploads": "5",
            "IsTruncated": "false",
            "EncodingType": "url",
            "Upload/Key": "k%20%3C1%3E",
            "Upload/UploadId": upload_id,
            "Upload/Initiator/DisplayName": "minio",
            "Upload/Owner/DisplayName": "minio",
            "Upload/StorageClass": "STANDARD",
            "Upload/ChecksumAlgorithm": "SHA1",
            "Upload/ChecksumType": "COMPOSITE",
        }.items():
            self.assertEqual(tree.findtext(name), value, name)
        self.assertRegex(tree.findtext("Upload/Initiated") or "", r"^\d{4}-.*T.*\.\d{3}Z$")
        tree = read_xml(self.send("GET", "/bucket?uploads", status=200))
        self.assertEqual(texts(tree, "Upload/Key"), ["k <1>", "z"])
        self.assertIsNone(tree.find("EncodingType"))

    def test_maximum(self) -> None:
        """
        The number of entries is bounded, and must be a number.
        """
        self.begin()
        for stated, shown, entries in (("", "1000", 1), ("5000", "1000", 1), ("0", "0", 0)):
            tree = read_xml(self.send("GET", f"/bucket?uploads&max-uploads={stated}"))
            self.assertEqual(tree.findtext("MaxUploads"), shown)
            self.assertEqual(len(tree.findall("Upload")), entries)
            self.assertEqual(tree.findtext("IsTruncated"), "false")
        for value in ("x", "-1", "2147483648", "9" * 30):
            self.refused("GET", f"/bucket?uploads&max-uploads={value}", 400, "InvalidArgument")
        self.refused("GET", "/bucket?uploads&encoding-type=x", 400, "InvalidArgument")
        self.refused("GET", "/absent?uploads&max-uploads=x", 404, "NoSuchBucket")


class EncryptedUploadTests(SecureCase, UploadCase):
    """
    Uploads of each kind of encryption.
    """

    def test_kms(self) -> None:
        """
        Parts need no headers; every answer says how the object is encrypted.
        """
        key_id = f"{SSE}-aws-kms-key-id"
        for headers, told in (
            ({SSE: "AES256"}, {SSE: "AES256", key_id: None}),
            ({SSE: "aws:kms", key_id: "my-key"}, {SSE: "aws:kms", key_id: "my-key"}),
            ({SSE: "aws:kms"}, {SSE: "aws:kms", key_id: "arn:aws:kms:my-key"}),
        ):
            answers = [self.send("POST", "/bucket/k?uploads", b"", headers, status=200)]
            upload_id = read_xml(answers[0]).findtext("UploadId") or ""
            etags = []
            for number, repeated in ((1, {}), (2, headers)):
                target = f"/bucket/k?partNumber={number}&uploadId={upload_id}"
                answers.append(self.send("PUT", target, b"part", repeated, status=200))
                etags.append((number, answers[-1].header("ETag")))
            answers.append(self.complete(upload_id, part_list(*etags)))
            answers += [self.send(method, "/bucket/k", status=200) for method in ("GET", "HEAD")]
            self.assertEqual(answers[-2].body, b"partpart")
            self.assertRegex(answers[-1].header("ETag") or "", '^"[0-9a-f]{32}-2"$')
            for answer in answers:
                for name, value in told.items():
                    self.assertEqual(answer.header(name), value)
            with_md5 = etags[0][1] == f'"{md5(b"part").hexdigest()}"'
            self.assertEqual(with_md5, headers[SSE] == "AES256")

    def test_repeated_at_the_end(self) -> None:
        """
        The end may repeat what its upload has asked for, also when it is sent again; nothing else.
        """
        s3, kms = {SSE: "AES256"}, {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "my-key"}
        for headers, others in (({}, (s3, kms)), (s3, (kms,)), (kms, (s3,)), (customer(), (s3,))):
            upload_id = self.begin("k", headers)
            parts = headers if headers not in (s3, kms) else {}
            listed = part_list((1, self.part(upload_id, 1, b"one", parts)))
            for other in others:
                self.not_completed(upload_id, listed, 400, "InvalidArgument", other)
            for _ in range(2):
                answer = self.complete(upload_id, listed, headers)
                self.assertEqual(answer.header(SSE), headers.get(SSE))

    def test_bucket_default(self) -> None:
        """
        An upload follows its bucket as it was when the upload began.
        """
        body = (
            b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
            b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
            b"</ServerSideEncryptionConfiguration>"
        )
        plain, listed = self.upload(b"one")
        self.send("PUT", "/bucket?encryption", body, status=200)
        self.assertIsNone(self.complete(plain, listed).header(SSE))
        encrypted, listed = self.upload(b"one")
        self.send("DELETE", "/bucket?encryption", status=204)
        self.assertEqual(self.complete(encrypted, listed).header(SSE), "AES256")

    def test_customer_key(self) -> None:
        """
        Each part brings the key of the upload; the end may bring it.
        """
        headers, other = customer(), customer(b"x" * 32)
        name = f"{SSE}-customer-key-MD5"
        for ending in (headers, {}):
            answer = self.send("POST", "/bucket/k?uploads", b"", headers, status=200)
            self.assertEqual(answer.header(name), headers[name])
            upload_id = read_xml(answer).findtext("UploadId") or ""
            target = f"/bucket/k?uploadId={upload_id}"
            part = f"{target}&partNumber=1"
            self.refused("PUT", part, 400, "InvalidRequest", body=b"x")
            self.refused("PUT", part, 400, "InvalidRequest", body=b"x", headers=other)
            self.refused("PUT", part, 400, "InvalidArgument", body=b"x", headers={SSE: "AES256"})
            answer = self.send("PUT", part, b"content", headers, status=200)
            self.assertEqual(answer.header(name), headers[name])
            tree = read_xml(self.send("GET", target, status=200))
            self.assertEqual(texts(tree, "Part/Size"), ["7"])
            self.assertEqual(texts(tree, "Part/ETag"), [answer.header("ETag")])
            listed = part_list((1, answer.header("ETag")))
            self.refused("POST", target, 400, "InvalidRequest", body=listed, headers=other)
            answer = self.complete(upload_id, listed, ending)
            self.assertEqual(answer.header(f"{SSE}-customer-algorithm"), "AES256")
            answer = self.send("GET", "/bucket/k", headers=headers, status=200)
            self.assertEqual(answer.body, b"content")
            self.assertEqual(
                answer.header("ETag"),
                read_xml(self.complete(upload_id, listed, ending)).findtext("ETag"),
            )
            self.refused("GET", "/bucket/k", 400, "InvalidRequest")

    def test_foreign_keys(self) -> None:
        """
        A part with a key for an upload without is never stored in clear.
        """
        for headers in ({}, {SSE: "AES256"}):
            upload_id = self.begin("k", headers)
            part = f"/bucket/k?partNumber=1&uploadId={upload_id}"
            self.refused("PUT", part, 400, "InvalidRequest", body=b"x", headers=customer())
        for headers in ({SSE: "AES256"}, {SSE: "aws:kms"}):
            part = f"/bucket/k?partNumber=1&uploadId={self.begin()}"
            self.refused("PUT", part, 400, "InvalidArgument", body=b"x", headers=headers)

    def test_customer_checksums(self) -> None:
        """
        Checksums of such objects need the key until the end, and are told to who has it.
        """
        headers = customer()
        upload_id = self.begin("k", {**headers, "x-amz-checksum-algorithm": "CRC32"})
        etag = self.part(upload_id, 1, b"one", headers)
        listed = part_list((1, etag))
        for target in (f"/bucket/k?uploadId={upload_id}", "/bucket?uploads"):
            tree = read_xml(self.send("GET", target, status=200))
            self.assertEqual([each.text for each in tree.iter("ChecksumAlgorithm")], ["CRC32"])
            self.assertEqual(list(tree.iter("ChecksumType")), [])
        self.not_completed(upload_id, listed, 400, "InvalidArgument")
        tree = read_xml(self.complete(upload_id, listed, headers))
        expected = checksum("crc32", crc32(b"one").to_bytes(4, "big")) + "-1"
        self.assertEqual(tree.findtext("ChecksumCRC32"), expected)
        mode = {"x-amz-checksum-mode": "ENABLED", **headers}
        answer = self.send("HEAD", "/bucket/k", headers=mode, status=200)
        self.assertEqual(answer.header("x-amz-checksum-crc32"), expected)

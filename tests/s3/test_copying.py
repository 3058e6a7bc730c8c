# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.copying`` and ``kypello.s3.copysource``, over the wire.
"""

from hashlib import md5
from itertools import product

from attrs import evolve
from twisted.internet.defer import Deferred

from kypello.model import Identity
from kypello.s3.root import S3Resource
from kypello.testing.harness import Answer, Harness
from tests.s3.front import FrontCase, Headers, at, presigned, read_xml
from tests.s3.rules import Rule
from tests.s3.secure import SOURCE_SSE, SSE, SecureCase, customer
from tests.s3.test_multipart import UploadCase, checksum
from tests.s3.test_release import WatchedStore

_HELLO = f'"{md5(b"hello").hexdigest()}"'


class CopyCase(FrontCase):
    """
    A test of copies.
    """

    def copy(
        self,
        headers: Headers | None = None,
        *,
        source: str = "/bucket/source",
        target: str = "/bucket/target",
    ) -> Answer:
        """
        Make a copy.
        """
        named = {"x-amz-copy-source": source, **(headers or {})}
        return self.send("PUT", target, b"", named, status=200)

    def not_copied(
        self,
        status: int,
        code: str,
        headers: Headers | None = None,
        *,
        source: str = "/bucket/source",
        target: str = "/bucket/target",
    ) -> None:
        """
        See that no copy is made.
        """
        named = {"x-amz-copy-source": source, **(headers or {})}
        self.refused("PUT", target, status, code, headers=named)


class CopyTests(CopyCase):
    """
    What a copy has.
    """

    def test_answer(self) -> None:
        """
        The copy is an object of its own, with the content of its source.
        """
        self.put("source", b"hello")
        answer = self.copy()
        tree = read_xml(answer)
        self.assertEqual(tree.tag, "CopyObjectResult")
        self.assertEqual(tree.findtext("ETag"), _HELLO)
        self.assertRegex(tree.findtext("LastModified") or "", r"^\d{4}-.*T.*\.\d{3}Z$")
        self.send("DELETE", "/bucket/source", status=204)
        got = self.send("GET", "/bucket/target", status=200)
        self.assertEqual((got.body, got.header("ETag")), (b"hello", _HELLO))

    def test_sizes(self) -> None:
        """
        Sources of any size are copied, also of none.
        """
        for size in (0, 1, 100_000, 3_000_001):
            content = bytes(range(256)) * (size // 256 + 1)
            self.put("source", content[:size])
            self.copy()
            self.assertEqual(self.send("GET", "/bucket/target").body, content[:size])

    def test_buckets(self) -> None:
        """
        A copy may go to another bucket.
        """
        self.send("PUT", "/other", status=200)
        self.put("source", b"hello")
        self.copy(target="/other/target")
        self.assertEqual(self.send("GET", "/other/target").body, b"hello")
        self.not_copied(404, "NoSuchBucket", target="/absent/target")

    def test_metadata(self) -> None:
        """
        Metadata come from the source, or from the request alone; what says where and how the
        object is kept always from the request.
        """
        self.put(
            "source",
            x_amz_meta_a="old",
            content_type="text/old",
            cache_control="no-cache",
            expires="later",
            x_amz_storage_class="REDUCED_REDUNDANCY",
            x_amz_website_redirect_location="/old",
        )
        sent = {"x-amz-meta-b": "new", "Content-Language": "de"}
        for directive, told in (
            (
                {},
                {
                    "x-amz-meta-a": "old",
                    "x-amz-meta-b": None,
                    "Content-Type": "text/old",
                    "Cache-Control": "no-cache",
                    "Expires": "later",
                    "Content-Language": None,
                },
            ),
            (
                {"x-amz-metadata-directive": "REPLACE"},
                {
                    "x-amz-meta-a": None,
                    "x-amz-meta-b": "new",
                    "Content-Type": "binary/octet-stream",
                    "Cache-Control": None,
                    "Expires": None,
                    "Content-Language": "de",
                },
            ),
        ):
            self.copy({**sent, **directive})
            answer = self.send("HEAD", "/bucket/target", status=200)
            for name, value in told.items():
                self.assertEqual(answer.header(name), value, name)
            self.assertIsNone(answer.header("x-amz-storage-class"))
            self.assertIsNone(answer.header("x-amz-website-redirect-location"))
            placed = {
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
                "x-amz-website-redirect-location": "/new",
            }
            self.copy({**sent, **directive, **placed})
            answer = self.send("HEAD", "/bucket/target", status=200)
            for name, value in {**told, **placed}.items():
                self.assertEqual(answer.header(name), value, name)

    def test_tags(self) -> None:
        """
        Tags have a directive of their own.
        """
        self.put("source", x_amz_tagging="a=1&b=2")
        replace = {"x-amz-tagging-directive": "REPLACE"}
        for headers, expected in (
            ({}, ["a", "b"]),
            ({"x-amz-tagging": "c=3"}, ["a", "b"]),
            ({"x-amz-metadata-directive": "REPLACE"}, ["a", "b"]),
            (replace, []),
            ({**replace, "x-amz-tagging": "c=3"}, ["c"]),
        ):
            self.copy(headers)
            tree = read_xml(self.send("GET", "/bucket/target?tagging", status=200))
            self.assertEqual([key.text for key in tree.iter("Key")], expected)
        self.not_copied(400, "InvalidArgument", {**replace, "x-amz-tagging": "a=1&a=2"})

    def test_checksums(self) -> None:
        """
        A copy has the kind of checksum of its source, or the one asked for, or CRC64NVME.
        """
        value = checksum("sha1", b"hello")
        self.put("source", b"hello")
        self.put("summed", b"hello", x_amz_checksum_sha1=value)
        for source, headers, algorithm in (
            ("source", {}, "crc64nvme"),
            ("summed", {}, "sha1"),
            ("summed", {"x-amz-checksum-algorithm": "CRC32C"}, "crc32c"),
        ):
            answer = self.copy(headers, source=f"/bucket/{source}")
            expected = checksum(algorithm, b"hello")
            tree = read_xml(answer)
            self.assertEqual(tree.findtext(f"Checksum{algorithm.upper()}"), expected)
            self.assertEqual(tree.findtext("ChecksumType"), "FULL_OBJECT")
            mode = {"x-amz-checksum-mode": "ENABLED"}
            told = self.send("HEAD", "/bucket/target", headers=mode, status=200)
            for each in (answer, told):
                self.assertEqual(each.header(f"x-amz-checksum-{algorithm}"), expected)
                self.assertEqual(each.header("x-amz-checksum-type"), "FULL_OBJECT")
        self.not_copied(400, "InvalidRequest", {"x-amz-checksum-algorithm": "MD4"})

    def test_onto_itself(self) -> None:
        """
        A copy onto itself must change something.
        """
        self.put("k", b"hello", x_amz_meta_a="b")
        itself = {"source": "/bucket/k", "target": "/bucket/k"}
        self.not_copied(400, "InvalidRequest", **itself)
        for ignored in ({"x-amz-meta-a": "c"}, {"x-amz-storage-class": "STANDARD"}):
            self.not_copied(400, "InvalidRequest", ignored, **itself)
        for headers in (
            {"x-amz-storage-class": "REDUCED_REDUNDANCY"},
            {"x-amz-website-redirect-location": "/x"},
            {SSE: "AES256"},
            {SSE: "AES256"},
            {"x-amz-checksum-algorithm": "SHA1"},
            {"x-amz-tagging-directive": "REPLACE"},
            {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-a": "c"},
        ):
            self.copy(headers, **itself)
            answer = self.send("GET", "/bucket/k", status=200)
            self.assertEqual((answer.body, answer.header("ETag")), (b"hello", _HELLO))
        self.assertEqual(answer.header("x-amz-meta-a"), "c")
        self.copy(source="/bucket/k?versionId=null", target="/bucket/k")

    def test_limit(self) -> None:
        """
        The source has a limit.
        """
        self.serve(max_part=5)
        self.put("source", b"hello")
        self.copy()
        self.put("source", b"hello!")
        self.not_copied(400, "InvalidRequest")


class SourceTests(CopyCase):
    """
    How a source is named, and what is demanded of it.
    """

    def test_names(self) -> None:
        """
        The name is decoded once; a leading slash may be missing.
        """
        for key, source in (
            ("a", "/bucket/a"),
            ("a", "bucket/a"),
            ("a", "bucket%2Fa"),
            ("a", "%2Fbucket%2Fa"),
            ("a+b", "bucket/a+b"),
            ("a b", "bucket/a%20b"),
            ("a%20b", "bucket/a%2520b"),
            ("/a", "/bucket//a"),
            ("a/", "bucket/a/"),
            ("a?b", "bucket/a%3Fb"),
            ("a?versionId=x&b", "bucket/a%3FversionId=x%26b?versionId=null"),
            ("ä", "bucket/%C3%A4"),
            ("ä", "bucket/ä"),
            ("a", "bucket/a?versionId="),
        ):
            self.put(key, source.encode())
            self.copy(source=source)
            self.assertEqual(self.send("GET", "/bucket/target").body, source.encode())

    def test_bad_names(self) -> None:
        """
        What names no object is refused.
        """
        self.put("source")
        for source, status, code in (
            ("", 400, "InvalidArgument"),
            ("/", 400, "InvalidArgument"),
            ("bucket", 400, "InvalidArgument"),
            ("/bucket", 400, "InvalidArgument"),
            ("/bucket/", 400, "InvalidArgument"),
            ("//source", 400, "InvalidArgument"),
            ("bucket/%zz", 400, "InvalidArgument"),
            ("bucket/a%", 400, "InvalidArgument"),
            ("bucket/%ff", 400, "InvalidArgument"),
            ("bucket/%00", 400, "InvalidURI"),
            ("bucket/../x", 400, "InvalidURI"),
            ("bucket/" + "x" * 1025, 400, "KeyTooLongError"),
            ("http://host/bucket/source", 400, "InvalidBucketName"),
            ("minio/source", 404, "NoSuchBucket"),
            ("absent/source", 404, "NoSuchBucket"),
            ("bucket/absent", 404, "NoSuchKey"),
            ("bucket/source?versionId=x", 400, "InvalidArgument"),
            (f"bucket/source?versionId={'0' * 32}", 404, "NoSuchVersion"),
            ("arn:aws:s3:us-east-1:1:accesspoint/x/object/y", 501, "NotImplemented"),
        ):
            self.not_copied(status, code, source=source)
        self.refused("GET", "/bucket/target", 404, "NoSuchKey")

    def test_directives(self) -> None:
        """
        A directive is one of two.
        """
        self.put("source")
        for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
            for value in ("copy", "KEEP", "COPY,REPLACE"):
                self.not_copied(400, "InvalidArgument", {name: value})
            self.copy({name: "COPY"})

    def test_replacing_headers(self) -> None:
        """
        Headers that count are checked.
        """
        self.put("source")
        replace = {"x-amz-metadata-directive": "REPLACE"}
        large = {"x-amz-meta-a": "x" * 2049}
        self.copy(large)
        for headers, code in (
            ({**replace, **large}, "MetadataTooLarge"),
            ({"x-amz-storage-class": "GLACIER"}, "InvalidStorageClass"),
            ({"x-amz-website-redirect-location": "x"}, "InvalidRedirectLocation"),
            ({"x-amz-object-lock-mode": "GOVERNANCE"}, "InvalidRequest"),
        ):
            self.not_copied(400, code, headers)
            self.not_copied(404, "NoSuchBucket", headers, target="/absent/k")

    def test_source_conditions(self) -> None:
        """
        The conditions of the source fail with 412, all four; one pair goes before the other.
        """
        etag = self.put("source", b"hello").header("ETag") or ""
        past, future = "Wed, 01 Jan 2020 00:00:00 GMT", "Wed, 01 Jan 2098 00:00:00 GMT"
        modified = self.send("HEAD", "/bucket/source").header("Last-Modified") or ""
        prefix = "x-amz-copy-source-if-"
        for conditions, failed in (
            ({"match": etag}, None),
            ({"match": etag.strip('"')}, None),
            ({"match": "x"}, "If-Match"),
            ({"none-match": "x"}, None),
            ({"none-match": etag}, "If-None-Match"),
            ({"modified-since": past}, None),
            ({"modified-since": modified}, "If-Modified-Since"),
            ({"modified-since": future}, None),
            ({"unmodified-since": future}, None),
            ({"unmodified-since": past}, "If-Unmodified-Since"),
            ({"match": etag, "unmodified-since": past}, None),
            ({"none-match": etag, "modified-since": past}, "If-None-Match"),
            ({"none-match": "x", "modified-since": modified}, None),
        ):
            headers = {prefix + name: value for name, value in conditions.items()}
            if failed is None:
                self.copy(headers)
            else:
                named = {"x-amz-copy-source": "/bucket/source", **headers}
                tree = self.refused(
                    "PUT", "/bucket/target", 412, "PreconditionFailed", headers=named
                )
                self.assertEqual(tree.findtext("Condition"), f"x-amz-copy-source-{failed}")

    def test_target_conditions(self) -> None:
        """
        The conditions of a write are those of the target.
        """
        self.put("source", b"hello")
        self.not_copied(404, "NoSuchKey", {"If-Match": "*"})
        self.copy({"If-None-Match": "*"})
        self.not_copied(412, "PreconditionFailed", {"If-None-Match": "*"})
        self.not_copied(412, "PreconditionFailed", {"If-Match": "x"})
        self.copy({"If-Match": _HELLO})

    def test_unsigned(self) -> None:
        """
        A source that is not signed does not count.
        """
        self.put("source", b"hello")
        line = ("x-amz-copy-source", "/bucket/source")
        answer = self.plainly("PUT", presigned("PUT", "/bucket/target"), [line])
        self.assertEqual(answer.status, 403)
        answer = self.plainly("PUT", presigned("PUT", "/bucket/target", dict([line])), [line])
        self.assertEqual(answer.status, 200)
        self.refused("GET", "/bucket/absent", 404, "NoSuchKey")

    def test_authorization(self) -> None:
        """
        Who may not read the source cannot copy it, nor learn whether it exists.
        """
        self.put("source", b"hello")
        asked = []

        def authorize(identity: Identity | None, action: str, resource: str) -> bool:
            """
            Allow everything but one thing.
            """
            asked.append((action, resource))
            return resource != "bucket/source" or action != "s3:GetObject"

        self.front = evolve(self.front, authorizer=Rule(authorize))
        resource = S3Resource(self.front, self.health.probe)
        self.harness = Harness(resource, access_log=False)
        self.not_copied(403, "AccessDenied")
        self.assertEqual(
            asked,
            [
                ("s3:PutObject", "bucket/target"),
                ("s3:GetObject", "bucket/source"),
            ],
        )
        target = "/bucket/k?partNumber=1&uploadId="
        upload_id = read_xml(self.send("POST", "/bucket/k?uploads")).findtext("UploadId")
        self.not_copied(403, "AccessDenied", target=f"{target}{upload_id}")
        self.send("DELETE", "/bucket/source", status=204)
        self.not_copied(403, "AccessDenied")


class EncryptedCopyTests(SecureCase, CopyCase):
    """
    Copies from and to each kind of encryption.
    """

    def test_all_kinds(self) -> None:
        """
        Any kind becomes any other; the target says its own, never that of the source.
        """
        kinds = ({}, {SSE: "AES256"}, {SSE: "aws:kms"}, customer())
        for source, wanted, content in product(kinds, kinds, (b"", b"x", b"hello" * 50_000)):
            self.send("PUT", "/bucket/source", content, source, status=200)
            opening = customer(prefix=SOURCE_SSE) if source is kinds[3] else {}
            answer = self.copy({**wanted, **opening})
            name = f"{SSE}-customer-key-MD5"
            for each in (SSE, name):
                self.assertEqual(answer.header(each), wanted.get(each))
            bringing = wanted if wanted is kinds[3] else {}
            got = self.send("GET", "/bucket/target", headers=bringing, status=200)
            self.assertEqual(got.body, content)
            self.assertEqual(read_xml(answer).findtext("ETag"), got.header("ETag"))
            with_md5 = got.header("ETag") == f'"{md5(content).hexdigest()}"'
            self.assertEqual(with_md5, wanted in kinds[:2])

    def test_metadata(self) -> None:
        """
        Sealed metadata are copied too.
        """
        headers = {**customer(), "x-amz-meta-a": "b", "Content-Type": "text/x"}
        self.send("PUT", "/bucket/source", b"hello", headers, status=200)
        self.copy(customer(prefix=SOURCE_SSE))
        answer = self.send("HEAD", "/bucket/target", status=200)
        self.assertEqual(answer.header("x-amz-meta-a"), "b")
        self.assertEqual(answer.header("Content-Type"), "text/x")

    def test_bucket_default(self) -> None:
        """
        Without headers the bucket of the target decides.
        """
        body = (
            b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
            b"<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>my-key</KMSMasterKeyID>"
            b"</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        )
        self.send("PUT", "/other", status=200)
        self.send("PUT", "/other?encryption", body, status=200)
        self.put("source", b"hello")
        answer = self.copy(target="/other/target")
        self.assertEqual(answer.header(SSE), "aws:kms")
        self.assertEqual(answer.header(f"{SSE}-aws-kms-key-id"), "my-key")
        self.copy(source="/other/target")
        self.assertIsNone(self.send("HEAD", "/bucket/target").header(SSE))

    def test_source_keys(self) -> None:
        """
        A source with a key needs it, and no other needs one.
        """
        self.send("PUT", "/bucket/source", b"hello", customer(), status=200)
        self.put("plain")
        self.put("s3", **{SSE: "AES256"})
        self.not_copied(400, "InvalidRequest")
        self.not_copied(400, "InvalidRequest", customer())
        self.not_copied(403, "AccessDenied", customer(b"x" * 32, SOURCE_SSE))
        for name in ("plain", "s3"):
            headers = customer(prefix=SOURCE_SSE)
            self.not_copied(400, "InvalidRequest", headers, source=f"/bucket/{name}")
        broken = {**customer(prefix=SOURCE_SSE), f"{SOURCE_SSE}-customer-key-MD5": "x"}
        self.not_copied(400, "InvalidArgument", broken)

    def test_key_rotation(self) -> None:
        """
        A copy onto itself takes another key.
        """
        self.send("PUT", "/bucket/k", b"hello", customer(), status=200)
        headers = {**customer(b"x" * 32), **customer(prefix=SOURCE_SSE)}
        self.copy(headers, source="/bucket/k", target="/bucket/k")
        self.refused("GET", "/bucket/k", 403, "AccessDenied", headers=customer())
        got = self.send("GET", "/bucket/k", headers=customer(b"x" * 32), status=200)
        self.assertEqual(got.body, b"hello")

    def test_key_exchange(self) -> None:
        """
        If nothing but the key changes, the content is not written again: ETag, time, checksum and
        all that is known of the object stay.
        """
        headers = {**customer(), "x-amz-checksum-algorithm": "SHA256", "x-amz-meta-a": "b"}
        headers["x-amz-tagging"] = "c=d"
        self.send("PUT", "/bucket/k", b"hello", headers, status=200)
        asking = {"x-amz-checksum-mode": "ENABLED"}
        before = self.send("HEAD", "/bucket/k", headers={**customer(), **asking}, status=200)
        self.clock.advance(100)
        wanted = customer(b"x" * 32)
        both = {**wanted, **customer(prefix=SOURCE_SSE)}
        itself = {"source": "/bucket/k", "target": "/bucket/k"}
        self.not_copied(412, "PreconditionFailed", {**both, "If-Match": '"x"'}, **itself)
        answer = self.copy(both, **itself)
        after = self.send("HEAD", "/bucket/k", headers={**wanted, **asking}, status=200)
        for name in ("ETag", "Last-Modified", "x-amz-meta-a", "x-amz-checksum-crc64nvme"):
            self.assertEqual(after.header(name), before.header(name))
        self.assertEqual(after.header("x-amz-tagging-count"), "1")
        name = f"{SSE}-customer-key-MD5"
        self.assertEqual(answer.header(name), wanted[name])
        self.assertEqual(read_xml(answer).findtext("ETag"), before.header("ETag"))
        self.refused("GET", "/bucket/k", 403, "AccessDenied", headers=customer())

    def test_new_content(self) -> None:
        """
        If anything else changes too, or the bucket has versions, a copy with another key is
        another object.
        """
        wanted, itself = customer(b"x" * 32), {"source": "/bucket/k", "target": "/bucket/k"}
        both = {**wanted, **customer(prefix=SOURCE_SSE)}
        for change in (
            {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-a": "c"},
            {"x-amz-tagging-directive": "REPLACE", "x-amz-tagging": "a=b"},
            {"x-amz-checksum-algorithm": "SHA1"},
            {"x-amz-storage-class": "REDUCED_REDUNDANCY"},
            {"x-amz-website-redirect-location": "/x"},
        ):
            old = self.send("PUT", "/bucket/k", b"hello", customer(), status=200)
            self.copy({**both, **change}, **itself)
            new = self.send("GET", "/bucket/k", headers=wanted, status=200)
            self.assertNotEqual(new.header("ETag"), old.header("ETag"))
            self.assertEqual(new.body, b"hello")
        versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.send("PUT", "/bucket?versioning", versioning, status=200)
        old = self.send("PUT", "/bucket/k", b"hello", customer(), status=200)
        self.copy(both, **itself)
        new = self.send("GET", "/bucket/k", headers=wanted, status=200)
        self.assertNotEqual(new.header("x-amz-version-id"), old.header("x-amz-version-id"))
        version = f"/bucket/k?versionId={old.header('x-amz-version-id')}"
        self.assertEqual(self.send("GET", version, headers=customer(), status=200).body, b"hello")


class UploadedSourceTests(UploadCase, CopyCase):
    """
    Sources that were uploaded in parts.
    """

    def test_copied(self) -> None:
        """
        The copy is one piece: entity tag and checksum are those of its content.
        """
        for encryption in ({}, {SSE: "AES256"}):
            headers = {"x-amz-checksum-algorithm": "SHA256", **encryption}
            upload_id, listed = self.upload(b"one", b"two", headers=headers)
            self.complete(upload_id, listed)
            tree = read_xml(self.copy(source="/bucket/k"))
            self.assertEqual(tree.findtext("ETag"), f'"{md5(b"onetwo").hexdigest()}"')
            self.assertEqual(tree.findtext("ChecksumSHA256"), checksum("sha256", b"onetwo"))
            self.assertEqual(self.send("GET", "/bucket/target").body, b"onetwo")
            self.refused("GET", "/bucket/target?partNumber=2", 416, "InvalidPartNumber")


class ReleaseTests(CopyCase):
    """
    What copies hold.
    """

    def setUp(self) -> None:
        """
        Watch the store.
        """
        super().setUp()
        self.put("source", b"x" * 100_000)
        self.put("other", b"y" * 100_000)
        self.watched = WatchedStore(self.store)
        self.serve_watched()

    def serve_watched(self) -> None:
        """
        Serve the watched store.
        """
        front = evolve(self.front, store=self.watched)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)

    def test_closed(self) -> None:
        """
        The source is closed however the copy ends.
        """
        self.copy()
        self.not_copied(412, "PreconditionFailed", {"x-amz-copy-source-if-match": "x"})
        self.not_copied(400, "InvalidRequest", target="/bucket/source")
        self.not_copied(412, "PreconditionFailed", {"If-None-Match": "*"})
        self.assertEqual([opened.closed for opened in self.watched.opened], [True] * 4)

    def test_vanished_client(self) -> None:
        """
        When the client goes away, the source is closed and nothing is stored.
        """
        self.watched.pause = Deferred()
        client = self.harness.connect()
        target = presigned("PUT", at("bucket", "target"), {"x-amz-copy-source": "bucket/source"})
        lines = "Host: kypello.test\r\nx-amz-copy-source: bucket/source\r\nContent-Length: 0"
        client.send(f"PUT {target} HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        self.assertFalse(self.watched.opened[0].closed)
        client.go_away()
        self.assertTrue(self.watched.opened[0].closed)
        self.refused("GET", "/bucket/target", 404, "NoSuchKey")
        self.assertEqual(self.front.clock.getDelayedCalls(), [])

    def test_not_blocking(self) -> None:
        """
        While a copy waits, everybody reads and writes its source and its target, and copies
        the other way.
        """
        self.watched.pause = Deferred()
        lines = {"x-amz-copy-source": "bucket/source"}
        client = self.harness.connect()
        target = presigned("PUT", "/bucket/other", lines)
        headers = "Host: kypello.test\r\nx-amz-copy-source: bucket/source\r\nContent-Length: 0"
        client.send(f"PUT {target} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        waiting, self.watched.pause = self.watched.pause, None
        self.copy(source="/bucket/other", target="/bucket/source")
        self.assertEqual(self.send("GET", "/bucket/source").body, b"y" * 100_000)
        self.send("PUT", "/bucket/other", b"z", status=200)
        self.assertEqual(client.received, b"")
        waiting.callback(None)
        self.assertIn(b"HTTP/1.1 200 ", client.received)
        self.assertEqual(self.send("GET", "/bucket/other").body, b"x" * 100_000)

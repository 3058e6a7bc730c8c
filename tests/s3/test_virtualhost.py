# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Hosts that name a bucket, and accounts that own it.
"""

from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from kypello.s3.virtualhost import bucket_of_host
from kypello.testing.harness import Answer
from tests.cases import SyncCase
from tests.s3.front import CREDENTIALS, FrontCase, read_xml, texts

_DOMAINS = ("example.com", "s3.example.com", "other.org")


class HostTests(SyncCase):
    """
    Which bucket a host names.
    """

    def test_hosts(self) -> None:
        """
        The bucket is what stands before the longest domain that fits; case, port and a dot at
        the end mean nothing.
        """
        for host, bucket in (
            ("bucket.s3.example.com", "bucket"),
            ("bucket.s3.example.com:9000", "bucket"),
            ("bucket.s3.example.com:", "bucket"),
            ("BUCKET.S3.Example.COM", "bucket"),
            ("bucket.s3.example.com.", "bucket"),
            ("a.b.c.s3.example.com", "a.b.c"),
            ("bucket.example.com", "bucket"),
            ("bucket.other.org", "bucket"),
            # The domains themselves.
            ("s3.example.com", ""),
            ("example.com:80", ""),
            # The server under a domain.
            ("minio.example.com", ""),
            # No domain at all.
            ("notexample.com", ""),
            ("localhost:9000", ""),
            ("10.0.0.1:9000", ""),
            ("[::1]:9000", ""),
            ("[::1]", ""),
            ("", ""),
        ):
            self.assertEqual(bucket_of_host(host, _DOMAINS), bucket, host)

    def test_no_domain(self) -> None:
        """
        Without a domain no host names a bucket.
        """
        self.assertEqual(bucket_of_host("bucket.s3.example.com", ()), "")


class VirtualHostTests(FrontCase):
    """
    Requests to such hosts.
    """

    def setUp(self) -> None:
        """
        Serve under two domains.
        """
        super().setUp()
        self.serve(domains=("s3.test", "files.s3.test"))

    def ask(self, method: str, url: str, body: bytes = b"") -> Answer:
        """
        Send a request that is signed in its headers.
        """
        request = AWSRequest(method, f"http://{url}", {}, body)
        S3SigV4Auth(CREDENTIALS, "s3", "us-east-1").add_auth(request)
        host, slash, rest = url.partition("/")
        lines = [(name, str(value)) for name, value in request.headers.items()]
        return self.plainly(method, slash + rest, [("Host", host), *lines], body)

    def test_objects(self) -> None:
        """
        The path is the key, whatever it looks like, and the signature is over it.
        """
        for path in ("k", "bucket/k", "/k", "a%20c", "minio/health/live", "minio/x"):
            self.assertEqual(self.ask("PUT", f"bucket.s3.test/{path}", path.encode()).status, 200)
            got = self.ask("GET", f"bucket.s3.test:80/{path}")
            self.assertEqual((got.status, got.body), (200, path.encode()), path)
            plain = self.send("GET", f"/bucket/{path}", status=200)
            self.assertEqual(plain.body, path.encode())

    def test_bucket(self) -> None:
        """
        The path ``/`` is the bucket, and its name may have dots.
        """
        self.assertEqual(self.ask("PUT", "a.b.c.files.s3.test/").status, 200)
        self.assertEqual(self.ask("HEAD", "a.b.c.files.s3.test/").status, 200)
        listing = read_xml(self.ask("GET", "a.b.c.files.s3.test/?list-type=2"))
        self.assertEqual(texts(listing, "Name"), ["a.b.c"])
        self.assertEqual(self.ask("DELETE", "a.b.c.files.s3.test/").status, 204)
        self.assert_refused(self.ask("GET", "a.b.c.files.s3.test/"), 404, "NoSuchBucket")
        self.assert_refused(self.ask("GET", "a_b.s3.test/"), 400, "InvalidBucketName")

    def test_service(self) -> None:
        """
        The domain itself, and any other host, serve buckets by path.
        """
        for host in ("s3.test", "files.s3.test", "s3.test:81", "127.0.0.1", "elsewhere.test"):
            buckets = read_xml(self.ask("GET", f"{host}/"))
            self.assertEqual(texts(buckets, "Buckets/Bucket/Name"), ["bucket"], host)
            self.assertEqual(self.ask("HEAD", f"{host}/bucket").status, 200, host)

    def test_presigned(self) -> None:
        """
        URLs presigned with either version work, for keys and for the bucket.
        """
        self.put("a b", b"content")
        for path in ("a%20b", "?location"):
            request = AWSRequest("GET", f"http://bucket.s3.test/{path}")
            S3SigV4QueryAuth(CREDENTIALS, "s3", "us-east-1", expires=60).add_auth(request)
            plain = AWSRequest("GET", f"http://bucket.s3.test/{path}")
            # What botocore signs for a virtual host.
            plain.auth_path = f"/bucket/{path.partition('?')[0]}"
            HmacV1QueryAuth(CREDENTIALS, expires=60).add_auth(plain)
            for url in (str(request.url), str(plain.url)):
                target = url.removeprefix("http://bucket.s3.test")
                answer = self.plainly("GET", target, [("Host", "bucket.s3.test")])
                self.assertEqual(answer.status, 200, answer.body)
                other = self.plainly("GET", target, [("Host", "bucket.files.s3.test")])
                self.assertEqual(other.status, 403 if url == request.url else 200)
                foreign = self.plainly("GET", target, [("Host", "other.s3.test")])
                self.assert_refused(foreign, 403, "SignatureDoesNotMatch")

    def test_errors(self) -> None:
        """
        An error names bucket and key as they are.
        """
        tree = self.assert_refused(self.ask("GET", "bucket.s3.test/a/b"), 404, "NoSuchKey")
        self.assertEqual(texts(tree, "BucketName"), ["bucket"])
        self.assertEqual(texts(tree, "Key"), ["a/b"])
        self.assertEqual(texts(tree, "Resource"), ["/bucket/a/b"])


class RegionTests(FrontCase):
    """
    A configured region with virtual hosts.
    """

    region = "eu-test-1"

    def test_any_region(self) -> None:
        """
        Only a request about the bucket itself may be signed for another region.
        """
        self.serve(domains=("s3.test",))
        for path, status in (("/", 200), ("/key", 400)):
            request = AWSRequest("HEAD", f"http://bucket.s3.test{path}", {}, b"")
            S3SigV4Auth(CREDENTIALS, "s3", "us-east-1").add_auth(request)
            lines = [(name, str(value)) for name, value in request.headers.items()]
            answer = self.plainly("HEAD", path, [("Host", "bucket.s3.test"), *lines])
            self.assertEqual(answer.status, status, path)


class OwnerTests(FrontCase):
    """
    ``x-amz-expected-bucket-owner``.
    """

    _EXPECT = "x-amz-expected-bucket-owner"

    def test_unknown(self) -> None:
        """
        When no account is configured, clients may expect any.
        """
        self.send("HEAD", "/bucket", headers={self._EXPECT: "123456789012"}, status=200)
        self.send("HEAD", "/bucket", headers={"x-amz-request-payer": "requester"}, status=200)

    def test_configured(self) -> None:
        """
        When one is, requests that expect another are refused, whatever they are about.
        """
        self.serve(account_id="1" * 12)
        self.send("PUT", "/bucket/k", b"x", {self._EXPECT: "1" * 12}, status=200)
        for method, target in (
            ("GET", "/bucket"),
            ("PUT", "/bucket/k"),
            ("GET", "/bucket/k"),
            ("GET", "/bucket?acl"),
            ("DELETE", "/bucket"),
        ):
            for name in (self._EXPECT, "x-amz-source-expected-bucket-owner"):
                headers = {name: "2" * 12}
                self.refused(method, target, 403, "AccessDenied", headers=headers)
        self.send("GET", "/bucket/k", status=200)


class SignatureVersion2Tests(FrontCase):
    """
    The switch that turns off signatures of version 2.
    """

    def test_off(self) -> None:
        """
        URLs of version 2 are refused, those of version 4 work.
        """
        self.put("k")
        request = AWSRequest("GET", "http://kypello.test/bucket/k")
        request.auth_path = None
        HmacV1QueryAuth(CREDENTIALS, expires=60).add_auth(request)
        target = str(request.url).removeprefix("http://kypello.test")
        self.assertEqual(self.plainly("GET", target, []).status, 200)
        self.serve(signature_v2=False)
        tree = self.assert_refused(self.plainly("GET", target, []), 400, "InvalidRequest")
        self.assertIn("AWS4-HMAC-SHA256", tree.findtext("Message") or "")

    def test_header(self) -> None:
        """
        In the header version 2 is refused in any case.
        """
        lines = [("Authorization", "AWS root-user:c2lnbmF0dXJl")]
        self.assert_refused(self.plainly("GET", "/bucket", lines), 400, "InvalidRequest")

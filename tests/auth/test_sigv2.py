# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of URLs presigned with version 2.
"""

from attrs import evolve
from botocore.auth import HmacV1QueryAuth
from hypothesis import given
from hypothesis import strategies as st

from kypello.auth.request import RequestHead
from kypello.auth.sigv2 import read_query, signed_part, verify
from kypello.errors import Refused
from tests.auth.clients import CREDENTIALS, request, seen
from tests.auth.examples import IDENTITY
from tests.cases import SyncCase

#: The example of the developer guide.
EXPIRES = 1175139620
EXAMPLE = RequestHead(
    "GET",
    "/johnsmith/photos/puppy.jpg",
    (
        ("AWSAccessKeyId", "AKIAIOSFODNN7EXAMPLE"),
        ("Signature", "NpgCjnDzrM+WFzoENXmpNDUsSn8="),
        ("Expires", str(EXPIRES)),
    ),
    (("host", "s3.amazonaws.com"),),
)


def check(head: RequestHead, now: float = EXPIRES) -> RequestHead:
    """
    Do all of the check; give what counts of the request.
    """
    claim, part = read_query(head, now), signed_part(head)
    verify(claim, part, IDENTITY.secret_key)
    return part


def presigned(
    method: str, key: str, query: str = "", headers: dict[str, str] | None = None
) -> RequestHead:
    """
    What arrives of a URL that botocore made, and nothing of the headers that it was made with.
    """
    unsigned = request(method, key, query, headers)
    HmacV1QueryAuth(CREDENTIALS, expires=600).add_auth(unsigned)
    return evolve(seen(unsigned), headers=(("host", "127.0.0.1:9000"),))


def with_parameter(head: RequestHead, name: str, value: str) -> RequestHead:
    """
    The same request with a parameter replaced or added.
    """
    return evolve(head, query=(*(pair for pair in head.query if pair[0] != name), (name, value)))


class AcceptedTests(SyncCase):
    """
    URLs that are good.
    """

    def test_example(self) -> None:
        """
        The published URL verifies until it expires.
        """
        part = check(EXAMPLE)
        self.assertEqual(part.query, ())

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
    def test_keys(self, key: str) -> None:
        """
        URLs of any key verify.
        """
        check(presigned("GET", key))

    def test_subresources(self) -> None:
        """
        Parameters that are signed count, whatever their values hold.
        """
        query = "versionId=null&response-content-type=text%2Fx%20%C3%A9&acl"
        part = check(presigned("GET", "k", query))
        self.assertEqual(part.parameter("response-content-type"), "text/x é")
        self.assertEqual(part.parameter("acl"), "")

    def test_headers(self) -> None:
        """
        Headers of the signature stand in the query and count as headers.
        """
        headers = {"content-type": "text/plain", "x-amz-meta-a": "é", "content-md5": "x"}
        part = check(presigned("PUT", "k", "", headers))
        self.assertEqual(part.header("content-type"), "text/plain")
        self.assertEqual(part.header("content-md5"), "x")
        self.assertEqual(part.header("x-amz-meta-a"), "é".encode().decode("latin-1"))

    def test_headers_sent(self) -> None:
        """
        They may be sent as headers too.
        """
        head = presigned("PUT", "k", "", {"content-type": "text/plain"})
        check(evolve(head, headers=(*head.headers, ("content-type", "text/plain"))))
        check(evolve(head, headers=(*head.headers, ("range", "x"), ("x-amz-cf-id", "x"))))

    def test_meaningful_headers(self) -> None:
        """
        Headers of MinIO are not signed, so they do not count.
        """
        head = evolve(presigned("DELETE", "key"), headers=(("x-minio-force-delete", "true"),))
        self.assertEqual(check(head).headers, ())

    def test_virtual_host(self) -> None:
        """
        The signature is over the path that would name the bucket, whoever names it.
        """
        for key in ("key", ""):
            head = presigned("GET", key)
            path = head.path.removeprefix("/bucket")
            check(evolve(head, path=path, host_bucket="bucket"))
            with self.assertRaises(Refused):
                check(evolve(head, path=path, host_bucket="other"))

    def test_bucket(self) -> None:
        """
        The path of a bucket is signed with or without its last slash.
        """
        for path in ("/bucket", "/bucket/"):
            unsigned = request("GET", "")
            unsigned.auth_path = path
            HmacV1QueryAuth(CREDENTIALS, expires=600).add_auth(unsigned)
            for sent in {path, "/bucket"}:
                check(evolve(seen(unsigned), path=sent))

    def test_listing(self) -> None:
        """
        Of what is not signed, that of listings counts, and nothing else.
        """
        part = check(presigned("GET", "", "list-type=2&prefix=a&encryption&x-id=y"))
        self.assertEqual(part.query, (("list-type", "2"), ("prefix", "a")))


class RefusedTests(SyncCase):
    """
    URLs that fail a check.
    """

    def refused(
        self, head: RequestHead, code: str, text: str = "", now: float = EXPIRES
    ) -> Refused:
        """
        Assert the error of a request.
        """
        with self.assertRaises(Refused) as caught:
            check(head, now)
        self.assertEqual(caught.exception.code, code)
        self.assertIn(text, caught.exception.message)
        return caught.exception

    def test_missing(self) -> None:
        """
        Each of the three parameters must be there once.
        """
        for name, _value in EXAMPLE.query:
            self.refused(with_parameter(EXAMPLE, name, ""), "AccessDenied", "requires")
            twice = evolve(EXAMPLE, query=(*EXAMPLE.query, (name.lower(), "x")))
            self.refused(twice, "AccessDenied", "requires")

    def test_expires(self) -> None:
        """
        A URL is good until a second that can be read.
        """
        error = self.refused(EXAMPLE, "AccessDenied", "expired", EXPIRES + 1)
        self.assertEqual(error.fields["Expires"], "2007-03-29T03:40:20Z")
        for text in ("x", "-1", "1.5", "٣", "9" * 5000):
            self.refused(with_parameter(EXAMPLE, "Expires", text), "AccessDenied", "Invalid date")

    def test_signature(self) -> None:
        """
        The method, the path, what is signed of the query, and all AWS headers are covered.
        """
        for head in (
            evolve(EXAMPLE, method="PUT"),
            evolve(EXAMPLE, path="/johnsmith/photos/puppy.jp"),
            with_parameter(EXAMPLE, "Expires", str(EXPIRES + 1)),
            with_parameter(EXAMPLE, "Signature", "é"),
            with_parameter(EXAMPLE, "acl", ""),
            with_parameter(EXAMPLE, "versionId", "\udcff"),
            with_parameter(EXAMPLE, "x-amz-acl", "private"),
            evolve(EXAMPLE, headers=(("x-amz-copy-source", "/a/b"),)),
            evolve(EXAMPLE, headers=(("content-type", "text/html"),)),
        ):
            error = self.refused(head, "SignatureDoesNotMatch")
            self.assertIn("StringToSign", error.fields)
            self.assertNotIn(IDENTITY.secret_key, repr(error))

    def test_customer_key(self) -> None:
        """
        A string to sign that holds a key of the customer is shown to nobody.
        """
        name = "x-amz-server-side-encryption-customer-key"
        error = self.refused(with_parameter(EXAMPLE, name, "c2VjcmV0"), "SignatureDoesNotMatch")
        self.assertNotIn("c2VjcmV0", repr(error))

    def test_no_header(self) -> None:
        """
        What cannot be a header is refused.
        """
        self.refused(with_parameter(EXAMPLE, "content-type", "a\r\nb: c"), "InvalidArgument")

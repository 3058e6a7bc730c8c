# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of presigned URLs.
"""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kypello.auth.presign import merge_settings, payload_hash, read_query
from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import verify
from kypello.errors import Refused
from tests.auth.clients import presign, request
from tests.auth.examples import IDENTITY, NOW, PRESIGNED
from tests.cases import SyncCase

WRONG = "AuthorizationQueryParametersError"


def with_parameter(head: RequestHead, name: str, value: str | None) -> RequestHead:
    """
    The same request with a parameter replaced, added, or removed.
    """
    others = tuple(pair for pair in head.query if pair[0] != name)
    return evolve(head, query=others if value is None else (*others, (name, value)))


def check(head: RequestHead, now: float = NOW, region: str | None = None) -> None:
    """
    Do both halves of the check.
    """
    verify(read_query(head, region, now), head, payload_hash(head), IDENTITY.secret_key)


class AcceptedTests(SyncCase):
    """
    URLs that are good.
    """

    def test_example(self) -> None:
        """
        The published URL verifies until it expires.
        """
        for now in (NOW - 900, NOW, NOW + 86399.5):
            check(PRESIGNED, now)

    def test_botocore(self) -> None:
        """
        URLs of botocore verify, signed headers and the longest life included.
        """
        head, now = presign(
            request("PUT", "a b/é", "x-amz-tagging=a%3Db", {"x-amz-meta-a": "1"}), 604800
        )
        check(head, now + 604799)

    def test_free_headers(self) -> None:
        """
        Headers that are no AWS headers may be added.
        """
        check(evolve(PRESIGNED, headers=(*PRESIGNED.headers, ("range", "bytes=0-1"))))

    def test_payload_hash(self) -> None:
        """
        The digest of the body is a header, else a parameter, else there is none.
        """
        self.assertEqual(payload_hash(PRESIGNED), "UNSIGNED-PAYLOAD")
        head = with_parameter(PRESIGNED, "X-Amz-Content-Sha256", "ab")
        self.assertEqual(payload_hash(head), "ab")
        head = evolve(head, headers=(("x-amz-content-sha256", "cd"),))
        self.assertEqual(payload_hash(head), "cd")


class RefusedTests(SyncCase):
    """
    URLs that fail a check.
    """

    def refused(self, head: RequestHead, code: str, text: str, now: float = NOW) -> Refused:
        """
        Assert the error of a request.
        """
        with self.assertRaises(Refused) as caught:
            check(head, now, "us-east-1")
        self.assertEqual(caught.exception.code, code)
        self.assertIn(text, caught.exception.message)
        return caught.exception

    def test_missing(self) -> None:
        """
        Each of the six parameters must be there and not empty.
        """
        for name, _value in PRESIGNED.query:
            for value in (None, ""):
                self.refused(with_parameter(PRESIGNED, name, value), WRONG, "requires")

    def test_repeated(self) -> None:
        """
        No parameter of the signature, nor a setting, may be given twice, in whatever spelling.
        """
        for name in [name for name, _value in PRESIGNED.query] + ["x-amz-tagging"]:
            twice = evolve(PRESIGNED, query=((name, "1"), *PRESIGNED.query, (name.lower(), "1")))
            self.refused(twice, WRONG, "only once")

    def test_values(self) -> None:
        """
        Each value is checked.
        """
        key = IDENTITY.access_key
        for name, value, text in (
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA512", "only supports"),
            ("X-Amz-Credential", "x", "Error parsing the X-Amz-Credential parameter; the Cred"),
            ("X-Amz-Credential", f"{key}/20130524/eu/s3/aws4_request", 'region "eu" is wrong'),
            ("X-Amz-Credential", f"{key}/20130525/us-east-1/s3/aws4_request", "not the same"),
            ("X-Amz-Date", "2013-05-24T00:00:00Z", "ISO8601 Long Format"),
            ("X-Amz-Expires", "1.5", "should be a number"),
            ("X-Amz-Expires", "9" * 5000, "should be a number"),
            ("X-Amz-Expires", "٣", "should be a number"),
            ("X-Amz-Expires", "-1", "must be non-negative"),
            ("X-Amz-Expires", "604801", "less than a week"),
        ):
            self.refused(with_parameter(PRESIGNED, name, value), WRONG, text)

    def test_time(self) -> None:
        """
        A URL is good neither before its time nor after it; one of no seconds never.
        """
        self.refused(PRESIGNED, "AccessDenied", "not valid yet", NOW - 901)
        error = self.refused(PRESIGNED, "AccessDenied", "has expired", NOW + 86400)
        self.assertEqual(
            error.fields,
            {
                "X-Amz-Expires": "86400",
                "Expires": "2013-05-25T00:00:00Z",
                "ServerTime": "2013-05-25T00:00:00Z",
            },
        )
        head, now = presign(request("GET", "k"), 0)
        self.refused(head, "AccessDenied", "has expired", now)

    def test_unsigned(self) -> None:
        """
        An AWS header outside of the signature is refused: it would act with the signer's
        rights.
        """
        head = evolve(PRESIGNED, headers=(*PRESIGNED.headers, ("x-amz-copy-source", "/a/b")))
        error = self.refused(head, "AccessDenied", "not signed")
        self.assertEqual(error.fields, {"HeadersNotSigned": "x-amz-copy-source"})

    def test_signature(self) -> None:
        """
        Changed, added and removed parameters, another method or payload break the signature.
        """
        for head in (
            evolve(PRESIGNED, method="PUT"),
            evolve(PRESIGNED, path="/test.txu"),
            with_parameter(PRESIGNED, "acl", ""),
            with_parameter(PRESIGNED, "X-Amz-Expires", "86401"),
            with_parameter(PRESIGNED, "X-Amz-Signature", "é" * 64),
            with_parameter(PRESIGNED, "X-Amz-Content-Sha256", "é"),
            with_parameter(PRESIGNED, "X-Amz-Content-Sha256", "0" * 64),
            with_parameter(PRESIGNED, "X-Amz-Security-Token", "x"),
            with_parameter(PRESIGNED, "\udcff", "\udcff"),
        ):
            self.refused(head, "SignatureDoesNotMatch", "does not match")

    @given(st.lists(st.sampled_from(PRESIGNED.query)), st.text(max_size=30), st.integers(0, 5))
    def test_any(self, pairs: list[tuple[str, str]], text: str, which: int) -> None:
        """
        Whatever the query holds, the answer is a refusal.
        """
        head = with_parameter(PRESIGNED, PRESIGNED.query[which][0], text)
        with self.assertRaises(Refused):
            check(head)
        if len(pairs) != len(PRESIGNED.query) or len(set(pairs)) != len(pairs):
            with self.assertRaises(Refused):
                check(evolve(PRESIGNED, query=tuple(pairs)))


class SettingsTests(SyncCase):
    """
    Settings in the query.
    """

    def merged(self, method: str, *query: tuple[str, str]) -> dict[str, str]:
        """
        The headers that come out of a query.
        """
        head = RequestHead(method, "/b/k", query, (("host", "h"), ("x-amz-acl", "private")))
        return dict(merge_settings(head).headers[2:])

    def test_merged(self) -> None:
        """
        Settings become headers by lower-case name; non-ASCII text has one character per byte.
        """
        self.assertEqual(
            self.merged(
                "PUT",
                ("X-Amz-Tagging", "a=b"),
                ("x-amz-meta-a", " é "),
                ("x-amz-checksum-mode", "ENABLED"),
                ("prefix", "p"),
            ),
            {
                "x-amz-tagging": "a=b",
                "x-amz-meta-a": "é".encode().decode("latin-1"),
                "x-amz-checksum-mode": "ENABLED",
            },
        )

    def test_of_signature(self) -> None:
        """
        Parameters of the signature do not become headers.
        """
        head = with_parameter(PRESIGNED, "X-Amz-Security-Token", "t")
        self.assertIs(merge_settings(head), head)

    def test_header_wins(self) -> None:
        """
        A header of the same name counts, not the parameter.
        """
        self.assertEqual(self.merged("PUT", ("x-amz-acl", "public-read")), {})

    def test_checksum(self) -> None:
        """
        Checksums in the query of a PUT are those of nothing and do not count.
        """
        query = (
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
        )
        self.assertEqual(self.merged("PUT", *query), {})
        self.assertEqual(self.merged("POST", *query), dict(query))

    def test_refused(self) -> None:
        """
        What cannot be a header is refused, line ends above all.
        """
        for name, value in (
            ("x-amz-meta-a", "1\r\nx-evil: 2"),
            ("x-amz-meta-a", "\x00"),
            ("x-amz-meta-é", "1"),
            ("x-amz-meta a", "1"),
        ):
            with self.assertRaises(Refused) as caught:
                self.merged("PUT", (name, value))
            self.assertEqual(caught.exception.code, "InvalidArgument")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of signatures in the ``Authorization`` header.
"""

from urllib.parse import quote, urlsplit

from attrs import evolve
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from kypello.auth.dates import parse_timestamp, server_time
from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import (
    Scope,
    canonical_request,
    read_authorization,
    sign,
    signing_key,
    string_to_sign,
    verify,
)
from kypello.errors import Refused
from tests.auth.clients import CREDENTIALS, request, seen, sign_header
from tests.auth.examples import (
    CHUNKED,
    GET_OBJECT,
    HEADER_EXAMPLES,
    IDENTITY,
    NOW,
    PUT_OBJECT,
    TRAILED,
    authorization,
)
from tests.cases import SyncCase

NAMES = "host;range;x-amz-content-sha256;x-amz-date"
SIGNATURE = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def with_header(head: RequestHead, name: str, value: str | None) -> RequestHead:
    """
    The same request with a header replaced, added, or removed.
    """
    others = tuple(header for header in head.headers if header[0] != name)
    return evolve(head, headers=others if value is None else (*others, (name, value)))


def check(head: RequestHead, now: float = NOW, region: str | None = None) -> None:
    """
    Do both halves of the check.
    """
    claim = read_authorization(head, region, now)
    verify(claim, head, head.header("x-amz-content-sha256") or "", IDENTITY.secret_key)


class ExampleTests(SyncCase):
    """
    The published requests.
    """

    def test_verified(self) -> None:
        """
        All of them verify.
        """
        for head in (*HEADER_EXAMPLES, CHUNKED, TRAILED):
            check(head)

    def test_seed(self) -> None:
        """
        A verified request gives what its chunks are chained to.
        """
        claim = read_authorization(CHUNKED, "us-east-1", NOW)
        seed = verify(claim, CHUNKED, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", IDENTITY.secret_key)
        self.assertEqual(seed.signature, claim.signature)
        self.assertEqual(seed.scope, "20130524/us-east-1/s3/aws4_request")
        self.assertNotIn(seed.signature, repr(seed))
        self.assertNotIn(repr(seed.key), repr(seed))
        self.assertNotIn(claim.signature, repr(claim))

    def test_canonical_request(self) -> None:
        """
        The canonical request is the one printed in the reference.
        """
        names = ("host", "range", "x-amz-content-sha256", "x-amz-date")
        empty = GET_OBJECT.header("x-amz-content-sha256")
        self.assertEqual(
            canonical_request(GET_OBJECT, names, str(empty), "examplebucket.s3.amazonaws.com"),
            f"GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n"
            f"x-amz-content-sha256:{empty}\nx-amz-date:20130524T000000Z\n\n{';'.join(names)}\n"
            f"{empty}".encode(),
        )


class BotocoreTests(SyncCase):
    """
    Requests signed by botocore.
    """

    @given(
        st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]),
        TEXT,
        st.lists(st.tuples(TEXT, TEXT), max_size=4),
        st.text("abc \t,=;\"'", max_size=10),
    )
    def test_any(self, method: str, key: str, query: list[tuple[str, str]], value: str) -> None:
        """
        Any key, query and header value verifies.
        """
        text = "&".join(f"{quote(name, safe='')}={quote(part, safe='')}" for name, part in query)
        head, now = sign_header(request(method, key, text, {"x-amz-meta-a": value.strip()}, b"abc"))
        check(head, now)

    def test_special_characters(self) -> None:
        """
        Blanks, plus signs, percent signs, accents, tildes and the like in keys; repeated and
        empty query names.
        """
        for key in ("a b", "a+b", "100%", "é", "~", "!*'()", "a//b", "/a", "a/./b/../c"):
            head, now = sign_header(request("PUT", key, "b=2&a=&a=1&a=%20x&acl="))
            check(head, now)

    def test_order_of_values(self) -> None:
        """
        The values of a repeated name may be signed as they are sent, like MinIO's clients do it, or
        sorted; in another order they are not what was signed.
        """
        sent = (("ping", "1"), ("events", "b"), ("events", "a"), ("events", "c"))
        head = evolve(GET_OBJECT, query=sent)
        claim = read_authorization(head, None, NOW)
        empty, host = (head.header(name) or "" for name in ("x-amz-content-sha256", "host"))
        for query, right in (
            ("events=b&events=a&events=c&ping=1", True),
            ("events=a&events=b&events=c&ping=1", True),
            ("events=c&events=a&events=b&ping=1", False),
            ("ping=1&events=b&events=a&events=c", False),
        ):
            canonical = canonical_request(head, claim.signed_headers, empty, host, query)
            text = string_to_sign(claim.timestamp, claim.scope.text, canonical)
            signature = sign(signing_key(IDENTITY.secret_key, claim.scope), text)
            signed = with_header(head, "authorization", authorization(NAMES, signature))
            if right:
                check(signed)
            else:
                with self.assertRaises(Refused):
                    check(signed)

    def test_region(self) -> None:
        """
        Any region is right when none is configured.
        """
        head, now = sign_header(request("GET", "k"), "eu-central-7")
        check(head, now)
        with self.assertRaises(Refused) as caught:
            check(head, now, "us-east-1")
        self.assertEqual(caught.exception.code, "AuthorizationHeaderMalformed")
        self.assertEqual(caught.exception.fields, {"Region": "us-east-1"})


class ToleranceTests(SyncCase):
    """
    What proxies and HTTP libraries change, and what the signature does not cover.
    """

    def test_default_port(self) -> None:
        """
        The default port may have been added to the host, or dropped from it.
        """
        host = GET_OBJECT.header("host")
        check(with_header(GET_OBJECT, "host", f"{host}:443"))
        check(with_header(evolve(GET_OBJECT, secure=False), "host", f"{host}:80"))
        for port in ("80", "9000"):
            with self.assertRaises(Refused):
                check(with_header(GET_OBJECT, "host", f"{host}:{port}"))
        bare = request("GET", "k")
        bare.url = "http://storage.example:80/bucket/k"
        bare.headers["Host"] = "storage.example:80"
        head, now = sign_header(bare)
        check(with_header(head, "host", "storage.example"), now)

    def test_order_of_values(self) -> None:
        """
        The values of a parameter may be signed in the order in which they were sent, which counts
        then; in any other only if that is the order of AWS.
        """

        class SignerAsSent(S3SigV4Auth):
            """
            A signer that leaves a query as it is.
            """

            def canonical_query_string(self, request: AWSRequest) -> str:
                """
                Give the query.
                """
                return urlsplit(request.url).query

        sent = "events=b&events=c&events=a&prefix="
        unsigned = request("GET", "k", sent)
        SignerAsSent(CREDENTIALS, "s3", "us-east-1").add_auth(unsigned)
        head = seen(unsigned)
        now = parse_timestamp(head.header("x-amz-date") or "")
        assert now is not None
        check(head, now)
        first, second, third, prefix = head.query
        check(evolve(head, query=(prefix, first, second, third)), now)
        for query in ((first, third, second, prefix), (third, first, second, prefix)):
            with self.assertRaises(Refused):
                check(evolve(head, query=query), now)

    def test_taken_away(self) -> None:
        """
        A signed header about the connection or the length that a proxy took away counts as what
        it must have been.
        """
        value = authorization(f"content-length;expect;transfer-encoding;{NAMES}", SIGNATURE)
        head = with_header(GET_OBJECT, "authorization", value)
        claim = read_authorization(head, None, NOW)
        line = canonical_request(head, claim.signed_headers, "", "")
        self.assertIn(
            b"\ncontent-length:0\nexpect:100-continue\ntransfer-encoding:chunked\nhost:", line
        )

    def test_unsigned_header(self) -> None:
        """
        Headers without the AWS prefix, and those that CloudFront and tracing add, need no
        signature.
        """
        for name in ("if-match", "x-amz-cf-id", "x-amzn-trace-id"):
            check(with_header(GET_OBJECT, name, "x"))

    def test_http_date(self) -> None:
        """
        Without ``x-amz-date`` the ``Date`` header counts, in each form of HTTP.
        """
        for text in (
            "Fri, 24 May 2013 00:00:00 GMT",
            "Friday, 24-May-13 00:00:00 GMT",
            "Fri May 24 00:00:00 2013",
            "Fri, 24 May 2013 00:00:00 -0000",
            "20130524T000000Z",
        ):
            head = with_header(with_header(GET_OBJECT, "x-amz-date", None), "date", text)
            names = NAMES.replace("x-amz-date", "date")
            value = authorization(names, SIGNATURE)
            claim = read_authorization(with_header(head, "authorization", value), None, NOW)
            self.assertEqual(claim.timestamp, "20130524T000000Z", text)

    def test_access_key_with_slashes(self) -> None:
        """
        The access key may hold slashes.
        """
        value = authorization(NAMES, SIGNATURE, "a/b/c/20130524/us-east-1/s3/aws4_request")
        claim = read_authorization(with_header(GET_OBJECT, "authorization", value), None, NOW)
        self.assertEqual(claim.access_key, "a/b/c")

    def test_blanks(self) -> None:
        """
        Blanks may stand after the commas of the header, and inner runs of them count as one.
        """
        value = authorization(NAMES, SIGNATURE).replace(",", " , ")
        check(with_header(GET_OBJECT, "authorization", value))
        line = canonical_request(
            with_header(GET_OBJECT, "x-amz-meta-a", "a  b\t c\xa0\xa0d"),
            ("x-amz-meta-a",),
            "",
            "",
        )
        self.assertIn(b"x-amz-meta-a:a b c\xa0\xa0d\n", line)


class RefusedTests(SyncCase):
    """
    Requests that fail a check.
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

    def test_components(self) -> None:
        """
        Exactly the three components must be there.
        """
        good = authorization(NAMES, SIGNATURE)
        for value in (
            "AWS4-HMAC-SHA256 x",
            "AWS4-HMAC-SHA256 ",
            good.partition(",Signature")[0],
            good + ",Signature=" + SIGNATURE,
            good + ",More=1",
            good.replace("SignedHeaders", "Signedheaders"),
            authorization(NAMES, ""),
            authorization("", SIGNATURE),
        ):
            self.refused(
                with_header(GET_OBJECT, "authorization", value),
                "AuthorizationHeaderMalformed",
                "requires three components",
            )

    def test_credential(self) -> None:
        """
        Each part of the credential is checked.
        """
        for credential, text in (
            ("AK", "mal-formed"),
            ("AK/20130524/us-east-1/s3", "mal-formed"),
            ("/20130524/us-east-1/s3/aws4_request", "mal-formed"),
            ("AK/20130524/us\xe9ast-1/s3/aws4_request", "mal-formed"),
            ("AK/20130524/us-east-1/s3/aws5_request", 'incorrect terminal "aws5_request"'),
            ("AK/20130524/us-east-1/ec2/aws4_request", 'incorrect service "ec2"'),
            ("AK/2013-05-24/us-east-1/s3/aws4_request", "incorrect date format"),
            ("AK/20130524/us-west-1/s3/aws4_request", 'the region "us-west-1" is wrong'),
            ("AK/20130525/us-east-1/s3/aws4_request", "Invalid credential date"),
        ):
            value = authorization(NAMES, SIGNATURE, credential)
            self.refused(
                with_header(GET_OBJECT, "authorization", value),
                "AuthorizationHeaderMalformed",
                text,
            )

    def test_date(self) -> None:
        """
        There must be a time that can be read.
        """
        for name, value in (
            ("x-amz-date", None),
            ("x-amz-date", "20130524T000000"),
            ("x-amz-date", "20131324T000000Z"),
            ("x-amz-date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-date", "\xb2" * 8 + "T000000Z"),
            ("x-amz-date", "20130524T000000Z,20130524T000000Z"),
        ):
            self.refused(with_header(GET_OBJECT, name, value), "AccessDenied", "valid Date")

    @given(st.text(st.characters(max_codepoint=255), max_size=40))
    def test_any_date(self, text: str) -> None:
        """
        Whatever stands in ``Date``, the answer is a refusal.
        """
        head = with_header(with_header(GET_OBJECT, "x-amz-date", None), "date", text)
        with self.assertRaises(Refused):
            check(head)

    @given(st.text(st.characters(max_codepoint=255), max_size=60))
    def test_any_authorization(self, text: str) -> None:
        """
        Whatever stands in ``Authorization``, the answer is a refusal.
        """
        with self.assertRaises(Refused):
            check(with_header(GET_OBJECT, "authorization", "AWS4-HMAC-SHA256 " + text))

    def test_skew(self) -> None:
        """
        Clocks may be 15 minutes apart, not more.
        """
        for now in (NOW - 900, NOW + 900):
            check(GET_OBJECT, now)
        for now in (NOW - 901, NOW + 901):
            error = self.refused(GET_OBJECT, "RequestTimeTooSkewed", "too large", now)
            self.assertEqual(error.fields["ServerTime"], server_time(now))
            self.assertEqual(error.fields["MaxAllowedSkewMilliseconds"], "900000")

    def test_unsigned(self) -> None:
        """
        An AWS header outside of the signature is refused by name.
        """
        head = with_header(GET_OBJECT, "x-amz-copy-source", "/a/b")
        error = self.refused(
            with_header(head, "x-amz-acl", "private"), "AccessDenied", "not signed"
        )
        self.assertEqual(error.fields, {"HeadersNotSigned": "x-amz-acl, x-amz-copy-source"})
        head = with_header(GET_OBJECT, "x-minio-force-delete", "true")
        error = self.refused(head, "AccessDenied", "not signed")
        self.assertEqual(error.fields, {"HeadersNotSigned": "x-minio-force-delete"})

    def test_host_unsigned(self) -> None:
        """
        The host must be signed.
        """
        value = authorization(NAMES.removeprefix("host;"), SIGNATURE)
        error = self.refused(
            with_header(GET_OBJECT, "authorization", value), "AccessDenied", "not signed"
        )
        self.assertEqual(error.fields, {"HeadersNotSigned": "host"})

    def test_signed_header_absent(self) -> None:
        """
        A header that is signed and was not sent makes another request.
        """
        self.refused(
            with_header(GET_OBJECT, "range", None), "SignatureDoesNotMatch", "does not match"
        )

    def test_signed_twice(self) -> None:
        """
        A header that is named twice is refused before anything is computed from it: the answer
        does not grow.
        """
        for names in (f"{NAMES};range", ";".join([NAMES, *["a"] * 5000])):
            head = evolve(GET_OBJECT, headers=(*GET_OBJECT.headers, *[("a", "")] * 5000))
            value = authorization(names, SIGNATURE)
            error = self.refused(
                with_header(head, "authorization", value), "SignatureDoesNotMatch", ""
            )
            self.assertNotIn("CanonicalRequest", error.fields)

    def test_signature(self) -> None:
        """
        Every part of the request is covered; the answer shows what was signed.
        """
        for head in (
            evolve(GET_OBJECT, method="PUT"),
            evolve(GET_OBJECT, path="/test.txt2"),
            evolve(GET_OBJECT, query=(("acl", ""),)),
            with_header(GET_OBJECT, "range", "bytes=0-8"),
            with_header(GET_OBJECT, "host", "example"),
            with_header(GET_OBJECT, "authorization", authorization(NAMES, "é")),
            with_header(PUT_OBJECT, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            evolve(GET_OBJECT, headers=(*GET_OBJECT.headers, ("range", "bytes=0-1"))),
        ):
            error = self.refused(head, "SignatureDoesNotMatch", "does not match")
            self.assertTrue(error.fields["StringToSign"].startswith("AWS4-HMAC-SHA256\n2013"))
            self.assertTrue(error.fields["CanonicalRequest"].startswith(head.method))
            self.assertNotIn(IDENTITY.secret_key, repr(error))

    def test_customer_key(self) -> None:
        """
        A canonical request that holds a key of the customer is shown to nobody.
        """
        name = "x-amz-server-side-encryption-customer-key"
        head = with_header(GET_OBJECT, name, "c2VjcmV0")
        value = authorization(f"{NAMES};{name}", SIGNATURE)
        error = self.refused(with_header(head, "authorization", value), "SignatureDoesNotMatch", "")
        self.assertNotIn("CanonicalRequest", error.fields)
        self.assertNotIn("c2VjcmV0", repr(error))


class KeyTests(SyncCase):
    """
    Signing keys.
    """

    def test_apart(self) -> None:
        """
        Another secret, day or region gives another key; the same ones give the same.
        """
        scopes = [Scope("20130524", "a"), Scope("20130525", "a"), Scope("20130524", "b")]
        keys = {signing_key(secret, scope) for secret in ("x", "y") for scope in scopes}
        self.assertEqual(len(keys), 6)
        self.assertEqual(signing_key("x", scopes[0]), signing_key("x", Scope("20130524", "a")))

    def test_bounded(self) -> None:
        """
        The number of keys remembered is bounded.
        """
        for number in range(600):
            signing_key("x", Scope("20130524", str(number)))
        self.assertLessEqual(signing_key.cache_info().currsize, 256)

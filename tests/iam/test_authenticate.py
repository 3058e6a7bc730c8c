# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the authentication of requests.
"""

from attrs import evolve, frozen
from twisted.internet.task import Clock
from zope.interface import implementer

from kypello.auth.mode import PayloadMode
from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import Scope, sign, signing_key
from kypello.errors import Refused
from kypello.iam.authenticate import Authenticator
from kypello.interfaces import IIdentities
from kypello.model import Identity
from tests.auth.clients import presign, request, sign_header
from tests.auth.examples import CHUNKED, GET_OBJECT, IDENTITY, NOW, PRESIGNED, TRAILED
from tests.cases import AsyncCase


@implementer(IIdentities)
@frozen
class OneIdentity:
    """
    The signer of the examples and nobody else.
    """

    async def identity(self, access_key: str) -> Identity | None:
        """
        Look up an access key.
        """
        return IDENTITY if access_key == IDENTITY.access_key else None


def authenticator(now: float = NOW, region: str | None = None) -> Authenticator:
    """
    An authenticator at a moment.
    """
    clock = Clock()
    clock.advance(now)
    return Authenticator(OneIdentity(), region, clock)


def anonymous(*headers: tuple[str, str], query: tuple[tuple[str, str], ...] = ()) -> RequestHead:
    """
    A PUT without signature.
    """
    return RequestHead("PUT", "/b/k", query, (("host", "h"), *headers))


def added(head: RequestHead, *headers: tuple[str, str]) -> RequestHead:
    """
    The same request with more headers.
    """
    return evolve(head, headers=(*head.headers, *headers))


class AcceptedTests(AsyncCase):
    """
    Requests whose sender is known.
    """

    async def test_anonymous(self) -> None:
        """
        A request without signature is from nobody; it may have unsigned chunks.
        """
        result = await authenticator().authenticate(anonymous())
        self.assertIsNone(result.identity)
        self.assertEqual(result.mode, PayloadMode())
        head = anonymous(("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"))
        result = await authenticator().authenticate(head)
        self.assertEqual(result.mode, PayloadMode(chunked=True, trailer=True))

    async def test_header(self) -> None:
        """
        A signed header tells the identity and the digest of the body.
        """
        result = await authenticator(region="us-east-1").authenticate(GET_OBJECT)
        self.assertEqual(result.identity, IDENTITY)
        self.assertIs(result.head, GET_OBJECT)
        self.assertEqual(result.mode.sha256, GET_OBJECT.header("x-amz-content-sha256"))

    async def test_chunks(self) -> None:
        """
        Signed chunks are chained to the signature of the request.
        """
        for head, trailer in ((CHUNKED, False), (TRAILED, True)):
            mode = (await authenticator().authenticate(head)).mode
            self.assertTrue(mode.chunked)
            self.assertEqual(mode.trailer, trailer)
            assert mode.seed is not None
            self.assertIn(mode.seed.signature, head.header("authorization") or "")

    async def test_presigned(self) -> None:
        """
        A presigned URL tells the identity; its settings become headers.
        """
        result = await authenticator().authenticate(PRESIGNED)
        self.assertEqual(result.identity, IDENTITY)
        self.assertEqual(result.mode, PayloadMode())
        head, now = presign(request("PUT", "k", "x-amz-tagging=a%3Db"))
        result = await authenticator(now).authenticate(head)
        self.assertEqual(result.head.header("x-amz-tagging"), "a=b")

    async def test_presigned_digest(self) -> None:
        """
        A digest in the signed query is enforced; it cannot be added later.
        """
        digest = "ab" * 32
        head = evolve(PRESIGNED, query=(*PRESIGNED.query, ("X-Amz-Content-Sha256", digest)))
        with self.assertRaises(Refused) as caught:
            await authenticator().authenticate(head)
        self.assertEqual(caught.exception.code, "SignatureDoesNotMatch")
        text = caught.exception.fields["StringToSign"]
        signature = sign(signing_key(IDENTITY.secret_key, Scope("20130524", "us-east-1")), text)
        query = {**dict(head.query), "X-Amz-Signature": signature}
        result = await authenticator().authenticate(evolve(head, query=tuple(query.items())))
        self.assertEqual(result.mode, PayloadMode(sha256=digest))

    async def test_region_unknown(self) -> None:
        """
        Who asks for the region of a bucket may sign with any.
        """
        for method, key, query in (("GET", "", "location"), ("HEAD", "", "")):
            head, now = sign_header(request(method, key, query), "nowhere")
            await authenticator(now, "us-east-1").authenticate(head)
        for method, key in (("GET", ""), ("HEAD", "k")):
            head, now = sign_header(request(method, key), "nowhere")
            with self.assertRaises(Refused) as caught:
                await authenticator(now, "us-east-1").authenticate(head)
            self.assertEqual(caught.exception.code, "AuthorizationHeaderMalformed")


class RefusedTests(AsyncCase):
    """
    Requests that are refused.
    """

    async def refused(
        self, head: RequestHead, code: str, text: str = "", now: float = NOW
    ) -> Refused:
        """
        Assert the error of a request.
        """
        with self.assertRaises(Refused) as caught:
            await authenticator(now).authenticate(head)
        self.assertEqual(caught.exception.code, code, head)
        self.assertIn(text, caught.exception.message)
        return caught.exception

    async def test_two_ways(self) -> None:
        """
        Whoever authenticates in two ways is refused, whatever the payload mode.
        """
        authorization = ("authorization", GET_OBJECT.header("authorization") or "")
        for head in (
            added(PRESIGNED, authorization),
            added(GET_OBJECT, authorization),
            evolve(GET_OBJECT, query=(("X-Amz-Credential", "x"),)),
            evolve(TRAILED, query=(("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),)),
            evolve(GET_OBJECT, query=(("AWSAccessKeyId", "x"),)),
            evolve(PRESIGNED, query=(*PRESIGNED.query, ("Signature", "x"))),
        ):
            await self.refused(head, "InvalidArgument", "Only one auth mechanism")

    async def test_unsigned_trailer_needs_signature(self) -> None:
        """
        An access key in the query without a good signature opens nothing, with unsigned chunks
        neither.
        """
        mode = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        credential = (
            "X-Amz-Credential",
            f"{IDENTITY.access_key}/20130524/us-east-1/s3/aws4_request",
        )
        head = anonymous(mode, query=(credential,))
        await self.refused(head, "AuthorizationQueryParametersError")
        signed = tuple(
            (name, "host;x-amz-content-sha256" if name == "X-Amz-SignedHeaders" else value)
            for name, value in PRESIGNED.query
        )
        await self.refused(anonymous(mode, query=signed), "SignatureDoesNotMatch")

    async def test_other_schemes(self) -> None:
        """
        Other schemes, other versions and malformed headers each have their answer.
        """
        for value, code, text in (
            ("", "AccessDenied", ""),
            ("AWS4-HMAC-SHA256", "InvalidArgument", "one and only one ' '"),
            ("Basic YTpi", "InvalidArgument", "Unsupported Authorization Type"),
            ("Bearer x", "InvalidArgument", "Unsupported Authorization Type"),
            ("AWS4-ECDSA-P256-SHA256 Credential=x", "InvalidRequest", "not supported"),
            ("AWS4-HMAC-SHA256 x", "AuthorizationHeaderMalformed", "three components"),
            ("AWS ak:sig", "InvalidRequest", "Please use AWS4-HMAC-SHA256"),
        ):
            await self.refused(anonymous(("authorization", value)), code, text)
        for name in ("AWSAccessKeyId", "Signature"):
            await self.refused(anonymous(query=((name, "x"),)), "AccessDenied", "requires")

    async def test_access_key(self) -> None:
        """
        An unknown access key is told so.
        """
        value = (GET_OBJECT.header("authorization") or "").replace("AKIA", "AKIB")
        head = evolve(
            GET_OBJECT,
            headers=tuple(
                (name, value if name == "authorization" else old)
                for name, old in GET_OBJECT.headers
            ),
        )
        error = await self.refused(head, "InvalidAccessKeyId", "does not exist")
        self.assertEqual(error.fields, {"AWSAccessKeyId": "AKIBIOSFODNN7EXAMPLE"})

    async def test_token(self) -> None:
        """
        A session token with permanent credentials is refused.
        """
        head, now = sign_header(request("GET", "k", headers={"x-amz-security-token": "t"}))
        await self.refused(head, "InvalidToken", now=now)
        head = evolve(PRESIGNED, query=(*PRESIGNED.query, ("X-Amz-Security-Token", "t")))
        await self.refused(head, "InvalidToken")

    async def test_payload_header(self) -> None:
        """
        A signed request must say what its body is, and any request in words that we know.
        """
        names = "host;range;x-amz-date"
        head = evolve(
            GET_OBJECT,
            headers=tuple(
                (name, value.replace("host;range;x-amz-content-sha256;x-amz-date", names))
                for name, value in GET_OBJECT.headers
                if name != "x-amz-content-sha256"
            ),
        )
        await self.refused(head, "InvalidRequest", "x-amz-content-sha256")
        await self.refused(
            anonymous(("x-amz-content-sha256", "")), "InvalidArgument", "must be UNSIGNED"
        )

    async def test_anonymous_signed_chunks(self) -> None:
        """
        Nobody can sign chunks without signing the request.
        """
        head = anonymous(("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"))
        await self.refused(head, "InvalidRequest", "Anonymous requests")

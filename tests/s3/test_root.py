# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.root`` and ``kypello.s3.routes``, over the wire.
"""

import re
from urllib.parse import quote, urlencode

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from kypello.errors import KypelloError, StorageFailed, StorageFull
from kypello.http.brake import LOOK, Brake
from kypello.interfaces import IObjectStore
from kypello.model import BucketInfo
from kypello.s3.root import S3Resource
from kypello.testing.harness import Harness
from tests.s3.front import FrontCase, presigned, presigned_plainly, signed
from tests.s3.rules import Rule


class AnswerTests(FrontCase):
    """
    What every answer has.
    """

    def test_standing_headers(self) -> None:
        """
        Successes and errors of all kinds are named and dated.
        """
        self.put("k")
        seen = set()
        for method, target, headers in (
            ("GET", "/", {}),
            ("GET", "/bucket/k", {}),
            ("GET", "/bucket/k", {"If-None-Match": "*"}),
            ("HEAD", "/bucket/absent", {}),
            ("PATCH", "/bucket/k", {}),
            ("DELETE", "/bucket/k", {}),
            ("GET", "/minio/health/live", {}),
            ("GET", "/%zz", {}),
        ):
            answer = self.send(method, target, headers=headers)
            request_id = answer.header("x-amz-request-id")
            self.assertRegex(request_id or "", "^[0-9A-F]{16}$")
            seen.add(request_id)
            self.assertEqual(answer.header("x-amz-id-2"), "kypello")
            self.assertEqual(answer.header("Server"), "Kypello")
            self.assertTrue(answer.header("Date"))
            self.assertEqual(answer.header("Vary"), "Origin, Accept-Encoding")
            self.assertEqual(answer.header("X-Content-Type-Options"), "nosniff")
            self.assertIsNone(answer.header("Strict-Transport-Security"))
        self.assertEqual(len(seen), 8)

    def test_no_request(self) -> None:
        """
        What cannot be read as a request is refused in the same form.
        """
        for sent, code in (
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"BadRequest"),
            (b"GET /%b HTTP/1.1\r\n" % (b"a" * 40_000), b"RequestHeaderSectionTooLarge"),
        ):
            client = self.harness.connect()
            client.send(sent)
            head, _, body = client.take().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 400 Bad Request\r\n"), head)
            self.assertIn(b"\r\nContent-Type: application/xml\r\n", head)
            self.assertIn(b"\r\nx-amz-id-2: kypello\r\n", head)
            (request_id,) = re.findall(rb"\r\nx-amz-request-id: ([0-9A-F]{16})\r\n", head)
            self.assertIn(b"<Code>%b</Code>" % code, body)
            self.assertIn(b"<RequestId>%b</RequestId>" % request_id, body)


class RouteTests(FrontCase):
    """
    Which requests are which operations.
    """

    def setUp(self) -> None:
        """
        Store an object.
        """
        super().setUp()
        self.put("k")

    def test_unknown_parameters(self) -> None:
        """
        Parameters without a meaning mean nothing.
        """
        self.assertEqual(self.send("GET", "/bucket/k?foo&x-id=GetObject").body, b"content")
        self.send("GET", "/bucket?foo=bar&ACL", status=200)

    def test_methods(self) -> None:
        """
        A method that a level does not know is refused, and those that it knows are told.
        """
        for method, target, kind, allowed in (
            ("PATCH", "/bucket/k", "OBJECT", "DELETE, GET, HEAD, PUT"),
            ("POST", "/bucket/k", "OBJECT", "DELETE, GET, HEAD, PUT"),
            ("PUT", "/", "SERVICE", "GET"),
            ("DELETE", "/", "SERVICE", "GET"),
            ("GET", "/bucket?delete", "BUCKET", "POST"),
        ):
            answer = self.send(method, target)
            tree = self.assert_refused(answer, 405, "MethodNotAllowed")
            self.assertEqual(tree.findtext("Method"), method)
            self.assertEqual(tree.findtext("ResourceType"), kind)
            self.assertEqual(answer.header("Allow"), allowed)

    def test_unsupported(self) -> None:
        """
        What is known and not offered is never taken for anything else.
        """
        bucket = (
            "abac", "analytics", "intelligent-tiering", "inventory",
            "metadataConfiguration", "metadataTable", "metrics", "session",
        )  # fmt: skip
        for name in bucket:
            for method in ("GET", "PUT", "DELETE"):
                self.refused(method, f"/bucket?{name}", 501, "NotImplemented")
        for name in (
            "annotation", "renameObject", "restore", "select", "torrent",
            "select&select-type=2",
        ):  # fmt: skip
            for method in ("GET", "PUT", "POST", "DELETE"):
                self.refused(method, f"/bucket/k?{name}", 501, "NotImplemented")
        for method in ("PUT", "DELETE"):
            self.refused(method, "/bucket/k?uploads", 501, "NotImplemented")
            self.refused(method, "/bucket?uploads", 501, "NotImplemented")
        self.refused("PUT", "/bucket/k?versionId=null", 400, "InvalidArgument")
        self.refused("GET", "/bucket/k?tagging&versionId=x", 400, "InvalidArgument")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"content")

    def test_mistakes(self) -> None:
        """
        Some requests are mistakes that S3 has words for.
        """
        self.refused("GET", "/bucket/k?uploads", 400, "InvalidRequest")
        self.refused("GET", "/bucket/k?versions", 400, "InvalidRequest")
        self.refused("PUT", "/bucket/k?partNumber=1", 400, "InvalidArgument")
        tree = self.refused("POST", "/bucket", 412, "PreconditionFailed")
        self.assertIn("multipart/form-data", tree.findtext("Condition") or "")
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        self.refused("POST", "/bucket", 400, "InvalidArgument", headers=headers)

    def test_encoding(self) -> None:
        """
        A query that is no UTF-8 is refused once it is known to be signed.
        """
        for query in ("prefix=%FF", "%FF=x", "%ED%A0%80"):
            self.refused("GET", f"/bucket?{query}", 400, "InvalidURI")

    def test_reserved(self) -> None:
        """
        The bucket that is the server cannot be used.
        """
        for target in ("/minio", "/minio/", "/minio/admin/v3/info", "/minio/k"):
            for method in ("GET", "PUT"):
                self.refused(method, target, 403, "AllAccessDisabled")


class FrozenTests(FrontCase):
    """
    A front with a brake.
    """

    def setUp(self) -> None:
        """
        Serve one.
        """
        super().setUp()
        self.brake = Brake(self.clock)
        front = evolve(self.front, brake=self.brake)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)

    def test_frozen(self) -> None:
        """
        Requests wait while it is pulled, and go on when it is released; health is told.
        """
        self.brake.pull()
        lines = signed("GET", "/bucket", {}, b"")
        waiting = self.harness.request("GET", "/bucket", lines)
        self.clock.advance(LOOK)
        self.assertNoResult(waiting)
        self.assertEqual(self.plainly("GET", "/minio/health/live", []).status, 200)
        self.brake.release()
        self.clock.advance(LOOK)
        self.assertEqual(self.successResultOf(waiting).status, 200)

    def test_end(self) -> None:
        """
        Who waits in a process that ends is told to come again.
        """
        self.brake.pull()
        waiting = self.harness.request("GET", "/bucket", signed("GET", "/bucket", {}, b""))
        self.brake.end()
        self.clock.advance(LOOK)
        self.assertEqual(self.successResultOf(waiting).status, 503)


class AdmissionTests(FrontCase):
    """
    Who may do what.
    """

    def test_anonymous(self) -> None:
        """
        Nobody may do anything without a signature.
        """
        self.put("k")
        for method, target in (
            ("GET", "/"),
            ("GET", "/bucket"),
            ("PUT", "/new"),
            ("GET", "/bucket/k"),
            ("PUT", "/bucket/k"),
            ("DELETE", "/bucket/k"),
            ("GET", "/bucket/k?acl"),
            ("GET", "/bucket?location"),
            ("PUT", "/bucket?encryption"),
            ("GET", "/bucket/k?response-content-type=x"),
        ):
            answer = self.plainly(method, target, [])
            self.assert_refused(answer, 403, "AccessDenied")
        self.assert_refused(self.plainly("GET", "/absent", []), 404, "NoSuchBucket")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"content")

    def test_forged(self) -> None:
        """
        A signature of somebody else, or of something else, is refused before all else.
        """
        lines = signed("GET", "/bucket/k", {}, b"")
        answer = self.plainly("GET", "/bucket/other", lines)
        self.assert_refused(answer, 403, "SignatureDoesNotMatch")
        lines = [(name, value.replace("root-user", "nobody")) for name, value in lines]
        answer = self.plainly("GET", "/bucket/k", lines)
        self.assert_refused(answer, 403, "InvalidAccessKeyId")
        self.clock.advance(3600)
        self.refused("GET", "/bucket/k", 403, "RequestTimeTooSkewed")

    def test_version_2(self) -> None:
        """
        What the AWS tools presign by default is admitted, with the settings in the query.
        """
        sse = {"x-amz-server-side-encryption": "AES256", "x-amz-meta-a": "b"}
        answer = self.plainly("PUT", presigned_plainly("PUT", "/bucket/k", sse), [], b"content")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.header("x-amz-server-side-encryption"), "AES256")
        target = presigned_plainly("GET", "/bucket/k?response-content-type=text%2Fhtml&x-id=y")
        answer = self.plainly("GET", target, [])
        self.assertEqual((answer.status, answer.body), (200, b"content"))
        self.assertEqual(answer.header("Content-Type"), "text/html")
        self.assertEqual(answer.header("x-amz-meta-a"), "b")
        target = presigned_plainly("GET", "/bucket?list-type=2&prefix=x")
        answer = self.plainly("GET", target, [])
        self.assertEqual((answer.status, answer.body.count(b"<Contents>")), (200, 0))
        for method, status in (("HEAD", 200), ("DELETE", 204)):
            target = presigned_plainly(method, "/bucket/k")
            self.assertEqual(self.plainly(method, target, []).status, status)

    def test_settings_in_queries(self) -> None:
        """
        A setting in a signed query may make another operation of a request: a copy.
        """
        self.put("k")
        source = {"x-amz-copy-source": "/bucket/k"}
        query = urlencode(source)
        for target in (
            presigned("PUT", f"/bucket/copy?{query}"),
            presigned_plainly("PUT", "/bucket/copy", source),
        ):
            answer = self.plainly("PUT", target, [])
            self.assertEqual(answer.status, 200, answer.body)
            self.assertIn(b"<CopyObjectResult", answer.body)
            self.assertEqual(self.send("GET", "/bucket/copy").body, b"content")
            self.send("DELETE", "/bucket/copy", status=204)
        added = presigned("PUT", "/bucket/copy") + f"&{query}"
        self.assert_refused(self.plainly("PUT", added, []), 403, "SignatureDoesNotMatch")
        added = presigned_plainly("PUT", "/bucket/copy") + f"&{query}"
        self.assert_refused(self.plainly("PUT", added, []), 403, "SignatureDoesNotMatch")
        for target in (presigned("PUT", "/bucket/c"), presigned_plainly("PUT", "/bucket/c")):
            self.assertEqual(self.plainly("PUT", target, list(source.items())).status, 403)

    def test_anonymous_overrides(self) -> None:
        """
        Strangers may read what is public, and not choose the headers of the answer.
        """
        self.put("k")
        front = evolve(self.front, authorizer=Rule(lambda identity, action, resource: True))
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.assertEqual(self.plainly("GET", "/bucket/k", []).body, b"content")
        answer = self.plainly("GET", "/bucket/k?response-content-type=text%2Fhtml", [])
        self.assert_refused(answer, 400, "InvalidRequest")

    def test_version_2_covers_little(self) -> None:
        """
        A URL of version 2 cannot be made one for another operation, nor for chunks.
        """
        for method, target in (
            ("PUT", "/other?encryption"),
            ("DELETE", "/bucket?encryption"),
            ("GET", "/bucket?ownershipControls"),
            ("DELETE", "/bucket/k?attributes"),
        ):
            level, _, parameter = target.partition("?")
            added = f"{presigned_plainly(method, level)}&{parameter}"
            for sent in (added, presigned_plainly(method, target)):
                status = 501 if "attributes" in target else 403
                self.assertEqual(self.plainly(method, sent, [], b"").status, status)
        self.send("HEAD", "/bucket", status=200)
        chunks = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
        target = presigned_plainly("PUT", "/bucket/k", chunks)
        self.assert_refused(self.plainly("PUT", target, [], b"x"), 400, "InvalidRequest")

    def test_refused_early(self) -> None:
        """
        The body of a request that is refused is not asked for.
        """
        client = self.harness.connect()
        client.send(
            b"PUT /bucket/k HTTP/1.1\r\nHost: kypello.test\r\nContent-Length: 1000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        received = client.take()
        self.assertTrue(received.startswith(b"HTTP/1.1 403 "), received)
        self.assertNotIn(b"100 Continue", received)

    def test_continue(self) -> None:
        """
        The body of a request that is admitted is asked for.
        """
        client = self.harness.connect()
        target = presigned("PUT", "/bucket/k").encode()
        client.send(
            b"PUT %b HTTP/1.1\r\nHost: kypello.test\r\nContent-Length: 5\r\n"
            b"Expect: 100-continue\r\n\r\n" % target
        )
        self.assertTrue(client.take().startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))
        client.send(b"hello")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 200 "))

    def test_continue_with_nothing(self) -> None:
        """
        A client that has nothing to send is told to go on, if it expects that, and answered.
        """
        for method, target in (("PUT", "/bucket/empty"), ("PUT", "/new"), ("GET", "/bucket")):
            client = self.harness.connect()
            line = f"{method} {presigned(method, target)} HTTP/1.1\r\nHost: kypello.test\r\n"
            client.send(f"{line}Content-Length: 0\r\nExpect: 100-continue\r\n\r\n".encode())
            interim, _, final = client.take().partition(b"\r\n\r\n")
            self.assertEqual(interim, b"HTTP/1.1 100 Continue", target)
            self.assertTrue(final.startswith(b"HTTP/1.1 200 "), target)


@implementer(IObjectStore)
class FailingStore:
    """
    A store whose every call fails.
    """

    def __init__(self, error: Exception) -> None:
        """
        Fail with *error*.
        """
        self._error = error

    async def bucket(self, _name: str) -> BucketInfo:
        """
        Look up no bucket.
        """
        raise self._error


class FailureTests(FrontCase):
    """
    Failures of the server's own.
    """

    def failing(self, error: Exception) -> None:
        """
        Let the store fail.
        """
        front = evolve(self.front, store=FailingStore(error))
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.events: list[object] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_storage(self) -> None:
        """
        Clients are told to come again when the storage fails, and the reason is logged once.
        """
        self.failing(StorageFailed("device is gone"))
        answer = self.send("HEAD", "/bucket", status=503)
        self.assertEqual(answer.header("X-Minio-Error-Code"), "ServiceUnavailable")
        self.assertEqual(str(self.events).count("device is gone"), 1)
        self.failing(StorageFull())
        self.send("HEAD", "/bucket", status=507)

    def test_unknown(self) -> None:
        """
        What nobody expected is an internal error that tells nothing, and is logged once.
        """
        self.failing(ZeroDivisionError("secret"))
        answer = self.send("GET", "/bucket?location")
        self.assert_refused(answer, 500, "InternalError")
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_new_error(self) -> None:
        """
        A domain error without a word of its own is an internal error.
        """
        self.failing(KypelloError())
        self.assert_refused(self.send("GET", "/bucket?location"), 500, "InternalError")


_HEADERS = (
    "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
    "Content-Type", "Content-MD5", "Content-Encoding", "x-amz-checksum-crc32",
    "x-amz-checksum-mode", "x-amz-server-side-encryption", "x-amz-storage-class",
    "x-amz-meta-a", "x-amz-object-ownership", "x-amz-website-redirect-location", "x-amz-trailer",
    "x-amz-sdk-checksum-algorithm", "Expires",
    "origin", "access-control-request-method", "access-control-request-headers",
)  # fmt: skip
_PARAMETERS = (
    "acl", "cors", "delete", "encryption", "location", "tagging", "uploads", "versions", "max-keys",
    "prefix", "delimiter", "marker", "key-marker", "list-type", "continuation-token",
    "start-after", "encoding-type", "versionId", "partNumber", "max-buckets",
    "response-content-type", "response-expires", "fetch-owner",
)  # fmt: skip
_values = st.one_of(
    st.sampled_from(["", "1", "2", "-1", "*", "bytes=0-1", "AES256", "url", "null", "AAAAAA=="]),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f")),
)


class AnyInputTests(FrontCase):
    """
    Requests that make no sense.
    """

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]),
        st.sampled_from(["/", "/bucket", "/bucket/k", "/bucket/empty", "/new"]),
        st.dictionaries(st.sampled_from(_PARAMETERS), _values, max_size=3),
        st.dictionaries(st.sampled_from(_HEADERS), _values, max_size=3),
        st.sampled_from(
            [b"", b"x", b"<Delete/>", b"<Delete><Object><Key>k</Key></Object></Delete>"]
        ),
    )
    def test_no_internal_error(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        """
        Whatever a client signs and sends, it is answered, and never with an internal error.
        """
        self.put("k")
        self.put("empty", b"")
        target = f"{path}?{urlencode(query, quote_via=quote)}"
        trimmed = {name: " ".join(value.split()) for name, value in headers.items()}
        answer = self.send(method, target, body, trimmed)
        self.assertNotIn(answer.status, (500, 503), answer.body)
        self.assertTrue(answer.header("x-amz-request-id"))
        self.send("PUT", "/bucket")

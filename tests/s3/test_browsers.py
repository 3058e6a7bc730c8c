# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.browsers``, over the wire.
"""

from urllib.parse import urlencode

from kypello.testing.harness import Answer
from tests.s3.front import FrontCase, presigned
from tests.s3.test_cors import ANYBODY, FULL, PAGE, configuration, rule

_VARY = "Origin, Accept-Encoding, Access-Control-Request-Headers, Access-Control-Request-Method"


class PageCase(FrontCase):
    """
    A test that asks as a browser does.
    """

    def ask(
        self, target: str, origin: str | None = PAGE, method: str | None = "PUT", headers: str = ""
    ) -> Answer:
        """
        Ask whether a page may send a request.
        """
        lines = [
            (name, text)
            for name, text in (
                ("Origin", origin),
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", headers or None),
            )
            if text is not None
        ]
        return self.plainly("OPTIONS", target, lines)

    def assert_silent(self, answer: Answer) -> None:
        """
        See that an answer says nothing to browsers.
        """
        names = [name.decode().lower() for name, _values in answer.headers.getAllRawHeaders()]
        self.assertFalse([name for name in names if name.startswith("access-control-")])


class PreflightTests(PageCase):
    """
    What a browser is told before it sends a request.
    """

    def test_rules(self) -> None:
        """
        The first rule that allows all of it decides, without a signature and for keys that are not
        there.
        """
        self.send("PUT", "/bucket?cors", configuration(FULL, ANYBODY), status=200)
        for target in ("/bucket", "/bucket/absent", "/bucket/k?uploadId=u&partNumber=1"):
            answer = self.ask(target, headers="X-Amz-Date, content-type,")
            self.assertEqual((answer.status, answer.body), (200, b""))
            for name, expected in (
                ("Access-Control-Allow-Origin", PAGE),
                ("Access-Control-Allow-Methods", "PUT, GET"),
                ("Access-Control-Allow-Headers", "x-amz-date, content-type"),
                ("Access-Control-Expose-Headers", "ETag, x-amz-version-id"),
                ("Access-Control-Max-Age", "3000"),
                ("Access-Control-Allow-Credentials", "true"),
                ("Vary", _VARY),
                ("Content-Length", "0"),
            ):
                self.assertEqual(answer.header(name), expected, name)
            self.assertTrue(answer.header("x-amz-request-id"))
        many = ",".join(f"x-amz-{number}" for number in range(100))
        self.assertEqual(self.ask("/bucket", headers=f"{many},{many}").status, 200)
        answer = self.ask("/bucket", method="HEAD")
        self.assertEqual(answer.header("Access-Control-Allow-Origin"), "*")
        for name in ("Allow-Headers", "Allow-Credentials", "Max-Age", "Expose-Headers"):
            self.assertIsNone(answer.header(f"Access-Control-{name}"))

    def test_not_allowed(self) -> None:
        """
        What no rule allows is refused, and the refusal says nothing to browsers.
        """
        self.send("PUT", "/bucket?cors", configuration(FULL, ANYBODY), status=200)
        for origin, method, headers in (
            ("https://other.org", "PUT", ""),
            (PAGE, "DELETE", ""),
            (PAGE, "PUT", "x-amz-date,authorization"),
            (PAGE, "HEAD", "x-amz-date"),
            (PAGE, "PUT", ",".join(f"x-amz-{number}" for number in range(101))),
        ):
            answer = self.ask("/bucket/k", origin, method, headers)
            self.assert_refused(answer, 403, "AccessForbidden")
            self.assert_silent(answer)

    def test_no_question(self) -> None:
        """
        What names no origin or no method that there is asks nothing, with a signature as well.
        """
        for target in ("/bucket", "/", presigned("OPTIONS", "/bucket/k")):
            self.assert_refused(self.ask(target, None), 400, "BadRequest")
            for method in (None, "", "put", "PATCH", "OPTIONS"):
                answer = self.ask(target, method=method)
                self.assert_refused(answer, 400, "BadRequest")
                self.assert_silent(answer)

    def test_default(self) -> None:
        """
        Where a bucket has no rules, and where there is no bucket yet, those of the configuration
        count; they can be turned off.
        """
        for target in ("/", "/bucket", "/absent", "/absent/k", "/Not_A_Bucket"):
            answer = self.ask(target, headers="authorization,x-amz-date")
            self.assertEqual(answer.status, 200, answer.body)
            self.assertEqual(answer.header("Access-Control-Allow-Origin"), "*")
        self.serve(cors_origins=("https://*.example.com",))
        self.assertEqual(self.ask("/bucket").header("Access-Control-Allow-Origin"), PAGE)
        self.assert_refused(self.ask("/bucket", "https://other.org"), 403, "AccessForbidden")
        self.serve(cors_origins=())
        self.assert_refused(self.ask("/bucket"), 403, "AccessForbidden")
        # The rules of a bucket count alone.
        self.send("PUT", "/bucket?cors", configuration(FULL), status=200)
        self.assertEqual(self.ask("/bucket").status, 200)
        self.serve()
        self.send("PUT", "/bucket?cors", configuration(FULL), status=200)
        self.assertEqual(self.ask("/bucket", "https://other.org").status, 403)

    def test_host(self) -> None:
        """
        The host may name the bucket.
        """
        self.serve(domains=("s3.test",), cors_origins=())
        self.send("PUT", "/bucket?cors", configuration(FULL), status=200)
        lines = [("Origin", PAGE), ("Access-Control-Request-Method", "GET")]
        for host, status in (("bucket.s3.test", 200), ("other.s3.test", 403)):
            answer = self.plainly("OPTIONS", "/k", [("Host", host), *lines])
            self.assertEqual(answer.status, status, answer.body)


class RequestTests(PageCase):
    """
    What a browser is told with an answer.
    """

    def setUp(self) -> None:
        """
        Have a bucket with rules and an object.
        """
        super().setUp()
        self.put("k")
        self.send("PUT", "/bucket?cors", configuration(FULL), status=200)

    def test_answers(self) -> None:
        """
        Successes and errors say what the rule allows, however the request is signed.
        """
        page = {"Origin": PAGE}
        for answer, status in (
            (self.send("GET", "/bucket/k", headers=page), 200),
            (self.send("GET", "/bucket/k", headers={**page, "If-None-Match": "*"}), 304),
            (self.send("GET", "/bucket/k", headers={**page, "If-Match": "x"}), 412),
            (self.send("GET", "/bucket/absent", headers=page), 404),
            (self.send("GET", "/bucket?policy", headers=page), 404),
            (self.send("PUT", "/bucket/k2", b"x", page), 200),
            (self.plainly("GET", "/bucket/k", [("Origin", PAGE)]), 403),
            (self.plainly("GET", presigned("GET", "/bucket/k"), [("Origin", PAGE)]), 200),
        ):
            self.assertEqual(answer.status, status, answer.body)
            self.assertEqual(answer.header("Access-Control-Allow-Origin"), PAGE)
            self.assertEqual(
                answer.header("Access-Control-Expose-Headers"), "ETag, x-amz-version-id"
            )
            self.assertEqual(answer.header("Access-Control-Allow-Credentials"), "true")
            self.assertIsNone(answer.header("Access-Control-Allow-Headers"))
            self.assertEqual(answer.headers.getRawHeaders("Vary"), [_VARY])

    def test_not_allowed(self) -> None:
        """
        What no rule allows is answered all the same, and browsers keep it from the page.
        """
        for method, origin in (("GET", "https://other.org"), ("DELETE", PAGE)):
            answer = self.send(method, "/bucket/k", headers={"Origin": origin})
            self.assertLess(answer.status, 300)
            self.assert_silent(answer)
            self.assertEqual(answer.header("Vary"), "Origin, Accept-Encoding")
        self.put("k")
        self.assert_silent(self.send("GET", "/bucket/k", status=200))

    def test_default(self) -> None:
        """
        Elsewhere the rules of the configuration count, at probes as well.
        """
        page = {"Origin": PAGE}
        self.send("DELETE", "/bucket?cors", status=204)
        for target in ("/", "/bucket/k", "/absent", "/Not_A_Bucket", "/minio/health/live"):
            answer = self.send("GET", target, headers=page)
            self.assertEqual(answer.header("Access-Control-Allow-Origin"), "*", target)
            self.assertIsNone(answer.header("Access-Control-Allow-Credentials"))
        self.serve(cors_origins=())
        for target in ("/", "/bucket", "/minio/health/live"):
            self.assert_silent(self.send("GET", target, headers=page, status=200))

    def test_form(self) -> None:
        """
        A form of a page that fails says so to the page.
        """
        self.send("PUT", "/bucket?cors", rule(origin=PAGE, method="POST"), status=200)
        lines = [("Origin", PAGE), ("Content-Type", "application/x-www-form-urlencoded")]
        answer = self.plainly("POST", "/bucket", lines, urlencode({"key": "k"}).encode())
        self.assertEqual(answer.status, 412)
        self.assertEqual(answer.header("Access-Control-Allow-Origin"), PAGE)

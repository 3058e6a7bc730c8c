# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.cors``: rules by themselves, and as a setting of a bucket.
"""

from base64 import b64encode
from hashlib import md5
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kypello.errors import Refused
from kypello.s3.cors import METHODS, CORSRule, default_rules, read_rules
from tests.cases import SyncCase
from tests.s3.front import FrontCase, read_xml, texts

PAGE = "https://app.example.com"
FULL = (
    "<CORSRule><ID>one</ID><AllowedHeader>x-amz-*</AllowedHeader>"
    "<AllowedHeader>Content-Type</AllowedHeader><AllowedMethod>PUT</AllowedMethod>"
    "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://*.example.com</AllowedOrigin>"
    "<AllowedOrigin>http://localhost:3000</AllowedOrigin><ExposeHeader>ETag</ExposeHeader>"
    "<ExposeHeader>x-amz-version-id</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule>"
)
ANYBODY = "<CORSRule><AllowedMethod>HEAD</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule>"

_WILD = st.from_regex("[a-z!#$%&'.^_`|~]{1,9}[*]?[a-z&]{0,3}", fullmatch=True)


def configuration(*rules: str) -> bytes:
    """
    A document of rules.
    """
    return f"<CORSConfiguration>{''.join(rules)}</CORSConfiguration>".encode()


def rule(content: str = "", origin: str = "*", method: str = "GET") -> bytes:
    """
    A document of one rule with something more in it.
    """
    return configuration(
        f"<CORSRule><AllowedOrigin>{origin}</AllowedOrigin>"
        f"<AllowedMethod>{method}</AllowedMethod>{content}</CORSRule>"
    )


class DocumentTests(SyncCase):
    """
    Which documents are rules.
    """

    def assert_refused(self, body: bytes, code: str) -> None:
        """
        See that a document is refused.
        """
        with self.assertRaises(Refused) as caught:
            read_rules(body)
        self.assertEqual(caught.exception.code, code, body)

    def test_malformed(self) -> None:
        """
        What is not the document is refused, and what lacks a part of it.
        """
        for body in (
            b"x",
            b"<Other/>",
            configuration(),
            configuration("<Other/>"),
            configuration("<CORSRule/>"),
            configuration("<CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>"),
            configuration("<CORSRule><AllowedMethod>GET</AllowedMethod></CORSRule>"),
            rule("<Other/>"),
            rule("<ID><x/></ID>"),
            rule("<ID>a</ID><ID>b</ID>"),
            *(
                rule(f"<MaxAgeSeconds>{age}</MaxAgeSeconds>")
                for age in ("", "x", "-1", "1.5", "2147483648", "9" * 5000, "\u0661")
            ),
        ):
            self.assert_refused(body, "MalformedXML")

    def test_invalid(self) -> None:
        """
        Values that no rule may have are refused.
        """
        for body in (
            *(rule(method=method) for method in ("get", "OPTIONS", "PATCH", "*", "")),
            rule(origin="https://*.*.example.com"),
            rule(origin=""),
            rule(origin="https://a b"),
            rule(origin="https://\u00e9"),
            rule("<AllowedHeader>x-*-*</AllowedHeader>"),
            rule("<AllowedHeader>a b</AllowedHeader>"),
            rule("<AllowedHeader/>"),
            rule("<ExposeHeader>x-*</ExposeHeader>"),
            rule("<ExposeHeader>a&#10;b: c</ExposeHeader>"),
            rule(f"<ID>{'a' * 256}</ID>"),
            configuration(*[ANYBODY] * 101),
            configuration(FULL, FULL),
        ):
            self.assert_refused(body, "InvalidRequest")

    def test_limits(self) -> None:
        """
        A document may have a hundred rules, and a rule an identifier of 255 characters and an age
        of 68 years.
        """
        self.assertEqual(len(read_rules(configuration(*[ANYBODY] * 100))), 100)
        more = f"<ID>{'a' * 255}</ID><MaxAgeSeconds>2147483647</MaxAgeSeconds>"
        self.assertEqual(read_rules(rule(more))[0].max_age, 2**31 - 1)

    @given(
        st.lists(
            st.tuples(
                st.none() | st.text(st.characters(categories=["L", "N", "S", "P"]), max_size=9),
                st.lists(_WILD, max_size=3),
                st.lists(st.sampled_from(sorted(METHODS)), min_size=1, max_size=3),
                st.lists(_WILD, min_size=1, max_size=3),
                st.lists(st.from_regex("[a-z-]{1,9}", fullmatch=True), max_size=3),
                st.none() | st.integers(0, 2**31 - 1),
            ),
            min_size=1,
            max_size=5,
            unique_by=lambda parts: parts[0] or object(),
        )
    )
    def test_same(self, drawn: list[Any]) -> None:
        """
        What is kept of rules is read as the same rules.
        """
        rules = [
            CORSRule(tuple(origins), tuple(methods), tuple(headers), tuple(exposed), age, name)
            for name, headers, methods, origins, exposed, age in drawn
        ]
        elements = [rule.element() for rule in rules]
        self.assertEqual(
            [rule.element() for rule in read_rules(configuration(*elements))], elements
        )


class RuleTests(SyncCase):
    """
    What a rule allows.
    """

    def test_origins(self) -> None:
        """
        Origins are matched in their case, and a ``*`` stands for any text.
        """
        for pattern, origin, allowed in (
            ("*", "null", True),
            ("https://*.example.com", "https://a.b.example.com", True),
            ("https://*.example.com", "https://example.com", False),
            ("https://*.example.com", "https://a.example.com.evil.org", False),
            ("https://*.example.com", "https://aXexampleXcom", False),
            ("http*://a.org", "https://a.org", True),
            ("https://a.org", "https://A.org", False),
            ("https://a.org", "https://a.org:8443", False),
            ("https://a.org:*", "https://a.org:8443", True),
        ):
            found = CORSRule((pattern,), ("GET",)).allows(origin, "GET")
            self.assertEqual(found, allowed, (pattern, origin))

    def test_headers(self) -> None:
        """
        All headers that are asked for must be allowed, in any case.
        """
        some = CORSRule(("*",), ("GET",), ("X-Amz-*", "content-type"))
        for headers, allowed in (
            ([], True),
            (["x-amz-date", "Content-Type"], True),
            (["x-amz-date", "authorization"], False),
            (["content-type-x"], False),
        ):
            self.assertEqual(some.allows("null", "GET", headers), allowed, headers)
        self.assertFalse(CORSRule(("*",), ("GET",)).allows("null", "GET", ["a"]))

    @given(
        st.lists(st.text("abc.:/*-", min_size=1, max_size=8), min_size=1, max_size=4),
        st.text("abc.:/*-", max_size=12),
    )
    def test_any_origin(self, patterns: list[str], origin: str) -> None:
        """
        A rule allows what one of its patterns allows by itself: what stands before its ``*``, then
        anything, then what stands behind it.
        """
        patterns = [pattern for pattern in patterns if pattern.count("*") < 2] or ["a"]
        expected = False
        for pattern in patterns:
            before, star, behind = pattern.partition("*")
            expected |= origin == pattern if not star else (
                origin.startswith(before)
                and origin.endswith(behind)
                and len(origin) >= len(before) + len(behind)
            )  # fmt: skip
        self.assertEqual(CORSRule(patterns, ("GET",)).allows(origin, "GET"), expected)

    def test_default(self) -> None:
        """
        Without rules pages of the origins in the configuration may do everything, but browsers
        send nothing by themselves.
        """
        (anybody,) = default_rules(("*",))
        self.assertTrue(all(anybody.allows("null", method, ["x"]) for method in METHODS))
        (some,) = default_rules((PAGE,))
        self.assertFalse(some.allows("https://other.org", "GET"))
        for found in (anybody, some):
            self.assertNotIn("Access-Control-Allow-Credentials", dict(found.words(PAGE)))
        self.assertEqual(default_rules(()), ())


class ConfigurationTests(FrontCase):
    """
    The rules of a bucket as a document.
    """

    target = "/bucket?cors"

    def test_life(self) -> None:
        """
        They can be set, are shown in their order with all that they have, and can be removed.
        """
        self.refused("GET", self.target, 404, "NoSuchCORSConfiguration")
        self.assertEqual(
            self.send("PUT", self.target, configuration(FULL, ANYBODY), status=200).body, b""
        )
        shown = self.send("GET", self.target, status=200)
        tree = read_xml(shown)
        self.assertEqual(tree.tag, "CORSConfiguration")
        first, second = tree.findall("CORSRule")
        for name, expected in (
            ("ID", ["one"]),
            ("AllowedHeader", ["x-amz-*", "Content-Type"]),
            ("AllowedMethod", ["PUT", "GET"]),
            ("AllowedOrigin", ["https://*.example.com", "http://localhost:3000"]),
            ("ExposeHeader", ["ETag", "x-amz-version-id"]),
            ("MaxAgeSeconds", ["3000"]),
        ):
            self.assertEqual(texts(first, name), expected)
        self.assertEqual(
            [(part.tag, part.text) for part in second],
            [("AllowedMethod", "HEAD"), ("AllowedOrigin", "*")],
        )
        # What is shown can be set.
        self.send("PUT", self.target, shown.body, status=200)
        self.assertEqual(self.send("GET", self.target).body, shown.body)
        for _ in range(2):
            self.send("DELETE", self.target, status=204)
        self.refused("GET", self.target, 404, "NoSuchCORSConfiguration")

    def test_refused(self) -> None:
        """
        What is refused changes nothing.
        """
        self.send("PUT", self.target, configuration(ANYBODY), status=200)
        digest = b64encode(md5(b"other", usedforsecurity=False).digest()).decode()
        body = configuration(FULL)
        for status, code, sent, headers in (
            (400, "MissingRequestBodyError", b"", {}),
            (400, "MalformedXML", b"<CORSConfiguration/>", {}),
            (400, "MaxMessageLengthExceeded", body + b" " * 65536, {}),
            (400, "BadDigest", body, {"Content-MD5": digest}),
        ):
            self.refused("PUT", self.target, status, code, body=sent, headers=headers)
        self.refused("PUT", "/absent?cors", 404, "NoSuchBucket", body=body)
        rules = read_xml(self.send("GET", self.target, status=200)).findall("CORSRule")
        self.assertEqual([texts(found, "AllowedMethod") for found in rules], [["HEAD"]])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for what conditions can ask about a request.
"""

from collections.abc import Sequence

from kypello.auth.request import RequestHead
from kypello.auth.values import RequestValues
from tests.cases import SyncCase


def head(
    *headers: tuple[str, str],
    query: tuple[tuple[str, str], ...] = (),
    peer: str = "192.0.2.1",
    secure: bool = False,
) -> RequestHead:
    """
    A request.
    """
    return RequestHead("GET", "/b/k", query, headers, secure, peer)


def values(asked: RequestHead, *, kind: str = "REST-HEADER") -> RequestValues:
    """
    What conditions see of it, a minute after the start of 1970.
    """
    return RequestValues(asked, 60.0, "AWS4-HMAC-SHA256", kind)


class ValueTests(SyncCase):
    """
    The values of conditions.
    """

    def test_absent(self) -> None:
        """
        What the request has not is absent; so is what nobody knows, and any other header.
        """
        ask = values(head(("host", "h"), ("x-secret", "s")))
        for name in (
            "s3:prefix", "s3:versionid", "s3:x-amz-acl", "aws:referer", "s3:unknown", "s3:host",
            "s3:x-secret", "aws:username", "s3:requestobjecttag/a", "s3:requestobjecttagkeys",
            "s3:signatureage",
        ):  # fmt: skip
            self.assertIsNone(ask(name), name)

    def test_stated(self) -> None:
        """
        Parameters and headers tell what the request asks for; the first of several counts.
        """
        asked = head(
            ("user-agent", "mc"),
            ("referer", "http://x/"),
            ("x-amz-acl", "private"),
            ("if-none-match", "*"),
            ("x-amz-copy-source", "/b/k"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-tagging", "Project=x%20y&Empty="),
            query=(("prefix", "a/"), ("prefix", "b/"), ("max-keys", "5"), ("versionId", "v")),
            secure=True,
        )
        expected: dict[str, Sequence[str]] = {
            "aws:useragent": ["mc"],
            "aws:referer": ["http://x/"],
            "aws:securetransport": ["true"],
            "aws:sourceip": ["192.0.2.1"],
            "aws:epochtime": ["60"],
            "aws:currenttime": ["1970-01-01T00:01:00Z"],
            "s3:authtype": ["REST-HEADER"],
            "s3:signatureversion": ["AWS4-HMAC-SHA256"],
            "s3:prefix": ["a/"],
            "s3:max-keys": ["5"],
            "s3:versionid": ["v"],
            "s3:x-amz-acl": ["private"],
            "s3:if-none-match": ["*"],
            "s3:x-amz-copy-source": ["/b/k"],
            "s3:x-amz-server-side-encryption": ["aws:kms"],
            "s3:object-lock-mode": ["GOVERNANCE"],
            "s3:requestobjecttag/Project": ["x y"],
            "s3:requestobjecttag/Empty": [""],
            "s3:requestobjecttagkeys": ["Project", "Empty"],
        }
        ask = values(asked)
        self.assertEqual({name: list(ask(name) or ()) for name in expected}, expected)
        self.assertEqual(values(head())("aws:securetransport"), ("false",))

    def test_tls(self) -> None:
        """
        A request over TLS has the version of that; no other one has any.
        """
        asked = RequestHead("GET", "/", secure=True, tls_version="1.3")
        self.assertEqual(values(asked)("s3:tlsversion"), ("1.3",))
        self.assertIsNone(values(head())("s3:tlsversion"))

    def test_told(self) -> None:
        """
        What a document tells is told, and takes the place of nothing that the server knows.
        """
        told = {"s3:locationconstraint": "eu-west-1", "aws:sourceip": "192.0.2.9"}
        ask = RequestValues(head(), 0.0, "", "", told=told)
        self.assertEqual(ask("s3:locationconstraint"), ("eu-west-1",))
        self.assertEqual(ask("aws:sourceip"), ("192.0.2.1",))
        self.assertIsNone(values(head())("s3:locationconstraint"))

    def test_signature_age(self) -> None:
        """
        A presigned request has an age, in milliseconds.
        """
        asked = head(query=(("X-Amz-Date", "19700101T000030Z"),))
        self.assertEqual(values(asked, kind="REST-QUERY-STRING")("s3:signatureage"), ("30000",))
        self.assertIsNone(values(asked)("s3:signatureage"))

    def test_tags_of_a_form(self) -> None:
        """
        Tags that come in a form count in place of a header.
        """
        ask = RequestValues(head(("x-amz-tagging", "a=b")), 0.0, "", "", (), {"C": "d"})
        self.assertEqual(ask("s3:requestobjecttag/C"), ("d",))
        for other in ("a", "c"):
            self.assertIsNone(ask(f"s3:requestobjecttag/{other}"))

    def test_lock(self) -> None:
        """
        The lock is that of the headers, or of a document in their place; days that have begun
        count whole.
        """
        mode, hold = "s3:object-lock-mode", "s3:object-lock-legal-hold"
        until, days = "s3:object-lock-retain-until-date", "s3:object-lock-remaining-retention-days"
        asked = head(
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-object-lock-retain-until-date", "1970-01-03T00:01:00Z"),
        )
        ask = values(asked)
        self.assertEqual((ask(mode), ask(hold)), (("COMPLIANCE",), None))
        self.assertEqual((ask(until), ask(days)), (("1970-01-03T00:01:00Z",), ("2",)))
        ask = RequestValues(asked, 60.0, "", "", (), None, {"legal-hold": "ON"})
        self.assertEqual((ask(mode), ask(until), ask(days), ask(hold)), (None, None, None, ("ON",)))
        for date, expected in (
            ("1970-01-03T00:01:00.001Z", "3"),
            ("1970-01-01T00:01:00Z", "0"),
            ("1969-12-31T00:00:00Z", "-1"),
        ):
            ask = RequestValues(head(), 60.0, "", "", (), None, {"retain-until-date": date})
            self.assertEqual(ask(days), (expected,))
        ask = values(head(("x-amz-object-lock-retain-until-date", "tomorrow")))
        self.assertEqual((ask(until), ask(days)), (("tomorrow",), None))

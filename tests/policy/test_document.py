# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.document``: what is refused, in which words.
"""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kypello.errors import MalformedPolicy
from kypello.policy.document import (
    Policy,
    compact,
    merged,
    parse_bucket_policy,
    parse_policy,
    parse_session_policy,
)
from tests.cases import SyncCase
from tests.policy.asking import ARN, allow, deny, document, policy
from tests.policy.refused import DOCUMENTS, OF_BUCKETS, STATEMENTS


def _bucket(text: bytes) -> Policy:
    return parse_bucket_policy(text, "b")


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["AWS", "StringLike", "s3:prefix", "Effect", "Null", "IpAddress"])
        | st.text(),
        inner,
        max_size=3,
    )


class RefusedTests(SyncCase):
    """
    What is no policy is refused, in words that tell why.
    """

    def refuse(self, parse: Callable[[bytes], object], text: bytes, reason: str) -> None:
        """
        Expect *parse* to refuse a document.
        """
        error = self.assertRaises(MalformedPolicy, parse, text)
        self.assertEqual(error.reason, reason, text)

    def test_statements(self) -> None:
        """
        Statements of users, in each kind of document that may have them.
        """
        for statement, reason in STATEMENTS:
            text = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
            self.refuse(parse_policy, text, reason)
            self.refuse(parse_session_policy, text, reason)

    def test_documents(self) -> None:
        """
        Whole documents.
        """
        for text, reason in DOCUMENTS:
            self.refuse(parse_policy, text, reason)

    def test_of_buckets(self) -> None:
        """
        Statements of buckets.
        """
        for statement, reason in OF_BUCKETS:
            text = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
            self.refuse(_bucket, text, reason)

    def test_bucket_documents(self) -> None:
        """
        The policy of a bucket has a version and statements.
        """
        version = "The policy must contain a valid version string"
        self.refuse(_bucket, b'{"Statement": []}', version)
        self.refuse(_bucket, document(version="2026-01-01"), version)
        self.refuse(_bucket, document(), "Missing required field Statement")
        self.refuse(_bucket, b'{"Version": "2012-10-17"}', "Missing required field Statement")

    def test_session(self) -> None:
        """
        A session policy has a version, and at most 2048 bytes that are no white space.
        """
        self.refuse(
            parse_session_policy,
            document(allow("s3:*"), version=""),
            "Version cannot be empty expecting '2012-10-17'",
        )

        def sized(size: int) -> bytes:
            empty = compact(document({**allow("s3:*"), "Sid": ""}))
            return compact(document({**allow("s3:*"), "Sid": "x" * (size - len(empty))}))

        self.assertEqual(len(sized(2048)), 2048)
        parse_session_policy(sized(2048).replace(b",", b" ,\r\n\t "))
        self.refuse(
            parse_session_policy,
            sized(2049),
            "Session policy should not exceed 2048 characters",
        )

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), _nested))
    def test_anything(self, value: object) -> None:
        """
        No JSON raises anything else.
        """
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": value}
        for text in (
            json.dumps(value).encode(),
            json.dumps({"Version": "2012-10-17", "Statement": value}).encode(),
            json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode(),
            json.dumps(
                {"Version": "2012-10-17", "Statement": [{**statement, "Principal": value}]}
            ).encode(),
        ):
            for parse in (parse_policy, parse_session_policy, _bucket):
                try:
                    parse(text)
                except MalformedPolicy as error:
                    error.reason.encode()

    @given(st.binary())
    def test_any_bytes(self, text: bytes) -> None:
        """
        No bytes raise anything else.
        """
        with self.assertRaises(MalformedPolicy):
            _bucket(text)


class AcceptedTests(SyncCase):
    """
    What is a policy is read.
    """

    def test_text(self) -> None:
        """
        The text is kept as it was given; policies are equal when their texts are.
        """
        text = b'\n{"Version" : "", "ID":"x","Statement":[ ]}'
        parsed = parse_policy(text)
        self.assertEqual((parsed.text, parsed.version, parsed.statements), (text, "", ()))
        self.assertEqual(parsed, parse_policy(text))
        self.assertEqual(hash(parsed), hash(parse_policy(text)))
        self.assertNotEqual(parsed, parse_policy(text + b" "))

    def test_without_statements(self) -> None:
        """
        A policy without statements is one; a session policy may have an empty list.
        """
        self.assertEqual(parse_policy(b"{}").statements, ())
        self.assertEqual(parse_session_policy(document()).statements, ())

    def test_principal_of_users(self) -> None:
        """
        A principal in a policy of users has no meaning: who has the policy is meant.
        """
        (statement,) = policy(allow("s3:*", Principal={"AWS": "bob"})).statements
        self.assertIsNone(statement.principals)

    def test_strings_and_lists(self) -> None:
        """
        One text and a list of it are the same, and a statement counts once.
        """
        parsed = policy(allow("s3:GetObject", "*"), allow(["s3:GetObject"], ["*"], Sid="two"))
        self.assertEqual(len(parsed.statements), 1)

    def test_names_in_any_case(self) -> None:
        """
        Elements and condition keys may be written in any case.
        """
        text = b"""{"version": "2012-10-17", "STATEMENT": [{"effect": "Deny", "ACTION": "s3:*",
            "resource": "*", "condition": {"Bool": {"AWS:securetransport": false}}}]}"""
        (statement,) = parse_policy(text).statements
        self.assertFalse(statement.allows)
        self.assertEqual(statement.conditions[0].key, "aws:securetransport")
        self.assertEqual(statement.conditions[0].values, ("false",))

    def test_bucket_policies(self) -> None:
        """
        Actions are written in any case there; patterns may be wider than the bucket; whether
        an action goes with a resource does not matter; there may be one statement only.
        """
        for statement in (
            allow("s3:getOBJECT", ARN + "b/*"),
            allow("S3:*", ARN + "*"),
            allow("s3:Get*", ARN + "*/*"),
            allow("s3:ListBucket", [ARN + "b", ARN + "b/*"]),
            allow("s3:PutObject", ARN + "b"),
            allow("*", "*"),
        ):
            text = document({**statement, "Principal": "*"})
            self.assertTrue(_bucket(text).statements[0].actions, statement)
        one = json.dumps(
            {"Version": "2008-10-17", "Statement": {**allow("s3:*"), "Principal": "*"}}
        )
        self.assertEqual(len(_bucket(one.encode()).statements), 1)

    def test_keys_of_some_action(self) -> None:
        """
        A key is accepted when one of the actions has it.
        """
        condition = {"Condition": {"StringLike": {"s3:prefix": "a*"}}}
        for action in ("s3:*", "s3:List*", "*", ["s3:GetObject", "s3:ListBucket"]):
            self.assertTrue(policy(allow(action, **condition)).statements, action)
        excluding = {"Effect": "Deny", "NotAction": "s3:GetObject", "Resource": "*", **condition}
        self.assertTrue(policy(excluding).statements)


class MergedTests(SyncCase):
    """
    ``merged`` makes one document of several.
    """

    def test_merged(self) -> None:
        """
        Each statement is there once, and the whole decides like the parts.
        """
        first = policy(allow("s3:GetObject"), deny("s3:PutObject"))
        second = policy(deny("s3:PutObject"), allow("s3:ListBucket"))
        whole = parse_policy(merged([first, second]))
        self.assertEqual(set(whole.statements), {*first.statements, *second.statements})
        self.assertEqual(len(json.loads(whole.text)["Statement"]), 3)
        self.assertEqual(json.loads(whole.text)["Version"], "2012-10-17")

    def test_nothing(self) -> None:
        """
        Of nothing it makes a policy without statements.
        """
        self.assertEqual(parse_policy(merged([])).statements, ())

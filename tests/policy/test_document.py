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

_JSON = "This policy contains invalid Json"


def _bucket(text: bytes) -> Policy:
    return parse_bucket_policy(text, "b")


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["AWS", "StringLike", "s3:prefix", "Effect", "Null", "IpAddress"])
        | st.text(),
        inner,
        max_size=3,
    )


def _with(**conditions: object) -> dict[str, Any]:
    return {"Condition": {name.replace("_", ":"): value for name, value in conditions.items()}}


#: Statements of users that are refused, with the reason.
STATEMENTS: list[tuple[object, str]] = [
    ({"Effect": "Allow", "Action": "s3:GetObject"}, "Resource must not be empty"),
    (allow("s3:GetObject", []), "Resource must not be empty"),
    ({**allow("s3:GetObject"), "Effect": "Maybe"}, "invalid Effect Maybe"),
    ({"Action": "s3:GetObject", "Resource": "*"}, "invalid Effect "),
    (allow("s3:GetObject", "x"), "invalid resource 'x'"),
    (
        allow("s3:GetObject", "arn:aws:s3:us-east-1::b"),
        "invalid resource 'arn:aws:s3:us-east-1::b'",
    ),
    (allow("s3:GetObject", "arn:aws-cn:s3:::b"), "invalid resource 'arn:aws-cn:s3:::b'"),
    (allow("s3:GetObject", ARN), f"invalid resource '{ARN}'"),
    (
        allow("s3:GetObject", ARN + "/b"),
        f"invalid resource '{ARN}/b' - starts with '/' will not match a bucket",
    ),
    (allow([]), "empty actions not allowed"),
    ({"Effect": "Allow", "Resource": "*"}, "empty actions not allowed"),
    (allow("s3:Nope"), "unsupported action 's3:Nope'"),
    (allow("s3:getobject"), "unsupported action 's3:getobject'"),
    (allow("S3:GetObject"), "unsupported action 'S3:GetObject'"),
    (allow("s3:Nope*"), "unsupported action 's3:Nope*'"),
    (allow("sts:AssumeRole"), "unsupported action 'sts:AssumeRole'"),
    (allow("ec2:RunInstances"), "unsupported action 'ec2:RunInstances'"),
    (allow(["admin:*", "s3:GetObject"]), "unsupported admin action 's3:GetObject'"),
    (allow(["s3:GetObject", "admin:ServerInfo"]), "unsupported admin action 's3:GetObject'"),
    (allow(["kms:*", "*"]), "unsupported KMS action '*'"),
    (
        {**allow("s3:GetObject"), "NotAction": "s3:PutObject"},
        "Action and NotAction cannot be specified in the same statement",
    ),
    (
        {**allow("s3:GetObject"), "NotResource": "*"},
        "Resource and NotResource cannot be specified in the same statement",
    ),
    (allow(3), "Action must be a string or a list of them"),
    (allow("s3:GetObject", [["*"]]), "Resource must be a string or a list of them"),
    (
        allow("s3:GetObject", **_with(StringEquals={"s3:prefix": "a"})),
        "unsupported condition keys '[s3:prefix]' used for action 's3:GetObject'",
    ),
    (
        allow(
            "s3:PutBucketPolicy",
            **_with(StringEquals={"s3:prefix": "a", "s3:delimiter": "a", "aws:SourceIp": "a"}),
        ),
        "unsupported condition keys '[s3:delimiter s3:prefix]' used for action"
        " 's3:PutBucketPolicy'",
    ),
    (
        allow("admin:ServerInfo", **_with(StringEquals={"s3:prefix": "a"})),
        "unsupported condition keys '[s3:prefix]' used for action 'admin:ServerInfo'",
    ),
    (
        allow("s3:*", **_with(StringFoo={"s3:prefix": "a"})),
        "invalid condition name 'StringFoo'",
    ),
    (
        allow("s3:*", **_with(NullIfExists={"s3:prefix": "true"})),
        "invalid condition name 'NullIfExists'",
    ),
    (
        allow("s3:*", **_with(ForAllValues_Null={"s3:prefix": "true"})),
        "invalid condition name 'ForAllValues:Null'",
    ),
    (
        allow("s3:*", **_with(ForSomeValue_StringLike={"s3:prefix": "a"})),
        "invalid condition name 'ForSomeValue:StringLike'",
    ),
    (
        allow("s3:*", **_with(StringEquals={"aws:Nope": "a"})),
        "invalid condition key 'aws:Nope'",
    ),
    (
        allow("s3:*", **_with(StringEquals={"s3:ExistingObjectTag": "a"})),
        "invalid condition key 's3:ExistingObjectTag'",
    ),
    (
        allow("s3:*", **_with(Bool={"aws:username": "true"})),
        "only aws:SecureTransport key is allowed for Bool condition",
    ),
    (
        allow("s3:*", **_with(IpAddress={"aws:username": "192.0.2.1"})),
        "only aws:SourceIp key is allowed for IpAddress condition",
    ),
    (
        allow("s3:*", **_with(IpAddress={"aws:SourceIp": "300.1.1.1/8"})),
        "value 300.1.1.1/8 must be CIDR string for IpAddress condition",
    ),
    (
        allow("s3:*", **_with(NotIpAddress={"aws:SourceIp": "10.0.0.0/33"})),
        "value 10.0.0.0/33 must be CIDR string for NotIpAddress condition",
    ),
    (
        allow("s3:*", **_with(Bool={"aws:SecureTransport": "maybe"})),
        "value must be a boolean string for boolean condition",
    ),
    (
        allow("s3:*", **_with(Null={"aws:username": "maybe"})),
        "value must be a boolean string for Null condition",
    ),
    (
        allow("s3:*", **_with(NumericLessThan={"s3:max-keys": "x"})),
        "value x must be a int for NumericLessThan condition: invalid syntax",
    ),
    (
        allow("s3:*", **_with(DateLessThan={"aws:CurrentTime": "soon"})),
        "value soon must be a date and time for DateLessThan condition",
    ),
    (
        allow("s3:*", **_with(BinaryEquals={"aws:username": "?"})),
        "value ? must be a base64 string for BinaryEquals condition",
    ),
    (allow("s3:*", Condition=[]), "Condition must be an object"),
    (allow("s3:*", Condition={"StringEquals": []}), "condition StringEquals must be an object"),
    (
        allow("s3:*", **_with(StringEquals={"aws:username": []})),
        "condition values must not be empty",
    ),
    (
        allow("s3:*", **_with(StringEquals={"aws:username": None})),
        "condition values must be strings, numbers or booleans",
    ),
    (
        allow("kms:CreateKey", "arn:aws:s3:::x"),
        "invalid resource; resource 'arn:aws:s3:::x' type is not KMS",
    ),
    (
        allow("s3:GetObject", "arn:minio:kms:::x"),
        "invalid resource; resource 'arn:minio:kms:::x' type is not S3",
    ),
    (allow("kms:CreateKey", "arn:minio:kms:::a/b"), "invalid resource 'arn:minio:kms:::a/b'"),
    (allow("kms:CreateKey", "arn:minio:kms:::a.b"), "invalid resource 'arn:minio:kms:::a.b'"),
    ({**allow("s3:*"), "Conditions": {}}, "unknown element 'Conditions'"),
    ({**allow("s3:*"), "resource": "*"}, "duplicate element 'Resource'"),
    ({**allow("s3:*"), "Sid": 1}, "Sid must be a string"),
    ({**allow("s3:*"), "Effect": ["Allow"]}, "Effect must be a string"),
    ("s3:*", "a statement must be an object"),
]

#: Whole documents of users that are refused.
DOCUMENTS: list[tuple[bytes, str]] = [
    (b"", _JSON),
    (b"{", _JSON),
    (b"[]", _JSON),
    (b'"a"', _JSON),
    (b"\xff", _JSON),
    (b'{"Version": NaN}', _JSON),
    (b'{"Version": "\\ud800"}', _JSON),
    (b"[" * 5000, _JSON),
    (b'{"Version": 1' + b"0" * 5000 + b"}", _JSON),
    (document(version="2008-10-17"), "invalid version '2008-10-17'"),
    (b'{"Version": 1}', "Version must be a string"),
    (b'{"Statement": {"Effect": "Allow"}}', "Statement must be a list"),
    (b'{"Statements": []}', "unknown element 'Statements'"),
    (b'{"Id": 3, "Statement": []}', "Id must be a string"),
    (b'{"Statement": [], "Statement": []}', "duplicate element 'Statement'"),
    (
        b'{"Statement": [{"Effect": "Allow", "Condition": {"Bool": {}, "Bool": {}}}]}',
        "duplicate element 'Bool'",
    ),
]

#: Statements of the policy of bucket ``b`` that are refused.
OF_BUCKETS: list[tuple[object, str]] = [
    (allow("s3:GetObject"), "invalid Principal {[]}"),
    (allow("s3:GetObject", Principal=[]), "invalid Principal {[]}"),
    (allow("s3:GetObject", Principal={"AWS": []}), "invalid Principal {[]}"),
    (allow("s3:GetObject", Principal="alice"), "invalid Principal {[alice]}"),
    (allow("s3:GetObject", Principal={"AWS": ["ali*"]}), "invalid Principal {[ali*]}"),
    (allow("s3:GetObject", Principal={"AWS": [3]}), "invalid Principal {[]}"),
    (
        allow("s3:GetObject", Principal={"AWS": "arn:aws:iam::1:role/x"}),
        "invalid Principal {[arn:aws:iam::1:role/x]}",
    ),
    (
        allow("s3:GetObject", Principal={"CanonicalUser": "x"}),
        "invalid Principal {[CanonicalUser]}",
    ),
    (
        allow("s3:GetObject", Principal="*", NotPrincipal="*"),
        "Principal and NotPrincipal cannot be specified in the same statement",
    ),
    (allow("s3:GetObject", ARN + "c/*", Principal="*"), "bucket name does not match"),
    (allow("s3:GetObject", ARN + "bb", Principal="*"), "bucket name does not match"),
    (
        allow("s3:GetObject", ARN + "${aws:username}", Principal="*"),
        "bucket name does not match",
    ),
    (allow("s3:Nope", ARN + "b", Principal="*"), "unsupported action 's3:Nope'"),
    (allow("admin:ServerInfo", Principal="*"), "unsupported action 'admin:ServerInfo'"),
    (allow("kms:Decrypt", Principal="*"), "unsupported action 'kms:Decrypt'"),
]


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

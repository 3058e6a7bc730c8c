# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what a policy demands of the encryption of objects.
"""

from collections.abc import Mapping
from typing import Any

from kypello.policy.document import parse_bucket_policy
from kypello.policy.encryptiondemand import (
    ALGORITHM,
    CUSTOMER_ALGORITHM,
    KEY_ID,
    EncryptionDemand,
    demand_of,
)
from tests.cases import SyncCase
from tests.policy.asking import ARN, allow, deny, document

_PLAIN: Mapping[str, tuple[str, ...]] = {}
_S3 = {ALGORITHM: ("AES256",)}
_KMS = {ALGORITHM: ("aws:kms",), KEY_ID: ("one", "arn:aws:kms:one")}
_CUSTOMER = {CUSTOMER_ALGORITHM: ("AES256",)}
_ALL = {"plain": _PLAIN, "s3": _S3, "kms": _KMS, "c": _CUSTOMER}
_NO_HEADER = {"Null": {ALGORITHM: "true"}}
_OBJECTS = f"{ARN}b/*"


def statement(condition: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """
    A statement that denies everybody to put objects, under a condition.
    """
    given = {"Condition": condition} if condition else {}
    return deny("s3:PutObject", _OBJECTS, **{"Principal": "*", **given, **more})


def demand(*statements: Mapping[str, Any]) -> EncryptionDemand | None:
    """
    What a policy of these demands.
    """
    return demand_of(parse_bucket_policy(document(*statements), "b"))


class DemandTests(SyncCase):
    """
    Statements that deny content for its encryption alone.
    """

    def denied(self, *statements: Mapping[str, Any]) -> set[str]:
        """
        The names of what is denied.
        """
        found = demand(*statements)
        assert found is not None
        return {name for name, values in _ALL.items() if found.denies("b/k", values)}

    def test_forms(self) -> None:
        """
        The forms of AWS deny what they are made to deny.
        """
        for condition, expected in (
            (_NO_HEADER, {"plain", "c"}),
            ({"StringNotEquals": {ALGORITHM: "aws:kms"}}, {"plain", "c", "s3"}),
            ({"StringNotEqualsIfExists": {ALGORITHM: "aws:kms"}}, {"plain", "c", "s3"}),
            ({"StringNotEquals": {ALGORITHM: ["aws:kms", "AES256"]}}, {"plain", "c"}),
            ({"StringEquals": {ALGORITHM: "AES256"}}, {"s3"}),
            ({"StringLike": {ALGORITHM: "aws:*"}}, {"kms"}),
            ({"Null": {CUSTOMER_ALGORITHM: "false"}}, {"c"}),
            ({"StringNotEquals": {KEY_ID: "one"}}, {"plain", "c", "s3"}),
            ({"StringNotEquals": {KEY_ID: "two"}}, {"plain", "c", "s3", "kms"}),
            ({"StringEquals": {KEY_ID: "arn:aws:kms:one"}}, {"kms"}),
        ):
            self.assertEqual(self.denied(statement(condition)), expected, condition)
        both = {**_NO_HEADER, "StringNotEquals": {KEY_ID: "one"}}
        self.assertEqual(self.denied(statement(both)), {"plain", "c"})
        split = (statement(_NO_HEADER), statement({"StringEquals": {ALGORITHM: "AES256"}}))
        self.assertEqual(self.denied(*split), {"plain", "c", "s3"})

    def test_uncertain(self) -> None:
        """
        What also depends on who asks, from where, or how a key was named, demands nothing.
        """
        for more in (
            {"Principal": {"AWS": "arn:aws:iam:::user/alice"}},
            {"NotPrincipal": {"AWS": "arn:aws:iam:::user/alice"}, "Principal": None},
            {"Resource": f"{ARN}b/${{aws:username}}/*"},
            {"Condition": {}},
            {"Condition": {**_NO_HEADER, "Bool": {"aws:SecureTransport": "false"}}},
            {"Condition": {**_NO_HEADER, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
            {"Condition": {"StringNotLike": {KEY_ID: "arn:aws:kms:*:key/one"}}},
            {"Condition": {"StringNotEquals": {KEY_ID: "${aws:username}"}}},
            {"Condition": {"ForAnyValue:StringNotEquals": {KEY_ID: "two"}}},
            {"Condition": {"ArnNotEquals": {KEY_ID: "arn:aws:kms:r:1:key/one"}}},
            {"Effect": "Allow"},
            {"Action": "s3:PutObjectTagging", "Condition": {"Null": {"aws:username": "true"}}},
        ):
            elements = {**statement(_NO_HEADER), **more}
            elements = {name: value for name, value in elements.items() if value is not None}
            self.assertIsNone(demand(elements, allow("s3:*", _OBJECTS, Principal="*")), more)

    def test_places(self) -> None:
        """
        A statement is about the objects that it names.
        """
        found = demand(statement(_NO_HEADER, Resource=f"{ARN}b/in/*", Action="s3:Put*"))
        assert found is not None
        self.assertTrue(found.denies("b/in/k", _PLAIN))
        self.assertFalse(found.denies("b/out/k", _PLAIN))

    def test_keys(self) -> None:
        """
        The master keys that are named are told, of the statements that count.
        """
        found = demand(
            statement({"StringNotEquals": {KEY_ID: ["one", "alias/two"], ALGORITHM: "AES256"}}),
            statement({"StringNotLike": {KEY_ID: "three*"}}),
        )
        assert found is not None
        self.assertEqual(found.key_ids, {"one", "alias/two"})

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is no policy, with the reason that is told.
"""

from typing import Any

from tests.policy.asking import ARN, allow, document

_JSON = "This policy contains invalid Json"


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
    (allow("admi?:*"), "unsupported action 'admi?:*'"),
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
        allow("s3:*", **_with(NumericEquals={"s3:max-keys": 1e30})),
        "value 1e+30 must be a int for NumericEquals condition: invalid syntax",
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
    (
        {"Effect": "Deny", "Action": "kms:CreateKey", "NotResource": []},
        "Resource must not be empty",
    ),
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

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.publicaccess``.
"""

from kypello.errors import Damaged
from kypello.policy.document import parse_bucket_policy
from kypello.policy.publicaccess import PublicAccessBlock, is_public
from tests.cases import SyncCase
from tests.policy.asking import allow, deny, document


class PublicTests(SyncCase):
    """
    ``is_public`` tells whether a policy lets everybody in.
    """

    def check(self, expected: bool, *statements: dict[str, object]) -> None:
        """
        Expect a policy to be public, or not.
        """
        policy = parse_bucket_policy(document(*statements), "b")
        self.assertIs(is_public(policy), expected, statements)

    def test_principals(self) -> None:
        """
        Who names nobody means everybody.
        """
        self.check(True, allow("s3:GetObject", Principal="*"))
        self.check(True, allow("s3:GetObject", Principal={"AWS": "*"}))
        self.check(True, allow("s3:GetObject", Principal={"AWS": ["alice", "*"]}))
        self.check(True, allow("s3:GetObject", NotPrincipal={"AWS": "alice"}))
        self.check(False, allow("s3:GetObject", Principal={"AWS": "alice"}))
        self.check(False, allow("s3:GetObject", NotPrincipal="*"))
        self.check(False, deny("s3:GetObject", Principal="*"))

    def test_one_is_enough(self) -> None:
        """
        One public statement makes the policy public, whatever others deny.
        """
        self.check(
            True,
            allow("s3:GetObject", Principal={"AWS": "alice"}),
            deny("s3:*", Principal="*"),
            allow("s3:ListBucket", Principal="*"),
        )

    def test_conditions(self) -> None:
        """
        Fixed values of keys that tell who asks, or from where, narrow; others do not.
        """
        for operator, key, values, expected in (
            ("IpAddress", "aws:SourceIp", ["192.0.2.0/24", "10.0.0.0/8"], False),
            ("IpAddress", "aws:SourceIp", ["2001:db8::/32"], False),
            ("IpAddress", "aws:SourceIp", ["192.0.2.0/24", "0.0.0.0/1"], True),
            ("IpAddress", "aws:SourceIp", ["0.0.0.0/0"], True),
            ("IpAddress", "aws:SourceIp", ["2001::/16"], True),
            ("NotIpAddress", "aws:SourceIp", ["192.0.2.0/24"], True),
            ("IpAddressIfExists", "aws:SourceIp", ["192.0.2.0/24"], True),
            ("ForAllValues:IpAddress", "aws:SourceIp", ["192.0.2.0/24"], True),
            ("ForAnyValue:IpAddress", "aws:SourceIp", ["192.0.2.0/24"], False),
            ("StringEquals", "aws:userid", "alice", False),
            ("StringLike", "aws:userid", "alice", False),
            ("StringLike", "aws:userid", "a*", True),
            ("StringEquals", "aws:userid", "${aws:username}", True),
            ("StringNotEquals", "aws:userid", "alice", True),
            ("ArnLike", "aws:PrincipalArn", "arn:aws:iam:::user/alice", False),
            ("ArnLike", "aws:PrincipalArn", "arn:aws:iam:::user/*", True),
            ("StringEquals", "aws:SourceVpce", "vpce-1", False),
            ("StringEquals", "aws:Referer", "http://example.com/", True),
            ("StringEquals", "aws:UserAgent", "secret", True),
            ("Bool", "aws:SecureTransport", "true", True),
            ("Null", "aws:userid", "false", True),
        ):
            condition = {operator: {key: values}}
            self.check(expected, allow("s3:GetObject", Principal="*", Condition=condition))


class BlockTests(SyncCase):
    """
    A public access block is kept with a bucket.
    """

    def test_kept(self) -> None:
        """
        What is read is what was written.
        """
        for block in (
            PublicAccessBlock(),
            PublicAccessBlock(block_public_acls=True, block_public_policy=True),
            PublicAccessBlock(ignore_public_acls=True, restrict_public_buckets=True),
        ):
            self.assertEqual(PublicAccessBlock.from_bytes(block.to_bytes()), block)

    def test_damaged(self) -> None:
        """
        Anything else is damaged, and never taken for a block that blocks nothing.
        """
        for kept in (b"", b"[]", b'{"x": true}', b'{"block_public_acls": 1}'):
            self.assertRaises(Damaged, PublicAccessBlock.from_bytes, kept)

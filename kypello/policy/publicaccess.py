# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a bucket lets the public do, whatever its policy says.

Source: "Blocking public access to your Amazon S3 storage" of the Amazon S3 user guide.
"""

from ipaddress import ip_network

import msgspec
from attrs import asdict, frozen

from kypello.errors import Damaged
from kypello.policy.condition import Condition
from kypello.policy.document import Policy
from kypello.policy.wildcards import Template

#: Keys that tell who asks, or from where: a fixed value of one narrows a statement to somebody.
_NARROWING = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:sourceorgid",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "aws:username",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    }
)
_NARROWING_OPERATORS = frozenset(
    {
        "ArnEquals",
        "ArnLike",
        "StringEquals",
        "StringEqualsIgnoreCase",
        "StringLike",
    }
)
#: The shortest prefixes of networks that are not everybody, by version of IP.
_NARROW_NETWORK = {4: 8, 6: 32}


@frozen
class PublicAccessBlock:
    """
    The public access block of a bucket.

    There are no ACLs that could be public, so the first two change no decision.

    :ivar block_public_acls: Requests that ask for a public ACL are refused.
    :ivar ignore_public_acls: Public ACLs count for nothing.
    :ivar block_public_policy: A policy that is public cannot be put.
    :ivar restrict_public_buckets: A policy that is public allows anonymous requests nothing.
    """

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False

    def to_bytes(self) -> bytes:
        """
        As it is kept with the settings of a bucket.
        """
        return msgspec.json.encode(asdict(self))

    @classmethod
    def from_bytes(cls, kept: bytes) -> "PublicAccessBlock":
        """
        Read what :meth:`to_bytes` made.

        :raises Damaged: It is something else.
        """
        try:
            return cls(**msgspec.json.decode(kept, type=dict[str, bool]))
        except (msgspec.MsgspecError, TypeError) as error:
            raise Damaged("public access block") from error


def is_public(policy: Policy) -> bool:
    """
    Whether the policy of a bucket allows something to everybody.

    A statement for everybody does not, when a condition narrows it to fixed values that tell
    who asks or from where.  Statements that deny do not count, as they need not concern all.
    """
    return any(
        statement.allows
        and statement.principals is not None
        and statement.principals.public
        and not any(_narrows(condition) for condition in statement.conditions)
        for statement in policy.statements
    )


def _narrows(condition: Condition) -> bool:
    operator = condition.operator.removeprefix("ForAnyValue:")
    if condition.key not in _NARROWING:
        return False
    if operator == "IpAddress":
        networks = [ip_network(value, strict=False) for value in condition.values]
        return all(network.prefixlen >= _NARROW_NETWORK[network.version] for network in networks)
    return operator in _NARROWING_OPERATORS and all(
        Template(value).fixed for value in condition.values
    )

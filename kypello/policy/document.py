# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Documents: what policies are written in.
"""

from collections.abc import Sequence

from attrs import field, frozen

from kypello.policy.statement import Statement


@frozen
class Policy:
    """
    One document; equal when its text is.

    :ivar text: As it was given.
    :ivar version: ``2012-10-17``, for buckets also ``2008-10-17``; may be empty.
    """

    text: bytes
    version: str = field(eq=False)
    statements: tuple[Statement, ...] = field(eq=False, repr=False)


def parse_policy(text: bytes) -> Policy:
    """
    Read a policy of users and groups.  The caller has checked that it is 20 KiB at most.

    A document may have no statements at all; who puts one wants to refuse it.

    :raises MalformedPolicy:
    """
    raise NotImplementedError


def parse_session_policy(text: bytes) -> Policy:
    """
    Read a policy that limits a session or an access key.

    One with an empty list of statements allows nothing.

    :raises MalformedPolicy: Also when it has more than 2048 bytes without white space.
    """
    raise NotImplementedError


def parse_bucket_policy(text: bytes, bucket: str) -> Policy:
    """
    Read the policy of a bucket.

    :raises MalformedPolicy:
    """
    raise NotImplementedError


def merged(policies: Sequence[Policy]) -> bytes:
    """
    One document of all statements of several, each once.
    """
    raise NotImplementedError

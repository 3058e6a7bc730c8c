# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a bucket lets the public do, whatever its policy says.

Source: "Blocking public access to your Amazon S3 storage" of the Amazon S3 user guide.
"""

import msgspec
from attrs import asdict, frozen

from kypello.errors import Damaged


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

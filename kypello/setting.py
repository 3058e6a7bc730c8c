# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a bucket is set to, as it is kept: a JSON object in the settings of the bucket.
"""

from typing import ClassVar, Self

import msgspec

from kypello.errors import Damaged


class Setting(msgspec.Struct, frozen=True):
    """
    One setting.

    :cvar subject: What it tells of a bucket, for who reads that it is damaged.
    """

    subject: ClassVar[str]

    def to_bytes(self) -> bytes:
        """
        The form that is kept.
        """
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """
        Read what is kept.

        :raises Damaged:
        """
        try:
            return msgspec.json.decode(stored, type=cls)
        except ValueError:
            raise Damaged(f"the {cls.subject} of a bucket") from None

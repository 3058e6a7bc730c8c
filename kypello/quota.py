# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How much a bucket may hold.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from kypello.errors import Damaged

#: The bucket setting that tells it; a bucket without it may hold anything.
SETTING = "quota"


class Quota(msgspec.Struct, frozen=True):
    """
    What a bucket may hold.

    :ivar size: Bytes.
    :ivar since: When it was set, in nanoseconds since the epoch.
    """

    size: int
    since: int

    def to_bytes(self) -> bytes:
        """
        The form that is kept under :data:`SETTING`: a JSON object.
        """
        return msgspec.json.encode(self)


@lru_cache(maxsize=64)
def _decoded(stored: bytes) -> Quota:
    # Every write asks it.
    try:
        return msgspec.json.decode(stored, type=Quota)
    except ValueError:
        raise Damaged("the quota of a bucket") from None


def quota_of(settings: Mapping[str, bytes]) -> Quota | None:
    """
    What a bucket with these settings may hold; ``None`` for anything.

    :raises Damaged:
    """
    stored = settings.get(SETTING)
    return _decoded(stored) if stored else None

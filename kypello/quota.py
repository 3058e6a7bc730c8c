# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How much a bucket may hold.
"""

from collections.abc import Mapping
from functools import lru_cache

from kypello.setting import Setting

#: The bucket setting that tells it; a bucket without it may hold anything.
SETTING = "quota"


class Quota(Setting, frozen=True):
    """
    What a bucket may hold.

    :ivar size: Bytes.
    :ivar since: When it was set, in nanoseconds since the epoch.
    """

    subject = "quota"

    size: int
    since: int


@lru_cache(maxsize=64)
def _decoded(stored: bytes) -> Quota:
    # Every write asks it.
    return Quota.from_bytes(stored)


def quota_of(settings: Mapping[str, bytes]) -> Quota | None:
    """
    What a bucket with these settings may hold; ``None`` for anything.

    :raises Damaged:
    """
    stored = settings.get(SETTING)
    return _decoded(stored) if stored else None

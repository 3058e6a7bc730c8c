# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How a bucket keeps versions of its objects, and what the ids of versions are like.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

from kypello.model import NULL_VERSION
from kypello.setting import Setting

#: The bucket setting that tells how versions are kept; there is none before it is set first.
SETTING = "versioning"

#: An id is the sequence number that its version was expected to get, and random digits.
_ID = re.compile("[0-9a-f]{32}")
_DIGITS = 16


class Versioning(Setting, frozen=True, omit_defaults=True):
    """
    How a bucket keeps versions.

    :ivar excluded: While it is enabled, keys that begin so are treated as if it were suspended;
        an asterisk stands for anything.
    :ivar folders: Whether keys that end with a slash are, too.
    """

    subject = "versioning"

    status: Literal["Enabled", "Suspended"]
    excluded: tuple[str, ...] = ()
    folders: bool = False

    def keeps(self, key: str) -> bool:
        """
        Whether what is stored under a key now gets an id of its own.
        """
        if self.status == "Suspended" or (self.folders and key.endswith("/")):
            return False
        return not self.excluded or _beginning(self.excluded).match(key) is None


@lru_cache(maxsize=64)
def _beginning(prefixes: tuple[str, ...]) -> re.Pattern[str]:
    """
    What matches keys that begin with one of several prefixes.
    """
    found = (".*".join(map(re.escape, prefix.split("*"))) for prefix in prefixes)
    return re.compile("|".join(found), re.DOTALL)


@lru_cache(maxsize=64)
def _decoded(stored: bytes) -> Versioning:
    # Every write asks it.
    return Versioning.from_bytes(stored)


def versioning_of(settings: Mapping[str, bytes]) -> Versioning | None:
    """
    How a bucket with these settings keeps versions; ``None`` when it never had any.

    :raises Damaged:
    """
    stored = settings.get(SETTING)
    return _decoded(stored) if stored else None


def is_version_id(version_id: str) -> bool:
    """
    Whether a version may have this id.
    """
    return version_id == NULL_VERSION or _ID.fullmatch(version_id) is not None


def new_version_id(sequence: int, random: Callable[[int], bytes]) -> str:
    """
    The id of a new version.

    :param sequence: The one that it gets unless another version is committed before.
    """
    return f"{sequence:0{_DIGITS}x}{random(_DIGITS // 2).hex()}"


def told_sequence(version_id: str) -> int | None:
    """
    The sequence number that an id tells, if it does.
    """
    return int(version_id[:_DIGITS], 16) if _ID.fullmatch(version_id) else None

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The rules of a bucket as they are kept: in the shape in which they were set.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from kypello.model import ListedVersion, ObjectInfo
from kypello.setting import Setting

#: The bucket setting that holds a :class:`Lifecycle`.
SETTING = "lifecycle"


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Which objects a rule is about: those for which all holds that is said.

    :ivar greater: Only those with more bytes.
    :ivar less: Only those with fewer bytes.
    :ivar combined: Whether it was written with ``And``.
    """

    prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    greater: int | None = None
    less: int | None = None
    combined: bool = False

    @property
    def narrows(self) -> bool:
        """
        Whether it looks at more than the key.
        """
        return bool(self.tags) or self.greater is not None or self.less is not None

    def matches(self, info: ObjectInfo) -> bool:
        """
        Whether a version with content has the tags and the size.
        """
        tags = info.metadata.tags
        return (
            (self.greater is None or info.size > self.greater)
            and (self.less is None or info.size < self.less)
            and all(tags.get(key) == value for key, value in self.tags)
        )


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One rule.  What is ``None`` was not said.

    :ivar prefix: In the old form, beside no filter.
    :ivar days: After so many days the current version expires.
    :ivar date: From then on it does, in seconds since the epoch.
    :ivar marker: Whether a delete marker goes that is the only version of its key.
    :ivar all_versions: Whether all other versions go when the current one expires.
    :ivar marker_days: After so many days a delete marker that is the newest version goes, and all
        others before.
    :ivar noncurrent_days: So many days after it was replaced, a version goes.
    :ivar newer_noncurrent: So many versions that were replaced stay, the newest ones.
    :ivar abort_days: After so many days an unfinished upload is aborted.
    """

    id: str
    enabled: bool
    prefix: str | None = None
    filter: Filter | None = None
    days: int | None = None
    date: int | None = None
    marker: bool | None = None
    all_versions: bool | None = None
    marker_days: int | None = None
    noncurrent_days: int | None = None
    newer_noncurrent: int | None = None
    abort_days: int | None = None

    @property
    def scope(self) -> str:
        """
        What the keys begin with that it is about.
        """
        if self.filter is not None:
            return self.filter.prefix or ""
        return self.prefix or ""

    def is_about(self, version: ListedVersion) -> bool:
        """
        Whether the filter lets a version pass, whose key begins as it has to.

        A delete marker has neither tags nor size, so no rule is about it that asks for them.
        """
        if self.filter is None or not self.filter.narrows:
            return True
        return not version.marker and self.filter.matches(version.info)


class Lifecycle(Setting, frozen=True, omit_defaults=True):
    """
    All rules of a bucket.

    :ivar updated: When they were set, in seconds since the epoch.
    :ivar minimum: What ``x-amz-transition-default-minimum-object-size`` said.
    """

    subject = "lifecycle"

    rules: tuple[Rule, ...]
    updated: int
    minimum: str

    @property
    def enabled(self) -> Sequence[Rule]:
        """
        The rules that count.
        """
        return tuple(rule for rule in self.rules if rule.enabled)


@lru_cache(maxsize=64)
def _enabled(stored: bytes) -> Sequence[Rule]:
    # Every read of an object asks it.
    return Lifecycle.from_bytes(stored).enabled


def rules_of(settings: Mapping[str, bytes]) -> Sequence[Rule]:
    """
    The rules that count in a bucket with these settings; none when it has no lifecycle.

    :raises Damaged:
    """
    stored = settings.get(SETTING)
    return _enabled(stored) if stored else ()

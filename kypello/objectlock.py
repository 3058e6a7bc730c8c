# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Object lock: what keeps versions from being removed for good, and who may change that.

A *retention* keeps a version until an instant.  In the mode ``GOVERNANCE`` those may shorten or
end it, or remove the version all the same, who may bypass it; in the mode ``COMPLIANCE`` nobody
may, the root user included.  A *legal hold* keeps a version until it is lifted.  Both keep versions
only: a delete marker or a newer version can always be put above one.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from kypello.errors import Refused
from kypello.interfaces import Guard
from kypello.model import COMPLIANCE, GOVERNANCE, NO_LOCK, Lock, ObjectInfo
from kypello.setting import Setting

#: The bucket setting that is there when versions of the bucket can be locked.  It is never removed,
#: and versioning stays enabled: that is what makes locks hold.
SETTING = "object-lock"

#: The modes of a retention.
MODES = (GOVERNANCE, COMPLIANCE)

#: The longest retention that a bucket gives to what says nothing itself.
MAX_DAYS = 36_500
MAX_YEARS = 100

_SECOND = 1_000_000_000


class BucketLock(Setting, frozen=True, omit_defaults=True):
    """
    The object lock of a bucket.

    :ivar mode: Of the retention that new versions get; empty for none.
    :ivar days: For how long that is, if not for years.
    :ivar years: For how many years of the calendar.
    """

    subject = "object lock"

    mode: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    days: int = 0
    years: int = 0

    def lock(self, now: int) -> Lock:
        """
        The lock of a version that is stored now and says nothing about that.

        :param now: Nanoseconds since the epoch.
        """
        if not self.mode:
            return NO_LOCK
        # In whole seconds, as some clients write no parts of them when they repeat it.
        begin = datetime.fromtimestamp(-(-now // _SECOND), UTC)
        end = begin + timedelta(days=self.days) if self.days else _years_later(begin, self.years)
        return Lock(self.mode, int(end.timestamp()) * _SECOND)


@lru_cache(maxsize=64)
def _decoded(stored: bytes) -> BucketLock:
    # Every write to such a bucket asks it.
    return BucketLock.from_bytes(stored)


def bucket_lock_of(settings: Mapping[str, bytes]) -> BucketLock | None:
    """
    The object lock of a bucket with these settings; ``None`` when nothing in it can be locked.

    :raises Damaged:
    """
    stored = settings.get(SETTING)
    return _decoded(stored) if stored else None


def is_retained(lock: Lock, now: int) -> bool:
    """
    Whether a retention is in force.

    :param now: Nanoseconds since the epoch.
    """
    return bool(lock.mode) and now < lock.until


def is_protected(lock: Lock, now: int, *, bypass: bool = False) -> bool:
    """
    Whether a version must not be removed for good, nor have its content replaced.

    :param now: Nanoseconds since the epoch.
    :param bypass: Whether whoever wants it may bypass a retention in the mode ``GOVERNANCE``, and
        asks for that.
    """
    if lock.hold:
        return True
    return is_retained(lock, now) and not (bypass and lock.mode == GOVERNANCE)


def keeping(now: Callable[[], int], *, bypass: bool = False) -> Guard:
    """
    A guard of removals that keeps what is protected.

    :param now: Tells the time, nanoseconds since the epoch.
    :param bypass: As in :func:`is_protected`.
    :return: It raises :class:`Refused`, ``AccessDenied``.
    """

    def keep(removed: ObjectInfo | None) -> None:
        """
        Let the removal happen, or not.
        """
        if removed is not None and is_protected(removed.metadata.lock, now(), bypass=bypass):
            raise locked()

    return keep


def check_retention(current: Lock, wanted: Lock, now: int, *, bypass: bool) -> None:
    """
    See that a retention may take the place of another one.

    A retention that is over binds nobody.  One in force can be made longer, and ``GOVERNANCE`` can
    become ``COMPLIANCE`` then; anything else takes the right to bypass it, which there is none for
    ``COMPLIANCE``.

    :param wanted: Without mode to end the retention.
    :param now: Nanoseconds since the epoch.
    :raises Refused: ``AccessDenied``.
    """
    if not is_retained(current, now):
        return
    stricter = wanted.mode in (current.mode, COMPLIANCE)
    if stricter and wanted.until >= current.until:
        return
    if current.mode == COMPLIANCE or not bypass:
        raise locked()


def locked() -> Refused:
    """
    The refusal of what a lock forbids.
    """
    return Refused("AccessDenied", "Access Denied because object protected by object lock.")


def _years_later(begin: datetime, years: int) -> datetime:
    try:
        return begin.replace(year=begin.year + years)
    except ValueError:
        # The 29th of February, in a year without.
        return begin.replace(year=begin.year + years, month=3, day=1)

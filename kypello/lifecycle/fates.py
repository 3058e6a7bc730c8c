# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What rules say about the versions of a key, and about unfinished uploads.

Of several rules the most eager one counts.  Times are those of AWS: so many days after something
happened means the midnight (UTC) that follows.
"""

from collections.abc import Iterator, Sequence
from enum import Enum

from attrs import define, field, frozen

from kypello.lifecycle.rules import Rule
from kypello.model import ListedVersion, ObjectInfo
from kypello.objectlock import is_protected

_SECOND = 1_000_000_000


class Action(Enum):
    """
    What becomes of a version.
    """

    #: As if its client deleted the object: there may be a delete marker above it then.
    EXPIRE = "expire"
    #: It is removed for good.
    REMOVE = "remove"


@frozen
class Due:
    """
    What a rule says.

    :ivar rule: Its id.
    :ivar since: From when on, in nanoseconds since the epoch.
    """

    since: int
    rule: str


@frozen
class Removal:
    """
    A version that is over.

    :ivar last: Whether it must stay when another version of its key was not removed, as that would
        become current.
    """

    version: ListedVersion
    action: Action
    due: Due
    last: bool = False


@frozen
class Calendar:
    """
    How days are counted.

    :ivar _day: The seconds of one.
    """

    _day: int = 24 * 60 * 60

    def midnight_after(self, moment: int, days: int) -> int:
        """
        The first midnight when so many days have passed.

        :param moment: In nanoseconds since the epoch, like the result.
        """
        length = self._day * _SECOND
        return (moment // length + days + 1) * length


def rules_for(rules: Sequence[Rule], key: str) -> Sequence[Rule]:
    """
    The rules that are about keys that begin like one.
    """
    return [rule for rule in rules if key.startswith(rule.scope)]


def expiry_of(rules: Sequence[Rule], calendar: Calendar, current: ListedVersion) -> Due | None:
    """
    When the current version of a key expires; ``None`` for never.
    """
    info = current.info
    return _first(
        Due(since, rule.id)
        for rule in rules_for(rules, info.key)
        if (since := _expiry(rule, calendar, info)) is not None and rule.is_about(current)
    )


def abortion_of(rules: Sequence[Rule], calendar: Calendar, key: str, began: int) -> Due | None:
    """
    When an unfinished upload is to be aborted; ``None`` when no rule says.

    :param began: In nanoseconds since the epoch.
    """
    return _first(
        Due(calendar.midnight_after(began, rule.abort_days), rule.id)
        for rule in rules_for(rules, key)
        if rule.abort_days is not None
    )


@define(eq=False)
class KeyFate:
    """
    What becomes of the versions of one key, which are told from the newest to the oldest.

    :ivar _rules: Those about the key.
    :ivar _now: In nanoseconds since the epoch.
    :ivar _latest: The newest version.
    :ivar _all: What says that all of them go.
    :ivar _successor: The time of the last version that was told: then the next one was replaced.
    :ivar _newer: How many of those that were replaced have content.
    :ivar _stays: Whether one of those that should go is locked.
    """

    _rules: Sequence[Rule]
    _calendar: Calendar
    _now: int
    _latest: ListedVersion | None = field(init=False, default=None)
    _all: Due | None = field(init=False, default=None)
    _successor: int = field(init=False, default=0)
    _newer: int = field(init=False, default=0)
    _only: bool = field(init=False, default=True)
    _stays: bool = field(init=False, default=False)

    def see(self, version: ListedVersion) -> Removal | None:
        """
        The next version; what becomes of it, if that is known already.
        """
        latest, successor = self._latest, self._successor
        self._successor = version.info.modified
        if latest is None:
            self._latest = version
            return self._see_latest(version)
        self._only = False
        due = self._all or self._replaced(version, successor)
        if not version.marker:
            self._newer += 1
        if due is None:
            return None
        if is_protected(version.info.metadata.lock, self._now):
            self._stays = True
            return None
        return Removal(version, Action.REMOVE, due)

    def end(self) -> Removal | None:
        """
        There are no more versions; what becomes of the newest, if that was not known before.
        """
        latest = self._latest
        if latest is None:
            return None
        if self._all is not None:
            if not self._stays and not is_protected(latest.info.metadata.lock, self._now):
                return Removal(latest, Action.REMOVE, self._all, last=True)
            return None if latest.marker else Removal(latest, Action.EXPIRE, self._all)
        if latest.marker and self._only:
            due = self._reached(self._orphan(rule, latest) for rule in self._rules)
            return None if due is None else Removal(latest, Action.REMOVE, due, last=True)
        return None

    def _see_latest(self, version: ListedVersion) -> Removal | None:
        self._all = self._reached(self._whole(rule, version) for rule in self._rules)
        if version.marker or self._all is not None:
            return None
        due = expiry_of(self._rules, self._calendar, version)
        if due is None or due.since > self._now:
            return None
        return Removal(version, Action.EXPIRE, due)

    def _whole(self, rule: Rule, latest: ListedVersion) -> Due | None:
        """
        When all versions go.
        """
        since: int | None = None
        if latest.marker and rule.marker_days is not None:
            since = self._calendar.midnight_after(latest.info.modified, rule.marker_days)
        elif not latest.marker and rule.all_versions:
            since = _expiry(rule, self._calendar, latest.info)
        return None if since is None or not rule.is_about(latest) else Due(since, rule.id)

    def _orphan(self, rule: Rule, marker: ListedVersion) -> Due | None:
        """
        When a delete marker goes that is the only version.
        """
        if not rule.is_about(marker):
            return None
        if rule.marker:
            return Due(marker.info.modified, rule.id)
        since = _expiry(rule, self._calendar, marker.info)
        return None if since is None else Due(since, rule.id)

    def _replaced(self, version: ListedVersion, successor: int) -> Due | None:
        """
        When a version goes that was replaced; ``None`` if that is still to come.
        """
        return self._reached(
            Due(self._noncurrent(rule, successor), rule.id)
            for rule in self._rules
            if (rule.noncurrent_days is not None or rule.newer_noncurrent is not None)
            and self._newer >= (rule.newer_noncurrent or 0)
            and rule.is_about(version)
        )

    def _noncurrent(self, rule: Rule, successor: int) -> int:
        if rule.noncurrent_days is None:
            return successor
        return self._calendar.midnight_after(successor, rule.noncurrent_days)

    def _reached(self, dues: Iterator[Due | None]) -> Due | None:
        return _first(due for due in dues if due is not None and due.since <= self._now)


@define(eq=False)
class Fates:
    """
    What becomes of all versions of a bucket, which are told in the order of a listing.
    """

    _calendar: Calendar
    _key: str = field(init=False, default="")
    _rules: Sequence[Rule] = field(init=False, default=())
    _fate: KeyFate | None = field(init=False, default=None)

    def see(self, rules: Sequence[Rule], version: ListedVersion, now: int) -> Iterator[Removal]:
        """
        The next version.

        :param rules: Those of the bucket that count.
        :param now: In nanoseconds since the epoch.
        """
        if version.latest and version.info.key == self._key:
            # A listing tells a key from the beginning when what it was to follow is gone.
            self._fate = None
        if self._fate is None or version.info.key != self._key:
            yield from self.end()
            self._key, self._rules = version.info.key, rules
            # Without the newest version, or by other rules than those before, nothing is sure.
            fitting = rules_for(rules, self._key) if version.latest else ()
            self._fate = KeyFate(fitting, self._calendar, now)
        elif rules is not self._rules and rules != self._rules:
            self._fate = KeyFate((), self._calendar, now)
        removal = self._fate.see(version)
        if removal is not None:
            yield removal

    def end(self) -> Iterator[Removal]:
        """
        There are no more.
        """
        removal = None if self._fate is None else self._fate.end()
        self._fate = None
        if removal is not None:
            yield removal


def _expiry(rule: Rule, calendar: Calendar, info: ObjectInfo) -> int | None:
    if rule.days is not None:
        return calendar.midnight_after(info.modified, rule.days)
    return None if rule.date is None else rule.date * _SECOND


def _first(dues: Iterator[Due]) -> Due | None:
    return min(dues, key=lambda due: due.since, default=None)

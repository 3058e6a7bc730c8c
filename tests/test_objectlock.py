# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.objectlock``.
"""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from kypello.errors import Damaged, Refused
from kypello.model import COMPLIANCE, GOVERNANCE, NO_LOCK, Lock, ObjectInfo, ObjectMetadata
from kypello.objectlock import (
    SETTING,
    BucketLock,
    bucket_lock_of,
    check_retention,
    is_protected,
    is_retained,
    keeping,
)
from tests.cases import SyncCase

_SECOND = 10**9

_INSTANTS = st.integers(0, 20)
_LOCKS = st.builds(
    Lock,
    st.sampled_from(["", GOVERNANCE, COMPLIANCE]),
    _INSTANTS,
    st.sampled_from([None, False, True]),
)


def instant(text: str) -> int:
    """
    A moment in nanoseconds since the epoch.
    """
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * _SECOND


def allowed(current: Lock, wanted: Lock, now: int, *, bypass: bool = False) -> bool:
    """
    Whether a retention may take the place of another one.
    """
    try:
        check_retention(current, wanted, now, bypass=bypass)
    except Refused as refused:
        assert refused.code == "AccessDenied", refused
        return False
    return True


class SettingTests(SyncCase):
    """
    The setting of a bucket.
    """

    def test_round_trip(self) -> None:
        """
        A setting survives; another one is damaged, and none tells that nothing is locked.
        """
        for lock in (BucketLock(), BucketLock(GOVERNANCE, days=3), BucketLock(COMPLIANCE, years=2)):
            self.assertEqual(bucket_lock_of({SETTING: lock.to_bytes()}), lock)
        self.assertIsNone(bucket_lock_of({}))
        for stored in (b"x", b'{"mode":"OTHER"}'):
            with self.assertRaises(Damaged):
                bucket_lock_of({SETTING: stored})

    def test_default(self) -> None:
        """
        New versions are kept for days of 24 hours or years of the calendar, to a whole second.
        """
        for lock, now, until in (
            (BucketLock(GOVERNANCE, days=1), "2026-03-28T12:00:00", "2026-03-29T12:00:00"),
            (BucketLock(COMPLIANCE, years=1), "2026-03-28T12:00:00", "2027-03-28T12:00:00"),
            (BucketLock(COMPLIANCE, years=1), "2028-02-29T12:00:00", "2029-03-01T12:00:00"),
            (BucketLock(COMPLIANCE, years=4), "2028-02-29T12:00:00", "2032-02-29T12:00:00"),
            (BucketLock(COMPLIANCE, years=100), "2026-01-01T00:00:00", "2126-01-01T00:00:00"),
            (BucketLock(COMPLIANCE, days=36_500), "2026-01-01T00:00:00", "2125-12-08T00:00:00"),
        ):
            expected = Lock(lock.mode, instant(until))
            self.assertEqual(lock.lock(instant(now)), expected)
            self.assertEqual(lock.lock(instant(now) - _SECOND + 1), expected)
        self.assertEqual(BucketLock().lock(instant("2026-01-01T00:00:00")), NO_LOCK)


class ProtectionTests(SyncCase):
    """
    What keeps a version.
    """

    def test_retention(self) -> None:
        """
        A retention keeps a version until it ends, and ``GOVERNANCE`` can be bypassed.
        """
        for mode, bypass, kept in (
            (GOVERNANCE, False, True),
            (GOVERNANCE, True, False),
            (COMPLIANCE, False, True),
            (COMPLIANCE, True, True),
        ):
            lock = Lock(mode, 10)
            self.assertEqual(is_protected(lock, 9, bypass=bypass), kept, (mode, bypass))
            self.assertFalse(is_protected(lock, 10, bypass=bypass))
            self.assertTrue(is_retained(lock, 9))
            self.assertFalse(is_retained(lock, 10))
        self.assertFalse(is_protected(NO_LOCK, 0))

    def test_hold(self) -> None:
        """
        A legal hold keeps a version as long as it is on, whatever the retention is.
        """
        for mode in ("", GOVERNANCE, COMPLIANCE):
            self.assertTrue(is_protected(Lock(mode, 10, True), 99, bypass=True))
            self.assertFalse(is_protected(Lock(mode, 10, False), 99))

    def test_guard(self) -> None:
        """
        A guard refuses what is protected at the time when it is asked, and nothing else.
        """
        now = [5]
        guard = keeping(lambda: now[0])
        info = ObjectInfo("b", "k", "v", 0, 0, ObjectMetadata(lock=Lock(COMPLIANCE, 10)))
        with self.assertRaises(Refused) as caught:
            guard(info)
        self.assertEqual(caught.exception.code, "AccessDenied")
        guard(None)
        now[0] = 10
        guard(info)


class ChangeTests(SyncCase):
    """
    Which retention may take the place of which.
    """

    def test_table(self) -> None:
        """
        The rules of the reference, with and without the right to bypass.
        """
        longer, same, shorter = 20, 10, 5
        # Current mode, wanted mode and end, whether it may be, and with a bypass.
        for current, wanted, until, plainly, bypassing in (
            ("", GOVERNANCE, shorter, True, True),
            ("", COMPLIANCE, shorter, True, True),
            ("", "", 0, True, True),
            (GOVERNANCE, GOVERNANCE, longer, True, True),
            (GOVERNANCE, GOVERNANCE, same, True, True),
            (GOVERNANCE, GOVERNANCE, shorter, False, True),
            (GOVERNANCE, COMPLIANCE, longer, True, True),
            (GOVERNANCE, COMPLIANCE, same, True, True),
            (GOVERNANCE, COMPLIANCE, shorter, False, True),
            (GOVERNANCE, "", 0, False, True),
            (COMPLIANCE, COMPLIANCE, longer, True, True),
            (COMPLIANCE, COMPLIANCE, same, True, True),
            (COMPLIANCE, COMPLIANCE, shorter, False, False),
            (COMPLIANCE, GOVERNANCE, longer, False, False),
            (COMPLIANCE, GOVERNANCE, same, False, False),
            (COMPLIANCE, "", 0, False, False),
        ):
            before, after = Lock(current, 10 if current else 0), Lock(wanted, until)
            self.assertEqual(allowed(before, after, 3), plainly, (before, after))
            self.assertEqual(allowed(before, after, 3, bypass=True), bypassing, (before, after))
            # What is over binds nobody.
            self.assertTrue(allowed(before, after, 10))

    @given(
        st.lists(
            st.tuples(st.sampled_from(["set", "remove", "wait"]), _LOCKS, st.booleans(), _INSTANTS),
            max_size=12,
        )
    )
    def test_promises(self, steps: list[tuple[str, Lock, bool, int]]) -> None:
        """
        Whatever is tried in whatever order: a version is there until each instant that was ever
        promised in the mode ``COMPLIANCE``, and in the mode ``GOVERNANCE`` unless somebody bypassed
        that; none goes while there is a hold on it.
        """
        now, lock = 0, NO_LOCK
        complied = governed = 0
        for step, wanted, bypass, pause in steps:
            if step == "wait":
                now += pause
            elif step == "set":
                if allowed(lock, wanted, now, bypass=bypass):
                    lock = wanted
                    if bypass:
                        governed = 0
                if lock.mode == COMPLIANCE:
                    complied = max(complied, lock.until)
                elif lock.mode == GOVERNANCE:
                    governed = max(governed, lock.until)
            else:
                removable = not is_protected(lock, now, bypass=bypass)
                if removable:
                    self.assertLessEqual(complied, now)
                    self.assertFalse(lock.hold)
                    if not bypass:
                        self.assertLessEqual(governed, now)
                    return
            self.assertEqual(now < complied, is_retained(lock, now) and lock.mode == COMPLIANCE)

    @given(_LOCKS, _LOCKS, _INSTANTS)
    def test_bypass_only_adds(self, before: Lock, after: Lock, now: int) -> None:
        """
        Who may bypass may do all that others may.
        """
        if allowed(before, after, now):
            self.assertTrue(allowed(before, after, now, bypass=True))
        if not is_protected(before, now):
            self.assertFalse(is_protected(before, now, bypass=True))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Locks of versions in requests and answers: headers, permissions, and the guard of removals.
"""

from collections.abc import Iterator, Mapping

from attrs import evolve

from kypello.auth.dates import read_iso_date
from kypello.errors import Refused
from kypello.interfaces import Guard
from kypello.model import NO_LOCK, Lock, ObjectMetadata
from kypello.objectlock import MAX_YEARS, MODES, SETTING, bucket_lock_of, keeping
from kypello.s3.call import Call
from kypello.s3.dates import xml_date
from kypello.s3.errors import invalid_argument, not_implemented

MODE = "x-amz-object-lock-mode"
UNTIL = "x-amz-object-lock-retain-until-date"
HOLD = "x-amz-object-lock-legal-hold"

#: How a legal hold is written.
HOLDS: Mapping[str, bool] = {"ON": True, "OFF": False}

_PREFIX = "x-amz-object-lock-"
_BYPASS = "x-amz-bypass-governance-retention"
_LONGEST = MAX_YEARS * 366 * 24 * 3600 * 10**9


def missing_lock() -> Refused:
    """
    The refusal of a lock in a bucket that has none.
    """
    return Refused("InvalidRequest", "Bucket is missing Object Lock Configuration")


def check_future(until: int, now: int) -> None:
    """
    See that a retention may last until an instant.

    :param now: Nanoseconds since the epoch, as *until*.
    :raises Refused: ``InvalidArgument``.
    """
    if until <= now:
        raise invalid_argument(
            UNTIL, xml_date(until), "The retain until date must be in the future!"
        )
    if until > now + _LONGEST:
        raise invalid_argument(
            UNTIL, xml_date(until), f"The retain until date must be within {MAX_YEARS} years."
        )


def read_lock(call: Call) -> Lock:
    """
    The lock that the headers of a request give a new object.

    :raises Refused: ``InvalidRequest`` where nothing can be locked, ``InvalidArgument``, or
        ``NotImplemented`` for a lock that would be lost.
    """
    head = call.head
    stated = [name for name in head.header_names if name.startswith(_PREFIX)]
    if not stated:
        return NO_LOCK
    if SETTING not in call.settings:
        raise missing_lock()
    for name in set(stated) - {MODE, UNTIL, HOLD}:
        raise not_implemented(name)
    mode, date, hold = head.header(MODE), head.header(UNTIL), head.header(HOLD)
    if (mode is None) != (date is None):
        raise invalid_argument(
            MODE if mode is None else UNTIL, "", f"{UNTIL} and {MODE} must both be supplied."
        )
    if hold is not None and hold not in HOLDS:
        raise invalid_argument(HOLD, hold, "Legal Hold must be either of 'ON' or 'OFF'")
    lock = Lock(hold=None if hold is None else HOLDS[hold])
    if mode is None or date is None:
        return lock
    if mode not in MODES:
        raise invalid_argument(MODE, mode, "Unknown wormMode directive.")
    until = read_iso_date(date)
    if until is None:
        raise invalid_argument(
            UNTIL, date, "The retain until date must be provided in ISO 8601 format"
        )
    check_future(until, call.now())
    return evolve(lock, mode=mode, until=until)


async def require_lock(call: Call, lock: Lock) -> None:
    """
    See that whoever sent a request may give a new object the lock that its headers tell.

    :raises Refused: ``AccessDenied``.
    """
    if lock.mode:
        await call.require("s3:PutObjectRetention")
    if lock.hold is not None:
        await call.require("s3:PutObjectLegalHold")


def with_lock(call: Call, lock: Lock, metadata: ObjectMetadata) -> ObjectMetadata:
    """
    The metadata of a version that is stored now, with its lock.

    :param lock: As its client wants it; a retention that it does not want is that of the bucket.
    """
    bucket = bucket_lock_of(call.settings)
    if bucket is None:
        # In nearly all buckets nothing is locked.
        return metadata
    if not lock.mode:
        lock = evolve(bucket.lock(call.now()), hold=lock.hold)
    return evolve(metadata, lock=lock)


async def lock_headers(call: Call, lock: Lock) -> list[tuple[str, str]]:
    """
    What a read tells about the lock of a version: as much as whoever sent it may read.
    """
    headers = []
    if lock.mode and await call.may("s3:GetObjectRetention"):
        headers += [(MODE, lock.mode), (UNTIL, xml_date(lock.until))]
    if lock.hold is not None and await call.may("s3:GetObjectLegalHold"):
        headers += [(HOLD, hold_word(lock.hold))]
    return headers


def hold_word(hold: bool) -> str:
    """
    A legal hold as it is written.
    """
    return "ON" if hold else "OFF"


def lock_words(lock: Lock) -> Mapping[str, str]:
    """
    A lock as policies ask for it; see :class:`RequestValues`.
    """
    return dict(_words(lock))


def _words(lock: Lock) -> Iterator[tuple[str, str]]:
    if lock.mode:
        yield MODE.removeprefix(_PREFIX), lock.mode
        yield UNTIL.removeprefix(_PREFIX), xml_date(lock.until)
    if lock.hold is not None:
        yield HOLD.removeprefix(_PREFIX), hold_word(lock.hold)


async def bypasses(call: Call, key: str, lock: Mapping[str, str] | None = None) -> bool:
    """
    Whether whoever sent a request wants to bypass retentions, and may.

    :param key: Of the object that has one.
    :param lock: That it is to have; as in :meth:`Call.may`.
    :raises Refused: ``AccessDenied``: they may not.
    """
    wanted = (call.head.header(_BYPASS) or "").lower() == "true"
    if not wanted or SETTING not in call.settings:
        return False
    await call.require("s3:BypassGovernanceRetention", call.bucket, key, lock=lock)
    return True


async def removal_guard(call: Call, key: str, version_id: str) -> Guard | None:
    """
    What keeps a version that is protected from a removal.

    :param version_id: That is to be removed; empty to put a delete marker above all, which needs
        no guard: where anything is locked no marker takes the place of a version.
    :raises Refused: ``AccessDenied``: who wants to bypass retentions may not.
    """
    if not version_id:
        return None
    return keeping(call.now, bypass=await bypasses(call, key))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Dates as requests and signatures write them.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_TIMESTAMP = re.compile("([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")


@lru_cache(maxsize=64)
def parse_timestamp(text: str) -> float | None:
    """
    Read ``YYYYMMDDTHHMMSSZ``, in seconds since the epoch; ``None`` when it is no such time.

    The last few are remembered, for all requests of a second say the same.
    """
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp()


def write_timestamp(moment: float) -> str:
    """
    Write ``YYYYMMDDTHHMMSSZ``.
    """
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")


def read_http_date(text: str) -> int | None:
    """
    Read any of the three forms of headers (RFC 9110, section 5.6.7), in whole seconds since the
    epoch.

    :return: ``None`` for anything else.
    """
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        # A year may have any number of digits.
        return None


def read_iso_date(text: str) -> int | None:
    """
    Read a date and time of day with its offset (RFC 3339), in nanoseconds since the epoch; parts of
    a millisecond count as a whole one, as answers tell no more.

    :return: ``None`` for anything else.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    second, fraction, offset = found.groups()
    try:
        moment = datetime.fromisoformat(second + offset.replace("Z", "+00:00"))
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
    milliseconds = -(-int((fraction or "0").ljust(9, "0")) // 1_000_000)
    return seconds * 1_000_000_000 + milliseconds * 1_000_000


def server_time(now: float) -> str:
    """
    An instant as error documents show it.
    """
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

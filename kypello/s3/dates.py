# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Dates as answers write them.
"""

from functools import lru_cache
from time import gmtime, strftime

from twisted.web.http import datetimeToString

_SECOND = 1_000_000_000
_MILLISECOND = 1_000_000


def http_date(nanoseconds: int) -> str:
    """
    The form of headers, in whole seconds (RFC 9110, section 5.6.7).
    """
    return _http_date(nanoseconds // _SECOND)


def xml_date(nanoseconds: int) -> str:
    """
    The form of documents, with milliseconds.
    """
    second, rest = divmod(nanoseconds, _SECOND)
    return f"{_iso_second(second)}.{rest // _MILLISECOND:03d}Z"


@lru_cache(maxsize=4096)
def _http_date(second: int) -> str:
    return str(datetimeToString(second), "ascii")


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))

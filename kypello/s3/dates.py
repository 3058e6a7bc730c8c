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

# A page of a listing has a thousand of these: to look one up takes half as long as to write it.
_FRACTIONS = [f".{milliseconds:03d}Z" for milliseconds in range(1000)]


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
    return _iso_second(second) + _FRACTIONS[rest // _MILLISECOND]


@lru_cache(maxsize=4096)
def _http_date(second: int) -> str:
    return str(datetimeToString(second), "ascii")


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))

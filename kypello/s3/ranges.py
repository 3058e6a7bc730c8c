# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which bytes of an object a read wants.
"""

import re

from kypello.auth.dates import read_http_date
from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.model import ByteRange, ObjectInfo, PartInfo
from kypello.s3.conditions import matches
from kypello.s3.errors import invalid_argument

_RANGE = re.compile("bytes=([0-9]*)-([0-9]*)")
_TOO_LARGE = 2**63
_MAX_DIGITS = 19

#: The highest number of a part.
MAX_PART = 10_000


def wanted_range(head: RequestHead, info: ObjectInfo) -> ByteRange | None:
    """
    The bytes that the answer holds; ``None`` for all of them and status 200.

    A header that is no single range is ignored (RFC 9110, section 14.2).

    :raises Refused: ``InvalidRange``, ``InvalidPartNumber``, ``InvalidArgument`` or
        ``InvalidRequest``.
    """
    stated = head.header("range")
    part = head.parameter("partNumber")
    if part is not None:
        return _part(read_part_number(part), stated, info)
    if stated is None or not _still_valid(head, info):
        return None
    found = _RANGE.fullmatch(stated)
    if found is None or found.groups() == ("", ""):
        return None
    if any(
        len(digits) > _MAX_DIGITS or int(digits or 0) >= _TOO_LARGE for digits in found.groups()
    ):
        return None
    first, last = found.groups()
    if not first:
        return _suffix(int(last), stated, info.size)
    start, stop = int(first), info.size
    if last:
        if int(last) < start:
            return None
        stop = min(int(last) + 1, stop)
    if start >= info.size:
        raise _unsatisfiable(stated, info.size)
    return ByteRange(start, stop)


def content_range(wanted: ByteRange, size: int) -> tuple[str, str]:
    """
    The header that tells which bytes the answer holds.
    """
    return "Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{size}"


def _suffix(length: int, stated: str, size: int) -> ByteRange | None:
    if not length:
        raise _unsatisfiable(stated, size)
    return ByteRange(max(0, size - length), size) if size else None


def read_part_number(stated: str | None) -> int:
    """
    The number of a part.

    :raises Refused: ``InvalidArgument``.
    """
    valid = stated and stated.isascii() and stated.isdigit() and len(stated) <= _MAX_DIGITS
    number = int(stated or "") if valid else 0
    if not 1 <= number <= MAX_PART:
        raise invalid_argument(
            "partNumber",
            stated or "",
            "Part number must be an integer between 1 and 10000, inclusive.",
        )
    return number


def wanted_part(head: RequestHead, info: ObjectInfo) -> PartInfo | None:
    """
    The part that a read asks for, of an object that was uploaded in parts; they count in the
    order of the content.

    To be called after :func:`wanted_range`, which has seen that there is such a part.
    """
    part = head.parameter("partNumber")
    return info.parts[read_part_number(part) - 1] if part is not None and info.parts else None


def _part(number: int, stated: str | None, info: ObjectInfo) -> ByteRange | None:
    if stated is not None:
        raise Refused(
            "InvalidRequest",
            "Cannot specify both Range header and partNumber query parameter",
        )
    sizes = [part.size for part in info.parts] or [info.size]
    if number <= len(sizes):
        start = sum(sizes[: number - 1])
        stop = start + sizes[number - 1]
        if start < stop:
            return ByteRange(start, stop)
        if not info.size:
            return None
    # An empty part of an object that has others holds no byte to give.
    raise Refused(
        "InvalidPartNumber",
        "The requested partnumber is not satisfiable",
        {"PartNumberRequested": str(number), "ActualPartCount": str(len(sizes))},
    )


def _still_valid(head: RequestHead, info: ObjectInfo) -> bool:
    """
    Whether ``If-Range`` names the object as it is (RFC 9110, section 13.1.5).
    """
    stated = head.header("if-range")
    if stated is None:
        return True
    moment = read_http_date(stated)
    if moment is not None:
        return moment == info.modified // 1_000_000_000
    return matches(stated, info.etag)


def _unsatisfiable(stated: str, size: int) -> Refused:
    return Refused(
        "InvalidRange",
        "The requested range is not satisfiable",
        {"RangeRequested": stated, "ActualObjectSize": str(size)},
    )

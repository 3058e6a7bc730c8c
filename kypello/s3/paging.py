# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What listings of uploads and parts have in common: numbers, and names as the client wants them.
"""

import re
from collections.abc import Callable
from urllib.parse import quote

from kypello.auth.request import RequestHead
from kypello.s3.errors import invalid_argument
from kypello.s3.owner import OWNER
from kypello.s3.xml import escape

#: The element that names who began an upload: the one owner of everything.
INITIATOR = OWNER.replace("Owner>", "Initiator>")

#: The most entries of a page, and how many there are unless fewer are asked for.
PAGE = 1000

_LARGEST = 2**31 - 1
_MAX_DIGITS = 19
_PLAIN = re.compile("[A-Za-z0-9_.~/-]*").fullmatch


def read_number(head: RequestHead, name: str, default: int) -> int:
    """
    A parameter that is a number from 0 to 2147483647.

    :param default: When it is absent or empty.
    :raises Refused: ``InvalidArgument``.
    """
    stated = head.parameter(name)
    if not stated:
        return default
    digits = stated.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise invalid_argument(
            name, stated, f"Provided {name} not an integer or within integer range"
        )
    if not 0 <= int(stated) <= _LARGEST:
        raise invalid_argument(
            name, stated, f"Argument {name} must be an integer between 0 and 2147483647"
        )
    return int(stated)


def read_limit(head: RequestHead, name: str) -> int:
    """
    A parameter that says how many entries a page has at most.

    :raises Refused: ``InvalidArgument``.
    """
    return min(read_number(head, name, PAGE), PAGE)


def name_writer(head: RequestHead) -> tuple[Callable[[str], str], str]:
    """
    What makes a name the content of an element, and the element that tells the client so.

    :raises Refused: ``InvalidArgument``: an encoding that is not known.
    """
    encoding = head.parameter("encoding-type")
    if not encoding:
        return escape, ""
    if encoding.lower() != "url":
        raise invalid_argument(
            "encoding-type", encoding, "Invalid Encoding Method specified in Request"
        )
    return _quote, "<EncodingType>url</EncodingType>"


def _quote(name: str) -> str:
    return name if _PLAIN(name) else quote(name, safe="/")

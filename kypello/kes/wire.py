# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the KES API looks like in bytes: names, request bodies, answers.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from kypello.errors import KypelloError
from kypello.http.response import Response

#: How a time that is unknown is told.
UNKNOWN_TIME = "0001-01-01T00:00:00Z"

_NAME = re.compile(r"(?!_\Z|-)[0-9A-Za-z_-]{1,80}(?<!-)")
_IDENTITY = re.compile("[0-9a-f]{64}")
_PREFIX = re.compile(r"(?!_\Z|-)[0-9A-Za-z_-]{0,80}")
_JSON = (("Content-Type", "application/json"),)
#: The media type of a value per line.
LINES = "application/x-ndjson"
# As Go writes JSON: safe within HTML.
_ESCAPES = str.maketrans(
    {sign: f"\\u{ord(sign):04x}" for sign in ("<", ">", "&", "\u2028", "\u2029")}
)


@define(eq=False)
class Rejected(KypelloError):
    """
    A request that breaks a rule of the KES API.

    :ivar message: What is wrong, in the words that clients know.
    """

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()


@define(eq=False)
class Malformed(KypelloError):
    """
    A request body that cannot be read.  What it holds may be secret and is not told.
    """


@frozen
class Selection:
    """
    Which names a listing asks for.

    :ivar prefix: How they begin.
    :ivar after: The name behind which they begin; empty for the start.
    """

    prefix: str
    after: str = ""


@frozen
class Fields:
    """
    The members of a request body.

    :ivar _members: By lower-case name.
    """

    _members: Mapping[str, object] = field(repr=False)

    def text(self, name: str) -> str:
        """
        A member that is a string; empty when it is absent.

        :raises Malformed: It is something else.
        """
        value = self._members.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Malformed()
        return value

    def binary(self, name: str) -> bytes:
        """
        A member that is base64; empty when it is absent.

        :raises Malformed: It is something else.
        """
        try:
            return b64decode(self.text(name), validate=True)
        except ValueError:
            raise Malformed() from None


def is_name(text: str) -> bool:
    """
    Whether a key, a policy or an identity may have this name.
    """
    return _NAME.fullmatch(text) is not None


def is_identity(text: str) -> bool:
    """
    Whether somebody can have this identity: 64 lower-case hexadecimal digits.
    """
    return _IDENTITY.fullmatch(text) is not None


def parse_selection(pattern: str) -> Selection | None:
    """
    Read what a listing asks for: the beginning of names, with or without a star behind it.

    :return: ``None`` when it can be the beginning of no name.
    """
    prefix, _star, after = pattern.partition("*")
    if _PREFIX.fullmatch(prefix) is None or (after and not is_name(after)):
        return None
    return Selection(prefix, after)


def continuation(prefix: str, last: str) -> str:
    """
    The pattern that asks for the names behind *last*.

    A star is part of no name, so that this is never taken for the beginning of one; and a rule
    that allows the listing of a prefix allows its continuation.
    """
    return f"{prefix}*{last}"


def parse_fields(body: bytes) -> Fields:
    """
    Read the JSON object at the beginning of a body.  As in Go, names are of any case, and what
    follows the object does not matter.

    :raises Malformed: There is none.
    """
    return _fields(_first_value(body))


def parse_items(body: bytes, limit: int) -> tuple[Fields, ...]:
    """
    Read the JSON array of objects at the beginning of a body.

    :param limit: How many there may be.
    :raises Malformed: There is none, or it is longer.
    """
    value = _first_value(body)
    if not isinstance(value, list) or len(value) > limit:
        raise Malformed()
    return tuple(_fields(member) for member in value)


def _first_value(body: bytes) -> object:
    try:
        value: object
        value, _end = json.JSONDecoder().raw_decode(body.decode().lstrip())
    except (ValueError, RecursionError):
        raise Malformed() from None
    return value


def _fields(value: object) -> Fields:
    if value is None:
        return Fields({})
    if not isinstance(value, dict):
        raise Malformed()
    return Fields({name.lower(): member for name, member in value.items()})


def text_of(value: bytes) -> str:
    """
    Bytes as JSON tells them: base64.
    """
    return b64encode(value).decode("ascii")


def json_response(value: Any, status: int = 200) -> Response:
    """
    An answer that tells a value.
    """
    return Response(status, _JSON, _line(value))


def lines_response(values: Iterable[Any]) -> Response:
    """
    An answer that tells a value per line.
    """
    return Response(200, (("Content-Type", LINES),), b"".join(map(_line, values)))


def error_response(error: Rejected) -> Response:
    """
    An answer that tells what is wrong.
    """
    told = json_response({"message": error.message}, error.status)
    return Response(told.status, (*told.headers, *error.headers), told.body)


def _line(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)
    # A client can send half a surrogate pair in JSON, which no encoding of text has.
    return text.encode(errors="replace") + b"\n"

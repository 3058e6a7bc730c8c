# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the administration API looks like in bytes: documents, times, answers.
"""

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from kypello.admin.errors import Rejected
from kypello.http.response import Response

#: How a time that never was is told.
NEVER = "0001-01-01T00:00:00Z"

#: How it is told that something does not expire.
NO_EXPIRY = "1970-01-01T00:00:00Z"

#: The answer to a change that has nothing to tell.
DONE = Response(200)

#: The same, of those that say so by their status.
DONE_SILENTLY = Response(204)

_JSON = (("Content-Type", "application/json"),)

_Document = TypeVar("_Document")


class Document(msgspec.Struct, rename="camel"):
    """
    What the body of a request holds; it may be secret, and so is not shown.
    """

    def __repr__(self) -> str:
        """
        Tell what kind it is.
        """
        return f"<{type(self).__name__}>"


def json_bytes(value: Any) -> bytes:
    """
    A value as JSON; what is JSON already stands in it as :class:`msgspec.Raw`.
    """
    return msgspec.json.encode(value)


def json_response(value: Any, status: int = 200) -> Response:
    """
    An answer that tells a value.
    """
    return Response(status, _JSON, json_bytes(value) + b"\n")


def sealed_response(payload: bytes) -> Response:
    """
    An answer that is encrypted.
    """
    # Clients know by the route that it is no JSON before it is opened.
    return Response(200, _JSON, payload)


def read_document(content: bytes, kind: type[_Document]) -> _Document:
    """
    Read a JSON document; unknown members do not matter.

    :raises Rejected: It is no such document.  What it holds may be secret and is not told.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise bad_json() from None


def read_value(content: msgspec.Raw) -> Any:
    """
    Read what a document holds without having looked at it.

    :raises Rejected: It cannot be read.
    """
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise bad_json() from None


def bad_json() -> Rejected:
    """
    The refusal of a body that cannot be opened or read.
    """
    return Rejected(
        400, "XMinioAdminConfigBadJSON", "JSON configuration provided is of incorrect format"
    )


def tell_time(seconds: float) -> str:
    """
    A time as the API tells it.
    """
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


def tell_update(nanoseconds: int | None) -> str:
    """
    When something was changed, as the API tells it.

    :param nanoseconds: ``None`` when it never was.
    """
    return NEVER if nanoseconds is None else tell_time(nanoseconds / 1e9)


def tell_expiry(seconds: float | None) -> str:
    """
    When something expires, as the API tells it.
    """
    return NO_EXPIRY if seconds is None else tell_time(seconds)


def read_expiry(text: str | None) -> float | None:
    """
    Read when something is to expire.

    :return: In seconds since the epoch; ``None`` for never, which has several spellings.
    :raises Rejected: It is no time.
    """
    if not text or text.startswith((NEVER[:10], NO_EXPIRY[:10])):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise Rejected(400, "InvalidRequest", "The expiration is no time.") from None

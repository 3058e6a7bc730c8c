# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an operation answers, as a value.
"""

from collections.abc import Sequence
from http import HTTPStatus

from attrs import frozen

from kypello.interfaces import IBodySource


@frozen
class Response:
    """
    An answer to a request.

    :ivar status: The HTTP status code.
    :ivar headers: Names and values in order, each character of a value being one byte
        (latin-1).  ``Content-Length`` is computed from *body* and given only where the answer
        tells the length of a body that it does not hold: to ``HEAD``.
    :ivar body: All of it, or a source that is read to its end and closed.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | IBodySource = b""


def reason_phrase(status: int) -> str:
    """
    The standard words for a status code; clients show them when there is no body.
    """
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"

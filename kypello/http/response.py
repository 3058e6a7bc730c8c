# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an operation answers, as a value.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus

from attrs import define

from kypello.interfaces import IBodySource


@define(eq=False)
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


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@lru_cache(maxsize=128)
def status_line(version: bytes, status: int) -> bytes:
    """
    The first line of an answer, with the standard words; clients show them without a body.
    """
    return b"%b %d %b\r\n" % (version, status, _PHRASES.get(status, "Unknown").encode("ascii"))


def header_lines(headers: Sequence[tuple[str, str]]) -> bytes:
    """
    Headers as they are sent.

    :raises ValueError: A value holds a line break, or a character that is no byte.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header holds a line break")
    return lines


def last_answer(response: Response, standing_headers: Callable[[bytes], bytes]) -> bytes:
    """
    An answer, whose body is bytes, that ends its connection.

    :param standing_headers: Gives those that every answer has beside its own.
    """
    body = response.body
    assert isinstance(body, bytes)
    lines = header_lines(response.headers)
    return b"".join(
        (
            status_line(b"HTTP/1.1", response.status),
            standing_headers(lines),
            lines,
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body),
            body,
        )
    )

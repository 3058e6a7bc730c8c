# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the headers of a request announce about the size and the digests of its body.
"""

from collections.abc import Iterator

from attrs import evolve, frozen

from kypello.auth.mode import PayloadMode
from kypello.auth.request import RequestHead
from kypello.crypto.checksums import SIZES, decode
from kypello.errors import Refused

#: Header and trailer names of checksums begin so.
PREFIX = "x-amz-checksum-"

#: Headers of that prefix that hold no digest.
_SETTINGS = frozenset(PREFIX + name for name in ("mode", "type", "algorithm"))
_SDK_ALGORITHM = "x-amz-sdk-checksum-algorithm"
_DECODED_LENGTH = "x-amz-decoded-content-length"
#: More digits than any size has; beyond it a number costs time to read.
_MAX_DIGITS = 19


@frozen
class Announced:
    """
    The digests that a body must have.

    :ivar size: Bytes of content.
    :ivar md5: 16 bytes (``Content-MD5``); ``None`` when not sent.
    :ivar algorithm: Of the one checksum, in lower case; ``None`` when none is announced.
    :ivar checksum: Its value; ``None`` when it comes in the trailer.
    """

    size: int
    md5: bytes | None
    algorithm: str | None
    checksum: bytes | None

    @property
    def trailers(self) -> tuple[str, ...]:
        """
        The names of the trailers that must come.
        """
        return (PREFIX + self.algorithm,) if self.algorithm and self.checksum is None else ()


def read_announced(head: RequestHead, mode: PayloadMode, body_size: int | None) -> Announced:
    """
    Read and check all headers about size and digests.

    :param body_size: Of the body as it is framed; ``None`` when unknown.

    :raises Refused: ``MissingContentLength``, ``InvalidArgument``, ``InvalidDigest``,
        ``InvalidRequest``, or ``BadDigest`` for a checksum that is no digest.
    """
    size = _size(head, mode, body_size)
    md5 = _md5(head)
    in_headers, in_trailers = list(_headers(head)), _trailers(head, mode)
    if len(in_headers) + len(in_trailers) > 1:
        raise _several()
    algorithm, checksum = None, None
    if in_headers:
        algorithm = in_headers[0]
        checksum = checksum_value(algorithm, head.header(PREFIX + algorithm) or "")
    elif in_trailers:
        algorithm = in_trailers[0]
    covered = md5 is not None or mode.sha256 is not None or mode.seed is not None
    _check_sdk_algorithm(head, algorithm, covered)
    return Announced(size, md5, algorithm, checksum)


def without_checksums(head: RequestHead) -> RequestHead:
    """
    A request without the headers that hold a checksum: they tell about something else than its
    body.
    """
    headers = tuple(
        (name, value)
        for name, value in head.headers
        if name in _SETTINGS or not (name.startswith(PREFIX) or name == _SDK_ALGORITHM)
    )
    return evolve(head, headers=headers)


def read_algorithm(stated: str) -> str:
    """
    The name of a checksum algorithm in lower case.

    :raises Refused: ``InvalidRequest``: there is none of this name.
    """
    if stated.lower() not in SIZES:
        raise _invalid(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid"
            f" types: [{', '.join(name.upper() for name in SIZES)}]"
        )
    return stated.lower()


def stated_checksum(head: RequestHead) -> tuple[str, str] | None:
    """
    Algorithm and value of the checksum in the headers; ``None`` when there is none.

    :raises Refused: ``InvalidRequest``.
    """
    names = list(_headers(head))
    if len(names) > 1:
        raise _several()
    return (names[0], head.header(PREFIX + names[0]) or "") if names else None


def checksum_value(algorithm: str, text: str) -> bytes:
    """
    Read a checksum as it stands in a header or trailer.

    :raises Refused: ``BadDigest``: it cannot be the checksum of anything.
    """
    value = decode(text, SIZES[algorithm])
    if value is None:
        raise Refused("BadDigest", f"Value for {PREFIX}{algorithm} header is invalid.")
    return value


def _size(head: RequestHead, mode: PayloadMode, body_size: int | None) -> int:
    stated = head.header(_DECODED_LENGTH) if mode.chunked else None
    if stated is not None:
        if not (stated.isascii() and stated.isdigit() and len(stated) <= _MAX_DIGITS):
            raise Refused(
                "InvalidArgument",
                f"{_DECODED_LENGTH} must be a number",
                {"ArgumentName": _DECODED_LENGTH, "ArgumentValue": stated},
            )
        return int(stated)
    if mode.chunked or body_size is None:
        raise Refused("MissingContentLength", "You must provide the Content-Length HTTP header.")
    return body_size


def _md5(head: RequestHead) -> bytes | None:
    stated = head.header("content-md5")
    if stated is None:
        return None
    value = decode(stated, 16)
    if value is None:
        raise Refused(
            "InvalidDigest",
            "The Content-MD5 you specified is not valid.",
            {"Content-MD5": stated},
        )
    return value


def _headers(head: RequestHead) -> Iterator[str]:
    names = dict.fromkeys(name for name, _value in head.headers)
    for name in names:
        if name.startswith(PREFIX) and name not in _SETTINGS:
            algorithm = name.removeprefix(PREFIX)
            if algorithm not in SIZES:
                raise _invalid(
                    "The algorithm type you specified in x-amz-checksum- header is invalid."
                )
            yield algorithm


def _trailers(head: RequestHead, mode: PayloadMode) -> list[str]:
    stated = head.header("x-amz-trailer")
    if stated is None:
        return []
    names = [name.strip(" \t").lower() for name in stated.split(",")]
    algorithms = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    if not mode.trailer or len(algorithms) < len(names) or not SIZES.keys() >= set(algorithms):
        raise _invalid("The value specified in the x-amz-trailer header is not supported")
    return algorithms


def _check_sdk_algorithm(head: RequestHead, algorithm: str | None, covered: bool) -> None:
    """
    See that ``x-amz-sdk-checksum-algorithm`` says what the checksum is.

    :param covered: Something else protects the body: then older SDKs send no checksum.
    """
    stated = head.header(_SDK_ALGORITHM)
    if stated is None:
        return
    named = read_algorithm(stated)
    if algorithm is None:
        if not covered:
            raise _invalid(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-*"
                " or x-amz-trailer headers were found."
            )
    elif named != algorithm:
        raise _invalid("Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _several() -> Refused:
    return _invalid(
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
    )


def _invalid(message: str) -> Refused:
    return Refused("InvalidRequest", message)

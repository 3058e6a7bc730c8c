# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1 framing, without I/O: where a request's header section and body begin and end.

What two parties could read in two ways is refused, never repaired: request smuggling lives on
repairs (RFC 9112, sections 2.2, 3, 5, 6 and 11.2).
"""

import re

from attrs import define, field, frozen

from kypello.errors import KypelloError

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+").fullmatch
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]+)(.*)").fullmatch
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL).fullmatch

#: The longest line that announces a chunk, and all trailers together, in bytes.
_CHUNK_LINE = 1024
_TRAILERS = 16 * 1024


@define(eq=False)
class BadRequest(KypelloError):
    """
    A request whose framing cannot be trusted; the connection ends with the answer.

    :ivar status: The HTTP status of the answer.
    :ivar reason: What is wrong, for people; holds nothing that the client sent.
    """

    status: int
    reason: str


@define(eq=False)
class HeadTooLarge(BadRequest):
    """
    The request line and headers are longer than the server accepts.
    """

    status: int = 400
    reason: str = "Your request header section exceeds the maximum allowed size."


@frozen
class Head:
    """
    The request line and headers of a request, as sent.  The query and headers may hold secrets.

    :ivar target: The request target, still percent-encoded.
    :ivar version: ``HTTP/1.0`` or ``HTTP/1.1``.
    :ivar headers: Names as sent; values without surrounding white space.
    :ivar length: Bytes of body; ``None`` with the chunked transfer coding.
    :ivar persistent: The client can use the connection for more.
    :ivar expects_continue: The client waits for ``100 Continue`` before it sends the body.
    """

    method: bytes
    target: bytes = field(repr=False)
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    length: int | None
    persistent: bool
    expects_continue: bool


def take_head(buffer: bytearray, limit: int) -> Head | None:
    """
    Take the head of a request out of the bytes received so far.

    :param buffer: What was received; the head, with its empty line, is removed from it.
    :param limit: How long a head may be, in bytes.
    :return: ``None`` as long as the head is not complete.
    :raises BadRequest: It is no head; *buffer* is of no further use.
    """
    if buffer.startswith(b"\r\n"):
        # One empty line before a request is tolerated (RFC 9112, section 2.2).
        del buffer[:2]
    end = buffer.find(b"\r\n\r\n", 0, limit)
    if end < 0:
        if len(buffer) >= limit:
            raise HeadTooLarge()
        return None
    lines = bytes(memoryview(buffer)[:end]).split(b"\r\n")
    del buffer[: end + 4]
    return _parse(lines)


def _parse(lines: list[bytes]) -> Head:
    try:
        method, target, version = lines[0].split(b" ")
    except ValueError:
        raise BadRequest(400, "The request line is malformed.") from None
    if not (_TOKEN(method) and _TARGET(target) and _VERSION(version)):
        raise BadRequest(400, "The request line is malformed.")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(505, "This server speaks HTTP/1.1.")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN(name) or _CONTROL(value):
            raise BadRequest(400, "A header is malformed.")
        headers.append((name, value.strip(b" \t")))
    target = _origin_form(target, headers)
    special: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _FRAMING_HEADERS:
            special.setdefault(lower, []).append(value)
    hosts = special.get(b"host", [])
    modern = version == b"HTTP/1.1"
    if len(hosts) > 1 or (modern and not hosts):
        raise BadRequest(400, "A request has exactly one Host header.")
    tokens = b",".join(special.get(b"connection", [])).lower().split(b",")
    return Head(
        method=method,
        target=target,
        version=version,
        headers=tuple(headers),
        length=_length(special, modern),
        persistent=modern and b"close" not in [token.strip(b" \t") for token in tokens],
        expects_continue=modern and special.get(b"expect", [b""])[0].lower() == b"100-continue",
    )


_FRAMING_HEADERS = frozenset(
    (b"host", b"connection", b"expect", b"content-length", b"transfer-encoding")
)


def _origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """
    Reduce an absolute target to its path and query; its authority overrides ``Host``.
    """
    if target.startswith(b"/") or target == b"*":
        return target
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise BadRequest(400, "The request target is malformed.")
    authority, rest = absolute.groups()
    headers[:] = [(n, authority if n.lower() == b"host" else v) for n, v in headers]
    return rest if rest.startswith(b"/") else b"/" + rest


def _length(special: dict[bytes, list[bytes]], modern: bool) -> int | None:
    lengths = special.get(b"content-length")
    codings = special.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise BadRequest(400, "Content-Length and Transfer-Encoding exclude each other.")
        if not modern or len(codings) != 1:
            raise BadRequest(400, "Transfer-Encoding is not acceptable here.")
        if codings[0].lower() != b"chunked":
            raise BadRequest(501, "The only supported transfer coding is chunked.")
        return None
    if lengths is None:
        return 0
    if len(lengths) != 1 or not _LENGTH(lengths[0]):
        raise BadRequest(400, "Content-Length is not one non-negative integer.")
    return int(lengths[0])


@define
class Identity:
    """
    A body of known length.

    :ivar remaining: Bytes still to come.
    """

    remaining: int

    @property
    def complete(self) -> bool:
        """
        Whether the whole body was seen.
        """
        return self.remaining == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """
        Divide received bytes into those of the body and those that follow it.
        """
        if len(data) <= self.remaining:
            self.remaining -= len(data)
            return [data], b""
        body, excess = data[: self.remaining], data[self.remaining :]
        self.remaining = 0
        return [body] if body else [], excess


@define
class Chunked:
    """
    A body in the chunked transfer coding (RFC 9112, section 7.1).

    Chunk extensions and trailers are read over.

    :ivar complete: Whether the last chunk and the trailers were seen.
    """

    complete: bool = False
    _line: bytearray = field(factory=bytearray)
    _chunk: int = 0
    _after_chunk: bool = False
    _trailers: int | None = None

    @property
    def remaining(self) -> None:
        """
        Nobody knows how many bytes are still to come.
        """
        return None

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """
        Divide received bytes into those of the body and those that follow it.

        :raises BadRequest: The coding is malformed.
        """
        blocks = []
        position = 0
        while position < len(data) and not self.complete:
            if self._chunk:
                block = data[position : position + self._chunk]
                blocks.append(block)
                self._chunk -= len(block)
                position += len(block)
                self._after_chunk = not self._chunk
                continue
            end = data.find(b"\n", position)
            stop = len(data) if end < 0 else end + 1
            self._line += data[position:stop]
            position = stop
            if len(self._line) > _CHUNK_LINE:
                raise BadRequest(400, "A chunk header is too long.")
            if end >= 0:
                line = bytes(self._line)
                self._line.clear()
                self._take(line)
        return blocks, data[position:]

    def _take(self, line: bytes) -> None:
        text = line[:-2]
        if not line.endswith(b"\r\n") or _CONTROL(text):
            raise BadRequest(400, "A chunk header is malformed.")
        if self._after_chunk:
            if text:
                raise BadRequest(400, "A chunk is longer than announced.")
            self._after_chunk = False
        elif self._trailers is not None:
            self._trailers += len(line)
            if self._trailers > _TRAILERS:
                raise BadRequest(400, "The trailers are too long.")
            self.complete = not text
        else:
            size = _CHUNK_SIZE(text)
            if size is None:
                raise BadRequest(400, "A chunk header is malformed.")
            self._chunk = int(size[1], 16)
            if not self._chunk:
                self._trailers = 0

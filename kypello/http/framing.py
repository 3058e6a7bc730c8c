# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1 framing, without I/O: where a request's header section and body begin and end.

What two parties could read in two ways is refused, never repaired: request smuggling lives on
repairs (RFC 9112, sections 2.2, 3, 5, 6 and 11.2).
"""

import re
from functools import lru_cache

from attrs import define, field

from kypello.errors import KypelloError

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+").fullmatch
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]+)(.*)").fullmatch
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL).fullmatch

#: How a client of TLS begins.
_HANDSHAKE = b"\x16\x03"

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


@define(eq=False)
class Head:
    """
    The request line and headers of a request.  The query and headers may hold secrets.

    :ivar target: The request target, still percent-encoded.
    :ivar version: ``HTTP/1.0`` or ``HTTP/1.1``.
    :ivar headers: Names in lower case; values without surrounding white space, each byte of
        them one character (latin-1), so that nothing is lost.
    :ivar length: Bytes of body; ``None`` with the chunked transfer coding.
    :ivar persistent: The client can use the connection for more.
    :ivar expects_continue: The client waits for ``100 Continue`` before it sends the body.
    """

    method: bytes
    target: bytes = field(repr=False)
    version: bytes
    headers: tuple[tuple[str, str], ...] = field(repr=False)
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
        if buffer.startswith(_HANDSHAKE):
            # Its end would never come, and the client would wait for an answer in vain.
            raise BadRequest(400, "This port speaks HTTP, and not HTTPS.")
        if len(buffer) >= limit:
            raise HeadTooLarge()
        return None
    head = bytes(memoryview(buffer)[:end])
    del buffer[: end + 4]
    return _parse(head)


def _parse(head: bytes) -> Head:
    line, _, rest = head.partition(b"\r\n")
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise BadRequest(400, "The request line is malformed.") from None
    if not (_TOKEN(method) and _TARGET(target) and _VERSION(version)):
        raise BadRequest(400, "The request line is malformed.")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(505, "This server speaks HTTP/1.1.")
    # Of control bytes only tabs, and those of line ends, may be there.
    if len(rest) - len(rest.translate(None, _CONTROLS)) != 2 * rest.count(b"\r\n"):
        raise _bad_header()
    headers: list[tuple[str, str]] = []
    special: dict[str, list[str]] = {}
    for field_line in rest.decode("latin-1").split("\r\n") if rest else ():
        name, colon, value = field_line.partition(":")
        name = _lower_short(name) if len(name) <= _SHORT else _lower(name)
        value = value.strip(" \t")
        if not colon or not name:
            raise _bad_header()
        headers.append((name, value))
        if name in _FRAMING_HEADERS:
            special.setdefault(name, []).append(value)
    hosts = special.get("host", ())
    modern = version == b"HTTP/1.1"
    if len(hosts) > 1 or (modern and not hosts):
        raise BadRequest(400, "A request has exactly one Host header.")
    if not target.startswith(b"/") and target != b"*":
        target = _origin_form(target, headers)
    connection = special.get("connection")
    return Head(
        method,
        target,
        version,
        tuple(headers),
        _length(special, modern),
        modern and not (connection and _closes(connection)),
        modern and "expect" in special and special["expect"][0].lower() == "100-continue",
    )


_FRAMING_HEADERS = frozenset(
    ("host", "connection", "expect", "content-length", "transfer-encoding")
)


def _lower(name: str) -> str:
    """
    The name of a header in lower case; empty for what is no name.
    """
    return name.lower() if _TOKEN(name.encode("latin-1")) else ""


#: The same for names of no more than :data:`_SHORT` characters, which are few and come often.
_lower_short = lru_cache(maxsize=1024)(_lower)
_SHORT = 64


def _bad_header() -> BadRequest:
    return BadRequest(400, "A header is malformed.")


def _closes(connection: list[str]) -> bool:
    tokens = ",".join(connection).lower().split(",")
    return "close" in [token.strip(" \t") for token in tokens]


def _origin_form(target: bytes, headers: list[tuple[str, str]]) -> bytes:
    """
    Reduce an absolute target to its path and query; its authority overrides ``Host``.
    """
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise BadRequest(400, "The request target is malformed.")
    authority, rest = absolute.groups()
    host = authority.decode("latin-1")
    headers[:] = [(name, host if name == "host" else value) for name, value in headers]
    return rest if rest.startswith(b"/") else b"/" + rest


def _length(special: dict[str, list[str]], modern: bool) -> int | None:
    lengths = special.get("content-length")
    codings = special.get("transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise BadRequest(400, "Content-Length and Transfer-Encoding exclude each other.")
        if not modern or len(codings) != 1:
            raise BadRequest(400, "Transfer-Encoding is not acceptable here.")
        if codings[0].lower() != "chunked":
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

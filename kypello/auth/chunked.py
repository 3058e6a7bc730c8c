# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The aws-chunked framing of bodies: chunks, their signatures, and trailers.

    hex-size[;chunk-signature=64-hex]\\r\\n data \\r\\n ... 0[;chunk-signature=64-hex]\\r\\n
    [name:value\\r\\n]* [x-amz-trailer-signature:64-hex\\r\\n] \\r\\n

Source: "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
Chunks" and "... Including Trailing Headers" of the Amazon S3 API reference.
"""

import re
from enum import Enum, auto
from hashlib import sha256

from kypello.auth.mode import ChunkSeed
from kypello.auth.sigv4 import same_signature, sign
from kypello.errors import Refused
from kypello.model import Buffer

#: The longest line accepted, in bytes.
MAX_LINE = 4096

#: How much is searched at once for the end of a line; all lines of common clients are shorter.
_WINDOW = 160

_EMPTY_SHA256 = sha256().hexdigest()
_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})")
_SIGNED_SIZE = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    OVER = auto()


class ChunkedDecoder:
    """
    Turns the framed body into its content and accounts for every byte.

    Content is given out before the signature of its chunk can be checked, for chunks may be
    large: the caller commits nothing before :meth:`finish` has returned.  All methods raise
    :class:`Refused`; nothing may be fed afterwards.
    """

    def __init__(
        self, size: int, seed: ChunkSeed | None, trailer: bool, announced: tuple[str, ...]
    ) -> None:
        """
        :param size: How many bytes of content there must be (``x-amz-decoded-content-length``).
        :param seed: What the chunks must be signed with; ``None`` when they are not.
        :param trailer: Whether the mode of the payload has trailers.
        :param announced: The lower-case names of the trailers that must come
            (``x-amz-trailer``), in that order.
        """
        self._left = size
        self._seed = seed
        self._previous = "" if seed is None else seed.signature
        self._trailer = trailer
        self._announced = announced
        self._state = _State.SIZE
        self._line = bytearray()
        self._chunk_left = 0
        self._chunk_signature = ""
        self._hash = sha256()
        self._trailers: dict[str, str] = {}
        self._trailer_signature: str | None = None
        self._lone_newline = False
        self._may_end = False

    def feed(self, block: Buffer) -> list[memoryview]:
        """
        Take the next bytes of the body and give the content in them, without copying it.

        :raises Refused: ``IncompleteBody`` for broken framing or another size than announced,
            ``SignatureDoesNotMatch``, ``MalformedTrailerError``.
        """
        view = memoryview(block)
        at, content = 0, []
        while at < len(view):
            if self._state is _State.DATA:
                piece = view[at : at + self._chunk_left]
                at += len(piece)
                content.append(piece)
                self._take(piece)
            elif self._state is _State.OVER:
                raise _incomplete("Bytes follow the end of the body.")
            else:
                at = self._read_line(view, at)
        return content

    def finish(self) -> dict[str, str]:
        """
        The body is over; give the values of the announced trailers by name.

        :raises Refused: ``IncompleteBody`` when the end is missing, ``MalformedTrailerError``
            for a trailer that is, ``SignatureDoesNotMatch``.
        """
        if self._state is not _State.OVER:
            if not self._may_end or self._line:
                raise _incomplete("The body ends before its last chunk.")
            self._close()
        return self._trailers

    def _take(self, piece: memoryview) -> None:
        if self._seed is not None:
            self._hash.update(piece)
        self._chunk_left -= len(piece)
        if not self._chunk_left:
            self._state = _State.DATA_END

    def _read_line(self, view: memoryview, at: int) -> int:
        """
        Collect a line, act on it when it is complete, and tell where the next byte is.
        """
        window = bytes(view[at : at + _WINDOW])
        end = window.find(b"\n") + 1
        self._line += window[:end] if end else window
        if len(self._line) > MAX_LINE:
            raise _incomplete("A line of the chunked body is too long.")
        if end:
            line = bytes(self._line)
            self._line.clear()
            self._act(line)
        return at + (end or len(window))

    def _act(self, line: bytes) -> None:
        if self._state is _State.TRAILER:
            self._trailer_line(line)
        elif not line.endswith(b"\r\n"):
            raise _incomplete("A line of the chunked body has no proper end.")
        elif self._state is _State.SIZE:
            self._begin_chunk(line[:-2])
        elif line != b"\r\n":
            raise _incomplete("A chunk is longer than it says.")
        else:
            self._check_chunk()
            self._state = _State.SIZE

    def _begin_chunk(self, line: bytes) -> None:
        found = (_SIZE if self._seed is None else _SIGNED_SIZE).fullmatch(line)
        if found is None:
            raise _incomplete("The header of a chunk is malformed.")
        if self._seed is not None:
            self._chunk_signature = found[2].decode("ascii")
        size = int(found[1], 16)
        if size > self._left or (size == 0 and self._left):
            raise _incomplete(
                "You did not provide the number of bytes specified by the"
                " x-amz-decoded-content-length HTTP header"
            )
        self._left -= size
        self._chunk_left = size
        if size:
            self._state = _State.DATA
        else:
            self._check_chunk()
            self._state = _State.TRAILER

    def _check_chunk(self) -> None:
        if self._seed is None:
            return
        self._check(
            self._seed,
            "PAYLOAD",
            f"{_EMPTY_SHA256}\n{self._hash.hexdigest()}",
            self._chunk_signature,
        )
        self._previous = self._chunk_signature
        self._hash = sha256()

    def _check(self, seed: ChunkSeed, kind: str, hashes: str, provided: str) -> None:
        text = (
            f"AWS4-HMAC-SHA256-{kind}\n{seed.timestamp}\n{seed.scope}\n{self._previous}\n{hashes}"
        )
        if not same_signature(sign(seed.key, text), provided):
            raise Refused(
                "SignatureDoesNotMatch",
                "The chunk or trailer signature we calculated does not match the signature you"
                " provided. Check your key and signing method.",
                {"StringToSign": text, "SignatureProvided": provided},
            )

    def _trailer_line(self, line: bytes) -> None:
        """
        Read ``name:value`` or the empty line at the end.

        Clients of MinIO end a trailer with a newline alone and write CRLF after the last one:
        the first empty line after a lone newline may be the end or not.
        """
        text = line.rstrip(b"\r\n")
        if text:
            self._lone_newline = not line.endswith(b"\r\n")
            self._may_end = False
            self._add_trailer(text)
        elif line != b"\r\n":
            raise _malformed_trailer()
        elif self._lone_newline:
            self._lone_newline = False
            self._may_end = True
        else:
            self._close()

    def _add_trailer(self, text: bytes) -> None:
        try:
            name, colon, value = text.decode("ascii").partition(":")
        except UnicodeDecodeError as error:
            raise _malformed_trailer() from error
        name, value = name.lower(), value.strip(" \t")
        if not colon or not value or self._trailer_signature is not None:
            raise _malformed_trailer()
        if name == _TRAILER_SIGNATURE and self._trailer and self._seed is not None:
            self._trailer_signature = value
        elif name not in self._announced or name in self._trailers:
            raise _malformed_trailer()
        else:
            self._trailers[name] = value

    def _close(self) -> None:
        """
        All lines are there: check what they say.
        """
        if len(self._trailers) != len(self._announced):
            raise _malformed_trailer()
        if self._trailer and self._seed is not None:
            if self._trailer_signature is None:
                raise _malformed_trailer()
            signed = "".join(f"{name}:{self._trailers[name]}\n" for name in self._announced)
            self._check(
                self._seed, "TRAILER", sha256(signed.encode()).hexdigest(), self._trailer_signature
            )
        self._state = _State.OVER


def _incomplete(message: str) -> Refused:
    return Refused("IncompleteBody", message)


def _malformed_trailer() -> Refused:
    return Refused(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our"
        " published schema.",
    )

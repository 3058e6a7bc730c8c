# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Content that is decompressed as it comes, a bounded piece at a time.
"""

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from attrs import define, field
from zope.interface import implementer

from kypello.errors import Refused
from kypello.interfaces import IBodySource, ILane
from kypello.model import Buffer
from kypello.s3.tar import malformed

#: The most that is decompressed at once, in bytes.
PIECE = 1024 * 1024

#: How much larger content may become: so many times what has come, and this much at once, in
#: bytes.  Text gets ten times smaller, and what is mostly zeros a thousand times.
RATIO, START = 200, 1 << 30

#: How much is needed to tell how something is compressed, in bytes.
_MAGIC = 10


class Expander(Protocol):
    """
    Decompresses one stream, as the decompressors of the standard library do.
    """

    @property
    def eof(self) -> bool:
        """
        The stream is over.
        """

    @property
    def needs_input(self) -> bool:
        """
        Nothing comes without more of it.
        """

    @property
    def unused_data(self) -> bytes | None:
        """
        What followed the stream.
        """

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """
        Give at most so many bytes.
        """


@define
class Deflated:
    """
    A decompressor for zlib's formats that is called like the others.

    :ivar _format: As zlib numbers them; gzip unless it is told.
    """

    _format: int = 16 + zlib.MAX_WBITS
    _stream: Any = field(init=False)
    _full: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing has come yet.
        """
        self._stream = zlib.decompressobj(self._format)

    @property
    def eof(self) -> bool:
        """
        The stream is over.
        """
        return bool(self._stream.eof)

    @property
    def needs_input(self) -> bool:
        """
        Nothing comes without more of it.
        """
        return not (self._full or self._stream.unconsumed_tail or self.eof)

    @property
    def unused_data(self) -> bytes:
        """
        What followed the stream.
        """
        return bytes(self._stream.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """
        Give at most so many bytes.
        """
        made = bytes(self._stream.decompress(self._stream.unconsumed_tail + data, max_length))
        self._full = len(made) == max_length
        return made


def _of_package(package: str, module: str, name: str) -> Callable[[], Expander]:
    """
    What makes a decompressor of a module that need not be there.

    :param package: What brings it.
    """

    def make() -> Expander:
        """
        Make it.
        """
        try:
            found = import_module(module)
        except ImportError:
            raise malformed(f"that needs the package {package}, which is not installed") from None
        made: Expander = getattr(found, name)()
        return made

    return make


def _refusing(kind: str) -> Callable[[], Expander]:
    """
    What refuses a kind of compression.
    """

    def make() -> Expander:
        """
        Refuse it.
        """
        raise malformed(f"archives in {kind} are not taken; use tar, gzip, zstd, lz4, bzip2 or xz")

    return make


#: How content begins that is compressed in some way, and what decompresses it.
_KINDS: tuple[tuple[bytes, Callable[[], Expander]], ...] = (
    (b"\x1f\x8b", Deflated),
    (b"BZh", _of_package("bzip2", "bz2", "BZ2Decompressor")),
    (b"\xfd7zXZ\x00", _of_package("xz", "lzma", "LZMADecompressor")),
    (b"\x28\xb5\x2f\xfd", _of_package("backports.zstd", "backports.zstd", "ZstdDecompressor")),
    (b"\x04\x22\x4d\x18", _of_package("lz4", "lz4.frame", "LZ4FrameDecompressor")),
    (b"\xff\x06\x00\x00", _refusing("snappy or s2")),
    (b"PK\x03\x04", _refusing("zip")),
)


@implementer(IBodySource)
@define(eq=False)
class ExpandedSource:
    """
    Content without its compression; what is not compressed is given as it is.

    :ivar size: Unknown.
    :ivar _lane: Where it is decompressed.
    :ivar _make: Makes what decompresses the next stream; ``None`` when nothing does.
    :ivar _rest: What has come and was not given.
    """

    _body: IBodySource
    _lane: ILane
    size: int | None = None
    _begun: bool = False
    _make: Callable[[], Expander] | None = None
    _expander: Expander | None = None
    _rest: bytes = field(default=b"", repr=False)
    _came: int = 0
    _given: int = 0

    async def read(self) -> Buffer:
        """
        Give the next piece.

        :raises Refused: ``InvalidRequest``: it cannot be decompressed, or becomes too large.
        :raises KypelloError: As the content.
        """
        if not self._begun:
            await self._begin()
        if self._make is None:
            rest, self._rest = self._rest, b""
            return rest or await self._body.read()
        while True:
            piece = await self._expand()
            if piece is not None:
                return piece

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._body.close()

    async def _begin(self) -> None:
        while len(self._rest) < _MAGIC:
            block = await self._body.read()
            if not len(block):
                break
            self._rest += bytes(block)
        self._begun, self._came = True, len(self._rest)
        kinds = (make for magic, make in _KINDS if self._rest.startswith(magic))
        self._make = next(kinds, None)
        if self._make is not None:
            self._expander = self._make()

    async def _expand(self) -> bytes | None:
        """
        The next piece, empty at the end; ``None`` when more has to be tried.
        """
        expander = self._expander
        if not self._rest and (expander is None or expander.needs_input):
            block = bytes(await self._body.read())
            self._came += len(block)
            if not block and expander is None:
                return b""
            if not block:
                raise malformed("it ends too early")
            self._rest += block
        if expander is None:
            # Several streams one after the other count as one.
            assert self._make is not None
            expander = self._expander = self._make()
        data, self._rest = (self._rest, b"") if expander.needs_input else (b"", self._rest)
        piece: bytes = await self._lane.run(_decompress, expander, data)
        if expander.eof:
            self._rest, self._expander = (expander.unused_data or b"") + self._rest, None
        self._given += len(piece)
        if self._given > START + RATIO * self._came:
            raise Refused(
                "EntityTooLarge", "The archive becomes too large when it is decompressed."
            )
        return piece or None


def _decompress(expander: Expander, data: bytes) -> bytes:
    """
    The next piece of a stream.

    :raises Refused: ``InvalidRequest``: each decompressor has exceptions of its own for that.
    """
    try:
        return expander.decompress(data, PIECE)
    except Exception:
        raise malformed("it is damaged") from None

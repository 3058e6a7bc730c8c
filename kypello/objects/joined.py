# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The plaintext of an object that lies in several DARE streams.
"""

from collections.abc import Callable, Iterator

from attrs import define, field, frozen
from zope.interface import implementer

from kypello.crypto.dare import Decoder, PackageRange
from kypello.errors import NotAuthentic
from kypello.interfaces import IBodySource
from kypello.model import Buffer
from kypello.objects.bodies import DecryptingSource, unmarked

# Where the nonce is in a package.
_NONCE = slice(4, 16)


@frozen
class Piece:
    """
    A range of the plaintext of one of several DARE streams.

    :ivar found: The packages that hold it.
    :ivar size: Bytes of plaintext; at least one.
    :ivar nonce: That of the stream; empty for any.
    :ivar decoder: Makes what decrypts the packages.
    """

    found: PackageRange
    size: int
    nonce: bytes
    decoder: Callable[[], Decoder] = field(repr=False)


@implementer(IBodySource)
@define(eq=False)
class JoinedSource:
    """
    The plaintext of pieces of several DARE streams, one after the other.

    :ivar size: Bytes of all pieces together.
    :ivar _packages: Those of all pieces, with nothing between.
    """

    _packages: IBodySource
    _pieces: Iterator[Piece]
    size: int | None
    _rest: Buffer = field(init=False, default=b"")
    _reading: DecryptingSource | None = field(init=False, default=None)

    async def read(self) -> Buffer:
        """
        Give the next block of plaintext, all of it authenticated.

        :raises NotAuthentic: As :meth:`DecryptingSource.read`.
        """
        while True:
            if self._reading is None:
                piece = next(self._pieces, None)
                if piece is None:
                    return b""
                packages = _Cut(self, piece.found.encrypted.size, piece.nonce)
                self._reading = DecryptingSource(
                    packages, piece.decoder(), piece.found.skip, piece.size
                )
            block = await self._reading.read()
            if len(block):
                return block
            self._end_piece()

    def close(self) -> None:
        """
        Give up the packages.
        """
        self._end_piece()
        self._pieces, self._rest = iter(()), b""
        self._packages.close()

    async def take(self, most: int) -> Buffer:
        """
        The next packages, or parts of them: at most that many bytes.
        """
        block, self._rest = self._rest, b""
        if not len(block):
            block = await self._packages.read()
        if len(block) > most:
            block = memoryview(block)
            self._rest = block[most:]
            return block[:most]
        return block

    def _end_piece(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()


@implementer(IBodySource)
@define(eq=False)
class _Cut:
    """
    The packages of one piece.

    :ivar size: Bytes that are still to come.
    :ivar _nonce: What the first package must have; empty for any, or when it was seen.
    """

    _joined: JoinedSource
    size: int | None
    _nonce: bytes

    async def read(self) -> Buffer:
        """
        Give the next block.

        :raises NotAuthentic: The stream is another.
        """
        block = await self._take()
        if self._nonce:
            while len(block) < _NONCE.stop and (more := await self._take()):
                block = bytes(block) + more
            self._check(bytes(block[_NONCE]))
        return block

    def close(self) -> None:
        """
        Nothing is held here.
        """

    async def _take(self) -> Buffer:
        if not self.size:
            return b""
        block = await self._joined.take(self.size)
        self.size -= len(block)
        return block

    def _check(self, nonce: bytes) -> None:
        if unmarked(nonce) != unmarked(self._nonce):
            raise NotAuthentic("package header")
        self._nonce = b""

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The entries of an archive that comes as a stream.
"""

from collections.abc import Mapping

from attrs import define, field
from zope.interface import implementer

from kypello.interfaces import IBodySource
from kypello.model import Buffer
from kypello.s3.tar import (
    BLOCK,
    Entry,
    Extension,
    malformed,
    padded,
    read_extension,
    read_header,
)

#: The most entries that an archive may have.
MAX_ENTRIES = 100_000


@define(eq=False)
class Pieces:
    """
    A source that is read in pieces of given sizes.
    """

    _source: IBodySource
    _block: memoryview = field(factory=lambda: memoryview(b""), repr=False)

    async def some(self, limit: int) -> Buffer:
        """
        The next bytes, at most so many.

        :raises Refused: ``InvalidRequest``: there are none.
        """
        if not self._block:
            self._block = memoryview(await self._source.read())
            if not self._block:
                raise malformed("it ends too early")
        piece, self._block = self._block[:limit], self._block[limit:]
        return piece

    async def exactly(self, size: int) -> bytes:
        """
        The next bytes, so many.

        :raises Refused: ``InvalidRequest``: there are fewer.
        """
        pieces: list[Buffer] = []
        while size:
            piece = await self.some(size)
            pieces.append(bytes(piece))
            size -= len(piece)
        return b"".join(pieces)

    async def skip(self, size: int) -> None:
        """
        Pass over so many bytes.

        :raises Refused: ``InvalidRequest``: there are fewer.
        """
        while size:
            size -= len(await self.some(size))


@implementer(IBodySource)
@define(eq=False)
class EntrySource:
    """
    The content of an entry.

    :ivar left: How many bytes of it were not read.
    """

    _pieces: Pieces
    size: int | None
    left: int

    async def read(self) -> Buffer:
        """
        Give the next piece.

        :raises KypelloError: As the archive.
        """
        if not self.left:
            return b""
        piece = await self._pieces.some(self.left)
        self.left -= len(piece)
        # It is part of a block that others get, too.
        return bytes(piece)

    def close(self) -> None:
        """
        Leave the rest to the archive.
        """


@define(eq=False)
class Archive:
    """
    A tar archive.

    :ivar content: Of the last entry; what nobody has read of it is passed over.
    """

    _pieces: Pieces
    content: EntrySource = field(init=False)
    _always: Mapping[str, str] = field(init=False, factory=dict)
    _entries: int = field(init=False, default=0)

    @classmethod
    def of(cls, source: IBodySource) -> "Archive":
        """
        Begin to read an archive.
        """
        return cls(Pieces(source))

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self.content = EntrySource(self._pieces, 0, 0)

    async def next(self) -> Entry | None:
        """
        The next entry; ``None`` at the end.

        :raises Refused: ``InvalidRequest``: it is no archive, or it has too many entries.
        :raises KypelloError: As the source.
        """
        size = self.content.size or 0
        await self._pieces.skip(self.content.left + padded(size) - size)
        told = dict(self._always)
        # Each may be preceded by some of each kind, which say nothing in such numbers.
        for _ in range(8):
            header = read_header(await self._pieces.exactly(BLOCK), told)
            if not isinstance(header, Extension):
                return self._found(header)
            content = await self._pieces.exactly(padded(header.size))
            found = read_extension(header, content[: header.size])
            if header.kind == b"g":
                self._always = {**self._always, **found}
            told.update(found)
        raise malformed("it has too many headers")

    def _found(self, entry: Entry | None) -> Entry | None:
        size = 0 if entry is None else entry.size
        self.content = EntrySource(self._pieces, size, size)
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise malformed(f"it has more than {MAX_ENTRIES} entries")
        return entry

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Bodies made of bytes that are in memory already.
"""

from attrs import define, field
from zope.interface import implementer

from kypello.interfaces import IBodySource
from kypello.model import Buffer

#: The most that one read gives, in bytes.
BLOCK = 1024 * 1024


@implementer(IBodySource)
@define(eq=False)
class BufferSource:
    """
    The bytes of one buffer.

    :ivar size: Of the buffer.
    """

    _data: Buffer = field(repr=False)
    size: int | None = field(init=False)
    _at: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self.size = len(self._data)

    async def read(self) -> Buffer:
        """
        Give the next bytes.
        """
        block = self._data[self._at : self._at + BLOCK]
        self._at += len(block)
        return block

    def close(self) -> None:
        """
        Drop what is left.
        """
        self._data = b""


@implementer(IBodySource)
@define(eq=False)
class ResumedSource:
    """
    A body of which some blocks were read before.

    :ivar _blocks: Those blocks, none of them empty.
    """

    _blocks: list[Buffer] = field(repr=False)
    _rest: IBodySource
    size: int | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        The size is that of the whole.
        """
        self.size = self._rest.size

    async def read(self) -> Buffer:
        """
        Give a block that was read before, or the next one.
        """
        return self._blocks.pop(0) if self._blocks else await self._rest.read()

    def close(self) -> None:
        """
        Give up all of it.
        """
        self._blocks.clear()
        self._rest.close()


async def begin(body: IBodySource, limit: int) -> tuple[list[Buffer], bytes | None]:
    """
    Read until it is clear whether a body has more than *limit* bytes.

    :return: The blocks that were read, and all of the body if it has no more.
    """
    blocks: list[Buffer] = []
    size = body.size or 0
    while size <= limit:
        block = await body.read()
        if not len(block):
            return blocks, b"".join(blocks)
        blocks.append(block)
        size = max(body.size or 0, sum(map(len, blocks)))
    return blocks, None

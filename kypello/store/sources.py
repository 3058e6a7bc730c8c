# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Bodies whose beginning is in memory already.
"""

from attrs import define, field
from zope.interface import implementer

from kypello.interfaces import IBodySource
from kypello.model import Buffer


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

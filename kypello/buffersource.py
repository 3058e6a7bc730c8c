# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A body that is in memory as a whole.
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

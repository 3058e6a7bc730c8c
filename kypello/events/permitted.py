# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Answers without end, for as long as whoever asked may hear them.
"""

from collections.abc import Awaitable, Callable

from attrs import frozen
from zope.interface import implementer

from kypello.interfaces import IBodySource
from kypello.model import Buffer


@implementer(IBodySource)
@frozen(eq=False)
class Permitted:
    """
    A stream that ends when whoever reads it may not do so any more.

    Rights are asked for with each block, as a request of its own would: who is removed or loses a
    policy hears of nothing that happens afterwards.

    :ivar size: Nobody knows.
    :ivar _may: Whether they may, as of now.
    """

    _stream: IBodySource
    _may: Callable[[], Awaitable[bool]]
    size: int | None = None

    async def read(self) -> Buffer:
        """
        Give the next block; empty at the end.

        :raises KypelloError: As the stream, or nobody can tell whether they may.
        """
        block = await self._stream.read()
        return block if len(block) and await self._may() else b""

    def close(self) -> None:
        """
        Give it up.
        """
        self._stream.close()

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Resources whose operation is a function of the test.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from zope.interface import implementer

from kypello.http.request import StreamingRequest
from kypello.http.respond import Response, respond
from kypello.interfaces import IBodySource
from kypello.model import Buffer

Operation: TypeAlias = Callable[[StreamingRequest], Coroutine[Deferred[Any], Any, Response]]


class Leaf(Resource):
    """
    A leaf that answers with an operation, and errors with their class name.

    :ivar requests: Every request that was rendered, in order.
    """

    isLeaf = True

    def __init__(self, operation: Operation) -> None:
        """
        Answer every request with *operation*.
        """
        super().__init__()
        self._operation = operation
        self.requests: list[StreamingRequest] = []

    def render(self, request: StreamingRequest) -> int:  # type: ignore[override]
        """
        Called by Twisted.
        """
        self.requests.append(request)
        return respond(request, self._operation(request), name_error)


def name_error(error: Exception) -> Response:
    """
    An answer that names the class of an error.
    """
    return Response(500, (("Content-Type", "text/plain"),), type(error).__name__.encode())


async def read_all(source: IBodySource) -> bytes:
    """
    The whole of a stream.
    """
    blocks = []
    while block := await source.read():
        blocks.append(bytes(block))
    return b"".join(blocks)


@implementer(IBodySource)
@define(eq=False)
class Blocks:
    """
    A source of blocks made by the test.

    :ivar given: How many bytes were handed out.
    :ivar closed: Whether it was closed.
    """

    size: int | None
    _make: Callable[[], Awaitable[Buffer]]
    given: int = 0
    closed: bool = False

    async def read(self) -> Buffer:
        """
        Give the next block.
        """
        block = await self._make()
        self.given += len(block)
        return block

    def close(self) -> None:
        """
        Remember it.
        """
        self.closed = True


@define
class Script:
    """
    Gives what is in a list: a block, or a Deferred to wait for, or an error to raise.
    """

    _steps: list[Buffer | Deferred[Buffer] | Exception] = field(factory=list)

    async def __call__(self) -> Buffer:
        """
        Take the next step; the end when there is none.
        """
        if not self._steps:
            return b""
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return await step if isinstance(step, Deferred) else step

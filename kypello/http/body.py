# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The body of a request, as a stream that its operation pulls.
"""

from collections import deque
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.errors import KypelloError
from kypello.interfaces import IBodySource

#: What one read gives at most, in bytes.
BLOCK = 1024 * 1024

#: How many bytes may wait before the peer is told to pause.
HIGH_WATER = 2 * BLOCK


class Upstream(Protocol):
    """
    The connection that a body arrives on, as the body sees it.
    """

    def body_wanted(self) -> None:
        """
        A read waits for bytes that have not come.
        """

    def body_drained(self) -> None:
        """
        There is room for more bytes, or nobody wants them any longer.
        """


@implementer(IBodySource)
@define(eq=False)
class RequestBody:
    """
    Bytes between a connection that pushes and an operation that pulls.

    A block is :data:`BLOCK` bytes long, the last one shorter: nothing below can finish before
    the body ends, so that handing out less would cost calls and win no time.

    :ivar size: ``Content-Length``, or ``None`` with the chunked transfer coding.
    :ivar received: How many bytes have come so far.
    :ivar complete: The connection has delivered the last byte.
    :ivar closed: Nobody wants what is left.
    """

    size: int | None
    _upstream: Upstream
    received: int = 0
    complete: bool = False
    closed: bool = False
    _blocks: deque[bytes] = field(factory=deque)
    _held: int = 0
    _error: KypelloError | None = None
    _reader: Deferred[None] | None = None

    @property
    def full(self) -> bool:
        """
        Whether the connection must not deliver more for now.
        """
        return self._held >= HIGH_WATER

    @property
    def waiting(self) -> bool:
        """
        Whether a read waits for bytes.
        """
        return self._reader is not None

    async def read(self) -> bytes:
        """
        Give the next block; see :meth:`IBodySource.read`.

        :raises BodyTruncated: The peer went away, or its framing broke.
        :raises BodyTimeout: The peer sent too little for too long.
        """
        while self._error is None and self._held < BLOCK and not self.complete:
            if self.closed:
                return b""
            self._reader = Deferred()
            self._upstream.body_wanted()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._error is not None:
            raise self._error
        was_full = self.full
        block = self._take()
        if was_full and not self.full:
            self._upstream.body_drained()
        return block

    def close(self) -> None:
        """
        Give up what is left; see :meth:`IBodySource.close`.
        """
        if not self.closed:
            self.closed = True
            self._blocks.clear()
            self._held = 0
            self._wake()
            self._upstream.body_drained()

    def deliver(self, block: bytes) -> None:
        """
        Take bytes from the connection.
        """
        self.received += len(block)
        if not self.closed:
            self._blocks.append(block)
            self._held += len(block)
            if self._held >= BLOCK:
                self._wake()

    def finish(self) -> None:
        """
        The last byte was delivered.
        """
        self.complete = True
        self._wake()

    def fail(self, error: KypelloError) -> None:
        """
        End the stream with an error, unless all of it has come already.
        """
        if not self.complete and self._error is None:
            self._error = error
            self.closed = True
            self._blocks.clear()
            self._held = 0
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.called:
            self._reader.callback(None)

    def _take(self) -> bytes:
        parts: list[bytes] = []
        room = BLOCK
        while self._blocks and room:
            part = self._blocks.popleft()
            if len(part) > room:
                self._blocks.appendleft(part[room:])
                part = part[:room]
            parts.append(part)
            room -= len(part)
        self._held -= BLOCK - room
        return parts[0] if len(parts) == 1 else b"".join(parts)

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

from kypello.buffers import Recycler
from kypello.errors import KypelloError
from kypello.interfaces import IBodySource
from kypello.model import Buffer

#: What one read gives at most, in bytes.
BLOCK = 1024 * 1024

#: A body of which so much has come is received right into its blocks, in bytes.  Before that a
#: block takes no more memory than what the peer has sent.
_FLOWING = 64 * 1024

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


#: How many blocks are used again: those that wait here, in the lanes of two digests and in the
#: one that writes.
_RECYCLED = 8


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
    _blocks: deque[Buffer] = field(factory=deque)
    _parts: list[bytes] = field(factory=list)
    _block: memoryview | None = None
    _buffers: Recycler | None = None
    _filled: int = 0
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

    async def read(self) -> Buffer:
        """
        Give the next block; see :meth:`IBodySource.read`.

        :raises BodyTruncated: The peer went away, or its framing broke.
        :raises BodyTimeout: The peer sent too little for too long.
        """
        while not self._blocks and self._error is None:
            if self.closed or self.complete:
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
        block = self._blocks.popleft()
        self._held -= len(block)
        if was_full and not self.full:
            self._upstream.body_drained()
        return block

    def close(self) -> None:
        """
        Give up what is left; see :meth:`IBodySource.close`.
        """
        if not self.closed:
            self._drop()
            self._upstream.body_drained()

    def deliver(self, data: bytes) -> None:
        """
        Take bytes from the connection.
        """
        if self.closed:
            self.received += len(data)
            return
        while data:
            part = data[: self._length() - self._filled]
            data = data[len(part) :]
            if self._flowing():
                block = self._open()
                block[self._filled : self._filled + len(part)] = part
            else:
                self._parts.append(part)
            self.filled(len(part))

    def space(self) -> memoryview | None:
        """
        Where the connection may put the next bytes itself; ``None`` where it must not.
        """
        if self.closed or self.complete or not self._flowing():
            return None
        return self._open()[self._filled :]

    def filled(self, size: int) -> None:
        """
        So many bytes more are in the block that is being filled.
        """
        length = self._length()
        self.received += size
        self._filled += size
        self._held += size
        if self._filled == length:
            self._seal()

    def finish(self) -> None:
        """
        The last byte was delivered.
        """
        self.complete = True
        if self._filled:
            self._seal()
        self._wake()

    def fail(self, error: KypelloError) -> None:
        """
        End the stream with an error, unless all of it has come already.
        """
        if not self.complete and self._error is None:
            self._error = error
            self._drop()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.called:
            self._reader.callback(None)

    def _drop(self) -> None:
        self.closed = True
        self._blocks.clear()
        self._parts.clear()
        self._block = None
        if self._buffers is not None:
            self._buffers.close()
        self._filled = self._held = 0
        self._wake()

    def _flowing(self) -> bool:
        return self.size is not None and self.received >= _FLOWING

    def _length(self) -> int:
        """
        How long the block that is being filled will be.
        """
        if self.size is None:
            return BLOCK
        return min(BLOCK, self.size - self.received + self._filled)

    def _open(self) -> memoryview:
        if self._block is None:
            if self._buffers is None:
                self._buffers = Recycler(_RECYCLED)
            self._block = self._buffers.take(self._length())
            parts = b"".join(self._parts)
            self._block[: len(parts)] = parts
            self._parts.clear()
        return self._block

    def _seal(self) -> None:
        block: Buffer
        if self._block is not None:
            block, self._block = self._block, None
        else:
            block = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
        self._blocks.append(block)
        self._filled = 0
        self._wake()

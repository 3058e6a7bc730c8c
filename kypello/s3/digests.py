# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Digests that are computed beside a stream, in lanes.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.crypto.checksums import Checksum, encode, new_checksum, new_md5
from kypello.http.coroutines import begin
from kypello.interfaces import IBodySource, ILane, ILanes
from kypello.model import Buffer

#: How many blocks may wait for one digest; a block has about a MiB.
IN_FLIGHT = 3

#: Bodies up to this size, in bytes, are digested at once: some 30 microseconds at most, less
#: than the way to a lane and back.
AT_ONCE = 16 * 1024


@implementer(ILane)
class _Here:
    """
    The lane of small bodies: the thread that calls.
    """

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)


_HERE = _Here()


@define
class _Queue:
    """
    Calls in a lane, up to :data:`IN_FLIGHT` of them without waiting for their end.
    """

    lane: ILane
    _running: deque[Deferred[Any]] = field(factory=deque)

    async def put(self, call: Callable[..., Any], *arguments: Any) -> None:
        if len(self._running) >= IN_FLIGHT:
            await self._running.popleft()
        running = begin(self.lane.run(call, *arguments))
        if running is not None:
            self._running.append(running)

    async def drain(self) -> None:
        while self._running:
            await self._running.popleft()


@define
class _AtOnce(_Queue):
    """
    Calls of a small body, made when they come.
    """

    async def put(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


@define(eq=False)
class Digests:
    """
    MD5 and checksums of one stream.  MD5, the slowest, has a lane of its own, for which that of
    the others makes room.

    :ivar lane: Where the checksums are computed.
    :ivar _md5: ``None`` when nobody wants it.
    """

    _checksums: Mapping[str, Checksum]
    _queue: _Queue
    _md5: Checksum | None
    _md5_queue: _Queue

    @property
    def lane(self) -> ILane:
        """
        Where the checksums are computed.
        """
        return self._queue.lane

    async def take(self, block: Buffer) -> None:
        """
        Digest the next block, now or soon.
        """
        if self._checksums:
            await self._queue.put(self.digest, block)
        await self.take_md5(block)

    async def take_md5(self, block: Buffer) -> None:
        """
        The same for MD5 alone.
        """
        if self._md5 is not None and len(block):
            await self._md5_queue.put(self._md5.update, block)

    def digest(self, block: Buffer) -> None:
        """
        Digest a block for all but MD5, in the thread that calls.
        """
        for checksum in self._checksums.values():
            checksum.update(block)

    async def drain(self) -> None:
        """
        Wait until everything is digested.
        """
        await self._queue.drain()
        await self._md5_queue.drain()

    def md5(self) -> bytes | None:
        """
        What it is after the end.
        """
        return None if self._md5 is None else self._md5.digest()

    def checksum(self, algorithm: str) -> bytes:
        """
        One of the checksums after the end.
        """
        return self._checksums[algorithm].digest()


def begin_digests(
    lanes: ILanes, size: int | None, algorithms: Collection[str], want_md5: bool
) -> Digests:
    """
    Begin the digests of a stream.

    :param size: Bytes of it, when known.
    :param algorithms: Checksums by lower-case name.
    """
    small = size is not None and size <= AT_ONCE
    queue = _AtOnce(_HERE) if small else _Queue(lanes.lane(bulk=True))
    return Digests(
        {name: new_checksum(name) for name in algorithms},
        queue,
        new_md5() if want_md5 else None,
        queue if small else _Queue(lanes.lane()),
    )


@implementer(IBodySource)
@define(eq=False)
class DigestedSource:
    """
    A stream from a store, digested while it flows to another place.

    Whoever reads must not commit anything before the end has come.

    :ivar size: Bytes of the stream.
    :ivar md5: After the end, in lower-case hex; empty when nobody wants it.
    :ivar checksums: After the end, in base64 by lower-case algorithm.
    """

    _body: IBodySource
    _digests: Digests
    _algorithms: Collection[str]
    size: int | None = field(init=False)
    md5: str = field(default="", init=False)
    checksums: Mapping[str, str] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        """
        Take the size from the stream.
        """
        self.size = self._body.size

    async def read(self) -> Buffer:
        """
        Give the next block; see :meth:`IBodySource.read`.
        """
        block = await self._body.read()
        if len(block):
            await self._digests.take(block)
        else:
            await self._digests.drain()
            self.md5 = (self._digests.md5() or b"").hex()
            self.checksums = {
                name: encode(self._digests.checksum(name)) for name in self._algorithms
            }
        return block

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._body.close()


def digested(
    body: IBodySource, lanes: ILanes, algorithms: Collection[str], want_md5: bool
) -> DigestedSource:
    """
    Digest a stream from a store.

    :param algorithms: Checksums by lower-case name.
    """
    digests = begin_digests(lanes, body.size, algorithms, want_md5)
    return DigestedSource(body, digests, algorithms)

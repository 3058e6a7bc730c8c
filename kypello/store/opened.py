# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Objects that are open for reading.
"""

from bisect import bisect_right
from collections import deque

from attrs import define, field, frozen
from awscrt.checksums import crc32c
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.buffersource import BufferSource
from kypello.errors import Damaged
from kypello.interfaces import IBlob, IBlobs, IBodySource, IOpenObject, IPin
from kypello.model import Buffer, ByteRange, ObjectInfo
from kypello.store.parts import Parts
from kypello.store.records import PartRecord


@implementer(IOpenObject)
@define(eq=False)
class SmallObject:
    """
    An object whose content is at hand.
    """

    info: ObjectInfo
    _content: bytes = field(repr=False)

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Begin to read.
        """
        if wanted is None:
            return BufferSource(self._content)
        return BufferSource(self._content[wanted.start : wanted.stop])

    def close(self) -> None:
        """
        There is nothing to release.
        """


@define(eq=False)
class SmallObjects:
    """
    What is told of the small objects that were read last: reading them again, their records are
    not decoded.

    :ivar _most: How many are kept; each takes some 3 KiB.
    :ivar _known: By bucket and key, with the record that tells it, and the checksum of the
        content.  The object that was used last comes last.
    """

    _most: int = 4096
    _known: dict[tuple[str, str], tuple[bytes, ObjectInfo, int | None]] = field(
        init=False, factory=dict
    )

    def knows(self, bucket: str, key: str) -> str:
        """
        The id of the version of the small object that there was under that key when it was read
        last; empty if there was none.
        """
        known = self._known.get((bucket, key))
        return "" if known is None else known[1].version_id

    def info(self, bucket: str, key: str, record: bytes | None) -> ObjectInfo | None:
        """
        What is told of the object that has exactly this record, if that is known.
        """
        known = self._known.pop((bucket, key), None)
        if known is None or known[0] != record:
            return None
        self._known[bucket, key] = known
        return known[1]

    def open(
        self, bucket: str, key: str, record: bytes | None, content: bytes | None
    ) -> SmallObject | None:
        """
        Open the object that has exactly this record, if that is known.
        """
        info = self.info(bucket, key, record)
        if info is None or content is None or len(content) != info.size:
            return None
        checksum = self._known[bucket, key][2]
        if checksum is not None and crc32c(content) != checksum:
            # Whoever opens it anew tells that it is damaged.
            return None
        return SmallObject(info, content)

    def put(self, record: bytes, info: ObjectInfo, checksum: int | None) -> None:
        """
        Keep what a record tells, in place of what was used the longest time ago.

        :param checksum: Of the content, as in the record.
        """
        self._known[info.bucket, info.key] = (record, info, checksum)
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]


@implementer(IOpenObject)
@frozen(eq=False)
class BlobObject:
    """
    An object whose only blob is open.
    """

    info: ObjectInfo
    _blob: IBlob

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Begin to read.
        """
        if wanted is None:
            return self._blob.read(0, self.info.size)
        return self._blob.read(wanted.start, wanted.stop)

    def close(self) -> None:
        """
        Release the blob.
        """
        self._blob.close()


@define(eq=False)
class SharedPin:
    """
    A pin of several holders, of which this is one.

    :ivar _pin: Released by the last of them.
    :ivar _holders: All of them.
    """

    _pin: IPin
    _holders: "set[SharedPin]" = field(factory=set, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        Be one more.
        """
        self._holders.add(self)

    def share(self) -> "SharedPin":
        """
        Another holder.
        """
        return SharedPin(self._pin, self._holders)

    def release(self) -> None:
        """
        Hold it no more.  Idempotent.
        """
        if self in self._holders:
            self._holders.remove(self)
            if not self._holders:
                self._pin.release()


@implementer(IOpenObject)
@frozen(eq=False)
class PartsObject:
    """
    An object of several blobs, which are opened as they are read.
    """

    info: ObjectInfo
    _blobs: IBlobs
    _parts: Parts
    _pin: SharedPin

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Begin to read.
        """
        start, stop = (0, self.info.size) if wanted is None else (wanted.start, wanted.stop)
        pieces: deque[_Piece] = deque()
        size = stop - start
        number = bisect_right(self._parts.ends, start)
        while start < stop:
            part, end = self._parts.records[number], self._parts.ends[number]
            begin, until = end - part.size, min(end, stop)
            if part.size:
                pieces.append(_Piece(part, start - begin, until - begin))
            start = until
            number += 1
        return _PartsSource(self._blobs, pieces, self._pin.share(), size)

    def close(self) -> None:
        """
        Release the pin.
        """
        self._pin.release()


@frozen
class _Piece:
    """
    The bytes of a part from *start* up to, not including, *stop*; never empty.
    """

    part: PartRecord
    start: int
    stop: int


@implementer(IBodySource)
@define(eq=False)
class _PartsSource:
    """
    Pieces of several blobs, one after the other; two at most are open at once.

    :ivar _pieces: Those that are not open yet.
    :ivar _reading: The piece that is being read.
    :ivar _ahead: The next one, which is being opened.
    """

    _blobs: IBlobs
    _pieces: deque[_Piece]
    _pin: SharedPin
    size: int | None
    _reading: IBodySource | None = field(init=False, default=None)
    _ahead: "Deferred[IBodySource] | None" = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)

    async def read(self) -> Buffer:
        """
        Give the next block, of one part only.

        :raises Damaged:
        :raises StorageFailed:
        """
        try:
            while (reading := await self._next()) is not None:
                block = await reading.read()
                if len(block):
                    return block
                self._finish()
        except BaseException:
            self.close()
            raise
        self.close()
        return b""

    def close(self) -> None:
        """
        Drop what is left, and let go of all of it.
        """
        self._closed = True
        self._pieces.clear()
        self._finish()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # Nobody wants it any more, whatever comes of it.
            ahead.addCallbacks(lambda source: source.close(), lambda _: None)
        self._pin.release()

    async def _next(self) -> IBodySource | None:
        if self._reading is None:
            if self._ahead is None:
                self._fetch()
            ahead, self._ahead = self._ahead, None
            if ahead is not None:
                self._reading = await ahead
                if self._closed:
                    self._finish()
                self._fetch()
        return self._reading

    def _fetch(self) -> None:
        if self._pieces:
            self._ahead = Deferred.fromCoroutine(self._open(self._pieces.popleft()))

    async def _open(self, piece: _Piece) -> IBodySource:
        blob = await self._blobs.open(piece.part.blob)
        try:
            if blob.size != piece.part.size:
                raise Damaged(f"size of blob {piece.part.blob}")
            return blob.read(piece.start, piece.stop)
        finally:
            blob.close()

    def _finish(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

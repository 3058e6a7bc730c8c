# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Blobs in files, below 256 directories.

A file is written directly under its final name: the layout has written that name down before.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from kypello.buffers import Recycler
from kypello.interfaces import IBlob, IBlobs, IBodySource, ILane, ILanes, ILazySource, IPin
from kypello.model import Buffer
from kypello.store.blobfile import (
    CHUNK,
    BlobFile,
    BlobWriter,
    blocking,
    open_blob,
    pin_blob,
    remove_blobs,
)
from kypello.store.filecalls import FileCalls
from kypello.store.undisturbed import undisturbed

#: Bytes of the first block that is read, so that it comes soon, and of the others.
FIRST, BLOCK = 4 * CHUNK, 16 * CHUNK

#: In how many lanes blobs are removed.
_DELETING = 4

#: How many calls of a writer may wait in its lane while the next block is received.
_IN_FLIGHT = 3

_log = Logger()


@implementer(IBlobs)
@define(eq=False)
class FileBlobs:
    """
    Byte objects in a directory.

    :ivar _directory: It exists.
    :ivar _durable: The directories below it whose names are known to be durable.
    """

    _directory: Path
    _lanes: ILanes
    _calls: FileCalls = field(factory=FileCalls)
    _durable: set[Path] = field(init=False, factory=set)

    async def write(self, name: str, body: IBodySource, describe: Callable[[int], bytes]) -> int:
        """
        Write the whole of *body*, some blocks at a time.
        """
        lane = self._lanes.lane(bulk=True)
        writer = BlobWriter(self._path(name), self._calls, self._durable, body.size)
        flying: deque[Deferred[Any]] = deque()

        def queue(call: Callable[..., None], *arguments: object) -> None:
            """
            Queue a call behind the others.
            """
            flying.append(Deferred.fromCoroutine(lane.run(call, *arguments)))

        async def wait(most: int) -> None:
            """
            Wait until no more than so many calls are queued or run.
            """
            while len(flying) > most:
                await flying.popleft()

        try:
            queue(writer.begin)
            size = 0
            if ILazySource.providedBy(body):
                while (call := await body.next_call()) is not None:
                    queue(writer.make, call)
                    await wait(_IN_FLIGHT)
                await wait(0)
                size = writer.size
            else:
                while len(block := await body.read()):
                    size += len(block)
                    queue(writer.write, block)
                    await wait(_IN_FLIGHT)
            queue(writer.finish, describe(size))
            await wait(0)
            return size
        except Exception:
            for outcome in flying:
                # Something has failed already, and is raised.
                outcome.addErrback(lambda _: None)
            await undisturbed(lane.run(writer.abort))
            raise
        finally:
            body.close()

    async def open(self, name: str) -> IBlob:
        """
        Open for reading.

        :raises StorageFailed:
        """
        lane = self._lanes.lane()
        file: BlobFile
        file, cancelled = await undisturbed(lane.run(open_blob, self._path(name), self._calls))
        blob = _FileBlob(_Shared(lane, file))
        if cancelled:
            blob.close()
            raise CancelledError()
        return blob

    async def describe(self, name: str) -> bytes:
        """
        Read back what was kept beside the content.

        :raises StorageFailed:
        """

        def read(path: Path) -> bytes:
            """
            Read it, in a lane.
            """
            file = open_blob(path, self._calls)
            try:
                return file.described()
            finally:
                file.close()

        described: bytes = await self._lanes.lane().run(read, self._path(name))
        return described

    async def pin(self, name: str) -> IPin:
        """
        Keep a blob, by a lock that ends with the process.

        :raises StorageFailed:
        """
        lane = self._lanes.lane()
        descriptor: int
        descriptor, cancelled = await undisturbed(lane.run(pin_blob, self._path(name)))
        pin = _Lock(lane, descriptor)
        if cancelled:
            pin.release()
            raise CancelledError()
        return pin

    async def delete(self, names: Sequence[str]) -> Sequence[str]:
        """
        Remove several durably, but for those that are pinned.

        :raises StorageFailed: They may be there still.
        """
        groups: list[list[Path]] = [[] for _ in range(_DELETING)]
        for name in names:
            groups[int(name[:2], 16) % _DELETING].append(self._path(name))

        async def remove(paths: list[Path]) -> list[Path]:
            """
            Remove those of some directories.
            """
            pinned: list[Path] = await self._lanes.lane().run(
                blocking, lambda: remove_blobs(paths, self._calls), str(self._directory)
            )
            return pinned

        # The device takes several syncs at once for hardly more than one.
        removing = [Deferred.fromCoroutine(remove(paths)) for paths in groups if paths]
        try:
            found: list[list[Path]] = await gatherResults(removing, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
            raise
        return [path.name for pinned in found for path in pinned]

    async def names(self, after: str, limit: int) -> Sequence[str]:
        """
        The next names.

        :raises StorageFailed:
        """
        names: Sequence[str] = await self._lanes.lane().run(
            blocking, lambda: self._names(after, limit), str(self._directory)
        )
        return names

    def _names(self, after: str, limit: int) -> list[str]:
        found: list[str] = []
        for directory in sorted(os.listdir(self._directory)):
            if directory >= after[:2] and len(found) < limit:
                names = sorted(os.listdir(self._directory / directory))
                found += [name for name in names if name > after]
        return found[:limit]

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name


@implementer(IPin)
@define(eq=False)
class _Lock:
    """
    A lock on a blob, held by an open descriptor.

    :ivar _descriptor: ``None`` when it was released.
    """

    _lane: ILane
    _descriptor: int | None

    def release(self) -> None:
        """
        Close the descriptor, in the lane: whoever closes a removed file last has to free it.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            closing = Deferred.fromCoroutine(self._lane.run(os.close, descriptor))
            closing.addErrback(lambda failure: _log.failure("releasing a blob", failure=failure))


@define(eq=False)
class _Shared:
    """
    An open file that several share; the last one who lets go closes it.

    :ivar lane: Where it is read, and closed behind the last read.
    """

    lane: ILane
    file: BlobFile
    _holders: int = field(init=False, default=0)

    def hold(self) -> None:
        """
        Keep it open.
        """
        self._holders += 1

    def release(self) -> None:
        """
        Let go.
        """
        self._holders -= 1
        if not self._holders:
            closing = Deferred.fromCoroutine(self.lane.run(self.file.close))
            closing.addErrback(lambda failure: _log.failure("closing a blob", failure=failure))


@implementer(IBlob)
@define(eq=False)
class _FileBlob:
    """
    An open blob.
    """

    _shared: _Shared
    size: int = field(init=False)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Hold the file.
        """
        self._shared.hold()
        self.size = self._shared.file.size

    def read(self, start: int, stop: int) -> IBodySource:
        """
        Read a range.
        """
        return _FileSource(self._shared, start, stop)

    def close(self) -> None:
        """
        Let go of the file.
        """
        if not self._closed:
            self._closed = True
            self._shared.release()


@implementer(IBodySource)
@define(eq=False)
class _FileSource:
    """
    A range of a blob.

    What is in memory is read at once, which is quicker than to ask another thread for it; from
    the device it is read in a lane, one block ahead.

    :ivar _at: Up to where blocks were asked for.
    :ivar _ahead: Blocks that were asked for and not given out.
    """

    _shared: _Shared
    _at: int
    _stop: int
    size: int | None = field(init=False)
    _ahead: "deque[Deferred[Buffer]]" = field(init=False, factory=deque)
    _next: int = field(init=False, default=FIRST)
    _buffers: Recycler = field(init=False, factory=Recycler)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Hold the file.
        """
        self._shared.hold()
        self.size = self._stop - self._at

    async def read(self) -> Buffer:
        """
        Give the next block.

        :raises Damaged:
        :raises StorageFailed:
        """
        try:
            if not self._ahead and self._at < self._stop:
                block = self._read_cached()
                if block is not None:
                    self._advance()
                    return block
            while self._at < self._stop and len(self._ahead) < 2:
                self._fetch()
            if self._ahead:
                return await self._ahead.popleft()
        except BaseException:
            self.close()
            raise
        self.close()
        return b""

    def close(self) -> None:
        """
        Drop what is left, and let go of the file.
        """
        if self._closed:
            return
        self._closed = True
        self._at = self._stop
        for block in self._ahead:
            # Nobody wants it any more.
            block.addErrback(lambda _: None)
        self._ahead.clear()
        self._buffers.close()
        # What a call in the lane still takes goes with that call.
        self._buffers = Recycler()
        self._shared.release()

    def _read_cached(self) -> Buffer | None:
        return self._shared.file.read_cached(self._at, self._block_end(), self._buffers)

    def _block_end(self) -> int:
        return min(self._at // CHUNK * CHUNK + self._next, self._stop)

    def _advance(self) -> None:
        self._at = self._block_end()
        self._next = BLOCK

    def _fetch(self) -> None:
        file = self._shared.file
        reading = self._shared.lane.run(file.read, self._at, self._block_end(), self._buffers)
        self._advance()
        self._ahead.append(Deferred.fromCoroutine(reading))

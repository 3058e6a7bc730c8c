# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The format of a blob in a file, and the blocking calls that write and read it; for lanes.

The content comes first, at offset 0.  Behind it: a CRC32C for each chunk of content, what was
described, and a footer of fixed size that tells the sizes and has a checksum of its own.
"""

import fcntl
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from awscrt.checksums import crc32c

from kypello.buffers import Recycler
from kypello.crypto.dare import PACKAGE_SIZE
from kypello.errors import Damaged, StorageFailed
from kypello.model import Buffer
from kypello.store.failures import storage_error
from kypello.store.filecalls import FileCalls

#: How many bytes of content share a checksum: as many as an encrypted package has, so that who
#: reads packages reads nothing else.
CHUNK = PACKAGE_SIZE

#: Magic with the version, bytes of content, bytes described, CRC32C of the latter; and, apart,
#: the CRC32C of these four.
_FOOTER, _CHECK = struct.Struct(">8sQII"), struct.Struct(">I")
_SUM = struct.Struct(">I")
_MAGIC = b"KYPBLOB\x01"

#: After how many bytes the system is asked to begin to write them to the device.
_WRITE_BACK = 4 * 1024 * 1024


@define(eq=False)
class BlobWriter:
    """
    One blob that is being written.

    :ivar _durable: The directories whose names are known to be durable, of all writers.
    :ivar _expected: How many bytes of content there will be, when that is known.
    :ivar size: Bytes that were written.
    :ivar _sums: The checksums of the chunks; the last one is that of *_filled* bytes.
    :ivar _synced: Up to where write-back was asked for.
    """

    _path: Path
    _calls: FileCalls
    _durable: set[Path]
    _expected: int | None = None
    _descriptor: int = field(init=False, default=-1)
    size: int = field(init=False, default=0)
    _sums: list[int] = field(init=False, factory=list)
    _synced: int = field(init=False, default=0)

    def begin(self) -> None:
        """
        Make the file.

        :raises KypelloError: There is one of this name already, or it cannot be made.
        """
        directory = self._path.parent
        try:
            if directory not in self._durable:
                # It may be there already: who made it may have been killed before this.
                self._calls.make_directory(directory)
                self._calls.sync_directory(directory.parent)
                self._durable.add(directory)
            self._descriptor = self._calls.make(self._path)
        except OSError as error:
            self._durable.discard(directory)
            raise storage_error(error, str(self._path)) from error

    def make(self, call: Callable[[], Buffer]) -> None:
        """
        Make the next bytes of content, and write them.

        :raises KypelloError:
        """
        self.write(call())

    def write(self, block: Buffer) -> None:
        """
        Write the next bytes of content.

        :raises KypelloError:
        """
        start = self.size
        self._write(block)
        view = memoryview(block)
        at = 0
        while at < len(view):
            filled = (start + at) % CHUNK
            piece = view[at : at + CHUNK - filled]
            if filled:
                self._sums[-1] = crc32c(piece, self._sums[-1])
            else:
                self._sums.append(crc32c(piece))
            at += len(piece)
        # The last chunk may come late, when digests are compared: the device begins before.
        ending = self._expected is not None and self.size >= self._expected - CHUNK
        if self.size - self._synced >= _WRITE_BACK or (ending and self._synced):
            self._calls.begin_sync(self._descriptor, self._synced, self.size - self._synced)
            self._synced = self.size

    def finish(self, described: bytes) -> None:
        """
        Write what follows the content, and make all of it durable.

        :raises KypelloError:
        """
        footer = _FOOTER.pack(_MAGIC, self.size, len(described), crc32c(described))
        sums = struct.pack(f">{len(self._sums)}I", *self._sums)
        self._write(sums + described + footer + _CHECK.pack(crc32c(footer)))
        try:
            self._calls.sync(self._descriptor)
            self._close()
            self._calls.sync_directory(self._path.parent)
        except OSError as error:
            raise storage_error(error, str(self._path)) from error

    def abort(self) -> None:
        """
        Remove the file if this writer made it.

        :raises KypelloError: It may be there still.
        """
        made = self._descriptor != -1 or self.size
        try:
            self._close()
            if made:
                remove(self._path, self._calls)
        except OSError as error:
            raise storage_error(error, str(self._path)) from error

    def _write(self, data: Buffer) -> None:
        view = memoryview(data)
        try:
            while view:
                written = self._calls.write(self._descriptor, view, self.size)
                self.size += written
                view = view[written:]
        except OSError as error:
            raise storage_error(error, str(self._path)) from error

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)


class _Chunks:
    """
    The chunks that hold a range of content, and where they are.

    :ivar begin: Where the first one begins.
    :ivar size: Bytes of all of them.
    :ivar wanted: The range among these.
    :ivar exact: Whether the range is all of them.
    :ivar sums_at: Where their checksums begin.
    :ivar sums_size: Bytes of these.
    """

    def __init__(self, start: int, stop: int, content: int) -> None:
        first = start // CHUNK
        count = -(-stop // CHUNK) - first
        self.begin = first * CHUNK
        self.size = min(self.begin + count * CHUNK, content) - self.begin
        self.wanted = slice(start - self.begin, stop - self.begin)
        self.exact = self.size == stop - start
        self.sums_at, self.sums_size = content + _SUM.size * first, _SUM.size * count


@frozen
class BlobFile:
    """
    A blob that is open for reading.

    :ivar size: Bytes of content.
    :ivar _described: Bytes that were described, and their checksum.
    """

    name: str
    descriptor: int
    size: int
    _described: int
    _sum: int
    _calls: FileCalls

    def read(self, start: int, stop: int, buffers: Recycler) -> Buffer:
        """
        The content ``[start, stop)``, checked.

        :raises Damaged: It is not what was written.
        :raises StorageFailed:
        """
        chunks = _Chunks(start, stop, self.size)
        content, sums = buffers.take(chunks.size), bytearray(chunks.sums_size)
        self._fill(sums, chunks.sums_at)
        self._fill(content, chunks.begin)
        return self._checked(chunks, content, sums)

    def read_cached(self, start: int, stop: int, buffers: Recycler) -> Buffer | None:
        """
        The content ``[start, stop)``, checked; ``None`` when that could block.

        :raises Damaged: It is not what was written.
        """
        chunks = _Chunks(start, stop, self.size)
        content, sums = buffers.take(chunks.size), bytearray(chunks.sums_size)
        read = self._calls.read_cached
        if read(self.descriptor, sums, chunks.sums_at) != len(sums):
            return None
        if read(self.descriptor, content, chunks.begin) != len(content):
            return None
        return self._checked(chunks, content, sums)

    def _checked(self, chunks: "_Chunks", content: memoryview, sums: bytearray) -> Buffer:
        for number, (expected,) in enumerate(_SUM.iter_unpack(sums)):
            if crc32c(content[number * CHUNK : (number + 1) * CHUNK]) != expected:
                raise Damaged(f"blob {self.name} at {chunks.begin + number * CHUNK}")
        return content if chunks.exact else content[chunks.wanted]

    def described(self) -> bytes:
        """
        What was described, checked.

        :raises Damaged: It is not what was written.
        :raises StorageFailed:
        """
        described = bytearray(self._described)
        self._fill(described, self.size + _sums_size(self.size))
        if crc32c(described) != self._sum:
            raise Damaged(f"description of blob {self.name}")
        return bytes(described)

    def close(self) -> None:
        """
        Close the file.
        """
        os.close(self.descriptor)

    def _fill(self, target: bytearray | memoryview, offset: int) -> None:
        _fill(self._calls, self.name, self.descriptor, target, offset)


def open_blob(path: Path, calls: FileCalls) -> BlobFile:
    """
    Open a blob for reading.

    :raises Damaged: It is missing, cut short or has no valid footer.
    :raises StorageFailed:
    """
    name = path.name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if not path.parent.parent.is_dir():
            raise storage_error(error, str(path)) from error
        raise Damaged(f"blob {name} is missing") from error
    except OSError as error:
        raise storage_error(error, str(path)) from error
    try:
        length = os.fstat(descriptor).st_size
        at = length - _FOOTER.size - _CHECK.size
        if at < 0:
            raise Damaged(f"blob {name} is cut short")
        footer = bytearray(_FOOTER.size + _CHECK.size)
        _fill(calls, name, descriptor, footer, at)
        magic, size, described, checksum = _FOOTER.unpack_from(footer)
        (check,) = _CHECK.unpack_from(footer, _FOOTER.size)
        if magic != _MAGIC or crc32c(footer[: _FOOTER.size]) != check:
            raise Damaged(f"blob {name} has no valid footer")
        if size + _sums_size(size) + described != at:
            raise Damaged(f"blob {name} has another size than its footer tells")
        return BlobFile(name, descriptor, size, described, checksum, calls)
    except BaseException:
        os.close(descriptor)
        raise


def pin_blob(path: Path) -> int:
    """
    Keep a blob from :func:`remove_blobs` in any process, as long as a descriptor is open.

    :return: The descriptor.
    :raises Damaged: It is missing, or just being removed.
    :raises StorageFailed:
    """
    missing = Damaged(f"blob {path.name} is missing")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise missing from error
    except OSError as error:
        raise storage_error(error, str(path)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:
            raise missing
    except BlockingIOError as error:
        os.close(descriptor)
        raise missing from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_blobs(paths: Sequence[Path], calls: FileCalls) -> list[Path]:
    """
    Remove blobs durably, but for those that are pinned; one that is absent is removed already.

    :return: Those that are pinned.
    :raises OSError: They may be there still.
    """
    pinned = [path for path in paths if not _unlink(path, calls)]
    # Together, as the first sync brings most of what the others ask for.
    for directory in {path.parent for path in paths}:
        _sync_removal(directory, calls)
    return pinned


def _unlink(path: Path, calls: FileCalls) -> bool:
    """
    Remove the name of a blob, unless that is pinned; whether it is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        calls.unlink(path)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove(path: Path, calls: FileCalls) -> None:
    """
    Remove a file durably that nobody has pinned; one that is absent is removed already.

    :raises OSError: It may be there still.
    """
    calls.unlink(path)
    _sync_removal(path.parent, calls)


def _sync_removal(directory: Path, calls: FileCalls) -> None:
    try:
        # Also when it was absent: who removed it may have been killed before this.
        calls.sync_directory(directory)
    except FileNotFoundError:
        # There was no blob near it, unless the disk is not there.
        calls.sync_directory(directory.parent)


def blocking(call: Callable[[], Any], what: str) -> Any:
    """
    Make a call, and raise in the words of the domain.

    :raises KypelloError:
    """
    try:
        return call()
    except OSError as error:
        raise storage_error(error, what) from error


def _sums_size(size: int) -> int:
    return _SUM.size * -(-size // CHUNK)


def _fill(
    calls: FileCalls, name: str, descriptor: int, target: bytearray | memoryview, offset: int
) -> None:
    view = memoryview(target)
    at = 0
    while at < len(target):
        try:
            count = calls.read(descriptor, view[at:], offset + at)
        except OSError as error:
            raise StorageFailed(f"blob {name}: {error.strerror}") from error
        if not count:
            raise Damaged(f"blob {name} is cut short")
        at += count

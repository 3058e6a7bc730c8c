# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether a data directory works, by trying it.
"""

import os
from pathlib import Path

from attrs import define, field
from zope.interface import implementer

from kypello.interfaces import IBlobs, ILanes, IStorageProbe
from kypello.store.blobfile import blocking
from kypello.store.filecalls import FileCalls
from kypello.store.records import META, SYSTEM
from kypello.store.sqlite import SQLiteIndex

#: What is written, in bytes: more than a file system keeps beside the name of a file.
_SIZE = 64 * 1024

#: No blob has this name, nor does any follow it.
_LAST = "f" * 32


@implementer(IStorageProbe)
@define(eq=False)
class DiskProbe:
    """
    Looks for what is not there, and writes a file that it removes.

    :ivar _index: Which remembers nothing.
    :ivar _path: Of the file, which is nobody else's.
    """

    _index: SQLiteIndex
    _blobs: IBlobs
    _path: Path
    _lanes: ILanes
    _calls: FileCalls = field(factory=FileCalls)

    async def read(self) -> None:
        """
        Ask the index and the blobs.
        """
        await self._index.get(SYSTEM, [META])
        await self._blobs.names(_LAST, 1)

    async def write(self) -> None:
        """
        Ask them, begin to write to the index, and write the file.
        """
        await self.read()
        await self._index.commit(SYSTEM, [], {}, ())
        await self._lanes.lane().run(blocking, self._write, str(self._path))

    def _write(self) -> None:
        self._index.reserve.keep()
        # One that was killed may have left it.
        self._calls.unlink(self._path)
        descriptor = self._calls.make(self._path)
        try:
            written = 0
            while written < _SIZE:
                # What finds little room is cut short, and the next finds none.
                written += self._calls.write(descriptor, bytes(_SIZE - written), written)
            self._calls.sync(descriptor)
            self._calls.sync_directory(self._path.parent)
        finally:
            os.close(descriptor)
            self._calls.unlink(self._path)

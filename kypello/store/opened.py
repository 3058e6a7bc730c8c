# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Objects that are open for reading.
"""

from attrs import field, frozen
from zope.interface import implementer

from kypello.interfaces import IBlob, IBodySource, IOpenObject
from kypello.model import ByteRange, ObjectInfo
from kypello.store.sources import BufferSource


@implementer(IOpenObject)
@frozen(eq=False)
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


@implementer(IOpenObject)
@frozen(eq=False)
class BlobObject:
    """
    An object whose blob is open.
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

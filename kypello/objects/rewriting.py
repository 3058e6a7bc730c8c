# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Content that is written again, in one piece, with what describes it.
"""

from attrs import define, evolve, field
from zope.interface import implementer

from kypello.crypto.checksums import Checksum, encode, new_checksum, new_md5
from kypello.errors import Damaged
from kypello.interfaces import IBodySource, ILane
from kypello.model import Buffer, ObjectInfo, ObjectMetadata

#: Blocks up to this size, in bytes, are digested at once; less than the way to a lane and back.
_AT_ONCE = 16 * 1024


@implementer(IBodySource)
@define(eq=False)
class Rewritten:
    """
    The content of an object that is not encrypted, on its way back into the store.

    :ivar _info: The object.
    :ivar size: Bytes of content.
    """

    _source: IBodySource
    _info: ObjectInfo
    _lane: ILane
    size: int | None = field(init=False)
    _running: dict[str, Checksum] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self.size = self._source.size
        self._running = {name: new_checksum(name) for name in self._info.metadata.checksums}
        self._running["md5"] = new_md5()

    async def read(self) -> Buffer:
        """
        Give the next block.
        """
        block = await self._source.read()
        if len(block) <= _AT_ONCE:
            self._feed(block)
        else:
            await self._lane.run(self._feed, block)
        return block

    def close(self) -> None:
        """
        Give up the content.
        """
        self._source.close()

    def describe(self, _size: int) -> ObjectMetadata:
        """
        What is known of the object, which has no parts any more: ETag and checksums are those of
        all of its content.

        :raises Damaged: It had none before, and they are not what they were.
        """
        metadata = self._info.metadata
        digests = {name: running.digest() for name, running in self._running.items()}
        etag = digests.pop("md5").hex()
        checksums = {name: encode(digest) for name, digest in digests.items()}
        if not self._info.parts and (etag, checksums) != (metadata.etag, metadata.checksums):
            raise Damaged(f"the content of {self._info.bucket}/{self._info.key}")
        kind = "FULL_OBJECT" if checksums else ""
        return evolve(metadata, etag=etag, checksums=checksums, checksum_type=kind)

    def _feed(self, block: Buffer) -> None:
        for running in self._running.values():
            running.update(block)

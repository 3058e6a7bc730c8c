# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a rebuild of an index works with, and what it tells.
"""

from collections.abc import AsyncIterator, Callable, Sequence

from attrs import define, evolve

from kypello.errors import Damaged, StorageFailed
from kypello.interfaces import IBlobs, IIndex
from kypello.model import Write
from kypello.store.findings import Problem, told
from kypello.store.rebuiltnames import RebuiltNames
from kypello.store.records import SYSTEM, BlobRecord, PartRecord, unpack

#: How many rows are read at once.
PAGE = 256


@define
class Rebuilt:
    """
    What a rebuild has found and made so far.

    :ivar databases: That were there.
    :ivar damaged: Those of them that are damaged.
    :ivar records: That were read from them and kept as they are.
    :ivar buckets: Of the new index; and *objects*, *uploads*, *parts* of these.
    :ivar described: Objects, and parts of uploads, that only the descriptions beside their blobs
        told of.
    :ivar blobs: That were looked at as nothing else names them.
    :ivar problems: What is lost, or may be.
    :ivar unused: Blobs that belong to nothing in the new index.
    """

    databases: int = 0
    damaged: int = 0
    records: int = 0
    buckets: int = 0
    objects: int = 0
    uploads: int = 0
    parts: int = 0
    described: int = 0
    blobs: int = 0
    problems: int = 0
    unused: int = 0

    @property
    def complete(self) -> bool:
        """
        Whether nothing is lost.
        """
        return not self.problems


@define(eq=False)
class Work:
    """
    What all parts of a rebuild share.

    :ivar index: The new one.
    :ivar tell: Called with each problem.
    """

    index: IIndex
    blobs: IBlobs
    names: RebuiltNames
    figures: Rebuilt
    tell: Callable[[Problem], object]

    def say(self, where: Problem, what: str) -> None:
        """
        Tell of what is lost, or may be.
        """
        self.figures.problems += 1
        self.tell(evolve(where, what=what))

    def unused(self, where: Problem, blob: str, why: str) -> None:
        """
        Tell of a blob that belongs to nothing.
        """
        self.figures.unused += 1
        self.tell(evolve(where, what=f"blob {blob} is not used: {why}", orphan=True))

    async def pages(
        self, space: str, within: tuple[bytes, bytes | None], limit: int = PAGE
    ) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """
        The rows of a range of keys of the new index, some at a time.
        """
        start, stop = within
        while True:
            rows = await self.index.scan(space, start, stop, limit)
            if rows:
                yield rows
            if len(rows) < limit:
                return
            start = rows[-1][0] + b"\x00"

    async def write(self, space: str, writes: Sequence[Write]) -> None:
        """
        Change the new index.
        """
        if writes:
            await self.index.commit(space, writes, {}, ())

    async def get(self, space: str, key: bytes) -> bytes | None:
        """
        Read one record of the new index.
        """
        (value,) = await self.index.get(space, [key])
        return value


async def wrong_with(work: Work, where: Problem, part: PartRecord) -> str:
    """
    What is wrong with a blob, that something cannot be kept for it; empty for nothing.

    :param where: What has the blob: the key of a row has no checksum, but the blob tells its own.
    """
    try:
        blob = await work.blobs.open(part.blob)
    except Damaged as error:
        return told(error)
    except StorageFailed as error:
        # It may be readable again.
        work.say(evolve(where, part=part.number), told(error))
        return ""
    blob.close()
    if blob.size != part.size:
        return f"blob {part.blob} has another size"
    try:
        described = unpack(BlobRecord, await work.blobs.describe(part.blob))
    except (Damaged, StorageFailed):
        # The content may be well all the same.
        return ""
    if where.key not in ("", described.key) or where.bucket != described.bucket:
        return f"blob {part.blob} is that of something else"
    return ""


@define(eq=False)
class Living:
    """
    The buckets that live, with their spaces, and the spaces that are to be removed.
    """

    spaces: dict[str, str]
    dying: set[str]

    def bucket(self, space: str) -> str:
        """
        To which bucket a space belongs; empty for none.
        """
        return next((name for name, each in self.spaces.items() if each == space), "")

    @property
    def all(self) -> list[str]:
        """
        All these spaces, and that of the system.
        """
        return [SYSTEM, *self.spaces.values(), *self.dying]

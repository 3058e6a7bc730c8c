# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The parts of objects, and those of large objects kept at hand.

An object may have 10000 parts.  To read their records takes longer than to read a block of
content, and who downloads such an object asks for thousands of ranges of it.
"""

from collections import OrderedDict
from functools import cached_property
from itertools import accumulate

from attrs import define, field

from kypello.model import PartInfo
from kypello.store.records import PartRecord

#: How many parts are kept at hand, of all objects together; each takes about 2 KiB.
_MOST = 20_000


@define(eq=False)
class Parts:
    """
    The blobs of one version, in order.
    """

    records: tuple[PartRecord, ...] = ()

    @cached_property
    def infos(self) -> tuple[PartInfo, ...]:
        """
        What is told about them; nothing when the object came in one piece.
        """
        return tuple(record.info() for record in self.records if record.number)

    @cached_property
    def ends(self) -> list[int]:
        """
        Where in the content each of them ends.
        """
        return list(accumulate(record.size for record in self.records))


@define(eq=False)
class KnownParts:
    """
    The parts of the versions that were used last, of those whose parts are kept apart.

    :ivar _known: By the record of the version, which names its first blob and so is like no
        other.  The one that was used last comes last.
    """

    _known: "OrderedDict[bytes, Parts]" = field(init=False, factory=OrderedDict)
    _count: int = field(init=False, default=0)

    def get(self, record: bytes) -> Parts | None:
        """
        The parts of a version, if they are at hand.
        """
        parts = self._known.get(record)
        if parts is not None:
            self._known.move_to_end(record)
        return parts

    def add(self, record: bytes, parts: Parts) -> None:
        """
        Keep parts at hand, and drop others if they are too many.
        """
        if record not in self._known:
            self._known[record] = parts
            self._count += len(parts.records)
        while self._count > _MOST:
            _, dropped = self._known.popitem(last=False)
            self._count -= len(dropped.records)

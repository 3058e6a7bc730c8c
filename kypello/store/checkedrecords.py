# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The records that a check of a store reads.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from attrs import define, frozen

from kypello.errors import Damaged, StorageFailed
from kypello.interfaces import IIndex
from kypello.store.findings import Findings, Problem
from kypello.store.records import (
    BucketRecord,
    DoneRecord,
    Garbage,
    Intent,
    ObjectRecord,
    PartRecord,
    PartsRecord,
    PlaceRecord,
    SpaceRecord,
    StateRecord,
    UploadRecord,
    unpack,
)

#: How many rows are read at once.
PAGE = 256

R = TypeVar(
    "R",
    BucketRecord,
    SpaceRecord,
    StateRecord,
    PlaceRecord,
    PartRecord,
    PartsRecord,
    ObjectRecord,
    UploadRecord,
    DoneRecord,
    Intent,
    Garbage,
)


@frozen
class Place:
    """
    A space.

    :ivar bucket: To which it belongs; empty for none.
    :ivar found: Whether the store finds the bucket there.
    """

    space: str
    bucket: str = ""
    found: bool = False


@define(eq=False)
class CheckedRecords:
    """
    Reads rows and decodes them; what cannot be is told.
    """

    _index: IIndex
    _findings: Findings

    async def pages(
        self, place: Place, within: tuple[bytes, bytes | None], limit: int = PAGE
    ) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """
        The rows of a range of keys, some at a time; it ends where they cannot be read.

        :param within: The first key, and the first one behind; ``None`` for the end.
        """
        start, stop = within
        while True:
            try:
                rows = await self._index.scan(place.space, start, stop, limit)
            except (Damaged, StorageFailed) as error:
                self._findings.torn(place.space, place.bucket, error)
                return
            if rows:
                yield rows
            if len(rows) < limit:
                return
            start = rows[-1][0] + b"\x00"

    def decoded(
        self, kind: type[R], value: bytes, where: Problem, what: str = "its record"
    ) -> R | None:
        """
        A record; ``None``, and it was told, when it cannot be read.
        """
        try:
            return unpack(kind, value)
        except (Damaged, ValueError):
            self._findings.unreadable(where, f"{what} cannot be read ({kind.__name__})")
            return None


def text_of(raw: bytes) -> str:
    """
    A part of a key of a row, for people.
    """
    return raw.decode("utf-8", "backslashreplace")

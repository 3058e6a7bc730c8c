# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The parts of large objects, opened once for many ranges that are read of them.
"""

from attrs import define, field, frozen

from kypello.model import PartInfo


@frozen
class Stream:
    """
    A DARE stream of the content of an object.

    :ivar size: Plain bytes.
    :ivar number: Of the part; ``None`` for content that came in one piece.
    :ivar nonce: What the stream was encrypted with; empty when that was not kept.
    """

    size: int
    number: int | None = None
    nonce: bytes = b""


@frozen
class KnownParts:
    """
    The parts of an object.

    :ivar shown: As its client knows them.
    :ivar streams: What is needed to read them.
    """

    shown: tuple[PartInfo, ...]
    streams: tuple[Stream, ...]


@define(eq=False)
class RecentParts:
    """
    The parts of objects that were opened of late, by the digest that their objects are bound to.

    To open ten thousand parts takes a tenth of a second, too long for each of many ranges.  The
    digest is sealed and tells the random nonces, so it stands for one list of parts for ever;
    what the store has in its place by now is refused when it is read.

    :ivar _least: Objects of fewer parts are not kept.
    :ivar _most: How many parts are kept, of all objects together.
    """

    _least: int = 64
    _most: int = 20_000
    _known: dict[bytes, KnownParts] = field(init=False, factory=dict)
    _count: int = field(init=False, default=0)

    def get(self, digest: bytes) -> KnownParts | None:
        """
        The parts that *digest* stands for, if they are known.
        """
        known = self._known.pop(digest, None)
        if known is not None:
            self._known[digest] = known
        return known

    def put(self, digest: bytes, known: KnownParts) -> None:
        """
        Keep parts, in place of those that were used the longest time ago.
        """
        if self._least <= len(known.shown) <= self._most and digest not in self._known:
            self._known[digest] = known
            self._count += len(known.shown)
        while self._count > self._most:
            oldest = self._known.pop(next(iter(self._known)))
            self._count -= len(oldest.shown)

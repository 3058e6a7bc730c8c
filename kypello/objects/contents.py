# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the content of an object must be: with its key what its metadata tell of the plaintext, without
it packages in their places.
"""

from collections.abc import Callable, Sequence

from attrs import define, field

from kypello.crypto.checksums import (
    SIZES,
    Checksum,
    compose,
    decode,
    encode,
    new_checksum,
    new_md5,
)
from kypello.crypto.structure import Structure
from kypello.errors import NotAuthentic
from kypello.model import Buffer, ObjectInfo, ObjectMetadata
from kypello.objects.shown import etag_of_parts

_COMPOSITE = "COMPOSITE"


@define(eq=False)
class _Digests:
    """
    The digests of a piece of plaintext, and what they must be.

    :ivar _md5: In hex; empty when the ETag is none of it.
    :ivar _checksums: In base64, by algorithm.
    """

    _md5: str
    _checksums: dict[str, str]
    _running: dict[str, Checksum] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was fed yet.
        """
        self._running = {name: new_checksum(name) for name in self._checksums}
        if self._md5:
            self._running["md5"] = new_md5()

    def feed(self, block: Buffer) -> None:
        """
        Take the next bytes.
        """
        for digest in self._running.values():
            digest.update(block)

    def finish(self) -> None:
        """
        See that they are what they must be.

        :raises NotAuthentic: One is not.
        """
        if self._md5 and self._running["md5"].digest().hex() != self._md5:
            raise NotAuthentic("etag")
        for name, told in self._checksums.items():
            if encode(self._running[name].digest()) != told:
                raise NotAuthentic(f"checksum {name}")


@define(eq=False)
class _Pieces:
    """
    Divides a stream that comes in blocks of any size into pieces.

    :ivar _sizes: Of the pieces, in bytes.
    :ivar _begin: Begins a piece, and gives what takes its bytes.
    :ivar _end: Ends it.
    """

    _sizes: Sequence[int]
    _begin: Callable[[int], Callable[[Buffer], None]]
    _end: Callable[[], None]
    _next: int = field(init=False, default=0)
    _left: int = field(init=False, default=0)
    _take: Callable[[Buffer], None] | None = field(init=False, default=None)

    def feed(self, block: Buffer) -> None:
        """
        Take the next bytes.

        :raises NotAuthentic: There are more than the pieces have.
        """
        view = memoryview(block)
        while view:
            if self._take is None:
                self._advance()
            assert self._take is not None
            taken = view[: self._left]
            self._take(taken)
            view = view[len(taken) :]
            self._left -= len(taken)
            if not self._left:
                self._end()
                self._take = None

    def finish(self) -> None:
        """
        See that all pieces came; those without content come to nothing.

        :raises NotAuthentic: Something is missing.
        """
        if self._left:
            raise NotAuthentic("end")
        while self._next < len(self._sizes):
            self._start()
            if self._left:
                raise NotAuthentic("end")
            self._end()

    def _advance(self) -> None:
        while not self._left:
            if self._next == len(self._sizes):
                raise NotAuthentic("end")
            self._start()
            if not self._left:
                self._end()

    def _start(self) -> None:
        self._left = self._sizes[self._next]
        self._take = self._begin(self._next)
        self._next += 1


class Contents:
    """
    Compares the plaintext of an object, fed in order, with what its metadata tell.

    An ETag is compared where it is the MD5 of something: with SSE-S3.  Otherwise it is random.

    :param info: Opened: as its client knows it.
    """

    def __init__(self, info: ObjectInfo) -> None:
        self._info = info
        metadata = info.metadata
        sealing = metadata.sealing
        self._md5 = sealing is not None and sealing.algorithm == "AES256" and not sealing.opaque
        whole = {} if metadata.checksum_type == _COMPOSITE else dict(metadata.checksums)
        self._whole = _Digests(metadata.etag if self._md5 and not info.parts else "", whole)
        self._piece: _Digests | None = None
        sizes = [part.size for part in info.parts] or [info.size]
        self._pieces = _Pieces(sizes, self._begin, self._end)

    def feed(self, block: Buffer) -> None:
        """
        Take the next bytes of plaintext.

        :raises NotAuthentic: They are not what was written.
        """
        self._whole.feed(block)
        self._pieces.feed(block)

    def finish(self) -> None:
        """
        See that all came.

        :raises NotAuthentic: It did not, or is not what was written.
        """
        self._pieces.finish()
        self._whole.finish()
        parts = [part.metadata for part in self._info.parts]
        if parts and etag_of_parts([part.etag for part in parts]) != self._info.metadata.etag:
            raise NotAuthentic("etag")
        if self._info.metadata.checksum_type == _COMPOSITE:
            for name, told in self._info.metadata.checksums.items():
                if _composite(name, parts) != told:
                    raise NotAuthentic(f"checksum {name}")

    def _begin(self, index: int) -> Callable[[Buffer], None]:
        parts = self._info.parts
        metadata = parts[index].metadata if parts else ObjectMetadata()
        self._piece = _Digests(metadata.etag if self._md5 else "", dict(metadata.checksums))
        return self._piece.feed

    def _end(self) -> None:
        if self._piece is not None:
            self._piece.finish()


class Streams:
    """
    Looks at the packages of an object whose key nobody has here, fed in order.

    :param info: As the store keeps it.
    """

    def __init__(self, info: ObjectInfo) -> None:
        self._sizes = [part.size for part in info.parts] or [info.size]
        self._stream = Structure(0)
        self._pieces = _Pieces(self._sizes, self._begin, self._end)

    def feed(self, block: Buffer) -> None:
        """
        Take the next encrypted bytes.

        :raises NotAuthentic: They are no packages, or not in their places.
        """
        self._pieces.feed(block)

    def finish(self) -> None:
        """
        See that all came.

        :raises NotAuthentic: It did not.
        """
        self._pieces.finish()

    def _begin(self, index: int) -> Callable[[Buffer], None]:
        self._stream = Structure(self._sizes[index])
        return self._stream.feed

    def _end(self) -> None:
        self._stream.finish()


def _composite(algorithm: str, parts: Sequence[ObjectMetadata]) -> str:
    """
    The checksum of the checksums of parts.

    :raises NotAuthentic: A part has none.
    """
    digests = [decode(part.checksums.get(algorithm, ""), SIZES[algorithm]) for part in parts]
    known = [digest for digest in digests if digest is not None]
    if len(known) < len(digests):
        raise NotAuthentic(f"checksum {algorithm}")
    return f"{encode(compose(algorithm, known))}-{len(known)}"

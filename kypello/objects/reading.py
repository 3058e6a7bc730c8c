# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Reading of encrypted objects, in one piece or in parts.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from attrs import define, evolve, field, frozen
from zope.interface import implementer

from kypello.crypto.dare import (
    PAYLOAD_SIZE,
    Decoder,
    PackageRange,
    StreamKey,
    encrypted_size,
    package_range,
)
from kypello.crypto.keys import part_key
from kypello.interfaces import IBodySource, IOpenObject
from kypello.model import ByteRange, ObjectInfo
from kypello.objects.bodies import PackageSource
from kypello.objects.joined import JoinedSource, Piece
from kypello.objects.recentparts import Stream
from kypello.objects.shown import OpenedObject


@frozen
class Found:
    """
    Where the bytes of a range are that lie in one stream.

    :ivar index: Of the stream.
    :ivar packages: Within the stream.
    :ivar start: Where the first of them is in the object.
    :ivar size: Bytes of plaintext.
    """

    index: int
    packages: PackageRange
    start: int
    size: int

    @property
    def stop(self) -> int:
        """
        Where the last package ends in the object.
        """
        return self.start + self.packages.encrypted.size


def locate(sizes: Sequence[int], wanted: ByteRange) -> list[Found]:
    """
    Find a range of plaintext in streams that follow each other.

    :param sizes: Plain bytes of each stream.
    :param wanted: Within their sum.
    """
    found = []
    plain = encrypted = 0
    for index, size in enumerate(sizes):
        if plain >= wanted.stop:
            break
        start, stop = max(wanted.start - plain, 0), min(wanted.stop - plain, size)
        if start < stop:
            packages = package_range(ByteRange(start, stop), size)
            begin = encrypted + packages.encrypted.start
            found.append(Found(index, packages, begin, stop - start))
        plain += size
        encrypted += encrypted_size(size)
    return found


@implementer(IOpenObject)
@define(eq=False)
class EncryptedObject:
    """
    An encrypted object, pinned.

    :ivar _opened: As the client knows it.
    :ivar _below: As the store keeps it.
    :ivar _object_key: Gives its key; called when content is read, not before.
    """

    _opened: OpenedObject
    _below: IOpenObject
    _object_key: Callable[[], Awaitable[StreamKey]] = field(repr=False)

    @property
    def info(self) -> ObjectInfo:
        """
        The version, as the client knows it.
        """
        return self._opened.info

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Decrypt the packages that hold the range.
        """
        size = self.info.size
        if not size:
            return JoinedSource(await self._below.read(None), iter(()), 0)
        key, streams, below = await self._object_key(), self._opened.streams, self._below.read
        if key.outer is not None:
            outer = [_encrypted(each) for each in streams]
            whole = sum(each.size for each in outer)
            below = partial(_decrypted, below, key.outer, outer, whole)
        return await _decrypted(below, key, streams, size, wanted)

    def close(self) -> None:
        """
        Release the pin.
        """
        self._below.close()


async def _decrypted(
    below: Callable[[ByteRange | None], Awaitable[IBodySource]],
    key: StreamKey,
    streams: Sequence[Stream],
    size: int,
    wanted: ByteRange | None,
) -> IBodySource:
    """
    A range of what streams that follow each other are the encryption of, in one layer.

    :param below: Reads ranges of the streams.
    :param size: Of all that they are the encryption of.
    :param wanted: ``None`` for all of it.
    """
    if size <= PAYLOAD_SIZE and len(streams) == 1 and streams[0].number is None:
        return PackageSource(await below(None), key, size, wanted)
    plain = ByteRange(0, size) if wanted is None else wanted
    found = locate([stream.size for stream in streams], plain)
    packages = await below(None if wanted is None else ByteRange(found[0].start, found[-1].stop))
    return JoinedSource(packages, _pieces(key.secret, streams, found), plain.size)


def _encrypted(stream: Stream) -> Stream:
    """
    A stream as the layer around it has it for content.
    """
    return evolve(stream, size=encrypted_size(stream.size))


def _pieces(
    object_key: bytes, streams: Sequence[Stream], found: Sequence[Found]
) -> Iterator[Piece]:
    for each in found:
        stream, packages = streams[each.index], each.packages
        key = object_key if stream.number is None else part_key(object_key, stream.number)
        decoder = partial(Decoder, key, packages.sequence, to_end=packages.to_end)
        yield Piece(packages, each.size, stream.nonce, decoder)

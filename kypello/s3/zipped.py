# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Files within zip archives, read and listed as if they were objects (``x-minio-extract``).

An archive is read where it has to be: its directory at the end, and the one file that is wanted.
Whoever may read the archive may read what is in it.
"""

import mimetypes
import zlib
from collections.abc import Mapping
from functools import partial

from attrs import define, evolve, field, frozen
from zope.interface import implementer

from kypello.auth.request import RequestHead
from kypello.errors import BodyTruncated, NoSuchKey, NotAuthentic
from kypello.http.response import Response
from kypello.interfaces import IBodySource, ILane
from kypello.model import (
    Buffer,
    ByteRange,
    CustomerKey,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
)
from kypello.s3.call import Call
from kypello.s3.conditions import is_not_modified
from kypello.s3.encryption import read_customer_key
from kypello.s3.errors import not_implemented
from kypello.s3.expanding import PIECE, Deflated
from kypello.s3.extensions import wants_extraction
from kypello.s3.headers import DEFAULT_TYPE, object_headers, overridden, read_overrides
from kypello.s3.ranges import content_range, wanted_range
from kypello.s3.unpacking import Pieces
from kypello.s3.versions import read_version, version_headers
from kypello.s3.zip import (
    LOCAL,
    MAX_LOCAL,
    STORED,
    TAIL,
    Member,
    damaged,
    find_directory,
    local_rest,
    read_directory,
)

_END = ".zip"
_INSIDE = f"{_END}/"


def leads_inside(head: RequestHead, name: str) -> bool:
    """
    Whether a key, or the prefix of a listing, leads into an archive that is to be read.
    """
    return wants_extraction(head) and _INSIDE in name


@frozen
class _Archive:
    """
    An archive that is read in several ranges.

    :ivar info: The version that the first range was of; so must be all others.
    """

    call: Call
    customer_key: CustomerKey | None
    info: ObjectInfo

    @classmethod
    async def find(cls, call: Call, name: str) -> "_Archive":
        """
        Look for the archive of a key or prefix, which whoever asks must be allowed to read.

        :raises Refused: ``AccessDenied``, and as :meth:`IObjectStore.head`.
        :raises KypelloError: As :meth:`IObjectStore.head`.
        """
        key = name.partition(_INSIDE)[0] + _END
        about = evolve(call, key=key)
        head, front = call.head, call.front
        customer_key = read_customer_key(head, loopback=front.allow_insecure_customer_keys)
        version_id = read_version(head)
        await about.require("s3:GetObjectVersion" if version_id else "s3:GetObject")
        info = await front.store.head(call.bucket, key, customer_key, version_id)
        await call.require_decryption(info.metadata.sealing)
        return cls(call, customer_key, info)

    async def read(self, start: int, stop: int) -> IBodySource:
        """
        Begin to read a range, of at least a byte.

        :raises Refused: ``PreconditionFailed``: the archive was replaced meanwhile.
        :raises KypelloError: As :meth:`IObjectStore.open`.
        """
        info, version_id = self.info, read_version(self.call.head)
        opened = await self.call.front.store.open(
            info.bucket, info.key, self.customer_key, version_id
        )
        try:
            now = opened.info
            if (now.version_id, now.modified, now.size, now.etag) != (
                info.version_id,
                info.modified,
                info.size,
                info.etag,
            ):
                raise damaged("it is being replaced")
            return await opened.read(ByteRange(start, stop))
        finally:
            opened.close()

    async def all(self, start: int, stop: int) -> bytes:
        """
        A range that fits into memory.
        """
        if start >= stop:
            return b""
        source = await self.read(start, stop)
        try:
            pieces = []
            while len(piece := await source.read()):
                pieces.append(bytes(piece))
            return b"".join(pieces)
        finally:
            source.close()

    async def members(self) -> Mapping[str, Member]:
        """
        What is in it, by name.

        :raises Refused: ``InvalidRequest``: it is no archive.
        """
        size = self.info.size
        tail = await self.all(max(0, size - TAIL), size)
        directory = find_directory(tail, size)
        content = await self.all(directory.start, directory.start + directory.size)
        lane = self.call.front.lanes.lane()
        members: Mapping[str, Member] = await lane.run(read_directory, content)
        return members

    def shown(self, member: Member) -> ObjectInfo:
        """
        A file as if it were an object.
        """
        info = self.info
        kind = mimetypes.guess_type(member.name)[0] or DEFAULT_TYPE
        metadata = ObjectMetadata(
            etag=f"{info.etag}-{member.crc:08x}",
            headers={"content-type": kind},
            sealing=info.metadata.sealing,
        )
        return ObjectInfo(
            info.bucket,
            f"{info.key}/{member.name}",
            info.version_id,
            member.size,
            info.modified,
            metadata,
        )


async def get_inside(call: Call) -> Response:
    """
    Read a file in an archive, or a range of it.
    """
    return await _answer(call, content=True)


async def head_inside(call: Call) -> Response:
    """
    Tell about a file in an archive what reading it would tell.
    """
    return await _answer(call, content=False)


async def list_inside(call: Call, query: ListQuery) -> Listing:
    """
    One page of the files in an archive, in byte order of their keys.
    """
    archive = await _Archive.find(call, query.prefix)
    members = await archive.members()
    before = archive.info.key + "/"
    names = sorted((before + name).encode() for name in members)
    prefix, delimiter, after = (
        text.encode() for text in (query.prefix, query.delimiter, query.start_after)
    )
    found: list[tuple[bytes, bool]] = []
    for name in names:
        if not name.startswith(prefix):
            continue
        end = name.find(delimiter, len(prefix)) if delimiter else -1
        group = name if end < 0 else name[: end + len(delimiter)]
        if group <= after or (found and found[-1][0] == group):
            continue
        if len(found) > query.limit:
            break
        found.append((group, end >= 0))
    shown = found[: query.limit]
    more = len(found) > query.limit and shown
    return Listing(
        tuple(
            archive.shown(members[name.decode().removeprefix(before)])
            for name, grouped in shown
            if not grouped
        ),
        tuple(name.decode() for name, grouped in shown if grouped),
        shown[-1][0].decode() if more else None,
    )


async def _answer(call: Call, *, content: bool) -> Response:
    overrides = await call.check(partial(read_overrides, call.head))
    archive = await _Archive.find(call, call.key)
    member = (await archive.members()).get(call.key.partition(_INSIDE)[2])
    if member is None:
        raise NoSuchKey(call.bucket, call.key)
    info, head = archive.shown(member), call.head
    headers = [*object_headers(info), *version_headers(call.settings, info.version_id)]
    if is_not_modified(head, info, call.front.clock.seconds()):
        return Response(304, headers)
    wanted = wanted_range(head, info)
    headers = overridden(headers, overrides)
    if wanted is not None:
        headers.append(content_range(wanted, info.size))
    status, wanted = 200 if wanted is None else 206, wanted or _whole(info)
    if not content:
        size = 0 if wanted is None else wanted.size
        return Response(status, [*headers, ("Content-Length", str(size))])
    if not member.readable:
        raise not_implemented("a file in the archive that is encrypted, or not deflated")
    if wanted is None:
        return Response(status, headers)
    return Response(status, headers, await _open(archive, member, wanted))


def _whole(info: ObjectInfo) -> ByteRange | None:
    return ByteRange(0, info.size) if info.size else None


async def _open(archive: _Archive, member: Member, wanted: ByteRange) -> IBodySource:
    stop = min(archive.info.size, member.start + MAX_LOCAL + member.packed)
    if member.start + LOCAL > stop:
        raise damaged("a file is not where it is told to be")
    source = await archive.read(member.start, stop)
    try:
        pieces = Pieces(source)
        await pieces.skip(local_rest(await pieces.exactly(LOCAL)))
        lane = archive.call.front.lanes.lane()
        packed = _Packed(pieces, source, member, lane)
        return _Range(packed, wanted.size, wanted.start)
    except BaseException:
        source.close()
        raise


@define(eq=False)
class _Packed:
    """
    The content of a file, with its checksum verified.

    :ivar _left: Bytes of it, as stored, that were not read.
    :ivar _given: Bytes of content.
    """

    _pieces: Pieces
    _source: IBodySource
    _member: Member
    _lane: ILane
    _left: int = field(init=False)
    _given: int = field(default=0, init=False)
    _crc: int = field(default=0, init=False)
    _stream: Deflated = field(init=False, factory=lambda: Deflated(-zlib.MAX_WBITS))

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self._left = self._member.packed

    async def read(self) -> bytes:
        """
        Give the next piece; empty at the end.

        :raises NotAuthentic: It is not what the directory tells.
        """
        member = self._member
        while self._given < member.size:
            piece: bytes = await self._next()
            self._given += len(piece)
            self._crc = zlib.crc32(piece, self._crc)
            if self._given > member.size:
                break
            if self._given == member.size and self._crc != member.crc:
                break
            if piece:
                return piece
        if self._given != member.size or self._crc != member.crc:
            raise NotAuthentic()
        return b""

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._source.close()

    async def _next(self) -> bytes:
        if self._member.method == STORED:
            return await self._raw()
        data = await self._raw() if self._stream.needs_input else b""
        try:
            made: bytes = await self._lane.run(self._stream.decompress, data, PIECE)
        except zlib.error:
            raise NotAuthentic() from None
        if self._stream.eof and not made:
            raise NotAuthentic()
        return made

    async def _raw(self) -> bytes:
        if not self._left:
            raise NotAuthentic()
        piece = bytes(await self._pieces.some(min(self._left, PIECE)))
        self._left -= len(piece)
        return piece


@implementer(IBodySource)
@define(eq=False)
class _Range:
    """
    A range of the content of a file; what is before it is read, and given to nobody.
    """

    _packed: _Packed
    size: int | None
    _skip: int
    _given: int = 0

    async def read(self) -> Buffer:
        """
        Give the next piece.

        :raises NotAuthentic: The archive is damaged.
        """
        left = (self.size or 0) - self._given
        while left:
            piece = memoryview(await self._packed.read())
            if not piece:
                raise BodyTruncated()
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped : skipped + left]
            if piece:
                self._given += len(piece)
                return piece
        return b""

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._packed.close()

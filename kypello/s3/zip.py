# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The directory of zip archives, as of APPNOTE 6.3: bytes in, values out.
"""

import struct
from collections.abc import Iterator

from attrs import define, frozen

from kypello.errors import Refused

#: How much of the end of an archive tells where its directory is: the record at the end with the
#: longest comment, and what stands before it in large archives.
TAIL = 22 + 0xFFFF + 20 + 56

#: The largest directory that is read, in bytes, and the most entries.
MAX_DIRECTORY, MAX_ENTRIES = 16 * 1024 * 1024, 100_000

#: The longest header before a content: with a name and an extra field as long as can be.
MAX_LOCAL = 30 + 2 * 0xFFFF

#: How contents are compressed that can be read.
STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
LOCAL = _LOCAL.size

_ENCRYPTED, _UTF8 = 0x1, 0x800
_FULL, _FULL16 = 0xFFFFFFFF, 0xFFFF
_ZIP64 = 1


@frozen
class Directory:
    """
    Where the directory of an archive is.
    """

    start: int
    size: int


@define
class Member:
    """
    A file in an archive.

    :ivar name: Its path; one that ends with a slash is a folder.
    :ivar size: Of its content, in bytes.
    :ivar packed: The same as it is stored.
    :ivar start: Where its header is.
    :ivar readable: Whether it is compressed and encrypted in no other way than can be read.
    """

    name: str
    size: int
    packed: int
    crc: int
    method: int
    start: int
    readable: bool


def damaged(reason: str) -> Refused:
    """
    The refusal of an archive.
    """
    return Refused("InvalidRequest", f"The archive cannot be read: {reason}.")


def find_directory(tail: bytes, size: int) -> Directory:
    """
    Where the directory is.

    :param tail: The last bytes of the archive, :data:`TAIL` of them or all.
    :param size: Of the archive.
    :raises Refused: ``InvalidRequest``.
    """
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or place + _END.size > len(tail):
        raise damaged("it has no directory")
    _, disk, disks, here, total, length, start, _comment = _END.unpack_from(tail, place)
    before = place - _LOCATOR.size
    if before >= 0 and tail.startswith(b"PK\x06\x07", before):
        _, _disk, at, _disks = _LOCATOR.unpack_from(tail, before)
        at -= size - len(tail)
        if not 0 <= at <= before - _END64.size or not tail.startswith(b"PK\x06\x06", at):
            raise damaged("its directory is not where it is told to be")
        record = _END64.unpack_from(tail, at)
        disk, disks, here, total, length, start = record[4:]
    if disk or disks or here != total:
        raise damaged("it has several parts")
    if length > MAX_DIRECTORY or total > MAX_ENTRIES:
        raise damaged("it has too many files")
    if start + length > size - len(tail) + place:
        raise damaged("its directory is not where it is told to be")
    return Directory(start, length)


def read_directory(directory: bytes) -> dict[str, Member]:
    """
    All files, by name; of several with one name the last counts.

    :raises Refused: ``InvalidRequest``.
    """
    return {member.name: member for member in _members(directory)}


def local_rest(header: bytes) -> int:
    """
    How many bytes lie between a header before a content, of :data:`LOCAL` bytes, and the content.

    :raises Refused: ``InvalidRequest``.
    """
    if header[:4] != b"PK\x03\x04":
        raise damaged("a file is not where it is told to be")
    name, extra = _LOCAL.unpack(header)[-2:]
    return int(name + extra)


def _members(directory: bytes) -> Iterator[Member]:
    place = 0
    while place < len(directory):
        if place + _CENTRAL.size > len(directory) or directory[place : place + 4] != b"PK\x01\x02":
            raise damaged("its directory is damaged")
        record = _CENTRAL.unpack_from(directory, place)
        flags, method, crc, packed, size = record[3], record[4], *record[7:10]
        named, extra, comment, disk, start = *record[10:14], record[16]
        place += _CENTRAL.size
        end = place + named + extra + comment
        if end > len(directory) or disk not in (0, _FULL16):
            raise damaged("its directory is damaged")
        name = directory[place : place + named]
        more = directory[place + named : place + named + extra]
        size, packed, start = _large(more, size, packed, start)
        place = end
        text = name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        readable = method in (STORED, DEFLATED) and not flags & _ENCRYPTED
        yield Member(text, size, packed, crc, method, start, readable)


def _large(extra: bytes, *values: int) -> tuple[int, int, int]:
    """
    Sizes and place, of which those that are too large stand in an extra field.
    """
    found = list(values)
    wanted = [place for place, value in enumerate(values) if value == _FULL]
    place = 0
    while wanted and place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        place += 4
        if kind == _ZIP64:
            if length < 8 * len(wanted) or place + length > len(extra):
                raise damaged("its directory is damaged")
            for number, each in enumerate(wanted):
                (found[each],) = struct.unpack_from("<Q", extra, place + 8 * number)
            break
        place += length
    return found[0], found[1], found[2]

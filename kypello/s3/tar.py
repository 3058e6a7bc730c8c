# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The headers of tar archives, as of POSIX and GNU: bytes in, values out.
"""

import tarfile
from collections.abc import Mapping
from enum import Enum

from attrs import frozen

from kypello.errors import Refused

#: Headers and contents fill blocks of so many bytes.
BLOCK = 512

#: The largest header that tells about the next one, in bytes: names and times are small.
MAX_EXTENSION = 1024 * 1024

_EMPTY = bytes(BLOCK)


class Kind(Enum):
    """
    What an entry of an archive is.

    Links, devices and all that is neither file nor folder have nothing that could be stored.
    """

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"


@frozen
class Entry:
    """
    One entry.

    :ivar name: As it is written, which may be anything.
    :ivar size: Bytes of content that follow, before what fills the last block.
    """

    name: str
    size: int
    kind: Kind


@frozen
class Extension:
    """
    A header that tells about the next one.

    :ivar size: Bytes that follow.
    :ivar kind: ``x``, ``g``, ``L`` or ``K``.
    """

    size: int
    kind: bytes


def malformed(reason: str) -> Refused:
    """
    The refusal of an archive.
    """
    return Refused("InvalidRequest", f"The archive cannot be unpacked: {reason}.")


def padded(size: int) -> int:
    """
    How many bytes a content takes with what fills its last block.
    """
    return -(-size // BLOCK) * BLOCK


def read_header(block: bytes, told: Mapping[str, str]) -> Entry | Extension | None:
    """
    Read a header.

    :param block: :data:`BLOCK` bytes.
    :param told: What extensions before it tell.
    :return: ``None`` for the end of the archive.
    :raises Refused: ``InvalidRequest``.
    """
    if block == _EMPTY:
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise malformed("a header is damaged, or it is no tar archive") from None
    if header.size < 0:
        raise malformed("a size is negative")
    if header.type in (b"x", b"g", b"L", b"K"):
        if header.size > MAX_EXTENSION:
            raise malformed("a header is too large")
        return Extension(header.size, header.type)
    if header.type == tarfile.GNUTYPE_SPARSE or any(name.startswith("GNU.sparse") for name in told):
        raise malformed("it holds a sparse file")
    size = header.size if "size" not in told else _size(told["size"])
    name = told.get("path", header.name)
    if header.isdir() or (header.isreg() and name.endswith("/")):
        # What has no content brings none, whatever its size says.
        return Entry(name, 0 if header.isdir() else size, Kind.FOLDER)
    if header.isreg():
        return Entry(name, size, Kind.FILE)
    return Entry(name, 0 if header.type in _BARE else size, Kind.OTHER)


#: Links, devices and pipes, which have no content.
_BARE = frozenset((b"1", b"2", b"3", b"4", b"6"))


def read_extension(extension: Extension, content: bytes) -> dict[str, str]:
    """
    What an extension tells about what follows it.

    :raises Refused: ``InvalidRequest``.
    """
    if extension.kind == b"L":
        return {"path": _text(content.split(b"\0", 1)[0])}
    if extension.kind == b"K":
        return {}
    told: dict[str, str] = {}
    while content and content[0]:
        length, blank, _rest = content.partition(b" ")
        if not blank or not length.isdigit() or not len(length) + 2 < int(length) <= len(content):
            raise malformed("a record has no length")
        record, content = content[len(length) + 1 : int(length)], content[int(length) :]
        name, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise malformed("a record is damaged")
        told[_text(name)] = _text(value[:-1])
    return told


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise malformed("a size is no number")
    return int(text)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

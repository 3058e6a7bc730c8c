# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Zip archives that administrators bring, and take away; blocking, for lanes.
"""

import zlib
from collections.abc import Mapping
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from attrs import define, frozen

from kypello.errors import KypelloError


@define(eq=False)
class MalformedArchive(KypelloError):
    """
    Something is no archive that can be read.

    :ivar reason: Why not, for people.
    """

    reason: str


@frozen
class Limits:
    """
    How much there may be.

    :ivar size: Bytes of an archive.
    :ivar unpacked: Bytes of its files.
    :ivar files: How many there are.
    """

    size: int
    unpacked: int
    files: int


def pack(files: Mapping[str, bytes]) -> bytes:
    """
    Write an archive, the same for the same files.
    """
    written = BytesIO()
    with ZipFile(written, "w") as archive:
        for name, content in files.items():
            about = ZipInfo(name)
            about.compress_type = ZIP_DEFLATED
            about.external_attr = 0o600 << 16
            archive.writestr(about, content)
    return written.getvalue()


def unpack(content: bytes, limits: Limits) -> dict[str, bytes]:
    """
    The files of an archive, by path.

    :raises MalformedArchive: It is none, or holds more than it may.
    """
    if len(content) > limits.size:
        raise MalformedArchive(f"it has more than {limits.size >> 20} MiB")
    found: dict[str, bytes] = {}
    room = limits.unpacked
    try:
        with ZipFile(BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > limits.files:
                raise MalformedArchive(f"it has more than {limits.files} files")
            for member in members:
                if member.filename in found:
                    raise MalformedArchive(f"it holds {member.filename} twice")
                if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.flag_bits & 1:
                    raise MalformedArchive(f"{member.filename} is packed in an unusual way")
                with archive.open(member) as file:
                    # What the archive says of its sizes may be a lie.
                    found[member.filename] = unpacked = file.read(room + 1)
                room -= len(unpacked)
                if room < 0:
                    raise MalformedArchive(f"it unpacks to more than {limits.unpacked >> 20} MiB")
    except (BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise MalformedArchive("it is not a zip archive, or a damaged one") from error
    return found

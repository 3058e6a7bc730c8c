# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What MinIO keeps of an object on its only drive: ``xl.meta``, and a file for each part.

An ``xl.meta`` begins with its magic and the version of its format, then come, in msgpack: bytes
with a header for each version, and a map for it; a checksum; and the content of small objects.
Before each block of content stands a hash of 32 bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from attrs import frozen

_MAGIC = b"XL2 \x01\x00\x03\x00"
_HASH = 32
_BIN = {0xC4: 1, 0xC5: 2, 0xC6: 4}


@frozen
class MinIOObject:
    """
    The newest version of an object.

    :ivar entries: What MinIO itself keeps with it.
    :ivar etag: As it is kept.
    :ivar numbers: Of its parts.
    :ivar parts: Their encrypted contents.
    """

    entries: Mapping[str, str]
    etag: str
    numbers: Sequence[int]
    parts: Sequence[bytes]


def read_object(folder: Path) -> MinIOObject:
    """
    Read an object.

    :param folder: Named like it, in that of its bucket.
    """
    raw = (folder / "xl.meta").read_bytes()
    assert raw.startswith(_MAGIC), raw[:8]
    metadata, rest = _bytes(raw, len(_MAGIC))
    # Versions of header and metadata, and how many versions there are: small numbers.
    assert metadata[0] == 3, metadata[:3]
    _header, following = _bytes(metadata, 3)
    version, _ = _bytes(metadata, following)
    told = msgspec.msgpack.decode(version)["V2Obj"]
    # The checksum has five bytes, and what follows begins with a version.
    inline = msgspec.msgpack.decode(raw[rest + 6 :]) if len(raw) > rest + 5 else {}
    block = told["EcBSize"]
    if inline:
        (content,) = inline.values()
        parts = [_without_hashes(content, block)]
    else:
        data = folder / str(UUID(bytes=told["DDir"]))
        files = [(data / f"part.{number}").read_bytes() for number in told["PartNums"]]
        parts = [_without_hashes(file, block) for file in files]
    assert [len(part) for part in parts] == told["PartSizes"]
    # Some are no text.
    entries = {name: value.decode("latin-1") for name, value in told["MetaSys"].items()}
    return MinIOObject(entries, told["MetaUsr"]["etag"], told["PartNums"], parts)


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """
    Read bytes in msgpack, and tell what comes after them.
    """
    size_at = at + 1
    start = size_at + _BIN[data[at]]
    stop = start + int.from_bytes(data[size_at:start], "big")
    return data[start:stop], stop


def _without_hashes(file: Any, block: int) -> bytes:
    step = block + _HASH
    return b"".join(file[at + _HASH : at + step] for at in range(0, len(file), step))

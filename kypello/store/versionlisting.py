# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One page of all versions of all objects.

All versions lie in one order, but for those that were stored before there were any and still are
the only ones of their keys: these are put in between.  Who reads the objects first and the
versions afterwards misses none: what is the only one of its key when the objects are read either
stays that, or is found among the versions.
"""

from collections.abc import Sequence
from typing import TypeAlias

from kypello.interfaces import IIndex, Outline
from kypello.model import ListedVersion, ListQuery, VersionListing, VersionQuery
from kypello.store.listing import Scan, page, scanning
from kypello.store.records import (
    OBJECTS,
    VERSIONS,
    ObjectRecord,
    PlaceRecord,
    SequenceRecord,
    listed,
    object_key,
    place_key,
    unpack,
    version_key,
)
from kypello.versioning import told_sequence

#: The record of a version, and whether it is the newest of its key.
_Entry: TypeAlias = tuple[bytes, bool]


async def list_versions(
    index: IIndex, bucket: str, space: str, query: VersionQuery, outline: Outline | None
) -> VersionListing:
    """
    The first versions and groups that *query* wants.
    """
    if "\x00" in query.prefix:
        return VersionListing()
    # No key holds NUL, so one that follows such a marker follows what is before the NUL.
    after, nul, _ = query.after_key.partition("\x00")
    start = after.encode() + b"\x01"
    if query.after_version and not nul:
        start = await _following(index, space, after, query.after_version)
    wanted = ListQuery(query.prefix, query.delimiter, after, query.limit)
    found = await page(_scanning(index, space), wanted, start, _name)
    versions = []
    for key, (raw, latest) in found.entries:
        info, marker = listed(bucket, _name(key).decode(), raw, outline)
        versions.append(ListedVersion(info, latest, marker))
    following = None
    if found.next is not None:
        name, nul_byte, _ = found.next.partition(b"\x00")
        following = name.decode(), versions[-1].info.version_id if nul_byte else ""
    return VersionListing(
        tuple(versions), tuple(group.decode() for group in found.groups), following
    )


async def _following(index: IIndex, space: str, key: str, version_id: str) -> bytes:
    """
    Where what follows a version begins.
    """
    sequence = told_sequence(version_id)
    (place,) = await index.get(space, [place_key(key, version_id)])
    if place is not None:
        sequence = unpack(PlaceRecord, place).sequence
    elif sequence is None:
        # The only version of its key, or one that is gone: then nobody knows what followed it,
        # and rather too much is told than too little.
        (raw,) = await index.get(space, [object_key(key)])
        only = raw is not None and unpack(ObjectRecord, raw).version_id == version_id
        return key.encode() + (b"\x01" if only else b"")
    return version_key(key, sequence)[1:] + b"\x00"


def _scanning(index: IIndex, space: str) -> Scan[_Entry]:
    """
    A scan of all versions, each under its key, NUL, and its inverted sequence number.
    """

    async def scan(start: bytes, stop: bytes | None, limit: int) -> Sequence[tuple[bytes, _Entry]]:
        """
        Read both kinds until there are enough.
        """
        found: list[tuple[bytes, _Entry]] = []
        following: bytes | None = start
        while following is not None and len(found) < limit:
            some, following = await _read(index, space, following, stop, limit)
            found += some
        return found[:limit]

    return scan


async def _read(
    index: IIndex, space: str, start: bytes, stop: bytes | None, limit: int
) -> tuple[Sequence[tuple[bytes, _Entry]], bytes | None]:
    """
    Read some of both kinds.

    :return: With where the rest begins; ``None`` when there is no more.
    """
    before, inside, _ = start.partition(b"\x00")
    # The object of a key of which some versions are told already is one of those.
    objects = await scanning(index, space, OBJECTS)(before + inside, stop, limit)
    versions = await scanning(index, space, VERSIONS)(start, stop, limit)
    ends = []
    if len(objects) == limit:
        ends.append(objects[-1][0] + b"\x01")
    if len(versions) == limit:
        ends.append(versions[-1][0] + b"\x00")
    end = min(ends, default=None)
    told = {_name(key) for key, _ in versions}
    rows = [row for row in versions if _lies(row[0], end)]
    for name, raw in objects:
        if name not in told and _lies(name, end):
            sequence = unpack(SequenceRecord, raw).sequence
            rows.append((version_key(name.decode(), sequence)[1:], raw))
    rows.sort(key=_key)
    entries: list[tuple[bytes, _Entry]] = []
    last = before if inside else None
    for key, raw in rows:
        name = _name(key)
        entries.append((key, (raw, name != last)))
        last = name
    return entries, end


def _lies(key: bytes, end: bytes | None) -> bool:
    return end is None or key < end


def _key(row: tuple[bytes, bytes]) -> bytes:
    return row[0]


def _name(key: bytes) -> bytes:
    return key.partition(b"\x00")[0]

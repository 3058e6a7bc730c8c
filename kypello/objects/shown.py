# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the store keeps of encrypted objects, parts and uploads, as their clients know it.

With the key of their metadata they are opened, and what does not fit together is refused;
without it they show what can be told.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import md5

from attrs import define, evolve

from kypello.crypto.keys import Domain
from kypello.crypto.metadata import ACTUAL_SIZE, MULTIPART, domain_of
from kypello.errors import NotAuthentic
from kypello.model import ObjectInfo, PartInfo, UploadInfo
from kypello.objects.layers import content_size, stored_size
from kypello.objects.metadata import (
    MetadataKey,
    OpenedPart,
    is_carried_over,
    metadata_without_key,
    parts_digest,
)
from kypello.objects.recentparts import KnownParts, RecentParts, Stream

_SIZE = re.compile("[0-9]{1,18}")


@define(eq=False)
class OpenedObject:
    """
    An object as its client knows it.

    :ivar streams: What it consists of.
    """

    info: ObjectInfo
    streams: tuple[Stream, ...]


def opened_object(
    metadata_key: MetadataKey, stored: ObjectInfo, recent: RecentParts | None = None
) -> OpenedObject:
    """
    Open an object whose parts, if it has any, are told.

    :param recent: Parts that need not be opened again.
    :raises NotAuthentic: It is not what was written, or lacks a part.
    """
    if MULTIPART not in stored.metadata.internal:
        info = listed_object(metadata_key, stored)
        return OpenedObject(info, (Stream(info.size),))
    if is_carried_over(stored.metadata):
        opened = metadata_key.open_upload(stored.key, stored.metadata)
        known = _carried_over(metadata_key, stored, opened.metadata.etag)
        size = sum(stream.size for stream in known.streams)
    else:
        opened = metadata_key.open(stored.key, stored.metadata)
        known = _bound(metadata_key, stored, opened.parts, recent)
        size = opened.size
    info = evolve(stored, size=size, metadata=opened.metadata, parts=known.shown)
    return OpenedObject(info, known.streams)


def listed_object(metadata_key: MetadataKey, stored: ObjectInfo) -> ObjectInfo:
    """
    Open what a listing tells of an object; its parts, if they are told, are left out.

    :raises NotAuthentic: It is not what was written.
    """
    opened = metadata_key.open(stored.key, stored.metadata)
    multipart = MULTIPART in stored.metadata.internal
    if multipart != bool(opened.parts):
        raise NotAuthentic("parts")
    if not multipart and stored_size(opened.size, stored.metadata.internal) != stored.size:
        raise NotAuthentic("size")
    # Written out because a listing does this a thousand times: evolve() is slow.
    return ObjectInfo(
        stored.bucket,
        stored.key,
        stored.version_id,
        opened.size,
        stored.modified,
        opened.metadata,
    )


def object_without_key(stored: ObjectInfo) -> ObjectInfo:
    """
    What can be told of an object without the key of its metadata.
    """
    parts = tuple(part_without_key(part, stored.metadata.internal) for part in stored.parts)
    return evolve(
        stored,
        size=_size_without_key(stored),
        metadata=metadata_without_key(stored.metadata),
        parts=parts,
    )


def opened_upload(metadata_key: MetadataKey, stored: UploadInfo) -> UploadInfo:
    """
    Open an upload.

    :raises NotAuthentic: It is not what was written.
    """
    opened = metadata_key.open_upload(stored.key, stored.metadata)
    return evolve(stored, metadata=opened.metadata)


def upload_without_key(stored: UploadInfo) -> UploadInfo:
    """
    What can be told of an upload without the key of its metadata.
    """
    return evolve(stored, metadata=evolve(metadata_without_key(stored.metadata), etag=""))


def opened_part(
    metadata_key: MetadataKey, whole: ObjectInfo | UploadInfo, stored: PartInfo
) -> OpenedPart:
    """
    Open a part of an upload, or of the object that it became.

    :raises NotAuthentic: It is not what was written.
    """
    opened = metadata_key.open_part(
        whole.key, whole.metadata.internal, stored.number, stored.metadata
    )
    if stored_size(opened.size, whole.metadata.internal) != stored.size:
        raise NotAuthentic("size")
    return opened


def shown_part(stored: PartInfo, opened: OpenedPart) -> PartInfo:
    """
    A part as its client knows it.
    """
    return PartInfo(stored.number, opened.size, stored.modified, opened.metadata)


def part_without_key(stored: PartInfo, entries: Mapping[str, str]) -> PartInfo:
    """
    What can be told of a part without the key of its metadata.

    :param entries: Of the upload, or of the object that it became.
    """
    metadata = metadata_without_key(stored.metadata)
    return evolve(stored, size=_content_size(stored.size, entries), metadata=metadata)


def etag_of_parts(etags: Sequence[str]) -> str:
    """
    The ETag of an object of parts with these ETags.

    :raises NotAuthentic: One is no such ETag.
    """
    try:
        joined = b"".join(map(bytes.fromhex, etags))
    except ValueError:
        raise NotAuthentic("etag") from None
    return f"{md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"


def _bound(
    metadata_key: MetadataKey, stored: ObjectInfo, digest: bytes, recent: RecentParts | None
) -> KnownParts:
    """
    The parts of an object that was bound to them when it was sealed.
    """
    known = None if recent is None else recent.get(digest)
    if known is None:
        parts = [opened_part(metadata_key, stored, part) for part in stored.parts]
        if digest != parts_digest(parts):
            raise NotAuthentic("parts")
        known = _known(stored, parts)
        # What its client keeps the key of is not kept in memory.
        if recent is not None and domain_of(stored.metadata.internal) is not Domain.SSE_C:
            recent.put(digest, known)
    return known


def _carried_over(metadata_key: MetadataKey, stored: ObjectInfo, etag: str) -> KnownParts:
    """
    The parts of an object that was completed without its client's key.

    Nothing that was sealed could list them.  The ETag that the client got does: those of the
    parts, which are sealed, are random.
    """
    parts = [opened_part(metadata_key, stored, part) for part in stored.parts]
    if etag != etag_of_parts([part.metadata.etag for part in parts]):
        raise NotAuthentic("parts")
    return _known(stored, parts)


def _known(stored: ObjectInfo, parts: Sequence[OpenedPart]) -> KnownParts:
    return KnownParts(
        tuple(map(shown_part, stored.parts, parts)),
        tuple(Stream(part.size, part.number, part.nonce) for part in parts),
    )


def _size_without_key(stored: ObjectInfo) -> int:
    if MULTIPART not in stored.metadata.internal:
        return _content_size(stored.size, stored.metadata.internal)
    told = stored.metadata.internal.get(ACTUAL_SIZE, "")
    return int(told) if _SIZE.fullmatch(told) else stored.size


def _content_size(size: int, entries: Mapping[str, str]) -> int:
    try:
        return content_size(size, entries)
    except NotAuthentic:
        return size

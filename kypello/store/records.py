# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the layout keeps in the index: keys and records.

A record is one byte that tells the format, then MessagePack.  Structures are arrays: later
formats append fields with defaults, so that older records stay readable; what cannot be told
that way takes another format byte.

The space ``system``:

===================  =================================================================
``b`` bucket         :class:`BucketRecord`, with the name of the bucket's own space
``i`` id             :class:`Intent`: a bucket that is being made
``g`` id             :class:`Garbage`: the space of a bucket that was deleted
===================  =================================================================

The space of a bucket, whose name is made at random, so that a bucket that is made again starts
afresh:

============================  =================================================================
``m``                         :class:`SpaceRecord`: whether the bucket lives.  Every commit of
                              an object expects it unchanged, and the commit that closes it
                              expects no objects: a bucket never vanishes under a write.
``o`` key                     :class:`ObjectRecord`: the current version, without content
``v`` key NUL ``~sequence``   :class:`ObjectRecord`: an older version; the sequence number is
                              inverted, 8 bytes, so that the newest comes first
``c`` key NUL version         the bytes of a small object, apart from its record so that
                              listings stay small
``u`` key NUL upload          an unfinished upload in parts
``p`` upload number           a part of one
``i`` id                      :class:`Intent`: blobs that are being written
``g`` id                      :class:`Garbage`: blobs that nothing refers to any more
============================  =================================================================

Names and keys are UTF-8; neither holds NUL.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.msgpack import Decoder, Encoder

from kypello.errors import Damaged
from kypello.model import ObjectInfo, ObjectMetadata, PartInfo, Sealing

#: The space of what does not belong to one bucket.
SYSTEM = "system"

#: The key of a bucket's :class:`SpaceRecord`.
META = b"m"

#: Ranges of keys, each from its prefix to the next one.
BUCKETS = (b"b", b"c")
OBJECTS = (b"o", b"p")
VERSIONS = (b"v", b"w")
INTENTS = (b"i", b"j")
GARBAGE = (b"g", b"h")


def bucket_key(name: str) -> bytes:
    """
    Where the record of a bucket is.
    """
    return b"b" + name.encode()


def object_key(key: str) -> bytes:
    """
    Where the current version of an object is.
    """
    return b"o" + key.encode()


def content_key(key: str, version_id: str) -> bytes:
    """
    Where the content of a small object is.
    """
    return b"c%b\x00%b" % (key.encode(), version_id.encode())


def intent_key(id_: bytes) -> bytes:
    """
    Where an intent is.
    """
    return b"i" + id_


def garbage_key(id_: bytes) -> bytes:
    """
    Where an entry of the garbage queue is.
    """
    return b"g" + id_


class BucketRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A bucket.

    :ivar created: Nanoseconds since the epoch.
    :ivar space: The name of its own space.
    """

    created: int
    space: str
    settings: dict[str, bytes]


class SpaceRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    Whether a bucket lives.

    :ivar bucket: Its name.
    """

    bucket: str
    open: bool


class MetadataRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    What the store keeps and never interprets; see :class:`ObjectMetadata`.
    """

    etag: str
    headers: dict[str, str]
    user: dict[str, str]
    checksums: dict[str, str]
    checksum_type: str
    tags: dict[str, str]
    sealing: tuple[str, str] | None
    storage_class: str
    internal: dict[str, str]
    sealed: bytes


class PartRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A piece of the content of an object.

    :ivar number: As the client numbered the part; 0 for content that came in one piece.
    :ivar size: Bytes that the store keeps.
    :ivar blob: Its name.
    """

    number: int
    size: int
    blob: str


class ObjectRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    One version of an object.

    :ivar sequence: Orders the versions of one key as they were committed, from 1.
    :ivar size: Bytes that the store keeps.
    :ivar modified: Nanoseconds since the epoch; of two versions of a key that follow each
        other, the later one has the larger.
    :ivar parts: The blobs that hold the content; none when it is kept in the index.
    """

    sequence: int
    version_id: str
    size: int
    modified: int
    metadata: MetadataRecord
    parts: tuple[PartRecord, ...] = ()

    def info(self, bucket: str, key: str) -> ObjectInfo:
        """
        What the store tells about it.
        """
        return ObjectInfo(
            bucket,
            key,
            self.version_id,
            self.size,
            self.modified,
            _metadata(self.metadata),
            tuple(PartInfo(part.number, part.size) for part in self.parts if part.number),
        )


class BlobRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    What is kept beside a blob, for a lost index to be rebuilt.

    :ivar began: When the object began to be written, nanoseconds since the epoch.
    """

    bucket: str
    key: str
    version_id: str
    began: int
    metadata: MetadataRecord


class Intent(msgspec.Struct, array_like=True, frozen=True):
    """
    What is being made and belongs to nothing yet.

    :ivar began: Nanoseconds since the epoch.
    :ivar blobs: Their names.
    :ivar space: Of a bucket; empty for none.
    """

    began: int
    blobs: tuple[str, ...] = ()
    space: str = ""


class Garbage(msgspec.Struct, array_like=True, frozen=True):
    """
    What nothing refers to any more.

    :ivar blobs: Their names.
    :ivar space: Of a bucket; empty for none.
    """

    blobs: tuple[str, ...] = ()
    space: str = ""


R = TypeVar("R", BucketRecord, SpaceRecord, ObjectRecord, BlobRecord, Intent, Garbage)

_encode = Encoder().encode

#: How to read a record, by its class and its format byte.
_DECODE: Mapping[tuple[type, int], Callable[[Any], Any]] = {
    (kind, 1): Decoder(kind).decode
    for kind in (BucketRecord, SpaceRecord, ObjectRecord, BlobRecord, Intent, Garbage)
}


def pack(record: R) -> bytes:
    """
    Write a record in the current format.
    """
    return b"\x01" + _encode(record)


def unpack(kind: type[R], value: bytes) -> R:
    """
    Read a record.

    :raises Damaged: It is none, or of a format that this release does not know.
    """
    try:
        record: R = _DECODE[kind, value[0]](memoryview(value)[1:])
    except (IndexError, KeyError, msgspec.DecodeError) as error:
        raise Damaged(f"{kind.__name__} in the index") from error
    return record


def metadata_record(metadata: ObjectMetadata) -> MetadataRecord:
    """
    Metadata as they are kept.
    """
    sealing = metadata.sealing
    return MetadataRecord(
        metadata.etag,
        dict(metadata.headers),
        dict(metadata.user),
        dict(metadata.checksums),
        metadata.checksum_type,
        dict(metadata.tags),
        None if sealing is None else (sealing.algorithm, sealing.key_name),
        metadata.storage_class,
        dict(metadata.internal),
        metadata.sealed,
    )


def _metadata(record: MetadataRecord) -> ObjectMetadata:
    return ObjectMetadata(
        record.etag,
        record.headers,
        record.user,
        record.checksums,
        record.checksum_type,
        record.tags,
        None if record.sealing is None else Sealing(*record.sealing),
        record.storage_class,
        record.internal,
        record.sealed,
    )

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the layout keeps in the index: keys and records.

A record is one byte that tells the format, then MessagePack, then its CRC32C, so that a byte
that changes is noticed; format 1, which is still read, has no checksum.  Structures are arrays:
later releases append fields with defaults, so that older records stay readable; what cannot be
told that way takes another format byte.

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
``s``                         :class:`StateRecord`: how the bucket keeps versions, as every
                              commit of a version expects it
``o`` key                     :class:`ObjectRecord`: the current version, without content;
                              there is none when the newest version is a delete marker
``v`` key NUL ``~sequence``   :class:`ObjectRecord`: a version; the sequence number is inverted,
                              8 bytes, so that the newest comes first.  All versions of a key
                              are here, the current one too, but for one that was stored
                              before there were versions and still is the only one.
``x`` key NUL version         :class:`PlaceRecord`: where among those a version is whose id does
                              not tell it
``c`` key NUL version         the bytes of a small object, apart from its record so that
                              listings stay small
``l`` key NUL version         :class:`PartsRecord`: the parts of an object that has many, for
                              the same reason
``u`` key NUL upload          :class:`UploadRecord`: an unfinished upload in parts
``p`` upload number           :class:`PartRecord`: a part of one; the number has 2 bytes.  A
                              part belongs to an upload as long as that has a record.
                              Number 0 describes an upload that was changed, without content.
``d`` upload                  :class:`DoneRecord`: an upload that was completed of late
``i`` id                      :class:`Intent`: blobs that are being written
``g`` id                      :class:`Garbage`: blobs that nothing refers to any more
============================  =================================================================

Names and keys are UTF-8; neither holds NUL.  An upload is named by when it began, nanoseconds
since the epoch as 16 hex digits, and 32 random ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from awscrt.checksums import crc32c
from msgspec.msgpack import Decoder, Encoder

from kypello.errors import Damaged
from kypello.model import NO_LOCK, Lock, ObjectInfo, ObjectMetadata, PartInfo, UploadInfo

#: The space of what does not belong to one bucket.
SYSTEM = "system"

#: The key of a bucket's :class:`SpaceRecord`.
META = b"m"

#: The key of a bucket's :class:`StateRecord`; there is none as long as it never had versions.
STATE = b"s"

_ONES = 0xFFFF_FFFF_FFFF_FFFF

#: Ranges of keys, each from its prefix to the next one.
BUCKETS = (b"b", b"c")
OBJECTS = (b"o", b"p")
VERSIONS = (b"v", b"w")
INTENTS = (b"i", b"j")
GARBAGE = (b"g", b"h")
UPLOADS = (b"u", b"v")
PARTS = (b"p", b"q")
PLACES = (b"x", b"y")


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


def version_key(key: str, sequence: int) -> bytes:
    """
    Where a version is.
    """
    return b"v%b\x00%b" % (key.encode(), (~sequence & _ONES).to_bytes(8, "big"))


def versions_of(key: str) -> tuple[bytes, bytes]:
    """
    The range of all versions of a key, the newest first.
    """
    return b"v%b\x00" % key.encode(), b"v%b\x01" % key.encode()


def place_key(key: str, version_id: str) -> bytes:
    """
    Where it is told at which place a version is.
    """
    return b"x%b\x00%b" % (key.encode(), version_id.encode())


def content_key(key: str, version_id: str) -> bytes:
    """
    Where the content of a small object is.
    """
    return b"c%b\x00%b" % (key.encode(), version_id.encode())


def parts_key(key: str, version_id: str) -> bytes:
    """
    Where the parts of an object are that has many.
    """
    return b"l%b\x00%b" % (key.encode(), version_id.encode())


def upload_key(key: str, upload_id: str) -> bytes:
    """
    Where an unfinished upload is.
    """
    return b"u%b\x00%b" % (key.encode(), upload_id.encode())


def part_key(upload_id: str, number: int) -> bytes:
    """
    Where a part of an upload is.
    """
    return b"p%b%b" % (upload_id.encode(), number.to_bytes(2, "big"))


def done_key(upload_id: str) -> bytes:
    """
    Where it is told what became of an upload.
    """
    return b"d" + upload_id.encode()


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
    :ivar blob: The blob that describes the bucket as it is in this record; empty in records of
        releases that wrote none.
    :ivar revision: How often the record was written.
    """

    created: int
    space: str
    settings: dict[str, bytes]
    blob: str = ""
    revision: int = 0


class SpaceRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    Whether a bucket lives.

    :ivar bucket: Its name.
    """

    bucket: str
    open: bool


class StateRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    How a bucket keeps versions.

    What counts is the setting of the bucket.  This is a copy of it, which is brought up to date
    before anything is written by it.

    :ivar setting: As it was; empty for none.
    :ivar revision: How often the record was written, so that it never becomes one that it was.
    """

    setting: bytes
    revision: int


class PlaceRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    The place of a version.
    """

    sequence: int


class LockRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    What keeps a version from being removed; see :class:`Lock`.
    """

    mode: str
    until: int
    hold: bool | None


class MetadataRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    What the store keeps and never interprets; see :class:`ObjectMetadata`.

    ``sealing`` is not kept: the encryption wrapper makes it from ``internal``.

    :ivar lock: ``None`` for no lock, and in records of releases that knew none.
    """

    etag: str
    headers: dict[str, str]
    user: dict[str, str]
    checksums: dict[str, str]
    checksum_type: str
    tags: dict[str, str]
    storage_class: str
    internal: dict[str, str]
    sealed: bytes
    lock: LockRecord | None = None


class PartRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A piece of the content of an object, or of an upload.

    :ivar number: As the client numbered the part; 0 for content that came in one piece.
    :ivar size: Bytes that the store keeps.
    :ivar blob: Its name.
    :ivar modified: Nanoseconds since the epoch; 0 for content that came in one piece.
    :ivar metadata: ``None`` for content that came in one piece.
    """

    number: int
    size: int
    blob: str
    modified: int = 0
    metadata: MetadataRecord | None = None

    def info(self) -> PartInfo:
        """
        What the store tells about it.
        """
        metadata = ObjectMetadata() if self.metadata is None else _metadata(self.metadata)
        return PartInfo(self.number, self.size, self.modified, metadata)


def empty(blob: str) -> tuple[PartRecord, ...]:
    """
    A blob without content, as what has it; nothing for an empty name.
    """
    return (PartRecord(0, 0, blob),) if blob else ()


class PartsRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    All parts of an object that has many.
    """

    parts: tuple[PartRecord, ...]


class ObjectRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    One version of an object.

    :ivar sequence: Orders the versions of one key as they were committed, from 1.
    :ivar size: Bytes that the store keeps.
    :ivar modified: Nanoseconds since the epoch; of two versions of a key that follow each
        other, the later one has the larger.
    :ivar parts: The blobs that hold the content; none when it is kept in the index, and only
        the first one when they are kept apart.
    :ivar apart: How many parts are kept apart, in a :class:`PartsRecord`; 0 when they are not.
    :ivar manifest: The blob that describes an object in parts, a delete marker, or a version
        whose metadata were changed; empty for others, and in records of releases that wrote none.
    :ivar checksum: CRC32C of content that is kept in the index; ``None`` for other content, and
        in records of releases that wrote none.
    :ivar marker: Whether it is a delete marker, which its *manifest* describes.
    :ivar amended: When its *manifest* began to be written, if that tells changed metadata,
        nanoseconds since the epoch.
    """

    sequence: int
    version_id: str
    size: int
    modified: int
    metadata: MetadataRecord
    parts: tuple[PartRecord, ...] = ()
    apart: int = 0
    manifest: str = ""
    checksum: int | None = None
    marker: bool = False
    amended: int = 0

    def holds(self, content: bytes) -> bool:
        """
        Whether this is the content, which is kept in the index.
        """
        if len(content) != self.size:
            return False
        return self.checksum is None or self.checksum == crc32c(content)

    def info(self, bucket: str, key: str, parts: tuple[PartInfo, ...] = ()) -> ObjectInfo:
        """
        What the store tells about it.

        :param parts: To be told, too.
        """
        return ObjectInfo(
            bucket,
            key,
            self.version_id,
            self.size,
            self.modified,
            _metadata(self.metadata),
            parts,
        )


class UploadRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    An unfinished upload in parts.  Only its metadata ever change.

    :ivar began: Nanoseconds since the epoch.
    :ivar metadata: Of the object.
    :ivar checksum: The algorithm of the checksums; empty for none.
    """

    began: int
    metadata: MetadataRecord
    checksum: str

    def info(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        What the store tells about it.
        """
        metadata = _metadata(self.metadata)
        return UploadInfo(bucket, key, upload_id, self.began, metadata, self.checksum)


class BlobRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    What is kept beside a blob, for a lost index to be rebuilt.

    Some blobs have no content and are there for this alone: the manifest of an object in parts, of
    a delete marker, or of a version whose metadata were changed, and the description of a bucket.

    :ivar key: Empty for a bucket.
    :ivar began: When it began to be written, nanoseconds since the epoch; later than any version
        of the key that was there then.
    :ivar metadata: Of the object, or of the part.
    :ivar upload_id: Of which this is a part, or from which the object was made; empty for an
        object that came in one piece.
    :ivar number: Of the part.
    :ivar upload: Of which this is a part.
    :ivar parts: The blobs of the object, in a manifest.
    :ivar request: What the upload was completed by, in a manifest; see :class:`DoneRecord`.
    :ivar about: The bucket, in its description.
    :ivar marker: Whether it describes a delete marker.
    :ivar sequence: The one that the version was expected to get; 0 for a part or a bucket, and in
        descriptions of releases that told none.
    :ivar modified: Of a version whose metadata were changed, nanoseconds since the epoch; 0 for
        others.
    """

    bucket: str
    key: str
    version_id: str
    began: int
    metadata: MetadataRecord
    upload_id: str = ""
    number: int = 0
    upload: UploadRecord | None = None
    parts: tuple[PartRecord, ...] = ()
    request: bytes = b""
    about: BucketRecord | None = None
    marker: bool = False
    sequence: int = 0
    modified: int = 0


class DoneRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    What became of an upload that was completed.

    :ivar key: Of the object.
    :ivar request: A digest of what was asked for.
    :ivar version_id: Of the object.
    :ivar sequence: Its place among the versions of the key.
    :ivar blob: Its first one, which no other version has.
    :ivar completed: Nanoseconds since the epoch.
    """

    key: str
    request: bytes
    version_id: str
    sequence: int
    blob: str
    completed: int


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

    :ivar blobs: Their names, at most 10001.  Those of one version are in one entry, so that
        they stay together while the version is open.
    :ivar space: Of a bucket; empty for none.
    """

    blobs: tuple[str, ...] = ()
    space: str = ""


R = TypeVar(
    "R",
    BucketRecord,
    SpaceRecord,
    StateRecord,
    PlaceRecord,
    PartRecord,
    PartsRecord,
    ObjectRecord,
    BlobRecord,
    UploadRecord,
    DoneRecord,
    Intent,
    Garbage,
)

_encode = Encoder().encode

#: How to read a record, by its class.
_DECODE: Mapping[type, Callable[[Any], Any]] = {
    kind: Decoder(kind).decode for kind in R.__constraints__
}

#: How many bytes the checksum of a record has.
_SUM = 4


def pack(record: R) -> bytes:
    """
    Write a record in the current format.
    """
    encoded = _encode(record)
    checksum: int = crc32c(encoded)
    return b"\x02" + encoded + checksum.to_bytes(_SUM, "big")


def unpack(kind: type[R], value: bytes) -> R:
    """
    Read a record.

    :raises Damaged: It is none, not what was written, or of a format that this release does not
        know.
    """
    # To copy a record of usual size takes less time than to look at it through a memory view.
    if value[:1] == b"\x02":
        encoded = value[1:-_SUM]
        sound = crc32c(encoded) == int.from_bytes(value[-_SUM:], "big")
    else:
        encoded, sound = value[1:], value[:1] == b"\x01"
    if not sound:
        raise Damaged(f"{kind.__name__} in the index")
    try:
        record: R = _DECODE[kind](encoded)
    except ValueError as error:
        raise Damaged(f"{kind.__name__} in the index") from error
    return record


def metadata_record(metadata: ObjectMetadata) -> MetadataRecord:
    """
    Metadata as they are kept.
    """
    lock = metadata.lock
    return MetadataRecord(
        metadata.etag,
        dict(metadata.headers),
        dict(metadata.user),
        dict(metadata.checksums),
        metadata.checksum_type,
        dict(metadata.tags),
        metadata.storage_class,
        dict(metadata.internal),
        metadata.sealed,
        None if lock == NO_LOCK else LockRecord(lock.mode, lock.until, lock.hold),
    )


def _metadata(record: MetadataRecord) -> ObjectMetadata:
    # By position, here and in other places that a listing comes along a thousand times: names cost
    # as much again as all else.
    lock = record.lock
    return ObjectMetadata(
        record.etag,
        record.headers,
        record.user,
        record.checksums,
        record.checksum_type,
        record.tags,
        None,
        record.storage_class,
        record.internal,
        record.sealed,
        NO_LOCK if lock is None else Lock(lock.mode, lock.until, lock.hold),
    )

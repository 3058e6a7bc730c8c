# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Values that cross the seams.

Nobody changes one.  Those of which a listing makes thousands are not frozen, though: it takes
attrs three times as long to make a frozen one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from attrs import define, field, frozen

#: Anything that holds bytes and need not be copied to be read.
Buffer: TypeAlias = bytes | bytearray | memoryview

#: The id of a version that was stored while its bucket did not have versioning enabled.
NULL_VERSION = "null"

_NOTHING: Mapping[str, str] = {}

#: The modes of a retention: one that some may bypass, and one that nobody may.
GOVERNANCE: Final = "GOVERNANCE"
COMPLIANCE: Final = "COMPLIANCE"


@frozen
class ByteRange:
    """
    The bytes from *start* up to, not including, *stop*; never empty.
    """

    start: int
    stop: int = field()

    @stop.validator
    def _ordered(self, _attribute: object, value: int) -> None:
        if not 0 <= self.start < value:
            raise ValueError(f"no byte lies in [{self.start}, {value})")

    @property
    def size(self) -> int:
        """
        How many bytes there are.
        """
        return self.stop - self.start


@frozen
class BucketInfo:
    """
    A bucket.

    :ivar created: Nanoseconds since the epoch.
    :ivar settings: Configuration by name, as bytes that only their owner reads: ``encryption``
        is what PutBucketEncryption stored, ``metadata-key`` what the encryption wrapper needs.
    """

    name: str
    created: int
    settings: Mapping[str, bytes] = field(factory=dict)


@frozen
class CustomerKey:
    """
    A key that a client brings along and keeps (SSE-C).

    :ivar key: 32 bytes.
    :ivar md5: Base64 of its MD5, as the client gave it and wants it back.
    """

    key: bytes = field(repr=False)
    md5: str


#: The algorithm of an encryption with a :class:`CustomerKey`.
SSE_C = "SSE-C"

#: The algorithm of an encryption in two layers, each with a key of its own from the KMS.
DSSE = "aws:kms:dsse"

#: The algorithms with which a client names a master key, and needs the right to use it.
KMS_ALGORITHMS = frozenset({"aws:kms", DSSE})


@frozen
class EncryptionRequest:
    """
    The encryption that a client asks for by header.

    :ivar algorithm: ``AES256``, ``aws:kms``, :data:`DSSE` or :data:`SSE_C`.
    :ivar key_id: For :data:`KMS_ALGORITHMS`: the master key in any form that clients write it in;
        empty for the default key.
    :ivar context: For these, too: what the data keys are bound to beside the object.
    :ivar bucket_key: For ``aws:kms``: whether objects of the bucket may share data keys;
        ``None`` leaves it to the bucket.
    :ivar customer_key: For :data:`SSE_C`.
    """

    algorithm: str
    key_id: str = ""
    context: Mapping[str, str] = _NOTHING
    bucket_key: bool | None = None
    customer_key: CustomerKey | None = None


@define
class Sealing:
    """
    How an object is encrypted, as far as a client may know.

    :ivar algorithm: ``AES256``, ``aws:kms``, :data:`DSSE` or :data:`SSE_C`.
    :ivar key_id: The master key, in the form in which the client named it.
    :ivar context: What the client bound the data key to; empty for nothing.
    :ivar bucket_key: Whether objects of the bucket share the data key.
    :ivar customer_md5: For :data:`SSE_C`: of the key that opened the object; empty when none
        did.
    :ivar opaque: Whether the ETag is no digest of the content although ``AES256`` would have it so,
        as it was given with another encryption.
    """

    algorithm: str
    key_id: str = ""
    context: Mapping[str, str] = _NOTHING
    bucket_key: bool = False
    customer_md5: str = ""
    opaque: bool = False


@frozen
class Lock:
    """
    What keeps a version from being removed for good.

    :ivar mode: Of the retention, :data:`GOVERNANCE` or :data:`COMPLIANCE`; empty for none.
    :ivar until: When the retention ends, nanoseconds since the epoch; 0 for none.
    :ivar hold: Whether there is a legal hold; ``None`` when it was never said.
    """

    mode: str = ""
    until: int = 0
    hold: bool | None = None


#: Of a version that may be removed.
NO_LOCK = Lock()


@define
class ObjectMetadata:
    """
    What is kept beside the content of an object.  Stores keep it and never interpret it.

    The encryption wrapper moves the first group into :attr:`sealed` on the way down, and back
    on the way up, so that a store under it sees nothing but empty values there.

    :ivar etag: Without quotes.
    :ivar headers: The system headers to return, by lower-case name (``content-type``, ...).
    :ivar user: User metadata, by lower-case name without ``x-amz-meta-``.
    :ivar checksums: Base64 digests by lower-case algorithm (``crc32``, ``crc32c``,
        ``crc64nvme``, ``sha1``, ``sha256``).
    :ivar checksum_type: ``FULL_OBJECT`` or ``COMPOSITE``; empty without checksums.
    :ivar tags: Object tags.
    :ivar sealing: How the object is encrypted, for the fronts; ``None`` for a plain object.

    :ivar storage_class: As the client named it.
    :ivar internal: Entries of the encryption wrapper, named as in the reference
        (``X-Minio-Internal-Server-Side-Encryption-...``).  Never comes from a client, never
        goes to one.
    :ivar sealed: The first group under the bucket's metadata key; empty for a plain object.
    :ivar lock: What keeps it from being removed, which has to be known without any key.
    """

    etag: str = ""
    headers: Mapping[str, str] = _NOTHING
    user: Mapping[str, str] = _NOTHING
    checksums: Mapping[str, str] = _NOTHING
    checksum_type: str = ""
    tags: Mapping[str, str] = _NOTHING
    sealing: Sealing | None = None

    storage_class: str = "STANDARD"
    internal: Mapping[str, str] = _NOTHING
    sealed: bytes = b""
    lock: Lock = NO_LOCK


@define
class PartInfo:
    """
    One part of an upload, or of an object that was uploaded in parts.

    :ivar number: As the client numbered it, 1 to 10000.
    :ivar size: Bytes at this seam: what the store keeps, or the plain size above the wrapper.
    :ivar modified: Nanoseconds since the epoch.
    :ivar metadata: Only ETag and checksums; below the wrapper also what it sealed.
    """

    number: int
    size: int
    modified: int = 0
    metadata: ObjectMetadata = field(factory=ObjectMetadata)

    @property
    def etag(self) -> str:
        """
        The entity tag, without quotes.
        """
        return self.metadata.etag


@frozen
class UploadInfo:
    """
    An upload in parts that is not complete yet.

    :ivar upload_id: Opaque, of letters, digits, ``.``, ``_`` and ``-``.
    :ivar began: Nanoseconds since the epoch.
    :ivar metadata: What the object will have: all but ETag and checksums.
    :ivar checksum: The algorithm of the checksums (``crc32``, ...); empty for none.  The
        metadata tell the type.
    """

    bucket: str
    key: str
    upload_id: str
    began: int
    metadata: ObjectMetadata
    checksum: str = ""


@frozen
class Assembly:
    """
    What becomes of an upload.

    :ivar numbers: Of the parts that make the object, in order.
    :ivar metadata: Of the object.
    """

    numbers: tuple[int, ...]
    metadata: ObjectMetadata


@define
class ObjectInfo:
    """
    One version of an object.

    :ivar version_id: :data:`NULL_VERSION` in a bucket without versions.
    :ivar size: Bytes at this seam: what the store keeps, or the plain size above the wrapper.
    :ivar modified: Nanoseconds since the epoch.
    :ivar parts: In the order of the content; empty unless the object was uploaded in parts.
        A listing leaves them out.
    """

    bucket: str
    key: str
    version_id: str
    size: int
    modified: int
    metadata: ObjectMetadata
    parts: tuple[PartInfo, ...] = ()

    @property
    def etag(self) -> str:
        """
        The entity tag, without quotes.
        """
        return self.metadata.etag


@frozen
class Deletion:
    """
    What a deletion has done.

    :ivar version_id: Of the version that was removed, or of the delete marker that was made;
        empty in a bucket that never had versions.
    :ivar marker: Whether that is a delete marker.
    """

    version_id: str = ""
    marker: bool = False


@frozen
class Event:
    """
    Something that has happened to a bucket or an object, for those who want to hear of it.

    :ivar name: As MinIO calls it, such as ``s3:ObjectCreated:Put``.
    :ivar time: When, in nanoseconds since the epoch.
    :ivar key: Empty for what happens to a bucket.
    :ivar version_id: Of what was removed, or of the delete marker that was made; empty in a bucket
        that never had versions.
    :ivar info: The object, where there still is one.
    :ivar principal: Whose request it was: an access key; empty for a stranger.
    :ivar source: The address that the request came from; empty for what the server does by itself.
    :ivar agent: What the client calls itself.
    :ivar request_id: Of the request; empty for what the server does by itself.
    """

    name: str
    bucket: str
    time: int
    key: str = ""
    version_id: str = ""
    info: ObjectInfo | None = None
    principal: str = ""
    source: str = ""
    agent: str = ""
    request_id: str = ""


@frozen
class ListQuery:
    """
    Which page of a listing is wanted.

    :ivar prefix: Only keys that begin so.
    :ivar delimiter: Keys that hold it after the prefix are grouped; empty for no groups.
    :ivar start_after: Only keys, and groups, that come after this one in byte order.  A value
        that lies inside a group hides that group.
    :ivar limit: How many keys and groups together, 0 to 1000.
    """

    prefix: str = ""
    delimiter: str = ""
    start_after: str = ""
    limit: int = 1000


@frozen
class Listing:
    """
    One page of a listing.

    :ivar prefixes: The groups.
    :ivar next: The last key or group of this page when more follow, else ``None``.
    """

    objects: tuple[ObjectInfo, ...] = ()
    prefixes: tuple[str, ...] = ()
    next: str | None = None


@frozen
class VersionQuery:
    """
    Which page of the versions of all objects is wanted.

    :ivar prefix: Only keys that begin so.
    :ivar delimiter: As in :class:`ListQuery`.
    :ivar after_key: Only versions of keys that come after this key, or group, in byte order.
    :ivar after_version: Also those of *after_key* itself that are older than this version, which
        need not be there any more.
    :ivar limit: How many versions and groups together, 0 to 1000.
    """

    prefix: str = ""
    delimiter: str = ""
    after_key: str = ""
    after_version: str = ""
    limit: int = 1000


@define
class ListedVersion:
    """
    A version as a listing tells it.

    :ivar info: Without parts; of a delete marker only names and time mean anything.
    :ivar latest: Whether it is the newest of its key.
    """

    info: ObjectInfo
    latest: bool
    marker: bool


@frozen
class VersionListing:
    """
    One page of versions.

    :ivar prefixes: The groups.
    :ivar next: Key and version that the next page follows, when there is one; a group has no
        version.
    """

    versions: tuple[ListedVersion, ...] = ()
    prefixes: tuple[str, ...] = ()
    next: tuple[str, str] | None = None


@frozen
class UploadQuery:
    """
    Which page of unfinished uploads is wanted.

    :ivar prefix: Only keys that begin so.
    :ivar delimiter: As in :class:`ListQuery`.
    :ivar after_key: Only uploads that come after this key, or group, in byte order.
    :ivar after_upload: Also those of *after_key* itself that began after this upload.
    :ivar limit: How many uploads and groups together, 0 to 1000.
    """

    prefix: str = ""
    delimiter: str = ""
    after_key: str = ""
    after_upload: str = ""
    limit: int = 1000


@frozen
class UploadListing:
    """
    One page of unfinished uploads: by key, then as they began.

    :ivar prefixes: The groups.
    :ivar next: Key, or group, and upload that the next page follows, when there is one.
    """

    uploads: tuple[UploadInfo, ...] = ()
    prefixes: tuple[str, ...] = ()
    next: tuple[str, str] | None = None


@define
class Write:
    """
    One change of an index: *value* is stored under *key*, or ``None`` removes it.
    """

    key: bytes
    value: bytes | None


@frozen
class DataKey:
    """
    A key for one object or bucket, with the sealed form that only the key server opens.

    :ivar key_name: The master key that sealed it.
    :ivar plaintext: 32 bytes.
    """

    key_name: str
    plaintext: bytes = field(repr=False)
    sealed: bytes


@frozen
class KMSEndpoint:
    """
    The state of one endpoint of a key service.

    :ivar online: It answered the last time it was asked.
    :ivar detail: Why not, for people; empty when it is online.
    :ivar version: Of its program; empty when it does not tell.
    :ivar refused: Why it is not used for a master key, for people, by the name of the key.
    """

    url: str
    online: bool
    detail: str = ""
    version: str = ""
    refused: Mapping[str, str] = _NOTHING


@frozen
class KMSStatus:
    """
    The state of a key service.

    :ivar name: What the service calls itself, such as ``KES``.
    """

    name: str
    default_key: str
    endpoints: tuple[KMSEndpoint, ...]


@frozen
class KeyInfo:
    """
    What a key server tells about a master key; never the key.

    :ivar algorithm: ``AES256`` or ``ChaCha20``.
    :ivar created_at: RFC 3339, as the key server wrote it.
    :ivar created_by: The identity that made it, lower-case hex.
    """

    name: str
    algorithm: str
    created_at: str
    created_by: str


class Kind(StrEnum):
    """
    What somebody is; the text is what policies see as ``aws:principaltype``.
    """

    ROOT = "Account"
    USER = "User"
    SERVICE = "ServiceAccount"
    SESSION = "AssumedRole"


@frozen
class Identity:
    """
    Somebody whose requests we can check.

    :ivar user: In whose name they act: the root user or a user, or the subject of an identity
        provider; the access key itself for the first two.
    :ivar enabled: Whether they may sign at all, which is also up to their parent.
    :ivar token: What has to come with each request of a session; empty for all others.
    :ivar expires: When a session or a service account ends, in seconds since the epoch; ``None``
        for never.
    """

    access_key: str
    secret_key: str = field(repr=False)
    kind: Kind = Kind.ROOT
    user: str = ""
    enabled: bool = True
    token: str = field(default="", repr=False)
    expires: float | None = None


def _no_values(_name: str) -> None:
    """
    A request of which nothing is known.
    """


@frozen(eq=False)
class Question:
    """
    What a request is about to do, for policies to decide.

    :ivar action: Such as ``s3:GetObject`` or ``admin:CreateUser``.
    :ivar resource: What follows ``arn:aws:s3:::``: ``bucket`` or ``bucket/key``; the name of a
        master key for actions of ``kms``; empty for the server.
    :ivar values: Gives the values of a condition key, in lower case such as ``s3:prefix`` (but
        for the key of a tag), that the request has; ``None`` or none when it has none.  What
        depends on who sends it (``aws:username``) is not asked here.
    :ivar existing_tags: Reads the tags of the object; ``None`` where there is none.  Called only
        when a policy asks for them.
    """

    action: str
    resource: str = ""
    values: Callable[[str], Sequence[str] | None] = _no_values
    existing_tags: Callable[[], Awaitable[Mapping[str, str]]] | None = None

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The seams: the design on one page.

A front turns requests into calls of :class:`IObjectStore`.  The encryption wrapper provides
the same interface over any store and an :class:`IKMS`.  The store's layout works over an
:class:`IIndex` and :class:`IBlobs`.  The key server keeps its master keys in an
:class:`IKeyStore`.  Each interface has a contract suite in ``tests/contracts`` that every
provider passes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from zope.interface import Attribute, Interface

from kypello.model import (
    Assembly,
    BucketInfo,
    Buffer,
    ByteRange,
    CustomerKey,
    DataKey,
    Deletion,
    EncryptionRequest,
    Event,
    Identity,
    KeyInfo,
    KMSStatus,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    Question,
    UploadInfo,
    UploadListing,
    UploadQuery,
    VersionListing,
    VersionQuery,
    Write,
)

#: The bucket settings with the policy, as it was put, and with its public access block.
BUCKET_POLICY = "policy"
PUBLIC_ACCESS_BLOCK = "public-access-block"

#: Called once after the last byte of a body, with the number of bytes that the body had at
#: that seam, for the metadata to keep.  May raise to refuse the write.
Describe: TypeAlias = Callable[[int], ObjectMetadata]

#: Called in the instant of a commit with what is current under the key, or ``None``; raises
#: to refuse the write.  May be called more than once.
Condition: TypeAlias = Callable[[ObjectInfo | None], None]

#: Called in the instant of a commit with the version that it removes for good, or ``None`` when
#: that is a delete marker, or nothing; raises to refuse.  May be called more than once.
Guard: TypeAlias = Callable[[ObjectInfo | None], None]

#: Called in the instant of a commit with a version; gives the metadata that it shall have, which
#: differ in tags and lock only, or raises to refuse.  May be called more than once.
Change: TypeAlias = Callable[[ObjectInfo], ObjectMetadata]

#: Called, also in the instant of a commit, with a version; gives the encryption whose keys it shall
#: have, ``None`` to leave it as it is, or raises to refuse.  May be called more than once.
Choose: TypeAlias = Callable[[ObjectInfo], EncryptionRequest | None]

#: The same for an unfinished upload, whose metadata it gives.
UploadChange: TypeAlias = Callable[[UploadInfo], ObjectMetadata]

#: As :data:`Choose`, for an unfinished upload.
ChooseUpload: TypeAlias = Callable[[UploadInfo], EncryptionRequest | None]

#: Called in the instant of a commit with an upload and all its parts in order; tells what the
#: object is made of, or raises to refuse.  May be called more than once.
Assemble: TypeAlias = Callable[[UploadInfo, Sequence[PartInfo]], Assembly]

#: Called with a key and the record that a store keeps under it; tells an object at once as far as
#: a brief listing does, or gives ``None``: then it is told as in other listings.
Outline: TypeAlias = Callable[[str, bytes], ObjectInfo | None]


class ILane(Interface):
    """
    A queue of calls that run one after the other, off the reactor thread.
    """

    async def run(call: Callable[..., Any], *arguments: Any) -> Any:
        """
        Run *call* behind what is queued already; give its result or raise what it raised.

        The order is that of the calls of this method, whether or not they are awaited at once.
        Cancelling does not interrupt a call that runs; its result is dropped.
        """


class ILanes(Interface):
    """
    Where lanes come from: bounded pools of threads that all lanes share.
    """

    def lane(*, bulk: bool = False) -> ILane:
        """
        A new lane.  Lanes run beside each other; an idle one costs nothing.

        :param bulk: For what keeps a core busy for the sake of one large stream: it gives way to
            all others.
        """


class IBodySource(Interface):
    """
    A stream of bytes that its one consumer pulls, block by block.

    Pulling is the back-pressure: a source holds a bounded number of bytes that nobody has
    asked for.  At both edges of the process an adapter turns this into Twisted's producers and
    consumers (``http/body.py`` and ``http/respond.py``).
    """

    size: int | None = Attribute("How many bytes there are in all; ``None`` when unknown.")

    async def read() -> Buffer:
        """
        Give the next block, never empty, of at most some MiB; ``b""`` at the end, for ever.

        One call at a time.  The block belongs to the caller.

        :raises KypelloError: What stopped the stream: :class:`BodyTruncated`,
            :class:`BodyTimeout`, :class:`Refused` (a digest or signature that does not match
            is raised instead of the end), :class:`NotAuthentic`, :class:`StorageFailed`, ...
            The stream is over then; nobody retries.
        """

    def close() -> None:
        """
        Give up what is left and release what is held.  Idempotent; also after the end.
        """


class ILazySource(IBodySource):
    """
    A source whose blocks take a while to compute, which can be done in another thread.

    Whoever reads uses ``read`` or ``next_call``, not both.
    """

    async def next_call() -> Callable[[], Buffer] | None:
        """
        Give what makes the next block, which may be empty; ``None`` at the end.

        The calls are made each once, in the order that they were given in, one after the other,
        in any thread, and none after :meth:`close`.  They can raise what ``read`` raises.

        :raises KypelloError: As :meth:`read`.
        """


class IOpenObject(Interface):
    """
    One version of an object, pinned: it reads the same bytes whatever is written meanwhile.
    """

    info: ObjectInfo = Attribute("The version.")

    async def read(wanted: ByteRange | None) -> IBodySource:
        """
        Begin to read, at most once.

        :param wanted: Within the size; ``None`` for the whole.

        :raises KypelloError: As :meth:`IBodySource.read`; from the wrapper also the errors of
            :meth:`IKMS.decrypt_key`, :class:`KMSNotConfigured` and :class:`NotAuthentic`.
        """

    def close() -> None:
        """
        Release the pin.  Idempotent.  A source that is being read holds its own.
        """


class IObjectStore(Interface):
    """
    Buckets of objects.

    The bucket setting :data:`kypello.versioning.SETTING` tells what becomes of the object that a
    write takes the place of.  While versioning is enabled, it stays as an older version, and a
    deletion makes a delete marker.  While it is suspended, this is so for all versions but the
    one that has the id ``null``, which what is written or deleted then takes the place of.  The
    versions of a key are ordered as they were committed; the newest counts.

    Every write is durable and visible to every reader when its call returns; readers see all
    of it or nothing.  A call that raises, or is cancelled, leaves nothing behind.  All calls
    raise :class:`StorageFailed` when the device fails; the caller may try again.
    """

    async def create_bucket(name: str, settings: Mapping[str, bytes]) -> BucketInfo:
        """
        Make an empty bucket.

        :raises BucketExists: The existing one has not changed.
        """

    async def delete_bucket(name: str) -> None:
        """
        Remove an empty bucket with its settings and unfinished uploads.

        :raises NoSuchBucket:
        :raises BucketNotEmpty:
        """

    async def bucket(name: str) -> BucketInfo:
        """
        Look up one bucket, as of now.

        :raises NoSuchBucket:
        """

    async def buckets() -> Sequence[BucketInfo]:
        """
        All buckets in byte order of their names.
        """

    async def change_bucket(
        name: str, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> BucketInfo:
        """
        Replace the settings of a bucket by what *change* makes of them, atomically.

        *change* is pure: it is called again when another change came between.

        :raises NoSuchBucket:
        """

    async def put(
        bucket: str,
        key: str,
        body: IBodySource,
        describe: Describe,
        encryption: EncryptionRequest | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Store an object under a key, in place of what was there, or above it.

        The store reads *body* to its end and closes it in any case.

        :param key: 1 to 1024 bytes of UTF-8 without NUL; checked by the front.
        :param encryption: What the client asked for; ``None`` leaves it to the wrapper's
            defaults (bucket, then environment).  A store without encryption refuses a request
            with :class:`KMSNotConfigured`.
        :return: With the id of the version.
        :raises NoSuchBucket: Before the body is read, or when the bucket went away meanwhile.
        :raises StorageFull:
        :raises KypelloError: Whatever *body*, *describe* or *condition* raise.
        """

    async def head(
        bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> ObjectInfo:
        """
        Tell a version of an object without touching its content.

        :param customer_key: For an object that was stored with one.
        :param version_id: Empty for the current version.
        :raises NoSuchBucket:
        :raises NoSuchKey: There is no current version; tells the delete marker, if there is one.
        :raises NoSuchVersion:
        :raises IsDeleteMarker: What *version_id* names.
        :raises Refused: The key is missing, wrong, or the object has none: ``InvalidRequest``
            or ``AccessDenied``.
        """

    async def open(
        bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> IOpenObject:
        """
        Pin a version of an object for reading.  The caller closes it.

        :raises KypelloError: As :meth:`head`.
        """

    async def delete(
        bucket: str,
        key: str,
        condition: Condition | None = None,
        version_id: str = "",
        guard: Guard | None = None,
    ) -> Deletion:
        """
        Remove an object, or hide it under a delete marker, or remove a version for good; what
        does not exist is removed already.

        When the newest version is removed, the one below it becomes current at once.

        :param condition: Given what is current, whichever version is removed.
        :param version_id: Of a version or delete marker; empty to remove the object.
        :param guard: Given what is removed for good: the version of *version_id*, the object of a
            bucket without versions, or the version ``null`` that a delete marker takes the place
            of.  It needs no key: of a version whose metadata cannot be opened now it sees what a
            listing would tell.
        :raises NoSuchBucket:
        :raises KypelloError: Whatever *condition* and *guard* raise.
        """

    async def change_version(bucket: str, key: str, version_id: str, change: Change) -> ObjectInfo:
        """
        Replace tags and lock of a version at once, and nothing else; its content is not touched.

        Below the encryption all metadata are replaced, as what is sealed is sealed anew.

        :param version_id: Empty for the current version.
        :return: The version as it is now; of one that has a key of its client, what can be told
            without.
        :raises KypelloError: As :meth:`head`, and whatever *change* raises.
        """

    async def list(bucket: str, query: ListQuery, outline: Outline | None = None) -> Listing:
        """
        One page of the current objects, in byte order of their keys.

        :param outline: Of the encryption, to a store below.
        :raises NoSuchBucket:
        """

    async def list_versions(
        bucket: str, query: VersionQuery, outline: Outline | None = None
    ) -> VersionListing:
        """
        One page of all versions and delete markers: by key in byte order, the newest of each key
        first.

        :param outline: As in :meth:`list`.
        :raises NoSuchBucket:
        """

    async def create_upload(
        bucket: str,
        key: str,
        metadata: ObjectMetadata,
        checksum: str = "",
        encryption: EncryptionRequest | None = None,
    ) -> UploadInfo:
        """
        Begin an upload in parts.  The current object stays as it is.

        :param metadata: What the object will have: all but ETag and checksums.
        :param checksum: The algorithm of the checksums; empty for none.
        :param encryption: As in :meth:`put`.
        :raises NoSuchBucket:
        """

    async def upload(bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Look up an unfinished upload.

        :raises NoSuchBucket:
        :raises NoSuchUpload: None of this key has this id; it may have been completed.
        """

    async def put_part(
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: IBodySource,
        describe: Describe,
        customer_key: CustomerKey | None = None,
    ) -> PartInfo:
        """
        Store one part, in place of an earlier one of its number.

        The store reads *body* to its end and closes it in any case.

        :param number: 1 to 10000.
        :param describe: Gives ETag and checksums of the part.
        :param customer_key: For an upload that began with one.
        :raises NoSuchBucket:
        :raises NoSuchUpload: Before the body is read, or when the upload ended meanwhile.
        :raises StorageFull:
        :raises KypelloError: Whatever *body* or *describe* raise; as :meth:`head` for the key.
        """

    async def parts(
        bucket: str, key: str, upload_id: str, after: int, limit: int
    ) -> Sequence[PartInfo]:
        """
        The first *limit* parts with numbers above *after*, in order.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """

    async def complete_upload(
        bucket: str,
        key: str,
        upload_id: str,
        request: bytes,
        assemble: Assemble,
        condition: Condition | None = None,
        customer_key: CustomerKey | None = None,
    ) -> ObjectInfo:
        """
        Make the object of an upload current, and end the upload, at once.

        When it fails, the upload is as it was.  Parts that are not used are removed.

        :param request: A digest of what is asked for.  When an upload was completed by the
            same request, and the version that it made is there still, the answer is the same
            again.
        :param customer_key: For an upload that began with one; it may be missing unless the
            upload has checksums.
        :raises NoSuchBucket:
        :raises NoSuchUpload: Also when another request has completed it.
        :raises KypelloError: Whatever *assemble* or *condition* raise.
        """

    async def abort_upload(bucket: str, key: str, upload_id: str) -> None:
        """
        End an upload and remove its parts.

        :raises NoSuchBucket:
        :raises NoSuchUpload:
        """

    async def uploads(bucket: str, query: UploadQuery) -> UploadListing:
        """
        One page of the unfinished uploads.

        :raises NoSuchBucket:
        """


class IInnerStore(IObjectStore):
    """
    A store below the encryption, for those who look after what is sealed in it.
    """

    async def change_upload(
        bucket: str, key: str, upload_id: str, change: UploadChange
    ) -> UploadInfo:
        """
        Replace all metadata of an unfinished upload, at once.

        Who stores a part of it, or completes it, at the same time is not disturbed: what is
        completed has the metadata of before, or those of afterwards.

        :return: The upload as it is now.
        :raises NoSuchBucket:
        :raises NoSuchUpload:
        :raises KypelloError: Whatever *change* raises.
        """

    async def open_part(bucket: str, key: str, upload_id: str, number: int) -> IOpenObject:
        """
        Pin a part of an unfinished upload for reading.  The caller closes it.

        :return: What it tells is the part, as its only one.
        :raises NoSuchBucket:
        :raises NoSuchUpload: Or it has no such part.
        """


class IRewrapping(Interface):
    """
    The keys of what is stored, sealed anew: under another master key, or another version of it.

    No content is touched, and nothing that clients see changes but the encryption that they are
    told.  All calls raise what the KMS raises.
    """

    async def rewrap(
        bucket: str,
        key: str,
        version_id: str,
        choose: Choose,
        customer_key: CustomerKey | None = None,
    ) -> ObjectInfo:
        """
        Seal the key of a version anew, at once.

        :param version_id: Empty for the current version.
        :param choose: Given what the client knows; of a version with a key of its client, what
            can be told without.  With SSE-S3 it may name a master key, too.
        :param customer_key: For a version that was stored with one, which gets another one then.
        :return: The version as it is now.
        :raises KypelloError: As :meth:`IObjectStore.head`, and whatever *choose* raises.
        :raises Refused: ``InvalidRequest``: it has no key that could be sealed so.
        """

    async def rewrap_upload(
        bucket: str, key: str, upload_id: str, choose: ChooseUpload
    ) -> UploadInfo:
        """
        Seal the key of an unfinished upload anew, and so that of the object that it becomes; its
        parts have theirs of it.

        :param choose: As in :meth:`rewrap`.
        :return: The upload as it is now.
        :raises NoSuchUpload:
        :raises KypelloError: As :meth:`rewrap`.
        """

    async def master_key(bucket: str) -> str:
        """
        The name of the master key that seals what is known of the objects of a bucket; empty when
        none does.

        :raises NoSuchBucket:
        """

    async def rewrap_bucket(bucket: str, key_name: str) -> None:
        """
        Seal the key of what is known of the objects of a bucket, if there is one, anew.

        :raises NoSuchBucket:
        """

    async def renew(bucket: str) -> None:
        """
        Use no data key any more that objects of a bucket shared before: whatever process begins to
        write when this has ended makes another.

        :raises NoSuchBucket:
        """


class IIndex(Interface):
    """
    Ordered maps from key to record, each in a space of its own.

    A space comes into being with its first commit.  Keys compare as bytes.
    """

    async def get(space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read several keys as of one instant, in the order asked for.

        :raises StorageFailed: The caller may try again.
        """

    def recall(space: str, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        """
        The same of what is in memory; ``None`` when some of it is not, or not true any more.
        """

    def knows(space: str, key: bytes) -> bool:
        """
        Whether it is, or was lately, in memory what there is of a key, or that there is nothing.
        """

    async def scan(
        space: str, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        The first *limit* records with ``start <= key < stop``, in order, as of one instant.

        :param stop: ``None`` for the end of the space.
        :raises StorageFailed: The caller may try again.
        """

    async def commit(
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Make all *writes* at once and durably, or none.

        :param expect: Values that must still be there (``None``: the key must be absent).
        :param empty: Ranges ``[start, stop)`` that must hold no key.
        :raises Conflict: An expectation failed; nothing was changed.
        :raises StorageFull: Nothing was changed.
        :raises StorageFailed: The commit may or may not have happened; the caller reports
            failure and does not repeat it blindly.
        """

    async def drop(space: str) -> None:
        """
        Remove a space with all its records; one that is absent is dropped already.
        """

    async def spaces() -> Sequence[str]:
        """
        The names of all spaces that exist.
        """


class IBlob(Interface):
    """
    One immutable byte object, open for reading; deleting it meanwhile changes nothing.
    """

    size: int = Attribute("Bytes of content.")

    def read(start: int, stop: int) -> IBodySource:
        """
        Read the content ``[start, stop)``.  The source works on after :meth:`close`.
        """

    def close() -> None:
        """
        Release it.  Idempotent.
        """


class IPin(Interface):
    """
    A reason to keep a blob.  It ends with the process, too.
    """

    def release() -> None:
        """
        Let go.  Idempotent.
        """


class IBlobs(Interface):
    """
    Immutable byte objects under names that the caller makes at random.
    """

    async def write(name: str, body: IBodySource, describe: Callable[[int], bytes]) -> int:
        """
        Write the whole of *body* durably under a fresh name.

        When it raises or is cancelled, nothing is left.  Closes *body* in any case.

        :param name: Lower-case hex digits, 32 of them.
        :param describe: Called with the size after the last byte: what is kept beside the
            content, so that a lost index can be rebuilt.  May raise to refuse.
        :return: The size in bytes.
        :raises StorageFull:
        :raises StorageFailed:
        """

    async def open(name: str) -> IBlob:
        """
        Open for reading.

        :raises Damaged: It is missing, cut short or has no valid footer.
        """

    async def describe(name: str) -> bytes:
        """
        Read back what was kept beside the content.

        :raises Damaged:
        """

    async def pin(name: str) -> IPin:
        """
        Keep it from being removed by any process, until the pin is released.

        :raises Damaged: It is missing, or just being removed.
        """

    async def delete(names: Sequence[str]) -> Sequence[str]:
        """
        Remove several, but for those that are pinned; one that is absent is removed already.

        :return: Those that are pinned.
        """

    async def names(after: str, limit: int) -> Sequence[str]:
        """
        Up to *limit* names that follow *after* in byte order, complete blobs and leftovers.
        """


class IEventSink(Interface):
    """
    Who is told what has happened to buckets and objects.
    """

    def wanted(settings: Mapping[str, bytes]) -> bool:
        """
        Whether anybody may want to hear of a bucket.  That nobody does is known at once; who asks
        first need not make events in vain.

        :param settings: Of the bucket.
        """

    async def tell(event: Event, settings: Mapping[str, bytes]) -> None:
        """
        Tell an event, after the commit of what it tells and before that is acknowledged.

        When this returns, the event is kept durably for every target that the bucket is configured
        to have it sent to; nobody waits until it is sent.  What cannot be kept is logged and
        counted: it is no failure of what it tells.  Never raises, and a cancellation meanwhile does
        not reach it.

        :param settings: Of the bucket; they say who wants to hear of it.
        """


class IStorageProbe(Interface):
    """
    Whether the storage works, by trying it: nothing is taken from memory.
    """

    async def read() -> None:
        """
        See that what is stored can be looked up.

        :raises KypelloError: It cannot.
        """

    async def write() -> None:
        """
        See that something can be stored durably, and looked up.

        :raises StorageFull: Reading and deleting may work.
        :raises KypelloError: It cannot.
        """


class IKMS(Interface):
    """
    A key management service: it keeps master keys and never shows them.

    Every call has a deadline of its own and fails over between endpoints by itself; the caller
    retries nothing.  All raise :class:`KMSUnavailable`, and :class:`KMSForbidden` when the
    service refuses us.
    """

    default_key: str = Attribute("The master key that is used when none is named.")

    async def generate_key(key_name: str, context: bytes) -> DataKey:
        """
        Make a fresh data key under a master key.

        :param context: Associated data, canonical bytes (``crypto.keys.context_bytes``).
        :raises KeyNotFound:
        """

    async def decrypt_key(key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.

        :raises KeyNotFound:
        :raises NotAuthentic: Another key, another context or other bytes.
        """

    async def create_key(key_name: str) -> None:
        """
        Make a new master key.

        :raises KeyExists: The existing one has not changed.
        :raises KMSNotSupported:
        :raises InvalidKeyName:
        """

    async def describe_key(key_name: str) -> KeyInfo:
        """
        Tell about a master key.

        :raises KeyNotFound:
        """

    async def list_keys(prefix: str) -> Sequence[str]:
        """
        The names of the master keys that begin so, sorted.
        """

    async def status() -> KMSStatus:
        """
        Ask every endpoint how it is; never raises :class:`KMSUnavailable`.
        """


class IKeyStore(Interface):
    """
    A durable map from key name to key bytes, kept by some outside service.

    Providers neither cache nor retry; both are wrappers of their own.  All calls raise
    :class:`KeyStoreUnreachable` and :class:`KeyStoreFailed`.
    """

    async def prepare() -> None:
        """
        Find out, before the first other call, whether the store can be used, and make it ready:
        log in, or make a directory that is missing.

        Only who starts a server calls this, and can do it again after a failure.
        """

    async def create(name: str, value: bytes) -> None:
        """
        Store *value* under a name that is still free.

        :param value: The serialized key, at most 1 MiB.
        :raises KeyExists: The name is taken; what is stored has not changed.
        :raises KeyStoreUnreachable: No answer in time.  The key may or may not have been
            stored, so the caller must not repeat the call blindly.
        """

    async def get(name: str) -> bytes:
        """
        Read the value back.

        :raises KeyNotFound:
        """

    async def delete(name: str) -> None:
        """
        Remove a key for good.

        :raises KeyNotFound:
        """

    async def names() -> Sequence[str]:
        """
        The names of all keys, sorted by their bytes.
        """

    async def status() -> float:
        """
        Ask the service whether it works.

        :return: How long the answer took, in seconds.
        """

    async def close() -> None:
        """
        Release connections.  Idempotent.
        """


class IIdentities(Interface):
    """
    Those who may sign requests.
    """

    async def identity(access_key: str) -> Identity | None:
        """
        Look up who signs with this access key, as of now; ``None`` for nobody.

        Who is disabled or expired is found, and told so by the answer.

        :raises KMSUnavailable: What is kept of them cannot be opened now.
        :raises StorageFailed:
        """


class IAuthorizer(Interface):
    """
    The one decision about every request.
    """

    async def allows(
        identity: Identity | None, question: Question, settings: Mapping[str, bytes]
    ) -> bool:
        """
        Whether somebody may do something, as of now.

        A statement that denies decides; else one that allows, by the identity or by the bucket;
        else nobody may.  The root user may, unless the bucket denies it.

        :param identity: ``None`` for an anonymous request, which only a bucket can allow.
        :param settings: Of the bucket that it is about, with its policy (:data:`BUCKET_POLICY`)
            and :data:`PUBLIC_ACCESS_BLOCK`; empty when there is none.
        :raises KMSUnavailable: What is kept of the identity cannot be opened now.
        :raises StorageFailed:
        """

    async def allows_key(identity: Identity | None, question: Question) -> bool:
        """
        Whether somebody may have a master key used.

        They may unless policies of theirs deny it, or allow such actions (``kms:GenerateDataKey``,
        ``kms:Decrypt``) with some key: then one of them has to allow it with this one.

        :param question: The resource is the name of the master key.
        :raises KMSUnavailable:
        :raises StorageFailed:
        """

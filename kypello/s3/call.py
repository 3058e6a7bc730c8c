# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an operation gets: the front that all requests share, and the one request.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.accessconfig import Network
from kypello.auth.request import RequestHead
from kypello.auth.source import source_address
from kypello.auth.values import RequestValues
from kypello.crypto.sse import master_key_name
from kypello.errors import (
    IsDeleteMarker,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    Refused,
)
from kypello.eventconfig import EventSettings
from kypello.events.broadcast import Broadcast
from kypello.http.brake import Brake
from kypello.iam.authenticate import Authenticated, Authenticator
from kypello.interfaces import (
    IAuthorizer,
    IBodySource,
    IEventSink,
    ILanes,
    IObjectStore,
    IRewrapping,
)
from kypello.lifecycle.fates import Calendar
from kypello.model import KMS_ALGORITHMS, Event, ObjectInfo, Question, Sealing
from kypello.s3.announced import without_checksums
from kypello.s3.asked import AskedValues, of_sealing
from kypello.s3.errors import access_denied
from kypello.s3.payload import Payload, open_payload, read_small

#: The largest document that a request may hold, but for lists of objects, in bytes.
MAX_DOCUMENT = 1024 * 1024

_Arguments = TypeVar("_Arguments")


async def settings_of(store: IObjectStore, bucket: str) -> Mapping[str, bytes] | None:
    """
    The settings of a bucket; ``None`` when there is no such bucket.
    """
    try:
        return (await store.bucket(bucket)).settings
    except NoSuchBucket:
        return None


@frozen(eq=False)
class Front:
    """
    What all requests share.

    :ivar region: The one that is configured; ``None`` stands for ``us-east-1`` and accepts all.
    :ivar clock: Tells the time in seconds since the epoch.
    :ivar encrypts: Whether a KMS is configured.
    :ivar host_id: What ``x-amz-id-2`` says.
    :ivar max_object: The largest object that is accepted, in bytes.
    :ivar max_part: The largest part of an upload, and the largest source of a copy.
    :ivar min_part: The smallest part of an upload, but for its last.
    :ivar allow_insecure_customer_keys: Take keys of clients over plain HTTP too, from clients
        on this machine: there, a proxy that ends TLS.
    :ivar test_key: Called with the name of a master key before a bucket is set to use it;
        raises what using the key would raise.
    :ivar domains: Under which hosts name buckets, in lower case.
    :ivar account_id: What ``x-amz-expected-bucket-owner`` must say; ``None`` for anything.
    :ivar storage_classes: Labels that objects may have beside those that S3 always has here.
    :ivar default_key: The master key that is used when none is named.
    :ivar proxies: Whose word about the addresses of clients is taken.
    :ivar cors_origins: Whose pages browsers let use a bucket without rules for that; each with
        one ``*`` at most.
    :ivar calendar: How the days of lifecycles are counted.
    :ivar brake: While it is pulled, requests wait; ``None`` when there is none.
    :ivar events: Told what happens; ``None`` when nobody is.
    :ivar broadcast: Tells it to those who listen; ``None`` when nobody can.
    :ivar targets: Where it can be sent.
    :ivar rewrapping: Seals keys of what is stored anew; ``None`` without a KMS.
    :ivar auto_encryption: Whether the server encrypts what asks for nothing.
    :ivar blocks_customer_keys: Whether new buckets take no content with keys of clients until they
        are told to.
    """

    store: IObjectStore
    authenticator: Authenticator
    authorizer: IAuthorizer
    lanes: ILanes
    region: str | None
    clock: IReactorTime
    encrypts: bool
    host_id: str = "kypello"
    max_object: int = 5 * 1024**4
    max_part: int = 5 * 1024**3
    min_part: int = 5 * 1024**2
    allow_insecure_customer_keys: bool = False
    test_key: Callable[[str], Awaitable[None]] | None = None
    domains: tuple[str, ...] = ()
    account_id: str | None = None
    storage_classes: frozenset[str] = frozenset()
    default_key: str = ""
    proxies: Sequence[Network] = ()
    cors_origins: tuple[str, ...] = ("*",)
    calendar: Calendar = field(factory=Calendar)
    brake: Brake | None = None
    events: IEventSink | None = None
    broadcast: Broadcast | None = None
    targets: EventSettings = field(factory=EventSettings)
    rewrapping: IRewrapping | None = None
    auto_encryption: bool = False
    blocks_customer_keys: bool = False

    @property
    def shown_region(self) -> str:
        """
        The region as clients learn it.
        """
        return self.region or "us-east-1"

    def target(self, arn: str) -> str | None:
        """
        The name of the target of events that an ARN names; ``None`` when there is none.
        """
        return self.targets.target(arn, self.region)


@define(eq=False)
class Call:
    """
    One authenticated request.

    :ivar bucket: Empty for the service itself.
    :ivar key: Empty for a bucket.
    :ivar settings: Of the bucket, as of when the request came; none when there is no bucket.
    :ivar told: What a document tells that conditions of policies can ask, by condition key.
    """

    front: Front
    authenticated: Authenticated
    bucket: str
    key: str
    request_id: str
    settings: Mapping[str, bytes]
    _body: IBodySource
    told: Mapping[str, str] = MappingProxyType({})

    @property
    def head(self) -> RequestHead:
        """
        The request with the settings of a presigned query among its headers.
        """
        return self.authenticated.head

    async def may(
        self,
        action: str,
        bucket: str = "",
        key: str = "",
        *,
        tags: Mapping[str, str] | None = None,
        lock: Mapping[str, str] | None = None,
        encryption: Sealing | None = None,
    ) -> bool:
        """
        Whether whoever sent the request may do something.

        :param bucket: Where, with *key*; empty for what the request is about.
        :param tags: Those that a new object is to have, when they are not in a header.
        :param lock: The lock that an object is to have, when it is not in headers; see
            :class:`RequestValues`.
        :param encryption: The one that an object is to have, when a document tells it.
        """
        settings, version_id = self.settings, ""
        if not bucket:
            bucket, key = self.bucket, self.key
            version_id = self.head.parameter("versionId") or ""
        elif bucket != self.bucket:
            settings = await settings_of(self.front.store, bucket) or {}
        told = None if encryption is None else of_sealing(encryption)
        values = AskedValues(self._values(tags, lock), told=told)
        question = Question(
            action,
            f"{bucket}/{key}" if key else bucket,
            values,
            partial(self._tags, bucket, key, version_id) if key else None,
        )
        authorizer, identity = self.front.authorizer, self.authenticated.identity
        allowed = await authorizer.allows(identity, question, settings)
        if not values.wants_upload:
            return allowed
        upload_id = self.head.parameter("uploadId")
        if not upload_id or (bucket, key) != (self.bucket, self.key):
            return allowed
        try:
            upload = await self.front.store.upload(bucket, key, upload_id)
        except (NoSuchBucket, NoSuchUpload):
            return allowed
        values = AskedValues(self._values(tags, lock), of_sealing(upload.metadata.sealing))
        return await authorizer.allows(identity, evolve(question, values=values), settings)

    async def require(
        self,
        action: str,
        bucket: str = "",
        key: str = "",
        *,
        tags: Mapping[str, str] | None = None,
        lock: Mapping[str, str] | None = None,
        encryption: Sealing | None = None,
    ) -> None:
        """
        See that whoever sent the request may do something; as :meth:`may`.

        :raises Refused: ``AccessDenied``.
        """
        if not await self.may(action, bucket, key, tags=tags, lock=lock, encryption=encryption):
            raise access_denied()

    async def require_key(self, action: str, key_id: str) -> None:
        """
        See that whoever sent the request may have a master key used.

        :param action: ``kms:GenerateDataKey`` or ``kms:Decrypt``.
        :param key_id: As clients name it; empty for the default one.
        :raises Refused: ``AccessDenied``.
        """
        name = master_key_name(key_id) if key_id else self.front.default_key
        question = Question(action, name, self._values())
        if not await self.front.authorizer.allows_key(self.authenticated.identity, question):
            raise access_denied()

    async def require_decryption(self, sealing: Sealing | None) -> None:
        """
        See that whoever sent the request may have content decrypted.

        :param sealing: How it is encrypted.
        :raises Refused: ``AccessDenied``.
        """
        if sealing is not None and sealing.algorithm in KMS_ALGORITHMS:
            await self.require_key("kms:Decrypt", sealing.key_id)

    async def announce(
        self, name: str, info: ObjectInfo | None = None, *, key: str = "", version_id: str = ""
    ) -> None:
        """
        Tell those who want to hear of it what has been done in the bucket of the request.

        :param name: Of the event, such as ``s3:ObjectCreated:Put``.
        :param info: The object; ``None`` for what is no more, or a bucket.
        :param key: Of what is no more.
        :param version_id: Of that.
        """
        front = self.front
        if front.events is None or not front.events.wanted(self.settings):
            return
        identity, head = self.authenticated.identity, self.head
        event = Event(
            name,
            self.bucket,
            int(front.clock.seconds() * 1e9),
            key if info is None else info.key,
            version_id if info is None else info.version_id,
            info,
            "" if identity is None else identity.access_key,
            source_address(head, front.proxies),
            (head.header("user-agent") or "").encode("latin-1").decode("utf-8", "replace"),
            self.request_id,
        )
        await front.events.tell(event, self.settings)

    def _values(
        self, tags: Mapping[str, str] | None = None, lock: Mapping[str, str] | None = None
    ) -> RequestValues:
        front, sent = self.front, self.authenticated
        now = front.clock.seconds()
        return RequestValues(
            sent.head, now, sent.signature, sent.kind, front.proxies, tags, lock, self.told
        )

    async def _tags(self, bucket: str, key: str, version_id: str) -> Mapping[str, str]:
        try:
            info = await self.front.store.head(bucket, key, None, version_id)
        except (NoSuchBucket, NoSuchKey, NoSuchVersion, IsDeleteMarker):
            return {}
        except Refused:
            # It is stored with a key of its client, and nobody vouches for its tags without.
            raise access_denied() from None
        return info.metadata.tags

    def now(self) -> int:
        """
        The time, nanoseconds since the epoch.
        """
        return int(self.front.clock.seconds() * 1e9)

    async def check(self, read: Callable[[], _Arguments]) -> _Arguments:
        """
        Read the arguments of a request about a bucket; when they are wrong and the bucket does
        not exist, that is what is told.

        :param read: Raises :class:`Refused` when they are wrong.
        :raises NoSuchBucket:
        """
        try:
            return read()
        except Refused:
            await self.front.store.bucket(self.bucket)
            raise

    def payload(self, want_md5: bool = False, compute: str = "") -> Payload:
        """
        Begin to read the content.

        :param compute: The checksum to compute when the client sends none; empty for none.
        :raises Refused: What the headers say about it is wrong.
        """
        return open_payload(self.authenticated, self._body, self.front.lanes, want_md5, compute)

    async def read_document(
        self, limit: int = MAX_DOCUMENT, *, covered: bool = False, about_object: bool = False
    ) -> bytes:
        """
        All of the content, verified.

        :param covered: Insist that there is something to verify it by.
        :param about_object: Headers with checksums tell about an object, not about this.
        :raises Refused: ``MissingRequestBodyError``, ``InvalidRequest`` for one that nothing
            covers, and what the payload raises.
        """
        authenticated = self.authenticated
        if about_object:
            authenticated = evolve(authenticated, head=without_checksums(authenticated.head))
        payload = open_payload(authenticated, self._body, self.front.lanes, want_md5=False)
        if covered and not payload.covered:
            raise Refused(
                "InvalidRequest",
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            )
        content = await read_small(payload, limit)
        if not content:
            raise Refused("MissingRequestBodyError", "Request Body is empty")
        return content

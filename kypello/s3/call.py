# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an operation gets: the front that all requests share, and the one request.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from attrs import define, evolve, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.iam.authenticate import Authenticated, Authenticator
from kypello.interfaces import IBodySource, ILanes, IObjectStore
from kypello.model import Identity
from kypello.s3.announced import without_checksums
from kypello.s3.errors import access_denied
from kypello.s3.payload import Payload, open_payload, read_small

#: The largest document that a request may hold, but for lists of objects, in bytes.
MAX_DOCUMENT = 1024 * 1024

_Arguments = TypeVar("_Arguments")


class Authorize(Protocol):
    """
    Tells whether somebody may do something.
    """

    def __call__(self, identity: Identity | None, action: str, resource: str) -> bool:
        """
        Decide about one request.

        :param identity: ``None`` for an anonymous request.
        :param action: Such as ``s3:GetObject``.
        :param resource: An ARN such as ``arn:aws:s3:::bucket/key``.
        """


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
    """

    store: IObjectStore
    authenticator: Authenticator
    authorize: Authorize
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

    @property
    def shown_region(self) -> str:
        """
        The region as clients learn it.
        """
        return self.region or "us-east-1"


@define(eq=False)
class Call:
    """
    One authenticated and authorized request.

    :ivar bucket: Empty for the service itself.
    :ivar key: Empty for a bucket.
    """

    front: Front
    authenticated: Authenticated
    bucket: str
    key: str
    request_id: str
    _body: IBodySource

    @property
    def head(self) -> RequestHead:
        """
        The request with the settings of a presigned query among its headers.
        """
        return self.authenticated.head

    def require(self, action: str, bucket: str = "", key: str = "") -> None:
        """
        See that whoever sent the request may do something beside its operation.

        :param bucket: Where, with *key*; empty for the object of the request.
        :raises Refused: ``AccessDenied``.
        """
        resource = f"{bucket}/{key}" if bucket else f"{self.bucket}/{self.key}"
        identity = self.authenticated.identity
        if not self.front.authorize(identity, action, f"arn:aws:s3:::{resource}"):
            raise access_denied()

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

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an operation gets: the front that all requests share, and the one request.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.accessconfig import Network
from kypello.admin.errors import access_denied, invalid_argument
from kypello.admin.sealer import Sealer
from kypello.admin.wire import bad_json, json_bytes, read_document, sealed_response
from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import ALGORITHM
from kypello.auth.values import RequestValues
from kypello.crypto.payload import PayloadCipher
from kypello.errors import NotAuthentic
from kypello.events.broadcast import Broadcast
from kypello.events.target import Target
from kypello.http.response import Response
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.values import BUILTIN, KeyInfo
from kypello.identityconfig import IdentitySettings
from kypello.interfaces import IKMS, ILanes, IObjectStore, IRewrapping
from kypello.model import Identity, Kind, Question
from kypello.objects.keyusage import KeyUsage
from kypello.scanner.over import Over
from kypello.scanner.usage import Usage

_Document = TypeVar("_Document")
_NO_SERVICES: Mapping[str, Callable[[], object]] = {}


class Documents(Protocol):
    """
    The documents by which buckets are set up, as S3 has them: who asks needs the same rights.
    """

    async def make(self, identity: Identity, head: RequestHead, bucket: str) -> None:
        """
        Make a bucket, unless it is there.

        :param head: The request in which somebody asks; policies see where it came from.
        :raises Refused: It may not be made, by them, or with this name.
        """

    async def read(
        self, identity: Identity, head: RequestHead, bucket: str, name: str
    ) -> bytes | None:
        """
        A document; ``None`` when there is none.

        :param name: The subresource, such as ``lifecycle``.
        :raises Refused: They may not see it, or there is no such bucket.
        """

    async def write(
        self, identity: Identity, head: RequestHead, bucket: str, name: str, content: bytes
    ) -> None:
        """
        Set a document.

        :raises Refused: They may not set it, or it is not one that S3 would take.
        """


@frozen(eq=False)
class AdminFront:
    """
    What all requests share.

    :ivar kms: ``None`` when none is configured.
    :ivar clock: Tells the time in seconds since the epoch.
    :ivar lanes: Where payloads are encrypted, and the disk is asked for its space.
    :ivar root: The access key of the root user.
    :ivar region: The one that is configured; ``None`` stands for ``us-east-1``.
    :ivar directory: The data directory, whose space is told.
    :ivar started: When the server did, in seconds since the epoch.
    :ivar version: Of the server, for people.
    :ivar usage: What buckets hold.
    :ivar over: What of it is over.
    :ivar services: How the server is stopped (``stop``), started again (``restart``), or requests
        wait (``freeze``, ``unfreeze``): called
        before the answer is sent, which has to be sent all the same.  What is not there is done
        by what runs the server.
    :ivar identity: Who else says who somebody is.
    :ivar proxies: Whose word about the addresses of clients is taken.
    :ivar broadcast: What happens in the server; ``None`` when that is not told.
    :ivar node: What the server is called where it tells that.
    :ivar targets: Where events are sent.
    :ivar rewrapping: Seals keys of what is stored anew; ``None`` without a KMS.
    :ivar key_usage: Counts what needs which master key; ``None`` when nothing does.
    :ivar key_calls: What was counted of the calls of the KMS, as the API names it.
    :ivar auto_encryption: Whether the server encrypts what asks for nothing.
    :ivar documents: How buckets are set up; ``None`` where there are only accounts.
    :ivar random: Gives so many random bytes.
    :ivar cipher: What answers are encrypted with.
    """

    accounts: Accounts
    authenticator: Authenticator
    store: IObjectStore
    kms: IKMS | None
    clock: IReactorTime
    lanes: ILanes
    root: str
    region: str | None
    directory: Path
    started: float
    version: str
    usage: Usage
    over: Over
    services: Mapping[str, Callable[[], object]] = _NO_SERVICES
    identity: IdentitySettings = field(factory=IdentitySettings)
    proxies: Sequence[Network] = ()
    host_id: str = "kypello"
    broadcast: Broadcast | None = None
    node: str = ""
    targets: Sequence[Target] = ()
    rewrapping: IRewrapping | None = None
    key_usage: KeyUsage | None = None
    key_calls: Callable[[], Mapping[str, object]] = dict
    auto_encryption: bool = False
    documents: Documents | None = None
    random: Callable[[int], bytes] = os.urandom
    cipher: PayloadCipher = PayloadCipher.ARGON2_AES
    sealer: Sealer = field(init=False)

    @sealer.default
    def _make_sealer(self) -> Sealer:
        return Sealer(self.lanes.lane(), self.random, self.cipher)

    @property
    def shown_region(self) -> str:
        """
        The region as clients learn it.
        """
        return self.region or "us-east-1"


@define(eq=False)
class Call:
    """
    One authenticated request, authorized as far as its route tells how.

    :ivar tail: What follows the path of a route that has more behind it, decoded.
    :ivar content: The body, which is the one that was signed.
    """

    front: AdminFront
    identity: Identity
    head: RequestHead
    tail: str
    content: bytes = field(default=b"", repr=False)
    values: RequestValues = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Know what policies may ask about the request.
        """
        front = self.front
        self.values = RequestValues(
            self.head, front.clock.seconds(), ALGORITHM, "REST-HEADER", front.proxies
        )

    @property
    def accounts(self) -> Accounts:
        """
        Those who may sign, and what they may do.
        """
        return self.front.accounts

    @property
    def user(self) -> str:
        """
        In whose name it is asked.
        """
        return self.front.root if self.identity.kind is Kind.ROOT else self.identity.user

    async def provider(self) -> str:
        """
        Who knows whoever asks.

        Names alone do not tell: an identity provider may know somebody by the name of a user.
        """
        if self.identity.kind in (Kind.SERVICE, Kind.SESSION):
            return (await self.accounts.key(self.identity.access_key)).provider
        return BUILTIN

    async def is_oneself(self, user: str) -> bool:
        """
        Whether this is the user who asks, or in whose name it is asked.
        """
        return user == self.user and await self.provider() == BUILTIN

    async def owns(self, key: KeyInfo) -> bool:
        """
        Whether a service account or a session belongs to whoever asks, or acts for the same.
        """
        return key.parent == self.user and key.provider == await self.provider()

    def parameter(self, name: str) -> str:
        """
        The first value of a query parameter; empty when absent.
        """
        return self.head.parameter(name) or ""

    def parameters(self, name: str) -> list[str]:
        """
        All values of a query parameter, in order.
        """
        return [value for key, value in self.head.query if key == name]

    def named(self, name: str) -> str:
        """
        A query parameter that must be there.

        :raises Rejected:
        """
        value = self.parameter(name)
        if not value:
            raise invalid_argument(f"The parameter {name!r} is missing.")
        return value

    async def may(self, action: str, resource: str = "") -> bool:
        """
        Whether policies allow whoever asks to do something.

        :param resource: The name of a master key, for actions of ``kms``.
        """
        question = Question(action, resource, self.values)
        return await self.accounts.allows(self.identity, question, {})

    async def require(self, *actions: str, resource: str = "") -> None:
        """
        See that policies allow whoever asks one of several actions.

        :raises Rejected: ``AccessDenied``.
        """
        for action in actions:
            if await self.may(action, resource):
                return
        raise access_denied()

    async def require_own(self, action: str) -> None:
        """
        See that whoever asks may do something to their own account.

        It needs no policy that allows it, and none that denies it may be there; what limits a
        session or a service account has to allow it.

        :raises Rejected: ``AccessDenied``.
        """
        question = Question(action, "", self.values)
        if not await self.accounts.allows_own(self.identity, question):
            raise access_denied()

    def read(self, kind: type[_Document]) -> _Document:
        """
        The body as a document.

        :raises Rejected:
        """
        return read_document(self.content, kind)

    async def open_bytes(self) -> bytes:
        """
        The body, which is encrypted with the secret key that signed it.

        :raises Rejected:
        """
        try:
            return await self.front.sealer.open(self.identity, self.content)
        except NotAuthentic:
            raise bad_json() from None

    async def open(self, kind: type[_Document]) -> _Document:
        """
        The encrypted body as a document.

        :raises Rejected:
        """
        return read_document(await self.open_bytes(), kind)

    async def seal_bytes(self, content: bytes) -> Response:
        """
        An answer that only whoever asked can open.
        """
        return sealed_response(await self.front.sealer.seal(self.identity, content))

    async def seal(self, value: Any) -> Response:
        """
        The same of a value, as JSON.
        """
        return await self.seal_bytes(json_bytes(value))

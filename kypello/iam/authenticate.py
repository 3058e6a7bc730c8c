# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who sent a request: one verified signature, or nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from hmac import compare_digest

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from kypello.accessconfig import Network
from kypello.auth import formsign, presign, sigv2, sigv4
from kypello.auth.mode import ChunkSeed, PayloadMode, payload_mode
from kypello.auth.request import RequestHead
from kypello.auth.source import source_address
from kypello.errors import Refused
from kypello.iam.slowing import Slowing
from kypello.interfaces import IIdentities
from kypello.model import Identity, Kind

_V4_PARAMETERS = frozenset({"X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"})
#: Errors of who tries keys that are not theirs.
_GUESSES = frozenset({"InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})

_V2_PARAMETERS = frozenset({"Signature", "AWSAccessKeyId"})


@define
class Authenticated:
    """
    A request whose sender is known.

    :ivar identity: Who signed it; ``None`` for an anonymous request.
    :ivar head: The request as far as it counts: settings of a presigned query are merged into
        its headers, and parameters that change something and are not signed are gone.
    :ivar mode: How the body is framed and what protects it.
    :ivar signature: ``AWS4-HMAC-SHA256`` or ``AWS``; empty for an anonymous request.
    :ivar kind: Where the signature was: ``REST-HEADER``, ``REST-QUERY-STRING`` or ``POST``, as
        policies call it; empty for an anonymous request.
    """

    identity: Identity | None
    head: RequestHead
    mode: PayloadMode
    signature: str = ""
    kind: str = ""


class _Mechanism(Enum):
    NONE = auto()
    HEADER = auto()
    QUERY = auto()
    QUERY_VERSION_2 = auto()


@define
class Authenticator:
    """
    Checks the signatures of requests.

    :ivar _identities: Those who may sign.
    :ivar _region: The region that signatures must name; ``None`` accepts all.
    :ivar _clock: Tells the time in seconds since the epoch.
    :ivar _signature_v2: Whether signatures of version 2 count, in queries and forms.
    :ivar _proxies: Whose word about the addresses of clients is taken.
    :ivar _refused: Told the code of each refusal.
    :ivar _slowing: Holds up those who guess.
    """

    _identities: IIdentities
    _region: str | None
    _clock: IReactorTime
    _signature_v2: bool = True
    _proxies: Sequence[Network] = ()
    _refused: Callable[[str], object] | None = None
    _slowing: Slowing = field()

    @_slowing.default
    def _alone(self) -> Slowing:
        return Slowing.shared(self._clock, -1)

    async def authenticate(self, head: RequestHead) -> Authenticated:
        """
        Find out who sent a request.  Nothing of the body is needed for that.

        :raises Refused: With the code of the first check that fails.
        """
        try:
            return await self._authenticate(head)
        except Refused as error:
            await self._slow_down(error, head)
            raise

    async def _authenticate(self, head: RequestHead) -> Authenticated:
        mechanism = _mechanism(head)
        if mechanism is _Mechanism.NONE:
            stated = head.header("x-amz-content-sha256")
            return Authenticated(None, head, payload_mode(stated, None))
        now = self._clock.seconds()
        if mechanism is _Mechanism.QUERY_VERSION_2:
            return await self._authenticate_version_2(head, now)
        region = None if _serves_any_region(head) else self._region
        if mechanism is _Mechanism.QUERY:
            claim = presign.read_query(head, region, now)
            token = head.parameter("X-Amz-Security-Token") or head.header("x-amz-security-token")
            identity = await self._identity(claim.access_key, token)
            stated = presign.payload_hash(head)
            seed = sigv4.verify(claim, head, stated, identity.secret_key)
            mode = payload_mode(stated, seed)
            merged = presign.merge_settings(head)
            return Authenticated(identity, merged, mode, sigv4.ALGORITHM, "REST-QUERY-STRING")
        claim = sigv4.read_authorization(head, region, now)
        token = head.header("x-amz-security-token")
        identity = await self._identity(claim.access_key, token)
        seed, stated = _verify_header(claim, head, identity)
        mode = payload_mode(stated, seed)
        return Authenticated(identity, head, mode, sigv4.ALGORITHM, "REST-HEADER")

    async def authenticate_call(
        self, head: RequestHead, payload_hash: str, service: str = "s3"
    ) -> Identity:
        """
        Find out who signed a call of an administrator or of the security token service, by its
        ``Authorization`` header.  Any region will do.

        :param payload_hash: SHA-256 of the body in lower-case hex, or what the header
            ``x-amz-content-sha256`` says; then the caller compares it with the body.
        :raises Refused: With the code of the first check that fails.
        """
        if _mechanism(head) is not _Mechanism.HEADER:
            raise Refused("AccessDenied", "Access Denied.")
        claim = sigv4.read_authorization(head, None, self._clock.seconds(), service)
        try:
            identity = await self._identity(claim.access_key, head.header("x-amz-security-token"))
            sigv4.verify(claim, head, payload_hash, identity.secret_key)
        except Refused as error:
            await self._slow_down(error, head)
            raise
        return identity

    async def authenticate_form(
        self, head: RequestHead, fields: Mapping[str, str]
    ) -> Authenticated:
        """
        Find out who signed the policy of a form; a form without one is from nobody.

        :param head: Of the request that brings it.
        :param fields: By lower-case name.
        :raises Refused: With the code of the first check that fails.
        """
        claim = formsign.read_fields(fields, self._region)
        if claim is None:
            return Authenticated(None, head, PayloadMode())
        if claim.scope is None and not self._signature_v2:
            raise _unsupported()
        try:
            identity = await self._identity(claim.access_key, fields.get("x-amz-security-token"))
            formsign.verify(claim, identity.secret_key)
        except Refused as error:
            await self._slow_down(error, head)
            raise
        signature = "AWS" if claim.scope is None else sigv4.ALGORITHM
        return Authenticated(identity, head, PayloadMode(), signature, "POST")

    async def _slow_down(self, error: Refused, head: RequestHead) -> None:
        if self._refused is not None:
            self._refused(error.code)
        if error.code in _GUESSES:
            await self._slowing.failed(source_address(head, self._proxies))

    async def _authenticate_version_2(self, head: RequestHead, now: float) -> Authenticated:
        if not self._signature_v2:
            raise _unsupported()
        claim, part = sigv2.read_query(head, now), sigv2.signed_part(head)
        token = part.header("x-amz-security-token")
        identity = await self._identity(claim.access_key, token)
        sigv2.verify(claim, part, identity.secret_key)
        mode = payload_mode(part.header("x-amz-content-sha256"), None)
        if mode.chunked:
            raise Refused(
                "InvalidRequest", "Signature version 2 does not support this x-amz-content-sha256"
            )
        return Authenticated(identity, part, mode, "AWS", "REST-QUERY-STRING")

    async def _identity(self, access_key: str, token: str | None) -> Identity:
        identity = await self._identities.identity(access_key)
        if identity is None:
            raise _unknown(access_key)
        if not compare_digest((token or "").encode(), identity.token.encode()):
            raise Refused("InvalidToken", "The provided token is malformed or otherwise invalid.")
        if identity.expires is not None and identity.expires <= self._clock.seconds():
            if identity.kind is Kind.SESSION:
                raise Refused("ExpiredToken", "The provided token has expired.")
            raise _unknown(access_key)
        if not identity.enabled:
            raise Refused(
                "InvalidAccessKeyId",
                "Your account is disabled; please contact your administrator.",
                {"AWSAccessKeyId": access_key},
            )
        return identity


def _verify_header(
    claim: sigv4.Claim, head: RequestHead, identity: Identity
) -> tuple[ChunkSeed, str]:
    stated = head.header("x-amz-content-sha256")
    if stated is None:
        raise Refused(
            "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    return sigv4.verify(claim, head, stated, identity.secret_key), stated


def _mechanism(head: RequestHead) -> _Mechanism:
    """
    Which way to authenticate a request takes.

    :raises Refused: It takes two, or one that does not exist.
    """
    parameters = head.parameter_names
    given = [value for name, value in head.headers if name == "authorization"]
    version_4 = not _V4_PARAMETERS.isdisjoint(parameters)
    version_2 = not _V2_PARAMETERS.isdisjoint(parameters)
    if len(given) + version_4 + version_2 > 1:
        raise _bad_authorization(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter,"
            " Signature query string parameter or the Authorization header should be specified"
        )
    if version_4:
        return _Mechanism.QUERY
    if version_2:
        return _Mechanism.QUERY_VERSION_2
    return _header_mechanism(given[0]) if given else _Mechanism.NONE


def _header_mechanism(authorization: str) -> _Mechanism:
    if not authorization:
        raise Refused("AccessDenied", "Access Denied.")
    scheme, blank, _rest = authorization.partition(" ")
    if not blank:
        raise _bad_authorization(
            "Authorization header is invalid -- one and only one ' ' (space) required."
        )
    if scheme == sigv4.ALGORITHM:
        return _Mechanism.HEADER
    if scheme == "AWS" or scheme.startswith("AWS4-"):
        raise _unsupported()
    raise _bad_authorization("Unsupported Authorization Type")


def _serves_any_region(head: RequestHead) -> bool:
    """
    Whether a client asks for the region of a bucket, or may do so: it need not know it yet.
    """
    if head.method == "GET":
        return head.parameter("location") is not None
    if head.host_bucket:
        return head.method == "HEAD" and head.path == "/"
    return head.method == "HEAD" and "/" not in head.path.strip("/")


def _unknown(access_key: str) -> Refused:
    return Refused(
        "InvalidAccessKeyId",
        "The Access Key Id you provided does not exist in our records.",
        {"AWSAccessKeyId": access_key},
    )


def _unsupported() -> Refused:
    return Refused(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use"
        " AWS4-HMAC-SHA256.",
    )


def _bad_authorization(message: str) -> Refused:
    return Refused("InvalidArgument", message, {"ArgumentName": "Authorization"})

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The tokens that Prometheus brings: ``mc admin prometheus generate`` makes them, from an access key
and its secret, without asking the server.
"""

import binascii
import hmac
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from kypello.accessconfig import Network
from kypello.auth.request import RequestHead
from kypello.auth.source import source_address
from kypello.auth.values import RequestValues
from kypello.errors import Refused
from kypello.iam.accounts import Accounts
from kypello.iam.slowing import Slowing
from kypello.model import Identity, Kind, Question

_ALGORITHMS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_ISSUER = "prometheus"
_ACTION = "admin:Prometheus"
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+) *")

_Part = TypeVar("_Part")


class _Header(msgspec.Struct):
    """
    How a token is signed.

    :ivar crit: What whoever checks it has to know; here nothing is.
    """

    alg: str
    crit: msgspec.Raw | None = None


class _Claims(msgspec.Struct, rename={"access_key": "accessKey"}):
    """
    What a token says.
    """

    iss: str
    sub: str = ""
    access_key: str = ""
    exp: float | None = None
    nbf: float | None = None


@define(eq=False)
class Bearers:
    """
    Knows who may read the metrics.

    :ivar _proxies: Whose word about the addresses of clients is taken.
    :ivar _slowing: Holds up those who guess.
    """

    _accounts: Accounts
    _clock: IReactorTime
    _proxies: Sequence[Network] = ()
    _slowing: Slowing = field()

    @_slowing.default
    def _alone(self) -> Slowing:
        return Slowing.shared(self._clock, -1)

    async def check(self, head: RequestHead) -> None:
        """
        See that a request brings the token of somebody who may read the metrics.

        :raises Refused: ``AccessDenied``, whatever is wrong with it.
        """
        matched = _BEARER.fullmatch(head.header("authorization") or "")
        if matched is None:
            raise _denied()
        identity = await self._signer(matched[1])
        if identity is None:
            await self._slowing.failed(source_address(head, self._proxies))
            raise _denied()
        values = RequestValues(head, self._clock.seconds(), "", "", self._proxies)
        question = Question(_ACTION, "", values)
        if not await self._accounts.allows(identity, question, {}):
            raise _denied()

    async def _signer(self, token: str) -> Identity | None:
        """
        Who has signed a token; ``None`` when it does not count.
        """
        signed, _dot, signature = token.rpartition(".")
        head, _dot, body = signed.partition(".")
        header, claims = _read(head, _Header), _read(body, _Claims)
        if header is None or header.crit is not None or claims is None or claims.iss != _ISSUER:
            return None
        digest, given, now = _ALGORITHMS.get(header.alg), _decode(signature), self._clock.seconds()
        if digest is None or given is None:
            return None
        identity = await self._accounts.identity(claims.sub or claims.access_key)
        if identity is None:
            return None
        expected = hmac.digest(identity.secret_key.encode(), signed.encode(), digest)
        if not hmac.compare_digest(expected, given):
            return None
        over = [end for end in (claims.exp, identity.expires) if end is not None and end <= now]
        early = claims.nbf is not None and claims.nbf > now
        # The secret of a session is nothing without its token, which does not come along.
        if over or early or not identity.enabled or identity.kind is Kind.SESSION:
            return None
        return identity


def _decode(text: str) -> bytes | None:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None


def _read(text: str, kind: type[_Part]) -> _Part | None:
    content = _decode(text)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _denied() -> Refused:
    return Refused(
        "AccessDenied",
        "Access Denied. (Authentication failed, check your access credentials)",
    )

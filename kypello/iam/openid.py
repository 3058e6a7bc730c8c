# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Those who have a token of an OpenID provider: who they are, and what they are given.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import chain
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from kypello.iam.idtoken import check_claims, read_claims, read_header
from kypello.iam.logins import IWebIdentities, Login, LoginRefused
from kypello.iam.openidkeys import Get, Provider
from kypello.identityconfig import OpenIDSettings

#: The claims that policies can ask for.
CLAIMS = (
    "address",
    "aud",
    "birthdate",
    "client_id",
    "email",
    "family_name",
    "gender",
    "given_name",
    "groups",
    "iss",
    "jti",
    "middle_name",
    "name",
    "nickname",
    "phone_number",
    "picture",
    "preferred_username",
    "profile",
    "scope",
    "sub",
    "upn",
    "website",
)

#: How much text may be kept of somebody, in characters: a session has all of it.
MOST_TEXT = 32 * 1024

_NO_POLICY = "policy claim missing from the JWT token, credentials will not be generated"
_ROLES = re.compile(r"arn:minio:iam:[^:]*::role/[0-9A-Za-z_-]{27}")


@implementer(IWebIdentities)
@define(eq=False)
class OpenID:
    """
    All providers.

    :ivar _roles: Those whose people have a role, by what follows the region in its ARN.
    :ivar _by_claim: The one whose tokens name policies.
    """

    _clock: IReactorTime
    _roles: dict[str, Provider] = field(factory=dict)
    _by_claim: Provider | None = None

    @classmethod
    def make(cls, clock: IReactorTime, get: Get, settings: Iterable[OpenIDSettings]) -> "OpenID":
        """
        Put them together; none is asked before somebody logs in.
        """
        made = cls(clock)
        for one in settings:
            provider = Provider(one, get, clock)
            if one.role_policies:
                made._roles[_role_name(one.role)] = provider
            else:
                made._by_claim = provider
        return made

    async def login(self, token: str, role: str, access_token: str) -> Login:
        """
        Find out whose token it is.
        """
        provider = self._provider(role)
        settings = provider.settings
        header = read_header(token)
        known, keys = await provider.keys(header)
        claims = read_claims(token, header, keys)
        expires = check_claims(claims, known.issuer, settings.client_id, self._clock.seconds())
        if settings.userinfo:
            told = await provider.userinfo(known, access_token)
            if told.get("sub") != claims["sub"]:
                raise LoginRefused("The access token is not that of the same person.")
            claims = {**told, **claims}
        subject, values = claims["sub"], _condition_values(claims)
        policies = settings.role_policies or _policies(claims.get(settings.claim))
        if sum(map(len, (*policies, *chain.from_iterable(values.values())))) > MOST_TEXT:
            raise LoginRefused("The claims are too large.")
        return Login(
            parent_of(subject, known.issuer),
            subject,
            "openid",
            policies=policies,
            claims=values,
            expires=expires,
        )

    def _provider(self, role: str) -> Provider:
        found = self._roles.get(_role_name(role)) if _ROLES.fullmatch(role) else None
        provider = found or self._by_claim
        if provider is None:
            raise LoginRefused(f"Role {role[:256]} does not exist")
        return provider


def parent_of(subject: str, issuer: str) -> str:
    """
    In whose name somebody acts whom a provider knows by *subject*.
    """
    digest = sha256(f"openid:{subject}:{issuer}".encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _role_name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _policies(claim: Any) -> tuple[str, ...]:
    """
    The names of policies in a claim, which has them in a list or behind commas.
    """
    texts = claim if isinstance(claim, list) else [claim]
    names = [name.strip() for text in texts if isinstance(text, str) for name in text.split(",")]
    found = tuple(dict.fromkeys(filter(None, names)))
    if not found:
        raise LoginRefused(_NO_POLICY)
    return found


def _condition_values(claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name in CLAIMS:
        value = claims.get(name)
        texts = [_text(one) for one in (value if isinstance(value, list) else [value])]
        values = tuple(text for text in texts if text is not None)
        if values:
            found[f"jwt:{name}"] = values
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None

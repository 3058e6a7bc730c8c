# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Somebody whom another service knows: what a login says of them, and how it fails.
"""

from collections.abc import Mapping, Sequence

from attrs import define, field, frozen
from zope.interface import Interface

from kypello.errors import KypelloError

#: What all who do not get in by a password are told, whatever the reason is.
NO_LOGIN = "The user name or the password is wrong, or no policy is attached."


@define(eq=False)
class LoginRefused(KypelloError):
    """
    Who asks has not shown who they are, or nothing is granted to them.

    :ivar reason: Why, for whoever asks; holds no secret.
    :ivar detail: Why, for the log alone: what would help to guess.
    """

    reason: str
    detail: str = ""


@define(eq=False)
class LoginExpired(LoginRefused):
    """
    What was shown has been valid.
    """


@define(eq=False)
class ProviderUnreachable(KypelloError):
    """
    The service that knows them does not answer, or not as it should; to try again may help.

    :ivar reason: What was tried, for the log.
    """

    reason: str


@frozen
class Login:
    """
    What is known of somebody who has shown who they are.

    :ivar parent: In whose name they act from now on.
    :ivar subject: As the service calls them.
    :ivar provider: ``openid``, ``ldap`` or ``tls``.
    :ivar policies: The names of policies that the service gives them; ``None`` when those that
        are attached to the parent and the groups count.
    :ivar claims: Values of condition keys, by lower-case name such as ``jwt:sub``.
    :ivar expires: When what they have shown ends, in seconds since the epoch; ``None`` for never.
    """

    parent: str
    subject: str
    provider: str
    policies: tuple[str, ...] | None = None
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Sequence[str]] = field(factory=dict)
    expires: float | None = None


class IWebIdentities(Interface):
    """
    Those who have a token of an OpenID provider.
    """

    async def login(token: str, role: str, access_token: str) -> Login:
        """
        Find out whose token it is.

        :param token: The ID token.
        :param role: The ARN of the role that is asked for; may be empty.
        :param access_token: For the provider's userinfo, where that is wanted; may be empty.
        :raises LoginExpired: The token has been valid.
        :raises LoginRefused:
        :raises ProviderUnreachable: The keys of the provider are not known, and cannot be
            fetched.
        """


class IDirectory(Interface):
    """
    Those who have a password in a directory.
    """

    async def login(user: str, password: str) -> Login:
        """
        Find somebody in the directory, and see that the password is theirs.

        :raises LoginRefused: One and the same reason for whatever does not match.
        :raises ProviderUnreachable:
        """

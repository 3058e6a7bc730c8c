# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is told about accounts, and what they are made of.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final

from attrs import field, frozen

from kypello.model import Kind
from kypello.policy.document import Policy

#: Who says who a session belongs to: this server itself; others are ``openid``, ``ldap``, ``tls``.
BUILTIN: Final = "builtin"

_NO_CLAIMS: Mapping[str, tuple[str, ...]] = {}


class Unchanged(Enum):
    """
    The value of an argument that changes nothing, where ``None`` means something.
    """

    UNCHANGED = "unchanged"


#: Leaves it as it is.
UNCHANGED: Final = Unchanged.UNCHANGED


class HolderKind(StrEnum):
    """
    What can have policies.

    A subject is somebody whom an identity provider knows, or a group there: an LDAP DN, a digest
    of an OpenID subject, ``tls:`` and the common name of a certificate.  None of them is kept as
    a user or a group.
    """

    USER = "user"
    GROUP = "group"
    SUBJECT = "subject"


@frozen
class Holder:
    """
    Somebody who has policies, or can have them.
    """

    kind: HolderKind
    name: str


@frozen
class UserInfo:
    """
    A user.

    :ivar enabled: Whether they, and what acts for them, may sign.
    :ivar policies: Names, sorted; a policy of the name need not exist any more.
    :ivar groups: Names, sorted.
    :ivar updated: Nanoseconds since the epoch.
    """

    name: str
    enabled: bool
    policies: tuple[str, ...]
    groups: tuple[str, ...]
    updated: int


@frozen
class GroupInfo:
    """
    A group of users.

    :ivar enabled: Whether it gives its members anything.
    :ivar members: Names, sorted.
    :ivar policies: Names, sorted.
    :ivar updated: Nanoseconds since the epoch.
    """

    name: str
    enabled: bool
    members: tuple[str, ...]
    policies: tuple[str, ...]
    updated: int


@frozen
class PolicyInfo:
    """
    A policy that can be attached.

    :ivar created: Nanoseconds since the epoch; ``None`` for a canned policy that is not kept.
    :ivar updated: Likewise.
    """

    name: str
    policy: Policy
    created: int | None
    updated: int | None


@frozen
class KeyInfo:
    """
    A service account or a session.

    :ivar parent: In whose name it acts: the root user, a user or a subject.
    :ivar kind: :attr:`Kind.SERVICE` or :attr:`Kind.SESSION`.
    :ivar enabled: Whether it may sign; its parent has to be enabled, too.
    :ivar policy: What limits it: what its parent may do, and this does not allow, it may not do;
        ``None`` for no limit.
    :ivar policies: The names of the policies that it has in place of those of its parent;
        ``None`` when it has those of its parent.
    :ivar expires: Seconds since the epoch; ``None`` for never.
    :ivar groups: Of a subject, as its identity provider named them.
    :ivar provider: Who knows the parent: ``builtin``, ``openid``, ``ldap`` or ``tls``.
    :ivar claims: Condition keys by lower-case name: ``jwt:sub``, ``ldap:user``, ...
    :ivar revoke_type: By what the sessions of a parent are told apart when they are revoked.
    :ivar updated: Nanoseconds since the epoch.
    """

    access_key: str
    parent: str
    kind: Kind
    enabled: bool
    policy: Policy | None
    policies: tuple[str, ...] | None
    name: str
    description: str
    expires: float | None
    groups: tuple[str, ...]
    provider: str
    claims: Mapping[str, tuple[str, ...]]
    revoke_type: str
    updated: int


@frozen
class NewKey:
    """
    A service account to be made; see :class:`KeyInfo`.

    :ivar parent: The root user or a user; with another *provider*, a subject.
    :ivar policy: As ``parse_session_policy`` read it.
    """

    access_key: str
    secret_key: str = field(repr=False)
    parent: str
    policy: Policy | None = None
    policies: tuple[str, ...] | None = None
    name: str = ""
    description: str = ""
    expires: float | None = None
    enabled: bool = True
    groups: tuple[str, ...] = ()
    claims: Mapping[str, tuple[str, ...]] = _NO_CLAIMS
    provider: str = BUILTIN


@frozen
class Session:
    """
    The credentials of a session that was made.

    :ivar token: What has to come with each request.
    :ivar expires: Seconds since the epoch.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    expires: float


@frozen
class Secret:
    """
    The secret key of a user or a service account, to be exported.

    :ivar about: Whose it is.
    """

    about: UserInfo | KeyInfo
    secret_key: str = field(repr=False)

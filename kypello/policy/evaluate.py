# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The decision.
"""

from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from kypello.model import Kind, Question
from kypello.policy.document import Policy
from kypello.policy.publicaccess import PublicAccessBlock


class Policies:
    """
    Several documents, compiled for deciding fast.  Immutable; keep it as long as they hold.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        """
        Compile.
        """
        self._policies = tuple(policies)


@frozen
class Grants:
    """
    What somebody may do by who they are.

    :ivar unlimited: The root user, and what acts for it.
    :ivar policies: Of the user and of its groups.
    :ivar limits: Of a session or an access key: each must allow, too.
    """

    unlimited: bool
    policies: Policies
    limits: tuple[Policies, ...] = ()


@frozen
class Asker:
    """
    Who asks, as policies see it.

    :ivar kind: ``None`` when anonymous.
    :ivar user: In whose name; empty when anonymous.
    :ivar claims: Values of condition keys that an identity provider vouches for, by lower-case
        name: ``jwt:sub``, ``ldap:user``, ...
    """

    kind: Kind | None = None
    user: str = ""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Sequence[str]] = field(factory=dict)


#: What an anonymous request brings along.
NOTHING = Grants(False, Policies(()))


def decide(
    question: Question,
    asker: Asker,
    grants: Grants,
    bucket_policy: Policies | None = None,
    block: PublicAccessBlock | None = None,
    tags: Mapping[str, str] | None = None,
) -> bool:
    """
    Whether somebody may do something.

    :param grants: :data:`NOTHING` for an anonymous request.
    :param bucket_policy: Of the bucket that it is about.
    :param tags: What :attr:`Question.existing_tags` gave, where :func:`needs_tags` asks for it.
    """
    raise NotImplementedError


def decide_key(question: Question, asker: Asker, grants: Grants) -> bool:
    """
    Whether somebody may have a master key used, as :meth:`IAuthorizer.allows_key` tells.
    """
    raise NotImplementedError


def needs_tags(question: Question, grants: Grants, bucket_policy: Policies | None = None) -> bool:
    """
    Whether the tags of the object have to be known to :func:`decide`.
    """
    raise NotImplementedError

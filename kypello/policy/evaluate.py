# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The decision.

A statement that denies decides; else one that allows, of the policies of who asks or of the
bucket, where all limits allow, too; else the answer is no.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from kypello.model import Kind, Question
from kypello.policy.actions import DATA_ACTIONS, INCLUDED, canonical
from kypello.policy.compiled import Policies, Verdict, Whom
from kypello.policy.keys import EXISTING_TAG
from kypello.policy.publicaccess import PublicAccessBlock
from kypello.policy.wildcards import Lookup

__all__ = [
    "NOTHING",
    "WAY_OUT",
    "Asker",
    "Grants",
    "Policies",
    "Verdict",
    "decide",
    "decide_key",
    "lookup",
    "needs_tags",
]

#: What the root user may do although a bucket denies it: else a bucket could be locked for ever.
WAY_OUT = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})


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
    if asker.kind is None and bucket_policy is not None and block is not None:
        restricted = block.restrict_public_buckets and bucket_policy.public
        bucket_policy = None if restricted else bucket_policy
    values = lookup(question, asker, grants, tags)
    action = canonical(question.action)
    verdict = _judge(action, question.resource, values, asker, grants, bucket_policy)
    included = INCLUDED.get(action)
    if verdict is Verdict.NONE and included is not None:
        verdict = _judge(included, question.resource, values, asker, grants, bucket_policy)
    return verdict is Verdict.ALLOW


def decide_key(question: Question, asker: Asker, grants: Grants) -> bool:
    """
    Whether somebody may have a master key used.

    They may unless policies of theirs deny it, or allow such actions with some key: then these
    have to allow it with this one.

    :param question: One of :data:`DATA_ACTIONS` and the name of the key.
    """
    values = lookup(question, asker, grants)
    whom = _whom(asker, grants)
    own = () if grants.unlimited else (grants.policies,)
    for policies in (*own, *grants.limits):
        verdict = policies.verdict(question.action, question.resource, values, whom)
        if verdict is Verdict.DENY:
            return False
        if verdict is Verdict.NONE and policies.mentions(DATA_ACTIONS):
            return False
    return True


def needs_tags(question: Question, grants: Grants, bucket_policy: Policies | None = None) -> bool:
    """
    Whether the tags of the object have to be known to :func:`decide`.
    """
    if question.existing_tags is None:
        return False
    action = canonical(question.action)
    actions = (action, INCLUDED[action]) if action in INCLUDED else (action,)
    return any(
        policies is not None and policies.asks_tags(one, question.resource)
        for policies in (grants.policies, *grants.limits, bucket_policy)
        for one in actions
    )


def lookup(
    question: Question,
    asker: Asker,
    grants: Grants,
    tags: Mapping[str, str] | None = None,
) -> Lookup:
    """
    What condition keys have: for :meth:`Policies.verdict`.

    What depends on who asks is never taken from the request.
    """
    # A thousand statements may ask for the same, and not every value comes cheap.
    known = _of_asker(asker, grants)

    def find(key: str) -> Sequence[str]:
        given = known.get(key)
        if given is None:
            given = known[key] = other(key)
        return given

    def other(key: str) -> Sequence[str]:
        if key.startswith(EXISTING_TAG):
            value = tags.get(key.removeprefix(EXISTING_TAG)) if tags else None
            return () if value is None else (value,)
        if key.startswith(("jwt:", "ldap:")):
            return asker.claims.get(key, ())
        return question.values(key) or ()

    return find


def _judge(
    action: str,
    resource: str,
    values: Lookup,
    asker: Asker,
    grants: Grants,
    bucket_policy: Policies | None,
) -> Verdict:
    """
    What all policies together say about one action.
    """
    whom = _whom(asker, grants)
    bucket = Verdict.NONE
    if bucket_policy is not None and action != "s3:ListAllMyBuckets":
        bucket = bucket_policy.verdict(action, resource, values, whom)
    if asker.kind is None:
        return bucket
    if grants.unlimited:
        own = Verdict.ALLOW
        if action in WAY_OUT:
            bucket = Verdict.NONE
    else:
        own = grants.policies.verdict(action, resource, values, whom)
    limits = [limit.verdict(action, resource, values, whom) for limit in grants.limits]
    if bucket is Verdict.DENY or own is Verdict.DENY or Verdict.DENY in limits:
        return Verdict.DENY
    if Verdict.NONE in limits:
        return Verdict.NONE
    return bucket if own is Verdict.NONE else own


def _whom(asker: Asker, grants: Grants) -> Whom:
    return Whom(None if asker.kind is None else asker.user, grants.unlimited)


def _of_asker(asker: Asker, grants: Grants) -> dict[str, Sequence[str]]:
    """
    The condition keys that tell who asks.
    """
    name: Sequence[str] = ()
    arn: Sequence[str] = ()
    if asker.kind is not None:
        name = (asker.user,)
        arn = (f"arn:aws:iam:::{'root' if grants.unlimited else f'user/{asker.user}'}",)
    return {
        "aws:username": name,
        "aws:userid": name,
        "aws:principalarn": arn,
        "aws:principaltype": ("Anonymous" if asker.kind is None else asker.kind.value,),
        "aws:groups": asker.groups,
    }

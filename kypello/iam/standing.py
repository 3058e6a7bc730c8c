# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who somebody is, and what they may do, as the records tell it: pure.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import field, frozen

from kypello.iam.keys import limit
from kypello.iam.ledger import Seen
from kypello.iam.policies import parsed
from kypello.iam.records import (
    GroupRecord,
    KeyRecord,
    Owner,
    PolicyRecord,
    SubjectRecord,
    UserRecord,
    group_key,
    key_key,
    policy_key,
    root_birth,
    subject_key,
    user_key,
)
from kypello.model import Identity, Kind
from kypello.policy.canned import CANNED
from kypello.policy.document import Policy
from kypello.policy.evaluate import Asker

#: What a standing was told by, as it is kept: the generation, and the record of the access key.
Stamp: TypeAlias = Mapping[bytes, bytes | None]


@frozen
class Standing:
    """
    Somebody who is not the root user.

    :ivar stamp: What this was told by; as long as that is the same, so is this.
    :ivar unlimited: Whether they act for the root user.
    :ivar policies: Those of the user and of its groups.
    :ivar limits: Of a session or a service account.
    """

    stamp: Stamp = field(repr=False)
    identity: Identity
    asker: Asker
    unlimited: bool
    policies: tuple[Policy, ...]
    limits: tuple[Policy, ...] = ()


@frozen
class _Parent:
    """
    What a user has, and a key by its parent.
    """

    enabled: bool
    groups: tuple[str, ...]
    policies: tuple[Policy, ...]


def standing_of_user(seen: Seen, access_key: str) -> Standing | None:
    """
    Who has the access key of a user; ``None`` when it is none.

    :raises Unread: More records are needed to tell.
    :raises Damaged:
    """
    user = seen.get(UserRecord, user_key(access_key))
    if user is None:
        return None
    own = _of_user(seen, user)
    return Standing(
        seen.stamp(user_key(access_key)),
        Identity(access_key, user.secret, Kind.USER, access_key, user.enabled),
        Asker(Kind.USER, access_key, own.groups),
        False,
        own.policies,
    )


def standing_of_key(seen: Seen, access_key: str, root: Identity) -> Standing | None:
    """
    Who has the access key of a service account or a session; ``None`` when it is none, or their
    parent is not there any more.

    :raises Unread: More records are needed to tell.
    :raises Damaged:
    """
    record = seen.get(KeyRecord, key_key(access_key))
    if record is None:
        return None
    parent = _parent(seen, record, root)
    if parent is None:
        return None
    kind = Kind.SESSION if record.session else Kind.SERVICE
    name = root.access_key if record.owner is Owner.ROOT else record.parent
    enabled = record.enabled and parent.enabled
    policies, unlimited = parent.policies, record.owner is Owner.ROOT
    if record.policies is not None:
        policies, unlimited = _policies(seen, record.policies), False
    own = limit(access_key, record)
    return Standing(
        seen.stamp(key_key(access_key)),
        Identity(access_key, record.secret, kind, name, enabled, record.token, record.expires),
        Asker(kind, name, parent.groups, record.claims),
        unlimited,
        policies,
        () if own is None else (own,),
    )


def _parent(seen: Seen, record: KeyRecord, root: Identity) -> _Parent | None:
    """
    What a key has by its parent; ``None`` when it is not there any more.
    """
    if record.owner is Owner.ROOT:
        alive = not record.session or record.birth == root_birth(root)
        return _Parent(True, (), ()) if alive else None
    if record.owner is Owner.USER:
        user = seen.get(UserRecord, user_key(record.parent))
        if user is None or user.birth != record.birth:
            return None
        return _of_user(seen, user)
    names = (record.parent, *record.groups)
    subjects = seen.several(SubjectRecord, [subject_key(name) for name in names])
    attached = [name for subject in subjects if subject for name in subject.policies]
    return _Parent(True, record.groups, _policies(seen, attached))


def _of_user(seen: Seen, user: UserRecord) -> _Parent:
    """
    What a user has, with what its groups give: those that are disabled give nothing.
    """
    records = seen.several(GroupRecord, [group_key(name) for name in user.groups])
    groups = {
        name: group.policies
        for name, group in zip(user.groups, records, strict=True)
        if group is not None and group.enabled
    }
    names = [name for policies in (user.policies, *groups.values()) for name in policies]
    return _Parent(user.enabled, tuple(groups), _policies(seen, names))


def _policies(seen: Seen, names: Iterable[str]) -> tuple[Policy, ...]:
    """
    The policies of these names, each once; names without a policy give nothing.
    """
    wanted = sorted(set(names))
    records = seen.several(PolicyRecord, [policy_key(name) for name in wanted])
    found = (
        CANNED.get(name) if record is None else parsed(name, record)
        for name, record in zip(wanted, records, strict=True)
    )
    return tuple(policy for policy in found if policy is not None)

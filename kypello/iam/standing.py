# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who somebody is, and what they may do, as the records tell it: pure.
"""

from collections.abc import Iterable
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

#: What a standing was told by: the generation, and the record of the access key itself.
Stamp: TypeAlias = tuple[bytes | None, bytes | None]


@frozen
class Standing:
    """
    Somebody who is not the root user.

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
    What a key has by its parent.
    """

    enabled: bool
    groups: tuple[str, ...]
    policies: tuple[Policy, ...]


def own_keys(access_key: str) -> tuple[bytes, bytes]:
    """
    Where the record of an access key is: one of these.
    """
    return user_key(access_key), key_key(access_key)


def stamp(seen: Seen, access_key: str) -> Stamp | None:
    """
    What :func:`standing` is going to be told by; ``None`` when there is no such access key.
    """
    user, key = (seen.values[each] for each in own_keys(access_key))
    own = key if user is None else user
    return None if own is None else (seen.generation, own)


def standing(seen: Seen, access_key: str, root: Identity) -> Standing | None:
    """
    Who has an access key; ``None`` for nobody.

    :raises Unread: More records are needed to tell.
    :raises Damaged:
    """
    known = stamp(seen, access_key)
    if known is None:
        return None
    user = seen.get(UserRecord, user_key(access_key))
    if user is not None:
        identity = Identity(access_key, user.secret, Kind.USER, access_key, user.enabled)
        asker = Asker(Kind.USER, access_key, user.groups)
        return Standing(known, identity, asker, False, _policies_of_user(seen, user))
    record = seen.get(KeyRecord, key_key(access_key))
    assert record is not None
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
        known,
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
        return _Parent(user.enabled, user.groups, _policies_of_user(seen, user))
    names = (record.parent, *record.groups)
    subjects = seen.several(SubjectRecord, [subject_key(name) for name in names])
    attached = [name for subject in subjects if subject for name in subject.policies]
    return _Parent(True, record.groups, _policies(seen, attached))


def _policies_of_user(seen: Seen, user: UserRecord) -> tuple[Policy, ...]:
    groups = seen.several(GroupRecord, [group_key(name) for name in user.groups])
    inherited = [name for group in groups if group and group.enabled for name in group.policies]
    return _policies(seen, [*user.policies, *inherited])


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

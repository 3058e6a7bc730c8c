# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Policies by name, and who has them.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec.structs import replace

from kypello.errors import (
    Damaged,
    MalformedPolicy,
    NoPolicyChange,
    NoSuchPolicy,
    PolicyInUse,
    PolicyProtected,
)
from kypello.iam.ledger import Draft
from kypello.iam.limits import check_policy, check_subject
from kypello.iam.part import Part, existing_group, existing_user
from kypello.iam.records import (
    GROUPS,
    POLICIES,
    SUBJECTS,
    USERS,
    GroupRecord,
    PolicyRecord,
    SubjectRecord,
    UserRecord,
    group_key,
    policy_key,
    subject_key,
    user_key,
)
from kypello.iam.values import Holder, HolderKind, PolicyInfo
from kypello.policy.canned import CANNED
from kypello.policy.document import Policy, parse_policy


class NamedPolicies(Part):
    """
    Policies by name, and who has them.

    Failures are those of :class:`kypello.iam.users.Users`.
    """

    async def put_policy(self, name: str, policy: Policy) -> None:
        """
        Keep a policy, in place of the one of this name, also of a canned one.

        :raises InvalidAccount: The name, or the policy is too large.
        """
        check_policy(name, policy)

        async def work(draft: Draft) -> None:
            """
            Write it.
            """
            key, now = policy_key(name), self._now()
            known = await draft.get(PolicyRecord, key)
            created = now if known is None else known.created
            draft.put(key, PolicyRecord(policy.text, created, now))

        await self._ledger.change(work)

    async def remove_policy(self, name: str) -> None:
        """
        Remove a policy; a canned one comes back that it had taken the place of.

        :raises NoSuchPolicy:
        :raises PolicyProtected:
        :raises PolicyInUse:
        """

        async def work(draft: Draft) -> None:
            """
            Remove it.
            """
            if not await draft.holds(policy_key(name)):
                raise PolicyProtected(name) if name in CANNED else NoSuchPolicy(name)
            if any(name in held for held in (await self.holders()).values()):
                raise PolicyInUse(name)
            draft.remove(policy_key(name))

        await self._ledger.change(work)

    async def policy(self, name: str) -> PolicyInfo:
        """
        Tell about a policy.

        :raises NoSuchPolicy:
        """
        key = policy_key(name)
        record = (await self._ledger.read((key,))).get(PolicyRecord, key)
        if record is not None:
            return _policy(name, record)
        if name in CANNED:
            return PolicyInfo(name, CANNED[name], None, None)
        raise NoSuchPolicy(name)

    async def policies(self) -> Sequence[PolicyInfo]:
        """
        All policies by name, also the canned ones.
        """
        found = {name: PolicyInfo(name, policy, None, None) for name, policy in CANNED.items()}
        async for name, record in self._ledger.scan(PolicyRecord, POLICIES):
            found[name] = _policy(name, record)
        return [found[name] for name in sorted(found)]

    async def attach(self, names: Iterable[str], holder: Holder) -> tuple[str, ...]:
        """
        Give somebody more policies.

        :return: Those that it had not.
        :raises NoSuchPolicy:
        :raises NoSuchUser:
        :raises NoSuchGroup:
        :raises InvalidAccount: The name of the subject.
        :raises NoPolicyChange:
        """
        wanted = tuple(dict.fromkeys(names))

        async def work(draft: Draft) -> tuple[str, ...]:
            """
            Add them.
            """
            held = await _held(draft, holder)
            await _require(draft, wanted)
            fresh = tuple(name for name in wanted if name not in held)
            if not fresh:
                raise NoPolicyChange()
            await self._give(draft, holder, (*held, *fresh))
            return fresh

        return await self._ledger.change(work)

    async def detach(self, names: Iterable[str], holder: Holder) -> tuple[str, ...]:
        """
        Take policies from somebody.

        :return: Those that it had.
        :raises NoSuchUser:
        :raises NoSuchGroup:
        :raises NoPolicyChange:
        """
        unwanted = tuple(dict.fromkeys(names))

        async def work(draft: Draft) -> tuple[str, ...]:
            """
            Remove them.
            """
            held = await _held(draft, holder)
            gone = tuple(name for name in unwanted if name in held)
            if not gone:
                raise NoPolicyChange()
            await self._give(draft, holder, [name for name in held if name not in gone])
            return gone

        return await self._ledger.change(work)

    async def set_policies(self, names: Iterable[str], holder: Holder) -> None:
        """
        Give somebody these policies and no others.

        :raises NoSuchPolicy:
        :raises NoSuchUser:
        :raises NoSuchGroup:
        :raises InvalidAccount: The name of the subject.
        """
        wanted = tuple(dict.fromkeys(names))

        async def work(draft: Draft) -> None:
            """
            Write them.
            """
            await _held(draft, holder)
            await _require(draft, wanted)
            await self._give(draft, holder, wanted)

        await self._ledger.change(work)

    async def holders(self) -> Mapping[Holder, tuple[str, ...]]:
        """
        All who have policies, with the names of these.
        """
        ledger = self._ledger
        found: dict[Holder, tuple[str, ...]] = {}
        async for name, user in ledger.scan(UserRecord, USERS):
            found[Holder(HolderKind.USER, name)] = user.policies
        async for name, group in ledger.scan(GroupRecord, GROUPS):
            found[Holder(HolderKind.GROUP, name)] = group.policies
        async for name, subject in ledger.scan(SubjectRecord, SUBJECTS):
            found[Holder(HolderKind.SUBJECT, name)] = subject.policies
        return {holder: policies for holder, policies in found.items() if policies}

    async def attached(self, subjects: Iterable[str]) -> frozenset[str]:
        """
        The names of the policies that some subjects have.
        """
        keys = [subject_key(name) for name in subjects]
        records = (await self._ledger.read(keys)).several(SubjectRecord, keys)
        return frozenset(name for record in records if record for name in record.policies)

    async def _give(self, draft: Draft, holder: Holder, names: Iterable[str]) -> None:
        """
        Write the policies of somebody who is there.
        """
        policies, name = tuple(sorted(names)), holder.name
        if holder.kind is HolderKind.USER:
            user = await existing_user(draft, name)
            draft.put(user_key(name), replace(user, policies=policies))
        elif holder.kind is HolderKind.GROUP:
            group = await existing_group(draft, name)
            draft.put(group_key(name), replace(group, policies=policies))
        elif policies:
            draft.put(subject_key(name), SubjectRecord(policies, self._now()))
        else:
            draft.remove(subject_key(name))


async def _held(draft: Draft, holder: Holder) -> tuple[str, ...]:
    """
    The policies of somebody.

    :raises KypelloError: There is no such user or group, and a subject of this name cannot be.
    """
    if holder.kind is HolderKind.USER:
        return (await existing_user(draft, holder.name)).policies
    if holder.kind is HolderKind.GROUP:
        return (await existing_group(draft, holder.name)).policies
    check_subject(holder.name)
    subject = await draft.get(SubjectRecord, subject_key(holder.name))
    return () if subject is None else subject.policies


async def _require(draft: Draft, names: Iterable[str]) -> None:
    """
    See that there are policies of these names.

    :raises NoSuchPolicy:
    """
    for name in names:
        if name not in CANNED and not await draft.holds(policy_key(name)):
            raise NoSuchPolicy(name)


#: Those who have the same policy share what it was read to.
_parse = lru_cache(256)(parse_policy)


def parsed(name: str, record: PolicyRecord) -> Policy:
    """
    A policy that is kept.

    :raises Damaged: It is none: it was checked when it was put.
    """
    try:
        return _parse(record.text)
    except MalformedPolicy as error:
        raise Damaged(f"the policy {name}: {error.reason}") from error


def _policy(name: str, record: PolicyRecord) -> PolicyInfo:
    return PolicyInfo(name, parsed(name, record), record.created, record.updated)

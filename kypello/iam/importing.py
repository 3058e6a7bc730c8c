# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The import of an archive of accounts.

Nobody may get more by a move than they had: where a policy, or the limit of a key, cannot be
brought over exactly, what depends on it is not brought over either, and the report says so.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from kypello.errors import (
    AccessKeyTaken,
    InvalidAccount,
    KeyNotAllowed,
    MalformedPolicy,
    NoSuchAccessKey,
    NoSuchGroup,
    NoSuchPolicy,
    NoSuchUser,
)
from kypello.iam import limits
from kypello.iam.accounts import Accounts
from kypello.iam.archivefile import Archive, ArchivedGroup, ArchivedKey, ArchivedUser
from kypello.iam.importreport import Item, Outcome, Thing
from kypello.iam.present import Present, look_around, same_document, same_limit
from kypello.iam.subjects import bound_policies, read_claims
from kypello.iam.values import BUILTIN, Holder, HolderKind, KeyInfo, NewKey
from kypello.model import Kind
from kypello.policy.canned import CANNED
from kypello.policy.document import parse_policy, parse_session_policy

#: Tells whether who imports may do an action.
May: TypeAlias = Callable[[str], Awaitable[bool]]

#: Rights to give policies to somebody; one of them will do.
_ATTACH = ("admin:AttachUserOrGroupPolicy", "admin:UpdatePolicyAssociation")

#: After how many things others get their turn.
_SHIFT = 64

_Outcome: TypeAlias = tuple[Outcome, str]

_MAPPINGS = (
    (Thing.USER_POLICIES, HolderKind.USER),
    (Thing.GROUP_POLICIES, HolderKind.GROUP),
    (Thing.SUBJECT_POLICIES, HolderKind.SUBJECT),
)

#: What can be wrong with one thing, and how to say it.
_WORDS: Mapping[type[Exception], Callable[[Any], str]] = {
    InvalidAccount: lambda error: error.reason,
    MalformedPolicy: lambda error: error.reason,
    KeyNotAllowed: lambda error: error.reason,
    NoSuchUser: lambda error: f"there is no user {error.name}",
    NoSuchGroup: lambda error: f"there is no group {error.name}",
    NoSuchPolicy: lambda error: f"there is no policy {error.name}",
    AccessKeyTaken: lambda error: "its access key is that of somebody else here",
    NoSuchAccessKey: lambda error: "it was removed meanwhile",
}


class _Stopped(Exception):  # not all of them are errors
    """
    Something is not imported.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        """
        :param reason: Why, for people.
        """
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


@frozen(eq=False)
class Importer:
    """
    Who imports.

    :ivar user: In whose name.
    :ivar may: Tells whether an action is allowed, such as ``admin:CreateUser``.
    :ivar unlimited: Whether it is the root user, who alone makes keys of the root user.
    :ivar derived: Whether it is a session or a service account, which gets no other credentials
        of its user: they might do more.
    """

    user: str
    may: May
    unlimited: bool = False
    derived: bool = False


@frozen
class _Parent:
    """
    In whose name a key acts; see :class:`NewKey`.
    """

    name: str
    provider: str = BUILTIN
    claims: Mapping[str, tuple[str, ...]] = field(factory=dict)
    policies: tuple[str, ...] | None = None


@define(eq=False)
class Importing:
    """
    One import.  :func:`kypello.iam.archive.import_archive` says what it is told.
    """

    _accounts: Accounts
    _archive: Archive
    _importer: Importer
    _root: str
    _clock: IReactorTime
    _dry_run: bool
    _old_root: str
    _items: list[Item] = field(init=False, factory=list)
    _rights: dict[str, bool] = field(init=False, factory=dict)
    _here: Present = field(init=False)
    _begun: int = field(init=False, default=0)

    async def run(self) -> list[Item]:
        """
        Do it all, in the order in which things need each other.
        """
        self._here = await look_around(self._accounts)
        archive = self._archive
        for odd in archive.odd:
            self._items.append(Item(odd.thing, odd.name, Outcome.LEFT_OUT, odd.reason))
            if odd.thing is Thing.POLICY:
                self._here.refused.add(odd.name)
        for name, text in archive.policies.items():
            await self._one(Thing.POLICY, name, self._policy(name, text))
        for name, user in archive.users.items():
            await self._one(Thing.USER, name, self._user(name, user))
        for name, group in archive.groups.items():
            await self._one(Thing.GROUP, name, self._group(name, group))
        held = (archive.user_policies, archive.group_policies, archive.subject_policies)
        for (thing, kind), mappings in zip(_MAPPINGS, held, strict=True):
            for name, policies in mappings.items():
                holder = Holder(HolderKind.SUBJECT if "=" in name else kind, name)
                await self._one(thing, name, self._mapping(holder, policies), policies)
        for name, key in archive.keys.items():
            await self._one(Thing.KEY, name, self._key(name, key))
        return self._items

    async def _one(
        self,
        thing: Thing,
        name: str,
        work: Awaitable[_Outcome],
        policies: tuple[str, ...] = (),
    ) -> None:
        """
        Do one thing, and write down what became of it.
        """
        self._begun += 1
        if self._begun % _SHIFT == 0:
            # Nothing below need wait for anything, and a worker has others to serve.
            await deferLater(self._clock, 0)
        try:
            outcome, reason = await work
        except _Stopped as stopped:
            outcome, reason = stopped.outcome, stopped.reason
        except tuple(_WORDS) as error:
            outcome, reason = Outcome.FAILED, _WORDS[type(error)](error)
        self._items.append(Item(thing, name, outcome, reason, policies))

    async def _require(self, *actions: str) -> None:
        """
        See that who imports may do one of these.
        """
        for action in actions:
            if action not in self._rights:
                self._rights[action] = await self._importer.may(action)
            if self._rights[action]:
                return
        raise _Stopped(Outcome.FAILED, f"whoever imports may not do {actions[0]}")

    def _check_owner(self, user: str) -> None:
        if self._importer.derived and user == self._importer.user:
            raise _Stopped(Outcome.FAILED, "a key cannot import credentials of its own user")

    async def _policy(self, name: str, text: bytes) -> _Outcome:
        here = self._here
        known = here.policies.get(name)
        if known is not None and same_document(known.text, text):
            return Outcome.UNCHANGED, ""
        here.refused.add(name)
        if name in CANNED:
            raise _Stopped(
                Outcome.LEFT_OUT,
                "this server has a policy of this name by itself, which says something else",
            )
        await self._require("admin:CreatePolicy")
        policy = parse_policy(text)
        limits.check_policy(name, policy)
        if not policy.statements:
            raise _Stopped(Outcome.LEFT_OUT, "it has no statements")
        if not self._dry_run:
            await self._accounts.put_policy(name, policy)
        here.policies[name] = policy
        here.refused.remove(name)
        return _done(known), ""

    async def _user(self, name: str, user: ArchivedUser) -> _Outcome:
        # Before the secrets are compared: nobody finds out by trying what they are.
        await self._require("admin:CreateUser")
        limits.check_access_key(name, self._root)
        limits.check_secret_key(user.secret_key)
        self._check_owner(name)
        here = self._here
        known = here.users.get(name)
        if known == user:
            return Outcome.UNCHANGED, ""
        if name in here.keys:
            raise AccessKeyTaken(name)
        if known is not None and known.enabled != user.enabled:
            await self._require("admin:EnableUser" if user.enabled else "admin:DisableUser")
        if not self._dry_run:
            await self._accounts.set_user(name, user.secret_key, user.enabled)
        here.users[name] = user
        return _done(known), ""

    async def _group(self, name: str, group: ArchivedGroup) -> _Outcome:
        await self._require("admin:AddUserToGroup")
        limits.check_group(name)
        known = self._here.groups.get(name)
        had = known.members if known is not None else ()
        new = [each for each in dict.fromkeys(group.members) if each not in had]
        for each in new:
            if each not in self._here.users:
                reason = f"there is no user {each}"
                self._items.append(Item(Thing.MEMBER, name, Outcome.LEFT_OUT, reason))
        new = [each for each in new if each in self._here.users]
        switched = group.enabled != (known is None or known.enabled)
        if known is not None and not new and not switched:
            return Outcome.UNCHANGED, ""
        if known is not None and switched:
            await self._require("admin:EnableGroup" if group.enabled else "admin:DisableGroup")
        if not self._dry_run:
            if known is None or new:
                await self._accounts.add_members(name, new)
            if switched:
                await self._accounts.set_group_enabled(name, group.enabled)
        self._here.groups[name] = ArchivedGroup(group.enabled, (*had, *new))
        return _done(known), ""

    def _known(self, policies: Iterable[str]) -> tuple[str, ...]:
        """
        Those of some policies that are here as they were there.

        What an archive with policies lacks was not there either, and gave nothing; one of the same
        name that is here may give something.
        """
        here = self._here
        for policy in policies:
            if policy in here.refused:
                raise _Stopped(
                    Outcome.FAILED,
                    f"the policy {policy} did not come over, and may forbid something",
                )
        there = self._archive.policies or here.policies
        return tuple(sorted({each for each in policies if each in there.keys() & here.policies}))

    async def _mapping(self, holder: Holder, policies: tuple[str, ...]) -> _Outcome:
        await self._require(*_ATTACH)
        here, name = self._here, holder.name
        if holder.kind is HolderKind.USER and name not in here.users:
            raise NoSuchUser(name)
        if holder.kind is HolderKind.GROUP and name not in here.groups:
            raise NoSuchGroup(name)
        limits.check_subject(name)
        wanted = self._known(policies)
        gone = ", ".join(each for each in policies if each not in wanted)
        reason = f"without {gone}: no such policy" if gone else ""
        if not wanted:
            raise _Stopped(Outcome.LEFT_OUT, reason)
        known = here.holders.get(holder, ())
        if set(known) == set(wanted):
            return Outcome.UNCHANGED, reason
        if not self._dry_run:
            await self._accounts.set_policies(wanted, holder)
        return _done(known or None), reason

    async def _key(self, access_key: str, key: ArchivedKey) -> _Outcome:
        known = self._here.keys.get(access_key)
        await self._require(
            "admin:CreateServiceAccount" if known is None else "admin:UpdateServiceAccount"
        )
        parent = self._parent(key)
        self._check_owner(parent.name)
        if parent.provider != BUILTIN:
            # What the archive says of them gives them policies.
            await self._require(*_ATTACH)
        bound = None if parent.policies is None else self._known(parent.policies)
        if key.expires is not None and key.expires <= self._clock.seconds():
            raise _Stopped(Outcome.LEFT_OUT, "it has expired")
        name, description, reason = _labels(key)
        new = NewKey(
            access_key=access_key,
            secret_key=key.secret_key,
            parent=parent.name,
            policy=None if key.policy is None else parse_session_policy(key.policy),
            policies=bound,
            name=name,
            description=description,
            expires=key.expires,
            enabled=key.enabled,
            groups=key.groups,
            claims=parent.claims,
            provider=parent.provider,
        )
        limits.check_access_key(access_key, self._root)
        limits.check_secret_key(key.secret_key)
        if access_key in self._here.users:
            raise AccessKeyTaken(access_key)
        if known is not None:
            changed = await self._update(known, new)
            return (Outcome.CHANGED if changed else Outcome.UNCHANGED), reason
        limits.check_expiry(key.expires, self._clock.seconds())
        if not self._dry_run:
            await self._accounts.create_key(new)
        self._here.keys[access_key] = new
        self._here.secrets[access_key] = key.secret_key
        return Outcome.ADDED, reason

    def _parent(self, key: ArchivedKey) -> _Parent:
        """
        In whose name a key acts here.

        Only who is no user in the archive can have been the root user there, and only the root
        user may make keys of the root user.
        """
        name, users = key.parent, self._archive.users
        if name in self._here.users and (name in users or not users):
            return _Parent(name)
        if name not in users and name in (self._root, self._old_root):
            if not self._importer.unlimited:
                raise _Stopped(Outcome.FAILED, "only the root user makes keys of the root user")
            return _Parent(self._root)
        provider, claims = read_claims(name, key.claims)
        if provider != BUILTIN:
            limits.check_subject(name)
            return _Parent(name, provider, claims, bound_policies(key.claims))
        reason = f"its user {name} is not here"
        if name not in users:
            reason += "; if that was the root user, say so (--old-root)"
        raise _Stopped(Outcome.LEFT_OUT, reason)

    async def _update(self, known: KeyInfo | NewKey, new: NewKey) -> bool:
        """
        Change a key that is here; tell whether there was anything to change.
        """
        access_key = new.access_key
        session = isinstance(known, KeyInfo) and known.kind is Kind.SESSION
        if session or (known.parent, known.provider) != (new.parent, new.provider):
            raise AccessKeyTaken(access_key)
        changes: dict[str, Any] = {}
        if self._here.secrets[access_key] != new.secret_key:
            changes["secret_key"] = new.secret_key
        for name in ("enabled", "name", "description", "expires"):
            if getattr(known, name) != getattr(new, name):
                changes[name] = getattr(new, name)
        if not same_limit(known.policy, new.policy):
            changes["policy"] = new.policy
        if "expires" in changes:
            limits.check_expiry(new.expires, self._clock.seconds())
        if changes and not self._dry_run:
            await self._accounts.update_key(access_key, **changes)
        return bool(changes)


def _done(known: object | None) -> Outcome:
    return Outcome.ADDED if known is None else Outcome.CHANGED


def _labels(key: ArchivedKey) -> tuple[str, str, str]:
    """
    Name and description of a key, and a remark: a name that is none here becomes a part of the
    description, for a key must not be lost over it.
    """
    try:
        limits.check_labels(key.name, key.description)
    except InvalidAccount:
        told = ": ".join(each for each in (key.name, key.description) if each)
        cut = told.encode("utf-8", "replace")[:256].decode("utf-8", "ignore")
        return "", cut, "what it is called is kept in its description, as far as there is room"
    return key.name, key.description, ""

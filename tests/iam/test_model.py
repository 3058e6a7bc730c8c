# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Accounts against a plain model, through two processes in any order.

A usual run tries the same examples each time; ``KYPELLO_MODEL_EXAMPLES=10000`` tries so many
others.
"""

from collections.abc import Coroutine
from typing import Any

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kypello.errors import (
    AccessKeyTaken,
    GroupNotEmpty,
    KeyNotAllowed,
    KypelloError,
    NoPolicyChange,
    NoSuchAccessKey,
    NoSuchGroup,
    NoSuchPolicy,
    NoSuchUser,
    PolicyInUse,
)
from kypello.iam.accounts import Accounts
from kypello.iam.sessions import TOLD
from kypello.iam.values import Holder, HolderKind, NewKey
from kypello.model import Identity, Question
from tests.cases import SyncCase
from tests.iam.case import ROOT, AccountsCase, limit, policy
from tests.store.machine import try_machine

#: Users and service accounts have the same names, so that they get into each other's way.
NAMES = st.sampled_from(["name-a", "name-b", "name-c"])
PARENTS = st.sampled_from(["name-a", "name-b", "name-c", ROOT.access_key])
GROUPS = st.sampled_from(["group-a", "group-b"])
POLICIES = st.sampled_from(["policy-a", "policy-b", "policy-c"])
PROCESSES = st.integers(0, 1)
ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
SOME = st.sets(st.sampled_from(ACTIONS), min_size=1)


@define
class User:
    """
    A user of the model.
    """

    secret: str
    enabled: bool = True
    policies: set[str] = field(factory=set)
    groups: set[str] = field(factory=set)


@define
class Group:
    """
    A group of the model.
    """

    enabled: bool = True
    policies: set[str] = field(factory=set)


@define
class Key:
    """
    A service account or a session of the model.

    :ivar limit: The actions that it is limited to; ``None`` for no limit.
    :ivar expires: Of a session; ``None`` for a service account.
    """

    parent: str
    secret: str
    limit: set[str] | None
    expires: float | None = None
    policies: set[str] | None = None
    enabled: bool = True


@define
class Rights:
    """
    A policy of the model: what it allows, or denies.
    """

    actions: set[str]
    denies: bool


class AccountsMachine(RuleBasedStateMachine):
    """
    Accounts, and a model of them.
    """

    def __init__(self) -> None:
        """
        Start without accounts.
        """
        super().__init__()
        self.case = AccountsCase()
        self.case.setUp()
        self.processes = [self.case.accounts, self.case.other]
        self.users: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.policies: dict[str, Rights] = {}
        self.keys: dict[str, Key] = {}
        self.count = 0

    def teardown(self) -> None:
        """
        Release the table of changes.
        """
        self.case.doCleanups()

    # Running

    def run(
        self, work: Coroutine[Any, Any, Any], expected: type[KypelloError] | None = None
    ) -> Any:
        """
        Run something that does not wait, and compare how it ends.
        """
        outcome: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(outcome.append)
        (result,) = outcome
        if not isinstance(result, Failure):
            assert expected is None, (expected, result)
            return result
        if expected is None or not result.check(expected):
            result.raiseException()
        return None

    def secret(self) -> str:
        """
        A secret like no other.
        """
        self.count += 1
        return f"secret-{self.count}"

    def missing(self, name: str) -> type[KypelloError] | None:
        """
        How a change of a user ends.
        """
        return None if name in self.users else NoSuchUser

    def taken(self, name: str) -> bool:
        """
        Whether a service account or a session has a name.
        """
        return name in self.keys

    # Users and groups

    @rule(which=PROCESSES, name=NAMES, enabled=st.booleans())
    def set_user(self, which: int, name: str, enabled: bool) -> None:
        """
        Make a user, or change its secret.
        """
        secret = self.secret()
        expected = AccessKeyTaken if self.taken(name) else None
        self.run(self.processes[which].set_user(name, secret, enabled), expected)
        if expected is None:
            user = self.users.setdefault(name, User(secret))
            user.secret, user.enabled = secret, enabled

    @rule(which=PROCESSES, name=NAMES, enabled=st.booleans())
    def set_user_enabled(self, which: int, name: str, enabled: bool) -> None:
        """
        Enable or disable a user.
        """
        self.run(self.processes[which].set_user_enabled(name, enabled), self.missing(name))
        if name in self.users:
            self.users[name].enabled = enabled

    @rule(which=PROCESSES, name=NAMES)
    def remove_user(self, which: int, name: str) -> None:
        """
        Remove a user, and what belongs to it.
        """
        self.run(self.processes[which].remove_user(name), self.missing(name))
        self.users.pop(name, None)
        self.keys = {key: each for key, each in self.keys.items() if each.parent != name}

    @rule(which=PROCESSES, group=GROUPS, names=st.sets(NAMES))
    def add_members(self, which: int, group: str, names: set[str]) -> None:
        """
        Add users to a group.
        """
        expected = None if names <= set(self.users) else NoSuchUser
        self.run(self.processes[which].add_members(group, names), expected)
        if expected is None:
            self.groups.setdefault(group, Group())
            for name in names:
                self.users[name].groups.add(group)

    @rule(which=PROCESSES, group=GROUPS, names=st.sets(NAMES))
    def remove_members(self, which: int, group: str, names: set[str]) -> None:
        """
        Take users out of a group.
        """
        expected: type[KypelloError] | None = None if names <= set(self.users) else NoSuchUser
        expected = expected if group in self.groups else NoSuchGroup
        self.run(self.processes[which].remove_members(group, names), expected)
        if expected is None:
            for name in names:
                self.users[name].groups.discard(group)

    @rule(which=PROCESSES, group=GROUPS)
    def remove_group(self, which: int, group: str) -> None:
        """
        Remove a group.
        """
        expected: type[KypelloError] | None = None if group in self.groups else NoSuchGroup
        if any(group in user.groups for user in self.users.values()):
            expected = GroupNotEmpty
        self.run(self.processes[which].remove_group(group), expected)
        if expected is None:
            del self.groups[group]

    @rule(which=PROCESSES, group=GROUPS, enabled=st.booleans())
    def set_group_enabled(self, which: int, group: str, enabled: bool) -> None:
        """
        Enable or disable a group.
        """
        expected = None if group in self.groups else NoSuchGroup
        self.run(self.processes[which].set_group_enabled(group, enabled), expected)
        if expected is None:
            self.groups[group].enabled = enabled

    # Policies

    @rule(which=PROCESSES, name=POLICIES, actions=SOME, denies=st.booleans())
    def put_policy(self, which: int, name: str, actions: set[str], denies: bool) -> None:
        """
        Keep a policy.
        """
        document = policy(" ".join(sorted(actions)), "Deny" if denies else "Allow")
        self.run(self.processes[which].put_policy(name, document))
        self.policies[name] = Rights(actions, denies)

    @rule(which=PROCESSES, name=POLICIES)
    def remove_policy(self, which: int, name: str) -> None:
        """
        Remove a policy.
        """
        holders = (*self.users.values(), *self.groups.values())
        expected: type[KypelloError] | None = None if name in self.policies else NoSuchPolicy
        if any(name in each.policies for each in holders):
            expected = PolicyInUse
        self.run(self.processes[which].remove_policy(name), expected)
        if expected is None:
            del self.policies[name]

    def holder(self, name: str) -> tuple[Holder, User | Group | None, type[KypelloError]]:
        """
        Somebody who can have policies, and how it is told that they are not there.
        """
        if name.startswith("group"):
            return Holder(HolderKind.GROUP, name), self.groups.get(name), NoSuchGroup
        return Holder(HolderKind.USER, name), self.users.get(name), NoSuchUser

    @rule(which=PROCESSES, name=st.one_of(NAMES, GROUPS), names=st.sets(POLICIES))
    def attach(self, which: int, name: str, names: set[str]) -> None:
        """
        Give somebody policies.
        """
        holder, known, missing = self.holder(name)
        expected: type[KypelloError] | None = None
        if known is None:
            expected = missing
        elif not names <= set(self.policies):
            expected = NoSuchPolicy
        elif names <= known.policies:
            expected = NoPolicyChange
        attached = self.run(self.processes[which].attach(sorted(names), holder), expected)
        if expected is None and known is not None:
            assert set(attached) == names - known.policies
            known.policies |= names

    @rule(which=PROCESSES, name=st.one_of(NAMES, GROUPS), names=st.sets(POLICIES))
    def detach(self, which: int, name: str, names: set[str]) -> None:
        """
        Take policies from somebody.
        """
        holder, known, missing = self.holder(name)
        expected: type[KypelloError] | None = None
        if known is None:
            expected = missing
        elif not names & known.policies:
            expected = NoPolicyChange
        detached = self.run(self.processes[which].detach(sorted(names), holder), expected)
        if expected is None and known is not None:
            assert set(detached) == names & known.policies
            known.policies -= names

    # Keys

    def parent(self, parent: str) -> type[KypelloError] | None:
        """
        How the making of a key for a parent ends.
        """
        if parent == ROOT.access_key or parent in self.users:
            return None
        return KeyNotAllowed if parent in self.keys else NoSuchUser

    @rule(
        which=PROCESSES,
        name=NAMES,
        parent=PARENTS,
        limited=st.one_of(st.none(), SOME),
        enabled=st.booleans(),
    )
    def create_key(
        self, which: int, name: str, parent: str, limited: set[str] | None, enabled: bool
    ) -> None:
        """
        Make a service account.
        """
        secret = self.secret()
        expected = self.parent(parent)
        if name in self.users or name in self.keys:
            expected = AccessKeyTaken
        document = None if limited is None else limit(" ".join(sorted(limited)))
        new = NewKey(name, secret, parent, document, enabled=enabled)
        self.run(self.processes[which].create_key(new), expected)
        if expected is None:
            self.keys[name] = Key(parent, secret, limited, enabled=enabled)

    @rule(which=PROCESSES, name=NAMES, limited=st.one_of(st.none(), SOME), enabled=st.booleans())
    def update_key(self, which: int, name: str, limited: set[str] | None, enabled: bool) -> None:
        """
        Change a service account.
        """
        secret = self.secret()
        document = None if limited is None else limit(" ".join(sorted(limited)))
        expected = None if name in self.keys else NoSuchAccessKey
        work = self.processes[which].update_key(
            name, secret_key=secret, enabled=enabled, policy=document
        )
        self.run(work, expected)
        if expected is None:
            key = self.keys[name]
            key.secret, key.limit, key.enabled = secret, limited, enabled

    @rule(which=PROCESSES, data=st.data())
    def remove_key(self, which: int, data: st.DataObject) -> None:
        """
        Remove a service account or end a session.
        """
        name = data.draw(st.sampled_from(["name-a", "name-b", *sorted(self.keys)]))
        expected = None if name in self.keys else NoSuchAccessKey
        self.run(self.processes[which].remove_key(name), expected)
        self.keys.pop(name, None)

    @rule(
        which=PROCESSES,
        parent=PARENTS,
        limited=st.one_of(st.none(), SOME),
        bound=st.one_of(st.none(), st.sets(POLICIES)),
    )
    def create_session(
        self, which: int, parent: str, limited: set[str] | None, bound: set[str] | None
    ) -> None:
        """
        Make a session.
        """
        document = None if limited is None else limit(" ".join(sorted(limited)))
        names = None if bound is None else sorted(bound)
        work = self.processes[which].create_session(
            parent, duration=5000, policy=document, policies=names
        )
        session = self.run(work, self.parent(parent))
        if session is not None:
            self.keys[session.access_key] = Key(
                parent, session.secret_key, limited, session.expires, bound
            )

    @rule(which=PROCESSES, parent=PARENTS)
    def revoke(self, which: int, parent: str) -> None:
        """
        End all sessions of somebody.
        """
        ended = {name for name, key in self.keys.items() if key.expires and key.parent == parent}
        assert self.run(self.processes[which].revoke(parent, "builtin", None)) == len(ended)
        for name in ended:
            del self.keys[name]

    @rule(seconds=st.sampled_from([1000, 5000, TOLD]))
    def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.case.clock.advance(seconds)

    @rule(which=PROCESSES)
    def sweep(self, which: int) -> None:
        """
        Remove sessions that expired long ago.
        """
        now = self.case.clock.seconds()
        old = {
            name
            for name, key in self.keys.items()
            if key.expires is not None and key.expires <= now - TOLD - 1
        }
        self.run(self.processes[which].sweep())
        for name in old:
            del self.keys[name]

    # What must be so

    def rights(self, name: str) -> set[str]:
        """
        What the model allows somebody.
        """
        if name == ROOT.access_key:
            return set(ACTIONS)
        key = self.keys.get(name)
        user = self.users.get(name)
        if key is not None:
            if not key.enabled or (key.expires and key.expires <= self.case.clock.seconds()):
                return set()
            if key.policies is not None:
                allowed = self.of_policies(key.policies)
                if key.parent != ROOT.access_key and not self.users[key.parent].enabled:
                    return set()
            else:
                allowed = self.rights(key.parent)
            return allowed if key.limit is None else allowed & key.limit
        if user is None or not user.enabled:
            return set()
        held = [self.groups[group] for group in user.groups if self.groups[group].enabled]
        return self.of_policies(user.policies.union(*[group.policies for group in held]))

    def of_policies(self, names: set[str]) -> set[str]:
        """
        What policies allow together.
        """
        found = [self.policies[name] for name in names if name in self.policies]
        allowed = set().union(*[each.actions for each in found if not each.denies])
        return allowed - set().union(*[each.actions for each in found if each.denies])

    @invariant()
    def look(self) -> None:
        """
        Both processes tell what the model tells.
        """
        for accounts in self.processes:
            for name in ("name-a", "name-b", "name-c", ROOT.access_key, *self.keys):
                self.look_at(accounts, name)

    def look_at(self, accounts: Accounts, name: str) -> None:
        """
        Compare what is told of an access key.
        """
        identity = self.run(accounts.identity(name))
        rights = {
            action
            for action in ACTIONS
            if self.run(accounts.allows(Identity(name, ""), Question(action, "b/k"), {}))
        }
        assert rights == self.rights(name), (name, rights, self.rights(name))
        if name == ROOT.access_key:
            return
        user, key = self.users.get(name), self.keys.get(name)
        if user is not None:
            told = (identity.secret_key, identity.enabled, identity.user)
            assert told == (user.secret, user.enabled, name)
        elif key is not None:
            enabled = key.parent == ROOT.access_key or self.users[key.parent].enabled
            assert identity.enabled is (enabled and key.enabled)
            assert (identity.secret_key, identity.user) == (key.secret, key.parent)
            assert identity.expires == key.expires
        else:
            assert identity is None

    @invariant()
    def listed(self) -> None:
        """
        What is listed is what the model has, and nothing that is kept leads nowhere.
        """
        accounts = self.processes[0]
        users = self.run(accounts.users())
        assert {each.name: set(each.groups) for each in users} == {
            name: user.groups for name, user in self.users.items()
        }
        assert self.run(accounts.groups()) == sorted(self.groups)
        for name, group in self.groups.items():
            told = self.run(accounts.group(name))
            members = sorted(each for each, user in self.users.items() if name in user.groups)
            assert told.members == tuple(members)
            assert (set(told.policies), told.enabled) == (group.policies, group.enabled)
        for parent in (None, ROOT.access_key, *self.users):
            listed = {each.access_key for each in self.run(accounts.keys(parent))}
            assert listed == {
                name for name, key in self.keys.items() if parent in {None, key.parent}
            }


class ModelTests(SyncCase):
    """
    Accounts against a model.
    """

    def test_model(self) -> None:
        """
        Whatever is changed through whichever process, both tell what the model tells.
        """
        try_machine(AccountsMachine, 60)

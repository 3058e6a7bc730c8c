# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Accounts against a plain model, through two processes in any order.

A usual run tries the same examples each time; ``KYPELLO_MODEL_EXAMPLES=10000`` tries so many
others.
"""

from hypothesis import strategies as st
from hypothesis.stateful import rule

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
from kypello.iam.sessions import TOLD
from kypello.iam.values import Holder, HolderKind, NewKey
from tests.cases import SyncCase
from tests.iam.case import ROOT, limit, policy
from tests.iam.machine import ComparedAccounts
from tests.iam.model import ACTIONS, Group, Key, Rights, User
from tests.store.machine import try_machine

#: Users and service accounts have the same names, so that they get into each other's way.
NAMES = st.sampled_from(["name-a", "name-b", "name-c"])
PARENTS = st.sampled_from(["name-a", "name-b", "name-c", ROOT.access_key])
GROUPS = st.sampled_from(["group-a", "group-b"])
POLICIES = st.sampled_from(["policy-a", "policy-b", "policy-c"])
PROCESSES = st.integers(0, 1)
SOME = st.sets(st.sampled_from(ACTIONS), min_size=1)


class AccountsMachine(ComparedAccounts):
    """
    All changes.
    """

    def missing(self, name: str) -> type[KypelloError] | None:
        """
        How a change of a user ends.
        """
        return None if name in self.model.users else NoSuchUser

    # Users and groups

    @rule(which=PROCESSES, name=NAMES, enabled=st.booleans())
    def set_user(self, which: int, name: str, enabled: bool) -> None:
        """
        Make a user, or change its secret.
        """
        secret = self.secret()
        expected = AccessKeyTaken if name in self.model.keys else None
        self.run(self.processes[which].set_user(name, secret, enabled), expected)
        if expected is None:
            user = self.model.users.setdefault(name, User(secret))
            user.secret, user.enabled = secret, enabled

    @rule(which=PROCESSES, name=NAMES, enabled=st.booleans())
    def set_user_enabled(self, which: int, name: str, enabled: bool) -> None:
        """
        Enable or disable a user.
        """
        self.run(self.processes[which].set_user_enabled(name, enabled), self.missing(name))
        if name in self.model.users:
            self.model.users[name].enabled = enabled

    @rule(which=PROCESSES, name=NAMES)
    def remove_user(self, which: int, name: str) -> None:
        """
        Remove a user, and what belongs to it.
        """
        self.run(self.processes[which].remove_user(name), self.missing(name))
        self.model.users.pop(name, None)
        self.model.keys = {
            key: each for key, each in self.model.keys.items() if each.parent != name
        }

    @rule(which=PROCESSES, group=GROUPS, names=st.sets(NAMES))
    def add_members(self, which: int, group: str, names: set[str]) -> None:
        """
        Add users to a group.
        """
        expected = None if names <= set(self.model.users) else NoSuchUser
        self.run(self.processes[which].add_members(group, names), expected)
        if expected is None:
            self.model.groups.setdefault(group, Group())
            for name in names:
                self.model.users[name].groups.add(group)

    @rule(which=PROCESSES, group=GROUPS, names=st.sets(NAMES))
    def remove_members(self, which: int, group: str, names: set[str]) -> None:
        """
        Take users out of a group.
        """
        expected: type[KypelloError] | None = None if names <= set(self.model.users) else NoSuchUser
        expected = expected if group in self.model.groups else NoSuchGroup
        self.run(self.processes[which].remove_members(group, names), expected)
        if expected is None:
            for name in names:
                self.model.users[name].groups.discard(group)

    @rule(which=PROCESSES, group=GROUPS)
    def remove_group(self, which: int, group: str) -> None:
        """
        Remove a group.
        """
        expected: type[KypelloError] | None = None if group in self.model.groups else NoSuchGroup
        if any(group in user.groups for user in self.model.users.values()):
            expected = GroupNotEmpty
        self.run(self.processes[which].remove_group(group), expected)
        if expected is None:
            del self.model.groups[group]

    @rule(which=PROCESSES, group=GROUPS, enabled=st.booleans())
    def set_group_enabled(self, which: int, group: str, enabled: bool) -> None:
        """
        Enable or disable a group.
        """
        expected = None if group in self.model.groups else NoSuchGroup
        self.run(self.processes[which].set_group_enabled(group, enabled), expected)
        if expected is None:
            self.model.groups[group].enabled = enabled

    # Policies

    @rule(which=PROCESSES, name=POLICIES, actions=SOME, denies=st.booleans())
    def put_policy(self, which: int, name: str, actions: set[str], denies: bool) -> None:
        """
        Keep a policy.
        """
        document = policy(" ".join(sorted(actions)), "Deny" if denies else "Allow")
        self.run(self.processes[which].put_policy(name, document))
        self.model.policies[name] = Rights(actions, denies)

    @rule(which=PROCESSES, name=POLICIES)
    def remove_policy(self, which: int, name: str) -> None:
        """
        Remove a policy.
        """
        holders = (*self.model.users.values(), *self.model.groups.values())
        expected: type[KypelloError] | None = None if name in self.model.policies else NoSuchPolicy
        if any(name in each.policies for each in holders):
            expected = PolicyInUse
        self.run(self.processes[which].remove_policy(name), expected)
        if expected is None:
            del self.model.policies[name]

    def holder(self, name: str) -> tuple[Holder, User | Group | None, type[KypelloError]]:
        """
        Somebody who can have policies, and how it is told that they are not there.
        """
        if name.startswith("group"):
            return Holder(HolderKind.GROUP, name), self.model.groups.get(name), NoSuchGroup
        return Holder(HolderKind.USER, name), self.model.users.get(name), NoSuchUser

    @rule(which=PROCESSES, name=st.one_of(NAMES, GROUPS), names=st.sets(POLICIES))
    def attach(self, which: int, name: str, names: set[str]) -> None:
        """
        Give somebody policies.
        """
        holder, known, missing = self.holder(name)
        expected: type[KypelloError] | None = None
        if known is None:
            expected = missing
        elif not names <= set(self.model.policies):
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
        if parent == ROOT.access_key or parent in self.model.users:
            return None
        return KeyNotAllowed if parent in self.model.keys else NoSuchUser

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
        if name in self.model.users or name in self.model.keys:
            expected = AccessKeyTaken
        document = None if limited is None else limit(" ".join(sorted(limited)))
        new = NewKey(name, secret, parent, document, enabled=enabled)
        self.run(self.processes[which].create_key(new), expected)
        if expected is None:
            self.model.keys[name] = Key(parent, secret, limited, enabled=enabled)

    @rule(which=PROCESSES, name=NAMES, limited=st.one_of(st.none(), SOME), enabled=st.booleans())
    def update_key(self, which: int, name: str, limited: set[str] | None, enabled: bool) -> None:
        """
        Change a service account.
        """
        secret = self.secret()
        document = None if limited is None else limit(" ".join(sorted(limited)))
        expected = None if name in self.model.keys else NoSuchAccessKey
        work = self.processes[which].update_key(
            name, secret_key=secret, enabled=enabled, policy=document
        )
        self.run(work, expected)
        if expected is None:
            key = self.model.keys[name]
            key.secret, key.limit, key.enabled = secret, limited, enabled

    @rule(which=PROCESSES, data=st.data())
    def remove_key(self, which: int, data: st.DataObject) -> None:
        """
        Remove a service account or end a session.
        """
        name = data.draw(st.sampled_from(["name-a", "name-b", *sorted(self.model.keys)]))
        expected = None if name in self.model.keys else NoSuchAccessKey
        self.run(self.processes[which].remove_key(name), expected)
        self.model.keys.pop(name, None)

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
            self.model.keys[session.access_key] = Key(
                parent, session.secret_key, limited, session.expires, bound
            )

    @rule(which=PROCESSES, parent=PARENTS)
    def revoke(self, which: int, parent: str) -> None:
        """
        End all sessions of somebody.
        """
        keys = self.model.keys
        ended = {name for name in self.model.keys_of(parent) if keys[name].expires}
        assert self.run(self.processes[which].revoke(parent, "builtin", None)) == len(ended)
        for name in ended:
            del keys[name]

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
            for name, key in self.model.keys.items()
            if key.expires is not None and key.expires <= now - TOLD - 1
        }
        self.run(self.processes[which].sweep())
        for name in old:
            del self.model.keys[name]


class ModelTests(SyncCase):
    """
    Accounts against a model.
    """

    def test_model(self) -> None:
        """
        Whatever is changed through whichever process, both tell what the model tells.
        """
        try_machine(AccountsMachine, 60)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Two processes with the same accounts, and a model that tells what they must tell.
"""

from collections.abc import Coroutine
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kypello.errors import KypelloError
from kypello.iam.accounts import Accounts
from kypello.model import Identity, Question
from tests.iam.case import ROOT, AccountsCase
from tests.iam.model import ACTIONS, Model


class ComparedAccounts(RuleBasedStateMachine):
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
        self.model = Model()
        self.count = 0

    def teardown(self) -> None:
        """
        Release the table of changes.
        """
        self.case.doCleanups()

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

    @invariant()
    def look(self) -> None:
        """
        Both processes tell what the model tells.
        """
        for accounts in self.processes:
            for name in ("name-a", "name-b", "name-c", ROOT.access_key, *self.model.keys):
                self.look_at(accounts, name)

    def look_at(self, accounts: Accounts, name: str) -> None:
        """
        Compare what is told of an access key.
        """
        model, now = self.model, self.case.clock.seconds()
        identity = self.run(accounts.identity(name))
        rights = {
            action
            for action in ACTIONS
            if self.run(accounts.allows(Identity(name, ""), Question(action, "b/k"), {}))
        }
        assert rights == model.rights(name, now), (name, rights, model.rights(name, now))
        if name in model.users:
            told = (identity.secret_key, identity.enabled, identity.user)
            assert told == (model.users[name].secret, model.enabled(name), name)
        elif name in model.keys:
            key = model.keys[name]
            told = (identity.secret_key, identity.enabled, identity.user, identity.expires)
            assert told == (key.secret, model.enabled(name), key.parent, key.expires)
        else:
            assert identity == (ROOT if name == ROOT.access_key else None)

    @invariant()
    def listed(self) -> None:
        """
        What is listed is what the model has, and nothing that is kept leads nowhere.
        """
        accounts = self.processes[0]
        users = self.run(accounts.users())
        assert {each.name: set(each.groups) for each in users} == {
            name: user.groups for name, user in self.model.users.items()
        }
        assert self.run(accounts.groups()) == sorted(self.model.groups)
        for name, group in self.model.groups.items():
            told = self.run(accounts.group(name))
            assert told.members == self.model.members(name)
            assert (set(told.policies), told.enabled) == (group.policies, group.enabled)
        for parent in (None, ROOT.access_key, *self.model.users):
            listed = {each.access_key for each in self.run(accounts.keys(parent))}
            assert listed == self.model.keys_of(parent)

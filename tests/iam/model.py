# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A plain model of accounts: what each may do, told from dictionaries.
"""

from attrs import define, field

from tests.iam.case import ROOT

ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")


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


@define
class Model:
    """
    All accounts.
    """

    users: dict[str, User] = field(factory=dict)
    groups: dict[str, Group] = field(factory=dict)
    policies: dict[str, Rights] = field(factory=dict)
    keys: dict[str, Key] = field(factory=dict)

    def enabled(self, name: str) -> bool:
        """
        Whether somebody may sign, expired or not.
        """
        if name == ROOT.access_key:
            return True
        if name in self.users:
            return self.users[name].enabled
        return self.keys[name].enabled and self.enabled(self.keys[name].parent)

    def rights(self, name: str, now: float) -> set[str]:
        """
        What somebody may do.

        :param now: Seconds since the epoch.
        """
        if name == ROOT.access_key:
            return set(ACTIONS)
        if (name not in self.users and name not in self.keys) or not self.enabled(name):
            return set()
        if name in self.users:
            user = self.users[name]
            held = [self.groups[group] for group in user.groups if self.groups[group].enabled]
            return self._allowed(user.policies.union(*[group.policies for group in held]))
        key = self.keys[name]
        if key.expires is not None and key.expires <= now:
            return set()
        own = self.rights(key.parent, now) if key.policies is None else self._allowed(key.policies)
        return own if key.limit is None else own & key.limit

    def _allowed(self, names: set[str]) -> set[str]:
        """
        What policies allow together.
        """
        found = [self.policies[name] for name in names if name in self.policies]
        allowed = set[str]().union(*[each.actions for each in found if not each.denies])
        return allowed - set[str]().union(*[each.actions for each in found if each.denies])

    def members(self, group: str) -> tuple[str, ...]:
        """
        Who is in a group.
        """
        return tuple(sorted(name for name, user in self.users.items() if group in user.groups))

    def keys_of(self, parent: str | None) -> set[str]:
        """
        The keys of a parent; of all for ``None``.
        """
        return {name for name, key in self.keys.items() if parent in {None, key.parent}}

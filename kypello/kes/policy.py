# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who may call what: the policies of a key server.

A rule is a path, or the beginning of one when it ends with ``*``.  Deny rules count more than
allow rules, and what no rule allows is refused.
"""

import re
from collections.abc import Iterable, Mapping
from os.path import commonprefix

from attrs import field, frozen

_GLOB = re.compile(r"\*(?!$)|[?\[]")


@frozen
class Policy:
    """
    What a group of identities may call.

    :ivar allow: Rules, in the order of the configuration.
    :ivar deny: Rules that count more than those of *allow*.
    """

    name: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@frozen
class Decision:
    """
    Whether a call is allowed, and why.

    :ivar policy: The policy that was asked; empty when the identity has none.
    :ivar rule: The rule that decided.  Where no rule allows the call, the one of *allow* that
        has most of the path; empty when there is none.
    :ivar denied: A deny rule decided.
    """

    allowed: bool
    policy: str = ""
    rule: str = ""
    denied: bool = False


@frozen
class Access:
    """
    All policies of a key server, and whom they are for.

    :ivar admin: The identity that may do everything.
    :ivar policies: By identity.
    :ivar named: By name; also those that are for nobody yet.
    """

    admin: str
    policies: Mapping[str, Policy]
    named: Mapping[str, Policy] = field()

    @named.default
    def _known(self) -> Mapping[str, Policy]:
        return {policy.name: policy for policy in self.policies.values()}

    def decide(self, identity: str, path: str) -> Decision:
        """
        Judge a call.

        :param path: The path of the call, percent-decoded.
        """
        if identity == self.admin:
            return Decision(True)
        policy = self.policies.get(identity)
        if policy is None:
            return Decision(False)
        for rule in policy.deny:
            if matches(rule, path):
                return Decision(False, policy.name, rule, denied=True)
        for rule in policy.allow:
            if matches(rule, path):
                return Decision(True, policy.name, rule)
        return Decision(False, policy.name, _nearest(policy.allow, path))


def matches(rule: str, path: str) -> bool:
    """
    Whether a rule speaks of a path.  The empty rule speaks of none.
    """
    if rule.endswith("*"):
        return path.startswith(rule[:-1])
    return bool(rule) and rule == path


def glob_sign(rule: str) -> str | None:
    """
    The first sign that was a wildcard in the rules of KES before October 2023 and is an
    ordinary character in those of today; ``None`` when there is none.

    A deny rule that holds one denies nothing of what it once did.
    """
    found = _GLOB.search(rule)
    return None if found is None else found.group()


def _nearest(rules: Iterable[str], path: str) -> str:
    def shared(rule: str) -> int:
        # By characters and not by segments: a rule may end within a name.
        return len(commonprefix((rule, path)))  # noqa: RUF071

    return max(rules, key=shared, default="")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Principals: whom a statement of a bucket policy is about.
"""

import re
from typing import Any

from attrs import frozen

from kypello.errors import MalformedPolicy

_ARN = re.compile(r"arn:aws:iam::[0-9]{0,12}:(?:root|user/(.+))", re.DOTALL)
_ACCOUNT = re.compile(r"[0-9]{12}")


@frozen
class Principals:
    """
    A ``Principal`` or ``NotPrincipal`` element.

    :ivar everyone: Whoever asks, anonymous requests too.
    :ivar account: The account by its own ARN.
    :ivar users: By name.
    :ivar inverted: All others are meant.
    """

    everyone: bool
    account: bool
    users: frozenset[str]
    inverted: bool

    @property
    def public(self) -> bool:
        """
        Whether anonymous requests are meant.
        """
        return self.everyone != self.inverted

    def include(self, user: str | None, root: bool, allows: bool) -> bool:
        """
        Whether somebody is meant.

        The account stands for its root user; but where it is denied something, for all its
        users.

        :param user: ``None`` when anonymous.
        :param root: Whether it is the root user, or acts for it.
        :param allows: Whether the statement allows.
        """
        if self.everyone or user is None:
            return self.public
        whole = not allows and not self.inverted
        listed = user in self.users or (self.account and (root or whole))
        return listed != self.inverted


def parse_principals(element: Any, inverted: bool) -> Principals:
    """
    Read a ``Principal`` or, *inverted*, a ``NotPrincipal`` element.

    :raises MalformedPolicy: It names nobody, or somebody that cannot be here.
    """
    if element == "*":
        return Principals(True, False, frozenset(), inverted)
    if not isinstance(element, dict) or element.keys() != {"AWS"}:
        raise _invalid(element)
    names = element["AWS"]
    names = names if isinstance(names, list) else [names]
    everyone = account = False
    users = set()
    for name in names:
        if not isinstance(name, str):
            raise _invalid(names)
        match = _ARN.fullmatch(name)
        user = name if match is None else match.group(1)
        if name == "*":
            everyone = True
        elif user is None or _ACCOUNT.fullmatch(name):
            account = True
        elif not user or "*" in user or "?" in user or user.startswith("arn:"):
            raise _invalid(names)
        else:
            users.add(user)
    if not names:
        raise _invalid(names)
    return Principals(everyone, account, frozenset(users), inverted)


def _invalid(element: Any) -> MalformedPolicy:
    names = list(element) if isinstance(element, dict | list) else [element]
    told = " ".join(name for name in names if isinstance(name, str))
    return MalformedPolicy(f"invalid Principal {{[{told}]}}")

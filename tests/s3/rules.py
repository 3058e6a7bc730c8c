# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An authorizer for tests that decide by themselves.
"""

from collections.abc import Callable, Mapping

from attrs import frozen
from zope.interface import implementer

from kypello.interfaces import IAuthorizer
from kypello.model import Identity, Question


@implementer(IAuthorizer)
@frozen
class Rule:
    """
    Lets a function decide, by the identity, the action and the resource.

    :ivar key_rule: Decides about master keys in the same way; ``None`` lets everybody use all.
    """

    rule: Callable[[Identity | None, str, str], bool]
    key_rule: Callable[[Identity | None, str, str], bool] | None = None

    async def allows(
        self, identity: Identity | None, question: Question, settings: Mapping[str, bytes]
    ) -> bool:
        """
        Ask the function.
        """
        return self.rule(identity, question.action, question.resource)

    async def allows_key(self, identity: Identity | None, question: Question) -> bool:
        """
        Ask the other function.
        """
        rule = self.key_rule
        return rule is None or rule(identity, question.action, question.resource)

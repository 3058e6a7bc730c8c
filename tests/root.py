# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A server with nobody but its root user, for tests of what lies behind the decision.
"""

from collections.abc import Mapping

from attrs import frozen
from zope.interface import implementer

from kypello.interfaces import IAuthorizer, IIdentities
from kypello.model import Identity, Question


@implementer(IIdentities, IAuthorizer)
@frozen
class Root:
    """
    The one who may sign requests, and nobody else.
    """

    _identity: Identity

    async def identity(self, access_key: str) -> Identity | None:
        """
        Look up who signs with this access key.
        """
        return self._identity if access_key == self._identity.access_key else None

    async def allows(
        self, identity: Identity | None, question: Question, settings: Mapping[str, bytes]
    ) -> bool:
        """
        Whether somebody may do something: the root user anything, others nothing.
        """
        return identity is not None and identity.access_key == self._identity.access_key

    async def allows_key(self, identity: Identity | None, question: Question) -> bool:
        """
        Whether somebody may have a master key used.
        """
        return await self.allows(identity, question, {})

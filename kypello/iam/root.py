# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The root user: the identity that the configuration names, who may do everything.
"""

from attrs import frozen
from zope.interface import implementer

from kypello.interfaces import IIdentities
from kypello.model import Identity


@implementer(IIdentities)
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

    def allows(self, identity: Identity | None, action: str, resource: str) -> bool:
        """
        Whether somebody may do something: the root user anything, others nothing.
        """
        return identity is not None and identity.access_key == self._identity.access_key

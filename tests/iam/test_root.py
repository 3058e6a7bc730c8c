# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.root``.
"""

from zope.interface.verify import verifyObject

from kypello.iam.root import Root
from kypello.interfaces import IAuthorizer, IIdentities
from kypello.model import Identity, Question
from tests.cases import AsyncCase

_ROOT = Identity("root", "secret")


class RootTests(AsyncCase):
    """
    The root user.
    """

    def test_provides(self) -> None:
        """
        It is one of those who may sign.
        """
        verifyObject(IIdentities, Root(_ROOT))
        verifyObject(IAuthorizer, Root(_ROOT))

    async def test_identity(self) -> None:
        """
        Nobody else may sign.
        """
        root = Root(_ROOT)
        self.assertEqual(await root.identity("root"), _ROOT)
        for access_key in ("", "Root", "rooted"):
            self.assertIsNone(await root.identity(access_key))

    async def test_rights(self) -> None:
        """
        The root user may do everything, others and the anonymous nothing.
        """
        root = Root(_ROOT)
        for identity, allowed in ((_ROOT, True), (None, False), (Identity("x", "secret"), False)):
            question = Question("s3:GetObject", "b/k")
            self.assertIs(await root.allows(identity, question, {}), allowed)
            self.assertIs(await root.allows_key(identity, question), allowed)

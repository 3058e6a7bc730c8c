# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
All accounts: users, groups, policies, service accounts and sessions, and what each may do.

The root user is not one of them.  It comes from the configuration, can always sign, and may do
everything but what a bucket denies it; so nobody can lock everybody out, and there is no last
administrator to protect.
"""

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from kypello.crypto.randomness import Random
from kypello.iam.ledger import Ledger
from kypello.iam.policies import NamedPolicies
from kypello.iam.rights import Rights
from kypello.iam.sealing import Boxes, IssuesDataKeys
from kypello.iam.sessions import Sessions
from kypello.iam.users import Users
from kypello.iam.values import Secret
from kypello.interfaces import IIndex
from kypello.model import Identity


class Accounts(Rights, Users, NamedPolicies, Sessions):
    """
    The accounts of one server.

    All that is told is as of now, whichever process has changed it.  All calls about others
    than the root user raise :class:`KMSUnavailable` when what is kept of them cannot be opened,
    and :class:`StorageFailed`.
    """

    def __init__(
        self,
        index: IIndex,
        keys: IssuesDataKeys | None,
        root: Identity,
        clock: IReactorTime,
        random: Random,
        *,
        bucket_policies_for_all: bool = True,
    ) -> None:
        """
        :param index: One that remembers what it read.
        :param keys: What the records are sealed with; ``None`` to seal nothing.
        :param root: Who may do everything.
        :param clock: Tells the time in seconds since the epoch.
        :param bucket_policies_for_all: Whether policies of buckets count for those who sign,
            too, and not for anonymous requests only.
        """
        ledger = Ledger(index, Boxes(keys, random), random)
        super().__init__(ledger, root, clock, random, bucket_policies_for_all)

    async def master_key(self) -> str:
        """
        The name of the master key that seals the accounts; empty when none does.
        """
        return await self._ledger.master_key()

    async def rewrap(self, key_name: str) -> None:
        """
        Seal the key of the accounts under another master key, or the same anew.
        """
        await self._ledger.rewrap(key_name)

    async def secrets(self) -> Sequence[Secret]:
        """
        All users, then all service accounts, with their secret keys: for an export alone.
        """
        return [*await self.user_secrets(), *await self.key_secrets()]

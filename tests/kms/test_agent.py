# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES API against our own key server, and against answers of all kinds.
"""

from kypello.interfaces import IKMS
from tests.contracts.kms import CreatingKMSContract
from tests.kms.realm import RealmCase


class OwnServerTests(CreatingKMSContract, RealmCase):
    """
    Our own key server, over mutual TLS on loopback, fulfils the contract.
    """

    async def make_kms(self) -> IKMS:
        """
        A client of a fresh server.
        """
        served = await self.serve()
        return self.client(self.realm.settings(served.port)).kms

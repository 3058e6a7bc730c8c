# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.memory``.
"""

from kypello.keystore.memory import MemoryKeyStore
from tests.cases import AsyncCase
from tests.contracts.keystore import KeyStoreContract


class MemoryKeyStoreTests(KeyStoreContract, AsyncCase):
    """
    The contract of a key store, in memory.
    """

    def make_store(self) -> MemoryKeyStore:
        """
        An empty store.
        """
        return MemoryKeyStore()

    async def test_no_values_in_repr(self) -> None:
        """
        The text form of a store holds no key.
        """
        store = self.make_store()
        await store.create("k", b"secret")
        self.assertNotIn("secret", repr(store))

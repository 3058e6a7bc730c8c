# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key service in memory, with the faults that tests want.
"""

import os
from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.errors import KeyExists, KeyNotFound, KMSUnavailable
from kypello.interfaces import IKMS
from kypello.model import DataKey, KeyInfo, KMSEndpoint, KMSStatus


@implementer(IKMS)
@define(eq=False)
class MemoryKMS:
    """
    Real master keys in a dictionary.

    :ivar calls: Each call of ``generate_key``, ``decrypt_key`` and ``create_key``, by name.
    :ivar down: Whether every call fails with :class:`KMSUnavailable`.
    :ivar pause: When set, what every call waits for.
    """

    default_key: str = "my-key"
    keys: dict[str, MasterKey] = field(factory=dict)
    calls: list[str] = field(factory=list)
    down: bool = False
    pause: "Deferred[None] | None" = None

    @classmethod
    def with_default_key(cls) -> "MemoryKMS":
        """
        One that holds its default key.
        """
        kms = cls()
        kms.keys["my-key"] = _fresh_key()
        return kms

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Make a data key.
        """
        await self._called("generate")
        plaintext = os.urandom(32)
        return DataKey(
            key_name, plaintext, self._key(key_name).seal(plaintext, context, os.urandom)
        )

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a data key.
        """
        await self._called("decrypt")
        return self._key(key_name).open(sealed, context)

    async def create_key(self, key_name: str) -> None:
        """
        Make a master key.
        """
        await self._called("create")
        if key_name in self.keys:
            raise KeyExists(key_name)
        self.keys[key_name] = _fresh_key()

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Tell about a master key.
        """
        key = self._key(key_name)
        return KeyInfo(key_name, key.algorithm, key.created_at, key.created_by)

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The names that begin so.
        """
        return sorted(name for name in self.keys if name.startswith(prefix))

    async def status(self) -> KMSStatus:
        """
        Whether it is down.
        """
        return KMSStatus("memory", self.default_key, (KMSEndpoint("memory:", not self.down),))

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.pause is not None:
            await self.pause
        if self.down:
            raise KMSUnavailable("it is down")

    def _key(self, key_name: str) -> MasterKey:
        if key_name not in self.keys:
            raise KeyNotFound(key_name)
        return self.keys[key_name]


def _fresh_key() -> MasterKey:
    return MasterKey.generate(os.urandom, 0.0, "tests")

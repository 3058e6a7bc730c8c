# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key service of one key that was given in the environment.
"""

from collections.abc import Sequence

from attrs import define, field
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.crypto.randomness import Random
from kypello.errors import KeyExists, KeyNotFound, KMSNotSupported, NotAuthentic
from kypello.interfaces import IKMS
from kypello.kms.wire import UNKNOWN_TIME, bound
from kypello.kmsconfig import StaticKeySettings
from kypello.model import DataKey, KeyInfo, KMSStatus

_DATA_KEY_SIZE = 32


@implementer(IKMS)
@define(eq=False)
class StaticKMS:
    """
    Seals data keys with one master key, as a key server that holds the same key would.

    Whoever has many objects can so move to a key server later: it needs the same key under the
    same name.
    """

    _settings: StaticKeySettings
    _random: Random
    _key: MasterKey = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """
        Adopt the key.
        """
        self._key = MasterKey(self._settings.key, "AES256", None, "", "")

    @property
    def default_key(self) -> str:
        """
        The only key.
        """
        return self._settings.name

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Make a data key.
        """
        self._check(key_name)
        plaintext = self._random(_DATA_KEY_SIZE)
        return DataKey(key_name, plaintext, self._key.seal(plaintext, bound(context), self._random))

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """
        self._check(key_name)
        plaintext = self._key.open(sealed, bound(context))
        if len(plaintext) != _DATA_KEY_SIZE:
            raise NotAuthentic("data key")
        return plaintext

    async def create_key(self, key_name: str) -> None:
        """
        There is one key, and there will be no other.
        """
        if key_name == self.default_key:
            raise KeyExists(key_name)
        raise KMSNotSupported("create")

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Tell about the key; nobody knows who made it, and when.
        """
        self._check(key_name)
        return KeyInfo(key_name, "AES256", UNKNOWN_TIME, "")

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The name of the key, if it begins so.
        """
        return (self.default_key,) if self.default_key.startswith(prefix) else ()

    async def status(self) -> KMSStatus:
        """
        There is nothing to ask.
        """
        return KMSStatus("builtin", self.default_key, ())

    def _check(self, key_name: str) -> None:
        if key_name != self.default_key:
            raise KeyNotFound(key_name)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The keys with which ``kypello store`` opens what a server has encrypted.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.embedded import DEFAULT_KEY
from kypello.environment import Environment
from kypello.errors import ConfigurationError, KeyStoreUnreachable, KMSNotSupported
from kypello.interfaces import IKMS, IIndex, IKeyStore, ILanes
from kypello.keystore.fsconfig import FSSettings, Passphrase
from kypello.keystore.seal import WrongPassphrase
from kypello.keystore.table import Parts, make_keystore
from kypello.kms import tls as kms_tls
from kypello.kms.builtin import StaticKMS
from kypello.kms.connect import KESClient, connect
from kypello.kms.wire import bound
from kypello.kmsconfig import KESSettings, StaticKeySettings, read_kms, read_passphrase_file
from kypello.model import DataKey, KeyInfo, KMSStatus
from kypello.objects.canary import GuardedKMS
from kypello.prepared import default_certs_dir


@frozen
class Keys:
    """
    How to open data keys.

    :ivar settings: ``None`` without a key service.
    :ivar files: Certificate and key for KES.
    :ivar folder: Where master keys lie that are used then; ``None`` for none.
    :ivar passphrase: What they are sealed under; ``None`` for nothing.
    """

    settings: KESSettings | StaticKeySettings | None = None
    files: kms_tls.Loaded | None = None
    folder: Path | None = None
    passphrase: Passphrase | None = None


def find_keys(directory: Path, variables: Mapping[str, str]) -> Keys:
    """
    The keys of the server that uses a data directory; blocking.

    :param variables: The environment.
    :raises ConfigurationError: With every mistake.
    """
    environment = Environment.load(variables, _read_text)
    settings = read_kms(environment)
    file = read_passphrase_file(environment, variables, settings)
    if environment.mistakes:
        raise ConfigurationError(tuple(environment.mistakes))
    if isinstance(settings, KESSettings):
        authorities = default_certs_dir() / "CAs"
        if settings.ca_path is None and authorities.is_dir():
            settings = evolve(settings, ca_path=authorities)
        return Keys(settings, kms_tls.load(settings))
    folder = directory / "kes" / "keys"
    if settings is not None or not folder.is_dir():
        return Keys(settings)
    return Keys(None, None, folder, None if file is None else Passphrase(file=file))


@implementer(IKMS)
@define(eq=False)
class LocalKMS:
    """
    Opens data keys with the master keys of a key store, without a key server; makes none.
    """

    _store: IKeyStore
    default_key: str = DEFAULT_KEY
    _keys: dict[str, MasterKey] = field(init=False, factory=dict, repr=False)

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Refuse.
        """
        raise KMSNotSupported("generate")

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.

        :raises KeyStoreUnreachable: The master keys are sealed, and the passphrase is missing or
            another one.
        """
        key = self._keys.get(key_name)
        if key is None:
            try:
                key = MasterKey.from_bytes(await self._store.get(key_name))
            except WrongPassphrase as error:
                # It is so with all of them: nothing is said of a single object.
                raise KeyStoreUnreachable(error.reason) from error
            self._keys[key_name] = key
        return key.open(sealed, bound(context))

    async def create_key(self, key_name: str) -> None:
        """
        Refuse.
        """
        raise KMSNotSupported("create")

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Refuse.
        """
        raise KMSNotSupported("describe")

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The names of the master keys that begin so.
        """
        return [name for name in await self._store.names() if name.startswith(prefix)]

    async def status(self) -> KMSStatus:
        """
        There is nobody to ask.
        """
        return KMSStatus("keys", self.default_key, ())


def make_kms(
    reactor: Any, keys: Keys, lanes: ILanes, index: IIndex
) -> tuple[IKMS, KESClient | None]:
    """
    The key service that opens data keys.

    :param keys: With settings or a folder.
    :param index: Where the canaries of master keys are.
    :return: With the client of KES, which was started and is to be stopped.
    """
    client = None
    inner: IKMS
    if keys.files is not None and isinstance(keys.settings, KESSettings):
        client = connect(reactor, keys.settings, keys.files, lanes, os.urandom)
        inner = client.kms
    elif isinstance(keys.settings, StaticKeySettings):
        inner = StaticKMS(keys.settings, os.urandom)
    else:
        assert keys.folder is not None
        keystore = FSSettings(keys.folder, keys.passphrase)
        inner = LocalKMS(make_keystore(keystore, Parts(reactor, lanes, os.urandom)))
    kms = GuardedKMS(inner, index, reactor)
    if client is not None:
        client.require(kms.holds)
        client.startService()
    return kms, client


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        return None

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The kinds of key stores: how the configuration names them, and how each is read and made.
"""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from kypello.crypto.randomness import Random
from kypello.document import Section, Value
from kypello.interfaces import IKeyStore, ILanes
from kypello.keystore.aws import AWSKeyStore
from kypello.keystore.awsconfig import AWSSettings, read_aws
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import FSSettings, read_fs
from kypello.keystore.gcp import GCPKeyStore
from kypello.keystore.gcpconfig import GCPSettings, read_gcp
from kypello.keystore.gemalto import GemaltoKeyStore
from kypello.keystore.gemaltoconfig import GemaltoSettings, read_gemalto
from kypello.keystore.memory import MemoryKeyStore, MemorySettings
from kypello.keystore.sealedfs import SealedFSKeyStore
from kypello.keystore.vault import make_vault
from kypello.keystore.vaultconfig import VaultSettings, read_vault


@frozen
class Parts:
    """
    What key stores are made of.

    :ivar reactor: Network and clock.
    :ivar lanes: Where blocking calls run.
    """

    reactor: Any
    lanes: ILanes
    random: Random


@frozen
class Kind:
    """
    A kind of key store.

    :ivar settings: The class that its section of the configuration is read to.
    :ivar read: Reads that section; mistakes go to the report of the document.
    :ivar make: Makes a store, which does nothing before it is asked.
    """

    settings: type
    read: Callable[[Value], Any]
    make: Callable[[Any, Parts], IKeyStore]


def _make_fs(settings: FSSettings, parts: Parts) -> IKeyStore:
    files = FSKeyStore(settings.path, parts.lanes, parts.reactor, parts.random)
    if settings.passphrase is None:
        return files
    return SealedFSKeyStore(files, settings.passphrase, parts.lanes.lane(), parts.random)


def _make_vault(settings: VaultSettings, parts: Parts) -> IKeyStore:
    return make_vault(settings, parts.reactor, parts.lanes)


def _make_aws(settings: AWSSettings, parts: Parts) -> IKeyStore:
    return AWSKeyStore.make(settings, parts.reactor, parts.lanes, parts.random)


def _make_gcp(settings: GCPSettings, parts: Parts) -> IKeyStore:
    return GCPKeyStore.make(settings, parts.reactor, parts.lanes)


def _make_gemalto(settings: GemaltoSettings, parts: Parts) -> IKeyStore:
    return GemaltoKeyStore.make(settings, parts.reactor, parts.lanes)


#: By the name in the configuration; a dot is a section in a section.
KINDS: Mapping[str, Kind] = {
    "fs": Kind(FSSettings, read_fs, _make_fs),
    "vault": Kind(VaultSettings, read_vault, _make_vault),
    "aws.secretsmanager": Kind(AWSSettings, read_aws, _make_aws),
    "gcp.secretmanager": Kind(GCPSettings, read_gcp, _make_gcp),
    "gemalto.keysecure": Kind(GemaltoSettings, read_gemalto, _make_gemalto),
}

_NOT_BUILT = "is not built; there are {}"

#: Those of KES that there are not, and why.
_OTHERS = {
    "azure.keyvault": _NOT_BUILT,
    "fortanix.sdkms": _NOT_BUILT,
    "entrust.keycontrol": _NOT_BUILT,
    "kes": "is a key server: keys never leave it. Name the key store behind it, one of {}",
}


def read_keystore(value: Value) -> Any:
    """
    Read the section ``keystore``, which names exactly one.

    :return: Settings for :func:`make_keystore`; ``None`` when none of them can be read.
    """
    outer = value.exactly(*dict.fromkeys(name.partition(".")[0] for name in (*KINDS, *_OTHERS)))
    found = {name: one for name in (*KINDS, *_OTHERS) if (one := _inner(outer, name)) is not None}
    if not found:
        value.mistake("is required, such as keystore: {fs: {path: DIRECTORY}}")
    elif len(found) > 1:
        value.mistake(f"must be one, not {' and '.join(found)}")
    else:
        ((name, section),) = found.items()
        if name in KINDS:
            return KINDS[name].read(section)
        value.mistake(f"the key store {name} {_OTHERS[name].format(', '.join(KINDS))}")
    return None


def make_keystore(settings: object, parts: Parts) -> IKeyStore:
    """
    Make the key store that a configuration names.

    :param settings: What :func:`read_keystore` gave, or :class:`MemorySettings`.
    """
    if isinstance(settings, MemorySettings):
        return MemoryKeyStore()
    kind = next(kind for kind in KINDS.values() if type(settings) is kind.settings)
    return kind.make(settings, parts)


def _inner(outer: Section, name: str) -> Value | None:
    # The middle level names a product of a vendor; other products are told as unknown.
    vendor, _, product = name.partition(".")
    if vendor not in outer:
        return None
    if not product:
        return outer[vendor]
    section = outer[vendor].exactly(product)
    inner = section[product]
    return inner if product in section else None

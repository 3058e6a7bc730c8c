# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A static key as a key service.
"""

import os

from kypello.crypto.masterkey import MasterKey
from kypello.errors import KMSNotSupported, NotAuthentic
from kypello.interfaces import IKMS
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import StaticKeySettings
from tests.cases import AsyncCase
from tests.contracts.kms import CONTEXT, KEY, KMSContract

_MATERIAL = bytes(range(32))


def make_kms() -> StaticKMS:
    """
    One with a known key.
    """
    return StaticKMS(StaticKeySettings(KEY, _MATERIAL), os.urandom)


class StaticKMSTests(KMSContract, AsyncCase):
    """
    A static key fulfils the contract, and does no more.
    """

    async def make_kms(self) -> IKMS:
        """
        Make one.
        """
        kms: IKMS = make_kms()
        return kms

    async def test_no_other_key(self) -> None:
        """
        No other key can be made.
        """
        with self.assertRaises(KMSNotSupported) as caught:
            await make_kms().create_key("another")
        self.assertEqual(caught.exception.operation, "create")

    async def test_no_endpoints(self) -> None:
        """
        Its status names no servers.
        """
        status = await make_kms().status()
        self.assertEqual((status.name, status.endpoints), ("builtin", ()))

    async def test_key_server(self) -> None:
        """
        A key server with the same key opens what it sealed, and the other way round.
        """
        server = MasterKey.imported(_MATERIAL, "AES256", os.urandom, 0.0, "somebody")
        key = await make_kms().generate_key(KEY, CONTEXT)
        self.assertEqual(len(key.sealed), 76)
        self.assertEqual(server.open(key.sealed, CONTEXT), key.plaintext)
        sealed = server.seal(bytes(32), b"{}", os.urandom)
        self.assertEqual(await make_kms().decrypt_key(KEY, sealed, b""), bytes(32))

    async def test_other_size(self) -> None:
        """
        What opens to something else than a data key is refused.
        """
        sealed = MasterKey(_MATERIAL, "AES256", None, "", "").seal(b"short", b"{}", os.urandom)
        with self.assertRaises(NotAuthentic):
            await make_kms().decrypt_key(KEY, sealed, b"{}")

    async def test_secret(self) -> None:
        """
        The key is in no text about it.
        """
        self.assertNotIn(repr(_MATERIAL), repr(make_kms()))

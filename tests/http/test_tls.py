# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.tls``: what is loaded from files.  Handshakes are in
``tests/integration/test_kes_server.py``.
"""

import os
from pathlib import Path

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from kypello.errors import ConfigurationError
from kypello.http.tls import Clients, ServerTLS, TLSFiles, load
from tests.cases import SyncCase
from tests.kes.certificates import certificate, key_pem, new_key, pem


class LoadTests(SyncCase):
    """
    ``load`` reads keys and certificates.
    """

    def setUp(self) -> None:
        """
        A key and its certificate in files.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        self.key = new_key()
        self.files = TLSFiles(folder / "key", folder / "cert")
        self.files.key.write_bytes(key_pem(self.key))
        self.files.cert.write_bytes(pem(certificate(self.key)))

    def assert_mistake(self, text: str, files: TLSFiles | None = None) -> None:
        """
        Check that loading fails with a mistake that says so.
        """
        with self.assertRaises(ConfigurationError) as caught:
            load(files or self.files)
        self.assertIn(text, caught.exception.mistakes[0])

    def test_connection(self) -> None:
        """
        Each connection is made from what was loaded.
        """
        tls = ServerTLS(load(self.files))
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, tls))
        self.assertIs(tls.serverConnectionForTLS(None).get_context(), tls.loaded.context)

    def test_unchanged(self) -> None:
        """
        Files that have not changed are not read again; others are.
        """
        first = load(self.files)
        self.assertIs(load(self.files, first), first)
        os.utime(self.files.cert, (1, 1))
        self.assertIsNot(load(self.files, first), first)

    def test_other_blocks(self) -> None:
        """
        Certificate and key may share a file, with a chain and parameters beside them.
        """
        chain = certificate(new_key(), True, "ca")
        blocks = (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
            key_pem(self.key),
            pem(certificate(self.key), chain),
        )
        self.files.key.write_bytes(b"".join(blocks))
        load(evolve(self.files, cert=self.files.key))

    def test_password(self) -> None:
        """
        An encrypted key needs its password; a password for a plain key does not matter.
        """
        files = evolve(self.files, password="open-sesame")
        load(files)
        protection = BestAvailableEncryption(b"open-sesame")
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            files.key.write_bytes(self.key.private_bytes(Encoding.PEM, form, protection))
            load(files)
            self.assert_mistake("the password does not open it", self.files)
            self.assert_mistake("the password", evolve(files, password="wrong"))

    def test_clients_of_a_ca(self) -> None:
        """
        The CAs of clients come from a file, a directory or the system.
        """
        folder = self.files.key.parent / "cas"
        folder.mkdir()
        (folder / "one.crt").write_bytes(pem(certificate(new_key(), True, "one")))
        (folder / "inner").mkdir()
        for ca in (folder, folder / "one.crt", None):
            load(evolve(self.files, clients=Clients.VERIFIED, ca=ca))
        (folder / "two.crt").write_bytes(b"junk")
        self.assert_mistake(
            "two.crt holds no", evolve(self.files, clients=Clients.VERIFIED, ca=folder)
        )

    def test_weak_key(self) -> None:
        """
        A key that OpenSSL finds too weak is a mistake, and no trace.
        """
        weak = rsa.generate_private_key(65537, 1024)
        self.files.key.write_bytes(key_pem(weak))
        self.files.cert.write_bytes(pem(certificate(weak)))
        self.assert_mistake("key too small")

    def test_no_host(self) -> None:
        """
        A certificate that names no host is of no use to a server.
        """
        self.files.cert.write_bytes(pem(certificate(self.key, hosts=False)))
        self.assert_mistake("has no subject alternative name")

    def test_mistakes(self) -> None:
        """
        A file that is missing, or is not what it should be, is named.
        """
        self.files.key.write_bytes(key_pem(new_key()))
        self.assert_mistake("is not the key of")
        self.files.key.write_bytes(b"junk")
        self.assert_mistake("holds no private key in PEM")
        self.files.key.write_bytes(
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        )
        self.assert_mistake("it is no private key")
        self.files.cert.write_bytes(b"junk")
        self.assert_mistake("holds no certificate in PEM")
        self.files.cert.unlink()
        self.assert_mistake("No such file")

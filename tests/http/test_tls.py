# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.tls``: what is loaded from files.  Handshakes are in
``tests/integration/test_kes_server.py``.
"""

import contextlib
import os
from pathlib import Path

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from OpenSSL import SSL
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

    def host(self, folder: str, *names: str) -> Path:
        """
        A folder of certificates for hosts with one for those of these names.
        """
        hosts = self.files.key.parent / "hosts"
        (hosts / folder).mkdir(parents=True)
        key = new_key()
        (hosts / folder / "private.key").write_bytes(key_pem(key))
        (hosts / folder / "public.crt").write_bytes(
            pem(certificate(key, subject=folder, names=names))
        )
        return hosts

    def shown(self, tls: ServerTLS, host: str) -> str:
        """
        The subject of the certificate that a client gets who asks for a host.
        """
        server = tls.serverConnectionForTLS(None)
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()
        server.set_accept_state()
        if host:
            client.set_tlsext_host_name(host.encode())
        for _ in range(3):
            for one, other in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(1 << 16))
        found = client.get_peer_certificate()
        assert found is not None
        return found.get_subject().CN

    def test_hosts(self) -> None:
        """
        Who asks for a host gets its certificate: of its name, else of any in its domain, else the
        one for all.
        """
        self.host("b", "*.Example.com", "other.example")
        files = evolve(self.files, hosts=self.host("a", "a.example.com"))
        tls = ServerTLS(load(files))
        for host, subject in (
            ("a.example.com", "a"),
            ("A.EXAMPLE.COM", "a"),
            ("b.example.com", "b"),
            ("other.example", "b"),
            ("example.com", "test"),
            ("c.b.example.com", "test"),
            ("", "test"),
        ):
            self.assertEqual(self.shown(tls, host), subject, host)

    def test_new_host(self) -> None:
        """
        A host may come, change and go.
        """
        files = evolve(self.files, hosts=self.host("a", "a.example.com"))
        first = load(files)
        self.assertIs(load(files, first), first)
        hosts = self.host("b", "b.example.com")
        second = load(files, first)
        self.assertEqual(self.shown(ServerTLS(second), "b.example.com"), "b")
        os.utime(hosts / "a" / "public.crt", (1, 1))
        self.assertIsNot(load(files, second), second)
        (hosts / "b" / "private.key").unlink()
        self.assertEqual(self.shown(ServerTLS(load(files, second)), "b.example.com"), "test")

    def test_not_hosts(self) -> None:
        """
        What is no folder, is hidden, or holds authorities, is of no host; the mistakes of hosts are
        told like all.
        """
        for name in (".a", "CAs"):
            self.host(name, "a.example.com")
        files = evolve(self.files, hosts=self.host("b", "b.example.com"))
        assert files.hosts is not None
        (files.hosts / "c").write_bytes(b"junk")
        self.assertEqual(self.shown(ServerTLS(load(files)), "a.example.com"), "test")
        (files.hosts / "b" / "private.key").write_bytes(key_pem(new_key()))
        self.assert_mistake("b/private.key is not the key of", files)

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

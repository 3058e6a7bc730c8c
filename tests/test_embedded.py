# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.embedded``.
"""

import os
import stat
from pathlib import Path

from cryptography import x509
from twisted.application.service import IService
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kypello.crypto.apikey import APIKey
from kypello.embedded import DEFAULT_KEY, Embedded, free_port, provision
from kypello.errors import ConfigurationError
from kypello.http.tls import load
from kypello.kes_service import log_failed_start, make_key_server
from kypello.keystore.fsconfig import FSSettings, Passphrase
from kypello.kmsconfig import KESSettings
from tests.cases import SyncCase

_NOW = 1_800_000_000.0
_YEAR = 365 * 86400.0


class ProvisionTests(SyncCase):
    """
    ``provision`` makes what an embedded key server and its client need.
    """

    def setUp(self) -> None:
        """
        A data directory that does not exist yet.
        """
        self.directory = Path(self.mktemp())
        self.folder = self.directory / "kes"

    def provision(self, now: float = _NOW) -> Embedded:
        """
        Provision for port 20001.
        """
        return provision(self.directory, now, os.urandom, 20001)

    def content(self) -> dict[str, bytes]:
        """
        All files by name.
        """
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def test_settings(self) -> None:
        """
        The client's settings lead to the server, and the server knows the client.
        """
        made = self.provision()
        self.assertEqual(made.settings.endpoints, ("https://127.0.0.1:20001",))
        self.assertEqual((made.config.host, made.config.port), ("127.0.0.1", 20001))
        self.assertEqual(made.settings.key_name, DEFAULT_KEY)
        self.assertEqual(made.settings.ca_path, self.folder / "ca.crt")
        assert made.settings.api_key is not None
        identity = APIKey.parse(made.settings.api_key).identity
        access = made.config.access
        self.assertTrue(access.decide(identity, "/v1/key/generate/k").allowed)
        self.assertFalse(access.decide(identity, "/v1/key/delete/k").allowed)
        self.assertFalse(access.decide("0" * 64, "/v1/status").allowed)

    def test_permissions(self) -> None:
        """
        Nobody but the owner may look inside, and no temporary file is left.
        """
        self.provision()
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(set(self.content()), {"ca.crt", "server.pem", "client.key"})
        for path in self.folder.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_certificates(self) -> None:
        """
        The server's certificate is for loopback, from a CA whose key is nowhere.
        """
        made = self.provision()
        load(made.config.tls)
        root = x509.load_pem_x509_certificate(self.content()["ca.crt"])
        leaf = x509.load_pem_x509_certificate(self.content()["server.pem"])
        leaf.verify_directly_issued_by(root)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost"])
        self.assertEqual(
            [str(address) for address in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"]
        )
        self.assertNotIn(b"PRIVATE", self.content()["ca.crt"])

    def test_once(self) -> None:
        """
        What is there and valid stays as it is.
        """
        first = self.provision()
        content = self.content()
        self.assertEqual(self.provision(_NOW + _YEAR), first)
        self.assertEqual(self.content(), content)

    def test_renewal(self) -> None:
        """
        Certificates that expire within a year are renewed, and the client stays who it is.
        """
        self.provision()
        before = self.content()
        self.provision(_NOW + 9 * _YEAR + 86400.0)
        after = self.content()
        self.assertEqual(after["client.key"], before["client.key"])
        self.assertNotEqual(after["ca.crt"], before["ca.crt"])
        leaf = x509.load_pem_x509_certificate(after["server.pem"])
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(after["ca.crt"]))

    def test_clock_set_back(self) -> None:
        """
        Certificates that are not valid yet are made anew.
        """
        self.provision()
        before = self.content()["ca.crt"]
        self.provision(_NOW - _YEAR)
        self.assertNotEqual(self.content()["ca.crt"], before)

    def test_repair(self) -> None:
        """
        Any file that is lost or damaged is replaced, as after a crash between two of them.
        """
        self.provision()
        for name in ("ca.crt", "server.pem", "client.key"):
            for damage in (None, b"", b"junk"):
                path = self.folder / name
                path.unlink() if damage is None else path.write_bytes(damage)
                load(self.provision().config.tls)
                root = x509.load_pem_x509_certificate(self.content()["ca.crt"])
                leaf = x509.load_pem_x509_certificate(self.content()["server.pem"])
                leaf.verify_directly_issued_by(root)

    def test_unusable_directory(self) -> None:
        """
        A directory that cannot be made is a mistake that names it.
        """
        self.directory.write_bytes(b"")
        with self.assertRaises(ConfigurationError) as caught:
            self.provision()
        self.assertIn(str(self.folder), caught.exception.mistakes[0])

    def test_passphrase(self) -> None:
        """
        With a file for it the keys are sealed, and the notice says what that protects.
        """
        self.assertIn("beside the data", self.provision().notice)
        made = provision(self.directory, _NOW, os.urandom, 20001, Path("/run/p"))
        self.assertEqual(
            made.keys, FSSettings(self.folder / "keys", Passphrase(file=Path("/run/p")))
        )
        self.assertIs(made.config.keystore, made.keys)
        self.assertIn("sealed under the passphrase in /run/p", made.notice)

    def test_no_secrets_in_repr(self) -> None:
        """
        The text form of the settings does not hold the API key.
        """
        self.assertNotIn("kes:v1:", repr(self.provision()))


class ServerTests(SyncCase):
    """
    The server that comes of it.
    """

    def test_make(self) -> None:
        """
        Nothing listens before the service is started.
        """
        made = provision(Path(self.mktemp()), _NOW, os.urandom, 20002)
        service = make_key_server(Clock(), made.config, log_failed_start)
        self.assertTrue(verifyObject(IService, service))
        self.assertIsInstance(made.settings, KESSettings)
        self.assertEqual(made.settings.endpoints, ("https://127.0.0.1:20002",))

    def test_free_port(self) -> None:
        """
        A free port lies below those that the kernel hands out.
        """
        self.assertIn(free_port(os.urandom), range(20000, 32768))

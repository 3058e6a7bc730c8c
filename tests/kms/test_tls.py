# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a client of key servers reads from files.
"""

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from kypello.crypto.apikey import APIKey, identity_of_spki
from kypello.errors import ConfigurationError
from kypello.kms.certificates import make_certificate, public_key
from kypello.kms.tls import load
from kypello.kmsconfig import KESSettings
from tests.cases import SyncCase
from tests.integration.tools import missing
from tests.kes.certificates import certificate, key_pem, new_key, pem

_SECRET = "a password of quality"
_DAY = 86400.0


class FilesCase(SyncCase):
    """
    A test with a key and a certificate in files.
    """

    def setUp(self) -> None:
        """
        Make a pair.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.key = new_key()
        self.key_file, self.cert_file = self.folder / "client.key", self.folder / "client.crt"
        self.key_file.write_bytes(key_pem(self.key))
        self.cert_file.write_bytes(pem(certificate(self.key)))
        self.settings = KESSettings(
            ("https://127.0.0.1:7373",), "my-key", key_file=self.key_file, cert_file=self.cert_file
        )

    def mistakes(self, settings: KESSettings) -> tuple[str, ...]:
        """
        Fail to load; whatever is said holds no secret.
        """
        with self.assertRaises(ConfigurationError) as caught:
            load(settings)
        for secret in filter(None, (settings.key_password, settings.api_key)):
            self.assertNotIn(secret, str(caught.exception))
        return caught.exception.mistakes

    def write_key(self, key: Any, form: PrivateFormat, password: str | None = None) -> None:
        """
        Put a key and a certificate for it in the files.
        """
        encryption: Any = NoEncryption()
        if password is not None:
            encryption = BestAvailableEncryption(password.encode())
        self.key_file.write_bytes(key.private_bytes(Encoding.PEM, form, encryption))
        if isinstance(key, ed25519.Ed25519PrivateKey):
            made = make_certificate(
                APIKey(key.private_bytes_raw()), datetime.fromtimestamp(time.time(), UTC)
            )
        else:
            made = certificate(key)
        self.cert_file.write_bytes(pem(made))


class KeyTests(FilesCase):
    """
    Private keys in all their forms.
    """

    def test_forms(self) -> None:
        """
        PKCS#8 and the older forms, plain or with a password.
        """
        kinds: list[Any] = [rsa.generate_private_key(65537, 2048), new_key()]
        for key in kinds:
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                for password in (None, _SECRET):
                    self.write_key(key, form, password)
                    load(evolve(self.settings, key_password=password))
                    # A password that is not needed does no harm.
                    load(evolve(self.settings, key_password=_SECRET))
        for password in (None, _SECRET):
            self.write_key(ed25519.Ed25519PrivateKey.generate(), PrivateFormat.PKCS8, password)
            load(evolve(self.settings, key_password=password))

    def test_openssl(self) -> None:
        """
        What the openssl command encrypts in the old way is opened.
        """
        openssl = shutil.which("openssl")
        if openssl is None:
            missing("openssl")
        plain = self.folder / "plain.key"
        kinds: list[Any] = [("rsa", rsa.generate_private_key(65537, 2048)), ("ec", new_key())]
        for command, key in kinds:
            self.write_key(key, PrivateFormat.PKCS8)
            plain.write_bytes(self.key_file.read_bytes())
            for cipher in ("-aes128", "-aes256", "-des3"):
                traditional = ["-traditional"] if command == "rsa" else []
                subprocess.run(
                    (
                        *(openssl, command, cipher, *traditional, "-in", str(plain)),
                        *("-passout", f"pass:{_SECRET}", "-out", str(self.key_file)),
                    ),
                    check=True,
                    capture_output=True,
                )
                self.assertIn(b"DEK-Info: ", self.key_file.read_bytes())
                load(evolve(self.settings, key_password=_SECRET))
                (mistake,) = self.mistakes(evolve(self.settings, key_password="wrong"))
                self.assertIn("MINIO_KMS_KES_KEY_PASSWORD", mistake)

    def test_parameters_before_the_key(self) -> None:
        """
        Other blocks in the file do not matter.
        """
        content = self.key_file.read_bytes()
        parameters = (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        self.key_file.write_bytes(parameters + content + self.cert_file.read_bytes())
        load(self.settings)

    def test_wrong_password(self) -> None:
        """
        A wrong password, and none, are told with the variable to change.
        """
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            self.write_key(self.key, form, _SECRET)
            (mistake,) = self.mistakes(evolve(self.settings, key_password="another"))
            self.assertEqual(
                mistake,
                f"MINIO_KMS_KES_KEY_FILE: {self.key_file} cannot be opened with the password in"
                " MINIO_KMS_KES_KEY_PASSWORD.",
            )
            for nothing in (None, ""):
                (mistake,) = self.mistakes(evolve(self.settings, key_password=nothing))
                self.assertIn("is encrypted; give its password in MINIO_KMS_KES_KEY", mistake)

    def test_no_key(self) -> None:
        """
        A file without a key, and one with a damaged key, are told apart.
        """
        for content, words in (
            (b"", "holds no private key in PEM"),
            (b"\xff\xfe\x00", "holds no private key in PEM"),
            (self.cert_file.read_bytes(), "holds no private key in PEM"),
            (
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "holds a private key that is damaged",
            ),
            (
                b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                "holds a private key that is damaged or of an unknown kind",
            ),
        ):
            self.key_file.write_bytes(content)
            (mistake,) = self.mistakes(self.settings)
            self.assertIn(f"MINIO_KMS_KES_KEY_FILE: {self.key_file} {words}", mistake)

    def test_other_key(self) -> None:
        """
        A key that belongs to another certificate is told as such.
        """
        self.key_file.write_bytes(key_pem(new_key()))
        (mistake,) = self.mistakes(self.settings)
        self.assertIn(f"{self.key_file} is not the key of the first certificate in", mistake)
        self.assertIn("MINIO_KMS_KES_CERT_FILE", mistake)


class CertificateTests(FilesCase):
    """
    Our certificate.
    """

    def test_no_certificate(self) -> None:
        """
        A file without a certificate, or with a damaged one, is told.
        """
        broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for content, words in ((b"junk", "and holds none"), (broken, "one that is damaged")):
            self.cert_file.write_bytes(content)
            (mistake,) = self.mistakes(self.settings)
            self.assertIn(f"MINIO_KMS_KES_CERT_FILE: {self.cert_file} must hold", mistake)
            self.assertIn(words, mistake)

    def test_all_mistakes(self) -> None:
        """
        All that is wrong is told at once.
        """
        settings = evolve(
            self.settings,
            key_file=self.folder / "no.key",
            cert_file=self.folder / "no.crt",
            ca_path=self.folder / "no-ca",
        )
        self.assertEqual(
            sorted(self.mistakes(settings)),
            [
                f"MINIO_KMS_KES_CAPATH names {self.folder}/no-ca, which cannot be read: no such"
                " file or directory.",
                f"MINIO_KMS_KES_CERT_FILE names {self.folder}/no.crt, which cannot be read: no"
                " such file or directory.",
                f"MINIO_KMS_KES_KEY_FILE names {self.folder}/no.key, which cannot be read: no such"
                " file or directory.",
            ],
        )

    def test_nothing_given(self) -> None:
        """
        Without any way to authenticate, the ways are named.
        """
        for mistake in self.mistakes(KESSettings(("https://kes:7373",), "my-key")):
            self.assertIn("MINIO_KMS_KES_API_KEY", mistake)

    def test_unreadable(self) -> None:
        """
        A file that may not be read, and a folder in its place, are told.
        """
        self.key_file.unlink()
        self.key_file.mkdir()
        (mistake,) = self.mistakes(self.settings)
        self.assertIn("is a directory", mistake)
        self.key_file.rmdir()
        self.key_file.write_bytes(b"")
        self.key_file.chmod(0)
        if os.geteuid() != 0:
            (mistake,) = self.mistakes(self.settings)
            self.assertIn("permission denied", mistake)

    def test_expired(self) -> None:
        """
        A certificate that has expired is used; its date is known.
        """
        past = datetime(2024, 5, 6, tzinfo=UTC)
        self.cert_file.write_bytes(pem(certificate(self.key, until=past)))
        self.assertEqual(load(self.settings).expires, past)

    def test_authority(self) -> None:
        """
        A certificate of a CA draws a warning, since key servers pass it over.
        """
        self.cert_file.write_bytes(pem(certificate(self.key, True)))
        (warning,) = load(self.settings).warnings
        self.assertIn("CA:TRUE", warning)

    def test_chain(self) -> None:
        """
        Certificates behind the first one go along.
        """
        authority = new_key()
        self.cert_file.write_bytes(
            pem(
                certificate(self.key, issuer=("authority", authority)),
                certificate(authority, True, "authority"),
            )
        )
        self.assertEqual(load(self.settings).warnings, ())


class AuthorityTests(FilesCase):
    """
    Whom we trust.
    """

    def setUp(self) -> None:
        """
        Make a certificate to trust.
        """
        super().setUp()
        self.ca = self.folder / "ca"
        self.trusted = pem(certificate(new_key(), True))

    def test_file(self) -> None:
        """
        A file may hold several certificates, and must hold one.
        """
        settings = evolve(self.settings, ca_path=self.ca)
        self.ca.write_bytes(self.trusted + pem(certificate(new_key(), True)))
        self.assertEqual(load(settings).warnings, ())
        damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        self.ca.write_bytes(damaged + self.trusted)
        self.assertIn("damaged", load(settings).warnings[0])
        for content in (b"", b"junk", damaged):
            self.ca.write_bytes(content)
            (mistake,) = self.mistakes(settings)
            self.assertEqual(
                mistake, f"MINIO_KMS_KES_CAPATH: {self.ca} holds no certificate in PEM."
            )

    def test_directory(self) -> None:
        """
        In a directory, what is no certificate is passed over with a warning; directories in it
        are not looked into.
        """
        self.ca.mkdir()
        settings = evolve(self.settings, ca_path=self.ca)
        self.assertEqual(load(settings).warnings, ())
        (self.ca / "good.crt").write_bytes(self.trusted)
        (self.ca / "readme.txt").write_text("nothing")
        (self.ca / "gone.crt").symlink_to("nowhere")
        (self.ca / "more").mkdir()
        (self.ca / "more" / "bad.crt").write_text("nothing")
        (warning,) = load(settings).warnings
        self.assertEqual(
            warning, f"{self.ca}/readme.txt holds no certificate in PEM and is passed over."
        )


class ReloadTests(FilesCase):
    """
    What has not changed is not read again.
    """

    def test_unchanged(self) -> None:
        """
        The same files give the same object.
        """
        first = load(self.settings)
        self.assertIs(load(self.settings, first), first)

    def test_changed(self) -> None:
        """
        Any file that changes, comes or goes gives another object.
        """
        ca = self.folder / "cas"
        ca.mkdir()
        settings = evolve(self.settings, ca_path=ca)
        loaded = load(settings)
        renewed = pem(certificate(self.key, subject="renewed"))

        def replace() -> None:
            (self.folder / "new").write_bytes(renewed)
            (self.folder / "new").rename(self.cert_file)

        for change in (
            lambda: self.cert_file.write_bytes(renewed),
            replace,
            lambda: (ca / "more.crt").write_bytes(pem(certificate(new_key(), True))),
            lambda: (ca / "more.crt").write_bytes(2 * pem(certificate(new_key(), True))),
            (ca / "more.crt").unlink,
        ):
            change()
            again = load(settings, loaded)
            self.assertIsNot(again, loaded)
            self.assertIs(load(settings, again), again)
            loaded = again

    def test_broken(self) -> None:
        """
        A file that breaks is an error, though there was something before.
        """
        loaded = load(self.settings)
        self.key_file.write_bytes(b"")
        with self.assertRaises(ConfigurationError):
            load(self.settings, loaded)


class APIKeyTests(SyncCase):
    """
    API keys instead of files.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.api_key = APIKey.generate(os.urandom)
        self.settings = KESSettings(
            ("https://127.0.0.1:7373",), "my-key", api_key=self.api_key.text
        )

    def test_certificate(self) -> None:
        """
        The certificate is that of the key's identity, for clients, for 90 days.
        """
        now = datetime(2026, 1, 2, tzinfo=UTC)
        made = make_certificate(self.api_key, now)
        self.assertEqual(identity_of_spki(public_key(made)), self.api_key.identity)
        self.assertEqual(made.subject.rfc4514_string(), f"CN={self.api_key.identity}")
        self.assertEqual((made.not_valid_after_utc - now).days, 90)
        self.assertLess(made.not_valid_before_utc, now)
        made.verify_directly_issued_by(made)
        basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value
        self.assertFalse(basic.ca)

    def test_renewal(self) -> None:
        """
        Long before it expires another one is made.
        """
        began = time.time()
        first = load(self.settings, now=lambda: began)
        self.assertIs(load(self.settings, first, now=lambda: began + 29 * _DAY), first)
        second = load(self.settings, first, now=lambda: began + 31 * _DAY)
        self.assertIsNot(second, first)
        self.assertGreater(second.expires, first.expires)

    def test_no_key(self) -> None:
        """
        What is no API key is refused, and not repeated.
        """
        for text in ("", "kes:v1:", "secretsecret", self.api_key.text[:-4]):
            with self.assertRaises(ConfigurationError) as caught:
                load(evolve(self.settings, api_key=text))
            (mistake,) = caught.exception.mistakes
            self.assertIn("MINIO_KMS_KES_API_KEY is no API key", mistake)
            if text:
                self.assertNotIn(text.removeprefix("kes:v1:") or "?", mistake)

    def test_secret(self) -> None:
        """
        The key is in no text about what was loaded.
        """
        loaded = load(self.settings)
        self.assertNotIn(self.api_key.text, repr(loaded))

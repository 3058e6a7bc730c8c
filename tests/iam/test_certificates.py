# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.certificates`` and ``authorities``: clients with certificates.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from kypello.errors import ConfigurationError
from kypello.iam.authorities import Authorities
from kypello.iam.certificates import MOST_INTERMEDIATES, CertificateRefused, Certificates
from tests.cases import SyncCase
from tests.iam.authority import CLIENTS, SERVERS, Authority
from tests.kes.certificates import EARLY, LATE, certificate, der, new_key, pem

NOW = datetime(2026, 11, 26, tzinfo=UTC)
HOUR = timedelta(hours=1)


class CertificateTests(SyncCase):
    """
    What a chain says.
    """

    def setUp(self) -> None:
        """
        Trust an authority.
        """
        self.authority = Authority.make()
        self.certificates = Certificates(Authorities((self.authority.certificate,)).store)
        self.key = new_key()

    def refused(self, code: str, *chain: x509.Certificate) -> str:
        """
        See that a chain is refused; give the reason.
        """
        with self.assertRaises(CertificateRefused) as caught:
            self.certificates.login([der(one) for one in chain], NOW.timestamp())
        self.assertEqual(caught.exception.code, code)
        return caught.exception.reason

    def test_login(self) -> None:
        """
        The common name is the policy, and the session ends with the certificate.
        """
        until = NOW + HOUR
        chain = [der(self.authority.sign(self.key, "readonly", until=until))]
        login = self.certificates.login(chain, NOW.timestamp())
        self.assertEqual(
            (login.parent, login.subject, login.provider, login.policies),
            ("tls:readonly", "readonly", "tls", ("readonly",)),
        )
        self.assertEqual(login.expires, until.timestamp())
        self.assertEqual(login.claims["jwt:iss"], ("Authority",))

    def test_keys(self) -> None:
        """
        All usual kinds of keys will do.
        """
        for key in (
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ):
            chain = [der(self.authority.sign(key, "readonly"))]
            self.assertEqual(self.certificates.login(chain, NOW.timestamp()).subject, "readonly")

    def test_intermediates(self) -> None:
        """
        Authorities may lie between, a bounded number of them, in any order.
        """
        path = [self.authority]
        for number in range(MOST_INTERMEDIATES):
            path.append(path[-1].below(f"Authority {number}"))
        leaf = path[-1].sign(self.key, "readonly")
        between = [one.certificate for one in path[1:]]
        for order in (between, between[::-1]):
            chain = [der(one) for one in (leaf, *order)]
            self.assertEqual(self.certificates.login(chain, NOW.timestamp()).subject, "readonly")
        self.refused("InvalidClientCertificate", leaf, *between[1:])
        extra = self.authority.below("Another").certificate
        self.refused("TooManyIntermediateCAs", leaf, *between, extra)

    def test_none(self) -> None:
        """
        Without a certificate there is nobody.
        """
        self.assertEqual(self.refused("MissingParameter"), "No client certificate provided")

    def test_other_authority(self) -> None:
        """
        The certificate of another authority does not count, if it has the name of ours, or brings
        its own along; nor does one that signs itself.
        """
        other = Authority.make()
        leaf = other.sign(self.key, "readonly")
        for chain in ((leaf,), (leaf, other.certificate), (leaf, self.authority.certificate)):
            self.refused("InvalidClientCertificate", *chain)
        self.refused("InvalidClientCertificate", certificate(self.key, subject="readonly"))

    def test_time(self) -> None:
        """
        It must be valid now, and its authority, too.
        """
        expired = self.authority.sign(self.key, "readonly", until=NOW - HOUR)
        self.assertIn("expired", self.refused("InvalidClientCertificate", expired))
        early = self.authority.sign(self.key, "readonly", since=NOW + HOUR)
        self.assertIn("not yet valid", self.refused("InvalidClientCertificate", early))
        old = Authority.make("Old", until=NOW - HOUR)
        self.certificates = Certificates(Authorities((old.certificate,)).store)
        leaf = old.sign(self.key, "readonly", since=EARLY, until=LATE)
        self.refused("InvalidClientCertificate", leaf)

    def test_usage(self) -> None:
        """
        It must be meant for clients.
        """
        both = self.authority.sign(self.key, "readonly", usage=(SERVERS, CLIENTS))
        self.certificates.login([der(both)], NOW.timestamp())
        for usage in ((SERVERS,), ()):
            leaf = self.authority.sign(self.key, "readonly", usage=usage)
            self.assertIn("not meant for clients", self.refused("InvalidClientCertificate", leaf))

    def test_one_client(self) -> None:
        """
        There is one certificate of a client, and that of an authority is none.
        """
        leaf = self.authority.sign(self.key, "readonly")
        other = self.authority.sign(new_key(), "consoleAdmin")
        self.refused("InvalidClientCertificate", leaf, other)
        self.refused("InvalidClientCertificate", self.authority.certificate)
        leaf = self.authority.sign(self.key, "consoleAdmin", authority=True)
        self.refused("InvalidClientCertificate", leaf)

    def test_signed_by_client(self) -> None:
        """
        A client signs no certificates of others.
        """
        leaf = self.authority.sign(self.key, "readonly")
        forged = Authority(leaf, self.key).sign(new_key(), "consoleAdmin")
        self.refused("InvalidClientCertificate", forged, leaf)

    def test_names(self) -> None:
        """
        It must have one name.
        """
        for names in ((), ("readonly", "consoleAdmin")):
            leaf = self.authority.sign(self.key, *names)
            self.refused("InvalidClientCertificate", leaf)

    def test_broken(self) -> None:
        """
        What is no certificate is refused.
        """
        with self.assertRaises(CertificateRefused) as caught:
            self.certificates.login([b"0\x03abc"], NOW.timestamp())
        self.assertEqual(caught.exception.code, "InvalidClientCertificate")

    def test_nobody_trusted(self) -> None:
        """
        Without authorities nobody is let in; those of the system do not count.
        """
        self.certificates = Certificates(Authorities().store)
        self.refused("InvalidClientCertificate", self.authority.sign(self.key, "readonly"))


class AuthorityTests(SyncCase):
    """
    Authorities in files.
    """

    def test_load(self) -> None:
        """
        All files of a folder are read; folders in it are passed over, and a missing one is empty.
        """
        folder = Path(self.mktemp())
        self.assertEqual(Authorities.load(folder).certificates, ())
        (folder / "sub").mkdir(parents=True)
        one, two, three = (Authority.make(name).certificate for name in "abc")
        (folder / "a.crt").write_bytes(pem(one, two))
        (folder / "b.pem").write_bytes(pem(three))
        self.assertEqual(Authorities.load(folder).certificates, (one, two, three))

    def test_mistakes(self) -> None:
        """
        All files that hold none are told.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("a.crt", "b.crt"):
            (folder / name).write_text("nothing")
        with self.assertRaises(ConfigurationError) as caught:
            Authorities.load(folder)
        self.assertEqual(len(caught.exception.mistakes), 2)

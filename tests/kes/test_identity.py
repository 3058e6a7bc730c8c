# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.identity``.
"""

import hashlib

from kypello.kes.identity import NoIdentity, identity_of
from tests.cases import SyncCase
from tests.kes.certificates import certificate, der, new_key, public_der


class IdentityOfTests(SyncCase):
    """
    ``identity_of`` finds the one certificate that counts.
    """

    def setUp(self) -> None:
        """
        A key and its identity.
        """
        self.key = new_key()
        self.identity = hashlib.sha256(public_der(self.key)).hexdigest()

    def test_one(self) -> None:
        """
        The identity is the digest of the public key, whatever else the certificate says.
        """
        for authority in (False, None):
            for subject in ("a", "b" * 60):
                found = der(certificate(self.key, authority, subject))
                self.assertEqual(identity_of([found]), self.identity)

    def test_authorities(self) -> None:
        """
        Certificates of authorities do not count, wherever they stand.
        """
        issuer = new_key()
        authority = der(certificate(issuer, True, "ca"))
        own = der(certificate(self.key, issuer=("ca", issuer)))
        self.assertEqual(identity_of([own, authority]), self.identity)
        self.assertEqual(identity_of([authority, own]), self.identity)

    def test_none(self) -> None:
        """
        Without a certificate there is no identity.
        """
        with self.assertRaises(NoIdentity) as caught:
            identity_of([])
        self.assertEqual(caught.exception.reason, "tls: client certificate is required")

    def test_only_authorities(self) -> None:
        """
        A self-signed certificate that calls itself an authority is no identity, and says why.
        """
        with self.assertRaises(NoIdentity) as caught:
            identity_of([der(certificate(self.key, True))])
        self.assertTrue(caught.exception.reason.startswith("tls: client certificate is required: "))

    def test_two(self) -> None:
        """
        Two certificates that count are one too many.
        """
        with self.assertRaises(NoIdentity) as caught:
            identity_of([der(certificate(self.key)), der(certificate(new_key()))])
        self.assertEqual(caught.exception.reason, "tls: received more than one client certificate")

    def test_unreadable(self) -> None:
        """
        What is no certificate is refused.
        """
        with self.assertRaises(NoIdentity) as caught:
            identity_of([b"\x30\x00"])
        self.assertEqual(caught.exception.reason, "tls: invalid client certificate")

    def test_strange(self) -> None:
        """
        A certificate that says something twice, or is of a version that there is not, is refused.
        """
        good = der(certificate(self.key, False))
        names, constraints = b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x13"
        for bad in (
            good.replace(names, constraints),
            good.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1),
        ):
            self.assertNotEqual(bad, good)
            with self.assertRaises(NoIdentity) as caught:
                identity_of([bad])
            self.assertEqual(caught.exception.reason, "tls: invalid client certificate")

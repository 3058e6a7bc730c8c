# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The authorities whose certificates we trust beside those of the system.
"""

from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLTrustRoot
from zope.interface import implementer

from kypello.errors import ConfigurationError


@implementer(IOpenSSLTrustRoot)
@frozen
class Authorities:
    """
    Certificates of authorities.

    As a client we also trust those of the system; clients of ours have to have theirs from these.
    """

    certificates: tuple[x509.Certificate, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Authorities":
        """
        Read all files of a folder; blocking.

        :raises ConfigurationError: With every file that holds no certificate in PEM.
        """
        found: list[x509.Certificate] = []
        mistakes: list[str] = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.is_file():
                continue
            try:
                found += x509.load_pem_x509_certificates(path.read_bytes())
            except ValueError:
                mistakes.append(f"{path} holds no certificate in PEM.")
            except OSError as error:
                mistakes.append(f"{path}: {error.strerror}.")
        if mistakes:
            raise ConfigurationError(tuple(mistakes))
        return cls(tuple(found))

    def store(self) -> crypto.X509Store:
        """
        A fresh store of these alone.
        """
        store = crypto.X509Store()
        # As Go does: whatever is trusted ends a chain, if it is not signed by itself too.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        self._add(store)
        return store

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        """
        Called by Twisted: trust these, and those of the system.
        """
        context.set_default_verify_paths()
        store: Any = context.get_cert_store()
        self._add(store)

    def _add(self, store: crypto.X509Store) -> None:
        for one in self.certificates:
            store.add_cert(crypto.X509.from_cryptography(one))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The authorities whose certificates we trust beside those of the system.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, frozen
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from kypello.errors import ConfigurationError
from kypello.kms.verification import VerifiedServer

_PLACE = "the folder CAs beside the certificate of this server"


@implementer(IPolicyForHTTPS)
@frozen
class Authorities:
    """
    Certificates of authorities.

    As a client we also trust those of the system; clients of ours have to have theirs from these.

    :ivar present: Has a connection show a certificate of ours; ``None`` for none.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    present: Callable[[SSL.Context], object] | None = None

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
        self._add(store)
        return store

    def creatorForNetloc(self, hostname: bytes, _port: int) -> IOpenSSLClientConnectionCreator:
        """
        Called by Twisted for each connection to a server of the web.
        """
        return self.to_server(hostname.decode("ascii"))

    def to_server(self, host: str, *, verify: bool = True) -> IOpenSSLClientConnectionCreator:
        """
        Makes TLS connections to a server.

        :param verify: Whether it has to have a certificate of its name by an authority.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        if self.present is not None:
            self.present(context)
        creator: IOpenSSLClientConnectionCreator
        if not verify:
            creator = _AnyServer(context)
            return creator
        context.set_default_verify_paths()
        store = context.get_cert_store()
        assert store is not None
        self._add(store)
        creator = VerifiedServer(context, host, _PLACE)
        return creator

    def _add(self, store: crypto.X509Store) -> None:
        # As Go does: whatever is trusted ends a chain, if it is not signed by itself too.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for one in self.certificates:
            store.add_cert(crypto.X509.from_cryptography(one))


@implementer(IOpenSSLClientConnectionCreator)
@define(eq=False)
class _AnyServer:
    """
    Makes connections to whoever answers.
    """

    _context: SSL.Context

    def clientConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """
        Called by Twisted.
        """
        return SSL.Connection(self._context, None)

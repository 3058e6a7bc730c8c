# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
TLS towards a key store that is a service.
"""

from pathlib import Path
from typing import Any

from attrs import define, frozen
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from kypello.document import Value
from kypello.errors import KeyStoreFailed
from kypello.kms.verification import VerifiedServer
from kypello.pemfiles import Loaded, UnusableFile, read_certificates, stamp_of, trust

#: What tells whom we trust.
PLACE = "tls.ca of the key store"


@frozen
class TLSFiles:
    """
    The files of a client.

    :ivar key: Its private key in PEM; ``None`` for a client without certificate.
    :ivar cert: Its certificate in PEM, with the chain behind it; goes with the key.
    :ivar ca: Who may sign the certificate of the server, a file or directory; ``None`` for those
        of the system.
    """

    key: Path | None = None
    cert: Path | None = None
    ca: Path | None = None


@implementer(IPolicyForHTTPS)
@define(eq=False)
class StoreTLS:
    """
    Makes TLS connections to a key store, with what was loaded last.

    :ivar loaded: ``None`` at first: nobody can be connected to.
    :ivar place: What tells whom we trust, for people.
    """

    loaded: Loaded | None = None
    place: str = PLACE

    def creatorForNetloc(self, hostname: bytes, _port: int) -> IOpenSSLClientConnectionCreator:
        """
        Called by Twisted for each connection.
        """
        assert self.loaded is not None
        creator: IOpenSSLClientConnectionCreator = VerifiedServer(
            self.loaded.context, hostname.decode("ascii"), self.place
        )
        return creator


def read_tls(value: Value) -> TLSFiles:
    """
    Read a section ``tls`` with ``key``, ``cert`` and ``ca``.
    """
    section = value.exactly("key", "cert", "ca")
    # Examples of KES name all three, as empty strings.
    key, cert, ca = (
        Path(text) if (text := section[name].text()) else None for name in ("key", "cert", "ca")
    )
    if (key is None) != (cert is None):
        value.mistake("key and cert go together")
    return TLSFiles(key, cert, ca)


def load(files: TLSFiles, old: Loaded | None = None) -> Loaded:
    """
    Read keys and certificates; blocking.

    :param old: Given back when the files are those that it was read from.
    :raises KeyStoreFailed: They cannot be used.
    """
    try:
        stamp = stamp_of(files.key, files.cert, files.ca)
        if old is not None and old.stamp == stamp:
            return old
        return Loaded(stamp, _context(files))
    except UnusableFile as error:
        raise KeyStoreFailed(str(error)) from None
    except OSError as error:
        raise KeyStoreFailed(f"{error.filename}: {error.strerror}") from error


def _context(files: TLSFiles) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # Each connection brings its own callback; without one nobody is trusted.
    context.set_verify(SSL.VERIFY_PEER, _nobody)
    if files.ca is not None:
        # As Go does: whatever is trusted ends a chain, if it is not signed by itself too.
        store = context.get_cert_store()
        assert store is not None
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    trust(context, files.ca)
    if files.key is not None and files.cert is not None:
        _present(context, files.key, files.cert)
    return context


def _present(context: SSL.Context, key: Path, cert: Path) -> None:
    first, *chain = read_certificates(cert)
    try:
        private: Any = load_pem_private_key(key.read_bytes(), None)
    except (TypeError, ValueError):
        # The cause is dropped: its text may tell of the key.
        raise KeyStoreFailed(f"{key} holds no private key in PEM that is not encrypted") from None
    try:
        context.use_certificate(first)
        for certificate in chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(private)
        context.check_privatekey()
    except SSL.Error:
        raise KeyStoreFailed(f"{key} is not the key of {cert}") from None


def _nobody(_connection: Any, _found: Any, _error: int, _depth: int, _ok: int) -> bool:
    return False

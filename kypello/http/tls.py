# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The server's end of TLS, with or without certificates of clients.
"""

import re
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from kypello.errors import ConfigurationError
from kypello.pemfiles import Loaded, UnusableFile, read_certificates, stamp_of, trust

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----\r?\n.*?-----END \1-----", re.DOTALL)


class Clients(Enum):
    """
    What is asked of clients.
    """

    #: No certificate.
    UNKNOWN = auto()

    #: A certificate and the key to it, if they have one.  Nobody checks who signed it or when it
    #: expires: that is for whoever makes use of it.
    WELCOME_BY_KEY = auto()

    #: A certificate and the key to it.  Nobody checks who signed it or when it expires: the key
    #: alone says who the client is.
    KNOWN_BY_KEY = auto()

    #: A valid certificate of a CA.
    VERIFIED = auto()

    #: The same, if they have one.
    WELCOME_VERIFIED = auto()


@frozen
class TLSFiles:
    """
    What the server's end of TLS is made of.

    :ivar key: A private key in PEM; other blocks beside it do not matter.
    :ivar cert: The server's certificate in PEM, with its chain behind it.
    :ivar password: Of an encrypted key.
    :ivar clients: What is asked of clients.
    :ivar ca: A file or directory of the CAs of clients; ``None`` for those of the system.
    """

    key: Path
    cert: Path
    password: str | None = field(default=None, repr=False)
    clients: Clients = Clients.UNKNOWN
    ca: Path | None = None

    @property
    def verify(self) -> bool:
        """
        Whether certificates of clients have to be valid.
        """
        return self.clients in (Clients.VERIFIED, Clients.WELCOME_VERIFIED)


@implementer(IOpenSSLServerConnectionCreator)
@define(eq=False)
class ServerTLS:
    """
    Makes the TLS connections of a server, with what was loaded last.
    """

    loaded: Loaded

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        """
        Called by Twisted for each connection.
        """
        return SSL.Connection(self.loaded.context, None)


def load(files: TLSFiles, old: Loaded | None = None) -> Loaded:
    """
    Read keys and certificates; blocking.

    :param old: Given back when the files are those that it was read from.
    :raises ConfigurationError: They cannot be used.
    """
    try:
        stamp = stamp_of(files.key, files.cert, files.ca)
        if old is not None and old.stamp == stamp:
            return old
        return Loaded(stamp, _context(files))
    except UnusableFile as error:
        raise ConfigurationError((str(error),)) from None
    except OSError as error:
        raise ConfigurationError((f"{error.filename}: {error.strerror}",)) from error
    except SSL.Error as error:
        reasons = ", ".join(reason for _library, _function, reason in error.args[0])
        raise ConfigurationError((f"{files.cert}: OpenSSL refuses it: {reasons}",)) from error


def peer_certificates(connection: SSL.Connection) -> list[bytes]:
    """
    What the peer of a TLS connection has sent.

    :param connection: The server's end, an ``OpenSSL.SSL.Connection``.  OpenSSL keeps the
        certificate of a client apart from the rest of its chain.
    :return: In DER.
    """
    leaf = connection.get_peer_certificate()
    if leaf is None:
        return []
    chain = [leaf, *(connection.get_peer_cert_chain() or ())]
    found = [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in chain]
    return list(dict.fromkeys(found))


def verifies(connection: SSL.Connection, files: TLSFiles) -> bool:
    """
    Whether the peer of a connection had to have a certificate that is valid by *files*.

    :param connection: The server's end; it may be from before these files were in use.
    """
    then: TLSFiles | None = connection.get_context().get_app_data()
    return files.verify and then is not None and then.verify and then.ca == files.ca


def is_trusted(context: SSL.Context, certificates: Sequence[bytes]) -> bool:
    """
    Whether the first certificate could have been the one of a client.

    :param context: The server's; its authorities are those that count.
    :param certificates: In DER; the others may lead from the first one to an authority.
    """
    store = context.get_cert_store()
    assert store is not None
    found, *chain = (
        crypto.X509.from_cryptography(x509.load_der_x509_certificate(one)) for one in certificates
    )
    try:
        crypto.X509StoreContext(store, found, chain).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return _is_for_clients(found.to_cryptography())


def _is_for_clients(certificate: x509.Certificate) -> bool:
    # RFC 5280, section 4.2.1.12: without the extension a certificate is for anything.
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    either = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    return any(one in either for one in usage)


def _context(files: TLSFiles) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_app_data(files)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    first, *chain = read_certificates(files.cert)
    if not _names_hosts(first):
        raise ConfigurationError(
            (f"{files.cert} has no subject alternative name, without which no client trusts it",)
        )
    context.use_certificate(first)
    for certificate in chain:
        context.add_extra_chain_cert(certificate)
    try:
        context.use_privatekey(_private_key(files))
        context.check_privatekey()
    except SSL.Error:
        raise ConfigurationError((f"{files.key} is not the key of {files.cert}",)) from None
    if files.clients is not Clients.UNKNOWN:
        _ask_clients(context, files)
    return context


def _ask_clients(context: SSL.Context, files: TLSFiles) -> None:
    # A resumed session would come without the rest of the client's chain.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    welcome = files.clients in (Clients.WELCOME_BY_KEY, Clients.WELCOME_VERIFIED)
    needed = 0 if welcome else SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(SSL.VERIFY_PEER | needed, _as_openssl_says if files.verify else _anybody)
    if files.verify:
        trust(context, files.ca)


def _names_hosts(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(isinstance(name, x509.DNSName | x509.IPAddress) for name in found.value)


def _as_openssl_says(
    _connection: Any, _certificate: Any, _error: int, _depth: int, ok: int
) -> bool:
    return bool(ok)


def _anybody(_connection: Any, _certificate: Any, _error: int, _depth: int, _ok: int) -> bool:
    return True


def _private_key(files: TLSFiles) -> Any:
    found = _KEY.search(files.key.read_bytes())
    if found is None:
        raise ConfigurationError((f"{files.key} holds no private key in PEM",))
    password = None if files.password is None else files.password.encode()
    encrypted = b"ENCRYPTED" in found.group()
    try:
        return load_pem_private_key(found.group(), password if encrypted else None)
    except (TypeError, ValueError):
        reason = "the password does not open it" if encrypted else "it is no private key"
        raise ConfigurationError((f"{files.key}: {reason}",)) from None

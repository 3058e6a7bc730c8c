# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The server's end of TLS, with or without certificates of clients.
"""

import re
from collections.abc import Sequence
from enum import Enum, auto
from itertools import chain
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

#: The folder beside those of hosts whose certificates are trusted.
AUTHORITIES = "CAs"

#: The names of hosts in a certificate.
_HOST = x509.DNSName | x509.IPAddress


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
    :ivar hosts: Where there are others, for clients that ask for their hosts: see
        :func:`pairs_of_hosts`; ``None`` for one certificate for all.
    """

    key: Path
    cert: Path
    password: str | None = field(default=None, repr=False)
    clients: Clients = Clients.UNKNOWN
    ca: Path | None = None
    hosts: Path | None = None

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
        pairs = [(files.key, files.cert)]
        if files.hosts is not None:
            pairs += [pair for pair in pairs_of_hosts(files.hosts) if all_there(pair)]
        stamp = stamp_of(*chain.from_iterable(pairs), files.ca)
        if old is not None and old.stamp == stamp:
            return old
        return Loaded(stamp, _by_host([_context(files, *pair) for pair in pairs]))
    except UnusableFile as error:
        raise ConfigurationError((str(error),)) from None
    except OSError as error:
        raise ConfigurationError((f"{error.filename}: {error.strerror}",)) from error


def pairs_of_hosts(folder: Path) -> list[tuple[Path, Path]]:
    """
    Where keys and certificates of hosts may be: ``private.key`` and ``public.crt`` in each folder
    within one, by name; as with MinIO.

    :raises OSError: It cannot be read.
    """
    # Names with a dot are what systems that change a folder at once keep beside it.
    found = [each for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    return [
        (each / "private.key", each / "public.crt")
        for each in found
        if each.name != AUTHORITIES and each.is_dir()
    ]


def all_there(pair: tuple[Path, Path]) -> bool:
    """
    Whether there is a certificate, and a key to it.
    """
    return all(path.is_file() for path in pair)


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
    sent = [leaf, *(connection.get_peer_cert_chain() or ())]
    found = [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in sent]
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
    found, *others = (
        crypto.X509.from_cryptography(x509.load_der_x509_certificate(one)) for one in certificates
    )
    try:
        crypto.X509StoreContext(store, found, others).verify_certificate()
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


def _by_host(made: Sequence[tuple[SSL.Context, Sequence[str]]]) -> SSL.Context:
    """
    The first of some contexts, which gives a connection to that of the host that is asked for.

    :param made: Each with the names of its hosts, whose first label may be ``*``.
    """
    (first, _), *others = made
    named: dict[bytes, SSL.Context] = {}
    for context, names in made:
        for name in names:
            named.setdefault(name.lower().encode(), context)

    def choose(connection: SSL.Connection) -> None:
        """
        Called by OpenSSL: the client has told which host it wants, or has not.
        """
        name = (connection.get_servername() or b"").lower()
        _, _, domain = name.partition(b".")
        connection.set_context(named.get(name) or named.get(b"*." + domain) or first)

    if others:
        first.set_tlsext_servername_callback(choose)
    return first


def _context(files: TLSFiles, key: Path, cert: Path) -> tuple[SSL.Context, list[str]]:
    """
    What connections with a certificate are made of, and the hosts that it names.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_app_data(files)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    first, *others = read_certificates(cert)
    names = _hosts(first)
    if not names:
        raise ConfigurationError(
            (f"{cert} has no subject alternative name, without which no client trusts it",)
        )
    try:
        context.use_certificate(first)
        for certificate in others:
            context.add_extra_chain_cert(certificate)
        if files.clients is not Clients.UNKNOWN:
            _ask_clients(context, files)
    except SSL.Error as error:
        reasons = ", ".join(reason for _library, _function, reason in error.args[0])
        raise ConfigurationError((f"{cert}: OpenSSL refuses it: {reasons}",)) from error
    private_key = _private_key(key, files.password)
    try:
        context.use_privatekey(private_key)
        context.check_privatekey()
    except SSL.Error:
        raise ConfigurationError((f"{key} is not the key of {cert}",)) from None
    return context, names


def _ask_clients(context: SSL.Context, files: TLSFiles) -> None:
    # A resumed session would come without the rest of the client's chain.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    welcome = files.clients in (Clients.WELCOME_BY_KEY, Clients.WELCOME_VERIFIED)
    needed = 0 if welcome else SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(SSL.VERIFY_PEER | needed, _as_openssl_says if files.verify else _anybody)
    if files.verify:
        trust(context, files.ca)


def _hosts(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in found.value if isinstance(name, _HOST)]


def _as_openssl_says(
    _connection: Any, _certificate: Any, _error: int, _depth: int, ok: int
) -> bool:
    return bool(ok)


def _anybody(_connection: Any, _certificate: Any, _error: int, _depth: int, _ok: int) -> bool:
    return True


def _private_key(path: Path, password: str | None) -> Any:
    found = _KEY.search(path.read_bytes())
    if found is None:
        raise ConfigurationError((f"{path} holds no private key in PEM",))
    encrypted = b"ENCRYPTED" in found.group()
    given = password.encode() if encrypted and password is not None else None
    try:
        return load_pem_private_key(found.group(), given)
    except (TypeError, ValueError):
        reason = "the password does not open it" if encrypted else "it is no private key"
        raise ConfigurationError((f"{path}: {reason}",)) from None

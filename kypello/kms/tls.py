# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The client's end of mutual TLS.

The key server knows us by the key of our certificate; we know it by its name, in a certificate
of an authority that we trust.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from kypello.crypto.apikey import APIKey
from kypello.errors import ConfigurationError
from kypello.kms.certificates import (
    certificates,
    is_authority,
    make_certificate,
    public_key,
)
from kypello.kms.verification import VerifiedServer
from kypello.kmsconfig import KESSettings

_KEY_FILE = "MINIO_KMS_KES_KEY_FILE"
_CERT_FILE = "MINIO_KMS_KES_CERT_FILE"
_PASSWORD = "MINIO_KMS_KES_KEY_PASSWORD"  # noqa: S105  (the name of a variable)
_CAPATH = "MINIO_KMS_KES_CAPATH"
_API_KEY = "MINIO_KMS_KES_API_KEY"

_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\r?\n.*?-----END \1-----", re.DOTALL)
_RENEWAL = timedelta(days=30)


@frozen
class Loaded:
    """
    What is needed to connect.

    :ivar stamp: Tells whether the files have changed since.
    :ivar context: For all connections.
    :ivar expires: When our certificate does; a server may not care.
    :ivar warnings: What was passed over, or will be trouble, for people.
    :ivar renew: From when on another one has to be made, in seconds since the epoch.
    """

    stamp: tuple[object, ...]
    context: SSL.Context = field(repr=False)
    expires: datetime
    warnings: tuple[str, ...] = ()
    renew: float = float("inf")


def load(
    settings: KESSettings, old: Loaded | None = None, *, now: Callable[[], float] = time.time
) -> Loaded:
    """
    Read keys and certificates; blocking.

    :param old: Given back when all is still as it was read.
    :param now: Seconds since the epoch.
    :raises ConfigurationError: They cannot be used, with every mistake.
    """
    loading = _Loading(settings, datetime.fromtimestamp(now(), UTC))
    stamp = loading.stamp()
    if old is not None and old.stamp == stamp and now() < old.renew:
        return old
    return loading.load(stamp)


@implementer(IPolicyForHTTPS)
@define(eq=False)
class ClientTLS:
    """
    Makes TLS connections of a client, with what was loaded last.
    """

    loaded: Loaded

    def creatorForNetloc(self, hostname: bytes, _port: int) -> IOpenSSLClientConnectionCreator:
        """
        Called by Twisted for each connection.
        """
        creator: IOpenSSLClientConnectionCreator = VerifiedServer(
            self.loaded.context, hostname.decode("ascii")
        )
        return creator


@define(eq=False)
class _Loading:
    """
    One reading of everything.

    :ivar _mistakes: Each a sentence that says what to change.
    """

    _settings: KESSettings
    _now: datetime
    _mistakes: list[str] = field(factory=list)
    _warnings: list[str] = field(factory=list)
    _renew: float = float("inf")

    def stamp(self) -> tuple[object, ...]:
        """
        What changes when a file does.
        """
        settings = self._settings
        paths = [path for path in (settings.key_file, settings.cert_file) if path is not None]
        if settings.ca_path is not None:
            paths += [settings.ca_path, *_files(settings.ca_path)]
        return tuple(_stamp(path) for path in paths)

    def load(self, stamp: tuple[object, ...]) -> Loaded:
        """
        Read everything.

        :raises ConfigurationError:
        """
        context = _fresh_context()
        self._trust(context)
        if self._settings.api_key is not None:
            key, chain = self._from_api_key(self._settings.api_key)
        else:
            key, chain = self._from_files()
        if key is not None and chain:
            self._present(context, key, chain)
        if self._mistakes:
            raise ConfigurationError(tuple(self._mistakes))
        return Loaded(
            stamp, context, chain[0].not_valid_after_utc, tuple(self._warnings), self._renew
        )

    def _from_api_key(self, text: str) -> tuple[Any, list[x509.Certificate]]:
        try:
            api_key = APIKey.parse(text)
        except ValueError as error:
            self._mistakes.append(f"{_API_KEY} is no API key: {error}.")
            return None, []
        self._renew = (self._now + _RENEWAL).timestamp()
        return api_key.private_key, [make_certificate(api_key, self._now)]

    def _from_files(self) -> tuple[Any, list[x509.Certificate]]:
        key: Any = None
        chain: list[x509.Certificate] = []
        content = self._read(_KEY_FILE, self._settings.key_file)
        if content is not None:
            key = self._private_key(content)
        content = self._read(_CERT_FILE, self._settings.cert_file)
        if content is not None:
            chain, broken = certificates(content)
            if broken or not chain:
                self._mistakes.append(
                    f"{_CERT_FILE}: {self._settings.cert_file} must hold a certificate in PEM,"
                    f" and holds {'one that is damaged' if broken else 'none'}."
                )
                chain = []
        if key is not None and chain and public_key(key) != public_key(chain[0]):
            self._mistakes.append(
                f"{_KEY_FILE}: {self._settings.key_file} is not the key of the first certificate"
                f" in {self._settings.cert_file} ({_CERT_FILE})."
            )
        return key, chain

    def _private_key(self, content: bytes) -> Any:
        path = self._settings.key_file
        found = _KEY.search(content)
        if found is None:
            self._mistakes.append(f"{_KEY_FILE}: {path} holds no private key in PEM.")
            return None
        password = self._settings.key_password
        encrypted = b"ENCRYPTED" in found.group()
        if encrypted and not password:
            self._mistakes.append(
                f"{_KEY_FILE}: {path} is encrypted; give its password in {_PASSWORD}."
            )
            return None
        given = password.encode() if encrypted and password is not None else None
        try:
            return load_pem_private_key(found.group(), given)
        except UnsupportedAlgorithm:
            reason = "is encrypted, or made, in a way that is not supported"
        except (TypeError, ValueError):
            reason = "holds a private key that is damaged or of an unknown kind"
            if encrypted:
                reason = f"cannot be opened with the password in {_PASSWORD}"
        # The cause is dropped: its text may tell of the key.
        self._mistakes.append(f"{_KEY_FILE}: {path} {reason}.")
        return None

    def _present(self, context: SSL.Context, key: Any, chain: list[x509.Certificate]) -> None:
        first, *others = chain
        try:
            context.use_certificate(first)
            for certificate in others:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(key)
            context.check_privatekey()
        except (SSL.Error, TypeError, ValueError) as error:
            if not self._mistakes:
                self._mistakes.append(
                    f"{_CERT_FILE}: OpenSSL refuses {self._settings.cert_file}: {_words(error)}."
                )
        if is_authority(first):
            self._warnings.append(
                f"The certificate in {self._settings.cert_file} is that of a CA, which key"
                " servers pass over: make one without CA:TRUE."
            )

    def _trust(self, context: SSL.Context) -> None:
        context.set_default_verify_paths()
        path = self._settings.ca_path
        if path is None:
            return
        found: list[x509.Certificate] = []
        try:
            if path.is_dir():
                for file in _files(path):
                    found += self._passable(file)
            else:
                found, broken = certificates(path.read_bytes())
                if broken and found:
                    self._warnings.append(f"{path} holds certificates that are damaged.")
                if not found:
                    self._mistakes.append(f"{_CAPATH}: {path} holds no certificate in PEM.")
        except OSError as error:
            self._mistakes.append(_unreadable(_CAPATH, path, error))
        store = context.get_cert_store()
        assert store is not None
        # As Go does: whatever is trusted ends a chain, if it is not signed by itself too.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for certificate in found:
            store.add_cert(crypto.X509.from_cryptography(certificate))

    def _passable(self, file: Path) -> list[x509.Certificate]:
        try:
            found, broken = certificates(file.read_bytes())
        except OSError as error:
            self._warnings.append(f"{file} cannot be read and is passed over: {error.strerror}.")
            return []
        if not found:
            self._warnings.append(f"{file} holds no certificate in PEM and is passed over.")
        elif broken:
            self._warnings.append(f"{file} holds certificates that are damaged.")
        return found

    def _read(self, variable: str, path: Path | None) -> bytes | None:
        if path is None:
            self._mistakes.append(
                f"{variable} is not set: give {_KEY_FILE} and {_CERT_FILE}, or {_API_KEY}."
            )
            return None
        try:
            return path.read_bytes()
        except OSError as error:
            self._mistakes.append(_unreadable(variable, path, error))
            return None


def expired(when: datetime) -> str:
    """
    Say that our certificate has expired.
    """
    return (
        f"The client certificate for the key server expired on {when:%Y-%m-%d %H:%M} UTC."
        f" Servers that check dates refuse it: renew the file in {_CERT_FILE}."
    )


def _fresh_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_alpn_protos([b"http/1.1"])
    # Each connection brings its own callback; without one nobody is trusted.
    context.set_verify(SSL.VERIFY_PEER, _nobody)
    return context


def _nobody(_connection: Any, _found: Any, _error: int, _depth: int, _ok: int) -> bool:
    return False


def _files(path: Path) -> list[Path]:
    try:
        return sorted(file for file in path.iterdir() if file.is_file())
    except OSError:
        return []  # no directory, or none that can be read; that is told elsewhere


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return path, error.errno
    return path, found.st_ino, found.st_size, found.st_mtime_ns


def _words(error: Exception) -> str:
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return ", ".join(reason for _library, _function, reason in error.args[0])
    return type(error).__name__


def _unreadable(variable: str, path: Path, error: OSError) -> str:
    reason = (error.strerror or type(error).__name__).lower()
    return f"{variable} names {error.filename or path}, which cannot be read: {reason}."

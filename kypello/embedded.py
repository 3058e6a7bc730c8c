# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key server inside the object server, for those who have none.

It is a key server like any other: on loopback, with a CA of its own and mutual TLS, spoken to by
the ordinary agent.  Its keys lie in the data directory.
"""

import socket
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.logger import Logger

from kypello.crypto.apikey import APIKey
from kypello.crypto.randomness import Random
from kypello.errors import ConfigurationError
from kypello.http.tls import Clients, TLSFiles
from kypello.kes.certificates import Signer, make_authority, make_certificate
from kypello.kes.config import KeyServerConfig
from kypello.kes.policy import Access, Policy
from kypello.keystore.fsconfig import FSSettings, Passphrase
from kypello.kmsconfig import KESSettings
from kypello.store.directory import write_private

#: The master key that is used when none is named.
DEFAULT_KEY = "kypello-default-key"

#: What the embedded key server protects, for whoever starts the object server.
NOTICE = (
    "The master keys are in {directory}, beside the data. This protects copies of the data that"
    " leave this machine without that folder, and not a stolen disk. To keep the keys elsewhere,"
    " run a key server on another machine with this folder as its fs key store, and name it in"
    " MINIO_KMS_KES_ENDPOINT."
)

#: The same for keys that are sealed.
SEALED_NOTICE = (
    "The master keys are in {directory}, sealed under the passphrase in {file}. A stolen disk does"
    " not open them, if the passphrase is on another one. Nothing opens them without it: keep a"
    " copy elsewhere."
)

_HOST = "127.0.0.1"
_PORTS = range(20000, 32768)  # below those that the kernel hands out
_ATTEMPTS = 100
_DAY = 86400.0
_LIFETIME = 3650 * _DAY
_RENEWAL = 365 * _DAY
_RULES = (
    "/v1/key/create/*",
    "/v1/key/describe/*",
    "/v1/key/list/*",
    "/v1/key/generate/*",
    "/v1/key/encrypt/*",
    "/v1/key/decrypt/*",
    "/v1/key/hmac/*",
    "/v1/status",
    "/v1/ready",
    "/v1/api",
)

_log = Logger()


@frozen
class Embedded:
    """
    Both ends of an embedded key server.

    :ivar config: For the server.
    :ivar settings: For its client.
    :ivar keys: Where the master keys are.
    """

    config: KeyServerConfig
    settings: KESSettings
    keys: FSSettings

    @property
    def notice(self) -> str:
        """
        What the key server protects, for whoever starts the object server.
        """
        directory, passphrase = self.keys.path.resolve(), self.keys.passphrase
        if passphrase is None:
            return NOTICE.format(directory=directory)
        return SEALED_NOTICE.format(directory=directory, file=passphrase.file)


def provision(
    directory: Path,
    now: float,
    random: Random,
    port: int,
    passphrase_file: Path | None = None,
) -> Embedded:
    """
    Make what is missing, renew what expires within a year, and leave the rest alone; blocking.

    :param directory: The data directory; everything goes into its folder ``kes``.
    :param now: Seconds since the epoch.
    :param passphrase_file: What the master keys are sealed under; ``None`` for nothing.
    :raises ConfigurationError: The directory cannot be used.
    """
    folder = directory / "kes"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        api_key = _api_key(folder / "client.key", random)
        _certify(folder, now, random)
    except OSError as error:
        raise ConfigurationError((f"{error.filename}: {error.strerror}",)) from error
    policy = Policy("kypello", _RULES)
    passphrase = None if passphrase_file is None else Passphrase(file=passphrase_file)
    keys = FSSettings(folder / "keys", passphrase)
    config = KeyServerConfig(
        _HOST,
        port,
        Access("disabled", {api_key.identity: policy}),
        TLSFiles(folder / "server.pem", folder / "server.pem", clients=Clients.KNOWN_BY_KEY),
        keys,
        error_level=4,
        audit=False,
    )
    settings = KESSettings(
        (f"https://{_HOST}:{port}",), DEFAULT_KEY, api_key=api_key.text, ca_path=folder / "ca.crt"
    )
    return Embedded(config, settings, keys)


def free_port(random: Random) -> int:
    """
    A port of loopback that nobody listens on.

    :raises ConfigurationError: None was found.
    """
    for _ in range(_ATTEMPTS):
        port = _PORTS[int.from_bytes(random(4), "big") % len(_PORTS)]
        with suppress(OSError), socket.create_server((_HOST, port)):
            return port
    raise ConfigurationError(("no port is free for the embedded key server",))


def _api_key(path: Path, random: Random) -> APIKey:
    with suppress(FileNotFoundError):
        try:
            return APIKey.parse(path.read_text("ascii").strip())
        except ValueError:
            # A new one is as good: the server learns its identity from here.
            _log.warn("{path} holds no API key and is replaced", path=path)
    made = APIKey.generate(random)
    write_private(path, made.text.encode() + b"\n", random)
    return made


def _certify(folder: Path, now: float, random: Random) -> None:
    authority_path, server_path = folder / "ca.crt", folder / "server.pem"
    if _usable(authority_path, server_path, now):
        return
    # The key of the CA is forgotten at once, so that nobody can ever sign with it again.
    authority = Signer("Kypello embedded key server CA", ec.generate_private_key(ec.SECP256R1()))
    server = Signer("Kypello embedded key server", ec.generate_private_key(ec.SECP256R1()))
    root = make_authority(authority, now=now, lifetime=_LIFETIME, random=random)
    leaf = make_certificate(
        server, authority, ("localhost", _HOST), now=now, lifetime=_LIFETIME, random=random
    )
    key = server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(server_path, key + leaf.public_bytes(Encoding.PEM), random)
    write_private(authority_path, root.public_bytes(Encoding.PEM), random)


def _usable(authority_path: Path, server_path: Path, now: float) -> bool:
    try:
        root = x509.load_pem_x509_certificate(authority_path.read_bytes())
        leaf = x509.load_pem_x509_certificate(server_path.read_bytes())
        leaf.verify_directly_issued_by(root)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    until = min(one.not_valid_after_utc.timestamp() for one in (root, leaf))
    since = max(one.not_valid_before_utc.timestamp() for one in (root, leaf))
    return since <= now <= until - _RENEWAL

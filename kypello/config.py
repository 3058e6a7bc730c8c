# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configuration: arguments and a mapping of environment variables in, a frozen :class:`Config` out.

Nearly all variables are MinIO's; ``KYPELLO_X`` stands for ``MINIO_X``.
"""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.ellipses import expand
from kypello.environment import Environment, ReadText
from kypello.errors import ConfigurationError
from kypello.model import Identity

#: Where the server listens unless told otherwise: all addresses.
DEFAULT_ADDRESS = ":9000"

_KES = "MINIO_KMS_KES_"
_ENDPOINT, _KEY_NAME, _API_KEY = _KES + "ENDPOINT", _KES + "KEY_NAME", _KES + "API_KEY"
_KEY_FILE, _CERT_FILE = _KES + "KEY_FILE", _KES + "CERT_FILE"
_KEY_PASSWORD, _CAPATH = _KES + "KEY_PASSWORD", _KES + "CAPATH"
_STATIC = "MINIO_KMS_SECRET_KEY"
_AUTO = "MINIO_KMS_AUTO_ENCRYPTION"
_MINKMS = ("MINIO_KMS_SERVER", "MINIO_KMS_ENCLAVE", "MINIO_KMS_SSE_KEY", "MINIO_KMS_API_KEY")
_KMS_OTHERS = (_STATIC, f"{_STATIC}_FILE", _AUTO, "MINIO_KMS_REPLICATE_KEYID", *_MINKMS)
_KMS_KES = (_ENDPOINT, _KEY_NAME, _API_KEY, _KEY_FILE, _CERT_FILE, _KEY_PASSWORD, _CAPATH)
_KEY_NAMES = re.compile(r"(?!_\Z)[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,78}[0-9A-Za-z_])?")
_REGIONS = ("MINIO_SITE_REGION", "MINIO_REGION", "MINIO_REGION_NAME")
_REGION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]*")
_DOMAIN = "MINIO_DOMAIN"
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAINS = re.compile(rf"{_LABEL}(?:[.]{_LABEL})*")
_SIGNATURE_V2 = "MINIO_API_SIGNATURE_V2"
_ACCOUNT_ID = "MINIO_ACCOUNT_ID"
_ACCOUNT_IDS = re.compile("[0-9]{12}")
_STORAGE_CLASSES = "MINIO_STORAGE_CLASS_LABELS"
_STORAGE_CLASS = re.compile("[A-Z0-9][A-Z0-9_-]{0,63}")
#: Who stores under these expects to have to ask for the object hours before reading it.
_ARCHIVES = frozenset({"DEEP_ARCHIVE", "GLACIER", "GLACIER_IR"})
_KEY_SIZE = 32
_KES_PORT = 7373


@frozen
class KESSettings:
    """
    How to reach KES servers.

    Either *api_key*, or *key_file* with *cert_file*, authenticates us.

    :ivar endpoints: URLs such as ``https://kes.example:7373``, patterns expanded.
    :ivar key_name: The default master key.
    :ivar api_key: ``kes:v1:...``.
    :ivar key_password: For an encrypted *key_file*.
    :ivar ca_path: A file or a directory of CA certificates in PEM, trusted in addition to
        those of the system; ``None`` for the system's alone.
    """

    endpoints: tuple[str, ...]
    key_name: str
    api_key: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    cert_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    ca_path: Path | None = None


@frozen
class StaticKeySettings:
    """
    One master key given in the environment (``MINIO_KMS_SECRET_KEY``).

    :ivar key: 32 bytes.
    """

    name: str
    key: bytes = field(repr=False)


@frozen
class Arguments:
    """
    What stands on the command line.

    :ivar directories: Where the data is; none leaves it to ``MINIO_VOLUMES``.
    :ivar address: ``HOST:PORT``; ``None`` leaves it to ``MINIO_ADDRESS``.
    :ivar certs_dir: ``None`` for the default.
    """

    directories: tuple[str, ...] = ()
    address: str | None = None
    certs_dir: str | None = None


@frozen
class Config:
    """
    An object server.

    :ivar directory: Where the data is.
    :ivar host: An address of this machine; empty for all.
    :ivar port: ``0`` for a free one.
    :ivar certs_dir: Where ``public.crt`` and ``private.key`` may lie; ``None`` for the default.
    :ivar cert_password: For an encrypted ``private.key``.
    :ivar root: Who may do everything; ``None`` for the one that the directory keeps.
    :ivar region: ``None`` stands for ``us-east-1`` and accepts all.
    :ivar kms: ``None`` for the embedded key server.
    :ivar auto_encryption: Whether what asks for nothing is encrypted.
    :ivar warnings: What is ignored, or should be changed.
    :ivar domains: Under which hosts name buckets, in lower case.
    :ivar signature_v2: Whether signatures of version 2 count, in URLs and forms.
    :ivar account_id: The owner of all buckets, 12 digits; ``None`` for whoever is expected.
    :ivar storage_classes: Labels that objects may have beside those that all servers know.
    """

    directory: Path
    host: str
    port: int
    certs_dir: Path | None = None
    cert_password: str | None = field(default=None, repr=False)
    root: Identity | None = None
    region: str | None = None
    kms: KESSettings | StaticKeySettings | None = None
    auto_encryption: bool = False
    warnings: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    signature_v2: bool = True
    account_id: str | None = None
    storage_classes: frozenset[str] = frozenset()


def parse_config(arguments: Arguments, variables: Mapping[str, str], read: ReadText) -> Config:
    """
    Understand a configuration.

    :param variables: The environment.
    :param read: Gives the text of files that variables name.
    :raises ConfigurationError: With every mistake in it.
    """
    environment = Environment.load(variables, read)
    directory = _directory(arguments.directories, environment)
    host, port = _address(arguments.address, environment)
    config = Config(
        directory,
        host,
        port,
        None if arguments.certs_dir is None else Path(arguments.certs_dir),
        environment.text("MINIO_CERT_PASSWD") or None,
        _root(environment),
        _region(environment),
        _kms(environment),
        environment.flag(_AUTO),
        tuple(environment.warnings),
        _domains(environment),
        not environment.text(_SIGNATURE_V2) or environment.flag(_SIGNATURE_V2),
        _account_id(environment),
        _storage_classes(environment),
    )
    if environment.mistakes:
        raise ConfigurationError(tuple(environment.mistakes))
    return config


def _directory(given: Sequence[str], environment: Environment) -> Path:
    directories = list(given) or (environment.text("MINIO_VOLUMES") or "").split()
    if not directories:
        environment.mistakes.append(
            "No data directory is given: name it, as in `kypello server DIR`, or set MINIO_VOLUMES."
        )
        return Path()
    first = directories[0]
    if len(directories) > 1 or "..." in first:
        environment.mistakes.append(
            f"There are several data directories ({' '.join(directories)}), but Kypello keeps"
            " its data in one: it does no erasure coding of its own. Name one directory, on a"
            " file system or volume (RAID, ZFS, Ceph) that survives the loss of a disk."
        )
    elif "://" in first:
        environment.mistakes.append(
            f"{first} is a URL; Kypello keeps its data in a local directory. Name that."
        )
    return Path(first)


def _address(given: str | None, environment: Environment) -> tuple[str, int]:
    text = given or environment.text("MINIO_ADDRESS") or DEFAULT_ADDRESS
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    valid = colon and port.isascii() and port.isdecimal() and int(port) < 2**16
    if valid and host:
        try:
            # Of the names of this machine only one is sure to mean the same to everybody.
            host = "127.0.0.1" if host == "localhost" else str(ip_address(host))
        except ValueError:
            valid = ""
    if not valid:
        environment.mistakes.append(
            f"The address {text!r} is not of the form HOST:PORT, such as :9000, 127.0.0.1:9000"
            " or [::1]:9000."
        )
        return "", 0
    return host, int(port)


def _root(environment: Environment) -> Identity | None:
    user, password = (
        environment.secret("MINIO_ROOT_USER"),
        environment.secret("MINIO_ROOT_PASSWORD"),
    )
    if user is None and password is None:
        user, password = (
            environment.secret("MINIO_ACCESS_KEY"),
            environment.secret("MINIO_SECRET_KEY"),
        )
        if user is not None or password is not None:
            environment.warnings.append(
                "MINIO_ACCESS_KEY and MINIO_SECRET_KEY are old names: set MINIO_ROOT_USER and"
                " MINIO_ROOT_PASSWORD."
            )
    if not user and not password:
        return None
    if not user or not password:
        environment.mistakes.append(
            "MINIO_ROOT_USER and MINIO_ROOT_PASSWORD go together: set both or none."
        )
        return None
    if len(user) < 3 or any(sign in user for sign in "=,/ \n"):
        environment.mistakes.append(
            "MINIO_ROOT_USER must have at least 3 characters, and no blank, comma, slash or"
            " equals sign."
        )
    if len(password) < 8:
        environment.mistakes.append("MINIO_ROOT_PASSWORD must have at least 8 characters.")
    if password == "minioadmin":  # noqa: S105  # the default of MinIO
        environment.warnings.append(
            "MINIO_ROOT_PASSWORD is the one that everybody knows: choose another."
        )
    return Identity(user, password)


def _region(environment: Environment) -> str | None:
    for name in _REGIONS:
        region = environment.text(name)
        if region:
            if not _REGION.fullmatch(region):
                environment.mistakes.append(f"{name} must hold letters, digits and hyphens.")
            return region
    return None


def _domains(environment: Environment) -> tuple[str, ...]:
    domains = [name.lower().removesuffix(".") for name in _list(environment, _DOMAIN)]
    for name in domains:
        if not _DOMAINS.fullmatch(name) or name.rpartition(".")[2].isdigit():
            environment.mistakes.append(
                f"{_DOMAIN}: {name!r} is no domain such as s3.example.com; separate several with"
                " commas, and leave out ports."
            )
    return tuple(dict.fromkeys(domains))


def _account_id(environment: Environment) -> str | None:
    account_id = environment.text(_ACCOUNT_ID) or None
    if account_id is not None and not _ACCOUNT_IDS.fullmatch(account_id):
        environment.mistakes.append("KYPELLO_ACCOUNT_ID must have 12 digits.")
    return account_id


def _storage_classes(environment: Environment) -> frozenset[str]:
    labels = frozenset(_list(environment, _STORAGE_CLASSES))
    for label in sorted(labels):
        if label in _ARCHIVES:
            environment.mistakes.append(
                f"KYPELLO_STORAGE_CLASS_LABELS: {label} is an archive, and Kypello has none."
            )
        elif not _STORAGE_CLASS.fullmatch(label):
            environment.mistakes.append(
                f"KYPELLO_STORAGE_CLASS_LABELS: {label!r} is no storage class such as"
                " STANDARD_IA; separate several with commas."
            )
    return labels


def _list(environment: Environment, name: str) -> list[str]:
    items = [one.strip() for one in (environment.text(name) or "").split(",")]
    return [one for one in items if one]


def _kms(environment: Environment) -> KESSettings | StaticKeySettings | None:
    known = {*_KMS_KES, *_KMS_OTHERS}
    for name in environment.named("MINIO_KMS_"):
        if name not in known:
            environment.warnings.append(f"{name} is unknown, so it is ignored.")
    if environment.given(*_MINKMS):
        environment.mistakes.append(
            f"{', '.join(environment.given(*_MINKMS))} is of MinIO KMS, a closed product that"
            " Kypello does not speak to: use KES servers (MINIO_KMS_KES_ENDPOINT)."
        )
    static = environment.secret(_STATIC)
    kes = environment.given(*_KMS_KES)
    if kes and static:
        environment.mistakes.append(
            f"{', '.join(kes)} is of KES, and {_STATIC} is a static key: keep one of them."
        )
        return None
    if kes:
        return _kes(environment)
    return _static(environment, static) if static else None


def _kes(environment: Environment) -> KESSettings | None:
    mistakes = environment.mistakes
    before = len(mistakes)
    endpoints = _endpoints(environment)
    key_name = environment.text(_KEY_NAME) or ""
    if not key_name:
        mistakes.append(f"{_KEY_NAME} is missing: it names the master key to use.")
    elif not _KEY_NAMES.fullmatch(key_name):
        mistakes.append(f"{_KEY_NAME}: {_no_key_name(key_name)}")
    api_key = environment.text(_API_KEY) or None
    files = [name for name in (_KEY_FILE, _CERT_FILE, _KEY_PASSWORD) if environment.text(name)]
    if api_key and files:
        mistakes.append(
            f"{_API_KEY} and {', '.join(files)} say twice who we are: keep one of them."
        )
    elif not api_key and not files:
        mistakes.append(
            f"KES must know who we are: set {_API_KEY}, or {_KEY_FILE} and {_CERT_FILE}."
        )
    elif not api_key:
        mistakes += [
            f"{name} is missing: a certificate and its private key go together."
            for name in (_CERT_FILE, _KEY_FILE)
            if name not in files
        ]
    if len(mistakes) > before:
        return None
    return KESSettings(
        endpoints,
        key_name,
        api_key,
        _path(environment, _KEY_FILE),
        _path(environment, _CERT_FILE),
        environment.text(_KEY_PASSWORD) or None,
        _path(environment, _CAPATH),
    )


def _path(environment: Environment, name: str) -> Path | None:
    text = environment.text(name)
    return Path(text) if text else None


def _endpoints(environment: Environment) -> tuple[str, ...]:
    mistakes = environment.mistakes
    patterns = [one.strip() for one in (environment.text(_ENDPOINT) or "").split(",")]
    endpoints: list[str] = []
    for pattern in filter(None, patterns):
        try:
            expanded = expand(pattern)
        except ValueError as error:
            mistakes.append(f"{_ENDPOINT}: {pattern}: {error}.")
            continue
        endpoints += [one.rstrip("/") for one in expanded]
        for one in expanded:
            problem = _no_endpoint(one)
            if problem:
                mistakes.append(f"{_ENDPOINT}: {problem}.")
                break
    if not any(patterns):
        mistakes.append(
            f"{_ENDPOINT} is missing: the URLs of the KES servers, such as"
            f" https://kes.example:{_KES_PORT}."
        )
    return tuple(dict.fromkeys(endpoints))


def _no_endpoint(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{url} is no URL"
    if parts.username is not None or parts.password is not None:
        return "a URL must not hold credentials"
    if parts.scheme == "http":
        return f"{url} must begin with https://: KES is spoken over mutual TLS"
    if parts.scheme != "https" or not host or port == 0:
        return f"{url} is no URL such as https://kes.example:{_KES_PORT}"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"{url} must end after host and port"
    return None


def _static(environment: Environment, text: str) -> StaticKeySettings | None:
    name, colon, encoded = text.partition(":")
    # The value is never repeated: it is a secret.
    if not colon:
        environment.mistakes.append(f"{_STATIC} must be NAME:BASE64.")
        return None
    if not _KEY_NAMES.fullmatch(name):
        environment.mistakes.append(f"{_STATIC}: {_no_key_name(name)}")
        return None
    try:
        key = b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        environment.mistakes.append(f"{_STATIC}: what follows {name}: is not base64.")
        return None
    if len(key) != _KEY_SIZE:
        environment.mistakes.append(
            f"{_STATIC}: the key {name} has {len(key)} bytes instead of {_KEY_SIZE}. Make one"
            " with `openssl rand -base64 32`."
        )
        return None
    return StaticKeySettings(name, key)


def _no_key_name(name: str) -> str:
    if len(name) > 80 or not name.isprintable():
        return "the key name is longer than 80 characters, or not printable."
    return f"{name!r} is no key name: up to 80 letters, digits, - and _."

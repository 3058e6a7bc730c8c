# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configuration: arguments and a mapping of environment variables in, a frozen :class:`Config` out.

Nearly all variables are MinIO's; ``KYPELLO_X`` stands for ``MINIO_X``.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from attrs import field, frozen

from kypello.accessconfig import AccessSettings, read_access
from kypello.environment import Environment, ReadText
from kypello.errors import ConfigurationError
from kypello.eventconfig import EventSettings, read_events
from kypello.identityconfig import IdentitySettings, read_identity
from kypello.kmsconfig import (
    AUTO_ENCRYPTION,
    USUAL,
    KESSettings,
    Reuse,
    StaticKeySettings,
    read_kms,
    read_passphrase_file,
    read_reuse,
)
from kypello.model import SSE_C, Identity
from kypello.scannerconfig import ScannerSettings, read_scanner

#: Where the server listens unless told otherwise: all addresses.
DEFAULT_ADDRESS = ":9000"

#: How many processes may share a data directory.
MOST_WORKERS = 256

#: What is no stranger, although it is not always asked for: arguments count more, as do newer
#: names, and some are for the unit of systemd and for commands that ask a server.
_ELSEWHERE = (
    "MINIO_VOLUMES",
    "MINIO_ADDRESS",
    "MINIO_WORKERS",
    "MINIO_OPTS",
    "MINIO_ENDPOINT",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
)
_REGIONS = ("MINIO_SITE_REGION", "MINIO_REGION", "MINIO_REGION_NAME")
_REGION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]*")
_DOMAIN = "MINIO_DOMAIN"
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAINS = re.compile(rf"{_LABEL}(?:[.]{_LABEL})*")
_SIGNATURE_V2 = "MINIO_API_SIGNATURE_V2"
_LOOPBACK_KEYS = "MINIO_API_SSE_C_OVER_LOOPBACK_HTTP"
_ACCOUNT_ID = "MINIO_ACCOUNT_ID"
_BLOCKED_ENCRYPTION = "MINIO_BLOCKED_ENCRYPTION_TYPES"
_CORS_ORIGINS = "MINIO_API_CORS_ALLOW_ORIGIN"
_CORS_ORIGIN = re.compile(r"[!-)+-~]*\*?[!-)+-~]*")
_WORKERS = "MINIO_WORKERS"
_ACCOUNT_IDS = re.compile("[0-9]{12}")
_STORAGE_CLASSES = "MINIO_STORAGE_CLASS_LABELS"
_STORAGE_CLASS = re.compile("[A-Z0-9][A-Z0-9_-]{0,63}")
#: Who stores under these expects to have to ask for the object hours before reading it.
_ARCHIVES = frozenset({"DEEP_ARCHIVE", "GLACIER", "GLACIER_IR"})


@frozen
class Arguments:
    """
    What stands on the command line.

    :ivar directories: Where the data is; none leaves it to ``MINIO_VOLUMES``.
    :ivar address: ``HOST:PORT``; ``None`` leaves it to ``MINIO_ADDRESS``.
    :ivar certs_dir: ``None`` for the default.
    :ivar workers: ``None`` leaves it to ``MINIO_WORKERS``.
    """

    directories: tuple[str, ...] = ()
    address: str | None = None
    certs_dir: str | None = None
    workers: str | None = None


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
    :ivar passphrase_file: With what seals the keys of that; ``None`` for keys that lie in clear.
    :ivar auto_encryption: Whether what asks for nothing is encrypted.
    :ivar warnings: What is ignored, or should be changed.
    :ivar unused: What is ignored, and may stay as it is: what only MinIO needs.
    :ivar domains: Under which hosts name buckets, in lower case.
    :ivar signature_v2: Whether signatures of version 2 count, in URLs and forms.
    :ivar loopback_customer_keys: Whether clients on this machine may send keys of their own
        over plain HTTP.
    :ivar account_id: The owner of all buckets, 12 digits; ``None`` for whoever is expected.
    :ivar workers: How many processes serve requests; ``None`` for one per core.
    :ivar storage_classes: Labels that objects may have beside those that all servers know.
    :ivar access: How requests are judged.
    :ivar identity: Who else says who somebody is.
    :ivar cors_origins: Whose pages browsers let use buckets without rules for that.
    :ivar scanner: What happens in the background.
    :ivar events: Where events are sent.
    :ivar blocks_customer_keys: Whether new buckets take no content with keys of clients until they
        are told to.
    :ivar reuse: How far data keys are used again.
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
    unused: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    signature_v2: bool = True
    loopback_customer_keys: bool = False
    account_id: str | None = None
    storage_classes: frozenset[str] = frozenset()
    workers: int | None = None
    access: AccessSettings = field(factory=AccessSettings)
    identity: IdentitySettings = field(factory=IdentitySettings)
    cors_origins: tuple[str, ...] = ("*",)
    passphrase_file: Path | None = None
    scanner: ScannerSettings = field(factory=ScannerSettings)
    events: EventSettings = field(factory=EventSettings)
    blocks_customer_keys: bool = False
    reuse: Reuse = USUAL


def parse_config(arguments: Arguments, variables: Mapping[str, str], read: ReadText) -> Config:
    """
    Understand a configuration.

    :param variables: The environment.
    :param read: Gives the text of files that variables name.
    :raises ConfigurationError: With every mistake in it.
    """
    environment = Environment.load(variables, read)
    environment.given(*_ELSEWHERE, *_REGIONS)
    directory = _directory(arguments.directories, environment)
    host, port = _address(arguments.address, environment)
    identity = read_identity(environment)
    events = read_events(environment)
    kms = read_kms(environment)
    passphrase_file = read_passphrase_file(environment, variables, kms)
    scanner = read_scanner(environment)
    config = Config(
        directory,
        host,
        port,
        None if arguments.certs_dir is None else Path(arguments.certs_dir),
        environment.text("MINIO_CERT_PASSWD") or None,
        _root(environment),
        _region(environment),
        kms,
        environment.flag(AUTO_ENCRYPTION),
        domains=_domains(environment),
        signature_v2=not environment.text(_SIGNATURE_V2) or environment.flag(_SIGNATURE_V2),
        loopback_customer_keys=environment.flag(_LOOPBACK_KEYS),
        account_id=_account_id(environment),
        storage_classes=_storage_classes(environment),
        workers=_workers(arguments.workers, environment),
        access=read_access(environment),
        identity=identity,
        cors_origins=_cors_origins(environment),
        passphrase_file=passphrase_file,
        scanner=scanner,
        events=events,
        blocks_customer_keys=_blocks_customer_keys(environment),
        reuse=read_reuse(environment),
        # The last, since what nobody has asked for is known when all have asked.
        warnings=(*environment.warnings, *environment.misspelt()),
        unused=tuple(environment.unused()),
    )
    if environment.mistakes:
        # What is misspelt may be what is missing.
        raise ConfigurationError((*environment.mistakes, *environment.misspelt()))
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


def _blocks_customer_keys(environment: Environment) -> bool:
    text = environment.text(_BLOCKED_ENCRYPTION) or "NONE"
    if text not in ("NONE", SSE_C):
        environment.mistakes.append("KYPELLO_BLOCKED_ENCRYPTION_TYPES must be NONE or SSE-C.")
    return text == SSE_C


def _workers(given: str | None, environment: Environment) -> int | None:
    text = given or environment.text(_WORKERS) or None
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MOST_WORKERS):
        environment.mistakes.append(
            f"The number of workers {text!r} is none from 1 to {MOST_WORKERS}. Leave it out for one"
            " per core."
        )
        return None
    return int(text)


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


def _cors_origins(environment: Environment) -> tuple[str, ...]:
    origins = _list(environment, _CORS_ORIGINS)
    if origins == ["off"]:
        return ()
    for origin in origins:
        if not _CORS_ORIGIN.fullmatch(origin):
            environment.mistakes.append(
                f"{_CORS_ORIGINS}: {origin!r} is no origin such as https://app.example.com or"
                " https://*.example.com; separate several with commas, or set it to off."
            )
    return tuple(origins) or ("*",)


def _list(environment: Environment, name: str) -> list[str]:
    items = [one.strip() for one in (environment.text(name) or "").split(",")]
    return [one for one in items if one]

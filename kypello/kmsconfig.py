# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where keys come from: the variables of KES and of the static key.
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.ellipses import expand
from kypello.environment import Environment

#: Whether what asks for nothing is encrypted.
AUTO_ENCRYPTION = "MINIO_KMS_AUTO_ENCRYPTION"

_KES = "MINIO_KMS_KES_"
_ENDPOINT, _KEY_NAME, _API_KEY = _KES + "ENDPOINT", _KES + "KEY_NAME", _KES + "API_KEY"
_KEY_FILE, _CERT_FILE = _KES + "KEY_FILE", _KES + "CERT_FILE"
_KEY_PASSWORD, _CAPATH = _KES + "KEY_PASSWORD", _KES + "CAPATH"
_STATIC = "MINIO_KMS_SECRET_KEY"
_PASSPHRASE_FILE = "MINIO_KMS_PASSPHRASE_FILE"  # noqa: S105  (the name of a variable)
_CREDENTIALS, _CREDENTIAL = "CREDENTIALS_DIRECTORY", "kypello-kms-passphrase"
_BUCKET_TIME = "MINIO_KMS_BUCKET_KEY_TIME"
_BUCKET_OBJECTS = "MINIO_KMS_BUCKET_KEY_OBJECTS"
_CACHE_TIME, _CACHE_KEYS = "MINIO_KMS_CACHE_TIME", "MINIO_KMS_CACHE_KEYS"
_OUTAGE_TIME = "MINIO_KMS_CACHE_OUTAGE_TIME"
_TIME = re.compile("(?P<count>[0-9]{1,9})(?P<unit>[smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
#: The longest time, in seconds, and the largest number, that these take.
_LONGEST, _MOST = 7 * 86400, 10**9
_MINKMS = ("MINIO_KMS_SERVER", "MINIO_KMS_ENCLAVE", "MINIO_KMS_SSE_KEY", "MINIO_KMS_API_KEY")
_KMS_OTHERS = (
    _STATIC,
    f"{_STATIC}_FILE",
    _PASSPHRASE_FILE,
    AUTO_ENCRYPTION,
    "MINIO_KMS_REPLICATE_KEYID",
    _BUCKET_TIME,
    _BUCKET_OBJECTS,
    _CACHE_TIME,
    _CACHE_KEYS,
    _OUTAGE_TIME,
    *_MINKMS,
)
_KMS_KES = (_ENDPOINT, _KEY_NAME, _API_KEY, _KEY_FILE, _CERT_FILE, _KEY_PASSWORD, _CAPATH)
_KEY_NAMES = re.compile(r"(?!_\Z)[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,78}[0-9A-Za-z_])?")
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
class Reuse:
    """
    How far data keys are used again.  Zero anywhere turns that kind of reuse off.

    :ivar bucket_seconds: How long a data key of a bucket is used for new objects.
    :ivar bucket_objects: For how many objects.
    :ivar opened_seconds: How long an opened data key, and what it opens, is kept in memory.
    :ivar opened_keys: How many data keys are kept at most, and how many object keys.
    :ivar outage_seconds: How much longer an opened data key is kept, to be used only while the
        KMS does not answer.
    """

    bucket_seconds: float = 300.0
    bucket_objects: int = 1_000_000
    opened_seconds: float = 300.0
    opened_keys: int = 10_000
    outage_seconds: float = 0.0

    @property
    def by_bucket(self) -> bool:
        """
        Whether objects of a bucket share data keys.
        """
        return self.bucket_seconds > 0 and self.bucket_objects > 0


#: What a server does unless told otherwise: what was used lately can be read on in an outage.
USUAL = Reuse(outage_seconds=300.0)


def read_reuse(environment: Environment) -> Reuse:
    """
    How far data keys are used again.
    """
    return Reuse(
        _seconds(environment, _BUCKET_TIME, USUAL.bucket_seconds),
        _number(environment, _BUCKET_OBJECTS, USUAL.bucket_objects),
        _seconds(environment, _CACHE_TIME, USUAL.opened_seconds),
        _number(environment, _CACHE_KEYS, USUAL.opened_keys),
        _seconds(environment, _OUTAGE_TIME, USUAL.outage_seconds),
    )


def _seconds(environment: Environment, name: str, usual: float) -> float:
    text = (environment.text(name) or "").strip()
    found = _TIME.fullmatch(text)
    if text and found is not None:
        seconds = float(int(found["count"]) * _UNITS[found["unit"]])
        if seconds <= _LONGEST:
            return seconds
    if text:
        environment.mistakes.append(
            f"{_ours(name)} must be a time such as 300s, 5m or 1h, and a week at most; 0 for never."
        )
    return usual


def _number(environment: Environment, name: str, usual: int) -> int:
    text = (environment.text(name) or "").strip()
    if text.isascii() and text.isdecimal() and int(text) <= _MOST:
        return int(text)
    if text:
        environment.mistakes.append(f"{_ours(name)} must be a number from 0 to {_MOST}.")
    return usual


def _ours(name: str) -> str:
    return name.replace("MINIO_", "KYPELLO_", 1)


def read_passphrase_file(
    environment: Environment,
    variables: Mapping[str, str],
    kms: KESSettings | StaticKeySettings | None,
) -> Path | None:
    """
    The file with what seals the keys of the embedded key server; ``None`` when nothing does.

    :param variables: The environment as it is: a service of systemd gets its credentials by it.
    :param kms: ``None`` for the embedded key server.
    """
    named = environment.text(_PASSPHRASE_FILE)
    if named and kms is not None:
        environment.mistakes.append(
            "KYPELLO_KMS_PASSPHRASE_FILE is for the keys of the embedded key server, which is not"
            " used with another one or a static key: keep one of them."
        )
    if named or kms is not None:
        return Path(named) if named else None
    folder = variables.get(_CREDENTIALS)
    path = f"{folder}/{_CREDENTIAL}"
    return Path(path) if folder and environment.there(path) else None


def read_kms(environment: Environment) -> KESSettings | StaticKeySettings | None:
    environment.given(*_KMS_OTHERS)
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

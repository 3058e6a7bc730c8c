# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which key server a command asks, and who asks it: options, then the environment, as for KES.
"""

import re
import sys
from argparse import Namespace
from collections.abc import Mapping
from getpass import getpass
from pathlib import Path

from attrs import field, frozen

from kypello.crypto.apikey import APIKey
from kypello.kescli.command import CommandError
from kypello.kmsconfig import KESSettings

DEFAULT_SERVER = "127.0.0.1:7373"

#: Variables of the environment; the first that is set counts.
SERVER = ("MINIO_KES_SERVER", "KES_SERVER", "MINIO_KMS_KES_ENDPOINT")
API_KEY = ("MINIO_KES_API_KEY", "KES_API_KEY", "MINIO_KMS_KES_API_KEY")
KEY_FILE = (
    "MINIO_KES_KEY_FILE",
    "KES_CLIENT_KEY",
    "MINIO_KES_CLIENT_KEY",
    "MINIO_KMS_KES_KEY_FILE",
)
CERT_FILE = (
    "MINIO_KES_CERT_FILE",
    "KES_CLIENT_CERT",
    "MINIO_KES_CLIENT_CERT",
    "MINIO_KMS_KES_CERT_FILE",
)
PASSWORD = ("MINIO_KMS_KES_KEY_PASSWORD",)
AUTHORITY = ("MINIO_KMS_KES_CAPATH",)

_PORT = ":7373"
_HAS_PORT = re.compile(r"(\[[^]]*\]|[^:]*):\d+")
_URL = re.compile(r"[0-9A-Za-z._:\[\]-]+")


@frozen
class Target:
    """
    Servers of which any may answer, and what we are to them.

    :ivar endpoints: URLs.
    :ivar insecure: Whoever answers is believed.
    """

    settings: KESSettings = field(repr=False)
    insecure: bool

    @property
    def endpoints(self) -> tuple[str, ...]:
        """
        The servers, by their URLs.
        """
        return self.settings.endpoints


def read_target(options: Namespace, environment: Mapping[str, str]) -> Target:
    """
    Find out whom to ask.

    :raises CommandError: That is not known, or contradicts itself.
    """
    endpoints = tuple(
        _endpoint(one) for one in (options.server or _first(SERVER, environment)).split(",") if one
    )
    api_key = options.api_key or _first(API_KEY, environment)
    key_file, cert_file = _first(KEY_FILE, environment), _first(CERT_FILE, environment)
    authority = options.ca or _first(AUTHORITY, environment)
    found = KESSettings(
        endpoints or (_endpoint(DEFAULT_SERVER),),
        "",
        ca_path=Path(authority) if authority and not options.insecure else None,
    )
    if options.api_key:
        key_file = cert_file = ""
    if api_key and (key_file or cert_file):
        raise CommandError(
            "the environment has both an API key and files of a key and a certificate: unset one"
        )
    if api_key:
        return Target(_with_api_key(found, api_key), options.insecure)
    if not (key_file and cert_file):
        missing = f"{KEY_FILE[0]} and {CERT_FILE[0]}"
        raise CommandError(f"nobody to ask as: set {API_KEY[0]}, or {missing}")
    password = _password(Path(key_file), environment)
    settings = KESSettings(
        found.endpoints,
        "",
        key_file=Path(key_file),
        cert_file=Path(cert_file),
        key_password=password,
        ca_path=found.ca_path,
    )
    return Target(settings, options.insecure)


def _with_api_key(found: KESSettings, text: str) -> KESSettings:
    try:
        APIKey.parse(text)
    except ValueError as error:
        raise CommandError(f"the API key is none: {error}") from None
    return KESSettings(found.endpoints, "", api_key=text, ca_path=found.ca_path)


def _password(key: Path, environment: Mapping[str, str]) -> str | None:
    given = _first(PASSWORD, environment)
    if given:
        return given
    try:
        encrypted = b"ENCRYPTED" in key.read_bytes()
    except OSError as error:
        raise CommandError(f"{key}: {error.strerror}") from error
    if encrypted and sys.stdin.isatty():
        return getpass(f"Password of {key}: ")
    return None


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _endpoint(text: str) -> str:
    name = text.strip().removeprefix("https://").removeprefix("http://").rstrip("/")
    if _URL.fullmatch(name) is None:
        raise CommandError(f"{text!r} is no server: give HOST:PORT")
    return f"https://{name}" + ("" if _HAS_PORT.fullmatch(name) else _PORT)

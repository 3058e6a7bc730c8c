# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
KES's configuration file: text in, a frozen :class:`KeyServerConfig` out.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from kypello.document import Report, Section, Value, read
from kypello.errors import ConfigurationError
from kypello.http.tls import Clients, TLSFiles
from kypello.kes.cache import Expiry
from kypello.kes.policy import Access, Policy, glob_sign
from kypello.kes.wire import is_name

#: The port that clients of KES use.
DEFAULT_PORT = 7373

_IDENTITY = re.compile("[0-9a-f]{64}")
_LEVELS = {"on": 0, "off": 9, "debug": -4, "info": 0, "warn": 4, "error": 8}
_LEVEL = re.compile(r"(?i:(debug|info|warn|error))?([+-]?\d+)?")


class KeyStoreSettings(Protocol):
    """
    What a configuration says of a key store.  Its fields are known to who makes the store.
    """

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """


@frozen
class KeyServerConfig:
    """
    A key server.

    :ivar host: An address of this machine; empty for all.
    :ivar expiry: Of opened keys in memory.
    :ivar keys: Made at the start when they are missing.
    :ivar keystore: Where master keys are kept.
    :ivar error_level: What is logged, as Go counts: debug -4, info 0, warn 4, error 8.
    :ivar audit: Whether requests are recorded.
    :ivar warnings: What in the file has no effect.
    """

    host: str
    port: int
    access: Access
    tls: TLSFiles
    keystore: KeyStoreSettings
    expiry: Expiry = field(factory=Expiry)
    keys: tuple[str, ...] = ()
    error_level: int = 0
    audit: bool = True
    warnings: tuple[str, ...] = ()


def parse_config(
    text: str,
    file: str,
    environment: Mapping[str, str],
    read_keystore: Callable[[Value], KeyStoreSettings | None],
) -> KeyServerConfig:
    """
    Read a configuration.

    :param file: The name to call it in messages.
    :param environment: What ``${NAME}`` stands for.
    :param read_keystore: Reads the section ``keystore``; ``None`` for one with mistakes.
    :raises ConfigurationError: With every mistake in it.
    """
    report = Report(file)
    root = read(text, report, environment).section(
        "version",
        "address",
        "admin",
        "root",
        "tls",
        "api",
        "policy",
        "cache",
        "log",
        "keys",
        "keystore",
    )
    version = root["version"]
    if version.text("v1", expand=False) != "v1":
        version.mistake("must be v1")
    if root["root"].given:
        root["root"].mistake("is of KES before 2022; write admin: {identity: ...}")
    if root["api"].given:
        root["api"].mistake("is not built yet: remove it")
    host, port = _address(root["address"])
    access = _access(root)
    tls = _tls(root["tls"])
    expiry = _expiry(root["cache"])
    log = root["log"].section("error", "audit")
    error_level, audit_level = _level(log["error"]), _level(log["audit"])
    keys = _keys(root["keys"])
    keystore = read_keystore(root["keystore"])
    if report.mistakes or keystore is None:
        raise ConfigurationError(tuple(report.mistakes))
    return KeyServerConfig(
        host,
        port,
        access,
        tls,
        keystore,
        expiry,
        keys,
        error_level,
        audit_level <= 0,
        tuple(report.warnings),
    )


def _address(value: Value) -> tuple[str, int]:
    host, colon, port = value.text(f":{DEFAULT_PORT}").rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        value.mistake("must end with a port, as in 0.0.0.0:7373")
        return host, DEFAULT_PORT
    if host:
        try:
            ip_address(host)
        except ValueError:
            value.mistake(f"{host!r} is no IP address")
    return host, int(port)


def _access(root: Section) -> Access:
    admin = root["admin"].section("identity")["identity"]
    name = admin.text()
    if not name:
        admin.mistake("is required; 'disabled' means nobody")
    policies: dict[str, Policy] = {}
    for title, value in root["policy"].members().items():
        if not is_name(title):
            value.mistake("is no valid name")
        section = value.section("allow", "deny", "identities", "paths")
        if section["paths"].given:
            section["paths"].mistake("is of KES before 2022; write allow")
        policy = Policy(title, _rules(section["allow"], False), _rules(section["deny"], True))
        for item in section["identities"].items():
            identity = item.text()
            if identity == name:
                item.mistake("is the identity of the administrator, which needs no policy")
            elif identity in policies:
                item.mistake(f"is in the policy {policies[identity].name} already")
            elif not is_name(identity):
                item.mistake("is no identity: 64 hexadecimal digits")
            elif _IDENTITY.fullmatch(identity) is None:
                item.warn("fits nobody: an identity has 64 lower-case hexadecimal digits")
            policies[identity] = policy
    return Access(name, policies)


def _rules(value: Value, deny: bool) -> tuple[str, ...]:
    rules = []
    for item in value.items():
        rule = item.text(expand=False)
        sign = glob_sign(rule)
        if sign is not None:
            # KES before October 2023 read it as a wildcard, and the KES after it as itself.
            text = f"in {rule!r} the sign {sign!r} is no wildcard: only a * at the end is"
            if deny:
                item.mistake(f"{text}, so that this rule would deny nothing it seems to deny")
            else:
                item.warn(text)
        rules.append(rule)
    return tuple(rules)


def _tls(value: Value) -> TLSFiles:
    section = value.section("key", "cert", "password", "auth", "ca", "proxy")
    for name in ("key", "cert"):
        if not section[name].text():
            section[name].mistake("is required: the path of a file in PEM")
    auth = section["auth"].text("off").lower()
    if auth not in ("on", "off"):
        section["auth"].mistake("must be on or off")
    if section["proxy"].given:
        section["proxy"].mistake(
            "is not built yet: let the proxy pass TLS through, and remove this"
        )
    return TLSFiles(
        Path(section["key"].text()),
        Path(section["cert"].text()),
        section["password"].text() or None,
        Clients.VERIFIED if auth == "on" else Clients.KNOWN_BY_KEY,
        Path(section["ca"].text()) if section["ca"].given else None,
    )


def _expiry(value: Value) -> Expiry:
    section = value.section("expiry")["expiry"].section("any", "unused", "offline")
    default = Expiry()
    return Expiry(
        section["any"].seconds() or default.any,
        section["unused"].seconds() or default.unused,
        section["offline"].seconds(),
    )


def _level(value: Value) -> int:
    text = value.text("on").strip()
    if text.lower() in _LEVELS:
        return _LEVELS[text.lower()]
    parts = _LEVEL.fullmatch(text)
    if parts is None or not text:
        value.mistake("must be on, off, debug, info, warn or error")
        return 0
    name, offset = parts.groups()
    return _LEVELS[(name or "info").lower()] + int(offset or 0)


def _keys(value: Value) -> tuple[str, ...]:
    names: list[str] = []
    for item in value.items():
        member = item.section("name")["name"]
        name = member.text()
        if not is_name(name):
            member.mistake(f"{name!r} is no key name: up to 80 letters, digits, - and _")
        elif name in names:
            member.mistake(f"{name} is given twice")
        names.append(name)
    return tuple(names)

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
from kypello.kes.auditconfig import HookSettings, TrailSettings, read_audit
from kypello.kes.cache import Expiry
from kypello.kes.limits import Limits
from kypello.kes.policy import Access, Policy, glob_sign
from kypello.kes.proxy import Proxies
from kypello.kes.routes import ROUTES, Setting
from kypello.kes.secrets import holds_secrets
from kypello.kes.wire import is_identity, is_name

#: The port that clients of KES use.
DEFAULT_PORT = 7373

#: What stands for nobody as administrator.
_NOBODY = "disabled"
_FITS_NOBODY = "fits nobody: an identity has 64 lower-case hexadecimal digits"

_HEADER = re.compile("[0-9A-Za-z-]+")
#: By whether certificates are verified, and whether who has none is welcome.
_CLIENTS = {
    (False, False): Clients.KNOWN_BY_KEY,
    (False, True): Clients.WELCOME_BY_KEY,
    (True, False): Clients.VERIFIED,
    (True, True): Clients.WELCOME_VERIFIED,
}
#: Calls that tell nothing that is secret.
_PROBES = ("/version", "/v1/ready", "/v1/status", "/v1/metrics", "/v1/api")
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

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """
        Files that nobody else may read: keys, passphrases, credentials.  Not the tokens that
        Kubernetes puts into pods, since all can read those.
        """


@frozen
class Safety:
    """
    What this key server can do beyond the original: the section ``kypello``.

    :ivar cached_keys: How many opened keys are in memory at most.
    :ivar confirmed_deletion: Keys are deleted only when their name is repeated.
    :ivar readable_secrets: Files with secrets that everybody on the machine can read are used.
    """

    limits: Limits = field(factory=Limits)
    cached_keys: int = 10_000
    confirmed_deletion: bool = False
    readable_secrets: bool = False
    trail: TrailSettings | None = None
    hook: HookSettings | None = None


@frozen
class KeyServerConfig:
    """
    A key server.

    :ivar host: An address of this machine; empty for all.
    :ivar moved: Whether it listens elsewhere than its file says.
    :ivar expiry: Of opened keys in memory.
    :ivar keys: Made at the start when they are missing.
    :ivar keystore: Where master keys are kept.
    :ivar error_level: What is logged, as Go counts: debug -4, info 0, warn 4, error 8.
    :ivar audit: Whether requests are recorded.
    :ivar warnings: What in the file has no effect, or is an old spelling.
    :ivar proxies: Who may speak for others.
    :ivar calls: What is special about some calls, by path.
    :ivar file: Where this was read from, and can be read again; ``None`` for nowhere.
    :ivar secrets: The file itself holds secrets.
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
    proxies: Proxies = field(factory=Proxies)
    calls: Mapping[str, Setting] = field(factory=dict)
    safety: Safety = field(factory=Safety)
    file: Path | None = None
    secrets: bool = False
    moved: bool = False


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
    document = read(text, report, environment)
    if report.mistakes:
        # Of what is no YAML nothing is there, and nothing is worth to be told as missing.
        raise ConfigurationError(tuple(report.mistakes))
    root = document.exactly(
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
        "kypello",
    )
    version = root["version"]
    if version.text("v1", expand=False) != "v1":
        version.mistake("must be v1")
    host, port = _address(root["address"])
    access = _access(root)
    calls = _calls(root["api"])
    proxies = _proxies(root["tls"], access)
    tls = _tls(root["tls"], any(call.skip_auth for call in calls.values()))
    expiry = _expiry(root["cache"])
    log = root["log"].exactly("error", "audit")
    error_level, audit_level = _level(log["error"]), _level(log["audit"])
    names, stores = _keys_and_stores(root)
    keys = _keys(names)
    safety = _safety(root["kypello"])
    keystore = read_keystore(stores)
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
        proxies,
        calls,
        safety,
        secrets=holds_secrets(document),
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


def _administrator(root: Section) -> str:
    admin = root["admin"].exactly("identity")["identity"]
    if root["root"].given:
        if root["admin"].given:
            root["root"].mistake("is the old name of admin.identity, which is there too")
        admin = root["root"]
        admin.warn("is of KES before 2022; write admin: {identity: ...}")
    name = admin.text()
    if not name:
        admin.mistake("is required; 'disabled' means nobody")
    elif name != _NOBODY and not is_identity(name):
        admin.warn(_FITS_NOBODY)
    return name


def _access(root: Section) -> Access:
    name = _administrator(root)
    policies: dict[str, Policy] = {}
    named: dict[str, Policy] = {}
    for title, value in root["policy"].members().items():
        if not is_name(title):
            value.mistake("is no valid name")
        section = value.exactly("allow", "deny", "identities", "paths")
        allow = section["allow"]
        if section["paths"].given:
            if allow.given:
                section["paths"].mistake("is the old name of allow, which is there too")
            allow = section["paths"]
            allow.warn("is of KES before 2022; write allow")
        policy = Policy(title, _rules(allow, False), _rules(section["deny"], True))
        named[title] = policy
        for item in section["identities"].items():
            identity = item.text()
            if identity == name:
                item.mistake("is the identity of the administrator, which needs no policy")
            elif identity in policies:
                item.mistake(f"is in the policy {policies[identity].name} already")
            elif not is_name(identity):
                item.mistake("is no identity: 64 hexadecimal digits")
            elif not is_identity(identity):
                item.warn(_FITS_NOBODY)
            policies[identity] = policy
    return Access(name, policies, named)


def _rules(value: Value, deny: bool) -> tuple[str, ...]:
    rules = []
    for item in value.items():
        rule = item.text(expand=False)
        if rule != "*" and not rule.startswith("/"):
            text = f"{rule!r} fits no path: all of them begin with a slash"
            if deny:
                item.mistake(text)
            else:
                item.warn(text)
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


def _tls(value: Value, welcome: bool) -> TLSFiles:
    section = value.exactly("key", "cert", "password", "auth", "ca", "proxy")
    for name in ("key", "cert"):
        section[name].required("the path of a file in PEM")
    auth = section["auth"].text("off").lower()
    if auth not in ("on", "off"):
        section["auth"].mistake("must be on or off")
    return TLSFiles(
        Path(section["key"].text()),
        Path(section["cert"].text()),
        section["password"].text() or None,
        _CLIENTS[auth == "on", welcome],
        Path(section["ca"].text()) if section["ca"].given else None,
    )


def _proxies(value: Value, access: Access) -> Proxies:
    proxy = value.members().get("proxy", value.missing("proxy"))
    section = proxy.exactly("identities", "header")
    name = section["header"].exactly("cert")["cert"]
    identities = set()
    for item in section["identities"].items():
        identity = item.text()
        if not is_identity(identity):
            item.mistake("is no identity: 64 lower-case hexadecimal digits")
        elif identity == access.admin:
            item.mistake("is the identity of the administrator, which may not be a proxy")
        elif identity in access.policies:
            item.mistake(f"is in the policy {access.policies[identity].name}: a proxy has none")
        identities.add(identity)
    if identities and not _HEADER.fullmatch(name.text()):
        name.mistake("is required: the name of a header, such as X-Tls-Client-Cert")
    if name.given and not identities:
        name.mistake("needs tls.proxy.identities: who may set that header")
    return Proxies(frozenset(identities), name.text().lower())


def _calls(value: Value) -> dict[str, Setting]:
    found = {}
    known = [route.path for route in ROUTES]
    for path, member in value.members().items():
        if path not in known:
            member.mistake(f"is no call; there are {', '.join(known)}")
        section = member.exactly("skip_auth", "timeout")
        skip = section["skip_auth"].text("false").lower()
        if skip not in ("true", "false"):
            section["skip_auth"].mistake("must be true or false")
        elif skip == "true" and path not in _PROBES:
            section["skip_auth"].warn("lets everybody who reaches the server make this call")
        found[path] = Setting(skip == "true", section["timeout"].seconds())
    return found


def _keys_and_stores(root: Section) -> tuple[Value, Value]:
    # Before 2022 the section "keys" told where keys are kept.
    keys, stores = root["keys"], root["keystore"]
    if not keys.is_mapping:
        return keys, stores
    if stores.given:
        keys.mistake("must be a list; the section keystore tells where keys are kept")
        return keys.missing("none"), stores
    keys.warn("is of KES before 2022; write keystore")
    return keys.missing("none"), keys


def _safety(value: Value) -> Safety:
    section = value.exactly("limits", "cache", "deletion", "readable_secrets", "audit")
    limits = section["limits"].exactly("requests", "requests_per_identity")
    cached = section["cache"].exactly("keys")["keys"]
    return Safety(
        Limits(_number(limits["requests"]), _number(limits["requests_per_identity"])),
        _number(cached) or Safety().cached_keys,
        _choice(section["deletion"], "plain", "confirmed"),
        _choice(section["readable_secrets"], "refused", "allowed"),
        *read_audit(section["audit"]),
    )


def _number(value: Value) -> int:
    text = value.text("0")
    if not (text.isascii() and text.isdigit()) or (value.given and int(text) == 0):
        value.mistake("must be a number above 0")
        return 0
    return int(text)


def _choice(value: Value, usual: str, other: str) -> bool:
    """
    Whether it is the other one of two words.
    """
    text = value.text(usual)
    if text not in (usual, other):
        value.mistake(f"must be {usual} or {other}")
    return text == other


def _expiry(value: Value) -> Expiry:
    section = value.exactly("expiry")["expiry"].exactly("any", "unused", "offline")
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
        member = item.exactly("name")["name"]
        name = member.text()
        if not is_name(name):
            member.mistake(f"{name!r} is no key name: up to 80 letters, digits, - and _")
        elif name in names:
            member.mistake(f"{name} is given twice")
        names.append(name)
    return tuple(names)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who else says who somebody is: OpenID providers, a directory, certificates.
"""

import re
from base64 import urlsafe_b64encode
from fractions import Fraction
from hashlib import sha1
from ipaddress import ip_address
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.environment import Environment

_OPENID = "MINIO_IDENTITY_OPENID_"
_OPENID_USED = (
    "CLAIM_NAME",
    "CLAIM_USERINFO",
    "CLIENT_ID",
    "CONFIG_URL",
    "ENABLE",
    "INSECURE",
    "ROLE_POLICY",
)
#: What only a console needs, or only people.
_OPENID_UNUSED = (
    "CLIENT_SECRET",
    "COMMENT",
    "DISPLAY_NAME",
    "REDIRECT_URI",
    "REDIRECT_URI_DYNAMIC",
    "SCOPES",
    "USER_ID_CLAIM",
    "USER_READABLE_CLAIM",
)
_LDAP = "MINIO_IDENTITY_LDAP_"
_LDAP_NAMES = (
    "COMMENT",
    "ENABLE",
    "GROUP_SEARCH_BASE_DN",
    "GROUP_SEARCH_FILTER",
    "LOOKUP_BIND_DN",
    "LOOKUP_BIND_PASSWORD",
    "LOOKUP_BIND_PASSWORD_FILE",
    "SERVER_ADDR",
    "SERVER_INSECURE",
    "SERVER_STARTTLS",
    "SRV_RECORD_NAME",
    "TLS_SKIP_VERIFY",
    "USER_DN_ATTRIBUTES",
    "USER_DN_SEARCH_BASE_DN",
    "USER_DN_SEARCH_FILTER",
)
_TLS = "MINIO_IDENTITY_TLS_"
_TLS_ENABLE, _TLS_SKIP_VERIFY = _TLS + "ENABLE", _TLS + "SKIP_VERIFY"
_DURATION = "MINIO_STS_DURATION"
_PLUGINS = ("MINIO_IDENTITY_PLUGIN_", "MINIO_POLICY_PLUGIN_")
_DURATIONS = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?[hms])+")
_UNITS = {"h": 3600, "m": 60, "s": 1}
_SHORTEST, _LONGEST = 900, 365 * 24 * 3600
_LDAP_PORT, _LDAPS_PORT = 389, 636


@frozen
class OpenIDSettings:
    """
    One OpenID provider.

    :ivar name: As the variables of a further provider end; empty for the first.
    :ivar config_url: Of its discovery document.
    :ivar client_id: Whom tokens must be for.
    :ivar claim: In which claim of a token the names of policies are.
    :ivar role_policies: The policies of everybody whom it knows, in place of a claim.
    :ivar userinfo: Whether claims are also asked for at its userinfo endpoint.
    :ivar insecure: Whether it may be asked without TLS.
    """

    name: str
    config_url: str
    client_id: str
    claim: str = "policy"
    role_policies: tuple[str, ...] = ()
    userinfo: bool = False
    insecure: bool = False

    @property
    def role(self) -> str:
        """
        The ARN of the role of those whom it knows.
        """
        # A name by an old rule of others, not a signature.
        digest = sha1(self.client_id.encode(), usedforsecurity=False).digest()
        return "arn:minio:iam:::role/" + urlsafe_b64encode(digest).rstrip(b"=").decode()


@frozen
class LDAPSettings:
    """
    A directory.

    :ivar security: ``tls``, ``starttls`` or ``none``.
    :ivar verify: Whether its certificate is checked.
    :ivar lookup_dn: As whom we look for others; empty for nobody.
    :ivar user_bases: Below which names users are.
    :ivar user_filter: ``%s`` stands for the login name.
    :ivar group_bases: Below which names groups are.
    :ivar group_filter: ``%s`` stands for the login name, ``%d`` for the name of the user's entry;
        empty when groups do not matter.
    """

    host: str
    port: int
    security: str = "tls"
    verify: bool = True
    lookup_dn: str = ""
    lookup_password: str = field(default="", repr=False)
    user_bases: tuple[str, ...] = ()
    user_filter: str = ""
    group_bases: tuple[str, ...] = ()
    group_filter: str = ""


@frozen
class IdentitySettings:
    """
    All of them.

    :ivar certificates: Whether clients are told by the certificates of their connections.
    :ivar duration: How long sessions last, in seconds; ``None`` leaves it to who asks.
    """

    openid: tuple[OpenIDSettings, ...] = ()
    ldap: LDAPSettings | None = None
    certificates: bool = False
    duration: int | None = None


def read_identity(environment: Environment) -> IdentitySettings:
    """
    Understand the settings; mistakes and warnings are added to those of *environment*.
    """
    plugins = [name for prefix in _PLUGINS for name in environment.named(prefix)]
    if plugins:
        environment.mistakes.append(
            f"{', '.join(plugins)} is of a plugin that decides who may do what; Kypello asks none."
        )
    if environment.flag(_TLS_SKIP_VERIFY):
        environment.mistakes.append(
            f"{_TLS_SKIP_VERIFY} would let anybody make a certificate of any name: put the"
            " certificate of the authority into the folder CAs beside that of the server."
        )
    return IdentitySettings(
        _openid(environment),
        _ldap(environment),
        environment.flag(_TLS_ENABLE),
        _duration(environment),
    )


def _duration(environment: Environment) -> int | None:
    text = environment.text(_DURATION)
    if not text:
        return None
    seconds = 0
    if _DURATIONS.fullmatch(text):
        parts = re.findall(r"([0-9.]+)([hms])", text)
        seconds = int(sum(Fraction(number) * _UNITS[unit] for number, unit in parts))
    if not _SHORTEST <= seconds <= _LONGEST:
        environment.mistakes.append(
            f"{_DURATION}: {text!r} is no duration such as 12h or 1h30m, from 15m to 8760h."
        )
        return None
    return seconds


def _openid(environment: Environment) -> tuple[OpenIDSettings, ...]:
    names: set[str] = set()
    for variable in environment.named(_OPENID):
        rest = variable.removeprefix(_OPENID)
        known = [
            key
            for key in (*_OPENID_USED, *_OPENID_UNUSED)
            if rest == key or rest.startswith(f"{key}_")
        ]
        if not known:
            environment.warnings.append(f"{variable} is unknown, so it is ignored.")
            continue
        key = max(known, key=len)
        if key in _OPENID_USED:
            names.add(rest[len(key) :])
    found = [one for name in sorted(names) if (one := _provider(environment, name)) is not None]
    _check_together(environment, found)
    return tuple(found)


def _provider(environment: Environment, suffix: str) -> OpenIDSettings | None:
    mistakes = environment.mistakes
    variables = {key: f"{_OPENID}{key}{suffix}" for key in _OPENID_USED}
    texts = {key: environment.text(name) or "" for key, name in variables.items()}
    if texts["ENABLE"] and not environment.flag(variables["ENABLE"]):
        return None
    before = len(mistakes)
    for key in ("CONFIG_URL", "CLIENT_ID"):
        if not texts[key]:
            mistakes.append(f"{variables[key]} is missing: an OpenID provider needs it.")
    roles = _names(texts["ROLE_POLICY"])
    if roles and texts["CLAIM_NAME"]:
        mistakes.append(
            f"{variables['ROLE_POLICY']} and {variables['CLAIM_NAME']} say twice where policies"
            " come from: keep one of them."
        )
    insecure = environment.flag(variables["INSECURE"])
    problem = texts["CONFIG_URL"] and not_secure(texts["CONFIG_URL"], insecure=insecure)
    if problem:
        mistakes.append(f"{variables['CONFIG_URL']}: {problem}.")
    userinfo = environment.flag(variables["CLAIM_USERINFO"])
    if len(mistakes) > before:
        return None
    return OpenIDSettings(
        suffix.removeprefix("_"),
        texts["CONFIG_URL"],
        texts["CLIENT_ID"],
        texts["CLAIM_NAME"] or "policy",
        roles,
        userinfo,
        insecure,
    )


def _check_together(environment: Environment, found: list[OpenIDSettings]) -> None:
    if sum(not one.role_policies for one in found) > 1:
        environment.mistakes.append(
            f"Only one OpenID provider can tell policies by a claim: give the others"
            f" {_OPENID}ROLE_POLICY_<NAME>."
        )
    if len({one.client_id for one in found}) < len(found):
        environment.mistakes.append(
            f"Two OpenID providers have the same {_OPENID}CLIENT_ID: it names the role."
        )


def not_secure(url: str, *, insecure: bool) -> str:
    """
    What is wrong with the URL of a provider; empty when nothing is.

    :param insecure: Whether it may do without TLS, which it may on this machine anyway.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{url!r} is no URL"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return f"{url!r} is no URL such as https://id.example/.well-known/openid-configuration"
    if parts.username is not None or parts.password is not None:
        return "a URL must not hold credentials"
    if parts.scheme == "http" and not insecure and not _is_loopback(host):
        return (
            f"{url!r} must begin with https://: whoever is between could hand out keys of their"
            f" own ({_OPENID}INSECURE=on allows it)"
        )
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ldap(environment: Environment) -> LDAPSettings | None:
    mistakes = environment.mistakes
    given = environment.named(_LDAP)
    for name in given:
        if name.removeprefix(_LDAP) not in _LDAP_NAMES:
            environment.warnings.append(f"{name} is unknown, so it is ignored.")
    enable = environment.text(_LDAP + "ENABLE")
    if (enable and not environment.flag(_LDAP + "ENABLE")) or not given:
        return None
    before = len(mistakes)
    texts = {key: environment.text(_LDAP + key) or "" for key in _LDAP_NAMES}
    if texts["SRV_RECORD_NAME"]:
        mistakes.append(
            f"{_LDAP}SRV_RECORD_NAME is not looked up: name the server in {_LDAP}SERVER_ADDR."
        )
    for key in ("SERVER_ADDR", "USER_DN_SEARCH_BASE_DN", "USER_DN_SEARCH_FILTER"):
        if not texts[key]:
            mistakes.append(f"{_LDAP}{key} is missing: a directory needs it.")
    if texts["USER_DN_SEARCH_FILTER"] and "%s" not in texts["USER_DN_SEARCH_FILTER"]:
        mistakes.append(f"{_LDAP}USER_DN_SEARCH_FILTER must hold %s for the login name.")
    if bool(texts["GROUP_SEARCH_FILTER"]) != bool(texts["GROUP_SEARCH_BASE_DN"]):
        mistakes.append(
            f"{_LDAP}GROUP_SEARCH_FILTER and {_LDAP}GROUP_SEARCH_BASE_DN go together: set both or"
            " none."
        )
    insecure = environment.flag(_LDAP + "SERVER_INSECURE")
    starttls = environment.flag(_LDAP + "SERVER_STARTTLS")
    skip = environment.flag(_LDAP + "TLS_SKIP_VERIFY")
    security = "starttls" if starttls else "none" if insecure else "tls"
    host, port = _server(environment, texts["SERVER_ADDR"], security)
    password = environment.secret(_LDAP + "LOOKUP_BIND_PASSWORD") or ""
    if bool(texts["LOOKUP_BIND_DN"]) != bool(password):
        mistakes.append(
            f"{_LDAP}LOOKUP_BIND_DN and {_LDAP}LOOKUP_BIND_PASSWORD go together: set both or none."
        )
    if len(mistakes) > before:
        return None
    if environment.text(_LDAP + "USER_DN_ATTRIBUTES"):
        environment.warnings.append(
            f"{_LDAP}USER_DN_ATTRIBUTES has no effect: policies see the names of people only."
        )
    if security == "none" or skip:
        environment.warnings.append(
            "Passwords can be read on their way to the directory:"
            f" {_LDAP}{'TLS_SKIP_VERIFY' if skip else 'SERVER_INSECURE'} is on."
        )
    return LDAPSettings(
        host,
        port,
        security,
        not skip,
        texts["LOOKUP_BIND_DN"],
        password,
        _names(texts["USER_DN_SEARCH_BASE_DN"], ";"),
        texts["USER_DN_SEARCH_FILTER"],
        _names(texts["GROUP_SEARCH_BASE_DN"], ";"),
        texts["GROUP_SEARCH_FILTER"],
    )


def _server(environment: Environment, text: str, security: str) -> tuple[str, int]:
    usual = _LDAPS_PORT if security == "tls" else _LDAP_PORT
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port or usual
    except ValueError:
        host, port = "", usual
    if text and (not host or parts.netloc != text or "@" in text):
        environment.mistakes.append(
            f"{_LDAP}SERVER_ADDR: {text!r} is not of the form HOST:PORT, such as ldap.example:636."
        )
    return host, port


def _names(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(separator) if one.strip())

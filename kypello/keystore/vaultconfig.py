# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The section ``keystore.vault`` of KES's configuration: HashiCorp Vault and OpenBao.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.document import Value
from kypello.keystore.webtls import TLSFiles, read_tls


@frozen
class AppRole:
    """
    Log in with a role and its secret.

    :ivar engine: Where the method is mounted.
    :ivar namespace: Where the engine is; empty for the root.
    """

    engine: str
    namespace: str
    id: str
    secret: str = field(repr=False)


@frozen
class Kubernetes:
    """
    Log in with the token of a service account.

    :ivar engine: Where the method is mounted.
    :ivar namespace: Where the engine is; empty for the root.
    :ivar jwt: The token, or the path of its file when it has a slash.
    """

    engine: str
    namespace: str
    role: str
    jwt: str = field(repr=False)


@frozen
class Token:
    """
    Use a token that somebody else has made.

    :ivar namespace: Where it was made; empty for the root.
    :ivar text: The token, unless it is in a file.
    :ivar file: Read with each login, so that an agent beside us can write another.
    """

    namespace: str
    text: str = field(default="", repr=False)
    file: Path | None = None


@frozen
class Transit:
    """
    Entries are encrypted by a key of a transit engine before they are stored.
    """

    engine: str
    key: str


@frozen
class VaultSettings:
    """
    A Vault or OpenBao server, or a cluster of them behind one address.

    :ivar endpoint: A URL without a slash at the end.
    :ivar login: How to get a token.
    :ivar engine: Where the K/V engine is mounted.
    :ivar version: That of the engine, 1 or 2.
    :ivar namespace: Of the engines for keys and transit; empty for the root.
    :ivar prefix: A folder in the engine; empty for none.
    :ivar transit: ``None`` when entries are stored as they are.
    :ivar ping: How long after a call that nobody answered others fail at once, in seconds.
    """

    endpoint: str
    login: AppRole | Kubernetes | Token
    engine: str = "kv"
    version: int = 1
    namespace: str = ""
    prefix: str = ""
    transit: Transit | None = None
    tls: TLSFiles = field(factory=TLSFiles)
    ping: float = 10.0

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """
        place = "/".join(part for part in (self.namespace, self.engine, self.prefix) if part)
        return f"{self.endpoint}, {place}"

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """
        Files that nobody else may read.
        """
        login = self.login
        found = (self.tls.key, login.file if isinstance(login, Token) else None)
        return tuple(file for file in found if file is not None)


def read_vault(value: Value) -> VaultSettings:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly(
        "endpoint",
        "engine",
        "version",
        "namespace",
        "prefix",
        "transit",
        *_LOGINS,
        "retry",
        "tls",
        "status",
    )
    if section["retry"].given:
        section["retry"].warn("has no effect: each call that needs a token tries to log in")
    version = section["version"].text("v1")
    if version not in ("v1", "v2"):
        section["version"].mistake("must be v1 or v2")
    namespace = section["namespace"].text().strip("/")
    given = [name for name in _LOGINS if section[name].given]
    if len(given) != 1:
        found = f", not {' and '.join(given)}" if given else ""
        value.mistake(f"needs one way to log in of {', '.join(_LOGINS)}{found}")
    logins = [_LOGINS[name](section[name], namespace) for name in given]
    return VaultSettings(
        _endpoint(section["endpoint"]),
        logins[0] if logins else Token(namespace),
        _path(section["engine"], "kv"),
        2 if version == "v2" else 1,
        namespace,
        _path(section["prefix"], ""),
        _transit(section["transit"]),
        read_tls(section["tls"]),
        section["status"].exactly("ping")["ping"].seconds() or 10.0,
    )


def _endpoint(value: Value) -> str:
    text = value.required("a URL, such as https://vault.example.org:8200").rstrip("/")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if text and (not good or parts.path or parts.query or parts.fragment or "@" in parts.netloc):
        value.mistake("must be a URL of http or https with a host, and nothing behind its port")
    return text


def _path(value: Value, default: str) -> str:
    text = value.text(default).strip("/")
    if any(part in ("", ".", "..") for part in text.split("/")) and text:
        value.mistake("is no path of an engine")
    return text or default


def _transit(value: Value) -> Transit | None:
    if not value.given:
        return None
    section = value.exactly("engine", "key")
    return Transit(_path(section["engine"], "transit"), section["key"].required("its name"))


def _namespace(value: Value, default: str) -> str:
    # A lone slash is the root, wherever the keys are.
    return value.text().strip("/") if value.given else default


def _app_role(value: Value, namespace: str) -> AppRole:
    section = value.exactly("namespace", "engine", "id", "secret")
    return AppRole(
        _path(section["engine"], "approle"),
        _namespace(section["namespace"], namespace),
        section["id"].required("the id of a role"),
        section["secret"].required("a secret id"),
    )


def _kubernetes(value: Value, namespace: str) -> Kubernetes:
    section = value.exactly("namespace", "engine", "role", "jwt")
    return Kubernetes(
        _path(section["engine"], "kubernetes"),
        _namespace(section["namespace"], namespace),
        section["role"].required("the name of a role"),
        section["jwt"].required("a token, or the path of its file"),
    )


def _token(value: Value, namespace: str) -> Token:
    return Token(namespace, text=value.text())


def _token_file(value: Value, namespace: str) -> Token:
    return Token(namespace, file=Path(value.text()))


_LOGINS: Mapping[str, Callable[[Value, str], AppRole | Kubernetes | Token]] = {
    "approle": _app_role,
    "kubernetes": _kubernetes,
    "token": _token,
    "token_file": _token_file,
}

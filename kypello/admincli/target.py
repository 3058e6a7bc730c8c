# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which server a command asks, and in whose name: from options, the configuration of ``mc`` (which
is only read), or the environment.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field, frozen
from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgent

from kypello.adminclient import Access
from kypello.environment import Environment

#: The server that is asked when nothing names another.
DEFAULT_ENDPOINT = "http://127.0.0.1:9000"

_CONNECT_TIME = 10.0
_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
).findall


class CommandError(Exception):
    """
    A command that cannot do what it was asked; its text is for people.
    """


@frozen
class Wanted:
    """
    What the options of a command say about the server.

    :ivar endpoint: ``None`` when they name none; so with the others.
    :ivar alias: Of ``mc``.
    :ivar access_key: In whose name to ask.
    :ivar secret_file: Where the secret key is; ``-`` is standard input.
    :ivar authorities: A file with certificates in PEM.
    """

    endpoint: str | None = None
    alias: str | None = None
    access_key: str | None = None
    secret_file: str | None = None
    authorities: str | None = None


@define(eq=False)
class Surroundings:
    """
    What a process can be told by beside its arguments.

    :ivar variables: The environment.
    :ivar read: Gives the text of a file, or of standard input for ``-``; ``None`` for none.
    :ivar ask: Asks for a secret on the terminal; ``None`` when there is none to ask at.
    :ivar home: The folder of the person.
    """

    variables: Mapping[str, str] = field(repr=False)
    read: Callable[[str], str | None]
    ask: Callable[[str], str] | None
    home: Path

    def secret(self, file: str | None, prompt: str, *, new: bool = False) -> str:
        """
        Get a secret: from a file, standard input or the terminal.

        :param file: ``None`` to ask for it.
        :param new: Whether it is a new one, which is asked for twice.
        :raises CommandError: There is none.
        """
        if file is not None:
            secret = self.text(file).strip("\r\n")
            if not secret or "\n" in secret:
                raise CommandError(f"{_named(file)} must hold the secret key in one line")
            return secret
        if self.ask is None:
            raise CommandError(
                "there is no terminal to ask for the secret key at: name a file that holds it, or"
                " - for standard input"
            )
        secret = self.ask(f"{prompt}: ")
        if new and self.ask(f"{prompt} again: ") != secret:
            raise CommandError("the two are not the same")
        if not secret:
            raise CommandError("the secret key is empty")
        return secret

    def text(self, file: str) -> str:
        """
        Read a file that has to be there; ``-`` is standard input.

        :raises CommandError: It cannot be read.
        """
        try:
            text = self.read(file)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise CommandError(f"{_named(file)} is not UTF-8 text") from None
        if text is None:
            raise CommandError(f"{file}: there is no such file")
        return text


def find_access(wanted: Wanted, around: Surroundings) -> Access:
    """
    Find out which server to ask, and in whose name.

    :raises CommandError: It cannot be told; says what to give.
    """
    found = _of_alias(wanted.alias, around) if wanted.alias is not None else None
    if found is None:
        found = _of_environment(around, wanted.access_key is None)
    endpoint = _checked(wanted.endpoint or found.endpoint)
    if wanted.access_key is not None:
        prompt = f"Secret key of {wanted.access_key}"
        secret = around.secret(wanted.secret_file, prompt)
        return Access(endpoint, wanted.access_key, secret)
    if wanted.secret_file is not None:
        raise CommandError("--as-secret-file goes with --as")
    if not found.access_key or not found.secret_key:
        raise CommandError(
            "whose credentials shall be used? Give --alias NAME or --as KEY, or set"
            " KYPELLO_ROOT_USER and KYPELLO_ROOT_PASSWORD, or AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY"
        )
    return Access(endpoint, found.access_key, found.secret_key, found.token)


def make_agent(reactor: Any, authorities: str | None, around: Surroundings) -> IAgent:
    """
    Make what connects to servers: TLS is verified, with the authorities of the system or those
    that are named.

    :raises CommandError: The file holds no certificate.
    """
    trusted = platformTrust()
    named = authorities or around.variables.get("AWS_CA_BUNDLE")
    if named:
        try:
            found = [Certificate.loadPEM(one) for one in _CERTIFICATE(around.text(named).encode())]
        except (SSL.Error, crypto.Error, ValueError) as error:
            raise CommandError(f"{named} holds a certificate that cannot be read") from error
        if not found:
            raise CommandError(f"{named} holds no certificate in PEM")
        trusted = trustRootFromCertificates(found)
    policy = BrowserLikePolicyForHTTPS(trusted)
    agent: IAgent = Agent(reactor, policy, connectTimeout=_CONNECT_TIME)
    return agent


def _of_environment(around: Surroundings, credentials: bool) -> Access:
    """
    What the environment says: Kypello's and MinIO's variables before those of AWS.

    :param credentials: Whether it is asked in whose name, too.
    """
    variables = around.variables
    endpoint = variables.get("KYPELLO_ENDPOINT") or DEFAULT_ENDPOINT
    if not credentials:
        return Access(endpoint, "", "")
    environment = Environment.load(variables, around.read)
    user = environment.secret("MINIO_ROOT_USER")
    password = environment.secret("MINIO_ROOT_PASSWORD")
    if environment.mistakes:
        raise CommandError(" ".join(environment.mistakes))
    if user and password:
        return Access(endpoint, user, password)
    return Access(
        endpoint,
        variables.get("AWS_ACCESS_KEY_ID", ""),
        variables.get("AWS_SECRET_ACCESS_KEY", ""),
        variables.get("AWS_SESSION_TOKEN", ""),
    )


def _of_alias(alias: str, around: Surroundings) -> Access:
    """
    What ``mc`` knows under a name: of a variable ``MC_HOST_NAME``, or of its file.
    """
    told = around.variables.get(f"MC_HOST_{alias}")
    if told is not None:
        return _of_url(alias, told)
    folder = around.variables.get("MC_CONFIG_DIR")
    path = str(Path(folder) if folder else around.home / ".mc") + "/config.json"
    try:
        found = json.loads(around.text(path))["aliases"][alias]
        return Access(
            str(found["url"]).rstrip("/"),
            str(found["accessKey"]),
            str(found["secretKey"]),
            str(found.get("sessionToken") or ""),
        )
    except KeyError:
        raise CommandError(f"{path} has no alias {alias}: see mc alias list") from None
    except (ValueError, TypeError, AttributeError):
        raise CommandError(f"{path} is not a configuration of mc") from None


def _of_url(alias: str, told: str) -> Access:
    # What is not a URL is not repeated: it holds a secret.
    mistake = CommandError(f"MC_HOST_{alias} must be a URL such as https://KEY:SECRET@HOST:PORT")
    scheme, _, rest = told.partition("://")
    credentials, at, host = rest.rpartition("@")
    access_key, colon, secret = credentials.partition(":")
    if scheme not in ("http", "https") or not at or not colon:
        raise mistake
    secret_key, _, token = secret.partition(":")
    return Access(f"{scheme}://{host}".rstrip("/"), unquote(access_key), unquote(secret_key), token)


def _checked(endpoint: str) -> str:
    """
    A URL with nothing but scheme, host and port.
    """
    mistake = CommandError(
        f"{endpoint.rpartition('@')[2]} is no endpoint: expected one such as http://HOST:9000"
    )
    try:
        url = urlsplit(endpoint)
        if url.port == 0:
            raise mistake
    except ValueError:
        raise mistake from None
    plain = url.scheme in ("http", "https") and url.hostname and "@" not in url.netloc
    if not plain or url.path.strip("/") or url.query or url.fragment or not endpoint.isascii():
        raise mistake
    default = ":443" if url.scheme == "https" else ":80"
    return f"{url.scheme}://{url.netloc.removesuffix(default)}"


def _named(file: str) -> str:
    return "standard input" if file == "-" else file

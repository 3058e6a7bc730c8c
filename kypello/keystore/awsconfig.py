# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The section ``keystore.aws.secretsmanager`` of KES's configuration.
"""

import re
from functools import partial
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.auth.signer import Keys
from kypello.document import Value
from kypello.keystore.endpoint import read_endpoint
from kypello.keystore.webtls import TLSFiles, read_tls

_CONTAINERS = "http://169.254.170.2"
_INSTANCE = "http://169.254.169.254"
#: Whom credentials of containers are asked for without TLS, as AWS's own clients have it.
_LOCAL = frozenset(
    {"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}
)
_PREFIX = re.compile(r"[A-Za-z0-9/_+=.@-]*").fullmatch
_REGION = re.compile(r"[a-z0-9-]+").fullmatch


@frozen
class WebIdentity:
    """
    A role of AWS for who has a token of an identity provider, such as a pod of Kubernetes.

    :ivar file: The token; somebody else replaces it in time.
    :ivar endpoint: The security token service, a URL.
    """

    file: Path
    role: str
    session: str
    endpoint: str


@frozen
class SharedFile:
    """
    A file of profiles, such as ``~/.aws/credentials``.

    :ivar required: Whether somebody has named it or the profile, so that it must be there.
    """

    path: Path
    profile: str
    required: bool


@frozen
class Container:
    """
    The credentials of a task of ECS, or a pod of EKS.

    :ivar url: Where they are.
    :ivar token: Shown there; empty for none.
    :ivar file: Holds that token; ``None`` for no file.
    """

    url: str
    token: str = field(default="", repr=False)
    file: Path | None = None


@frozen
class Instance:
    """
    The role of a machine of EC2, by its metadata service in version 2.
    """

    endpoint: str


Source: TypeAlias = Keys | WebIdentity | SharedFile | Container | Instance


@frozen
class AWSSettings:
    """
    Secrets in AWS Secrets Manager.

    :ivar endpoint: A URL without a slash at the end.
    :ivar kms_key: The id or ARN of the KMS key that encrypts them; empty for AWS's own.
    :ivar prefix: What the names of secrets begin with before the names of keys.
    :ivar sources: Where credentials come from; the first that has any counts.
    """

    endpoint: str
    region: str
    kms_key: str
    prefix: str
    sources: tuple[Source, ...]
    tls: TLSFiles = field(factory=TLSFiles)

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """
        return f"{self.endpoint}, {self.prefix}*" if self.prefix else self.endpoint

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """
        Files that nobody else may read.
        """
        profiles = (one.path for one in self.sources if isinstance(one, SharedFile))
        return (*(() if self.tls.key is None else (self.tls.key,)), *profiles)


def read_aws(value: Value) -> AWSSettings:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly("endpoint", "region", "kmskey", "prefix", "credentials", "tls")
    region = section["region"].required("such as eu-central-1")
    if not _REGION(region) and region:
        section["region"].mistake("must be a region, such as eu-central-1")
    prefix = section["prefix"].text()
    if not _PREFIX(prefix):
        section["prefix"].mistake("may hold letters, digits and /_+=.@- only")
    return AWSSettings(
        read_endpoint(section["endpoint"], f"secretsmanager.{region or 'REGION'}.amazonaws.com"),
        region,
        section["kmskey"].text(),
        prefix,
        _sources(section["credentials"], region),
        read_tls(section["tls"]),
    )


def _sources(value: Value, region: str) -> tuple[Source, ...]:
    section = value.exactly("accesskey", "secretkey", "token")
    access, secret, token = (section[name].text() for name in ("accesskey", "secretkey", "token"))
    if access and secret:
        return (Keys(access, secret, token),)
    if access or secret or token:
        value.mistake("accesskey and secretkey go together; without them they are looked for")
    variable = partial(_variable, value)
    access, secret = variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")
    if access and secret:
        return (Keys(access, secret, variable("AWS_SESSION_TOKEN")),)
    file, role = variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")
    if file and role:
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        endpoint = variable("AWS_ENDPOINT_URL_STS") or f"https://sts.{region}.{domain}"
        session = variable("AWS_ROLE_SESSION_NAME") or "kypello"
        return (WebIdentity(Path(file), role, session, endpoint.rstrip("/")),)
    return (_shared_file(value), *_of_the_machine(value))


def _shared_file(value: Value) -> SharedFile:
    variable = partial(_variable, value)
    named, profile = variable("AWS_SHARED_CREDENTIALS_FILE"), variable("AWS_PROFILE")
    home = variable("HOME") or "/"
    path = Path(named) if named else Path(home, ".aws", "credentials")
    return SharedFile(path, profile or "default", bool(named or profile))


def _of_the_machine(value: Value) -> tuple[Source, ...]:
    variable = partial(_variable, value)
    relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{_CONTAINERS}{relative}" if relative else ""
    url = url or variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if url:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOCAL:
            value.mistake("AWS_CONTAINER_CREDENTIALS_FULL_URI must be of https, or of this machine")
        file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        return (Container(url, token, Path(file) if file else None),)
    if variable("AWS_EC2_METADATA_DISABLED").lower() == "true":
        return ()
    endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _INSTANCE
    return (Instance(endpoint.rstrip("/")),)


def _variable(value: Value, name: str) -> str:
    # For AWS's own clients, too, an empty one is none.
    return value.variable(name) or ""

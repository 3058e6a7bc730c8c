# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The section ``keystore.gcp.secretmanager`` of KES's configuration.
"""

import re
from pathlib import Path
from typing import TypeAlias

from attrs import field, frozen

from kypello.document import Value
from kypello.keystore.endpoint import read_endpoint
from kypello.keystore.webtls import TLSFiles, read_tls

_HOST = "secretmanager.googleapis.com"
_METADATA = "metadata.google.internal"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_PREFIX = re.compile(r"[A-Za-z0-9_-]*").fullmatch
_PROJECT = re.compile(r"[a-z0-9.:-]+").fullmatch
_LOCATION = re.compile(r"[a-z0-9-]+").fullmatch
_ACCOUNT = ("client_email", "client_id", "private_key_id", "private_key")

#: Where tokens are made.
TOKENS = "https://oauth2.googleapis.com/token"


@frozen
class ServiceAccount:
    """
    Who proves with a key to be an account of Google.

    :ivar key: Private, in PEM.
    :ivar tokens: Where it gets tokens, a URL.
    """

    email: str
    key_id: str
    key: str = field(repr=False)
    tokens: str = TOKENS


@frozen
class AuthorizedUser:
    """
    A person who has logged in with Google's command line.

    :ivar tokens: Where it gets tokens, a URL.
    """

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    tokens: str = TOKENS


@frozen
class CredentialsFile:
    """
    A file with one of these, as Google makes it.

    :ivar required: Whether somebody has named it, so that it must be there.
    """

    path: Path
    required: bool


@frozen
class Metadata:
    """
    The account of a machine, or of a pod of Kubernetes, by its metadata service.
    """

    endpoint: str


Source: TypeAlias = ServiceAccount | CredentialsFile | Metadata


@frozen
class GCPSettings:
    """
    Secrets in Google Cloud Secret Manager.

    :ivar endpoint: A URL without a slash at the end.
    :ivar project: The id of the project.
    :ivar prefix: What the names of secrets begin with before the names of keys.
    :ivar locations: Where Google keeps new secrets; empty to leave that to Google.
    :ivar scopes: What tokens are good for.
    :ivar sources: Where credentials come from; the first that has any counts.
    """

    endpoint: str
    project: str
    prefix: str
    locations: tuple[str, ...]
    scopes: tuple[str, ...]
    sources: tuple[Source, ...]
    tls: TLSFiles = field(factory=TLSFiles)

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """
        return f"{self.endpoint}, projects/{self.project}/secrets/{self.prefix}*"

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """
        Files that nobody else may read.
        """
        files = (one.path for one in self.sources if isinstance(one, CredentialsFile))
        return (*(() if self.tls.key is None else (self.tls.key,)), *files)


def read_gcp(value: Value) -> GCPSettings:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly(
        "project_id", "endpoint", "scopes", "prefix", "locations", "credentials", "tls"
    )
    project = section["project_id"].required("the id of a project")
    if not _PROJECT(project) and project:
        section["project_id"].mistake("must be the id of a project, such as my-project-1234")
    prefix = section["prefix"].text()
    if not _PREFIX(prefix):
        section["prefix"].mistake("may hold letters, digits, - and _ only")
    locations = []
    for item in section["locations"].items():
        locations.append(item.text())
        if not _LOCATION(locations[-1]):
            item.mistake("must be a location, such as europe-west3")
    endpoint = f"https://{_HOST}"
    # Examples of KES name these, as empty strings.
    if section["endpoint"].text():
        endpoint = read_endpoint(section["endpoint"], _HOST)
    scopes = tuple(text for item in section["scopes"].items() if (text := item.text()))
    return GCPSettings(
        endpoint,
        project,
        prefix,
        tuple(locations),
        scopes or (_SCOPE,),
        _sources(section["credentials"]),
        read_tls(section["tls"]),
    )


def _sources(value: Value) -> tuple[Source, ...]:
    section = value.exactly(*_ACCOUNT)
    email, client, key_id, key = (section[name].text() for name in _ACCOUNT)
    if email and client and key_id and key:
        # As it stands in Google's JSON, a line feed is two characters.
        return (ServiceAccount(email, key_id, key.replace("\\n", "\n")),)
    if email or client or key_id or key:
        value.mistake(f"{', '.join(_ACCOUNT)} go together; without them they are looked for")
    variable = value.variable
    named = variable("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return (CredentialsFile(Path(named), True),)
    folder = variable("CLOUDSDK_CONFIG")
    path = Path(folder) if folder else Path(variable("HOME") or "/", ".config", "gcloud")
    metadata = Metadata(f"http://{variable('GCE_METADATA_HOST') or _METADATA}")
    return (CredentialsFile(path / "application_default_credentials.json", False), metadata)

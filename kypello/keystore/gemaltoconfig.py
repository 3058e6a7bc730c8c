# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The section ``keystore.gemalto.keysecure`` of KES's configuration: Gemalto KeySecure, and Thales
CipherTrust Manager, which it has become.
"""

import re
from pathlib import Path

from attrs import field, frozen

from kypello.document import Value
from kypello.keystore.endpoint import read_endpoint
from kypello.keystore.webtls import TLSFiles, read_tls

_PREFIX = re.compile(r"[A-Za-z0-9_-]*").fullmatch


@frozen
class GemaltoSettings:
    """
    Secrets in a CipherTrust Manager.

    :ivar endpoint: A URL without a slash at the end.
    :ivar token: A refresh token.
    :ivar domain: Where the secrets are; empty for the domain of the token.
    :ivar prefix: What the names of secrets begin with before the names of keys.
    """

    endpoint: str
    token: str = field(repr=False)
    domain: str = ""
    prefix: str = ""
    tls: TLSFiles = field(factory=TLSFiles)

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """
        return ", ".join(
            filter(None, (self.endpoint, self.domain, self.prefix and f"{self.prefix}*"))
        )

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """
        Files that nobody else may read.
        """
        return () if self.tls.key is None else (self.tls.key,)


def read_gemalto(value: Value) -> GemaltoSettings:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly("endpoint", "credentials", "prefix", "tls")
    credentials = section["credentials"].exactly("token", "domain", "retry")
    if credentials["retry"].given:
        credentials["retry"].warn("has no effect: a token is got again when it is needed")
    prefix = section["prefix"].text()
    if not _PREFIX(prefix):
        section["prefix"].mistake("may hold letters, digits, - and _ only")
    return GemaltoSettings(
        read_endpoint(section["endpoint"], "ciphertrust.example.org"),
        credentials["token"].required("a refresh token"),
        credentials["domain"].text(),
        prefix,
        read_tls(section["tls"]),
    )

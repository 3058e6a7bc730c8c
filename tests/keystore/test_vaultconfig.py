# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.vaultconfig`` and what it reads of TLS.
"""

from pathlib import Path

from kypello.document import Report, read
from kypello.keystore.table import read_keystore
from kypello.keystore.vaultconfig import (
    AppRole,
    Kubernetes,
    Token,
    Transit,
    VaultSettings,
)
from kypello.keystore.webtls import TLSFiles
from tests.cases import SyncCase

_URL = "https://vault:8200"
_FULL = """\
vault:
  endpoint: https://vault:8200/
  engine: /secret/keys/
  version: v2
  namespace: team/
  prefix: my/kes
  transit: {engine: wrap, key: master}
  approle:
    namespace: /
    engine: roles
    id: ${ID}
    secret: ${SECRET}
  tls: {key: client.key, cert: client.crt, ca: ca.crt}
  status: {ping: 1m}
"""


def parsed(text: str) -> tuple[VaultSettings | None, Report]:
    """
    Read the section ``keystore`` of a file ``kes.yml``.
    """
    report = Report("kes.yml")
    value = read(text, report, {"ID": "role", "SECRET": "opensesame"})
    return read_keystore(value), report


class ReadTests(SyncCase):
    """
    ``read_vault`` reads what is right.
    """

    def test_full(self) -> None:
        """
        Everything is read; slashes around paths do not matter.
        """
        settings, report = parsed(_FULL)
        self.assertEqual(
            settings,
            VaultSettings(
                _URL,
                AppRole("roles", "", "role", "opensesame"),
                "secret/keys",
                2,
                "team",
                "my/kes",
                Transit("wrap", "master"),
                TLSFiles(Path("client.key"), Path("client.crt"), Path("ca.crt")),
                60.0,
            ),
        )
        self.assertEqual((report.mistakes, report.warnings), ([], []))

    def test_defaults(self) -> None:
        """
        What is not given is as in KES; a login is where the keys are.
        """
        text = f"vault: {{endpoint: '{_URL}', namespace: a, kubernetes: {{role: r, jwt: /j}}}}"
        settings, _ = parsed(text)
        self.assertEqual(
            settings, VaultSettings(_URL, Kubernetes("kubernetes", "a", "r", "/j"), namespace="a")
        )
        assert settings is not None
        self.assertEqual((settings.engine, settings.version, settings.ping), ("kv", 1, 10.0))

    def test_tokens(self) -> None:
        """
        A token is given as it is, or by its file.
        """
        for text, token in (
            ("token: '${SECRET}'", Token("", "opensesame")),
            ("token_file: /run/token", Token("", file=Path("/run/token"))),
        ):
            settings, report = parsed(f"vault: {{endpoint: '{_URL}', {text}}}")
            self.assertEqual((settings, report.mistakes), (VaultSettings(_URL, token), []))

    def test_secrets(self) -> None:
        """
        No text form tells a secret.
        """
        for text in (
            "approle: {id: a, secret: '${SECRET}'}",
            "kubernetes: {role: a, jwt: '${SECRET}'}",
            "token: '${SECRET}'",
        ):
            settings, _ = parsed(f"vault: {{endpoint: '{_URL}', {text}}}")
            assert settings is not None
            self.assertNotIn("opensesame", repr(settings) + settings.where)

    def test_retry(self) -> None:
        """
        A field of old versions is warned of.
        """
        _, report = parsed(f"vault:\n  endpoint: {_URL}\n  token: a\n  retry: 15s\n")
        (warning,) = report.warnings
        self.assertTrue(warning.startswith("kes.yml:4: vault.retry: has no effect"), warning)


class MistakeTests(SyncCase):
    """
    What is wrong is refused, with its line.
    """

    def test_mistakes(self) -> None:
        """
        Each mistake is told by its line and name.
        """
        good = f"endpoint: {_URL}\n  token: a\n"
        for text, expected in (
            ("token: a\n", "2: vault.endpoint: is required: a URL"),
            (f"endpoint: {_URL}\n", "2: vault: needs one way to log in of approle, kubernetes"),
            (f"{good}  token_file: b\n", "2: vault: needs one way to log in"),
            ("endpoint: ftp://a\n  token: a\n", "2: vault.endpoint: must be a URL of http"),
            ("endpoint: http://a/v1\n  token: a\n", "2: vault.endpoint: must be a URL"),
            ("endpoint: http://u:p@a\n  token: a\n", "2: vault.endpoint: must be a URL"),
            ("endpoint: http://a:x\n  token: a\n", "2: vault.endpoint: must be a URL"),
            (f"{good}  version: v3\n", "4: vault.version: must be v1 or v2"),
            (f"{good}  engine: a/../b\n", "4: vault.engine: is no path"),
            (f"{good}  prefix: a//b\n", "4: vault.prefix: is no path"),
            (f"{good}  transit: {{engine: a}}\n", "4: vault.transit.key: is required"),
            (f"{good}  tls: {{key: a}}\n", "4: vault.tls: key and cert go together"),
            (f"{good}  tls: {{pem: a}}\n", "4: vault.tls.pem: is unknown"),
            (f"{good}  status: {{ping: 5}}\n", "4: vault.status.ping: must be a duration"),
            (f"{good}  path: a\n", "4: vault.path: is unknown"),
            (
                f"endpoint: {_URL}\n  approle: {{id: a}}\n",
                "3: vault.approle.secret: is required: a secret id",
            ),
            (
                f"endpoint: {_URL}\n  kubernetes: {{role: a}}\n",
                "3: vault.kubernetes.jwt: is required",
            ),
        ):
            _, report = parsed(f"vault:\n  {text}")
            (mistake,) = report.mistakes
            self.assertTrue(mistake.startswith(f"kes.yml:{expected}"), mistake)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for the files with secrets that key stores use.
"""

from pathlib import Path

from kypello.document import Report, read
from kypello.errors import ConfigurationError
from kypello.kes_service import read_config
from kypello.keystore.table import read_keystore
from tests.cases import SyncCase

_TLS = "tls: {key: client.key, cert: client.crt}"


class SecretFilesTests(SyncCase):
    """
    Settings tell which of their files are secret.
    """

    def files(self, text: str, **environment: str) -> list[str]:
        """
        The secret files of a section ``keystore``.
        """
        report = Report("kes.yml")
        settings = read_keystore(read(text, report, environment))
        self.assertEqual(report.mistakes, [])
        return [str(file) for file in settings.secret_files]

    def test_all(self) -> None:
        """
        Those are private keys, passphrases and credentials, of every kind of key store.
        """
        vault = "vault: {endpoint: 'https://vault', "
        aws = "aws: {secretsmanager: {region: eu-central-1, endpoint: aws, "
        gcp = "gcp: {secretmanager: {project_id: my-project, "
        for text, expected in (
            ("fs: {path: keys}", []),
            ("fs: {path: keys, passphrase_file: secret}", ["secret"]),
            (vault + "token_file: token}", ["token"]),
            (vault + f"token: t, {_TLS}}}", ["client.key"]),
            (vault + "kubernetes: {role: kes, jwt: /run/token}}", []),
            (aws + f"credentials: {{accesskey: a, secretkey: b}}, {_TLS}}}}}", ["client.key"]),
            (gcp + f"{_TLS}}}}}", ["client.key", "google.json"]),
            (
                "gemalto: {keysecure: {endpoint: thales, credentials: {token: t}, " + _TLS + "}}",
                ["client.key"],
            ),
        ):
            found = self.files(text, GOOGLE_APPLICATION_CREDENTIALS="google.json")
            self.assertEqual(found, expected, text)

    def test_profiles(self) -> None:
        """
        So is the file of profiles of AWS.
        """
        found = self.files(
            "aws: {secretsmanager: {region: eu-central-1, endpoint: aws}}",
            AWS_SHARED_CREDENTIALS_FILE="profiles",
        )
        self.assertEqual(found, ["profiles"])

    def test_refused(self) -> None:
        """
        No server starts with a token that everybody on the machine can read.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        token, config = folder / "token", folder / "kes.yml"
        token.write_text("opensesame")
        config.write_text(
            "admin: {identity: disabled}\ntls: {key: server.key, cert: server.crt}\n"
            f"keystore: {{vault: {{endpoint: 'https://vault', token_file: {token}}}}}\n"
        )
        token.chmod(0o644)
        with self.assertRaises(ConfigurationError) as caught:
            read_config(str(config), {})
        (mistake,) = caught.exception.mistakes
        self.assertIn(f"{token} holds a secret", mistake)
        token.chmod(0o640)
        self.assertEqual(read_config(str(config), {}).keystore.secret_files, (token,))

    def test_open_keys(self) -> None:
        """
        Nor does one with keys that everybody can read, unless nobody may enter their directory.
        """
        folder = Path(self.mktemp())
        keys = folder / "keys"
        keys.mkdir(parents=True)
        (keys / "good").touch(0o600)
        config = folder / "kes.yml"
        text = (
            "admin: {identity: disabled}\ntls: {key: server.key, cert: server.crt}\n"
            f"keystore: {{fs: {{path: {keys}}}}}\n"
        )
        config.write_text(text)
        keys.chmod(0o755)
        read_config(str(config), {})
        (keys / "bad").touch()
        (keys / "bad").chmod(0o644)
        with self.assertRaises(ConfigurationError) as caught:
            read_config(str(config), {})
        (mistake,) = caught.exception.mistakes
        self.assertIn(f"keys in {keys}, such as bad: chmod", mistake)
        keys.chmod(0o750)
        read_config(str(config), {})
        keys.chmod(0o755)
        config.write_text(text + "kypello: {readable_secrets: allowed}\n")
        read_config(str(config), {})

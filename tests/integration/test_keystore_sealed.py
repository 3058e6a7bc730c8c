# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A server whose master keys are sealed under a passphrase.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kypello.keystore.seal import is_sealed
from tests.cases import SyncCase
from tests.integration.server import ServerProcess, base_environment
from tests.integration.test_clients import boto3_client

_WAIT = 60.0
_FILE = "KYPELLO_KMS_PASSPHRASE_FILE"


class SealedTests(SyncCase):
    """
    The embedded key server with a passphrase.
    """

    def setUp(self) -> None:
        """
        Two passphrases in files, and a server that has stored something before it had one.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.directory = self.work / "data"
        self.right = self.work / "right"
        self.right.write_text("opensesame\n")
        self.wrong = self.work / "wrong"
        self.wrong.write_text("closesesame\n")
        server = self.start()
        client = boto3_client(server)
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="first", Body=b"one")
        self.assertEqual(server.stop(), 0)

    def start(self, **settings: str) -> ServerProcess:
        """
        Start a server on the directory.
        """
        server = ServerProcess(self.directory, {"MINIO_KMS_AUTO_ENCRYPTION": "on", **settings})
        server.start()
        self.addCleanup(lambda: server.running and server.stop())
        return server

    def keys(self) -> dict[str, bytes]:
        """
        The files of master keys.
        """
        return {path.name: path.read_bytes() for path in (self.directory / "kes/keys").iterdir()}

    def check(self, **settings: str) -> tuple[int, dict[str, Any]]:
        """
        Check the directory to its last byte.

        :return: The exit code and the figures.
        """
        command = (sys.executable, "-m", "kypello.cli", "store", "check", "--deep", "--json")
        done = subprocess.run(
            [*command, str(self.directory)],
            env={**base_environment(), **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["summary"]
        return done.returncode, figures

    def test_sealed(self) -> None:
        """
        The first start with a passphrase seals the keys that are there; everything can be read,
        then and after another start, and checked.
        """
        (plain,) = self.keys().values()
        for number in range(2):
            server = self.start(**{_FILE: str(self.right)})
            client = boto3_client(server)
            self.assertEqual(client.get_object(Bucket="bucket", Key="first")["Body"].read(), b"one")
            client.put_object(Bucket="bucket", Key=f"more-{number}", Body=b"two")
            self.assertEqual(server.stop(), 0)
            (sealed,) = self.keys().values()
            self.assertTrue(is_sealed(sealed))
        for path in self.directory.rglob("*"):
            if path.is_file():
                self.assertNotIn(plain, path.read_bytes(), path)
        code, figures = self.check(**{_FILE: str(self.right)})
        self.assertEqual((code, figures["decrypted"]), (0, 3), figures)

    def test_command(self) -> None:
        """
        ``kypello kes seal`` says in one line what is wrong, and how many keys it has changed.
        """
        before = self.keys()
        folder = self.directory / "kes" / "keys"
        right, wrong = str(self.right), str(self.wrong)
        for arguments, code, expected in (
            ((), 1, "Error: give --from, --to, or both"),
            (("--to", str(self.work / "none")), 1, "Error: the passphrase: No such file"),
            (("--from", wrong), 0, f"{folder}: keys changed: 0"),
            (("--to", right), 0, f"{folder}: keys changed: 1"),
            (("--from", wrong), 1, "Error: kypello-default-key is sealed under another"),
            (("--to", wrong), 1, "Error: kypello-default-key is sealed, and no passphrase"),
            (("--from", right), 0, f"{folder}: keys changed: 1"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "kypello.cli", "kes", "seal", str(folder), *arguments],
                env=base_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_WAIT,
                check=False,
            )
            (line,) = done.stdout.decode().splitlines()
            self.assertEqual(done.returncode, code, line)
            self.assertTrue(line.startswith(expected), line)
        self.assertEqual(self.keys(), before)

    def test_wrong_passphrase(self) -> None:
        """
        Another passphrase, or none, is told in the log; nothing is encrypted, and no file of a
        key is made or changed.
        """
        credentials = self.work / "credentials"
        credentials.mkdir()
        (credentials / "kypello-kms-passphrase").write_text("opensesame")
        server = self.start(CREDENTIALS_DIRECTORY=str(credentials))
        self.assertEqual(server.stop(), 0)
        before = self.keys()
        self.assertTrue(all(map(is_sealed, before.values())))
        for settings, expected in (
            ({_FILE: str(self.wrong)}, "is sealed under another passphrase than this"),
            ({}, "is sealed under a passphrase, and none is given"),
            ({_FILE: str(self.work / "none")}, "No such file or directory"),
        ):
            server = self.start(**settings)
            deadline = time.monotonic() + _WAIT
            while expected not in server.log and time.monotonic() < deadline:
                time.sleep(0.1)
            self.assertIn(expected, server.log)
            client = boto3_client(server)
            for call in (
                lambda client=client: client.get_object(Bucket="bucket", Key="first"),
                lambda client=client: client.put_object(Bucket="bucket", Key="other", Body=b"x"),
            ):
                with self.assertRaises(ClientError) as caught:
                    call()
                status = caught.exception.response["ResponseMetadata"]["HTTPStatusCode"]
                self.assertEqual(status, 503)
            self.assertNotIn("sesame", server.log)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(self.keys(), before)
        code, figures = self.check(**{_FILE: str(self.wrong)})
        self.assertEqual((code, figures["decrypted"]), (1, 0), figures)

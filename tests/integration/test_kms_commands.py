# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kms`` as people and scripts run it.
"""

import json
from pathlib import Path
from typing import Any

from tests.cases import SyncCase
from tests.integration.server import STATIC_KEY, ServerProcess
from tests.integration.test_account_cli import run
from tests.integration.test_clients import boto3_client
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem

_OTHER_KEY = "test-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWc="


class CommandTests(SyncCase):
    """
    A server with a static key, and its data.
    """

    def setUp(self) -> None:
        """
        Start it, and store an encrypted object.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(self.work / "data", {"MINIO_KMS_SECRET_KEY": STATIC_KEY})
        self.server.start()
        self.addCleanup(self.server.stop)
        s3 = boto3_client(self.server)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content", ServerSideEncryption="AES256")

    def kms(self, *arguments: str) -> tuple[int, str]:
        """
        Run a command: exit code and output.
        """
        code, out, err = run(self.work, self.server.endpoint, "kms", *arguments)
        return code, out + err

    def doctor(self, *arguments: str, settings: str = "") -> tuple[int, list[dict[str, Any]]]:
        """
        Examine with settings in a file: exit code, and what is printed for scripts.
        """
        file = self.work / "settings"
        file.write_text(settings)
        code, out = self.kms("doctor", "--json", "--env-file", str(file), *arguments)
        return code, [json.loads(line) for line in out.splitlines()]

    def test_usage(self) -> None:
        """
        The server counts what needs its key, and says when it cannot be asked.
        """
        code, out = self.kms("usage")
        self.assertEqual(code, 0, out)
        self.assertIn("test-key  bucket  1        1", out)
        code, out = self.kms("usage", "--json", "test-key")
        self.assertEqual(json.loads(out)["objects"], 1)
        self.server.stop()
        code, out = self.kms("usage")
        self.assertEqual((code, out[:6]), (1, "Error:"))

    def test_doctor(self) -> None:
        """
        The data of a server that runs is left alone; afterwards its key is checked against it.
        """
        data, right = str(self.server.directory), f"MINIO_KMS_SECRET_KEY={STATIC_KEY}"
        code, told = self.doctor(data, settings=right)
        self.assertEqual((code, told[0]["state"]), (0, "skipped"), told)
        self.server.stop()
        code, told = self.doctor(data, settings=right)
        self.assertEqual((code, told[-1]["summary"]["failed"]), (0, 0), told)
        self.assertIn("canary", {line.get("check") for line in told})
        code, told = self.doctor(data, settings=f"MINIO_KMS_SECRET_KEY={_OTHER_KEY}")
        self.assertEqual(code, 2)
        self.assertIn("1 objects (1 versions)", str(told))
        code, told = self.doctor(str(self.work), settings=right)
        self.assertEqual((code, told[0]["state"]), (2, "failed"), told)
        self.assertIn("is no data directory", told[0]["message"])
        code, out = self.kms("doctor", "--env-file", str(self.work / "settings"))
        self.assertEqual(code, 0)
        self.assertEqual(out.splitlines()[-1], "1 checks: 1 ok.")
        code, told = self.doctor(data)
        self.assertEqual(code, 2)

    def test_key_server(self) -> None:
        """
        A key server that is not there is told in one line, with what to do; warnings alone end
        with 1, and wrong arguments with 2.
        """
        key = new_key()
        (self.work / "c.key").write_bytes(key_pem(key))
        (self.work / "c.crt").write_bytes(pem(certificate(key)))
        file = self.work / "settings"
        port = free_port()
        file.write_text(
            f"MINIO_KMS_KES_ENDPOINT=https://127.0.0.1:{port}\nMINIO_KMS_KES_KEY_NAME=k\n"
            f"MINIO_KMS_KES_KEY_FILE={self.work}/c.key\nMINIO_KMS_KES_CERT_FILE={self.work}/c.crt\n"
        )
        code, out = self.kms("doctor", "--env-file", str(file))
        self.assertEqual(code, 2, out)
        (line,) = [line for line in out.splitlines() if line.startswith("failed")]
        self.assertIn(f"https://127.0.0.1:{port} connection: it refuses connections.", line)
        self.assertIn("To do: start the key server", line)
        code, told = self.doctor(settings=f"MINIO_KMS_SECRET_KEY={STATIC_KEY}\nMINIO_KMS_X=1\n")
        self.assertEqual((code, told[0]["state"]), (1, "warning"))
        self.assertEqual(self.kms("doctor", "--what")[0], 2)
        self.assertIn("Exit code:", self.kms("doctor", "--help")[1])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``mc admin trace`` and ``mc admin logs`` hear of what happens in both workers of a real server.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.server import base_environment
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until
from tests.integration.test_mc_admin import AdminCase

#: Enough connections for each worker to have one.
_CLIENTS = 8


class StreamCase(AdminCase):
    """
    A test that listens.
    """

    def listen(self, *words: str) -> Callable[[], list[Any]]:
        """
        Begin to listen with a command of ``mc admin``, and wait until it is heard.

        :return: What gives all that has been heard.
        """
        path = self.work / f"heard-{words[0]}"
        with path.open("wb") as output:
            process = subprocess.Popen(
                [self.program, "--config-dir", self.work / "mc", "--json", "admin", *words],
                env={**base_environment(), "HOME": str(self.work)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.kill)
        self.listener = process
        return lambda: [json.loads(line) for line in path.read_text().splitlines()]

    def heard_all(self, listen: Callable[[], list[Any]], act: Callable[[], None]) -> None:
        """
        Let something happen again and again until it is heard from both workers.
        """

        def happened() -> bool:
            """
            Act, and see.
            """
            act()
            return len(listen()) >= _CLIENTS

        wait_until(happened)


class TraceTests(StreamCase):
    """
    Requests.
    """

    def test_both_workers(self) -> None:
        """
        Requests that either worker answers are traced, with what they are and how they ended, and
        without what is secret.
        """
        heard = self.listen("trace", "k")
        number = iter(range(10_000))

        def act() -> None:
            """
            Store an object over connections of their own.
            """
            for _ in range(_CLIENTS):
                client = boto3_client(self.server)
                client.put_object(Bucket="bucket", Key=f"k{next(number)}", Body=b"content")

        self.heard_all(heard, act)
        self.listener.kill()
        events = [one for one in heard() if one["api"] == "s3.PutObject"]
        self.assertEqual({one["statusCode"] for one in events}, {200})
        self.assertTrue(all(one["path"].startswith("/bucket/k") for one in events))

    def test_errors_only(self) -> None:
        """
        Who asks for errors hears of nothing else.
        """
        heard = self.listen("trace", "--errors", "k")
        client = boto3_client(self.server)

        def act() -> bool:
            """
            Ask for an object that is there, and one that is not.
            """
            client.put_object(Bucket="bucket", Key="there", Body=b"")
            client.get_object(Bucket="bucket", Key="there")["Body"].read()
            try:
                client.get_object(Bucket="bucket", Key="none")
            except client.exceptions.NoSuchKey:
                pass
            return bool(heard())

        wait_until(act)
        self.assertEqual({one["path"] for one in heard()}, {"/bucket/none"})

    def test_secrets(self) -> None:
        """
        No signature, token or key of a client is traced.
        """
        heard = self.listen("trace", "-v", "k")
        client = boto3_client(self.server)
        url = client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "k"})
        secret = "0" * 31 + "S"

        def act() -> bool:
            """
            Send a presigned request, and one with a key.
            """
            import requests

            requests.get(url, timeout=10)
            requests.get(
                self.server.endpoint + "/bucket/k",
                headers={
                    "x-amz-server-side-encryption-customer-key": secret,
                    "x-amz-security-token": secret,
                    "Authorization": f"AWS4-HMAC-SHA256 {secret}",
                },
                timeout=10,
            )
            return len(heard()) >= 2

        wait_until(act)
        text = (self.work / "heard-trace").read_text()
        self.assertNotIn(secret, text)
        signature = url.partition("X-Amz-Signature=")[2].partition("&")[0]
        self.assertEqual(len(signature), 64)
        self.assertNotIn(signature, text)
        self.assertIn("REDACTED", text)

    def test_end(self) -> None:
        """
        A server that stops does not wait for those who listen.
        """
        heard = self.listen("trace", "k")
        client = boto3_client(self.server)

        def act() -> bool:
            """
            Be heard.
            """
            client.put_object(Bucket="bucket", Key="k", Body=b"")
            return bool(heard())

        wait_until(act)
        self.assertEqual(self.server.stop(), 0)

    def test_rights(self) -> None:
        """
        Who may not trace or read the log is refused.
        """
        self.admin("user", "add", "k", "alice", "alice-secret")
        self.alias("alice", "alice", "alice-secret")
        for command in ("trace", "logs"):
            self.admin(command, "alice", fails="Access Denied")


class LogTests(StreamCase):
    """
    The log.
    """

    def test_lines(self) -> None:
        """
        What workers log is heard, whichever it is, and none of the lines about requests.
        """
        heard = self.listen("logs", "k")

        def act() -> bool:
            """
            Make users, which is logged.
            """
            self.admin("user", "add", "k", "alice", "alice-secret")
            return len(heard()) >= 4

        wait_until(act)
        text = (self.work / "heard-logs").read_text()
        self.assertIn("admin:add-user 'alice' by 'integration'", text)
        self.assertNotIn("alice-secret", text)
        self.assertNotIn("done in=", text)

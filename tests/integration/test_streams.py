# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``mc admin trace`` and ``mc admin logs`` hear of what happens in both workers of a real server.
"""

import contextlib
import json
import subprocess
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.integration.server import base_environment
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until
from tests.integration.test_mc_admin import AdminCase

#: Over so many connections that each worker has some.
_OBJECTS = 8


class StreamCase(AdminCase):
    """
    A test that listens.
    """

    def listen(self, *words: str) -> Callable[[], list[Any]]:
        """
        Begin to listen with a command of ``mc admin``.

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
        return lambda: values(path.read_text())

    def put(self, key: str) -> None:
        """
        Store an object over a connection of its own.
        """
        boto3_client(self.server).put_object(Bucket="bucket", Key=key, Body=b"content")


def values(text: str) -> list[Any]:
    """
    The JSON values of a text, whose last one may not be complete yet.
    """
    found, decoder, start = [], json.JSONDecoder(), 0
    while True:
        start += len(text[start:]) - len(text[start:].lstrip())
        try:
            value, start = decoder.raw_decode(text, start)
        except ValueError:
            return found
        found.append(value)


class TraceTests(StreamCase):
    """
    Requests.
    """

    def test_both_workers(self) -> None:
        """
        Requests that either worker answers are traced, each once, with what they are and how they
        ended.
        """
        heard = self.listen("trace", "k")

        def begun() -> bool:
            """
            Whether something is heard.
            """
            self.put("first")
            return bool(heard())

        wait_until(begun)
        keys = [f"/bucket/k{number}" for number in range(_OBJECTS)]
        clients = [boto3_client(self.server) for _ in keys]
        for client, key in zip(clients, keys, strict=True):
            # They stay open, and so are shared among the workers.
            client.put_object(Bucket="bucket", Key=key.rpartition("/")[2], Body=b"content")

        def told() -> list[Any]:
            """
            Those that are heard.
            """
            return [one for one in heard() if one["path"] in keys]

        wait_until(lambda: len(told()) >= _OBJECTS)
        events = told()
        self.assertEqual(sorted(one["path"] for one in events), sorted(keys))
        self.assertEqual({one["statusCode"] for one in events}, {200})
        self.assertEqual({one["api"] for one in events}, {"s3.PutObject"})
        self.assertEqual({one["callStats"]["rx"] for one in events}, {7})

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
            with contextlib.suppress(client.exceptions.NoSuchKey):
                client.get_object(Bucket="bucket", Key="none")
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
        headers = {
            "x-amz-server-side-encryption-customer-key": secret,
            "x-amz-security-token": secret,
            "Authorization": f"AWS4-HMAC-SHA256 {secret}",
        }

        def act() -> bool:
            """
            Send a presigned request, and one with a key.
            """
            with contextlib.suppress(HTTPError):
                urlopen(url, timeout=10)
            with contextlib.suppress(HTTPError):
                urlopen(Request(self.server.endpoint + "/bucket/k", headers=headers), timeout=10)
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
        self.admin("logs", "alice", fails="Access Denied")
        # The program loses the reason.
        self.admin("trace", "alice", fails="Unable to listen")


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

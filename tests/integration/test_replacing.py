# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``mc admin service restart`` replaces the workers of a real server, and nobody is refused.
"""

import http.client
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until
from tests.integration.test_mc_admin import AdminCase

_CLIENTS = 3


class ReplacingTests(AdminCase):
    """
    Workers that are replaced.
    """

    def presigned(self, method: str, key: str) -> str:
        """
        Path and query of a signed request.
        """
        client = boto3_client(self.server)
        url: str = client.generate_presigned_url(method, {"Bucket": "bucket", "Key": key})
        return url.removeprefix(self.server.endpoint)

    def test_nobody_is_refused(self) -> None:
        """
        While both workers are replaced, each request over a new connection is answered, an upload
        that has begun is completed, and what was acknowledged is there afterwards.
        """
        before = self.server.workers()
        host = urlsplit(self.server.endpoint).netloc
        over, failures = threading.Event(), list[str]()
        acknowledged = [0] * _CLIENTS
        targets = [self.presigned("put_object", f"k{number}") for number in range(_CLIENTS)]

        def load(number: int) -> None:
            """
            Store an object again and again, each time over a new connection.
            """
            while not over.is_set():
                body = b"%d" % (acknowledged[number] + 1)
                connection = http.client.HTTPConnection(host, timeout=20)
                try:
                    connection.request("PUT", targets[number], body)
                    status = connection.getresponse().status
                except OSError as error:
                    failures.append(repr(error))
                    continue
                finally:
                    connection.close()
                if status != 200:
                    failures.append(str(status))
                acknowledged[number] += 1

        threads = [threading.Thread(target=load, args=(n,)) for n in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            slow = self.begin_upload(host)
            # What it prints may get lost within it.
            self.mc("--json", "admin", "service", "restart", "k")
            self.finish_upload(slow)
            wait_until(lambda: "all workers are replaced" in self.server.log)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        after = self.server.workers()
        self.assertEqual((len(after), set(before) & set(after)), (2, set()))
        client = boto3_client(self.server)
        for number, count in enumerate(acknowledged):
            self.assertGreater(count, 0)
            got = client.get_object(Bucket="bucket", Key=f"k{number}")["Body"].read()
            self.assertEqual(got, b"%d" % count)
        got = client.get_object(Bucket="bucket", Key="slow")["Body"].read()
        self.assertEqual(got, b"halfhalf")

    def begin_upload(self, host: str) -> Any:
        """
        A connection that has sent half of an object.
        """
        connection = socket.create_connection(("127.0.0.1", self.server.port), 30)
        self.addCleanup(connection.close)
        target = self.presigned("put_object", "slow")
        head = f"PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 8\r\n\r\n"
        connection.sendall(head.encode() + b"half")
        return connection

    def finish_upload(self, connection: socket.socket) -> None:
        """
        Send the other half, and see that it is stored.
        """
        connection.sendall(b"half")
        answer = connection.recv(4096)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

    def test_rehearsal(self) -> None:
        """
        A rehearsal replaces nobody.
        """
        before = self.server.workers()
        self.mc("--json", "admin", "service", "restart", "--dry-run", "k")
        self.assertEqual(self.server.workers(), before)
        self.assertNotIn("replaced", self.server.log)


class BadFilesTests(AdminCase):
    """
    Files that have become unusable.
    """

    def setUp(self) -> None:
        """
        Serve without TLS, in a home that has no certificates yet.
        """
        home = Path(self.mktemp()).resolve()
        self.certs = home / ".kypello" / "certs"
        self.environment = {**AdminCase.environment, "HOME": str(home)}
        super().setUp()

    def test_failure(self) -> None:
        """
        A worker that cannot start again is told of; the other one is left alone and serves on, and
        all is well when the files are.
        """
        # One that has not read its files yet would end the server.
        wait_until(lambda: self.server.log.count("StreamingSite starting") == 2, 60)
        first, second = self.server.workers()
        self.certs.mkdir(parents=True)
        files = [self.certs / name for name in ("private.key", "public.crt")]
        for path in files:
            path.write_text("nothing of use")
        self.mc("--json", "admin", "service", "restart", "k")
        wait_until(lambda: "a worker is not replaced" in self.server.log, 60)
        alive = set(self.server.workers())
        self.assertEqual(len({first, second} & alive), 1)
        boto3_client(self.server).put_object(Bucket="bucket", Key="k", Body=b"content")
        for path in files:
            path.unlink()
        # Each of the first two, and the one that is tried again.
        wait_until(lambda: self.server.log.count("StreamingSite starting") == 3, 60)


class AloneTests(AdminCase):
    """
    A server of one process.
    """

    environment = {**AdminCase.environment, "KYPELLO_WORKERS": "1"}  # noqa: RUF012

    def test_refused(self) -> None:
        """
        It says who can start it again.
        """
        told = self.mc("--json", "admin", "service", "restart", "k", fails=True)
        self.assertIn(b"systemctl restart", told)

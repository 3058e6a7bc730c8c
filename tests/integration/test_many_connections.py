# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a connection costs that is kept alive and does nothing.
"""

import os
import resource
from itertools import repeat
from pathlib import Path

from bench.client import Client
from bench.messages import plain
from bench.processes import memory, tree
from tests.cases import SyncCase
from tests.integration.server import STATIC_KEY, ServerProcess

#: How many connections there should be, and how many there must be at least.
_WANTED, _LEAST = 10_000, 2000

#: Files that a process needs beside its connections.
_OTHER_FILES = 500

#: The most that one may cost, in bytes: 10 000 of them a quarter of a GiB.
_COST = 25 * 1024


class IdleTests(SyncCase):
    """
    Connections that have been used once.
    """

    def setUp(self) -> None:
        """
        A server that may have as many connections as the system allows.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.count = min(_WANTED, hard - _OTHER_FILES)
        self.assertGreaterEqual(self.count, _LEAST, "raise the limit of open files: ulimit -Hn")
        self.server = ServerProcess(
            Path(self.mktemp()).absolute(), {"MINIO_KMS_SECRET_KEY": STATIC_KEY}
        )
        self.addCleanup(self.server.stop)
        self.server.start()

    def memory(self) -> int:
        """
        What the server holds, in bytes.
        """
        return sum(memory(self.server.pid).values())

    def files(self) -> int:
        """
        How many files and sockets the server has open.
        """
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in tree(self.server.pid))

    def test_cost(self) -> None:
        """
        10 000 idle connections cost less than 25 KiB each, stay open, and can be used again.
        """
        address = ("127.0.0.1", self.server.port)
        message = plain("GET", "/minio/health/live", f"127.0.0.1:{self.server.port}")
        with Client(address, 50) as client:
            # What the first connections bring to life serves all others.
            client.run(repeat(message, 1000))
        before, files = self.memory(), self.files()
        with Client(address, self.count) as client:
            client.run(repeat(message, self.count))
            cost = (self.memory() - before) / self.count
            self.assertGreaterEqual(self.files() - files, self.count - 50)
            client.run(repeat(message, self.count))
        self.assertLess(cost, _COST)

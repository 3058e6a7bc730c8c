# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The original key server and ours on one key store.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cases import AsyncCase
from tests.integration import tools
from tests.integration.server import base_environment
from tests.integration.test_kes_server import OURS, Person, Running


class KESPairCase(AsyncCase):
    """
    A test with key servers of both kinds.
    """

    def setUp(self) -> None:
        """
        Find the original, and make an administrator.
        """
        self.program = str(tools.require("kes"))
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.server = Person.make(self.folder, "server")
        self.admin = Person.make(self.folder, "admin")

    def start(
        self,
        command: tuple[str, ...],
        keystore: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        """
        Start a key server.

        :param keystore: The section of its configuration.
        """
        port = tools.free_port()
        config = {
            "address": f"127.0.0.1:{port}",
            "admin": {"identity": self.admin.identity},
            "tls": {"key": str(self.server.key), "cert": str(self.server.cert)},
            "keystore": keystore,
        }
        file = self.folder / f"{port}.yml"
        file.touch(0o600)
        file.write_text(yaml.safe_dump(config))
        log = self.folder / f"{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**base_environment(), **(environment or {})},
            )
        running = Running(port, process, log)
        running.wait()
        self.addCleanup(running.end)
        return running

    def kes(self, running: Running, *arguments: str) -> str:
        """
        Run a command of the original.
        """
        environment = {
            **base_environment(),
            "KES_SERVER": f"https://127.0.0.1:{running.port}",
            "KES_CLIENT_KEY": str(self.admin.key),
            "KES_CLIENT_CERT": str(self.admin.cert),
        }
        done = subprocess.run(
            [self.program, *arguments, "-k"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            env=environment,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr + running.log.read_text())
        return done.stdout

    def check_both(
        self, keystore: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        """
        What each has made and sealed the other finds, opens and removes.
        """
        original = self.start((self.program, "server"), keystore, environment)
        ours = self.start(OURS, keystore, environment)
        for maker, user, name in ((original, ours, "theirs"), (ours, original, "ours")):
            self.kes(maker, "key", "create", name)
            sealed = json.loads(self.kes(maker, "key", "encrypt", name, "a secret"))["ciphertext"]
            self.assertIn("YSBzZWNyZXQ", self.kes(user, "key", "decrypt", name, sealed))
        for server in (original, ours):
            self.assertEqual(json.loads(self.kes(server, "ls", "--json")), ["ours", "theirs"])
        self.kes(original, "key", "rm", "ours")
        self.kes(ours, "key", "rm", "theirs")
        # The original cannot list where nothing is.
        self.assertFalse(json.loads(self.kes(ours, "ls", "--json")))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Keys in OpenBao that the original KES has made, and the other way round.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.bao import Bao
from tests.integration.server import base_environment
from tests.integration.test_kes_server import OURS, Person, Running

_POLICY = """
path "kv/*" { capabilities = ["create", "read", "list", "delete"] }
path "second/data/*" { capabilities = ["create", "read"] }
path "second/metadata/*" { capabilities = ["list", "delete"] }
path "transit/encrypt/wrap" { capabilities = ["update"] }
path "transit/decrypt/wrap" { capabilities = ["update"] }
"""


class KESTests(SyncCase):
    """
    Both key servers on one key store.
    """

    def setUp(self) -> None:
        """
        Start OpenBao with a role.
        """
        self.program = str(tools.require("kes"))
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.server = Person.make(self.folder, "server")
        self.admin = Person.make(self.folder, "admin")
        self.bao = Bao.develop(self.folder)
        self.addCleanup(self.bao.end)
        self.bao.mount("kv", "kv", 1)
        self.bao.mount("second", "kv", 2)
        self.bao.mount("transit", "transit")
        self.bao.ask("POST", "transit/keys/wrap", {})
        self.role, self.secret = self.bao.app_role(_POLICY, token_period="5m")

    def start(self, command: tuple[str, ...], vault: Mapping[str, Any]) -> Running:
        """
        Start a key server on OpenBao.
        """
        port = tools.free_port()
        config = {
            "address": f"127.0.0.1:{port}",
            "admin": {"identity": self.admin.identity},
            "tls": {"key": str(self.server.key), "cert": str(self.server.cert)},
            "keystore": {
                "vault": {
                    "endpoint": self.bao.url,
                    "approle": {"id": self.role, "secret": self.secret},
                    **vault,
                }
            },
        }
        file = self.folder / f"{port}.yml"
        file.write_text(yaml.safe_dump(config))
        log = self.folder / f"{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=base_environment(),
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

    def check_both(self, vault: Mapping[str, Any]) -> None:
        """
        What each has made and sealed the other finds and opens.
        """
        original = self.start((self.program, "server"), vault)
        ours = self.start(OURS, vault)
        for maker, user, name in ((original, ours, "theirs"), (ours, original, "ours")):
            self.kes(maker, "key", "create", name)
            sealed = json.loads(self.kes(maker, "key", "encrypt", name, "a secret"))["ciphertext"]
            self.assertIn("YSBzZWNyZXQ", self.kes(user, "key", "decrypt", name, sealed))
        for server in (original, ours):
            self.assertEqual(json.loads(self.kes(server, "ls", "--json")), ["ours", "theirs"])
        self.kes(original, "key", "rm", "ours")
        self.kes(ours, "key", "rm", "theirs")
        # The original cannot list an empty engine.
        self.assertFalse(json.loads(self.kes(ours, "ls", "--json")))

    def test_first(self) -> None:
        """
        In a K/V engine of version 1, which is the default of both.
        """
        self.check_both({})

    def test_second(self) -> None:
        """
        In a K/V engine of version 2, with a prefix.
        """
        self.check_both({"engine": "second", "version": "v2", "prefix": "some/where"})

    def test_transit(self) -> None:
        """
        With entries that a transit engine encrypts.
        """
        self.check_both(
            {"engine": "second", "version": "v2", "transit": {"engine": "transit", "key": "wrap"}}
        )

    def test_transit_later(self) -> None:
        """
        With a transit engine that was configured when there were keys both read these.
        """
        vault = {"engine": "second", "version": "v2"}
        self.kes(self.start(OURS, vault), "key", "create", "early")
        vault = {**vault, "transit": {"engine": "transit", "key": "wrap"}}
        for command in ((self.program, "server"), OURS):
            self.assertIn("early", self.kes(self.start(command, vault), "key", "info", "early"))

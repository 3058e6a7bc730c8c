# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
OpenBao servers on loopback.
"""

import json
import ssl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from attrs import define, field

from tests.integration.tools import free_port, require

ROOT = "root"

_WAIT = 30.0


@define
class Bao:
    """
    A server in a process of its own.

    :ivar token: That of the administrator.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path
    token: str = ROOT
    context: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def develop(cls, folder: Path) -> "Bao":
        """
        Start one in memory that is unsealed.

        :raises SkipTest: There is no such program.
        """
        port = free_port()
        options = (
            "-dev",
            f"-dev-root-token-id={ROOT}",
            "-dev-no-store-token",
            f"-dev-listen-address=127.0.0.1:{port}",
        )
        return cls.spawn(folder, f"http://127.0.0.1:{port}", *options)

    @classmethod
    def spawn(
        cls, folder: Path, url: str, *options: str, context: ssl.SSLContext | None = None
    ) -> "Bao":
        """
        Start one, and wait until it answers.

        :param context: How its certificate is verified.
        :raises SkipTest: There is no such program.
        """
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "bao.log"
        command = [str(require("bao")), "server", *options]
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=folder
            )
        made = cls(url, process, log, context=context)
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline and process.poll() is None:
            try:
                made.ask("GET", "sys/health?uninitcode=299&sealedcode=299")
            except URLError:
                time.sleep(0.05)
            else:
                return made
        made.end()
        raise AssertionError(log.read_text())

    def ask(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, namespace: str = ""
    ) -> dict[str, Any]:
        """
        Do something as the administrator; blocking.

        :raises HTTPError: It is refused.
        """
        body = None if content is None else json.dumps(content).encode()
        headers = {"X-Vault-Token": self.token, "X-Vault-Namespace": namespace}
        request = Request(f"{self.url}/v1/{path}", body, headers, method=method)
        with urlopen(request, timeout=10, context=self.context) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found

    def mount(self, engine: str, kind: str, version: int = 0, namespace: str = "") -> None:
        """
        Make an engine for secrets.

        :param version: Of a K/V engine.
        """
        content: dict[str, Any] = {"type": kind}
        if version:
            content["options"] = {"version": str(version)}
        self.ask("POST", f"sys/mounts/{engine}", content, namespace)
        if version == 2:
            # It is made in the background.
            self._until_made(engine, namespace)

    def app_role(self, policy: str, namespace: str = "", **role: Any) -> tuple[str, str]:
        """
        Make a role that may do what a policy says.

        :return: The ids of role and secret.
        """
        self.ask("PUT", "sys/policies/acl/kypello", {"policy": policy}, namespace)
        if "approle/" not in self.ask("GET", "sys/auth", None, namespace)["data"]:
            self.ask("POST", "sys/auth/approle", {"type": "approle"}, namespace)
        path = "auth/approle/role/kypello"
        self.ask("POST", path, {"token_policies": ["kypello"], **role}, namespace)
        role_id = self.ask("GET", f"{path}/role-id", None, namespace)["data"]["role_id"]
        secret = self.ask("POST", f"{path}/secret-id", {}, namespace)["data"]["secret_id"]
        return role_id, secret

    def end(self) -> None:
        """
        Stop it.
        """
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _until_made(self, engine: str, namespace: str) -> None:
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                self.ask("PUT", f"{engine}/data/first", {"data": {}}, namespace)
            except HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                self.ask("DELETE", f"{engine}/metadata/first", None, namespace)
                return

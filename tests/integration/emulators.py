# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Emulators of clouds, in processes of their own, and servers of the tests that stand for parts of
clouds that nobody emulates.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.integration.server import base_environment
from tests.integration.tools import client, free_port

_WAIT = 60.0


@define
class Emulator:
    """
    A program that plays AWS.

    :ivar url: All its services are there.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def moto(cls, folder: Path) -> "Emulator":
        """
        Moto's server.

        :raises SkipTest: It is not installed.
        """
        port = free_port()
        program = client("moto") / "bin" / "moto_server"
        return cls._spawn(folder, port, (str(program), "-H", "127.0.0.1", "-p", str(port)), {})

    @classmethod
    def ministack(cls, folder: Path) -> "Emulator":
        """
        MiniStack, which checks signatures.

        :raises SkipTest: It is not installed.
        """
        port = free_port()
        program = client("ministack") / "bin" / "hypercorn"
        # Its own command would listen on all addresses.
        command = (str(program), "--bind", f"127.0.0.1:{port}", "ministack.app:app")
        settings = {
            "AUTH": "true",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "SERVICES": "secretsmanager,kms,sts,iam",
            "GATEWAY_PORT": str(port),
        }
        return cls._spawn(folder, port, command, settings)

    @classmethod
    def _spawn(
        cls, folder: Path, port: int, command: tuple[str, ...], settings: Mapping[str, str]
    ) -> "Emulator":
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**base_environment(), "HOME": str(folder), **settings},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        made = cls(f"http://127.0.0.1:{port}", process, log)
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline and process.poll() is None:
            try:
                urlopen(f"{made.url}/nothing", timeout=5).close()
            except URLError as error:
                if hasattr(error, "code"):
                    return made
                time.sleep(0.05)
            else:
                return made
        made.end()
        raise AssertionError(log.read_text())

    def post(self, path: str, body: bytes = b"") -> None:
        """
        Tell the emulator something.
        """
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"{self.url}{path}", body, headers, method="POST"), timeout=10).close()

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


@frozen
class Asked:
    """
    A request to a server of the tests.

    :ivar path: Decoded, without the query.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> Mapping[str, str]:
        """
        The fields of a form.
        """
        return dict(parse_qsl(self.body.decode()))

    @property
    def document(self) -> Any:
        """
        The JSON of the body; an empty object for none.
        """
        return json.loads(self.body or b"{}")


@frozen
class Told:
    """
    What a server of the tests answers.

    :ivar content: Bytes as they are, ``None`` for nothing, or what becomes JSON.
    """

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)


@define(eq=False)
class Served:
    """
    A server of the tests on loopback.

    :ivar asked: All requests so far.
    :ivar answers: Makes the answers.
    """

    answers: Callable[[Asked], Told]
    url: str = ""
    asked: list[Asked] = field(factory=list)
    _port: Any = None

    def start(self, context: Any = None) -> None:
        """
        Listen.

        :param context: Makes TLS connections; ``None`` for HTTP.
        """
        number = free_port()
        site: Any = Site(_Leaf(self))
        loop: Any = reactor
        if context is None:
            self._port = loop.listenTCP(number, site, interface="127.0.0.1")
        else:
            self._port = loop.listenSSL(number, site, context, interface="127.0.0.1")
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{number}"

    def stop(self) -> Any:
        """
        Listen no more.
        """
        return self._port.stopListening()

    def answer(self, asked: Asked) -> Told:
        """
        Answer a request.
        """
        self.asked.append(asked)
        return self.answers(asked)


class _Leaf(Resource):
    """
    Gives everything to :class:`Served`.
    """

    isLeaf = True

    def __init__(self, served: Served) -> None:
        """
        Serve.
        """
        super().__init__()
        self._served = served

    def render(self, request: Any) -> bytes:
        """
        Called by Twisted.
        """
        query = urlsplit(request.uri.decode()).query
        told = self._served.answer(
            Asked(
                request.method.decode(),
                request.path.decode(),
                dict(parse_qsl(query, keep_blank_values=True)),
                {
                    name.decode().lower(): values[0].decode()
                    for name, values in request.requestHeaders.getAllRawHeaders()
                },
                request.content.read(),
            )
        )
        request.setResponseCode(told.status)
        for name, value in told.headers.items():
            request.setHeader(name, value)
        if told.content is None:
            return b""
        if isinstance(told.content, bytes):
            return told.content
        request.setHeader("Content-Type", "application/json")
        return json.dumps(told.content).encode()


def run(command: tuple[str, ...], environment: Mapping[str, str] | None = None) -> str:
    """
    Run a program that judges a server of the tests; blocking.

    :return: What it printed.
    :raises AssertionError: It fails, or takes longer than a minute.
    """
    done = subprocess.run(
        command,
        env={**base_environment(), "PATH": os.defpath, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise AssertionError((done.stdout + done.stderr).decode("utf-8", "replace"))
    return done.stdout.decode()

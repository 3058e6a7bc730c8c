# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A webhook: a real server in the process of the test, that takes events or does not.
"""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field

from tests.integration.tools import free_port


@define(eq=False)
class Receiver:
    """
    Takes events.

    :ivar port: Where it listens, when it does.
    :ivar tls: For HTTPS; ``None`` for HTTP.
    :ivar status: What it answers.
    :ivar protocol: And in which version of HTTP.
    :ivar gate: Answers wait until it is set.
    :ivar messages: What has come, in order.
    :ivar headers: Those of the requests, in the same order.
    """

    port: int = field(factory=free_port)
    tls: ssl.SSLContext | None = None
    status: int = 200
    protocol: str = "HTTP/1.1"
    gate: threading.Event = field(factory=threading.Event)
    messages: list[Any] = field(factory=list)
    headers: list[dict[str, str]] = field(factory=list)
    _server: ThreadingHTTPServer | None = None

    def __attrs_post_init__(self) -> None:
        """
        Answer at once.
        """
        self.gate.set()

    @property
    def url(self) -> str:
        """
        Where it is.
        """
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}/events"

    def start(self) -> None:
        """
        Listen.
        """
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """
            One connection.
            """

            protocol_version = receiver.protocol

            def do_POST(self) -> None:
                """
                Take an event.
                """
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.headers.append({k.lower(): v for k, v in self.headers.items()})
                receiver.messages += map(json.loads, body.splitlines())
                receiver.gate.wait(60)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "2")
                self.send_header("Location", receiver.url)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_words: object) -> None:
                """
                Log nothing.
                """

        class Server(ThreadingHTTPServer):
            """
            Says nothing of clients that go away.
            """

            daemon_threads = True

            def handle_error(self, *_words: object) -> None:
                """
                They may.
                """

        server = Server(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """
        Listen no more; what is under way is answered.
        """
        server, self._server = self._server, None
        self.gate.set()
        if server is not None:
            server.shutdown()
            server.server_close()

    def keys(self) -> list[str]:
        """
        The keys, with their buckets, of what has come, in order.
        """
        return [message["Key"] for message in list(self.messages)]

    @contextmanager
    def holding(self) -> Iterator[None]:
        """
        Answer nothing meanwhile.
        """
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()

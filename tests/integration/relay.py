# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A network that breaks: a relay of TCP connections in threads.
"""

import socket
import threading
from contextlib import suppress
from typing import Literal

from attrs import define, field

from tests.integration import tools

#: Hands everything on; ends all connections and refuses new ones; or takes them and says nothing.
Mode = Literal["open", "closed", "silent"]


@define(eq=False)
class Relay:
    """
    Listens on loopback, and hands on what comes there and back.

    :ivar target: The port that it is for.
    :ivar port: Its own.
    """

    target: int
    port: int = field(init=False)
    _mode: Mode = "open"
    _listener: socket.socket = field(init=False)
    _sockets: set[socket.socket] = field(factory=set)
    _threads: list[threading.Thread] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """
        Begin.
        """
        self.port = tools.free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept)

    def become(self, mode: Mode) -> None:
        """
        Break, or work again; connections that were there end.
        """
        self._mode = mode
        self._end_all()

    def end(self) -> None:
        """
        Stop, and wait until all threads have ended.
        """
        self._mode = "closed"
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_all()
        for thread in self._threads:
            thread.join()
        self._end_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self._mode == "closed":
                client.close()
                continue
            self._sockets.add(client)
            if self._mode == "silent":
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._sockets.add(server)
            self._run(self._copy, client, server)
            self._run(self._copy, server, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _run(self, work: object, *arguments: socket.socket) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end_all(self) -> None:
        for one in tuple(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

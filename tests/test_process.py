# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.process``.  Running and stopping are in ``tests/integration``.
"""

import os
import signal
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from kypello.process import notify, on_hangup
from tests.cases import AsyncCase, SyncCase


class NotifyTests(SyncCase):
    """
    ``notify`` tells systemd.
    """

    def listen(self, address: str) -> socket.socket:
        """
        Stand in for systemd.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(address)
        listener.settimeout(5)
        return listener

    def test_path(self) -> None:
        """
        The state arrives at a socket in the file system.
        """
        path = Path("/tmp") / f"kypello-test-{os.getpid()}"
        self.addCleanup(path.unlink)
        listener = self.listen(str(path))
        self.patch(os, "environ", {"NOTIFY_SOCKET": str(path)})
        notify("READY=1")
        self.assertEqual(listener.recv(100), b"READY=1")

    def test_abstract(self) -> None:
        """
        The state arrives at a socket without a file.
        """
        listener = self.listen(f"\0kypello-test-{os.getpid()}")
        self.patch(os, "environ", {"NOTIFY_SOCKET": f"@kypello-test-{os.getpid()}"})
        notify("STOPPING=1")
        self.assertEqual(listener.recv(100), b"STOPPING=1")

    def test_nobody(self) -> None:
        """
        Without systemd nothing is sent.
        """
        self.patch(os, "environ", {})
        notify("READY=1")


class HangupTests(AsyncCase):
    """
    ``on_hangup`` keeps the process alive.
    """

    async def test_called(self) -> None:
        """
        The signal calls what was asked for, in the reactor thread.
        """
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        called: Deferred[None] = Deferred()
        on_hangup(reactor, lambda: called.callback(None))
        os.kill(os.getpid(), signal.SIGHUP)
        await called

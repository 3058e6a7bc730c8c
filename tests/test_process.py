# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.process``.  Running and stopping are in ``tests/integration``.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from kypello.process import notify, on_hangup, why_not_listening
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


class CoreTests(SyncCase):
    """
    ``forbid_core_dumps`` keeps memory out of files.
    """

    def test_forbidden(self) -> None:
        """
        A process that would leave an image leaves none when it crashes.
        """
        code = (
            "import os, resource; from kypello.process import forbid_core_dumps\n"
            "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
            "forbid_core_dumps()\n"
            "print(resource.getrlimit(resource.RLIMIT_CORE) == (hard and 1, hard), flush=True)\n"
            "os.abort()"
        )
        folder = Path(self.mktemp())
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=folder
        ) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.read(), b"True\n")
        self.assertEqual(process.returncode, -signal.SIGABRT)
        self.assertEqual(list(folder.iterdir()), [])


class MemoryTests(SyncCase):
    """
    ``lock_memory`` keeps a process out of swap.
    """

    def run_code(self, code: str) -> list[str]:
        """
        Run Python, and then tell how many kilobytes are locked; words of what it prints.
        """
        tell = 'print(*[x for x in open("/proc/self/status") if x.startswith("VmLck")])'
        done = subprocess.run(
            [sys.executable, "-c", f"from kypello.process import lock_memory\n{code}\n{tell}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.split()

    def test_locked(self) -> None:
        """
        It says that all is locked when it is, and that nothing is when it is not; what the process
        takes later is locked too.
        """
        told, _name, size, _unit = self.run_code("print(lock_memory()); more = b'x' * 50_000_000")
        self.assertEqual(told == "True", int(size) > 49_000)

    def test_not_allowed(self) -> None:
        """
        A process that may lock a little locks nothing, and gets memory later.
        """
        told, _name, size, _unit = self.run_code(
            "import os, resource\n"
            "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n"
            "os.getuid() or os.setuid(65534)\n"
            # Who changes its user may not look at itself any more.
            "import ctypes; ctypes.CDLL(None).prctl(4, 1)\n"
            "print(lock_memory()); more = b'x' * 50_000_000"
        )
        self.assertEqual((told, size), ("False", "0"))


class ListeningTests(SyncCase):
    """
    ``why_not_listening`` says what to do.
    """

    def told(self, number: int) -> str:
        """
        What is told of an error.
        """
        error = CannotListenError("127.0.0.1", 80, OSError(number, os.strerror(number)))
        return why_not_listening(error, "--addr")

    def test_advice(self) -> None:
        """
        The advice depends on the reason, and names the option.
        """
        self.assertEqual(
            self.told(errno.EADDRINUSE),
            "cannot listen on 127.0.0.1:80: Address already in use. Is another server running"
            " there? Choose another address with --addr.",
        )
        self.assertIn("has no such address", self.told(errno.EADDRNOTAVAIL))
        self.assertIn("CAP_NET_BIND_SERVICE", self.told(errno.EACCES))
        self.assertIn("another address with --addr", self.told(errno.ENOBUFS))


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

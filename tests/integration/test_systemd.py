# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The units of ``systemd/``: systemd understands them, and the daemons keep what they promise.

No systemd runs here: it checks the files, and its part towards the daemons is played.
"""

import contextlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import base_environment
from tests.kes.certificates import certificate, key_pem, new_key, pem

_ROOT = Path(__file__).parents[2]
_UNITS = ("kypello", "kypello-kes")
_COMMAND = "/opt/kypello/bin/kypello"
_WAIT = 30.0

#: Systemd's scale goes to 100, and calls what is over 20 no longer well protected.
_EXPOSURE = 20

_KES_CONFIG = """\
address: 127.0.0.1:{port}
admin: {{identity: disabled}}
tls: {{key: server.key, cert: server.crt}}
keystore: {{fs: {{path: keys}}}}
"""


def unit(name: str) -> str:
    """
    The text of a unit.
    """
    return (_ROOT / "systemd" / f"{name}.service").read_text(encoding="utf-8")


def settings(text: str, key: str) -> list[str]:
    """
    All values of a setting, in order.
    """
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def variables(lines: list[str]) -> dict[str, str]:
    """
    The variables that lines of ``Environment=``, or of an environment file, set.
    """
    pairs = (word for line in lines for word in shlex.split(line, comments=True))
    return dict(pair.split("=", 1) for pair in pairs)


class UnitTests(SyncCase):
    """
    What ``systemd-analyze`` says.
    """

    def analyze(self, name: str, *arguments: str) -> None:
        """
        Run it on a unit, and let it say nothing bad.

        It wants the command to be there, so the copy that it reads names another one.
        """
        text = unit(name)
        self.assertIn(f"\nExecStart={_COMMAND} ", text)
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        copy = folder / f"{name}.service"
        copy.write_text(text.replace(f"={_COMMAND} ", f"={sys.executable} "), encoding="utf-8")
        done = subprocess.run(
            [str(tools.require("systemd-analyze")), *arguments, str(copy)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        complaints = done.stderr.decode()
        self.assertEqual((done.returncode, complaints), (0, ""), done.stdout.decode())

    def test_verify(self) -> None:
        """
        The units have no mistake.
        """
        for name in _UNITS:
            self.analyze(name, "verify", "--man=no")

    def test_security(self) -> None:
        """
        The daemons are shut off from the system as far as they can be.
        """
        for name in _UNITS:
            self.analyze(name, "security", "--offline=true", f"--threshold={_EXPOSURE}")

    def test_example(self) -> None:
        """
        The example of the settings changes nothing.
        """
        example = (_ROOT / "systemd" / "kypello.default").read_text(encoding="utf-8")
        self.assertEqual(
            variables(example.splitlines()), variables(settings(unit("kypello"), "Environment"))
        )


class DaemonTests(SyncCase):
    """
    The daemons, started as the units say, in folders of the test.
    """

    def setUp(self) -> None:
        """
        Folders, and the socket that systemd would listen on.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.state = self.folder / "state"
        self.state.mkdir(parents=True)
        self.port = tools.free_port()
        # The name is in the abstract space: a path would be too long.
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notified.close)
        self.notified.bind(f"\0kypello-test-{self.port}")
        self.notified.settimeout(0.1)

    def start(self, name: str) -> None:
        """
        Start a unit's daemon, and wait until it is ready.
        """
        text = unit(name)
        (directory,) = settings(text, "StateDirectory")
        (command,) = settings(text, "ExecStart")
        environment = variables(settings(text, "Environment"))
        for variable, value in environment.items():
            command = command.replace(f"${variable}", value)
        for old, new in (
            (f"/var/lib/{directory}", str(self.state)),
            ("/etc/kypello", str(self.folder)),
            (":9000", f"127.0.0.1:{self.port}"),
        ):
            command = command.replace(old, new)
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kypello.cli", *shlex.split(command)[1:]],
                cwd=self.state,
                env={
                    **base_environment(),
                    "HOME": str(self.state),
                    "NOTIFY_SOCKET": f"@kypello-test-{self.port}",
                    "PYTHONPATH": str(_ROOT),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(self.end)
        self.assertEqual(self.next_state(), "READY=1")

    def next_state(self) -> str:
        """
        What the daemon says next.
        """
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return self.notified.recv(4096).decode()
            if self.process.poll() is not None:
                break
        raise AssertionError(f"no notification; the log:\n{(self.folder / 'log').read_text()}")

    def end(self) -> None:
        """
        Leave no daemon behind.
        """
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """
        Stop the daemon, as systemd does.
        """
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.next_state(), "STOPPING=1")
        self.assertEqual(self.process.wait(_WAIT), 0)

    def test_server(self) -> None:
        """
        The object server listens when it says so, prints no secret, survives a reload, and stops.
        """
        self.start("kypello")
        socket.create_connection(("127.0.0.1", self.port), _WAIT).close()
        credentials = variables((self.state / "data" / "credentials").read_text().splitlines())
        secret = credentials["MINIO_ROOT_PASSWORD"]
        self.assertNotIn(secret, (self.folder / "log").read_text(encoding="utf-8"))
        self.process.send_signal(signal.SIGHUP)
        with self.assertRaises(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.stop()

    def test_key_server(self) -> None:
        """
        The key server listens when it says so, survives a reload, and stops.
        """
        key = new_key()
        (self.state / "server.key").write_bytes(key_pem(key))
        (self.state / "server.key").chmod(0o600)
        (self.state / "server.crt").write_bytes(pem(certificate(key)))
        (self.folder / "kes.yml").write_text(_KES_CONFIG.format(port=self.port))
        self.start("kypello-kes")
        socket.create_connection(("127.0.0.1", self.port), _WAIT).close()
        self.process.send_signal(signal.SIGHUP)
        with self.assertRaises(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.stop()

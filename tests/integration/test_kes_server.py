# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Our key server as a process, and the original ``kes`` as its client and as its peer on one
directory of keys.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from types import MappingProxyType

from attrs import define
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kypello.embedded import Embedded, free_port, provision
from kypello.kes.config import parse_config
from kypello.kes.identity import identity_of_certificate
from kypello.kes_service import KeyServer, log_failed_start, make_key_server
from kypello.keystore.table import read_keystore
from tests.cases import AsyncCase, SyncCase
from tests.integration import tools
from tests.integration.server import base_environment
from tests.kes.certificates import certificate, der, key_pem, new_key, pem

_WAIT = 20.0
OURS = (
    sys.executable,
    "-c",
    "import sys; from kypello.kes_cli import main; sys.exit(main(sys.argv[1:]))",
    "server",
)


@define
class Person:
    """
    Somebody with a key and a certificate in files.
    """

    key: Path
    cert: Path
    identity: str

    @classmethod
    def make(cls, folder: Path, name: str, until: datetime | None = None) -> "Person":
        """
        Make a self-signed one.

        :param until: When the certificate expires.
        """
        key = new_key()
        made = certificate(key) if until is None else certificate(key, until=until)
        return cls.write(folder, name, key_pem(key), made)

    @classmethod
    def write(cls, folder: Path, name: str, key: bytes, *chain: x509.Certificate) -> "Person":
        """
        Put a key and certificates in files.
        """
        person = cls(
            folder / f"{name}.key", folder / f"{name}.crt", identity_of_certificate(der(chain[0]))
        )
        person.key.write_bytes(key)
        person.key.chmod(0o600)
        person.cert.write_bytes(pem(*chain))
        return person


@define
class Running:
    """
    A key server in a process of its own.

    :ivar port: Where it listens on loopback.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self) -> None:
        """
        Wait until it listens.
        """
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.end()
        raise AssertionError(self.log.read_text())

    def end(self) -> int:
        """
        Stop it, and give its exit code.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class ServerCase(SyncCase):
    """
    A test with key servers in processes.
    """

    def setUp(self) -> None:
        """
        A folder with the server's certificate, an administrator and a user.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.server = Person.make(self.folder, "server")
        self.admin = Person.make(self.folder, "admin")
        self.user = Person.make(self.folder, "user")
        self.keys = self.folder / "keys"

    def start(self, command: tuple[str, ...] = OURS, more: str = "", tls: str = "") -> Running:
        """
        Start a server on the folder of keys.

        :param more: Further configuration; *tls* within its section.
        """
        running = self.launch(command, more, tls)
        running.wait()
        return running

    def launch(self, command: tuple[str, ...], more: str = "", tls: str = "") -> Running:
        """
        Start a server and do not wait for it.
        """
        port = tools.free_port()
        config = self.folder / f"{port}.yml"
        config.write_text(
            f"address: 127.0.0.1:{port}\n"
            f"admin: {{identity: {self.admin.identity}}}\n"
            f"tls: {{key: server.key, cert: server.crt{tls}}}\n"
            f"keystore: {{fs: {{path: {self.keys}}}}}\n{more}"
        )
        return self.run_server((*command, "--config", str(config)), port)

    def run_server(self, command: tuple[str, ...], port: int) -> Running:
        """
        Run a command that is to listen on a port.
        """
        log = self.folder / f"{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**base_environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running = Running(port, process, log)
        self.addCleanup(running.end)
        return running

    def kes(
        self, running: Running, *arguments: str, person: Person | None = None, code: int = 0
    ) -> str:
        """
        Run the original client as the administrator, or as another person.

        :param code: The exit code that it must have.
        :return: What it printed, errors too.
        """
        who = person or self.admin
        return self.kes_with(
            {
                "KES_SERVER": f"127.0.0.1:{running.port}",
                "KES_CLIENT_KEY": str(who.key),
                "KES_CLIENT_CERT": str(who.cert),
                # Go trusts this file in place of the system's: no --insecure is needed.
                "SSL_CERT_FILE": str(self.server.cert),
            },
            *arguments,
            code=code,
        )

    def kes_with(self, environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
        """
        Run the original client.
        """
        done = subprocess.run(
            [str(tools.require("kes")), *arguments],
            env={**base_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        printed = done.stdout.decode()
        self.assertEqual(done.returncode, code, printed)
        return printed


class OriginalClientTests(ServerCase):
    """
    The original ``kes`` commands work with our server.
    """

    def test_keys(self) -> None:
        """
        Keys are created, listed, described and removed.
        """
        ours = self.start()
        self.kes(ours, "key", "create", "my-key", "my-other", "else")
        printed = self.kes(ours, "key", "create", "my-key", code=1)
        self.assertIn("key already exists", printed)
        self.assertEqual(json.loads(self.kes(ours, "ls", "--json")), ["else", "my-key", "my-other"])
        self.assertEqual(json.loads(self.kes(ours, "ls", "--json", "my-*")), ["my-key", "my-other"])
        self.assertRegex(
            self.kes(ours, "key", "info", "my-key"),
            rf"(?s)Name +my-key.*Algorithm +AES256.*Owner +{self.admin.identity}",
        )
        self.kes(ours, "key", "rm", "my-key", "else")
        self.assertEqual(json.loads(self.kes(ours, "ls", "--json")), ["my-other"])
        self.assertIn("key does not exist", self.kes(ours, "key", "info", "my-key", code=1))

    def test_cryptography(self) -> None:
        """
        Messages and data keys are sealed and opened, imported keys too.
        """
        ours = self.start()
        self.kes(ours, "key", "create", "k")
        self.kes(ours, "key", "import", "imported", b64encode(bytes(range(32))).decode())
        for name in ("k", "imported"):
            sealed = json.loads(self.kes(ours, "key", "encrypt", name, "hello"))["ciphertext"]
            opened = json.loads(self.kes(ours, "key", "decrypt", name, sealed))["plaintext"]
            self.assertEqual(opened, b64encode(b"hello").decode())
            context = b64encode(b"a context").decode()
            made = json.loads(self.kes(ours, "key", "dek", name, context))
            arguments = ("key", "decrypt", name, made["ciphertext"])
            opened = json.loads(self.kes(ours, *arguments, context))["plaintext"]
            self.assertEqual(opened, made["plaintext"])
            self.assertIn("not authentic", self.kes(ours, *arguments, code=1))

    def test_server(self) -> None:
        """
        Status, routes and one's own identity are shown.
        """
        ours = self.start()
        self.assertIn("Latency", self.kes(ours, "status"))
        self.assertIn("/v1/key/hmac/", self.kes(ours, "status", "--api"))
        self.assertIn("Admin", self.kes(ours, "identity", "info"))

    def test_unreachable_store(self) -> None:
        """
        The status is shown even when the keys cannot be reached.
        """
        ours = self.start()
        self.keys.rename(self.folder / "elsewhere")
        self.assertIn("Version", self.kes(ours, "status"))
        printed = self.kes(ours, "key", "info", "k", code=1)
        self.assertIn("failed to read key: key store is not reachable", printed)

    def test_user(self) -> None:
        """
        A user may do what its policy allows, sees its policy, and the server logs refusals.
        """
        policy = (
            "policy:\n  app:\n    allow: [/v1/key/create/app-*, /v1/key/list/*]\n"
            f"    deny: [/v1/key/create/app-x*]\n    identities: [{self.user.identity}]\n"
        )
        ours = self.start(more=policy)
        self.kes(ours, "key", "create", "app-1", person=self.user)
        self.assertIn("app-1", self.kes(ours, "key", "ls", person=self.user))
        for name in ("app-x", "other"):
            self.assertIn(
                "not authorized: insufficient permissions",
                self.kes(ours, "key", "create", name, person=self.user, code=1),
            )
        told = self.kes(ours, "identity", "info", person=self.user)
        self.assertRegex(told, r"(?s)Role +User.*Policy +app\n")
        log = ours.log.read_text()
        self.assertIn("policy 'app' denies it by '/v1/key/create/app-x*'", log)
        self.assertIn("its nearest rule is '/v1/key/create/app-*'", log)
        self.assertIn('"path":"/v1/key/create/app-1"', log)

    def test_keys_of_the_configuration(self) -> None:
        """
        Keys named in the configuration exist once the server listens, and survive restarts.
        """
        first = self.start(more="keys: [{name: wanted}]\n")
        made = json.loads(self.kes(first, "key", "dek", "wanted"))
        self.assertEqual(first.end(), 0)
        second = self.start(more="keys: [{name: wanted}]\n")
        opened = json.loads(self.kes(second, "key", "decrypt", "wanted", made["ciphertext"]))
        self.assertEqual(opened["plaintext"], made["plaintext"])


class OriginalServerTests(ServerCase):
    """
    Our server and the original one share a directory of keys.
    """

    def setUp(self) -> None:
        """
        Both servers on one directory.
        """
        super().setUp()
        self.ours = self.start()
        self.theirs = self.start((str(tools.require("kes")), "server"))

    def check(self, maker: Running, other: Running) -> None:
        """
        Keys and ciphertexts of one server are good at the other, and keys are made once.
        """
        self.kes(maker, "key", "create", "shared")
        self.kes(maker, "key", "import", "imported", b64encode(bytes(32)).decode())
        self.assertIn("already exists", self.kes(other, "key", "create", "shared", code=1))
        for name in ("shared", "imported"):
            for sealer, opener in ((maker, other), (other, maker)):
                made = json.loads(self.kes(sealer, "key", "dek", name, "Y29udGV4dA=="))
                arguments = ("key", "decrypt", name, made["ciphertext"], "Y29udGV4dA==")
                opened = json.loads(self.kes(opener, *arguments))["plaintext"]
                self.assertEqual(opened, made["plaintext"])
        details = [
            json.loads(self.kes(one, "key", "info", "--json", "shared")) for one in (maker, other)
        ]
        self.assertEqual(details[0], details[1])

    def test_ours_to_theirs(self) -> None:
        """
        The original reads what we wrote.
        """
        self.check(self.ours, self.theirs)

    def test_theirs_to_ours(self) -> None:
        """
        We read what the original wrote.
        """
        self.check(self.theirs, self.ours)

    def test_hmac(self) -> None:
        """
        Both make the same HMAC.
        """
        self.kes(self.theirs, "key", "create", "k")
        answers = [
            request(one.port, "PUT", "/v1/key/hmac/k", self.admin, b'{"message":"aGVsbG8="}')
            for one in (self.ours, self.theirs)
        ]
        self.assertEqual(json.loads(answers[0][1]), json.loads(answers[1][1]))


class TLSTests(ServerCase):
    """
    Who gets through the handshake.
    """

    def test_no_certificate(self) -> None:
        """
        A client without a certificate gets no answer.
        """
        ours = self.start()
        with self.assertRaises((ssl.SSLError, OSError)):
            request(ours.port, "GET", "/version", None)

    def test_any_certificate(self) -> None:
        """
        Neither issuer nor dates count by default: an expired certificate says who its holder is.
        """
        expired = Person.make(self.folder, "expired", datetime(2021, 1, 1, tzinfo=UTC))
        self.admin = expired
        ours = self.start()
        self.assertEqual(request(ours.port, "GET", "/v1/status", expired)[0], 200)

    def test_chain(self) -> None:
        """
        A certificate counts with its chain beside it; that of a CA alone does not.
        """
        issuer = new_key()
        authority = certificate(issuer, True, "ca")
        key = new_key()
        own = certificate(key, issuer=("ca", issuer))
        self.admin = Person.write(self.folder, "own", key_pem(key), own, authority)
        alone = Person.write(self.folder, "alone", key_pem(issuer), authority)
        other = certificate(new_key())
        both = Person.write(self.folder, "both", key_pem(key), own, other)
        ours = self.start()
        self.assertEqual(request(ours.port, "GET", "/v1/status", self.admin)[0], 200)
        status, body = request(ours.port, "GET", "/v1/status", alone)
        self.assertEqual(status, 400)
        self.assertIn(b"tls: client certificate is required", body)
        status, body = request(ours.port, "GET", "/v1/status", both)
        self.assertEqual(status, 400)
        self.assertIn(b"tls: received more than one client certificate", body)

    def test_verified(self) -> None:
        """
        With ``auth: on`` only certificates of the given CA get through.
        """
        issuer = new_key()
        (self.folder / "ca.crt").write_bytes(pem(certificate(issuer, True, "ca")))
        key = new_key()
        known = certificate(key, issuer=("ca", issuer))
        self.admin = Person.write(self.folder, "known", key_pem(key), known)
        ours = self.start(tls=", auth: on, ca: ca.crt")
        self.assertEqual(request(ours.port, "GET", "/v1/status", self.admin)[0], 200)
        with self.assertRaises((ssl.SSLError, OSError)):
            request(ours.port, "GET", "/v1/status", self.user)

    def test_old_protocols(self) -> None:
        """
        TLS begins at 1.2.
        """
        ours = self.start()
        # Python warns of its constant for the old version.
        self.addCleanup(self.flushWarnings)
        for version, good in (
            (ssl.TLSVersion.TLSv1_1, False),
            (ssl.TLSVersion.TLSv1_2, True),
            (ssl.TLSVersion.TLSv1_3, True),
        ):
            context = client_context(self.admin)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            connection = HTTPSConnection("127.0.0.1", ours.port, timeout=10, context=context)
            self.addCleanup(connection.close)
            if good:
                connection.request("GET", "/version")
                self.assertEqual(connection.getresponse().status, 200)
            else:
                with self.assertRaises(ssl.SSLError):
                    connection.request("GET", "/version")


class StartTests(ServerCase):
    """
    What keeps a server from starting is said in one line.
    """

    def test_busy_port(self) -> None:
        """
        A port that is taken ends the process with an error.
        """
        running = self.start()
        command = (*OURS, "--config", str(self.folder / f"{running.port}.yml"))
        log = self.folder / "second"
        with log.open("wb") as output:
            code = subprocess.run(
                command,
                cwd=self.folder,
                env={**base_environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=output,
                stderr=output,
                timeout=30,
                check=False,
            ).returncode
        self.assertEqual(code, 1)
        self.assertIn(f"Error: cannot listen on 127.0.0.1:{running.port}", log.read_text())

    def test_missing_certificate(self) -> None:
        """
        A file that is missing ends the process with an error that names it.
        """
        self.server.cert.unlink()
        running = self.launch(OURS)
        self.assertEqual(running.process.wait(_WAIT), 1)
        self.assertIn("Error: server.crt: No such file or directory", running.log.read_text())


class ServiceTests(AsyncCase):
    """
    A key server in the process of the test.
    """

    def setUp(self) -> None:
        """
        A folder with the server's certificate.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.server = Person.make(self.folder, "server")

    async def wait_for(self, port: int) -> None:
        """
        Wait until somebody listens.
        """
        for _ in range(400):
            try:
                await deferToThread(lambda: socket.create_connection(("127.0.0.1", port)).close())
                return
            except OSError:
                await deferLater(reactor, 0.02)
        raise AssertionError("nobody listens")

    async def test_new_certificate(self) -> None:
        """
        A certificate that is replaced is used for new connections, a broken one is not.
        """
        server = self.server
        port = tools.free_port()
        text = (
            f"address: 127.0.0.1:{port}\nadmin: {{identity: disabled}}\n"
            f"tls: {{key: {server.key}, cert: {server.cert}}}\n"
            f"keystore: {{fs: {{path: {self.folder / 'keys'}}}}}\n"
        )
        config = parse_config(text, "kes.yml", {}, read_keystore)
        service = KeyServer(reactor, config, lambda failure: self.fail(str(failure)), 0.05)
        service.startService()
        self.addCleanup(service.stopService)
        await self.wait_for(port)
        self.assertEqual(await self.served(port), server.cert.read_text())
        server.cert.write_bytes(b"junk")
        await deferLater(reactor, 0.2)
        fresh = Person.make(self.folder, "server")
        for _ in range(100):
            if await self.served(port) == fresh.cert.read_text():
                return
            await deferLater(reactor, 0.05)
        self.fail("the new certificate is not used")

    async def served(self, port: int) -> str:
        """
        The certificate that a server shows, in PEM.
        """
        found: str = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", port))
        return found

    def provisioned(self) -> Embedded:
        """
        What an embedded server and its client need, in a fresh directory.
        """
        port = free_port(os.urandom)
        return provision(Path(self.mktemp()), time.time(), os.urandom, port)

    async def test_embedded(self) -> None:
        """
        An embedded server is reached with the settings that came with it, by its CA and API key.
        """
        made = self.provisioned()
        service, settings = make_key_server(reactor, made.config, log_failed_start), made.settings
        service.startService()
        self.addCleanup(service.stopService)
        host = settings.endpoints[0].removeprefix("https://")
        await self.wait_for(int(host.rpartition(":")[2]))
        assert settings.api_key is not None
        environment = {
            **base_environment(),
            "KES_SERVER": host,
            "KES_API_KEY": settings.api_key,
            "SSL_CERT_FILE": str(settings.ca_path),
        }
        for arguments, code in (
            (("key", "create", settings.key_name), 0),
            (("key", "dek", settings.key_name), 0),
            (("key", "info", settings.key_name), 0),
            (("key", "ls"), 0),
            (("status",), 0),
            (("key", "rm", settings.key_name), 1),
        ):
            done = await deferToThread(
                subprocess.run,
                [str(tools.require("kes")), *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=30,
                check=False,
            )
            self.assertEqual(done.returncode, code, (arguments, done.stderr))

    async def test_stop_at_once(self) -> None:
        """
        A server that is stopped while it starts leaves nothing behind.
        """
        for _ in range(3):
            config = self.provisioned().config
            service = make_key_server(reactor, config, log_failed_start)
            service.startService()
            await service.stopService()


def client_context(person: Person | None) -> ssl.SSLContext:
    """
    A client that trusts anybody, as a person or as nobody.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if person is not None:
        context.load_cert_chain(person.cert, person.key)
    return context


def request(
    port: int,
    method: str,
    path: str,
    person: Person | None,
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, bytes]:
    """
    Send a request; blocking.
    """
    # A key server waits for its key store for 10 seconds.
    connection = HTTPSConnection("127.0.0.1", port, timeout=30, context=client_context(person))
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Key servers on loopback, in order and out of order, and their clients.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kypello.crypto.apikey import APIKey
from kypello.http.tls import Clients, ServerTLS, TLSFiles
from kypello.http.tls import load as load_server
from kypello.kes.certificates import Signer, make_authority, make_certificate
from kypello.kes.config import parse_config
from kypello.kes_service import KeyServer
from kypello.keystore.table import read_keystore
from kypello.kms.connect import KESClient
from kypello.kms.endpoints import Patience
from kypello.kms.tls import load
from kypello.kmsconfig import KESSettings
from kypello.store.lanes import Lanes
from tests.cases import AsyncCase
from tests.integration.tools import free_port

DAY = 86400.0
KEY = "my-key"

#: For servers that all answer in the end, however busy the machine is.
PATIENT = Patience(
    attempt=30.0, overall=60.0, pause=0.05, first_probe=0.1, last_probe=0.2, slow=30.0
)

#: For servers that hang: as short as can be, and long enough for others on a machine that is busy.
QUICK = evolve(PATIENT, attempt=2.0, overall=8.0, slow=1.0)


def write_key(path: Path, signer: Signer) -> None:
    """
    Put a private key in a file.
    """
    encoded = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(encoded)


@define(eq=False)
class Realm:
    """
    A CA, the servers that it certifies, and one client.

    :ivar authority: Its certificate in a file.
    """

    folder: Path
    authority: Path
    api_key: APIKey
    _signer: Signer

    @classmethod
    def make(cls, folder: Path, name: str = "authority") -> "Realm":
        """
        Found one in a folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        signer = Signer(name, ec.generate_private_key(ec.SECP256R1()))
        root = make_authority(signer, now=time.time(), lifetime=10 * DAY, random=os.urandom)
        path = folder / f"{name}.crt"
        path.write_bytes(root.public_bytes(Encoding.PEM))
        return cls(folder, path, APIKey.generate(os.urandom), signer)

    def certify(
        self,
        name: str,
        hosts: Sequence[str] = ("127.0.0.1",),
        *,
        now: float | None = None,
    ) -> TLSFiles:
        """
        Files for somebody with a certificate for ten days.

        :param now: When the ten days begin, in seconds since the epoch.
        """
        subject = Signer(name, ec.generate_private_key(ec.SECP256R1()))
        made = make_certificate(
            subject,
            self._signer,
            hosts,
            now=time.time() if now is None else now,
            lifetime=10 * DAY,
            random=os.urandom,
        )
        files = TLSFiles(
            self.folder / f"{name}.key",
            self.folder / f"{name}.pem",
            clients=Clients.KNOWN_BY_KEY,
        )
        write_key(files.key, subject)
        files.cert.write_bytes(made.public_bytes(Encoding.PEM))
        return files

    def settings(self, *ports: int, host: str = "127.0.0.1") -> KESSettings:
        """
        How the client reaches servers.
        """
        return KESSettings(
            tuple(f"https://{host}:{port}" for port in ports),
            KEY,
            api_key=self.api_key.text,
            ca_path=self.authority,
        )

    def server(
        self, port: int, files: TLSFiles, keys: str = "keys", allow: str = "/v1/*"
    ) -> KeyServer:
        """
        A key server of ours.

        :param keys: The folder of its keys.
        :param allow: What the client may do.
        """
        text = (
            f"address: 127.0.0.1:{port}\nadmin: {{identity: disabled}}\n"
            f"tls: {{key: {files.key}, cert: {files.cert}}}\n"
            f"keystore: {{fs: {{path: {self.folder / keys}}}}}\n"
            f"keys: [{{name: {KEY}}}]\n"
            f"policy: {{app: {{allow: ['{allow}'], identities: [{self.api_key.identity}]}}}}\n"
        )
        config = evolve(
            parse_config(text, "kes.yml", {}, read_keystore), audit=False, error_level=9
        )

        def failed(failure: Any) -> None:
            raise AssertionError(failure)

        return KeyServer(reactor, config, failed)


class RealmCase(AsyncCase):
    """
    A test with servers and a client.
    """

    def setUp(self) -> None:
        """
        A realm with a certificate for its servers.
        """
        self.realm = Realm.make(Path(self.mktemp()).resolve())
        self.files = self.realm.certify("server")
        self.lanes = Lanes(reactor, 1)
        self.lanes.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.lanes.stop()))

    async def serve(self, port: int | None = None, **options: Any) -> "Served":
        """
        Start a key server of ours.
        """
        served = Served(port or free_port(), self.realm, self.files, options)
        await served.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(served.stop()))
        return served

    def listen(self, behave: "Behaviour", files: TLSFiles | None = None) -> "OutOfOrder":
        """
        Start a server that answers as it likes.
        """
        tls = ServerTLS(load_server(files or self.files))
        listening = OutOfOrder(free_port(), behave, tls)
        listening.start()
        self.addCleanup(listening.stop)
        return listening

    def client(self, settings: KESSettings, **options: Any) -> KESClient:
        """
        Start a client, whose first server is the first of the settings.
        """
        options.setdefault("patience", PATIENT)
        client = KESClient(reactor, settings, load(settings), self.lanes, bytes, **options)
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """
        Wait until something is true.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, "it does not come true")
            await deferLater(reactor, 0.01)

    async def more(self, things: Sequence[object], count: int = 100) -> None:
        """
        Wait until there are so many more things than now.
        """
        wanted = len(things) + count
        await self.until(lambda: len(things) >= wanted)


@define(eq=False)
class Served:
    """
    A key server of ours that can be killed and started again.
    """

    port: int
    _realm: Realm
    _files: TLSFiles
    _options: dict[str, Any]
    _service: KeyServer | None = None

    async def start(self) -> None:
        """
        Start, and wait until it listens.
        """
        service = self._realm.server(self.port, self._files, **self._options)
        service.startService()
        self._service = service
        for _ in range(500):
            try:
                await deferToThread(
                    lambda: socket.create_connection(("127.0.0.1", self.port)).close()
                )
                return
            except OSError:
                await deferLater(reactor, 0.02)
        raise AssertionError("nobody listens")

    async def stop(self) -> None:
        """
        Stop, and refuse connections.
        """
        service, self._service = self._service, None
        if service is not None:
            await service.stopService()


#: What to do with a request: gets the connection and its number from 1.
Behaviour = Callable[["Peer"], None]


class Peer(Protocol):
    """
    A connection to a server that is out of order.

    :ivar requests: How many have begun.
    :ivar number: Of this connection, from 1.
    :ivar head: Of the last request.
    """

    def __init__(self, server: "OutOfOrder") -> None:
        """
        Belong to *server*.
        """
        self.server = server
        self.requests = 0
        self.number = 0
        self.head = b""
        self._data = b""

    def connectionMade(self) -> None:
        """
        Called by Twisted.
        """
        self.server.connections.append(self)
        self.number = len(self.server.connections)

    def dataReceived(self, data: bytes) -> None:
        """
        Called by Twisted: once for each part of a request.
        """
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            if not head.split(b"\r\n")[0].endswith(b"HTTP/1.1"):
                continue
            self.head = head
            self.requests += 1
            self.server.paths.append(head.split(b" ")[1].decode())
            if b"describe" in head.split(b" ")[1]:
                self.server.probes += 1
            self.server.behave(self)

    @property
    def pattern(self) -> str:
        """
        Of the last request, which asked for a list.
        """
        return unquote(self.head.split(b" ")[1].decode().removeprefix("/v1/key/list/"))

    def answer(self, status: int, body: bytes) -> None:
        """
        Answer in order.
        """
        self.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    def send(self, data: bytes) -> None:
        """
        Send anything.
        """
        assert self.transport is not None
        self.transport.write(data)

    def reset(self) -> None:
        """
        Break off.
        """
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, _reason: Any = None) -> None:
        """
        Called by Twisted.
        """
        self.server.connections.remove(self)
        self.server.lost += 1


@define(eq=False)
class OutOfOrder:
    """
    A server that does with each request what it is told.

    :ivar connections: Those that are open.
    :ivar lost: How many were.
    :ivar paths: Of all requests.
    :ivar probes: How many of them asked for the description of a key.
    """

    port: int
    behave: Behaviour
    _tls: ServerTLS
    connections: list[Peer] = field(factory=list)
    lost: int = 0
    paths: list[str] = field(factory=list)
    probes: int = 0
    _listening: Any = None

    def start(self) -> None:
        """
        Listen.
        """
        listen: Any = reactor
        factory = Factory.forProtocol(lambda: Peer(self))
        factory.noisy = False
        self._listening = listen.listenSSL(self.port, factory, self._tls, interface="127.0.0.1")

    async def _stop(self) -> None:
        if self._listening is not None:
            port, self._listening = self._listening, None
            await port.stopListening()
        for peer in list(self.connections):
            peer.reset()
        await deferLater(reactor, 0.0)
        await deferLater(reactor, 0.0)

    def stop(self) -> "Deferred[None]":
        """
        Stop listening, and break off.
        """
        return Deferred.fromCoroutine(self._stop())

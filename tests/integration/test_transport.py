# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.transport`` over real sockets.
"""

import contextlib
import socket
import ssl
import struct
from datetime import UTC, datetime, timedelta
from threading import enumerate as all_threads
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, tcp
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from kypello.http import outlet as outlet_module
from kypello.http.outlet import Outlet
from kypello.http.port import InheritedEndpoint, StreamingEndpoint
from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.http.secured import SecuredSite
from kypello.http.site import Limits, StreamingSite
from kypello.http.transport import StreamingTransport
from tests.cases import AsyncCase, SyncCase
from tests.http.resources import Blocks, Leaf, Script, read_all

_BLOCK = bytes(range(256)) * 4096


async def exchange(request: StreamingRequest) -> Response:
    """
    Take the body, and give as many bytes.
    """
    body = await read_all(request.body)
    blocks = [memoryview(body)[at : at + len(_BLOCK)] for at in range(0, len(body), len(_BLOCK))]
    return Response(200, (), Blocks(len(body), Script(blocks)))


async def refuse(request: StreamingRequest) -> Response:
    """
    Answer without a look at the body.
    """
    return Response(403, (), b"no")


def converse(port: int, sent: bytes, trust: ssl.SSLContext | None = None) -> bytes:
    """
    Send everything, then read to the end; blocking.
    """
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        if trust is not None:
            client = stack.enter_context(trust.wrap_socket(client, server_hostname="localhost"))
        client.sendall(sent)
        received = bytearray()
        while piece := client.recv(1 << 20):
            received += piece
        return bytes(received)


def bound() -> socket.socket:
    """
    A listening socket on a free port below those that the kernel hands out.
    """
    for port in range(23000, 23100):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise AssertionError("no port is free")


def certificate() -> str:
    """
    A key and a certificate for ``localhost`` that vouches for itself, in PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + built.public_bytes(Encoding.PEM)).decode("ascii")


def put(body: bytes) -> bytes:
    """
    An upload after which the connection closes.
    """
    head = b"PUT /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class TransportTests(AsyncCase):
    """
    Bytes arrive as they were sent, in both directions.
    """

    async def listen(
        self, operation: Any, port: int = 0, tls: Any = None, outlet: Outlet | None = None
    ) -> IListeningPort:
        """
        Serve an operation until the test ends.
        """
        if not port:
            with bound() as free:
                port = free.getsockname()[1]
        endpoint = StreamingEndpoint(reactor, port, "127.0.0.1", outlet)
        verifyObject(IStreamServerEndpoint, endpoint)
        limits = Limits(drain_time=1.0)
        site = StreamingSite(Leaf(operation), reactor, access_log=False, limits=limits)
        factory = site if tls is None else SecuredSite(site, tls)
        listening: IListeningPort = await endpoint.listen(factory)
        self.addCleanup(listening.stopListening)
        return listening

    async def converse(
        self, listening: IListeningPort, sent: bytes, trust: ssl.SSLContext | None = None
    ) -> bytes:
        """
        Talk to the server from a thread.
        """
        received: bytes = await deferToThread(converse, listening.getHost().port, sent, trust)
        for _ in range(500):
            if not any(isinstance(one, StreamingTransport) for one in reactor.getReaders()):
                break
            await deferLater(reactor, 0.01)
        return received

    async def test_large(self) -> None:
        """
        A body of many sends and receives survives the way there and back.
        """
        body = _BLOCK * 20 + b"tail"
        received = await self.converse(await self.listen(exchange), put(body))
        head, _, echoed = received.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK"))
        self.assertTrue(echoed == body)

    def outlet(self) -> Outlet:
        """
        An outlet for every large write, as long as nobody else has it.
        """
        self.patch(outlet_module, "_RUN", 0)
        made = Outlet(reactor)  # type: ignore[arg-type]
        self.addCleanup(made.close)
        return made

    async def test_through_outlet(self) -> None:
        """
        So it does where another thread sends, for several at once.
        """
        listening = await self.listen(exchange, outlet=self.outlet())
        body = _BLOCK * 20 + b"tail"
        talks = [Deferred.fromCoroutine(self.converse(listening, put(body))) for _ in range(4)]
        for received in await gatherResults(talks):
            self.assertTrue(received.partition(b"\r\n\r\n")[2] == body)
        self.assertIn("kypello-outlet", [thread.name for thread in all_threads()])

    async def test_gone_from_outlet(self) -> None:
        """
        A client that goes away while another thread sends is forgotten.
        """
        listening = await self.listen(exchange, outlet=self.outlet())

        def leave() -> None:
            """
            Take some of an answer, and reset the connection.
            """
            with socket.create_connection(("127.0.0.1", listening.getHost().port), 20) as client:
                client.sendall(put(_BLOCK * 20))
                client.recv(1 << 20)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        for _ in range(10):
            await deferToThread(leave)
        received = await self.converse(listening, put(_BLOCK))
        self.assertTrue(received.endswith(b"\r\n\r\n" + _BLOCK))

    async def test_many_small(self) -> None:
        """
        Pipelined answers come back in one stream.
        """
        sent = b"PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na" * 2000 + put(b"b")
        received = await self.converse(await self.listen(exchange), sent)
        self.assertEqual(received.count(b"HTTP/1.1 200 OK"), 2001)

    async def test_secure(self) -> None:
        """
        TLS works on top, with early answers too.
        """
        pem = certificate()
        options = PrivateCertificate.loadPEM(pem).options()
        trust = ssl.create_default_context(cadata=pem)
        body = _BLOCK * 5 + b"tail"
        listening = await self.listen(exchange, tls=options)
        received = await self.converse(listening, put(body), trust)
        self.assertTrue(received.partition(b"\r\n\r\n")[2] == body)
        listening = await self.listen(refuse, tls=options)
        received = await self.converse(listening, put(bytes(1_800_000)), trust)
        self.assertTrue(received.endswith(b"\r\n\r\nno"))

    async def test_not_secure(self) -> None:
        """
        Who speaks HTTP where TLS is expected is told so, whatever else was sent.
        """
        options = PrivateCertificate.loadPEM(certificate()).options()
        listening = await self.listen(exchange, tls=options)
        for sent in (b"GET / HTTP/1.1\r\n\r\n", put(bytes(1_800_000))):
            received = await self.converse(listening, sent)
            self.assertTrue(received.startswith(b"HTTP/1.1 400 Bad Request\r\n"), received)
            self.assertTrue(received.endswith(b"This port speaks HTTPS, and not HTTP."), received)
        received = await self.converse(listening, b"\0neither")
        self.assertNotIn(b"HTTP", received)

    async def test_early_answer_survives(self) -> None:
        """
        A client that sends a long body in one go can read the refusal; no reset destroys it.
        """
        sent = put(bytes(1_800_000))
        received = await self.converse(await self.listen(refuse), sent)
        self.assertTrue(received.endswith(b"\r\n\r\nno"))

    async def test_busy_port(self) -> None:
        """
        A port that is taken is an error of ``listen``.
        """
        taken = (await self.listen(exchange)).getHost().port
        with self.assertRaises(CannotListenError):
            await self.listen(exchange, taken)

    async def test_inherited(self) -> None:
        """
        A listening socket that somebody else opened serves as well.
        """
        with bound() as opened:
            endpoint = InheritedEndpoint(reactor, opened.fileno())
            verifyObject(IStreamServerEndpoint, endpoint)
            site = StreamingSite(Leaf(exchange), reactor, access_log=False)
            listening: IListeningPort = await endpoint.listen(site)
            self.addCleanup(listening.stopListening)
            received = await self.converse(listening, put(b"abc"))
        self.assertTrue(received.endswith(b"\r\n\r\nabc"))

    async def test_waiting_at_the_end(self) -> None:
        """
        Who has connected, and was not accepted yet when the port closes, gets an answer.
        """
        with bound() as opened:
            endpoint = InheritedEndpoint(reactor, opened.fileno())
            site = StreamingSite(Leaf(exchange), reactor, access_log=False)
            listening: IListeningPort = await endpoint.listen(site)
            address = opened.getsockname()
            clients = [socket.create_connection(address, timeout=20) for _ in range(50)]
        for client in clients:
            self.addCleanup(client.close)
            client.sendall(put(b"abc"))
        await listening.stopListening()
        await site.drain(20.0)
        for client in clients:
            received = b"".join(iter(lambda client=client: client.recv(4096), b""))
            self.assertTrue(received.endswith(b"\r\n\r\nabc"), received)


class TwistedNamesTests(SyncCase):
    """
    The undocumented parts of Twisted that the transport stands on.
    """

    def test_names(self) -> None:
        """
        They exist in the installed Twisted; a version without them needs another transport.
        """
        for name in (
            "_postLoseConnection",
            "_closeWriteConnection",
            "_writeDisconnecting",
            "_writeDisconnected",
            "producerPaused",
            "doRead",
            "doWrite",
        ):
            self.assertTrue(hasattr(tcp.Server, name), name)
        self.assertTrue(hasattr(tcp.Port, "_fromListeningDescriptor"))
        self.assertTrue(issubclass(StreamingTransport, tcp.Server))

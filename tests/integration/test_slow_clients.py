# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Clients that are slow, or stand still: what they hold, and when they are cut off.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bench.client import fetch
from bench.messages import Credentials, Message, signed
from bench.processes import memory
from kypello.http.body import BLOCK
from kypello.http.port import StreamingEndpoint
from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.http.site import Limits, StreamingSite
from kypello.testing.harness import Harness, RawClient
from tests.cases import AsyncCase, SyncCase
from tests.http.resources import Leaf, read_all
from tests.integration.server import ACCESS_KEY, SECRET_KEY, STATIC_KEY, ServerProcess
from tests.integration.tools import free_port

#: How many clients of each kind there are.
_CLIENTS = 200

#: A large object, in bytes, and how much of it an upload brings before it stands still: enough
#: to fill every buffer on the way.
_SIZE, _SENT = 16 * BLOCK, 12 * BLOCK

#: What a download may hold: a block of packages, its plaintext that the client does not take,
#: the plaintext of the next one, and some for the connection itself.
_READER = 4 * BLOCK

#: What an upload may hold: the eight blocks that it uses again and again, three of packages, and
#: some for the connection itself.
_WRITER = 12 * BLOCK

_PUT = b"PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"


async def echo_size(request: StreamingRequest) -> Response:
    """
    Take the body, and tell its size.
    """
    return Response(200, (), b"%d" % len(await read_all(request.body)))


class MemoryTests(SyncCase):
    """
    A real server between hundreds of slow clients.
    """

    def setUp(self) -> None:
        """
        A server with a large encrypted object.
        """
        self.server = ServerProcess(
            Path(self.mktemp()).absolute(), {"MINIO_KMS_SECRET_KEY": STATIC_KEY}
        )
        self.addCleanup(self.server.stop)
        self.server.start()
        self.address = ("127.0.0.1", self.server.port)
        self.content = os.urandom(_SIZE)
        self.ask(self.message("PUT", "/bucket"))
        self.ask(self.message("PUT", "/bucket/large", self.content))
        self.assertEqual(self.ask(self.message("GET", "/bucket/large")), self.content)
        self.before = self.memory()

    def message(self, method: str, target: str, body: bytes = b"") -> Message:
        """
        A signed request; what is uploaded shall be encrypted.
        """
        headers = (("x-amz-server-side-encryption", "AES256"),) if body else ()
        credentials = Credentials(ACCESS_KEY, SECRET_KEY)
        host = f"127.0.0.1:{self.server.port}"
        return signed(credentials, method, target, host, body=body, headers=headers)

    def ask(self, message: Message) -> bytes:
        """
        The body of the answer to a request that succeeds.
        """
        head, body = fetch(self.address, message)
        self.assertTrue(head.startswith(b"HTTP/1.1 200"), head)
        return body

    def memory(self) -> int:
        """
        What the server holds, in bytes.
        """
        return sum(memory(self.server.pid).values())

    def settled(self, good: Callable[[int], bool]) -> int:
        """
        What the server holds more than in the beginning, once that is *good* or some seconds
        are over.
        """
        held = self.memory() - self.before
        for _ in range(100):
            if good(held):
                break
            time.sleep(0.1)
            held = self.memory() - self.before
        return held

    def connect(self, stack: ExitStack) -> socket.socket:
        """
        A connection of a client with little room for what it receives.
        """
        client = stack.enter_context(socket.socket())
        client.settimeout(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(self.address)
        return client

    def check(self, clients: list[socket.socket], most: int) -> None:
        """
        What all clients hold together is bounded, and others are served meanwhile.
        """
        for _ in range(20):
            self.assertLess(self.memory() - self.before, len(clients) * most)
            time.sleep(0.1)
        self.ask(self.message("PUT", "/bucket/other", b"other" * 1000))
        self.assertEqual(self.ask(self.message("GET", "/bucket/other")), b"other" * 1000)

    def check_released(self, most: int) -> None:
        """
        Most of it comes back when the clients are gone.
        """
        bound = _CLIENTS * most // 4
        self.assertLess(self.settled(lambda held: held < bound), bound)

    def test_readers(self) -> None:
        """
        200 clients that stop reading large objects hold some blocks each, until they are gone;
        one that goes on gets the rest.
        """
        get = self.message("GET", "/bucket/large")
        with ExitStack() as stack:
            clients = [self.connect(stack) for _ in range(_CLIENTS)]
            for client in clients:
                client.sendall(get.head)
            begun = [client.recv(1024) for client in clients]
            self.check(clients, _READER)
            received = bytearray(begun[0])
            while len(received) < _SIZE + received.find(b"\r\n\r\n") + 4:
                received += clients[0].recv(BLOCK)
            self.assertTrue(received.endswith(self.content))
        self.check_released(_READER)

    def test_writers(self) -> None:
        """
        200 clients that stand still within large uploads hold some blocks each, until they are
        gone; one that goes on stores its object.
        """
        with ExitStack() as stack:
            clients = [self.connect(stack) for _ in range(_CLIENTS)]
            put = self.message("PUT", "/bucket/slow", self.content)
            for client in clients:
                client.sendall(put.head)
                client.sendall(memoryview(self.content)[:_SENT])
            self.check(clients, _WRITER)
            clients[0].sendall(memoryview(self.content)[_SENT:])
            self.assertTrue(clients[0].recv(1024).startswith(b"HTTP/1.1 200"))
            self.assertEqual(self.ask(self.message("GET", "/bucket/slow")), self.content)
        self.check_released(_WRITER)


class DeadlineTests(SyncCase):
    """
    1000 connections that drip, in the time of the test.
    """

    limits = Limits()

    def setUp(self) -> None:
        """
        A site.
        """
        self.harness = Harness(Leaf(echo_size), access_log=False, limits=self.limits)

    def drip(self, clients: list[RawClient], seconds: float) -> None:
        """
        Each client sends a byte every two seconds.
        """
        for _ in range(int(seconds / 2)):
            for client in clients:
                if client.lost is None:
                    client.send(b"a")
            self.harness.clock.advance(2)

    def clients(self, count: int, begin: bytes) -> list[RawClient]:
        """
        Clients that have begun something.
        """
        made = [self.harness.connect() for _ in range(count)]
        for client in made:
            client.send(begin)
        return made

    def test_thousand(self) -> None:
        """
        Heads and bodies that drip are cut when their time is over, all of them, and an upload
        that makes progress among them is not.
        """
        (honest,) = self.clients(1, _PUT)
        heads = self.clients(500, b"GET / HTTP/1.1\r\nX: ")
        bodies = self.clients(500, _PUT)
        self.drip([*heads, *bodies], self.limits.head_time - 2)
        self.assertEqual([one for one in heads if one.lost is not None], [])
        self.drip([*heads, *bodies], 4)
        self.assertEqual([one for one in heads if one.lost is None], [])
        self.assertEqual([one for one in bodies if one.lost is not None], [])
        honest.send(bytes(50_000))
        left = self.limits.body_time - self.harness.clock.seconds() + self.limits.drain_time
        self.drip(bodies, left + 4)
        self.assertEqual([one for one in bodies if one.lost is None], [])
        self.assertIsNone(honest.lost)
        honest.send(bytes(50_000))
        self.assertTrue(honest.take().endswith(b"100000"))


class DrippingTests(AsyncCase):
    """
    The same with a few real connections, and less patience.
    """

    async def test_real(self) -> None:
        """
        Whoever drips is cut off, whatever it drips; who has sent nothing is cut off too.
        """
        limits = Limits(head_time=0.5, idle_time=0.5, body_time=0.5, drain_time=0.5)
        site = StreamingSite(Leaf(echo_size), reactor, access_log=False, limits=limits)
        port = free_port()
        listening = await StreamingEndpoint(reactor, port, "127.0.0.1").listen(site)
        self.addCleanup(listening.stopListening)
        begun = (b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: ", _PUT, _PUT + b"a")
        cut = await deferToThread(drip, port, begun)
        self.assertEqual(cut, [True] * len(begun))
        for _ in range(500):
            if not site._channels:
                break
            await deferLater(reactor, 0.01)
        self.assertEqual(site._channels, set())


def drip(port: int, begun: tuple[bytes, ...]) -> list[bool]:
    """
    Open connections that begin so, send a byte now and then where something has begun, and tell
    which of them were closed; blocking, for 20 seconds at most.
    """
    with ExitStack() as stack:
        clients: dict[socket.socket, Any] = {}
        for beginning in begun:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(beginning)
            client.setblocking(False)
            clients[client] = beginning
        left = set(clients)
        for _ in range(200):
            if not left:
                break
            time.sleep(0.1)
            for client in list(left):
                if _is_closed(client, b"a" if clients[client] else b""):
                    left.discard(client)
        return [client not in left for client in clients]


def _is_closed(client: socket.socket, byte: bytes) -> bool:
    try:
        client.send(byte)
        while client.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A lean HTTP client: it signs, sends, and throws away what it receives.

It must cost less than any server under test, so it reads into one buffer, knows nothing but
``Content-Length``, and sends the same signed bytes again and again (a signature is good for some
minutes).
"""

import select
import socket
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from urllib.parse import unquote

from attrs import define, field, frozen

from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import (
    ALGORITHM,
    Scope,
    canonical_request,
    sign,
    signing_key,
    string_to_sign,
)

_BUFFER = 1024 * 1024


@frozen
class Credentials:
    """
    Who signs.
    """

    access_key: str
    secret_key: str = field(repr=False)


@frozen
class Message:
    """
    A request as bytes.
    """

    head: bytes
    body: bytes | memoryview = b""


def signed(
    credentials: Credentials,
    method: str,
    target: str,
    host: str,
    *,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
) -> Message:
    """
    Sign a request with the hash of its body, as SDKs do over plain HTTP.

    :param headers: Further ones, lower-case names; all are signed.
    """
    path, _, query = target.partition("?")
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = Scope(timestamp[:8], "us-east-1")
    digest = sha256(body).hexdigest()
    all_headers = sorted(
        (
            ("host", host),
            ("x-amz-content-sha256", digest),
            ("x-amz-date", timestamp),
            *headers,
        )
    )
    names = tuple(name for name, _ in all_headers)
    parameters = tuple(
        (unquote(name), unquote(value))
        for name, _, value in (part.partition("=") for part in query.split("&") if part)
    )
    head = RequestHead(method, path, parameters, tuple(all_headers))
    canonical = canonical_request(head, names, digest, host)
    key = signing_key(credentials.secret_key, scope)
    signature = sign(key, string_to_sign(timestamp, str(scope), canonical))
    authorization = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope},"
        f" SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers)]
    lines += [f"authorization: {authorization}", f"content-length: {len(body)}", "", ""]
    return Message("\r\n".join(lines).encode(), memoryview(body))


def plain(target: str, host: str) -> Message:
    """
    An unsigned ``GET``.
    """
    return Message(f"GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())


@define(eq=False)
class _Stream:
    """
    One connection with one request under way.
    """

    connection: socket.socket
    unsent: list[memoryview] = field(factory=list)
    head: bytearray = field(factory=bytearray)
    left: int | None = None
    writing: bool = False

    def begin(self, message: Message) -> None:
        self.unsent = [memoryview(message.head)]
        if len(message.body):
            self.unsent.append(memoryview(message.body))
        self.left = None
        self.send()

    def send(self) -> None:
        try:
            while self.unsent:
                sent = self.connection.sendmsg(self.unsent)
                while self.unsent and sent >= len(self.unsent[0]):
                    sent -= len(self.unsent.pop(0))
                if self.unsent:
                    self.unsent[0] = self.unsent[0][sent:]
        except BlockingIOError:
            return

    def receive(self, buffer: memoryview) -> bool:
        """
        Take what has come; tell whether the answer is complete.
        """
        size = self.connection.recv_into(buffer)
        if not size:
            raise ConnectionError("the server closed the connection")
        if self.left is None:
            self.head += buffer[:size]
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.left = self._length(bytes(self.head[:end])) - (len(self.head) - end - 4)
            self.head.clear()
        else:
            self.left -= size
        return self.left == 0

    def _length(self, head: bytes) -> int:
        if not head.startswith(b"HTTP/1.1 20"):
            raise ConnectionError(f"the server refused: {head.decode('latin-1')}")
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        if at < 0:
            return 0
        return int(lower[at + 17 :].split(b"\r\n", 1)[0])


@define(eq=False)
class Client:
    """
    Several connections to one server, kept alive.
    """

    address: tuple[str, int]
    connections: int
    _streams: list[_Stream] = field(factory=list)
    _buffer: memoryview = field(factory=lambda: memoryview(bytearray(_BUFFER)))

    def __enter__(self) -> "Client":
        """
        Connect.
        """
        for _ in range(self.connections):
            connection = socket.create_connection(self.address, timeout=10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self._streams.append(_Stream(connection))
        return self

    def __exit__(self, *_exception: object) -> None:
        """
        Close all connections.
        """
        for stream in self._streams:
            stream.connection.close()
        self._streams.clear()

    def run(self, messages: Iterator[Message]) -> float:
        """
        Send all messages, one at a time per connection, and give the seconds it took.

        :raises ConnectionError: An answer was no success.
        """
        poll = select.epoll()
        streams = {stream.connection.fileno(): stream for stream in self._streams}
        for number in streams:
            poll.register(number, 0)
        started = time.perf_counter()
        busy = 0
        for number, stream in streams.items():
            busy += self._next(poll, number, stream, messages)
        while busy:
            events = poll.poll(60)
            if not events:
                raise ConnectionError("the server does not answer")
            for number, event in events:
                stream = streams[number]
                if event & select.EPOLLOUT:
                    stream.send()
                if event & ~select.EPOLLOUT and stream.receive(self._buffer):
                    busy += self._next(poll, number, stream, messages) - 1
                elif stream.writing and not stream.unsent:
                    stream.writing = False
                    poll.modify(number, select.EPOLLIN)
        elapsed = time.perf_counter() - started
        poll.close()
        return elapsed

    def _next(
        self, poll: select.epoll, number: int, stream: _Stream, messages: Iterator[Message]
    ) -> int:
        message = next(messages, None)
        if message is None:
            poll.modify(number, 0)
            return 0
        stream.begin(message)
        stream.writing = bool(stream.unsent)
        poll.modify(number, select.EPOLLIN | (select.EPOLLOUT if stream.writing else 0))
        return 1


def fetch(address: tuple[str, int], message: Message) -> tuple[bytes, bytes]:
    """
    Send one message and give head and body of the answer, whatever its status.
    """
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(message.head)
        connection.sendall(message.body)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            piece = connection.recv(_BUFFER)
            if not piece:
                raise ConnectionError("the server closed the connection")
            received += piece
        head = bytes(received[:end])
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        size = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        while len(received) < end + 4 + size:
            piece = connection.recv(_BUFFER)
            if not piece:
                raise ConnectionError("the server closed the connection")
            received += piece
        return head, bytes(received[end + 4 :])

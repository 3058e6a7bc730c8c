# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A lean HTTP client: it sends, and throws away what it receives.

It must cost less than any server under test, so it reads into one buffer and knows no more of
HTTP than where an answer ends.
"""

import select
import socket
import ssl
import time
from collections.abc import Iterator

from attrs import define, field

from bench.messages import Message

_BUFFER = 1024 * 1024

#: The end of a body in the chunked coding.
_LAST_CHUNK = b"0\r\n\r\n"

#: How long nothing may happen, in seconds.
_PATIENCE = 60


@define(eq=False)
class _Stream:
    """
    One connection with one request under way.

    :ivar left: Bytes of the body that are to come; ``None`` while the head is.
    :ivar tail: The last bytes of a body in the chunked coding; ``None`` for any other body.
    """

    connection: socket.socket
    unsent: list[memoryview] = field(factory=list)
    head: bytearray = field(factory=bytearray)
    left: int | None = None
    tail: bytes | None = None
    bodiless: bool = False
    writing: bool = False

    def begin(self, message: Message) -> None:
        """
        Send a request.
        """
        self.unsent = [memoryview(message.head)]
        if len(message.body):
            self.unsent.append(memoryview(message.body))
        self.bodiless = message.head.startswith(b"HEAD ")
        self.left = self.tail = None
        self.send()

    def send(self) -> None:
        """
        Send as much as the kernel takes.
        """
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

        :raises ConnectionError: It is no success, or the connection ended.
        """
        size = self.connection.recv_into(buffer)
        if not size:
            raise ConnectionError("the server closed the connection")
        return self.take(buffer[:size])

    def take(self, data: memoryview) -> bool:
        """
        Look at what has come; tell whether the answer is complete.

        :raises ConnectionError: It is no success.
        """
        if self.left is None:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.left = self._length(bytes(self.head[: end + 2]))
            data = memoryview(bytes(self.head[end + 4 :]))
            self.head.clear()
        if self.tail is not None:
            self.tail = (self.tail + bytes(data[-len(_LAST_CHUNK) :]))[-len(_LAST_CHUNK) :]
            return self.tail == _LAST_CHUNK
        self.left -= len(data)
        return self.left == 0

    def _length(self, head: bytes) -> int:
        if not head.startswith(b"HTTP/1.1 20"):
            raise ConnectionError(f"the server refused: {head.decode('latin-1')}")
        if self.bodiless:
            return 0
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked\r\n" in lower:
            self.tail = b""
        at = lower.find(b"\r\ncontent-length:")
        return 0 if at < 0 else int(lower[at + 17 :].split(b"\r\n", 1)[0])


class _SecureStream(_Stream):
    """
    The same over TLS, for requests and answers that are short.
    """

    connection: ssl.SSLSocket

    def send(self) -> None:
        """
        Send all at once: what is short fits into the buffer of the kernel.
        """
        self.connection.sendall(b"".join(self.unsent))
        self.unsent.clear()

    def receive(self, buffer: memoryview) -> bool:
        """
        Take what has come.
        """
        try:
            while not super().receive(buffer):
                pass
        except ssl.SSLWantReadError:
            return False
        return True


@define(eq=False)
class Client:
    """
    Several connections to one server, kept alive.

    :ivar trust: Whom to trust over TLS, with our certificate; ``None`` for plain TCP.
    """

    address: tuple[str, int]
    connections: int
    trust: ssl.SSLContext | None = None
    _streams: list[_Stream] = field(factory=list)
    _buffer: memoryview = field(factory=lambda: memoryview(bytearray(_BUFFER)))

    def __enter__(self) -> "Client":
        """
        Connect.
        """
        try:
            for _ in range(self.connections):
                self._streams.append(self._connect())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """
        Close all connections.
        """
        for stream in self._streams:
            stream.connection.close()
        self._streams.clear()

    def _connect(self) -> _Stream:
        connection = socket.create_connection(self.address, timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.trust is None:
            connection.setblocking(False)
            return _Stream(connection)
        secure = self.trust.wrap_socket(connection, server_hostname=self.address[0])
        secure.setblocking(False)
        return _SecureStream(secure)

    def run(self, messages: Iterator[Message]) -> float:
        """
        Send all messages, one at a time per connection, and give the seconds it took.

        :raises ConnectionError: An answer was no success, or none came.
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
            events = poll.poll(_PATIENCE)
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


def fetch(
    address: tuple[str, int], message: Message, trust: ssl.SSLContext | None = None
) -> tuple[bytes, bytes]:
    """
    Send one message and give head and body of the answer, whatever its status.

    :raises ConnectionError: The connection ended before the answer did.
    """
    with socket.create_connection(address, timeout=60) as connection:
        if trust is None:
            return _exchange(connection, message)
        with trust.wrap_socket(connection, server_hostname=address[0]) as secure:
            return _exchange(secure, message)


def _exchange(connection: socket.socket, message: Message) -> tuple[bytes, bytes]:
    connection.sendall(message.head)
    connection.sendall(message.body)
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        _more(connection, received)
    head = bytes(received[:end])
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    size = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    while len(received) < end + 4 + size:
        _more(connection, received)
    return head, bytes(received[end + 4 :])


def _more(connection: socket.socket, received: bytearray) -> None:
    piece = connection.recv(_BUFFER)
    if not piece:
        raise ConnectionError("the server closed the connection")
    received += piece

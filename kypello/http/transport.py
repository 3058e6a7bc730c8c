# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
TCP for large bodies.

Twisted joins what waits to be sent before each ``send`` of at most 128 KiB, and receives 64 KiB
at a time.  Here blocks go to the kernel as they are, up to 1 MiB at once, right when they are
written; and what is received goes where the protocol wants it.  TLS works on top, through the
same port.
"""

import socket
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from kypello.http.gathering import Gathering
from kypello.http.outlet import Outlet, Passage
from kypello.model import Buffer

#: How much is given to the kernel at once, in bytes.
SEND_SIZE = 1024 * 1024

#: How much is received at once for a protocol that does not say where to put it, in bytes.
RECEIVE_SIZE = 256 * 1024

#: A producer pauses when more bytes than this wait for the kernel.
_HIGH_WATER = 64 * 1024

#: A write of so many bytes is large: another thread may send it.
_LARGE = SEND_SIZE // 2

#: While another thread sends, a producer pauses when more bytes than this wait, and resumes when
#: no more than the second do: so it is well ahead, and is woken once for several blocks.
_FAR_AHEAD, _AHEAD = 3 * SEND_SIZE, 2 * SEND_SIZE

#: How many pieces are given to the kernel at once; Linux takes 1024.
_PIECES = 256

# One reactor thread receives at a time and copies what it got before anybody else runs.
_received = memoryview(bytearray(RECEIVE_SIZE))


class BufferedReceiver(Protocol):
    """
    A protocol that can say where it wants its bytes.
    """

    def space(self) -> memoryview | None:
        """
        Where to put what comes next; ``None`` when ``dataReceived`` must be called with it.
        """
        raise NotImplementedError

    def filled(self, size: int) -> None:
        """
        So many bytes were put there.
        """
        raise NotImplementedError


class StreamingTransport(tcp.Server):
    """
    A connection that neither copies what it sends nor, where its protocol is a
    :class:`BufferedReceiver`, what it receives.

    :ivar _pieces: What was written and is not sent, as far as the reactor's thread knows.
    :ivar _unsent: Bytes of them.
    :ivar _answer: The number of its last answer among those of its port.
    :ivar _passage: The way through the outlet, where the first of the pieces may be.
    :ivar _lost: Why the connection is over.  That waits for a thread which may be sending: the
        descriptor must not be that of another connection meanwhile.
    """

    def __init__(self, sock: socket.socket, protocol: IProtocol, *arguments: Any) -> None:
        """
        Made by the port.
        """
        self._pieces: deque[memoryview] = deque()
        self._unsent = 0
        self._answer: int | None = None
        self._passage: Passage | None = None
        self._lost: Failure | None = None
        self._receiver = protocol if isinstance(protocol, BufferedReceiver) else None
        super().__init__(sock, protocol, *arguments)
        # Twisted calls the port that.
        self._port: Any = self.server

    # Sending

    def write(self, data: Buffer) -> None:
        """
        Send bytes; the caller does not change them any more.
        """
        if (
            0 < len(data) < _LARGE
            and not self._pieces
            and self.connected
            and not self._writeDisconnected
        ):
            # Most answers are short, and the kernel takes all of them at once.
            try:
                sent = self.socket.send(data)
            except OSError:
                # It shows again below.
                sent = 0
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self.writeSequence((data,))

    def write_soon(self, data: bytes) -> None:
        """
        Send an answer of a few bytes, with those of other connections where many have some.
        """
        gathering: Gathering = self._port.gathering
        self._answer, several = gathering.turn(self._answer)
        if (
            not several
            or self._pieces
            or not self.connected
            or self._writeDisconnected
            or self._lost is not None
        ):
            self.write(data)
            return
        self._pieces.append(memoryview(data))
        self._unsent += len(data)
        gathering.add(self)

    def send_gathered(self) -> None:
        """
        Called by the port: the others are ready, too.
        """
        if self.connected and not self._away():
            # An error of this attempt shows again when the reactor makes the next.
            self._send()
            if self._pieces:
                self.startWriting()

    def writeSequence(self, data: Iterable[Buffer]) -> None:
        """
        Send several pieces, the first of them at once when nothing waits.
        """
        if not self.connected or self._writeDisconnected or self._lost is not None:
            return
        before = len(self._pieces)
        size = self._unsent
        for piece in data:
            if piece:
                self._pieces.append(memoryview(piece))
                self._unsent += len(piece)
        size = self._unsent - size
        if (size >= _LARGE or self._away()) and self._pass(before, size):
            self._pause_above(_FAR_AHEAD)
            return
        if not self._pieces or (not before and self._send() is None and not self._pieces):
            # An error of this attempt shows again when the reactor makes the next.
            return
        if size >= _LARGE and self._passage is not None:
            self._passage.slow()
        self._pause_above(_HIGH_WATER)
        if not self._away():
            self.startWriting()

    def _pause_above(self, most: int) -> None:
        if self.producer is not None and self._unsent > most and not self.producerPaused:
            self.producerPaused = True
            IPushProducer(self.producer).pauseProducing()

    def _resume(self) -> None:
        if self.producer is not None and self.producerPaused:
            self.producerPaused = False
            IPushProducer(self.producer).resumeProducing()

    # Through the outlet

    def _away(self) -> bool:
        """
        Whether another thread may be sending.
        """
        return self._passage is not None and self._passage.away > 0

    def _pass(self, before: int, size: int) -> bool:
        """
        Have what was just written sent by another thread, if it may be.

        :param before: How many pieces were there before.
        :param size: Bytes that were written.
        """
        passage = self._passage
        if passage is None:
            outlet: Outlet | None = self._port.outlet
            if outlet is None:
                return False
            passage = self._passage = Passage(outlet, self.socket, self._returned)
        if size >= _LARGE and not passage.open():
            return False
        # Nothing overtakes what waits in this thread.
        if passage.away != before:
            return False
        for piece in islice(self._pieces, before, None):
            passage.give(piece)
        return True

    def _returned(self) -> None:
        """
        Called by the outlet: some was sent, or could not be.
        """
        passage = self._passage
        if passage is None:
            return
        self._drop(passage.collect())
        if passage.away:
            if self._unsent <= _AHEAD:
                self._resume()
        elif self._lost is not None:
            self.connectionLost(self._lost)
        elif self._pieces or self.disconnecting or self._writeDisconnecting:
            self.startWriting()
        else:
            self._resume()

    # In the reactor's thread

    # Twisted's mixin annotates what it replaces here as taking anything and giving nothing.
    def doWrite(self) -> Exception | None:  # type: ignore[override]
        """
        Called by the reactor: the kernel takes more.
        """
        if self._away():
            # That tells when it is done.
            self.stopWriting()
            return None
        error = self._send()
        if error is not None:
            return error
        if not self._pieces:
            self.stopWriting()
            if self.producer is not None and self.producerPaused:
                self._resume()
            elif self.disconnecting:
                return self._postLoseConnection()  # type: ignore[no-any-return]
            elif self._writeDisconnecting:
                self._writeDisconnected = True
                self._closeWriteConnection()
        return None

    def _send(self) -> ConnectionLost | None:
        """
        Give the kernel as much as it takes, in one call.
        """
        pieces = self._pieces
        if not pieces:
            return None
        try:
            if len(pieces) == 1:
                sent = self.socket.send(pieces[0][:SEND_SIZE])
            else:
                sent = self.socket.sendmsg(self._head())
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        self._drop(sent)
        return None

    def _drop(self, sent: int) -> None:
        """
        So many bytes were sent.
        """
        pieces = self._pieces
        self._unsent -= sent
        while sent:
            piece = pieces[0]
            if sent < len(piece):
                pieces[0] = piece[sent:]
                break
            sent -= len(piece)
            pieces.popleft()

    def _head(self) -> list[memoryview]:
        head: list[memoryview] = []
        room = SEND_SIZE
        for piece in self._pieces:
            head.append(piece[:room])
            room -= len(head[-1])
            if not room or len(head) == _PIECES:
                break
        return head

    def connectionLost(self, reason: Failure) -> None:
        """
        Called by the reactor: drop what cannot be sent any more.
        """
        if self._away():
            self._lost = self._lost or reason
            self.stopReading()
            self.stopWriting()
            return
        self._pieces.clear()
        self._unsent = 0
        self._passage = None
        self._receiver = None
        super().connectionLost(reason)

    # Receiving

    # As with doWrite.
    def doRead(self) -> ConnectionLost | ConnectionDone | None:  # type: ignore[override]
        """
        Called by the reactor: the kernel has bytes for us.
        """
        space = None if self._receiver is None else self._receiver.space()
        try:
            size = self.socket.recv_into(_received if space is None else space)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not size:
            return CONNECTION_DONE
        if space is None or self._receiver is None:
            self.protocol.dataReceived(bytes(_received[:size]))
        else:
            self._receiver.filled(size)
        return None

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What happens in all processes of a server, told to those who listen in any of them.

Each process has an inbox, into which the others put events while somebody listens there, which a
table in shared memory tells.  Nobody waits for a listener: what finds no room is dropped, and the
listener is told how much that was.
"""

import mmap
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import Refused
from kypello.interfaces import IBodySource
from kypello.sharedmemory import make_shared_memory

#: Kinds of events, as bits.
TRACE, LOG, EVENT = 1, 2, 4

#: How many events wait for a listener at most, and how many listeners a process has.
MOST_WAITING = 1000
MOST_LISTENERS = 32

#: How many bytes are given to a listener at once, about.
_BLOCK = 64 * 1024

#: How long a listener hears nothing, in seconds, until a sign shows that all is well.
KEEP_ALIVE = 2.0

#: Bytes of a number.
_SIZE = 8

#: An event is not longer, in bytes.
_LONGEST = 128 * 1024

#: How many events are taken from the inbox until the reactor may do something else.
_AT_ONCE = 200

Accepts = Callable[[bytes], bool]
Drops = Callable[[int], bytes]


@frozen
class Inboxes:
    """
    What processes share, as one of them sees it.

    :ivar table: The descriptor of the table: for each process which kinds are listened to there,
        and then, for each, how many events it could not put into each inbox; ``-1`` for the only
        process.
    :ivar receive: That of the own inbox.
    :ivar send: Those of all inboxes, by process.
    """

    table: int = -1
    receive: int = -1
    send: tuple[int, ...] = ()


def shared_inboxes(workers: int) -> tuple[int, list[tuple[int, int]]]:
    """
    Make inboxes for so many processes.

    :return: The descriptor of their table, and of each inbox where it is emptied and filled.
    :raises OSError: The system has no room for them.
    """
    table = make_shared_memory("listeners", _table_size(workers))
    pairs: list[tuple[int, int]] = []
    try:
        for _ in range(workers):
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pairs.append((ends[0].detach(), ends[1].detach()))
    except BaseException:
        for descriptor in (table, *(one for pair in pairs for one in pair)):
            os.close(descriptor)
        raise
    return table, pairs


def _table_size(workers: int) -> int:
    return workers * (1 + workers) * _SIZE


@define(eq=False)
class Broadcast:
    """
    Tells events, and hears those of all processes.
    """

    _reactor: Any
    _worker: int = 0
    _workers: int = 1
    _inboxes: Inboxes = Inboxes()
    _memory: mmap.mmap = field(init=False, repr=False)
    _numbers: memoryview = field(init=False, repr=False)
    _silence: bytes = field(init=False, repr=False)
    _listeners: "list[Listener]" = field(init=False, factory=list)
    _outgoing: list[socket.socket] = field(init=False, factory=list)
    _inbox: "_Inbox | None" = field(init=False, default=None)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Map the table: nobody listens here yet.
        """
        self._memory = mmap.mmap(self._inboxes.table, _table_size(self._workers))
        self._numbers = memoryview(self._memory).cast("Q")
        self._silence = bytes(self._workers * _SIZE)
        self._numbers[self._worker] = 0
        self._outgoing = [socket.socket(fileno=number) for number in self._inboxes.send]
        if self._inboxes.receive >= 0:
            self._inbox = _Inbox(socket.socket(fileno=self._inboxes.receive), self.deliver)

    def wanted(self, kind: int) -> bool:
        """
        Whether anybody listens to a kind of events.
        """
        wanted: bytes = self._memory[: len(self._silence)]
        if wanted == self._silence:
            return False
        return any(number & kind for number in self._numbers[: self._workers])

    def tell(self, kind: int, event: bytes) -> None:
        """
        Tell an event to those who listen to its kind.

        :param event: JSON.
        """
        for number in range(self._workers):
            if not self._numbers[number] & kind:
                continue
            if number == self._worker:
                self.deliver(kind, event)
            else:
                self._send(number, bytes([kind]) + event)

    def tell_from_thread(self, kind: int, event: bytes) -> None:
        """
        The same from another thread than that of the reactor.
        """
        self._reactor.callFromThread(self.tell, kind, event)

    def listen(
        self,
        kind: int,
        accepts: Accepts,
        drops: Drops,
        sign: bytes = b" ",
        silence: float = KEEP_ALIVE,
    ) -> "Listener":
        """
        Listen from now on.

        :param accepts: Whether an event is wanted.
        :param drops: Tells, as an event, how many were dropped.
        :param sign: What shows that all is well.
        :param silence: How long nothing is heard until it comes, in seconds.
        :raises Refused: ``SlowDown``: too many listen already.
        """
        if len(self._listeners) >= MOST_LISTENERS or self._ended:
            raise Refused("SlowDown", "Too many listen already, or the server ends.")
        if not self._listeners and self._inbox is not None:
            self._inbox.forget()
            self._reactor.addReader(self._inbox)
        listener = Listener(self, kind, accepts, drops, self._reactor, self.lost, sign, silence)
        self._listeners.append(listener)
        self._want()
        return listener

    @property
    def lost(self) -> int:
        """
        How many events of all processes have found no room in the inbox here.
        """
        return sum(self._numbers[self._workers + self._worker :: self._workers])

    def deliver(self, kind: int, event: bytes) -> None:
        """
        Give an event to those who listen here.
        """
        for listener in self._listeners:
            if listener.kind == kind:
                listener.take(event)

    def leave(self, listener: "Listener") -> None:
        """
        Called by a listener: it listens no more.
        """
        if listener not in self._listeners:
            return
        self._listeners.remove(listener)
        self._want()
        if not self._listeners and self._inbox is not None:
            self._reactor.removeReader(self._inbox)

    def end(self) -> None:
        """
        End all streams: the server is about to end, and waits for its requests.
        """
        self._ended = True
        for listener in list(self._listeners):
            listener.end()

    def close(self) -> None:
        """
        Give up what is shared.
        """
        for each in self._outgoing:
            each.close()
        if self._inbox is not None:
            self._inbox.close()

    def _want(self) -> None:
        wanted = 0
        for listener in self._listeners:
            wanted |= listener.kind
        self._numbers[self._worker] = wanted

    def _send(self, number: int, message: bytes) -> None:
        try:
            self._outgoing[number].send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            # No room, or too long.
            self._numbers[self._workers * (1 + self._worker) + number] += 1


@implementer(IReadDescriptor)
@define(eq=False)
class _Inbox:
    """
    Where events of other processes come in.
    """

    _socket: socket.socket
    _deliver: Callable[[int, bytes], None]

    def fileno(self) -> int:
        """
        Called by Twisted: what to watch.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        Called by Twisted: who it is, in its log.
        """
        return "events"

    def doRead(self) -> None:
        """
        Called by Twisted: there are events.
        """
        for _ in range(_AT_ONCE):
            message = self._take()
            if not message:
                break
            self._deliver(message[0], message[1:])

    def connectionLost(self, reason: Failure) -> None:
        """
        Called by Twisted: the reactor ends.
        """

    def close(self) -> None:
        """
        Give up the own end.
        """
        self._socket.close()

    def forget(self) -> None:
        """
        Drop what came for somebody who listens no more.
        """
        while self._take():
            pass

    def _take(self) -> bytes:
        try:
            return self._socket.recv(_LONGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


@implementer(IBodySource)
@define(eq=False)
class Listener:
    """
    Events for one client, as the body of an answer without end.

    A blank comes first, so that the client knows at once that it is heard; blanks between events
    mean nothing to who reads JSON.

    :ivar kind: What it listens to.
    :ivar _lost: How many events had found no room in an inbox when this was last told.
    :ivar _dropped: How many found none here since then.
    """

    size = None

    _broadcast: Broadcast
    kind: int
    _accepts: Accepts
    _drops: Drops
    _reactor: Any
    _lost: int
    _sign: bytes
    _silence: float
    _dropped: int = 0
    _events: deque[bytes] = field(init=False, factory=deque, repr=False)
    _greeted: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _waiting: "Deferred[None] | None" = field(init=False, default=None)
    _blank: IDelayedCall | None = field(init=False, default=None)

    def take(self, event: bytes) -> None:
        """
        Keep an event until it is read, if there is room.
        """
        if not self._accepts(event):
            return
        if len(self._events) >= MOST_WAITING:
            self._dropped += 1
            return
        self._events.append(event)
        self._wake()

    async def read(self) -> bytes:
        """
        Give what has happened, or a sign when that was nothing.
        """
        if not self._greeted:
            self._greeted = True
            return b" "
        if not self._events and not self._over:
            await self._wait()
        if self._over:
            return b""
        lost = self._broadcast.lost
        dropped, self._dropped, self._lost = self._dropped + lost - self._lost, 0, lost
        block = bytearray(self._drops(dropped) + b"\n" if dropped else b"")
        while self._events and len(block) < _BLOCK:
            block += self._events.popleft() + b"\n"
        return bytes(block) or self._sign

    def close(self) -> None:
        """
        Listen no more.
        """
        self._broadcast.leave(self)
        self._events.clear()
        self.end()

    def end(self) -> None:
        """
        Let the client read no more.
        """
        self._over = True
        self._wake()

    async def _wait(self) -> None:
        self._waiting = Deferred()
        self._blank = self._reactor.callLater(self._silence, self._wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if self._blank is not None and self._blank.active():
                self._blank.cancel()
            self._blank = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

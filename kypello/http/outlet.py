# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A thread that sends.

To hand a large block to the kernel takes as long as to read and decrypt it.  Where a process
serves one large download, and so one core, the next blocks are made while this thread sends
those before.  Where it serves several, they keep the cores busy themselves, and a block is best
sent by who has just made it.
"""

import os
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from socket import socket
from threading import Thread

from attrs import define, field
from twisted.internet.interfaces import IReactorFromThreads

#: As many large writes of one connection after the other show that no other has any.
_RUN = 8

#: How many blocks the thread has left when it tells of those that it sent.
_LOW = 2


@define(eq=False)
class Outlet:
    """
    The thread, for one connection at a time.

    All methods belong to the reactor thread.

    :ivar _blocks: What is to be sent, and for whom; ``None`` ends the thread.
    :ivar _writes: Large writes of all connections so far.
    :ivar _taken: A connection sends through it.
    """

    _reactor: IReactorFromThreads
    _blocks: "SimpleQueue[tuple[Passage, memoryview] | None]" = field(
        init=False, factory=SimpleQueue
    )
    _thread: Thread | None = field(init=False, default=None)
    _writes: int = field(init=False, default=0)
    _taken: bool = field(init=False, default=False)

    def close(self) -> None:
        """
        End the thread, once it has sent what it was given; it begins again when it is needed.
        """
        if self._thread is not None:
            self._blocks.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (block := self._blocks.get()) is not None:
            passage, piece = block
            passage._send(piece)
            # An idle thread keeps nothing of its last block alive.
            del block, passage, piece


@define(eq=False)
class Passage:
    """
    The way of one connection through the outlet.

    :ivar _returned: Called in the reactor thread when there is something to :meth:`collect`.
    :ivar away: Blocks that were given and not collected yet.
    :ivar _run: Large writes since another connection made one, or the kernel did not take one.
    :ivar _last: Which of all large writes was the last of this connection.
    :ivar _stuck: The kernel takes no more, so nothing of what follows was sent.
    :ivar _sent: How much was sent of each block, in order.
    :ivar _telling: The reactor was asked to call, and has not called yet.
    """

    _outlet: Outlet
    _socket: socket
    _returned: Callable[[], None]
    away: int = field(init=False, default=0)
    _run: int = field(init=False, default=0)
    _last: int = field(init=False, default=0)
    _stuck: bool = field(init=False, default=False)
    _sent: deque[int] = field(init=False, factory=deque)
    _telling: bool = field(init=False, default=False)

    def open(self) -> bool:
        """
        Tell of a large write; whether it may go this way.
        """
        outlet = self._outlet
        alone = outlet._writes == self._last
        outlet._writes = self._last = outlet._writes + 1
        self._run = self._run + 1 if alone else 0
        return self._run >= _RUN and not self._stuck and (self.away > 0 or not outlet._taken)

    def slow(self) -> None:
        """
        The kernel did not take all of a block at once: the client is slower than we are.
        """
        self._run = 0

    def give(self, block: memoryview) -> None:
        """
        Have a block sent, after those that were given before.
        """
        outlet = self._outlet
        if outlet._thread is None:
            outlet._thread = Thread(target=outlet._work, name="kypello-outlet", daemon=True)
            outlet._thread.start()
        outlet._taken = True
        self.away += 1
        outlet._blocks.put((self, block))

    def collect(self) -> int:
        """
        Tell how many bytes were sent since the last time, of the blocks in order.

        When none is :attr:`away` any more, what was not sent of them is left to the caller.
        """
        # Before anything is taken: what comes from here on is told anew.
        self._telling = False
        sent, done = 0, len(self._sent)
        for _ in range(done):
            sent += self._sent.popleft()
        self.away -= done
        if done and not self.away:
            self._outlet._taken = False
            if self._stuck:
                self._stuck = False
                self.slow()
        return sent

    def _send(self, block: memoryview) -> None:
        """
        Called in the thread.
        """
        sent = 0
        if not self._stuck:
            try:
                sent = self._socket.send(block)
            except Exception:
                # Whatever it is, it shows again when the reactor's thread sends the same.
                sent = 0
            self._stuck = sent < len(block)
        self._sent.append(sent)
        if not self._telling and (self._stuck or self._outlet._blocks.qsize() < _LOW):
            self._telling = True
            self._outlet._reactor.callFromThread(self._returned)


def outlet_for(reactor: IReactorFromThreads) -> Outlet | None:
    """
    An outlet where there is a second core for it.
    """
    return Outlet(reactor) if len(os.sched_getaffinity(0)) > 1 else None

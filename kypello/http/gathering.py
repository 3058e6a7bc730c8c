# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Short answers of many connections, sent together.

To send wakes the peer, on another core perhaps, which costs more than all else of it.  Who has
several answers to take is awake still when the next comes.
"""

from time import perf_counter
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

#: An answer waits for others only if so many were given since the last one of its connection.
_FEW = 3

#: How long an answer waits for others at most, in seconds, but for the work on one of them.
_MOMENT = 0.003


class Gathered(Protocol):
    """
    A connection with an answer that waits.
    """

    def send_gathered(self) -> None:
        """
        The others are ready, too.
        """


@define(eq=False)
class Gathering:
    """
    The answers of one port in one turn of the reactor.

    :ivar _answers: How many there were so far.
    :ivar _waiting: Connections with answers that wait.
    :ivar _since: When the first of them began to.
    """

    _reactor: IReactorTime
    _answers: int = field(init=False, default=0)
    _waiting: list[Gathered] = field(init=False, factory=list)
    _since: float = field(init=False, default=0.0)

    def turn(self, last: int | None) -> tuple[int, bool]:
        """
        Count an answer.

        :param last: What this gave for the last answer of the connection, if there was one.
        :return: The number of the answer, and whether others are likely to come with it.
        """
        several = last is not None and self._answers - last >= _FEW
        self._answers += 1
        return self._answers, several

    def add(self, connection: Gathered) -> None:
        """
        Have a connection send at the end of this turn of the reactor, or in a moment.
        """
        now = perf_counter()
        if not self._waiting:
            self._since = now
            self._reactor.callLater(0, self._send)
        self._waiting.append(connection)
        if now - self._since > _MOMENT:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.send_gathered()

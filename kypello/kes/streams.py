# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The logs of a key server, told to clients while they are written.
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent
from zope.interface import implementer

from kypello.errors import BodyTruncated
from kypello.interfaces import IBodySource
from kypello.kes.metrics import Counts

#: How many bytes of lines wait for a client that does not take them: those who send requests decide
#: how long a line is.
WAITING = 1 << 20


@implementer(IBodySource)
@define(eq=False)
class LogStream:
    """
    One log for one client: lines of JSON, until somebody ends it.

    A client that does not keep up loses its connection rather than single lines, so that a log
    without a gap is a whole one.

    :ivar _leave: Called once when no more lines are wanted.
    :ivar _held: How many bytes wait.
    """

    _leave: Callable[["LogStream"], object]
    # A space before the first line has the answer begin before anything is logged.
    _lines: deque[bytes] = field(factory=lambda: deque([b" "]), repr=False)
    _held: int = 0
    _waiting: Deferred[None] | None = None
    _over: bool = False
    _overrun: bool = False
    size: int | None = None

    def tell(self, line: bytes) -> None:
        """
        Have a line sent.
        """
        if self._held + len(line) > WAITING:
            self._overrun = True
            self.end()
            return
        self._held += len(line)
        self._lines.append(line)
        self._wake()

    def end(self) -> None:
        """
        Send what waits, and no more.
        """
        if not self._over:
            self._over = True
            self._leave(self)
            self._wake()

    async def read(self) -> bytes:
        """
        All lines that wait, or the next one.
        """
        if not self._lines and not self._over:
            self._waiting = Deferred()
            try:
                await self._waiting
            finally:
                self._waiting = None
        block = b"".join(self._lines)
        self._lines.clear()
        self._held = 0
        if not block and self._overrun:
            raise BodyTruncated()
        return block

    def close(self) -> None:
        """
        Nobody reads any more.
        """
        self._lines.clear()
        # Who waited is the one that closes it.
        self._waiting = None
        self.end()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


@define(eq=False)
class Streams:
    """
    Both logs, and the clients that follow them.

    Clients see what is logged whether or not it is also written where the server runs.
    """

    _counts: Counts
    _errors: set[LogStream] = field(factory=set)
    _audits: set[LogStream] = field(factory=set)

    def follow_errors(self) -> LogStream:
        """
        The error log from now on.
        """
        return _joined(self._errors)

    def follow_audits(self) -> LogStream:
        """
        The audit log from now on.
        """
        return _joined(self._audits)

    def error(self, event: LogEvent) -> None:
        """
        Called by the logger with a line of the error log.
        """
        self._counts.errors += 1
        if self._errors:
            _tell(self._errors, json.dumps({"message": formatEvent(event)}))

    def audit(self, event: LogEvent) -> None:
        """
        Called by the logger with a record of the audit log.
        """
        record: Any = event.get("audit")
        if record is not None:
            self._counts.audits += 1
            _tell(self._audits, record)

    def end(self) -> None:
        """
        End all streams: the server stops.
        """
        for stream in (*self._errors, *self._audits):
            stream.end()


def _joined(streams: set[LogStream]) -> LogStream:
    stream = LogStream(streams.discard)
    streams.add(stream)
    return stream


def _tell(streams: set[LogStream], line: str) -> None:
    for stream in tuple(streams):
        stream.tell(line.encode() + b"\n")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One of several processes of an object server; the supervisor starts it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import ConfigurationError, KypelloError
from kypello.prepared import prepare
from kypello.process import run
from kypello.service import Running, Server
from kypello.workerprocess import RELOAD, REPLACE, RETIRE, STOP, Assignment

#: How long a worker that is replaced serves on the connections that it has, in seconds: who has
#: come just now is about to send a request.
_QUIET = 2.0

_log = Logger()


@implementer(IReadDescriptor)
class LifeLine:
    """
    The pipe from the supervisor: words, and its end.

    :ivar _descriptor: Of the pipe.
    :ivar _calls: What to do at each word.
    """

    def __init__(self, descriptor: int, calls: Mapping[bytes, Callable[[], object]]) -> None:
        """
        Heed what comes from *descriptor*.
        """
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._calls = calls

    def fileno(self) -> int:
        """
        Called by Twisted: what to watch.
        """
        return self._descriptor

    def logPrefix(self) -> str:
        """
        Called by Twisted: who it is, in its log.
        """
        return "supervisor"

    def doRead(self) -> None:
        """
        Called by Twisted: a word, or the end.

        When the supervisor has died, another one may be waiting for the data directory.  So
        this is a crash like any other: what was acknowledged is durable, and nothing else is
        waited for.
        """
        try:
            words = os.read(self._descriptor, 100)
        except BlockingIOError:
            return
        if not words:
            os._exit(1)
        for word in words:
            self._calls[bytes([word])]()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called by Twisted: the other end is closed, or the reactor ends.
        """
        self.doRead()


def main() -> int:
    """
    Serve until the supervisor wants no more, or is no more.

    :return: The exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # They may reach all processes of a group: the supervisor decides what comes of them.
        signal.signal(number, signal.SIG_IGN)
    assignment = Assignment.read(0)
    from twisted.internet import reactor  # noqa: PLC0415  # installed when it is imported

    failures: list[Failure] = []

    def started(running: Running) -> None:
        _report({"fingerprint": running.fingerprint, "trouble": running.trouble})

    def failed(failure: Failure) -> None:
        failures.append(failure)
        if failure.check(KypelloError):
            _report({"failed": str(failure.value)})
        else:
            _log.failure("the worker cannot start", failure)
            _report({"failed": f"a worker cannot start: {failure.getErrorMessage()}"})
        reactor.stop()

    def replace() -> None:
        _report(REPLACE)

    def stop() -> None:
        # Both the time and the supervisor may have said so.
        with suppress(ReactorNotRunning):
            reactor.stop()

    def retire() -> None:
        server.retire()
        reactor.callLater(_QUIET, stop)

    try:
        prepared = prepare(assignment.config, assignment.place)
        server = Server(reactor, prepared, started, failed, replace)
    except ConfigurationError as error:
        _report({"failed": "\n".join(error.mistakes)})
        return 1
    reactor.addReader(LifeLine(0, {RELOAD: server.reload, STOP: stop, RETIRE: retire}))
    run(reactor, server, signals=False)
    return 1 if failures else 0


def _report(report: dict[str, str]) -> None:
    os.write(1, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A worker process, as its supervisor sees it: how it is started, what is said to it and by it.

A worker reads from its standard input: its assignment, then words from the supervisor, and at
last an end, which means that the supervisor has died.  On its standard output it tells that it
has started, or why it cannot, and what it asks for.  Signals are for the supervisor; workers
ignore them.
"""

import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import kypello
from kypello.config import Config
from kypello.errors import ConfigurationError
from kypello.http.balance import Balance
from kypello.place import Place
from kypello.service import GRACE

#: How long to wait until a worker that ended is started again, at first and at most, in seconds.
BACK_OFF, LONGEST = 0.1, 30.0

#: Who has run for so long starts over with the shortest wait, in seconds.
_STEADY = 60.0

#: How long a worker may take to end beyond the time that requests have, in seconds.
_ENDING = 10.0

#: What a supervisor says to its workers.
RELOAD, STOP, RETIRE = b"r", b"s", b"t"

#: What a worker asks its supervisor for: to replace all workers.
REPLACE = {"asks": "replace"}

#: Bytes of the size of an assignment.
_SIZE = 4

_log = Logger()


@frozen
class Assignment:
    """
    What a worker is to do.  It holds secrets, and travels through a pipe.

    :ivar config: With credentials and KMS, wherever they came from.
    """

    config: Config
    place: Place

    def pack(self) -> bytes:
        """
        Write it, with its size in front.
        """
        packed = pickle.dumps(self)
        return len(packed).to_bytes(_SIZE, "big") + packed

    @classmethod
    def read(cls, descriptor: int) -> "Assignment":
        """
        Read the one that the supervisor of this process wrote; blocking.

        :raises EOFError: The supervisor has gone.
        """
        size = int.from_bytes(_read(descriptor, _SIZE), "big")
        # From the process that started this one, over a pipe that nobody else has.
        assignment: Assignment = pickle.loads(_read(descriptor, size))  # noqa: S301
        return assignment


class WorkerService(Service):
    """
    A worker process, started again when it ends.

    :ivar started: What the first process told when it had started; fails when it cannot.
    """

    def __init__(
        self,
        reactor: Any,
        assignment: Assignment,
        inherited: Mapping[int, int],
        balance: Balance,
        log: int | None,
        replace: Callable[[], object],
    ) -> None:
        """
        Describe a worker.

        :param inherited: Its descriptors, by those that it will have.
        :param balance: To be told when it accepts nothing.
        :param replace: Called when it asks for all workers to be replaced.
        """
        self._reactor = reactor
        self._assignment = assignment
        self._inherited = inherited
        self._balance = balance
        self._log = log
        self._replace = replace
        self.started: Deferred[dict[str, str]] = Deferred()
        self._process: IProcessTransport | None = None
        self._since = 0.0
        self._pause = BACK_OFF
        self._waiting: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._renewed: Deferred[None] | None = None
        self._renewing = False

    @property
    def number(self) -> int:
        """
        Which of the workers it is, from 0.
        """
        return self._assignment.place.worker

    def startService(self) -> None:
        """
        Called by Twisted: start the process.
        """
        Service.startService(self)
        self._spawn()

    def stopService(self) -> "Deferred[None]":
        """
        Called by Twisted: let the process finish what is under way, and wait for its end.
        """
        Service.stopService(self)
        self._stopped = Deferred()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._process is None:
            self._stopped.callback(None)
        else:
            self.tell(STOP)
            self._waiting = self._reactor.callLater(GRACE + _ENDING, self._kill)
        return self._stopped

    async def renew(self) -> None:
        """
        Let the process finish what is under way and end, and wait until another one serves.

        One that has ended already is about to be started anyway.

        :raises ConfigurationError: The other one cannot start now; it is tried again.
        """
        if self._process is None:
            return
        self._renewed, self._renewing = Deferred(), False
        self.tell(RETIRE)
        self._waiting = self._reactor.callLater(GRACE + _ENDING, self._kill)
        try:
            await self._renewed
        finally:
            self._renewed = None

    def tell(self, word: bytes) -> None:
        """
        Say :data:`RELOAD`, :data:`STOP` or :data:`RETIRE` to the process, if it runs.
        """
        if self._process is not None:
            self._process.writeToChild(0, word)

    def told(self, report: dict[str, str]) -> None:
        """
        Called when the process has started, or cannot, or asks for something.
        """
        if report == REPLACE:
            self._replace()
            return
        failed = report.get("failed")
        if self.started.called:
            self._tell_renewed(failed)
        elif failed is not None:
            self.started.errback(ConfigurationError((failed,)))
        else:
            self.started.callback(report)

    def _tell_renewed(self, failed: str | None) -> None:
        renewed, self._renewed = self._renewed, None
        if renewed is None:
            return
        if failed is None:
            renewed.callback(None)
        else:
            renewed.errback(ConfigurationError((failed,)))

    def ended(self, how: str) -> None:
        """
        Called when the process has ended.
        """
        self._process = None
        self._balance.away(self.number)
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        if self._renewed is not None and not self._renewing:
            self._renewing = True
            self._spawn()
            return
        self._tell_renewed(f"it ended ({how})")
        if self._reactor.seconds() - self._since > _STEADY:
            self._pause = BACK_OFF
        _log.error(
            "worker {number} ended ({how}); the others serve on, and it is started again in"
            " {pause:.1f} s",
            number=self.number,
            how=how,
            pause=self._pause,
        )
        self._waiting = self._reactor.callLater(self._pause, self._spawn)
        self._pause = min(2 * self._pause, LONGEST)

    def _kill(self) -> None:
        self._waiting = None
        if self._process is not None:
            _log.error("worker {number} does not end, and is killed", number=self.number)
            self._process.signalProcess(signal.SIGKILL)

    def _spawn(self) -> None:
        self._waiting = None
        self._since = self._reactor.seconds()
        log: int | str = "r" if self._log is None else self._log
        # The same code as here, whatever lies in the directory where this was started.
        paths = [str(Path(kypello.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = self._reactor.spawnProcess(
            _WorkerProcess(self),
            sys.executable,
            [sys.executable, "-P", "-m", "kypello.worker"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            childFDs={0: "w", 1: "r", 2: log, **self._inherited},
        )
        self._process.writeToChild(0, self._assignment.pack())


class _WorkerProcess(ProcessProtocol):
    """
    What a worker process says.
    """

    def __init__(self, service: WorkerService) -> None:
        """
        Speak to the process of *service*.
        """
        self._service = service
        self._parts = {1: b"", 2: b""}

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Called by Twisted: reports on 1, lines for the log on 2.
        """
        *lines, self._parts[childFD] = (self._parts[childFD] + data).split(b"\n")
        for line in lines:
            if childFD == 1:
                self._service.told(json.loads(line))
            else:
                text = line.decode("utf-8", "replace")
                _log.info("worker {number}: {text}", number=self._service.number, text=text)

    def processEnded(self, reason: Failure) -> None:
        """
        Called by Twisted: it is gone.
        """
        status: Any = reason.value
        how = f"exit code {status.exitCode}"
        if status.signal is not None:
            how = signal.Signals(status.signal).name
        self._service.ended(how)


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            raise EOFError("the supervisor has gone")
        data += part
    return data

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Several processes that serve one data directory, and the one that looks after them.

The supervisor opens the socket, holds the lock of the directory, runs the embedded key server
and starts the workers, which inherit what they share.  A worker reads from its standard input:
its assignment, then words from the supervisor, and at last an end, which means that the
supervisor has died.  On its standard output it tells that it has started, or why it cannot.
Signals are for the supervisor; workers ignore them.
"""

import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.application.service import MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    gatherResults,
)
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import kypello
from kypello.config import Config
from kypello.errors import ConfigurationError
from kypello.http.balance import Balance
from kypello.http.transport import open_socket
from kypello.place import Place, Shared
from kypello.service import GRACE, Prepared, Running, Server, embed, stop_all

#: How long to wait until a worker that ended is started again, at first and at most, in seconds.
BACK_OFF, LONGEST = 0.1, 30.0

#: Who has run for so long starts over with the shortest wait, in seconds.
_STEADY = 60.0

#: How long a worker may take to end beyond the time that requests have, in seconds.
_ENDING = 10.0

#: What a supervisor says to its workers.
RELOAD, STOP = b"r", b"s"

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


def worker_count(config: Config) -> int:
    """
    How many processes serve requests: one for each core that this one may use.
    """
    return config.workers or len(os.sched_getaffinity(0))


def make_server(
    reactor: Any,
    prepared: Prepared,
    started: Callable[[Running], object],
    failed: Callable[[Failure], object],
    log: int | None = None,
) -> "Server | Supervisor":
    """
    An object server in as many processes as it is to have; with one worker, in this one.

    :param started: Called when all of it listens, and knows its master key or will not wait.
    :param failed: Called instead when it cannot.
    :param log: The descriptor that workers write their log to; ``None`` to have them in the log
        of this process.
    """
    count = worker_count(prepared.config)
    if count == 1:
        return Server(reactor, prepared, started, failed)
    return Supervisor(reactor, prepared, count, started, failed, log)


class Supervisor(MultiService):
    """
    An object server in several processes.

    :ivar prepared: What it was made of.
    """

    def __init__(
        self,
        reactor: Any,
        prepared: Prepared,
        count: int,
        started: Callable[[Running], object],
        failed: Callable[[Failure], object],
        log: int | None = None,
    ) -> None:
        """
        Put the parts together; see :func:`make_server`.
        """
        super().__init__()
        self.prepared = prepared
        self._reactor = reactor
        self._started, self._failed = started, failed
        self._log, self._count = log, count
        self._starting: Deferred[None] | None = None
        self._key_server = embed(reactor, prepared, self)
        self._socket: socket.socket | None = None
        self._shared: Shared | None = None
        self._workers: list[WorkerService] = []

    def startService(self) -> None:
        """
        Called by Twisted: open the socket, and start the workers.
        """
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._fail)

    def stopService(self) -> "Deferred[None]":
        """
        Called by Twisted: let the workers finish what is under way, then end all parts.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """
        Have all workers use the TLS files as they are now.
        """
        for worker in self._workers:
            worker.tell(RELOAD)

    async def _start(self) -> None:
        config = self.prepared.config
        for warning in config.warnings:
            _log.warn("{text}", text=warning)
        self._socket = open_socket(config.host, config.port)
        port: int = self._socket.getsockname()[1]
        if self._key_server is not None:
            # Or each worker would complain that it is not there.
            await self._key_server
        lock = self.prepared.directory.lock
        shared = self._shared = Shared.make(self._count, self._socket.fileno(), lock)
        balance = Balance(0, self._count, shared.counts)
        assigned = evolve(config, root=self.prepared.root, kms=self.prepared.kms)
        for number in range(self._count):
            worker = WorkerService(
                self._reactor,
                Assignment(assigned, shared.place(number)),
                shared.inherited(number),
                balance,
                self._log,
            )
            worker.setServiceParent(self)
            self._workers.append(worker)
        reports = await _all([worker.started for worker in self._workers])
        told = [report for report in reports if report["fingerprint"]] or reports
        self._started(Running(self.prepared, port, told[0]["fingerprint"], told[0]["trouble"]))

    def _fail(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._failed(failure)

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._socket is not None:
            self._socket.close()
        await DeferredList([worker.stopService() for worker in self._workers])
        for worker in self._workers:
            worker.disownServiceParent()
        await stop_all(self)
        if self._shared is not None:
            self._shared.close()
        self.prepared.directory.close()


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
    ) -> None:
        """
        Describe a worker.

        :param inherited: Its descriptors, by those that it will have.
        :param balance: To be told when it accepts nothing.
        """
        self._reactor = reactor
        self._assignment = assignment
        self._inherited = inherited
        self._balance = balance
        self._log = log
        self.started: Deferred[dict[str, str]] = Deferred()
        self._process: IProcessTransport | None = None
        self._since = 0.0
        self._pause = BACK_OFF
        self._waiting: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

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

    def tell(self, word: bytes) -> None:
        """
        Say :data:`RELOAD` or :data:`STOP` to the process, if it runs.
        """
        if self._process is not None:
            self._process.writeToChild(0, word)

    def told(self, report: dict[str, str]) -> None:
        """
        Called when the process has started, or cannot.
        """
        if self.started.called:
            return
        if "failed" in report:
            self.started.errback(ConfigurationError((report["failed"],)))
        else:
            self.started.callback(report)

    def ended(self, how: str) -> None:
        """
        Called when the process has ended.
        """
        self._process = None
        self._balance.away(self.number)
        if self._stopped is not None:
            if self._waiting is not None and self._waiting.active():
                self._waiting.cancel()
            self._stopped.callback(None)
            return
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


async def _all(deferreds: list[Deferred[dict[str, str]]]) -> list[dict[str, str]]:
    try:
        return await gatherResults(deferreds, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
        raise


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            raise EOFError("the supervisor has gone")
        data += part
    return data

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Several processes that serve one data directory, and the one that looks after them.

The supervisor opens the socket, holds the lock of the directory, runs the embedded key server
and starts the workers, which inherit what they share; see ``workerprocess.py``.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.application.service import MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    gatherResults,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from kypello.config import Config
from kypello.errors import KypelloError
from kypello.http.balance import Balance
from kypello.http.port import open_socket
from kypello.place import Shared
from kypello.prepared import Prepared
from kypello.service import Running, Server, embed, stop_all
from kypello.workerprocess import RELOAD, Assignment, WorkerService

_log = Logger()


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
        self._replacing: Deferred[None] | None = None

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

    def replace(self) -> None:
        """
        Replace all workers, one after the other, by processes of the code and with the files as
        they are now; requests are served all the time.  If one cannot start, the others stay.
        """
        if self._replacing is None and self._workers:
            self._replacing = Deferred.fromCoroutine(self._replace())
            self._replacing.addErrback(self._not_replaced)

    async def _replace(self) -> None:
        _log.info("the workers are replaced")
        try:
            await _all([worker.started for worker in self._workers])
            for worker in self._workers:
                await worker.renew()
        finally:
            self._replacing = None
        _log.info("all workers are replaced")

    def _not_replaced(self, failure: Failure) -> None:
        if failure.check(KypelloError):
            _log.error("a worker is not replaced: {error}", error=failure.value)
        elif not failure.check(CancelledError):
            _log.failure("the workers are not replaced", failure)

    async def _start(self) -> None:
        config = self.prepared.config
        for warning in (*config.warnings, *config.unused):
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
                self.replace,
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
        if self._replacing is not None:
            self._replacing.cancel()
        if self._socket is not None:
            self._socket.close()
        await DeferredList([worker.stopService() for worker in self._workers])
        for worker in self._workers:
            worker.disownServiceParent()
        await stop_all(self)
        if self._shared is not None:
            self._shared.close()
        self.prepared.directory.close()


async def _all(deferreds: list[Deferred[dict[str, str]]]) -> list[dict[str, str]]:
    try:
        return await gatherResults(deferreds, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
        raise

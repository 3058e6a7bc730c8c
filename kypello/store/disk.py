# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The object store on a local disk, as a service.
"""

import os
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kypello.store.changes import Changes
from kypello.store.directory import DataDirectory
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.limited import LimitedStore
from kypello.store.probe import DiskProbe
from kypello.store.quotaledger import Ledger
from kypello.store.remembering import RememberingIndex
from kypello.store.sqlite import SQLiteIndex
from kypello.store.sweep import Sweeper
from kypello.store.undisturbed import given_up

#: How often leftovers are removed, in seconds.
SWEEP = 5.0

_log = Logger()


class DiskStore(Service):
    """
    A store in a data directory, swept while it runs; its buckets hold no more than their quotas.

    :ivar lanes: Threads for everybody.
    :ivar index: Where records are, for what belongs to no bucket.
    :ivar store: The objects, as they are: nothing is encrypted here.
    :ivar probe: Tells whether the disk works.
    """

    def __init__(
        self,
        reactor: Any,
        directory: DataDirectory,
        threads: int,
        *,
        worker: int = 0,
        workers: int = 1,
        changes: int = -1,
        quotas: int = -1,
    ) -> None:
        """
        Put the parts together.

        :param threads: For the disk, for digests and for encryption.
        :param worker: The number of this process, from 0, of those that share the directory.
        :param workers: How many there are.
        :param changes: The descriptor of the table in which they tell each other what changes.
        :param quotas: The same, of how full buckets with quotas are.
        """
        self._reactor = reactor
        self._directory = directory
        self.lanes = Lanes(reactor, threads)
        self._database = SQLiteIndex(directory.index, self.lanes)
        self.index = RememberingIndex(self._database, changes=Changes(worker, workers, changes))
        blobs = FileBlobs(directory.blobs, self.lanes)
        ledger = Ledger(worker, workers, quotas)
        self.store = LimitedStore(
            self.index, blobs, reactor, os.urandom, worker, workers, ledger=ledger
        )
        self._sweeper = Sweeper(self.index, blobs, self.store.intents)
        self.probe = DiskProbe(
            self._database, blobs, directory.path / f"probe-{worker}", self.lanes
        )
        self._first = not worker
        self._sweeping: Deferred[None] | None = None
        self._counting: Deferred[None] | None = None

    def startService(self) -> None:
        """
        Called by Twisted: start the threads, and remove what an earlier process left.
        """
        Service.startService(self)
        self.lanes.start()
        self._sweeping = Deferred.fromCoroutine(self._sweep())
        if self._first:
            self._counting = Deferred.fromCoroutine(self._count())

    def stopService(self) -> "Deferred[None]":
        """
        Called by Twisted: end the sweeper, then close everything.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _sweep(self) -> None:
        while True:
            try:
                await self._sweeper.sweep()
            except CancelledError:
                raise
            except Exception:
                _log.failure("sweeping failed, and is tried again")
            await deferLater(self._reactor, SWEEP)

    async def _count(self) -> None:
        """
        Count the buckets with quotas before somebody waits for that.
        """
        try:
            for info in await self.store.buckets():
                await self.store.quotas.used(info)
        except CancelledError:
            raise
        except Exception:
            _log.failure("buckets with quotas are not counted before somebody writes to them")

    async def _stop(self) -> None:
        for running in (self._sweeping, self._counting):
            if running is not None:
                await given_up(running, self._reactor)
        self._sweeping = self._counting = None
        self.store.quotas.stop()
        await self._database.close()
        await self.lanes.stop()
        self._directory.close()

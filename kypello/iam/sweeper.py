# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sessions that are long over are forgotten, now and then.
"""

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kypello.errors import KypelloError

#: How often, in seconds.
INTERVAL = 60.0

_log = Logger()


class Sweeps(Protocol):
    """
    Removes what is over (:class:`kypello.iam.accounts.Accounts`).
    """

    async def sweep(self) -> int:
        """
        Remove some; tell how many.
        """


class SessionSweeper(Service):
    """
    Sweeps while it runs.
    """

    def __init__(self, accounts: Sweeps, clock: IReactorTime) -> None:
        """
        Sweep *accounts*.
        """
        self._accounts = accounts
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._sweep()))
        self._loop.clock = clock

    def startService(self) -> None:
        """
        Called by Twisted: begin in a while.
        """
        Service.startService(self)
        self._loop.start(INTERVAL, now=False).addErrback(
            lambda failure: _log.failure("sessions are not swept any more", failure)
        )

    def stopService(self) -> None:
        """
        Called by Twisted: sweep no more.
        """
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    async def _sweep(self) -> None:
        try:
            while await self._accounts.sweep():
                pass
        except KypelloError as error:
            _log.warn("sessions are not swept, and will be: {error}", error=error)

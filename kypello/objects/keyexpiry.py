# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Opened keys are forgotten when their time is over, also when nobody asks for them any more.
"""

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kypello.objects.datakeys import DataKeys

#: How often one part of them is looked at, in seconds.
INTERVAL = 1.0

_log = Logger()


class KeyExpiry(Service):
    """
    Forgets expired keys while it runs.
    """

    def __init__(self, keys: DataKeys, clock: IReactorTime, *, shared: bool) -> None:
        """
        Forget those of *keys*.

        :param shared: Whether this process wipes what all processes share: one is enough.
        """
        self._loop = LoopingCall(keys.expire, shared=shared)
        self._loop.clock = clock

    def startService(self) -> None:
        """
        Called by Twisted: begin.
        """
        Service.startService(self)
        self._loop.start(INTERVAL, now=False).addErrback(
            lambda failure: _log.failure("expired keys are not forgotten any more", failure)
        )

    def stopService(self) -> None:
        """
        Called by Twisted: end.
        """
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Says how much data hangs on a master key that a key server has lost, or holds otherwise.
"""

from datetime import UTC, datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kypello.objects.keyusage import KeyUsage

#: How long nothing is said of a key again, in seconds: to count reads the whole index.
QUIET = 3600.0

_log = Logger()


class LossReport(Service):
    """
    Counts what needs a master key, and logs it.

    A count is made once in an hour for each key, and ends with the service.
    """

    def __init__(self, reactor: Any, usage: KeyUsage) -> None:
        """
        :param usage: Counts.
        """
        self._reactor = reactor
        self._usage = usage
        self._told: dict[str, float] = {}
        self._counting: dict[str, Deferred[None]] = {}

    def lost(self, key_name: str) -> None:
        """
        Have it counted what needs a master key, unless it was lately.
        """
        now = self._reactor.seconds()
        if not self.running or now - self._told.get(key_name, -QUIET) < QUIET:
            return
        self._told[key_name] = now
        counting = Deferred.fromCoroutine(self._count(key_name))
        if not counting.called:
            self._counting[key_name] = counting
        counting.addBoth(self._ended, key_name)

    def stopService(self) -> None:
        """
        Called by Twisted: count no more.
        """
        Service.stopService(self)
        for counting in list(self._counting.values()):
            counting.cancel()

    async def _count(self, key_name: str) -> None:
        use = await self._usage.of(key_name)
        if use.known is not None:
            since = datetime.fromtimestamp(use.known.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
            _log.error(
                "{use} need the master key {name} with the fingerprint {fingerprint}, in use since"
                " {since}: a key server does not hold it",
                use=use,
                name=key_name,
                fingerprint=use.known.fingerprint,
                since=since,
            )

    def _ended(self, outcome: Failure | None, key_name: str) -> None:
        self._counting.pop(key_name, None)
        if isinstance(outcome, Failure) and not outcome.check(CancelledError):
            del self._told[key_name]
            _log.failure("what needs the master key {name} is not counted", outcome, name=key_name)

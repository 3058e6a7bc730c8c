# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Waits for the default master key, so that the first encrypted write need not find out.
"""

from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from kypello.errors import KypelloError
from kypello.objects.canary import GuardedKMS

#: How long to wait before the key is asked for again, at first and at most, in seconds.
RETRY, LONGEST = 0.1, 30.0

_log = Logger()


class KeyWatch(Service):
    """
    Asks for the default master key until the KMS proves to hold it, and tells what it finds.

    :ivar fingerprint: Of the key; empty until it is known.
    :ivar trouble: Why it is not known yet; ``None`` until it was asked for.
    """

    def __init__(
        self,
        reactor: Any,
        kms: GuardedKMS,
        after: "Deferred[None] | None" = None,
        *,
        quiet: bool = False,
    ) -> None:
        """
        Watch the default key of *kms*.

        :param after: Begin when this fires; ``None`` for at once.
        :param quiet: Leave it to another process to tell the fingerprint.
        """
        self._after = after
        self._reactor = reactor
        self._kms = kms
        self._quiet = quiet
        self.fingerprint = ""
        self.trouble: KypelloError | None = None
        self._proved: Deferred[None] = Deferred()
        self._watching: Deferred[None] | None = None

    def startService(self) -> None:
        """
        Called by Twisted: begin to ask.
        """
        Service.startService(self)
        self._watching = Deferred.fromCoroutine(self._watch())
        self._watching.addErrback(self._failed)

    def stopService(self) -> None:
        """
        Called by Twisted: ask no more.
        """
        Service.stopService(self)
        if self._watching is not None:
            self._watching.cancel()

    async def proved(self, most: float) -> None:
        """
        Wait until the key is known, but no longer than *most* seconds.  To be called once.
        """
        try:
            await self._proved.addTimeout(most, self._reactor)
        except defer.TimeoutError:
            _log.debug("the server starts without its master key")

    async def _watch(self) -> None:
        if self._after is not None:
            await self._after
        pause = RETRY
        while not await self._known():
            await deferLater(self._reactor, pause)
            pause = min(2 * pause, LONGEST)
        _log.emit(
            LogLevel.debug if self._quiet else LogLevel.info,
            "the master key {name} has the fingerprint {fingerprint}",
            name=self._kms.default_key,
            fingerprint=self.fingerprint,
        )
        if not self._proved.called:
            self._proved.callback(None)

    async def _known(self) -> bool:
        try:
            self.fingerprint = await self._kms.prove(self._kms.default_key)
        except KypelloError as error:
            if repr(error) != repr(self.trouble):
                _log.warn(
                    "the master key {name} cannot be used yet: {error}",
                    name=self._kms.default_key,
                    error=error,
                )
            self.trouble = error
            return False
        return True

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("the master key is watched no more", failure)

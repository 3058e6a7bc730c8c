# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The audit log of a key server to a webhook, where nobody on this machine can change it.

Lines go in order, several in one request, and again until they are taken: a line can come twice.
What waits is in memory, and bounded; the file is the record that survives a kill.
"""

from collections import deque
from itertools import islice
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import ILanes
from kypello.kes.auditconfig import HookSettings
from kypello.kes.wire import LINES
from kypello.keystore.web import WebClient
from kypello.keystore.webtls import TLSFiles

#: How many bytes of lines wait for a webhook that does not take them.
WAITING = 8 << 20

#: How many lines one request brings at most.
_TOGETHER = 500

#: How long nothing is sent after a failure, in seconds: at first, and at most.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0

#: How long the end of the server waits for the last lines, in seconds.
_LAST = 5.0

_log = Logger()


@define(eq=False)
class Hook:
    """
    Sends lines, if there is somewhere to send them to.

    All methods belong to the reactor thread.

    :ivar _lines: That wait, the oldest first.
    :ivar _held: How many bytes these are.
    :ivar _lost: How many found no room since the last that did.
    :ivar _pause: For how long the next failure stops everything, in seconds.
    :ivar _until: Until when nothing is sent, in seconds of the clock.
    """

    _reactor: Any
    _lanes: ILanes
    _settings: HookSettings | None = None
    _web: WebClient | None = None
    _lines: deque[bytes] = field(factory=deque, repr=False)
    _held: int = 0
    _lost: int = 0
    _pause: float = _FIRST_PAUSE
    _until: float = float("-inf")
    _sending: Deferred[None] | None = None

    def use(self, settings: HookSettings | None) -> None:
        """
        Send to another place from now on; what waits goes there, too.
        """
        if settings == self._settings:
            return
        self._settings, self._web = settings, None
        self._pause, self._until = _FIRST_PAUSE, float("-inf")
        if settings is None:
            self._lines.clear()
            self._held = 0
            return
        files = TLSFiles(ca=settings.ca)
        place = "kypello.audit.webhook.ca"
        self._web = WebClient.make(self._reactor, files, self._lanes, place)

    def tell(self, line: bytes) -> None:
        """
        Have a line sent, which has no end.

        What finds no room is told in the log.
        """
        if self._settings is None:
            return
        if self._held + len(line) > WAITING:
            if not self._lost:
                _log.critical("the webhook for the audit log takes nothing: records are lost")
            self._lost += 1
            return
        if self._lost:
            _log.critical("{lost} records were not sent to the webhook", lost=self._lost)
            self._lost = 0
        self._lines.append(line)
        self._held += len(line)

    async def flush(self) -> None:
        """
        Send what waits; called now and then, and not before the last call has ended.
        """
        if self._reactor.seconds() < self._until:
            return
        self._sending = Deferred.fromCoroutine(self._flush())
        try:
            await self._sending
        except CancelledError:
            # The server ends, and tries once more itself.
            return
        finally:
            self._sending = None

    async def close(self) -> None:
        """
        Try once more to send what waits, and send no more.
        """
        if self._sending is not None:
            self._sending.cancel()
        working = Deferred.fromCoroutine(self._flush())
        working.addTimeout(_LAST, self._reactor)
        try:
            await working
        except DeferredTimeout:
            _log.error("the webhook for the audit log does not answer in time")
        if self._lines or self._lost:
            left = len(self._lines) + self._lost
            _log.critical("{left} records were not sent to the webhook", left=left)
        self.use(None)

    async def _flush(self) -> None:
        while self._lines:
            lines = tuple(islice(self._lines, _TOGETHER))
            try:
                await self._send(lines)
            except (KeyStoreUnreachable, KeyStoreFailed) as error:
                self._failed(error.reason)
                return
            self._pause = _FIRST_PAUSE
            for line in lines:
                # They are gone when there was nowhere to send them to meanwhile.
                if self._lines and self._lines[0] is line:
                    self._held -= len(self._lines.popleft())

    async def _send(self, lines: tuple[bytes, ...]) -> None:
        settings, web = self._settings, self._web
        assert settings is not None and web is not None
        headers = Headers({"Content-Type": [LINES]})
        if settings.token:
            headers.addRawHeader("Authorization", f"Bearer {settings.token}")
        body = b"".join(line + b"\n" for line in lines)
        answer = await web.call("POST", settings.url, headers, body)
        if not 200 <= answer.status < 300:
            raise KeyStoreFailed(f"it answers {answer.status}")

    def _failed(self, reason: str) -> None:
        _log.error(
            "the webhook does not take the audit log, it is tried again in {pause} seconds:"
            " {reason}",
            pause=self._pause,
            reason=reason,
        )
        self._until = self._reactor.seconds() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

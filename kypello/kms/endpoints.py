# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One key server: how it is reached, and what we believe of it.
"""

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse

from kypello.kms.reasons import explain
from kypello.kms.troubles import Troubles
from kypello.kms.wire import trouble_of

_log = Logger()


@frozen
class Patience:
    """
    How long is waited, in seconds.

    :ivar attempt: For the answer of one server.
    :ivar overall: For a request, whatever number of servers it was sent to.
    :ivar pause: Before a request goes round a second time.
    :ivar first_probe: Between a failure and the first probe; it doubles with each.
    :ivar last_probe: Between two probes at most.
    :ivar slow: From when on an answer is slow, so that others are asked first; nobody waits longer
        for a server that is put aside.
    """

    attempt: float = 5.0
    overall: float = 15.0
    pause: float = 0.3
    first_probe: float = 1.0
    last_probe: float = 10.0
    slow: float = 1.0


@define(eq=False)
class Endpoint:
    """
    One server.

    One that failed is put aside, and is probed apart from requests until it answers.  One that is
    slow comes after the others, and is probed until it is not.  What another process has found out
    counts like a failure of a request of this one; that it is back is believed after a probe, as it
    may be back for the other one alone.

    :ivar url: Without a slash at its end.
    :ivar trouble: Why it is put aside, for people; empty when it is believed up.
    :ivar slow: Whether its last answer took long.
    :ivar proved: The master keys that it has proved to hold since it was last away, and when.
    :ivar proving: Held by who asks it for such a proof.
    :ivar refused: Why it is not used for a master key, for people, by the name of the key.
    :ivar _agent: Reaches it; must give complete responses.
    :ivar _probe: The path of a probe.
    :ivar _troubles: What other processes tell of it.
    :ivar _let_go: Closes idle connections, which may be as dead as the one that failed.
    :ivar _pause: Before the next probe; goes on where it was when the server answers a probe
        and fails at the next request.
    """

    url: str
    _agent: IAgent
    _clock: IReactorTime
    _probe: bytes
    _patience: Patience = field(factory=Patience)
    _let_go: Callable[[], object] = lambda: None
    _troubles: Troubles = field(factory=Troubles)
    trouble: str = field(init=False, default="")
    slow: bool = field(init=False, default=False)
    proved: dict[str, float] = field(init=False, factory=dict)
    proving: DeferredLock = field(init=False, factory=DeferredLock)
    refused: dict[str, str] = field(init=False, factory=dict)
    _running: bool = field(init=False, default=False)
    _pause: float = field(init=False, default=0.0)
    _waiting: IDelayedCall | None = field(init=False, default=None)
    _probing: "Deferred[str] | None" = field(init=False, default=None)

    def start(self) -> None:
        """
        Begin to probe when there is need.
        """
        self._running = True

    def stop(self) -> None:
        """
        Probe no more.
        """
        self._running = False
        self._rest()

    def request(
        self,
        method: bytes,
        path: bytes,
        headers: Headers | None = None,
        body: IBodyProducer | None = None,
        *,
        seconds: float,
    ) -> "Deferred[IResponse]":
        """
        Send it a request, whatever is believed of it.

        :param seconds: When to give up with Twisted's ``defer.TimeoutError``.
        :return: Fires with a ``CompleteResponse``.  It ends at once when it is cancelled,
            whatever becomes of the connection.
        """
        uri = self.url.encode("ascii") + path
        # An answer is judged as it comes.
        headers = Headers() if headers is None else headers.copy()
        headers.removeHeader(b"accept-encoding")
        asking = _detached(self._agent.request(method, uri, headers, body))
        return asking.addTimeout(seconds, self._clock)

    def doubt(self) -> None:
        """
        It has been away: it may be another one that answers now.
        """
        # Whoever is about to note a proof has the old one.
        self.proved = {}

    def failed(self, trouble: str) -> None:
        """
        Put it aside.
        """
        if not self._running:
            return
        if not self.trouble:
            _log.warn("the key server {url} is put aside: {trouble}", url=self.url, trouble=trouble)
            self._troubles.tell(trouble)
        self._put_aside(trouble)

    def heed(self) -> None:
        """
        Heed what other processes have found out about it.
        """
        news = self._troubles.news() if self._running else None
        if news and not self.trouble:
            _log.debug("others have put {url} aside: {trouble}", url=self.url, trouble=news)
            self._put_aside(news)
        elif news == "" and self.trouble:
            # What a probe waits for may never come: it asks over a connection of before.
            self._rest()
            self._let_go()
            self._begin_probe()

    def works(self, took: float) -> None:
        """
        It has answered a request.

        :param took: How long that took, in seconds.
        """
        self._pause = 0.0
        self._answered(took)

    def _put_aside(self, trouble: str) -> None:
        self.doubt()
        if not self.trouble:
            self._let_go()
        self.trouble = trouble
        self._watch()

    def _answered(self, took: float) -> None:
        slow = took > self._patience.slow
        if slow and not self.slow:
            _log.warn("the key server {url} takes {took:.1f} seconds", url=self.url, took=took)
        elif not slow and (self.trouble or self.slow):
            _log.info("the key server {url} is back", url=self.url)
        if self.trouble:
            self._troubles.tell("")
        self.trouble, self.slow = "", slow
        if not slow:
            self._rest()
        elif self._running:
            self._watch()

    def _watch(self) -> None:
        if self._waiting is None and self._probing is None:
            self._probe_later()

    def _rest(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()

    def _probe_later(self) -> None:
        patience = self._patience
        self._pause = min(max(2 * self._pause, patience.first_probe), patience.last_probe)
        self._waiting = self._clock.callLater(self._pause, self._begin_probe)

    def _begin_probe(self) -> None:
        self._waiting = None
        self._probing = Deferred.fromCoroutine(self._ask())
        began = self._clock.seconds()
        self._probing.addCallbacks(self._probed, self._not_probed, (began,))

    async def _ask(self) -> str:
        try:
            response: Any = await self.request(b"GET", self._probe, seconds=self._patience.attempt)
        except CancelledError:
            raise
        except Exception as error:
            return explain(error)
        return trouble_of(self._probe, response.code, response.body)

    def _probed(self, trouble: str, began: float) -> None:
        self._probing = None
        if not trouble:
            self._answered(self._clock.seconds() - began)
            return
        self.trouble = trouble
        self._let_go()
        self._probe_later()

    def _not_probed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("a probe of {url} has ended", failure, url=self.url)


def _detached(work: "Deferred[IResponse]") -> "Deferred[IResponse]":
    def cancel(outcome: "Deferred[IResponse]") -> None:
        outcome.errback(CancelledError())
        work.cancel()

    def done(result: Any) -> None:
        if not outcome.called:
            outcome.callback(result)
        elif isinstance(result, Failure):
            _log.debug("what was given up ended with {error}", error=result.value)

    outcome: Deferred[IResponse] = Deferred(cancel)
    work.addBoth(done)
    return outcome

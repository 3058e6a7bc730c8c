# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sends what waits to its targets, in one process of the server.

Events about one key are sent one after the other, in their order; those about different keys at
the same time.  An event leaves the queue after its target has taken it, so that it is sent again
when the server dies between the two.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.errors import Damaged, KypelloError, NotAuthentic
from kypello.events.counts import TargetCounts
from kypello.events.queue import Queue
from kypello.events.sealing import Kept, Sealer, unpack
from kypello.events.webhook import AT_ONCE, Undelivered
from kypello.model import Write

#: How often it is looked whether something waits, in seconds; that is a look at shared memory.
INTERVAL = 0.2

#: How long a target that does not take events is left alone, in seconds: twice as long each time.
_SHORTEST, _LONGEST = 1.0, 60.0

#: How long events are sent on when the server stops, in seconds.
DRAIN = 5.0

#: How many events are read at once.
_PAGE = 200

_log = Logger()


class Sends(Protocol):
    """
    A target (:class:`kypello.events.webhook.Webhook`).
    """

    @property
    def name(self) -> str:
        """
        What it is called.
        """

    async def prepare(self) -> None:
        """
        Get ready to send.

        :raises Undelivered: It cannot be.
        """

    async def send(self, message: bytes) -> None:
        """
        Send an event.

        :raises Undelivered: It may have arrived all the same.
        """

    async def close(self) -> None:
        """
        Close what is open.
        """


@define(eq=False)
class Delivery:
    """
    Sends events to one target.

    :ivar _stopping: Whether to end as soon as nothing waits, or something fails.
    :ivar _backoff: How long the target is left alone after its last failure, in seconds; none when
        all is well.
    :ivar _until: When that is over.
    :ivar _held: How many events wait as they, or earlier ones about the same, were refused;
        ``None`` when the target takes nothing.
    :ivar _taken: How many events the target has taken.
    :ivar _pardoned: How many it had taken when it last failed at one.
    :ivar _failed: How many it had taken when it was last left alone.
    :ivar _blocked: About what an event was refused since the last time that all were tried.
    :ivar _pause: What ends the current pause.
    """

    _target: Sends
    _queue: Queue
    _sealer: Sealer
    _counts: TargetCounts
    _clock: IReactorTime
    _stopping: bool = field(init=False, default=False)
    _backoff: float = field(init=False, default=0.0)
    _until: float = field(init=False, default=0.0)
    _held: int | None = field(init=False, default=None)
    _taken: int = field(init=False, default=0)
    _pardoned: int = field(init=False, default=0)
    _failed: int = field(init=False, default=0)
    _blocked: set[str] = field(init=False, factory=set)
    _pause: "Deferred[None] | None" = field(init=False, default=None)

    @property
    def name(self) -> str:
        """
        What the target is called.
        """
        return self._target.name

    async def run(self) -> None:
        """
        Send until it is stopped.
        """
        try:
            await self._count()
            while True:
                if self._is_due():
                    await self._attempt()
                if self._stopping and (self._backoff or not self._counts.waiting):
                    return
                if not self._stopping and not self._is_due():
                    await self._sleep(INTERVAL)
        finally:
            await self._target.close()

    def stop(self) -> None:
        """
        End as soon as nothing waits, or something fails.
        """
        self._stopping = True
        self._wake()

    async def _count(self) -> None:
        """
        See how much waits from before.
        """
        try:
            queued, found, after = self._counts.total("queued"), 0, b""
            while page := await self._queue.page(self.name, after, _PAGE):
                found, after = found + len(page), page[-1][0]
            self._counts.correct(queued, found)
        except KypelloError as error:
            self._fail(str(error))

    def _is_due(self) -> bool:
        """
        Whether there is something to send now.
        """
        if not self._backoff:
            return self._counts.waiting > 0
        if self._clock.seconds() >= self._until:
            return True
        # What was refused holds up nothing else.
        return self._held is not None and self._counts.waiting > self._held

    async def _attempt(self) -> None:
        """
        Send what waits.
        """
        if self._clock.seconds() >= self._until:
            self._blocked.clear()
        try:
            await self._target.prepare()
            refused = await self._round()
        except CancelledError:
            if self._stopping:
                raise
            self._fail("a request was given up")
        except (Undelivered, KypelloError) as error:
            self._fail(str(error))
        except Exception:
            _log.failure("events for {name} are not sent", name=self.name)
            self._fail("see above")
        else:
            if refused:
                self._fail(f"it refuses {refused} events", refused)
            elif self._backoff:
                self._backoff = 0.0
                _log.info("the target {name} takes events again", name=self.name)

    def _fail(self, trouble: str, held: int | None = None) -> None:
        """
        Leave the target alone for a while.

        :param held: How many events are refused, if others are not.
        """
        if not self._backoff:
            _log.warn(
                "the target {name} does not take events, which wait: {trouble}",
                name=self.name,
                trouble=trouble,
            )
        now, self._held = self._clock.seconds(), held
        if now >= self._until:
            if self._taken > self._failed and held is None:
                # It fails now and then only: what it takes shall not wait for long.
                self._backoff = 0.0
            self._backoff = min(_LONGEST, 2 * self._backoff) or _SHORTEST
            self._until, self._failed = now + self._backoff, self._taken

    async def _round(self) -> int:
        """
        Send all that waits.

        :return: How many events were refused, or wait for one that was; there is no more to do
            for now.
        :raises Undelivered: The target takes nothing.
        """
        after, left = b"", 0
        while True:
            queued = self._counts.total("queued")
            page = await self._queue.page(self.name, after, _PAGE)
            if not page:
                self._counts.correct(queued, left)
                return left
            chains, gone = self._sort(page)
            await self._send_all(chains, gone)
            left += len(page) - len(gone)
            if chains and not gone:
                # It refuses whatever it is sent.
                return self._counts.waiting
            # Others may still keep events that belong before those that were just sent.
            after = page[-1][0] if left else b""

    def _sort(
        self, page: Sequence[tuple[bytes, bytes]]
    ) -> tuple[dict[str, list[tuple[bytes, Kept]]], list[Write]]:
        """
        Events to send, by what they are about, and those that nobody can read.
        """
        chains: dict[str, list[tuple[bytes, Kept]]] = {}
        gone: list[Write] = []
        for place, value in page:
            try:
                kept = unpack(value)
            except Damaged as error:
                self._lose(error)
                gone.append(Write(place, None))
                continue
            if kept.subject not in self._blocked:
                chains.setdefault(kept.subject, []).append((place, kept))
        return chains, gone

    async def _send_all(
        self, chains: dict[str, list[tuple[bytes, Kept]]], gone: list[Write]
    ) -> None:
        """
        Send events, and remove from the queue what was taken.

        :param gone: What leaves the queue; gets what was taken.
        :raises Undelivered: The target takes nothing.
        """
        sending = _Sending(self, iter(chains.items()), gone, self._blocked)
        workers = [Deferred.fromCoroutine(sending.work()) for _ in range(AT_ONCE)]
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            # Whoever cancels wants to see that.
            error.subFailure.raiseException()
        finally:
            for worker in workers:
                worker.cancel()
            if gone:
                await self._queue.change(gone)
                self._counts.add("removed", len(gone))
        if sending.trouble is not None:
            raise sending.trouble

    async def send(self, place: bytes, kept: Kept) -> None:
        """
        Send an event; what can never be opened is lost, and logged.

        :raises Undelivered:
        """
        try:
            content = await self._sealer.open(place, kept)
        except (Damaged, NotAuthentic) as error:
            self._lose(error)
            return
        except KypelloError as error:
            raise Undelivered(str(error)) from error
        try:
            await self._target.send(content)
        except Undelivered:
            self._counts.add("failed")
            raise
        self._counts.add("sent")
        self._taken += 1

    def pardons(self) -> bool:
        """
        Called when the target fails at an event: whether it need not mean that it takes nothing, as
        it has taken some since it failed last.
        """
        pardoned, self._pardoned = self._taken > self._pardoned, self._taken
        return pardoned

    def _lose(self, error: KypelloError) -> None:
        self._counts.add("dropped")
        _log.error("an event for {name} is lost: {error}", name=self.name, error=error)

    async def _sleep(self, seconds: float) -> None:
        pause: Deferred[None] = Deferred()
        self._pause = pause
        timer = self._clock.callLater(seconds, self._wake)
        try:
            await pause
        finally:
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)


@define(eq=False)
class _Sending:
    """
    Some events on their way.

    :ivar _chains: About what, and the events in their order.
    :ivar _gone: Gets what leaves the queue.
    :ivar _blocked: Gets about what an event was refused.
    :ivar trouble: Why the target takes nothing; ``None`` while it does.
    """

    _delivery: Delivery
    _chains: Iterator[tuple[str, list[tuple[bytes, Kept]]]]
    _gone: list[Write]
    _blocked: set[str]
    trouble: Undelivered | None = field(init=False, default=None)

    async def work(self) -> None:
        """
        Send chain after chain.
        """
        for subject, chain in self._chains:
            for place, kept in chain:
                if self.trouble is not None:
                    return
                try:
                    await self._delivery.send(place, kept)
                except Undelivered as error:
                    if not error.of_the_event and not self._delivery.pardons():
                        self.trouble = error
                        return
                    self._blocked.add(subject)
                    break
                self._gone.append(Write(place, None))


class Deliveries(Service):
    """
    Sends events to all targets while it runs.
    """

    def __init__(self, reactor: Any, deliveries: Sequence[Delivery]) -> None:
        """
        Send what *deliveries* have.
        """
        self._reactor = reactor
        self._deliveries = deliveries
        self._running: list[Deferred[None]] = []

    def startService(self) -> None:
        """
        Called by Twisted: begin.
        """
        Service.startService(self)
        self._running = [self._start(each) for each in self._deliveries]

    def stopService(self) -> "Deferred[Any]":
        """
        Called by Twisted: send what waits, for a while, and leave the rest for the next start.
        """
        Service.stopService(self)
        for each in self._deliveries:
            each.stop()
        waiting = [running.addTimeout(DRAIN, self._reactor) for running in self._running]
        return gatherResults(waiting)

    def _start(self, delivery: Delivery) -> "Deferred[None]":
        running = Deferred.fromCoroutine(delivery.run())
        return running.addErrback(self._ended, delivery.name)

    def _ended(self, failure: Any, name: str) -> None:
        if not failure.check(CancelledError):
            _log.failure("no events are sent to {name} any more", failure, name=name)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Takes events: tells those who listen, and keeps what targets are to be sent.
"""

from collections.abc import Iterable, Mapping

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kypello.eventconfig import WebhookSettings
from kypello.events.broadcast import EVENT, Broadcast
from kypello.events.counts import Counts, TargetCounts
from kypello.events.queue import Queue
from kypello.events.record import Source, in_clear, is_sealed, listed, message, subject
from kypello.events.rules import SETTING, targets_of
from kypello.events.sealing import Kept, Sealer, pack
from kypello.interfaces import IEventSink
from kypello.model import Event, Write
from kypello.store.undisturbed import undisturbed

#: How often it is logged that events of a target are lost, in seconds.
_COMPLAIN = 60.0

_log = Logger()


@implementer(IEventSink)
@define(eq=False)
class EventSink:
    """
    Where a server's events go.

    :ivar _targets: By name.
    :ivar _complained: When what is wrong with a target was logged last.
    """

    _broadcast: Broadcast
    _queue: Queue
    _sealer: Sealer
    _source: Source
    _clock: IReactorTime
    _targets: Mapping[str, tuple[int, TargetCounts]]
    _complained: dict[str, float] = field(init=False, factory=dict)

    @classmethod
    def make(
        cls,
        broadcast: Broadcast,
        queue: Queue,
        sealer: Sealer,
        source: Source,
        clock: IReactorTime,
        webhooks: Iterable[WebhookSettings],
        counts: Counts,
    ) -> "EventSink":
        """
        One that keeps events for some targets.
        """
        targets = {one.name: (one.limit, TargetCounts(counts, one.name)) for one in webhooks}
        return cls(broadcast, queue, sealer, source, clock, targets)

    def wanted(self, settings: Mapping[str, bytes]) -> bool:
        """
        Whether anybody may want to hear of a bucket.
        """
        return SETTING in settings or self._broadcast.wanted(EVENT)

    async def tell(self, event: Event, settings: Mapping[str, bytes]) -> None:
        """
        Tell an event.
        """
        rules = settings.get(SETTING)
        try:
            if self._broadcast.wanted(EVENT):
                self._broadcast.tell(EVENT, listed(event, self._source))
            names = frozenset[str]() if rules is None else targets_of(rules, event.name, event.key)
            if names:
                await undisturbed(self._keep(event, names))
        except Exception:
            # What the event tells has been done, and stays so.
            _log.failure("an event about {bucket} is not told", bucket=event.bucket)

    async def _keep(self, event: Event, names: frozenset[str]) -> None:
        """
        Keep an event for several targets, in one commit.
        """
        writes: list[Write] = []
        kept: list[TargetCounts] = []
        for name in sorted(names):
            found = self._targets.get(name)
            if found is None:
                self._complain(name, "is not configured")
                continue
            limit, counts = found
            if counts.waiting >= limit:
                counts.add("dropped")
                self._complain(name, f"has {limit} events waiting already")
                continue
            place = self._queue.place(name)
            writes.append(Write(place, pack(await self._packed(place, event))))
            kept.append(counts)
        if not writes:
            return
        outcome = "dropped"
        try:
            await self._queue.change(writes)
            outcome = "queued"
        finally:
            for counts in kept:
                counts.add(outcome)

    async def _packed(self, place: bytes, event: Event) -> Kept:
        about = subject(event)
        if not is_sealed(event):
            return Kept(about, message(event, self._source))
        kept = await self._sealer.seal(place, about, message(event, self._source))
        if kept is None:
            # Better to tell less than nothing.
            return Kept(about, message(in_clear(event), self._source))
        return kept

    def _complain(self, name: str, trouble: str) -> None:
        now = self._clock.seconds()
        if now >= self._complained.get(name, 0.0) + _COMPLAIN:
            self._complained[name] = now
            _log.error("events are lost: the target {name} {trouble}", name=name, trouble=trouble)

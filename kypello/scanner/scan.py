# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Rounds over all versions of all objects, slow enough that nobody waits for them.

One process walks, and whoever wants to see all that there is comes along.  It remembers nothing of
a round that was not finished: the next one begins at the beginning.
"""

from collections.abc import Sequence
from typing import Protocol

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kypello.errors import KypelloError, NoSuchBucket
from kypello.interfaces import IObjectStore
from kypello.model import BucketInfo, ListedVersion, VersionQuery
from kypello.scannerconfig import Pace
from kypello.store.undisturbed import given_up

#: How many versions are read at once: few enough that the requests meanwhile do not wait.
PAGE = 100

#: How long after the start of a server the first round begins, in seconds.
FIRST = 1.0

#: The shortest time between two rounds, in seconds.
_BREATH = 1.0

#: How long a round lets the next one wait that comes before its time, in times of what it took.
_SPARING = 30.0

_log = Logger()


class BucketVisit(Protocol):
    """
    A walk through one bucket.
    """

    async def page(self, versions: Sequence[ListedVersion]) -> None:
        """
        Called with all versions, some at a time: by key in byte order, the newest of each key
        first.
        """

    async def end(self) -> None:
        """
        Called when there are no more.
        """


class Visitor(Protocol):
    """
    Who comes along.  What its calls raise ends the walk through the bucket, for all.
    """

    async def enter(self, bucket: BucketInfo) -> BucketVisit | None:
        """
        Called before the first versions of a bucket; ``None`` to leave it out.
        """

    async def finish(self, buckets: Sequence[BucketInfo]) -> None:
        """
        Called at the end of a round.

        :param buckets: All that there were at its beginning.
        """


@define(eq=False)
class Scan:
    """
    One round after the other.

    Where a round is short, others for a few visitors come between those for all, so that whoever
    looks at a small store does not wait for a minute to see what they have stored.

    :ivar _store: Above the encryption.
    :ivar _visitors: Who comes along once in a cycle.
    :ivar _pace: How hard it works.
    :ivar _often: Those of them who come along in between, too.
    """

    _store: IObjectStore
    _visitors: Sequence[Visitor]
    _clock: IReactorTime
    _pace: Pace = field(factory=Pace)
    _often: Sequence[Visitor] = ()

    async def round(self, visitors: Sequence[Visitor] | None = None) -> bool:
        """
        Walk through all buckets.  One that cannot be read is logged and left out.

        :param visitors: Who comes along; ``None`` for all.
        :return: Whether no bucket was left out.
        :raises KypelloError: The buckets cannot be told, or a visitor does not finish.
        """
        whole = True
        visitors = self._visitors if visitors is None else visitors
        buckets = await self._store.buckets()
        for bucket in buckets:
            try:
                await self._bucket(bucket, visitors)
            except NoSuchBucket:
                # It was removed meanwhile.
                continue
            except KypelloError as error:
                _log.warn(
                    "the bucket {bucket} is not scanned in this round: {error}",
                    bucket=bucket.name,
                    error=error,
                )
                whole = False
        for visitor in visitors:
            await visitor.finish(buckets)
        return whole

    async def forever(self) -> None:
        """
        Walk round after round, until it is cancelled.
        """
        await deferLater(self._clock, FIRST)
        due = self._clock.seconds()
        while True:
            began = self._clock.seconds()
            everybody = due - began < _BREATH
            if everybody:
                due = began + self._pace.cycle
            sound = await self._attempt(self._visitors if everybody else self._often)
            ended = self._clock.seconds()
            rest = max(_BREATH, due - ended)
            # What could not be read is told once in a cycle, and not more often.
            if sound and self._often:
                rest = min(rest, max(self._pace.least, _SPARING * (ended - began)))
            await deferLater(self._clock, rest)

    async def _attempt(self, visitors: Sequence[Visitor]) -> bool:
        """
        Walk a round that may fail; tell whether all of it was walked.
        """
        try:
            return await self.round(visitors)
        except CancelledError:
            raise
        except KypelloError as error:
            _log.warn("a round of the scanner has ended early: {error}", error=error)
        except Exception:
            # Neither counting nor expiry may end for good by what one round met.
            _log.failure("a round of the scanner has failed")
        return False

    async def _bucket(self, bucket: BucketInfo, visitors: Sequence[Visitor]) -> None:
        visits = [
            visit for visitor in visitors if (visit := await visitor.enter(bucket)) is not None
        ]
        following: tuple[str, str] | None = ("", "")
        while following is not None:
            began = self._clock.seconds()
            query = VersionQuery(after_key=following[0], after_version=following[1], limit=PAGE)
            listing = await self._store.list_versions(bucket.name, query)
            for visit in visits:
                await visit.page(listing.versions)
            following = listing.next
            if following is None:
                for visit in visits:
                    await visit.end()
            # Requests come first, also those that came meanwhile.
            await deferLater(self._clock, self._pace.rest * (self._clock.seconds() - began))


class Scanner(Service):
    """
    Walks while it runs.
    """

    def __init__(self, scan: Scan, clock: IReactorTime) -> None:
        """
        Walk as *scan* does.
        """
        self._scan = scan
        self._clock = clock
        self._walking: Deferred[None] | None = None

    def startService(self) -> None:
        """
        Called by Twisted: begin in a moment.
        """
        Service.startService(self)
        self._walking = Deferred.fromCoroutine(self._scan.forever())
        self._walking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._walking.addErrback(
            lambda failure: _log.failure("nothing is scanned any more", failure)
        )

    def stopService(self) -> "Deferred[None] | None":
        """
        Called by Twisted: stop wherever it is.

        :return: Fires when what was under way has ended.
        """
        Service.stopService(self)
        walking, self._walking = self._walking, None
        if walking is None:
            return None
        return Deferred.fromCoroutine(given_up(walking, self._clock))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The room in buckets that may not hold everything: counted, held, and given back.

What counts is what is stored: all versions, and the packages of encrypted content, which are
larger than that by 32 bytes for each 64 KiB.  Parts of unfinished uploads do not count.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import QuotaExceeded
from kypello.interfaces import IBodySource
from kypello.model import BucketInfo, Buffer, VersionListing, VersionQuery
from kypello.quota import SETTING, Quota, quota_of
from kypello.store.quotaledger import Ledger, Mark

_log = Logger()

#: Lists versions of a bucket.
_List = Callable[[str, VersionQuery], Coroutine[Any, Any, VersionListing]]


@define(eq=False)
class Room:
    """
    The room that one write takes in a bucket.

    :ivar mark: Made before anything is written.
    :ivar _held: How many bytes are held for it.
    """

    _bucket: str
    _quota: Quota
    _ledger: Ledger
    mark: Mark
    _held: int = 0

    def grow(self, size: int) -> None:
        """
        Hold room for so many bytes in all, or for as many as before if those are more.

        :raises QuotaExceeded: There is not as much; what was held stays so.
        """
        more = size - self._held
        if more <= 0:
            return
        if not self._ledger.hold(self.mark, more, self._quota.size):
            raise QuotaExceeded(self._bucket)
        self._held = size

    def settle(self, written: int = 0, removed: int = 0) -> None:
        """
        Give back what is held, and tell what was done instead.
        """
        held, self._held = self._held, 0
        self._ledger.settle(self.mark, held, written, removed)

    def doubt(self) -> None:
        """
        Tell that something was removed, of unknown size.
        """
        self._ledger.doubtful(self.mark)


@implementer(IBodySource)
@frozen(eq=False)
class LimitedBody:
    """
    A body of unknown size that takes room as it comes.

    :ivar size: Only the end tells.
    """

    _body: IBodySource
    _room: Room
    _read: list[int] = field(factory=lambda: [0])
    size: int | None = None

    async def read(self) -> Buffer:
        """
        Give the next block, for which there is room.

        :raises QuotaExceeded:
        """
        block = await self._body.read()
        self._read[0] += len(block)
        self._room.grow(self._read[0])
        return block

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._body.close()


@define(eq=False)
class Quotas:
    """
    The room in all buckets with quotas.

    A bucket is counted when somebody first writes to it after the start, or after its quota was
    set; who writes meanwhile waits.  It is counted again when it is full, as far as known, and
    something was removed of which nobody knows how large it was.

    :ivar _list: Lists versions, as they are stored.
    :ivar _counting: The counts that are being made, by bucket with its quota.
    """

    _clock: IReactorTime
    _list: _List
    _ledger: Ledger = field(factory=Ledger)
    _counting: "dict[bytes, list[Deferred[None]]]" = field(init=False, factory=dict)
    _running: "dict[bytes, Deferred[None]]" = field(init=False, factory=dict)

    async def room(self, info: BucketInfo, size: int | None = None) -> Room | None:
        """
        Begin to write to a bucket.

        :param size: How many bytes to hold room for; ``None`` when nobody knows.
        :return: ``None`` for a bucket that may hold everything.
        :raises QuotaExceeded:
        :raises KypelloError: It cannot be counted now.
        """
        quota = quota_of(info.settings)
        if quota is None:
            return None
        room = await self._begin(info, quota)
        try:
            room.grow(size or 0)
        except QuotaExceeded:
            if not self._ledger.doubt(room.mark, self._clock.seconds()):
                raise
        else:
            return room
        await self._count(info)
        room = await self._begin(info, quota)
        room.grow(size or 0)
        return room

    def watch(self, info: BucketInfo) -> Room | None:
        """
        Begin to remove something, which takes no room.

        :return: ``None`` for a bucket that may hold everything.
        """
        quota = quota_of(info.settings)
        if quota is None:
            return None
        return Room(info.name, quota, self._ledger, self._ledger.mark(_identity(info)))

    async def used(self, info: BucketInfo) -> int | None:
        """
        How many bytes a bucket holds at most; ``None`` when it may hold everything.

        :raises KypelloError: It cannot be counted now.
        """
        quota = quota_of(info.settings)
        if quota is None:
            return None
        return self._ledger.used((await self._begin(info, quota)).mark)

    def stop(self) -> None:
        """
        Give up all counts that are being made.
        """
        for running in list(self._running.values()):
            running.cancel()

    async def _begin(self, info: BucketInfo, quota: Quota) -> Room:
        name = _identity(info)
        mark = self._ledger.mark(name)
        if not mark.known:
            await self._count(info)
            mark = self._ledger.mark(name)
        return Room(info.name, quota, self._ledger, mark)

    def _count(self, info: BucketInfo) -> Awaitable[None]:
        """
        Wait until a bucket is counted; who goes away meanwhile leaves the count to others.
        """
        name = _identity(info)
        waiting = self._counting.setdefault(name, [])
        waiter: Deferred[None] = Deferred(waiting.remove)
        waiting.append(waiter)
        if name not in self._running:
            running = Deferred.fromCoroutine(self._count_all(info, name))
            self._running[name] = running
            running.addBoth(self._counted, name)
        return waiter

    def _counted(self, result: Failure | None, name: bytes) -> None:
        del self._running[name]
        waiting = self._counting.pop(name)
        if isinstance(result, Failure) and not (waiting or result.check(CancelledError)):
            _log.failure("a bucket with a quota cannot be counted", result)
        for waiter in waiting:
            # A failure goes to the errbacks, as with any result of a Deferred.
            waiter.callback(result)

    async def _count_all(self, info: BucketInfo, name: bytes) -> None:
        began, mark, total = self._clock.seconds(), self._ledger.mark(name), 0
        query: VersionQuery | None = VersionQuery()
        while query is not None:
            page = await self._list(info.name, query)
            total += sum(version.info.size for version in page.versions)
            query = None
            if page.next is not None:
                query = VersionQuery(after_key=page.next[0], after_version=page.next[1])
        now = self._clock.seconds()
        self._ledger.count(mark, total, now, now - began)


def _identity(info: BucketInfo) -> bytes:
    """
    What tells a bucket with its quota from all others that there ever were.
    """
    return b"%b/%d/%b" % (info.name.encode(), info.created, info.settings[SETTING])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the processes share that serve one data directory.
"""

import os
from collections.abc import Mapping

from attrs import field, frozen

from kypello.events.broadcast import Inboxes, shared_inboxes
from kypello.http.balance import shared_counts
from kypello.http.brake import shared_brake
from kypello.iam.pace import shared_attempts
from kypello.kms.troubles import shared_troubles
from kypello.monitor.buckettally import shared_bucket_tally
from kypello.monitor.tally import shared_tally
from kypello.objects.keytable import shared_bucket_keys, shared_opened_keys
from kypello.store.changes import shared_table
from kypello.store.quotaledger import shared_ledger

#: What workers inherit: as these descriptors, the last one being the first of many.
_LISTENING, _LOCK, _CHANGES, _COUNTS, _TALLY, _QUOTAS, _BUCKETS, _BRAKE = range(3, 11)
_ATTEMPTS, _OPENED, _MADE, _TROUBLES, _LISTENERS, _RECEIVE, _SEND = range(11, 18)


@frozen
class Place:
    """
    Where a process stands among those that serve one data directory.

    :ivar worker: Its number, from 0.
    :ivar workers: How many there are.
    :ivar listening: The descriptor of the socket that all accept from; this one and the others
        are ``-1`` for a process that serves alone.
    :ivar lock: Of the data directory.
    :ivar changes: What records change; see ``store/changes.py``.
    :ivar counts: How many connections each has; see ``http/balance.py``.
    :ivar tally: What each has counted; see ``monitor/tally.py``.
    :ivar quotas: How full buckets with quotas are; see ``store/quotaledger.py``.
    :ivar buckets: What each has counted of single buckets; see ``monitor/buckettally.py``.
    :ivar brake: Whether requests wait; see ``http/brake.py``.
    :ivar attempts: Who has failed to authenticate; see ``iam/pace.py``.
    :ivar opened: Data keys that have been opened; see ``objects/keytable.py``.
    :ivar made: Data keys for new objects; see the same.
    :ivar troubles: What is wrong with key servers; see ``kms/troubles.py``.
    :ivar inboxes: Where each hears of what happens; see ``events/broadcast.py``.
    """

    worker: int = 0
    workers: int = 1
    listening: int = -1
    lock: int = -1
    changes: int = -1
    counts: int = -1
    tally: int = -1
    quotas: int = -1
    buckets: int = -1
    brake: int = -1
    attempts: int = -1
    opened: int = -1
    made: int = -1
    troubles: int = -1
    inboxes: Inboxes = field(factory=Inboxes)


#: What makes the tables, in the order of :class:`Shared`.
_TABLES = (
    shared_counts,
    shared_table,
    shared_tally,
    shared_ledger,
    shared_bucket_tally,
    shared_brake,
    shared_attempts,
    shared_opened_keys,
    shared_bucket_keys,
    shared_troubles,
)

#: The place of a process that serves alone.
ALONE = Place()


@frozen
class Shared:
    """
    What a supervisor makes for its workers, as its own descriptors.

    :ivar _inboxes: Of each, where it is emptied and filled.
    """

    _workers: int
    _listening: int
    _lock: int
    counts: int
    _changes: int
    _tally: int
    _quotas: int
    _buckets: int
    _brake: int
    _attempts: int
    _opened: int
    _made: int
    _troubles: int
    _listeners: int
    _inboxes: list[tuple[int, int]]

    @classmethod
    def make(cls, workers: int, listening: int, lock: int) -> "Shared":
        """
        Make all of it.

        :param listening: The socket that all accept from.
        :param lock: Of the data directory.
        :raises OSError: The system has no room for it.
        """
        tables: list[int] = []
        try:
            for make in _TABLES:
                tables.append(make(workers))
            listeners, inboxes = shared_inboxes(workers)
        except BaseException:
            for descriptor in tables:
                os.close(descriptor)
            raise
        counts, changes, tally, quotas, buckets, brake, attempts, opened, made, troubles = tables
        return cls(
            workers,
            listening,
            lock,
            counts,
            changes,
            tally,
            quotas,
            buckets,
            brake,
            attempts,
            opened,
            made,
            troubles,
            listeners,
            inboxes,
        )

    def place(self, number: int) -> Place:
        """
        Where a worker stands.
        """
        return Place(
            number,
            self._workers,
            _LISTENING,
            _LOCK,
            _CHANGES,
            _COUNTS,
            _TALLY,
            _QUOTAS,
            _BUCKETS,
            _BRAKE,
            _ATTEMPTS,
            _OPENED,
            _MADE,
            _TROUBLES,
            Inboxes(_LISTENERS, _RECEIVE, tuple(range(_SEND, _SEND + self._workers))),
        )

    def inherited(self, number: int) -> Mapping[int, int]:
        """
        What a worker inherits, by the descriptors that it will have.
        """
        return {
            _LISTENING: self._listening,
            _LOCK: self._lock,
            _CHANGES: self._changes,
            _COUNTS: self.counts,
            _TALLY: self._tally,
            _QUOTAS: self._quotas,
            _BUCKETS: self._buckets,
            _BRAKE: self._brake,
            _ATTEMPTS: self._attempts,
            _OPENED: self._opened,
            _MADE: self._made,
            _TROUBLES: self._troubles,
            _LISTENERS: self._listeners,
            _RECEIVE: self._inboxes[number][0],
            **{_SEND + other: fill for other, (_empty, fill) in enumerate(self._inboxes)},
        }

    def close(self) -> None:
        """
        Give up what was made.
        """
        tables = (self._changes, self.counts, self._tally, self._quotas, self._buckets)
        keys = (self._opened, self._made, self._troubles)
        ends = (end for pair in self._inboxes for end in pair)
        for descriptor in (*tables, self._brake, self._attempts, *keys, self._listeners, *ends):
            os.close(descriptor)

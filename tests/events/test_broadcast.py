# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.events.broadcast``.
"""

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from kypello.errors import Refused
from kypello.events.broadcast import (
    KEEP_ALIVE,
    LOG,
    MOST_LISTENERS,
    MOST_WAITING,
    TRACE,
    Broadcast,
    Inboxes,
    Listener,
    shared_inboxes,
)
from tests.cases import SyncCase


class BroadcastCase(SyncCase):
    """
    A test with two processes.
    """

    def setUp(self) -> None:
        """
        Nobody listens yet.
        """
        self.reactor = MemoryReactorClock()
        table, inboxes = shared_inboxes(2)
        self.addCleanup(os.close, table)
        self.processes = []
        for number in range(2):
            send = tuple(os.dup(fill) for _empty, fill in inboxes)
            place = Inboxes(table, os.dup(inboxes[number][0]), send)
            self.processes.append(Broadcast(self.reactor, number, 2, place))
            self.addCleanup(self.processes[-1].close)
        for descriptor in (end for pair in inboxes for end in pair):
            os.close(descriptor)

    def listen(self, kind: int = TRACE, accepts: Any = lambda _event: True) -> Listener:
        """
        Listen in the first process; the greeting is over.
        """
        listener = self.processes[0].listen(kind, accepts, lambda count: b"dropped %d" % count)
        self.assertEqual(self.read(listener), b" ")
        return listener

    def read(self, listener: Listener) -> bytes:
        """
        What can be read at once.
        """
        return self.successResultOf(Deferred.fromCoroutine(listener.read()))

    def arrive(self) -> None:
        """
        Let the reactor see what other processes have told.
        """
        for reader in list(self.reactor.readers):
            reader.doRead()


class BroadcastTests(BroadcastCase):
    """
    Events of two processes.
    """

    def test_all_processes(self) -> None:
        """
        Events of all processes are heard, in one.
        """
        listener = self.listen()
        for number, process in enumerate(self.processes):
            process.tell(TRACE, b"%d" % number)
        self.arrive()
        self.assertEqual(self.read(listener), b"0\n1\n")

    def test_wanted(self) -> None:
        """
        Only what somebody listens to is wanted, in all processes, and nothing when nobody does.
        """
        self.assertEqual([each.wanted(TRACE) for each in self.processes], [False, False])
        listener = self.listen()
        self.assertEqual([each.wanted(TRACE) for each in self.processes], [True, True])
        self.assertEqual([each.wanted(LOG) for each in self.processes], [False, False])
        self.assertEqual(len(self.reactor.readers), 1)
        listener.close()
        listener.close()
        self.assertEqual([each.wanted(TRACE) for each in self.processes], [False, False])
        self.assertEqual(list(self.reactor.readers), [])

    def test_closed(self) -> None:
        """
        To close a listener does not wake who waits for its events: that may be closed itself just
        now.
        """
        listener = self.listen()
        reading = Deferred.fromCoroutine(listener.read())
        listener.close()
        self.assertNoResult(reading)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.read(listener), b"")

    def test_kinds(self) -> None:
        """
        Each listener hears of its kind, and of that only what it accepts.
        """
        traces = self.listen(TRACE, lambda event: event != b"b")
        lines = self.listen(LOG)
        for event in (b"a", b"b", b"c"):
            self.processes[0].tell(TRACE, event)
        self.processes[1].tell(LOG, b"l")
        self.arrive()
        self.assertEqual(self.read(traces), b"a\nc\n")
        self.assertEqual(self.read(lines), b"l\n")

    def test_slow_listener(self) -> None:
        """
        For a listener that does not read a bounded number of events waits, and it is told how many
        it has missed.
        """
        listener = self.listen()
        for number in range(MOST_WAITING + 7):
            self.processes[0].tell(TRACE, b"%d" % number)
        first = self.read(listener).splitlines()
        self.assertEqual(first[0], b"dropped 7")
        self.assertEqual(first[1:], [b"%d" % number for number in range(MOST_WAITING)])
        self.processes[0].tell(TRACE, b"next")
        self.assertEqual(self.read(listener), b"next\n")

    def test_slow_process(self) -> None:
        """
        Who tells an event never waits for another process that is busy: what finds no room there
        is dropped, and told.
        """
        listener = self.listen()
        for _ in range(2000):
            self.processes[1].tell(TRACE, bytes(1000))
        lost = self.processes[0].lost
        self.assertGreater(lost, 0)
        for _ in range(20):
            self.arrive()
        lines = b""
        while b"\0" not in lines[-1200:] or len(lines) < 1000 * (2000 - lost):
            lines += self.read(listener)
        self.assertTrue(lines.startswith(b"dropped %d\n" % lost))
        self.assertEqual(lines.count(bytes(1000)), 2000 - lost)

    def test_late_events(self) -> None:
        """
        What came for somebody who listens no more is not for the next one.
        """
        first = self.listen()
        self.processes[1].tell(TRACE, b"old")
        first.close()
        second = self.listen()
        self.processes[1].tell(TRACE, b"new")
        self.arrive()
        self.assertEqual(self.read(second), b"new\n")

    def test_keep_alive(self) -> None:
        """
        Who hears nothing gets a blank from time to time; who goes away leaves no timer.
        """
        listener = self.listen()
        reading = Deferred.fromCoroutine(listener.read())
        self.assertNoResult(reading)
        self.reactor.advance(KEEP_ALIVE)
        self.assertEqual(self.successResultOf(reading), b" ")
        reading = Deferred.fromCoroutine(listener.read())
        reading.addErrback(lambda _cancelled: None)
        reading.cancel()
        listener.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_end(self) -> None:
        """
        A server that ends ends its streams, and begins none.
        """
        listener = self.listen()
        reading = Deferred.fromCoroutine(listener.read())
        self.processes[0].end()
        self.assertEqual(self.successResultOf(reading), b"")
        self.assertEqual(self.read(listener), b"")
        with self.assertRaises(Refused):
            self.listen()

    def test_many(self) -> None:
        """
        There is an end to how many may listen.
        """
        for _ in range(MOST_LISTENERS):
            self.listen()
        with self.assertRaises(Refused):
            self.listen()

    def test_successor(self) -> None:
        """
        A process that takes the place of one that listened has no listeners.
        """
        self.listen()
        table = self.processes[0]._inboxes
        Broadcast(self.reactor, 0, 2, Inboxes(table.table))
        self.assertFalse(self.processes[1].wanted(TRACE))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.notifications`` and ``kypello.events.counts``.
"""

import os

from kypello.eventconfig import WebhookSettings
from kypello.events.counts import COUNTED, TargetCounts, counted
from kypello.monitor.notifications import event_series
from kypello.monitor.tally import Layout, Tally, shared_tally
from tests.cases import SyncCase
from tests.monitor.test_tally import told

_WEBHOOKS = [WebhookSettings("A", "http://a/"), WebhookSettings("B", "http://b/")]
_LAYOUT = Layout(
    ("GetObject",), tuple(counted(what, one.name) for one in _WEBHOOKS for what in COUNTED)
)


class EventSeriesTests(SyncCase):
    """
    What two processes count of their targets.
    """

    def setUp(self) -> None:
        """
        Nothing has happened.
        """
        descriptor = shared_tally(2)
        self.addCleanup(os.close, descriptor)
        self.tallies = [Tally(_LAYOUT, number, 2, descriptor) for number in range(2)]

    def counts(self, number: int, target: str) -> TargetCounts:
        """
        The numbers of a target, as a process counts them.
        """
        return TargetCounts(self.tallies[number], target)

    def test_series(self) -> None:
        """
        Each target has its numbers, those of all processes together, and all have sums.
        """
        self.counts(0, "A").add("queued", 3)
        self.counts(1, "A").add("queued", 4)
        self.counts(0, "A").add("removed", 2)
        self.counts(0, "A").add("sent", 2)
        self.counts(0, "A").add("failed", 5)
        self.counts(1, "B").add("dropped", 6)
        for tally in self.tallies:
            series = told(event_series(tally, _WEBHOOKS))
            for name, expected in (
                (("minio_notify_target_queue_length", "A", "webhook"), 5),
                (("minio_notify_target_total_events_total", "A", "webhook"), 7),
                (("minio_notify_target_failed_events_total", "A", "webhook"), 5),
                (("kypello_notify_target_sent_events_total", "A", "webhook"), 2),
                (("kypello_notify_target_dropped_events_total", "B", "webhook"), 6),
                (("minio_notify_target_queue_length", "B", "webhook"), 0),
                (("minio_notify_events_sent_total",), 2),
                (("minio_notify_events_errors_total",), 5),
                (("minio_notify_events_skipped_total",), 6),
            ):
                self.assertEqual(series[name], expected, name)

    def test_none(self) -> None:
        """
        Without targets nothing is told of them.
        """
        self.assertEqual(event_series(self.tallies[0], []), [])

    def test_corrected(self) -> None:
        """
        How many wait is what was found, in either direction, and no counter goes back.
        """
        counts, other = self.counts(0, "A"), self.counts(1, "A")
        other.add("queued", 5)
        for waiting in (9, 2, 0, 4):
            before = (counts.total("queued"), counts.total("removed"))
            counts.correct(counts.total("queued"), waiting)
            self.assertEqual(counts.waiting, waiting)
            self.assertGreaterEqual(counts.total("queued"), before[0])
            self.assertGreaterEqual(counts.total("removed"), before[1])
        counts.add("removed", 9)
        self.assertEqual(counts.waiting, 0)

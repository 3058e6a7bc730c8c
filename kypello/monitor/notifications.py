# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What becomes of events, as series for Prometheus.
"""

from collections.abc import Callable, Sequence

from kypello.eventconfig import WebhookSettings
from kypello.events.counts import TargetCounts
from kypello.monitor.tally import Tally
from kypello.monitor.text import Family, counter

#: Series of each target: name, kind, meaning, and what of it is told.
_BY_TARGET: Sequence[tuple[str, str, str, Callable[[TargetCounts], int]]] = (
    (
        "minio_notify_target_queue_length",
        "gauge",
        "Events that wait for a target.",
        lambda counts: counts.waiting,
    ),
    (
        "minio_notify_target_total_events",
        "counter",
        "Events that were kept for a target.",
        lambda counts: counts.total("queued"),
    ),
    (
        "minio_notify_target_failed_events",
        "counter",
        "Attempts that a target did not take an event at.",
        lambda counts: counts.total("failed"),
    ),
    (
        "kypello_notify_target_sent_events_total",
        "counter",
        "Events that a target has taken.",
        lambda counts: counts.total("sent"),
    ),
    (
        "kypello_notify_target_dropped_events_total",
        "counter",
        "Events for a target that were lost, as too many waited or they could not be kept.",
        lambda counts: counts.total("dropped"),
    ),
)


def event_series(tally: Tally, webhooks: Sequence[WebhookSettings]) -> list[Family]:
    """
    The events of all processes, by target; nothing without targets.
    """
    if not webhooks:
        return []
    counts = [TargetCounts(tally, webhook.name) for webhook in webhooks]
    labels = [{"target_id": webhook.name, "target_name": "webhook"} for webhook in webhooks]
    families = [
        Family(
            name,
            kind,
            text,
            [("", label, tell(one)) for label, one in zip(labels, counts, strict=True)],
        )
        for name, kind, text, tell in _BY_TARGET
    ]
    sums = {what: sum(one.total(what) for one in counts) for what in ("sent", "failed", "dropped")}
    return [
        *families,
        counter("minio_notify_events_sent_total", "Events that targets have taken.", sums["sent"]),
        counter(
            "minio_notify_events_errors_total",
            "Attempts that targets did not take an event at.",
            sums["failed"],
        ),
        counter("minio_notify_events_skipped_total", "Events that were lost.", sums["dropped"]),
    ]

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What was counted of single buckets, as series for Prometheus.
"""

from collections.abc import Sequence

from kypello.model import BucketInfo
from kypello.monitor.buckettally import RECEIVED, SENT, BucketTally
from kypello.monitor.tally import (
    CANCELED,
    CLIENT_ERRORS,
    DURATIONS,
    INFLIGHT,
    SERVER_ERRORS,
    TOTAL,
    durations,
)
from kypello.monitor.text import Family, by_label
from kypello.quota import quota_of

_BY_API = (
    ("total", "counter", "Requests that have ended.", TOTAL),
    ("4xx_errors_total", "counter", "Requests answered with 4xx.", CLIENT_ERRORS),
    ("5xx_errors_total", "counter", "Requests answered with 5xx.", SERVER_ERRORS),
    ("canceled_total", "counter", "Requests whose client went away.", CANCELED),
    ("inflight_total", "gauge", "Requests under way.", INFLIGHT),
)


def bucket_series(tally: BucketTally, buckets: Sequence[BucketInfo]) -> list[Family]:
    """
    The requests about each bucket, of all processes, and the quotas.

    What has never come has no series.

    :param buckets: All that there are.
    """
    sums = tally.sums({info.name for info in buckets})
    seen = [
        (bucket, api.lower(), numbers, block)
        for bucket, numbers in sums.items()
        for api, block in tally.blocks.items()
        if numbers[block + TOTAL] + numbers[block + INFLIGHT]
    ]
    families = [
        Family(
            f"minio_bucket_requests_{name}",
            kind,
            text,
            [
                ("", {"bucket": bucket, "api": api}, numbers[block + place])
                for bucket, api, numbers, block in seen
            ],
        )
        for name, kind, text, place in _BY_API
    ]
    quotas = {info.name: quota for info in buckets if (quota := quota_of(info.settings))}
    return [
        *families,
        Family(
            "minio_bucket_requests_ttfb_seconds_distribution",
            "counter",
            "Requests by the time until their answer began, no longer than le.",
            [
                ("", {"bucket": bucket, "api": api, "le": bound}, count)
                for bucket, api, numbers, block in seen
                for bound, count in durations(numbers, block + DURATIONS)
            ],
        ),
        _traffic("received", "Bytes of the bodies of requests.", sums, RECEIVED),
        _traffic("sent", "Bytes of the bodies of answers.", sums, SENT),
        by_label(
            "minio_bucket_quota_total_bytes",
            "gauge",
            "What the bucket may hold.",
            "bucket",
            {name: quota.size for name, quota in quotas.items()},
        ),
    ]


def _traffic(name: str, text: str, sums: dict[str, Sequence[int]], place: int) -> Family:
    told = {bucket: numbers[place] for bucket, numbers in sums.items()}
    return by_label(f"minio_bucket_traffic_{name}_bytes", "counter", text, "bucket", told)

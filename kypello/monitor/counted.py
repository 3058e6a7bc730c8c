# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What was counted, as series for Prometheus.
"""

from collections.abc import Sequence

from kypello.model import KMSEndpoint
from kypello.monitor.tally import (
    CALLS,
    CANCELED,
    CLIENT_ERRORS,
    DURATIONS,
    INFLIGHT,
    OTHER,
    OUTCOMES,
    REASONS,
    SERVER_ERRORS,
    TOTAL,
    Layout,
    Tally,
    durations,
)
from kypello.monitor.text import Family, by_label, counter

#: The reasons of a refusal that mean a clock, and those that mean what a header says.
_CLOCK = ("RequestTimeTooSkewed",)
_HEADERS = ("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError")

_BY_API = (
    ("requests_total", "counter", "Requests that have ended.", (TOTAL,)),
    (
        "requests_errors_total",
        "counter",
        "Requests answered with an error.",
        (CLIENT_ERRORS, SERVER_ERRORS),
    ),
    ("requests_4xx_errors_total", "counter", "Requests answered with 4xx.", (CLIENT_ERRORS,)),
    ("requests_5xx_errors_total", "counter", "Requests answered with 5xx.", (SERVER_ERRORS,)),
    ("requests_canceled_total", "counter", "Requests whose client went away.", (CANCELED,)),
    ("requests_inflight_total", "gauge", "Requests under way.", (INFLIGHT,)),
)


def request_series(tally: Tally) -> list[Family]:
    """
    The requests of S3, of all processes.

    A kind of request that has never come has no series.
    """
    sums, layout = tally.sums(), tally.layout
    seen = {
        name.lower(): block
        for name, block in layout.blocks.items()
        if sums[block + TOTAL] + sums[block + INFLIGHT]
    }
    families = [
        by_label(
            f"minio_s3_{name}",
            kind,
            text,
            "api",
            {api: sum(sums[block + place] for place in places) for api, block in seen.items()},
        )
        for name, kind, text, places in _BY_API
    ]
    families.append(
        Family(
            "minio_s3_requests_ttfb_seconds_distribution",
            "counter",
            "Requests by the time until their answer began, no longer than le.",
            [
                ("", {"api": api, "le": bound}, count)
                for api, block in seen.items()
                for bound, count in durations(sums, block + DURATIONS)
            ],
        )
    )
    refused = {reason: sums[layout.single(f"refused {reason}")] for reason in (*REASONS, OTHER)}
    clock, headers = (sum(refused[one] for one in group) for group in (_CLOCK, _HEADERS))
    return [
        *families,
        counter(
            "minio_s3_requests_rejected_auth_total",
            "Requests refused for who sent them.",
            sum(refused.values()) - clock - headers,
        ),
        counter(
            "minio_s3_requests_rejected_timestamp_total", "Requests refused for their time.", clock
        ),
        counter(
            "minio_s3_requests_rejected_header_total",
            "Requests refused for how they are signed.",
            headers,
        ),
        counter(
            "minio_s3_requests_rejected_invalid_total",
            "What was refused since it is no request.",
            sums[layout.single("invalid")],
        ),
        counter(
            "minio_s3_traffic_received_bytes",
            "Bytes of the bodies of requests.",
            sums[layout.single("received")],
        ),
        counter(
            "minio_s3_traffic_sent_bytes",
            "Bytes of the bodies of answers.",
            sums[layout.single("sent")],
        ),
        counter(
            "kypello_other_requests_total",
            "Requests that are none of S3: administration, tokens, health, metrics.",
            sums[layout.single("others")],
        ),
        counter(
            "kypello_bucket_requests_uncounted_total",
            "Requests that are not counted by bucket, as there are too many buckets.",
            sums[layout.single("uncounted")],
        ),
        by_label(
            "kypello_authentication_failures_total",
            "counter",
            "Signatures, or who made them, that were refused.",
            "code",
            refused,
        ),
    ]


def key_series(tally: Tally) -> list[Family]:
    """
    The calls of the KMS, of all processes.
    """
    sums, layout = tally.sums(), tally.layout
    by_outcome = {
        outcome: {call: sums[layout.single(f"kms {call} {outcome}")] for call in CALLS}
        for outcome in OUTCOMES
    }
    texts = ("Calls of the KMS.", "Calls that the KMS refused.", "Calls that failed.")
    return [
        *(
            counter(f"minio_cluster_kms_request_{outcome}", text, sum(by_outcome[outcome].values()))
            for outcome, text in zip(OUTCOMES, texts, strict=True)
        ),
        Family(
            "kypello_kms_requests_total",
            "counter",
            "Calls of the KMS by what was asked for, and how they ended.",
            [
                ("", {"call": call, "outcome": outcome}, count)
                for outcome, counts in by_outcome.items()
                for call, count in counts.items()
            ],
        ),
        _kms_durations(sums, layout),
        counter(
            "kypello_key_cache_hits_total",
            "Keys that were needed and had been opened already.",
            sums[layout.single("key_hits")],
        ),
    ]


def endpoint_series(endpoints: Sequence[KMSEndpoint]) -> list[Family]:
    """
    Each endpoint of the KMS, as the process that is asked sees it.
    """
    return [
        by_label(
            "kypello_kms_endpoint_online",
            "gauge",
            "Whether an endpoint of the KMS answers and is used.",
            "endpoint",
            {endpoint.url: int(endpoint.online) for endpoint in endpoints},
        ),
        Family(
            "kypello_kms_endpoint_key_refused",
            "gauge",
            "Master keys that an endpoint of the KMS is not used for: it lacks the key, holds other"
            " material, or forbids it.",
            [
                ("", {"endpoint": endpoint.url, "key": name}, 1)
                for endpoint in endpoints
                for name in sorted(endpoint.refused)
            ],
        ),
    ]


def key_calls(tally: Tally) -> dict[str, object]:
    """
    The calls of the KMS as the administration API tells them, by the names that MinIO's server
    gives them, and by those that its client reads.
    """
    sums, layout = tally.sums(), tally.layout
    told: dict[str, object] = {}
    for outcome in OUTCOMES:
        count = sum(sums[layout.single(f"kms {call} {outcome}")] for call in CALLS)
        told[f"kms_req_{outcome}"] = told[f"kes_http_request_{outcome}"] = count
    times = {
        str(round(float(bound) * 1e9)): count
        for bound, count in durations(sums, layout.kms_durations)
        if bound != "+Inf"
    }
    return {**told, "kms_resp_time": times, "kes_http_response_time": times}


def _kms_durations(sums: Sequence[int], layout: Layout) -> Family:
    told = durations(sums, layout.kms_durations)
    return Family(
        "kypello_kms_request_duration_seconds",
        "histogram",
        "How long calls of the KMS took.",
        [
            *(("_bucket", {"le": bound}, count) for bound, count in told),
            ("_sum", {}, sums[layout.single("kms_nanoseconds")] / 1e9),
            ("_count", {}, told[-1][1]),
        ],
    )

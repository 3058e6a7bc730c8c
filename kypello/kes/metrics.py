# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The numbers of a key server, under the names that dashboards for KES read.
"""

import os
import sys
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from resource import RUSAGE_SELF, getrusage
from typing import TypeAlias

from attrs import define, field

#: Name, kind, a sentence for people, and the samples: what follows the name, labels, value.
Numbers: TypeAlias = tuple[str, str, str, Sequence[tuple[str, Mapping[str, str], float]]]

#: Writes numbers as text, and what is written is called.
Renderer: TypeAlias = Callable[[Sequence[Numbers]], tuple[str, bytes]]

_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 3.0, 5.0, 10.0)
_REQUESTS = (
    ("kes_http_request_success", 200, "Requests that were answered with what they asked for."),
    ("kes_http_request_error", 400, "Requests that were refused."),
    ("kes_http_request_failure", 500, "Requests that failed."),
)


@define(eq=False)
class Counts:
    """
    What is counted over the life of a server.

    Only calls about keys, policies and identities count as requests: probes would hide them.

    :ivar active: Requests that are being served.
    :ivar limited: Requests that a rate limit has refused.
    :ivar errors: Lines of the error log.
    :ivar audits: Records of the audit log.
    """

    active: int = 0
    limited: int = 0
    errors: int = 0
    audits: int = 0
    _codes: Counter[int] = field(factory=Counter)
    _durations: list[int] = field(factory=lambda: [0] * (len(_BUCKETS) + 1))
    _seconds: float = 0.0

    def ended(self, status: int, latency: float) -> None:
        """
        Count a request that was answered.

        :param latency: How long that took, in seconds.
        """
        self._codes[status] += 1
        self._durations[bisect_left(_BUCKETS, latency)] += 1
        self._seconds += latency

    def numbers(self, uptime: float) -> list[Numbers]:
        """
        All numbers.

        :param uptime: Of the server, in seconds.
        """
        found: list[Numbers] = []
        for name, least, text in _REQUESTS:
            codes = sorted(code for code in self._codes if least <= code < least + 100)
            found.append(
                (name, "counter", text, [("", {"code": str(n)}, self._codes[n]) for n in codes])
            )
        found.append(
            ("kes_http_response_time", "histogram", "Seconds to an answer.", self._histogram())
        )
        for name, kind, text, value in (
            ("kes_http_request_active", "gauge", "Requests being served.", self.active),
            (
                "kes_http_request_limited",
                "counter",
                "Requests that a rate limit has refused.",
                self.limited,
            ),
            ("kes_log_error_events", "counter", "Lines of the error log.", self.errors),
            ("kes_log_audit_events", "counter", "Records of the audit log.", self.audits),
            ("kes_system_up_time", "gauge", "Seconds since the start.", uptime),
            ("kes_system_num_cpu", "gauge", "Processors.", os.cpu_count() or 1),
            ("kes_system_num_cpu_used", "gauge", "Processors in use at most.", 1),
            ("kes_system_num_threads", "gauge", "Threads.", threading.active_count()),
            ("kes_system_mem_heap_used", "gauge", "Bytes of memory at most.", memory()),
            (
                "kes_system_mem_heap_objects",
                "gauge",
                "Blocks of memory.",
                sys.getallocatedblocks(),
            ),
            ("kes_system_mem_stack_used", "gauge", "Not measured.", 0),
        ):
            found.append((name, kind, text, [("", {}, value)]))
        return found

    def _histogram(self) -> list[tuple[str, Mapping[str, str], float]]:
        sums = list(accumulate(self._durations))
        bounds = [*(f"{bound:g}" for bound in _BUCKETS), "+Inf"]
        return [
            *(("_bucket", {"le": le}, n) for le, n in zip(bounds, sums, strict=True)),
            ("_sum", {}, self._seconds),
            ("_count", {}, sums[-1]),
        ]


def memory() -> int:
    """
    The most memory that this process has had, in bytes.
    """
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024

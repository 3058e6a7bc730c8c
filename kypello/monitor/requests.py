# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Counts requests, as they begin, and as they are answered or given up.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define, field

from kypello.monitor.buckettally import BucketTally
from kypello.monitor.tally import (
    BOUNDS,
    CANCELED,
    CLIENT_ERRORS,
    DURATIONS,
    INFLIGHT,
    OTHER,
    REASONS,
    SERVER_ERRORS,
    TOTAL,
    Tally,
)

if TYPE_CHECKING:
    from kypello.http.request import StreamingRequest


@define(eq=False)
class RequestTally:
    """
    Counts the requests of one process.

    Those of S3 are counted by kind; all others (administration, tokens, health, metrics, and what
    is no request) together.
    """

    _tally: Tally
    _buckets: BucketTally
    _row: memoryview = field(init=False, repr=False)
    _blocks: Mapping[str, int] = field(init=False, repr=False)
    _received: int = field(init=False)
    _sent: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Know the places that every request needs.
        """
        self._row = self._tally.row
        self._blocks = self._tally.layout.blocks
        self._received = self._tally.layout.single("received")
        self._sent = self._tally.layout.single("sent")

    def named(self, before: str, after: str) -> None:
        """
        Called when it is known what a request is, or better known than *before*.
        """
        block = self._blocks.get(before)
        if block is not None:
            self._row[block + INFLIGHT] -= 1
        block = self._blocks.get(after)
        if block is not None:
            self._row[block + INFLIGHT] += 1

    def about(self, operation: str, bucket: str) -> None:
        """
        Called when it is known which bucket a request is about.
        """
        if not self._buckets.begun(bucket, operation):
            self._tally.add("uncounted")

    def ended(self, request: "StreamingRequest") -> None:
        """
        Called when a request was answered, or its client went away.
        """
        block = self._blocks.get(request.operation)
        if block is None:
            self._tally.add("others")
            return
        row = self._row
        row[block + INFLIGHT] -= 1
        row[block + TOTAL] += 1
        row[self._received] += request.body.received
        row[self._sent] += request.sentLength
        if request.aborted:
            row[block + CANCELED] += 1
        elif request.code >= 500:
            row[block + SERVER_ERRORS] += 1
        elif request.code >= 400:
            row[block + CLIENT_ERRORS] += 1
        lasted = request.answered - request.started if request.answered else None
        if lasted is not None:
            row[block + DURATIONS + bisect_left(BOUNDS, lasted)] += 1
        bucket = request.subject
        if bucket:
            self._buckets.ended(
                bucket,
                request.operation,
                0 if request.aborted else request.code,
                request.body.received,
                request.sentLength,
                lasted,
            )

    def refused(self, code: str) -> None:
        """
        Called when a signature, or who made it, is refused.

        :param code: Of the error, as S3 has it.
        """
        self._tally.add(f"refused {code if code in REASONS else OTHER}")

    def invalid(self) -> None:
        """
        Called at something that is no request.
        """
        self._tally.add("invalid")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How many events were kept, sent and lost, by target.

The numbers are those of all processes, in memory that outlives each of them
(``monitor/tally.py``).
"""

from typing import Protocol

from attrs import frozen

#: What is counted of each target: events that were queued, and that left the queue again;
#: messages that were delivered, attempts that failed, and events that were not kept.
COUNTED = ("queued", "removed", "sent", "failed", "dropped")


class Counts(Protocol):
    """
    Counts by name.
    """

    def add(self, name: str, amount: int = 1) -> None:
        """
        Count.
        """

    def total(self, name: str) -> int:
        """
        What all processes have counted.
        """


@frozen
class TargetCounts:
    """
    The numbers of one target.
    """

    _counts: Counts
    _target: str

    def add(self, what: str, amount: int = 1) -> None:
        """
        Count one of :data:`COUNTED`.
        """
        self._counts.add(counted(what, self._target), amount)

    def total(self, what: str) -> int:
        """
        What all processes have counted.
        """
        return self._counts.total(counted(what, self._target))

    @property
    def waiting(self) -> int:
        """
        How many events wait, as far as it is known.
        """
        return max(0, self.total("queued") - self.total("removed"))

    def correct(self, queued: int, waiting: int) -> None:
        """
        Take it that so many wait.

        :param queued: How many had been queued when they began to be counted.
        """
        difference = queued - self.total("removed") - waiting
        self.add("removed" if difference > 0 else "queued", abs(difference))


def counted(what: str, target: str) -> str:
    """
    The name of a number.
    """
    return f"event {what} {target}"

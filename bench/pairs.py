# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Paired measurements: ours and a reference in turn, so that a noisy machine hurts both alike.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

from attrs import asdict, frozen


@frozen
class Sample:
    """
    One measurement.

    :ivar value: What is measured: GB/s, or operations per second.
    :ivar cpu: CPU seconds of the server per GB, or per operation; ``None`` when nobody serves.
    """

    value: float
    cpu: float | None = None


@frozen
class Result:
    """
    What several pairs gave; medians.

    :ivar ratio: Ours by the reference, pair by pair.
    :ivar spread: The lowest and the highest ratio.
    :ivar cpu_ratio: CPU time of the reference by ours: above one when we need less.
    """

    name: str
    unit: str
    reference: str
    pairs: int
    ours: float
    theirs: float
    ratio: float
    spread: tuple[float, float]
    cpu_unit: str
    our_cpu: float | None
    their_cpu: float | None
    cpu_ratio: float | None
    must: float | None
    stretch: float | None

    def as_json(self) -> dict[str, Any]:
        """
        Plain values with four digits.
        """
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def compare(
    name: str,
    ours: Callable[[], Sample],
    theirs: Callable[[], Sample],
    *,
    reference: str,
    unit: str,
    cpu_unit: str,
    pairs: int,
    must: float | None = None,
    stretch: float | None = None,
) -> Result:
    """
    Measure both in turn, after one round that does not count.

    :param must: The ratio that has to be reached.
    :param stretch: The ratio to hope for.
    """
    taken: list[tuple[Sample, Sample]] = []
    for number in range(pairs + 1):
        if number % 2:
            first = ours()
            pair = (first, theirs())
        else:
            second = theirs()
            pair = (ours(), second)
        if number:
            taken.append(pair)
    ratios = [our.value / their.value for our, their in taken]
    our_cpu = _median([our.cpu for our, _ in taken])
    their_cpu = _median([their.cpu for _, their in taken])
    return Result(
        name=name,
        unit=unit,
        reference=reference,
        pairs=pairs,
        ours=median(our.value for our, _ in taken),
        theirs=median(their.value for _, their in taken),
        ratio=median(ratios),
        spread=(min(ratios), max(ratios)),
        cpu_unit=cpu_unit,
        our_cpu=our_cpu,
        their_cpu=their_cpu,
        cpu_ratio=their_cpu / our_cpu if our_cpu and their_cpu else None,
        must=must,
        stretch=stretch,
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What was measured: ours and a reference in turn, so that a noisy machine hurts both alike, or a
figure of its own; with the target that it has to reach and the one to hope for.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from attrs import asdict, field, frozen


@frozen
class Target:
    """
    What should be reached.

    :ivar must: Has to be.
    :ivar stretch: Is hoped for.
    :ivar least: The value has to be as low as that, not as high.
    """

    must: float
    stretch: float | None = None
    least: bool = False

    def verdict(self, value: float) -> str:
        """
        How a value compares with it, in a word or two.
        """
        if self._reached(value, self.stretch):
            return "stretch reached"
        return "reached" if self._reached(value, self.must) else "MISSED"

    def _reached(self, value: float, bound: float | None) -> bool:
        if bound is None:
            return False
        return value <= bound if self.least else value >= bound

    def __str__(self) -> str:
        """
        The target for people.
        """
        sign = "<" if self.least else ">"
        hoped = "" if self.stretch is None else f", hoped {sign} {self.stretch:g}"
        return f"must {sign} {self.must:g}{hoped}"


@frozen
class Sample:
    """
    One measurement.

    :ivar value: What is measured: GB/s, or operations per second.
    :ivar cpu: CPU seconds of the server per GB, or microseconds per operation; ``None`` when
        nobody serves, or nobody can tell.
    """

    value: float
    cpu: float | None = None


@frozen
class Figure:
    """
    A figure without a reference.

    :ivar more: What else was measured, by name with unit.
    """

    name: str
    value: float
    unit: str
    target: Target | None = None
    more: Mapping[str, float | None] = field(factory=dict)

    def as_json(self) -> dict[str, Any]:
        """
        Plain values with four digits.
        """
        return _plain(self, self.target, self.value)

    def line(self) -> str:
        """
        The figure for people.
        """
        more = "".join(
            f", {name} {value:.4g}" for name, value in self.more.items() if value is not None
        )
        return f"{self.name}: {self.value:.4g} {self.unit}{more}{_judged(self.target, self.value)}"


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
    target: Target | None = None

    def as_json(self) -> dict[str, Any]:
        """
        Plain values with four digits.
        """
        return _plain(self, self.target, self.ratio)

    def line(self) -> str:
        """
        The result for people.
        """
        ours = _with_cpu(f"{self.ours:.4g} {self.unit}", self.our_cpu, self.cpu_unit)
        theirs = _with_cpu(f"{self.theirs:.4g}", self.their_cpu, self.cpu_unit)
        low, high = self.spread
        return (
            f"{self.name}: {ours}; {self.ratio:.3g} ({low:.3g} to {high:.3g}) of"
            f" {self.reference} ({theirs}){_judged(self.target, self.ratio)}"
        )


def compare(
    name: str,
    ours: Callable[[], Sample],
    theirs: Callable[[], Sample],
    *,
    reference: str,
    unit: str,
    cpu_unit: str,
    pairs: int,
    target: Target | None = None,
) -> Result:
    """
    Measure both in turn, after one round that does not count.
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
        target=target,
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _with_cpu(text: str, cpu: float | None, unit: str) -> str:
    return text if cpu is None else f"{text}, {cpu:.3g} {unit}"


def _judged(target: Target | None, value: float) -> str:
    return "" if target is None else f" [{target}: {target.verdict(value)}]"


def _plain(of: Any, target: Target | None, value: float) -> dict[str, Any]:
    found: dict[str, Any] = _rounded(asdict(of))
    if target is not None:
        found["verdict"] = target.verdict(value)
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, tuple) else value

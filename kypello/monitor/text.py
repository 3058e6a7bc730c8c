# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Prometheus' text format, version 0.0.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: A label's name and value, or several.
Labels: TypeAlias = Mapping[str, str]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


@frozen
class Family:
    """
    Numbers of one meaning.

    :ivar name: Of all of them, but for what :attr:`samples` put behind it.
    :ivar kind: ``counter``, ``gauge`` or ``histogram``.
    :ivar help: A sentence for people.
    :ivar samples: What follows the name, labels, and value of each.
    """

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[str, Labels, float]]


def counter(name: str, help_text: str, value: int | float) -> Family:
    """
    One number that only grows.
    """
    return Family(name, "counter", help_text, [("", {}, value)])


def gauge(name: str, help_text: str, value: int | float) -> Family:
    """
    One number that goes up and down.
    """
    return Family(name, "gauge", help_text, [("", {}, value)])


def by_label(
    name: str, kind: str, help_text: str, label: str, values: Mapping[str, int | float]
) -> Family:
    """
    One number for each value of a label.
    """
    return Family(name, kind, help_text, [("", {label: one}, n) for one, n in values.items()])


def render(families: Iterable[Family], standing: Labels) -> bytes:
    """
    Write families; one without samples is left out.

    :param standing: Labels that all samples have.
    """
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}\n")
        lines.append(f"# TYPE {family.name} {family.kind}\n")
        for suffix, labels, value in family.samples:
            told = ",".join(
                f'{label}="{text.translate(_ESCAPES)}"'
                for label, text in {**standing, **labels}.items()
            )
            lines.append(f"{family.name}{suffix}{{{told}}} {_number(value)}\n")
    # A name from a file system may hold bytes that are no text.
    return "".join(lines).encode("utf-8", "replace")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which events of a bucket are sent where.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations

import msgspec

from kypello.events.names import matching

#: The setting of a bucket that holds its rules.
SETTING = "notification"


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """
    Events that are sent to a target.

    :ivar name: What the client calls the rule.
    :ivar arn: The target, as the client named it.
    :ivar target: Its name in the configuration of the server.
    :ivar events: Names and patterns, as the client wrote them.
    :ivar prefix: How the key must begin; ``None`` when nothing is said.
    :ivar suffix: How it must end.
    """

    name: str
    arn: str
    target: str
    events: tuple[str, ...]
    prefix: str | None = None
    suffix: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """
        The events that it is about.
        """
        return frozenset[str]().union(*map(matching, self.events))

    def overlaps(self, other: "Rule") -> bool:
        """
        Whether an event may be sent to the same target by both.
        """
        return (
            self.target == other.target
            and bool(self.names & other.names)
            and _nested(self.prefix or "", other.prefix or "", str.startswith)
            and _nested(self.suffix or "", other.suffix or "", str.endswith)
        )


def overlapping(rules: Sequence[Rule]) -> bool:
    """
    Whether any two of several rules overlap.
    """
    return any(one.overlaps(other) for one, other in combinations(rules, 2))


def write_rules(rules: Sequence[Rule]) -> bytes:
    """
    Rules as they are kept.
    """
    return msgspec.json.encode(rules)


def read_rules(kept: bytes) -> tuple[Rule, ...]:
    """
    Rules as they were kept.
    """
    return msgspec.json.decode(kept, type=tuple[Rule, ...])


def targets_of(kept: bytes, name: str, key: str) -> frozenset[str]:
    """
    The targets that an event is sent to.

    :param kept: The rules of the bucket.
    :param name: Of the event.
    """
    return frozenset(
        target
        for target, names, prefix, suffix in _compiled(kept)
        if name in names and key.startswith(prefix) and key.endswith(suffix)
    )


@lru_cache(maxsize=1024)
def _compiled(kept: bytes) -> tuple[tuple[str, frozenset[str], str, str], ...]:
    return tuple(
        (rule.target, rule.names, rule.prefix or "", rule.suffix or "") for rule in read_rules(kept)
    )


def _nested(one: str, other: str, holds: Callable[[str, str], bool]) -> bool:
    return holds(one, other) or holds(other, one)

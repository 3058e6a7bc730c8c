# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What became of everything in an archive of accounts.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from attrs import frozen


class Thing(StrEnum):
    """
    What an archive holds, by how people call it.
    """

    POLICY = "policy"
    USER = "user"
    GROUP = "group"
    MEMBER = "member"
    USER_POLICIES = "policies of user"
    GROUP_POLICIES = "policies of group"
    SUBJECT_POLICIES = "policies of subject"
    KEY = "key"
    FILE = "file"


class Outcome(StrEnum):
    """
    What became of something.

    ``LEFT_OUT`` was not wanted here, and ``FAILED`` could not be: both are for a person to look
    at.  ``UNCHANGED`` was here already, exactly so.
    """

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    LEFT_OUT = "left-out"
    FAILED = "failed"


#: By what names MinIO's tools know the things; others are for ours alone.
_KNOWN = {
    Thing.POLICY: "policies",
    Thing.USER: "users",
    Thing.GROUP: "groups",
    Thing.KEY: "serviceAccounts",
    Thing.USER_POLICIES: "userPolicies",
    Thing.GROUP_POLICIES: "groupPolicies",
    Thing.SUBJECT_POLICIES: "stsPolicies",
}
_MAPPINGS = (Thing.USER_POLICIES, Thing.GROUP_POLICIES, Thing.SUBJECT_POLICIES)
_PLACES = {
    Outcome.ADDED: "added",
    Outcome.CHANGED: "added",
    Outcome.UNCHANGED: "skipped",
    Outcome.LEFT_OUT: "skipped",
    Outcome.FAILED: "failed",
}


@frozen
class Item:
    """
    What became of one thing.

    :ivar reason: Why, for people; empty when there is nothing to say.
    :ivar policies: Of a holder of policies: their names.
    """

    thing: Thing
    name: str
    outcome: Outcome
    reason: str = ""
    policies: tuple[str, ...] = ()


@frozen
class Report:
    """
    What became of an archive.

    :ivar dry_run: Nothing was changed: this is what would have become of it.
    """

    items: Sequence[Item]
    dry_run: bool

    def of(self, outcome: Outcome) -> Sequence[Item]:
        """
        What had this outcome.
        """
        return [item for item in self.items if item.outcome is outcome]

    def to_json(self) -> bytes:
        """
        The answer to whoever imported.

        What MinIO's tools read says what was done; ``details`` is for ours, with the reasons.
        """
        told: dict[str, dict[str, list[object]]] = {
            place: {} for place in ("added", "skipped", "removed", "failed")
        }
        for item in () if self.dry_run else self.items:
            place, name = _PLACES[item.outcome], _KNOWN.get(item.thing)
            if name is not None:
                told[place].setdefault(name, []).append(_short(item, place == "failed"))
        details = [
            {
                "kind": item.thing.value,
                "name": item.name,
                "outcome": item.outcome.value,
                "reason": item.reason,
            }
            for item in self.items
        ]
        return msgspec.json.encode({**told, "dryRun": self.dry_run, "details": details})


def _short(item: Item, failed: bool) -> object:
    if failed:
        told: Mapping[str, object] = {"name": item.name}
        return {**told, "policies": item.policies} if item.thing in _MAPPINGS else told
    return {item.name: item.policies} if item.thing in _MAPPINGS else item.name

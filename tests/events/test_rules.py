# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.events.rules`` and ``kypello.events.names``.
"""

from kypello.events.names import NAMES, matching
from kypello.events.rules import Rule, overlapping, read_rules, targets_of, write_rules
from tests.cases import SyncCase


def rule(
    *events: str, target: str = "A", prefix: str | None = None, suffix: str | None = None
) -> Rule:
    """
    A rule about some events.
    """
    return Rule("rule", f"arn:minio:sqs::{target}:webhook", target, events, prefix, suffix)


class NameTests(SyncCase):
    """
    Names and patterns.
    """

    def test_patterns(self) -> None:
        """
        A pattern stands for all events of its kind, a name for one, and the names of AWS for those
        of MinIO.
        """
        removed = matching("s3:ObjectRemoved:*")
        self.assertLess({"s3:ObjectRemoved:Delete", "s3:ObjectRemoved:NoOP"}, removed)
        for name in NAMES:
            self.assertIn(name, matching(name))
        tagging = {"s3:ObjectCreated:PutTagging", "s3:ObjectCreated:DeleteTagging"}
        self.assertEqual(matching("s3:ObjectTagging:*"), tagging)
        self.assertLess(tagging, matching("s3:ObjectCreated:*"))
        for unknown in (
            "",
            "s3:*",
            "*",
            "s3:ObjectCreated",
            "ObjectCreated:*",
            "s3:Objectcreated:*",
        ):
            self.assertEqual(matching(unknown), frozenset(), unknown)


class RuleTests(SyncCase):
    """
    Rules of a bucket.
    """

    def test_targets(self) -> None:
        """
        An event is sent to all whose rules it matches, by its name and how the key begins and ends.
        """
        kept = write_rules(
            [
                rule("s3:ObjectCreated:*"),
                rule("s3:ObjectRemoved:Delete", target="B", prefix="logs/", suffix=".gz"),
                rule("s3:ObjectCreated:Put", target="B", suffix=".jpg"),
            ]
        )
        for name, key, targets in (
            ("s3:ObjectCreated:Put", "a", {"A"}),
            ("s3:ObjectCreated:Put", "a.jpg", {"A", "B"}),
            ("s3:ObjectCreated:Copy", "a.jpg", {"A"}),
            ("s3:ObjectRemoved:Delete", "logs/a.gz", {"B"}),
            ("s3:ObjectRemoved:Delete", "logs/a", set()),
            ("s3:ObjectRemoved:Delete", "a.gz", set()),
            ("s3:ObjectAccessed:Get", "a", set()),
        ):
            self.assertEqual(targets_of(kept, name, key), targets, (name, key))

    def test_kept(self) -> None:
        """
        Rules are read as they were written.
        """
        rules = (rule("s3:ObjectCreated:*", prefix=""), rule("s3:ObjectRemoved:*", suffix="\u20ac"))
        self.assertEqual(read_rules(write_rules(rules)), rules)

    def test_overlapping(self) -> None:
        """
        Rules overlap when an event can be sent to one target by both.
        """
        created = "s3:ObjectCreated:*"
        put = "s3:ObjectCreated:Put"
        for one, other, expected in (
            (rule(created), rule(put), True),
            (rule(created), rule(put, target="B"), False),
            (rule(created), rule("s3:ObjectRemoved:*"), False),
            (rule(put, prefix="a"), rule(put, prefix="b"), False),
            (rule(put, prefix="a"), rule(put, prefix="ab"), True),
            (rule(put, suffix="a"), rule(put, suffix="ba"), True),
            (rule(put, suffix="a"), rule(put, suffix="b"), False),
            (rule(put, prefix="a"), rule(put, suffix="b"), True),
            (rule(put, prefix="a", suffix="x"), rule(put, prefix="ab", suffix="y"), False),
            (rule(put, prefix="a", suffix="x"), rule(put), True),
        ):
            self.assertEqual(overlapping([one, other]), expected, (one, other))
            self.assertEqual(overlapping([other, one]), expected)

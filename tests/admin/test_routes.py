# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the table of routes.
"""

import json
from pathlib import Path

from kypello.admin.refusals import REFUSALS
from kypello.admin.routes import ADMIN, ROUTES, find_route
from kypello.policy.document import parse_policy
from tests.admin.document import document
from tests.cases import SyncCase


class RouteTests(SyncCase):
    """
    Each request has one route at most.
    """

    def test_unique(self) -> None:
        """
        No route is there twice, and none hides another.
        """
        pairs = [(route.method, route.path) for route in ROUTES]
        self.assertEqual(len(pairs), len(set(pairs)))
        for route in ROUTES:
            path = route.path.replace("*", "a/b")
            found = find_route(route.method, path)
            assert found is not None
            self.assertIs(found[0], route)
            self.assertEqual(found[1], "a/b" if path != route.path else "")

    def test_tail(self) -> None:
        """
        What is behind an open path is decoded once; nothing else is.
        """
        found = find_route("POST", ADMIN + "heal/bucket/a%2520b")
        assert found is not None
        self.assertEqual(found[1], "bucket/a%20b")
        self.assertIsNone(find_route("POST", ADMIN + "%68eal/bucket"))
        self.assertIsNone(find_route("POST", ADMIN + "heal"))

    def test_actions(self) -> None:
        """
        Each right that a route asks for is one that policies know.
        """
        for action in {action for route in ROUTES for action in route.actions}:
            statement = {"Effect": "Allow", "Action": [action]}
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            self.assertEqual(len(parse_policy(json.dumps(policy).encode()).statements), 1)

    def test_refusals(self) -> None:
        """
        What is refused gives a reason in a sentence.
        """
        for reason in REFUSALS.values():
            self.assertRegex(reason, r"^[A-Z].*\.$")

    def test_document(self) -> None:
        """
        The documentation tells this table.
        """
        path = Path(__file__).parents[2] / "docs" / "admin-api.md"
        self.assertEqual(path.read_text(), document())

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.canned``.
"""

import json

from kypello.policy.canned import CANNED
from kypello.policy.evaluate import Grants, Policies, decide
from tests.cases import SyncCase
from tests.policy.asking import ALICE, ask

#: Who may do what: actions with resources, and the policies that allow them.
ANSWERS = {
    ("s3:GetObject", "b/k"): {"readonly", "readwrite", "consoleAdmin"},
    ("s3:GetBucketLocation", "b"): {"readonly", "readwrite", "consoleAdmin"},
    ("s3:ListBucket", "b"): {"readwrite", "consoleAdmin"},
    ("s3:ListAllMyBuckets", ""): {"readwrite", "consoleAdmin"},
    ("s3:PutObject", "b/k"): {"writeonly", "readwrite", "consoleAdmin"},
    ("s3:DeleteObject", "b/k"): {"readwrite", "consoleAdmin"},
    ("s3:PutBucketPolicy", "b"): {"readwrite", "consoleAdmin"},
    ("admin:ServerInfo", ""): {"diagnostics", "consoleAdmin"},
    ("admin:Prometheus", ""): {"diagnostics", "consoleAdmin"},
    ("admin:CreateUser", ""): {"consoleAdmin"},
    ("kms:CreateKey", "key"): {"consoleAdmin"},
    ("sts:AssumeRoleWithWebIdentity", ""): set(),
}


class CannedTests(SyncCase):
    """
    The policies that are there without being stored.
    """

    def test_answers(self) -> None:
        """
        Each allows what its name promises.
        """
        for (action, resource), expected in ANSWERS.items():
            allowing = {
                name
                for name, policy in CANNED.items()
                if decide(ask(action, resource), ALICE, Grants(False, Policies([policy])))
            }
            self.assertEqual(allowing, expected, action)

    def test_documents(self) -> None:
        """
        Each is a document that clients can show.
        """
        self.assertEqual(
            set(CANNED), {"readonly", "writeonly", "readwrite", "diagnostics", "consoleAdmin"}
        )
        for policy in CANNED.values():
            document = json.loads(policy.text)
            self.assertEqual(document["Version"], "2012-10-17")
            self.assertTrue(document["Statement"])

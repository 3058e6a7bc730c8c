# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of policies about locks.
"""

import json
from collections.abc import Mapping

from attrs import evolve
from zope.interface import implementer

from kypello.interfaces import BUCKET_POLICY, IAuthorizer
from kypello.model import Identity, Kind, Question
from kypello.policy.document import parse_bucket_policy
from kypello.policy.evaluate import WAY_OUT, Asker, Grants, Policies, decide
from kypello.s3.root import S3Resource
from kypello.testing.harness import Harness
from tests.s3.front import at
from tests.s3.locks import LockCase, WriteCase, hold, retention

_HOLD = "x-amz-object-lock-legal-hold"


@implementer(IAuthorizer)
class ByBucket:
    """
    Lets the root user do what the policy of the bucket does not deny.
    """

    async def allows(
        self, identity: Identity | None, question: Question, settings: Mapping[str, bytes]
    ) -> bool:
        """
        Decide by that.
        """
        if question.action in WAY_OUT or BUCKET_POLICY not in settings:
            return True
        policy = parse_bucket_policy(settings[BUCKET_POLICY], "locked")
        asker, grants = Asker(Kind.ROOT, "root-user"), Grants(True, Policies(()))
        return decide(question, asker, grants, Policies((policy,)))

    async def allows_key(self, identity: Identity | None, question: Question) -> bool:
        """
        Let everybody use all keys.
        """
        return True


class PolicyTests(WriteCase):
    """
    Conditions of policies about locks.
    """

    def deny(self, actions: list[str], condition: Mapping[str, Mapping[str, object]]) -> None:
        """
        Give the bucket a policy that denies some actions under a condition.
        """
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": actions,
            "Resource": "arn:aws:s3:::locked/*",
            "Condition": condition,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
        self.send("PUT", "/locked?policy", policy, status=204)

    def setUp(self) -> None:
        """
        Let policies decide.
        """
        super().setUp()
        front = evolve(self.front, authorizer=ByBucket(), clock=self.time)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)

    def test_remaining_days(self) -> None:
        """
        How many days a retention lasts counts, in headers and in documents; days that have begun
        count whole.
        """
        key = "s3:object-lock-remaining-retention-days"
        self.deny(["s3:PutObjectRetention"], {"NumericGreaterThan": {key: 10}})
        body = {days: retention("GOVERNANCE", self.date(days)) for days in (1, 10, 10.5, 11)}
        self.made()
        target = at("locked", "k", "retention")
        for days, status in ((1, 200), (10, 200), (10.5, 403), (11, 403)):
            self.send("PUT", target, body[days], status=status)
            for way in self.ways.values():
                answer = way(self.keeping("GOVERNANCE", days))
                self.assertEqual(answer.status == 403, status == 403, (days, answer.body))

    def test_words(self) -> None:
        """
        Mode, end and hold count, in headers and in documents.
        """
        self.made()
        date = {"DateGreaterThan": {"s3:object-lock-retain-until-date": self.date(2)}}
        for action, condition, headers, document in (
            (
                "s3:PutObjectRetention",
                {"StringEquals": {"s3:object-lock-mode": "COMPLIANCE"}},
                self.keeping("COMPLIANCE"),
                ("retention", retention("COMPLIANCE", self.date(1))),
            ),
            (
                "s3:PutObjectRetention",
                date,
                self.keeping("GOVERNANCE", 3),
                ("retention", retention("GOVERNANCE", self.date(3))),
            ),
            (
                "s3:PutObjectLegalHold",
                {"StringEquals": {"s3:object-lock-legal-hold": "ON"}},
                {_HOLD: "ON"},
                ("legal-hold", hold("ON")),
            ),
        ):
            self.deny([action], condition)
            target = at("locked", "k", document[0])
            self.refused("PUT", target, 403, "AccessDenied", body=document[1])
            for way in self.ways.values():
                self.assert_refused(way(headers), 403, "AccessDenied")
                self.assertIn(way(self.keeping("GOVERNANCE", 1)).status, (200, 204))

    def test_only_with_lock(self) -> None:
        """
        A bucket can refuse what is stored without a lock.
        """
        self.deny(["s3:PutObject"], {"Null": {"s3:object-lock-mode": "true"}})
        self.assert_refused(self.put_it({}), 403, "AccessDenied")
        self.assertEqual(self.put_it(self.keeping()).status, 200)


class StrangerTests(LockCase):
    """
    Requests that nobody signed.
    """

    def test_stranger(self) -> None:
        """
        Strangers get nothing, before their documents are read.
        """
        self.made()
        for name in ("retention", "legal-hold"):
            for body in (b"x", hold("ON")):
                answer = self.plainly("PUT", f"/locked/k?{name}", [], body)
                self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(self.lock_of(), (None, None, None))

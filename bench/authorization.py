# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a decision by policies costs.
"""

import json
from collections.abc import Mapping, Sequence
from statistics import median
from time import process_time
from typing import Any

from bench.pairs import Figure, Target
from bench.stage import Stage
from kypello.model import Kind, Question
from kypello.policy.document import Policy, parse_policy
from kypello.policy.evaluate import Asker, Grants, Policies, decide

_POLICIES = 100
_DECISIONS = 5000

#: CPU microseconds of one decision.
_DECISION = Target(30, 10, least=True)

_ASKER = Asker(Kind.USER, "alice")
_VALUES: Mapping[str, Sequence[str]] = {
    "aws:sourceip": ("192.0.2.7",),
    "aws:securetransport": ("true",),
    "s3:prefix": ("incoming/2026/",),
}


def decisions(stage: Stage) -> None:
    """
    One user has a hundred policies of ten statements, and asks for objects and listings.

    Objects that nobody asked for before take a search; those that were asked for lately do not.
    """
    policies = [_policy(number) for number in range(_POLICIES)]
    rounds = max(stage.pairs, 3)
    started = process_time()
    for _ in range(rounds):
        # A first decision, as much is made ready only when it is needed.
        decide(_question(0, 0), _ASKER, Grants(False, Policies(policies)))
    ready = (process_time() - started) / rounds * 1e3
    stage.add(Figure(f"{_POLICIES} policies of 10 statements made ready", ready, "ms of CPU"))
    grants = Grants(False, Policies(policies))
    new, known = [], []
    for number in range(rounds):
        new.append(_cost(grants, [_question(number, step) for step in range(_DECISIONS)]))
        known.append(_cost(grants, [_question(number, step % 50) for step in range(_DECISIONS)]))
    stage.add(Figure("decision, new object", median(new), "us of CPU", _DECISION))
    stage.add(Figure("decision, known object", median(known), "us of CPU", _DECISION))


def _cost(grants: Grants, questions: Sequence[Question]) -> float:
    decide(questions[0], _ASKER, grants)
    started = process_time()
    allowed = sum(decide(question, _ASKER, grants) for question in questions)
    elapsed = process_time() - started
    assert 0 < allowed < len(questions), "all decisions are alike"
    return elapsed / len(questions) * 1e6


def _question(number: int, step: int) -> Question:
    team = step % (_POLICIES + 10)
    return Question(
        ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")[step % 3],
        f"team-{team}/incoming/{number}/{step}",
        _VALUES.get,
    )


def _policy(number: int) -> Policy:
    team, arn = f"team-{number}", "arn:aws:s3:::"

    def statement(effect: str, actions: object, resource: str, **more: object) -> dict[str, Any]:
        return {"Effect": effect, "Action": actions, "Resource": arn + resource, **more}

    statements = [
        statement("Allow", ["s3:GetObject", "s3:GetObjectTagging"], f"{team}/*"),
        statement("Allow", "s3:PutObject", f"{team}/incoming/*"),
        statement("Deny", "s3:Delete*", f"{team}/archive/*"),
        statement("Allow", "s3:*", f"scratch-{number}-*"),
        statement("Allow", "s3:Get*", f"home/${{aws:username}}/{number}/*"),
        statement("Allow", "s3:GetObject", f"*-public-{number}/*"),
        statement("Allow", "s3:GetBucketLocation", "*"),
        statement(
            "Allow",
            "s3:ListBucket",
            team,
            Condition={"StringLike": {"s3:prefix": ["incoming/*", "archive/*"]}},
        ),
        statement(
            "Allow",
            "s3:GetObject",
            f"shared/{number}/*",
            Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
        ),
        statement(
            "Deny",
            "s3:*",
            f"{team}/*",
            Condition={"Bool": {"aws:SecureTransport": "false"}},
        ),
    ]
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": statements}).encode())

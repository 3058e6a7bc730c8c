# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The examples of ``docs/policies.md`` do what is written there.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from kypello.model import Question
from kypello.policy.document import parse_bucket_policy, parse_policy
from kypello.policy.evaluate import NOTHING, Grants, Policies, decide, decide_key
from kypello.policy.keys import is_known, normal
from kypello.policy.operators import FAMILIES, OPPOSITES
from tests.cases import SyncCase
from tests.policy.asking import ANYBODY, ASKERS, ROOT

_PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
_EXAMPLE = re.compile(r"```json\n(.*?)```\n\n\| who .*?\n\|[-|]+\|\n(.*?)\n\n", re.DOTALL)
_KEY = re.compile(r"`((?:aws|s3|jwt|ldap|svc|sts):[A-Za-z0-9_/-]+)`")
_TAG = "s3:ExistingObjectTag/"

#: The bucket whose policy is shown.
_BUCKET = "photos"


@frozen
class Row:
    """
    One question of a table.
    """

    who: str
    action: str
    resource: str
    request: Mapping[str, Sequence[str]]
    answer: bool


def rows(table: str) -> list[Row]:
    """
    The rows of a table.
    """
    found = []
    for line in table.splitlines():
        who, action, resource, request, answer = (
            cell.strip() for cell in line.strip("|").split("|")
        )
        pairs = (pair.partition("=") for pair in request.split())
        values = {key: (value,) for key, _, value in pairs}
        found.append(Row(who, action, resource, values, {"yes": True, "no": False}[answer]))
    return found


def answer(document: str, row: Row) -> bool:
    """
    What a policy answers, as one of users that everybody has, or as the one of a bucket.
    """
    text = document.encode()
    of_bucket = any({"Principal", "NotPrincipal"} & one.keys() for one in _statements(document))
    bucket = Policies([parse_bucket_policy(text, _BUCKET)]) if of_bucket else None
    asker = ASKERS[row.who]
    if of_bucket:
        grants = Grants(asker is ROOT, Policies(()))
    else:
        grants = (
            NOTHING if asker is ANYBODY else Grants(asker is ROOT, Policies([parse_policy(text)]))
        )
    question = Question(row.action, row.resource, row.request.get)
    if row.action in ("kms:Decrypt", "kms:GenerateDataKey"):
        return decide_key(question, asker, grants)
    tags = {
        key.removeprefix(_TAG): value
        for key, (value,) in row.request.items()
        if key.startswith(_TAG)
    }
    return decide(question, asker, grants, bucket, tags=tags)


def _statements(document: str) -> Sequence[Mapping[str, object]]:
    statements: Sequence[Mapping[str, object]] = json.loads(document)["Statement"]
    return statements


class ExampleTests(SyncCase):
    """
    The page tells the truth.
    """

    def test_examples(self) -> None:
        """
        Each question of each table gets the answer that stands there.
        """
        page = _PAGE.read_text()
        examples = _EXAMPLE.findall(page)
        self.assertEqual(len(examples), page.count("```json"))
        self.assertGreaterEqual(len(examples), 5)
        for document, table in examples:
            answers = set()
            for row in rows(table):
                self.assertIs(answer(document, row), row.answer, row)
                answers.add(row.answer)
            self.assertEqual(answers, {True, False}, document)

    def test_operators(self) -> None:
        """
        The page has all operators.
        """
        named = set(re.findall(r"`([A-Za-z]+)`", _PAGE.read_text()))
        self.assertEqual({*FAMILIES, *OPPOSITES, "Null"} - named, set())

    def test_keys(self) -> None:
        """
        The condition keys in the tables of the page exist.
        """
        table, _blank, _rest = _PAGE.read_text().partition("| keys | of |")[2].partition("\n\n")
        named = _KEY.findall(table)
        self.assertGreater(len(named), 40)
        for key in named:
            self.assertTrue(is_known(normal(key)), key)

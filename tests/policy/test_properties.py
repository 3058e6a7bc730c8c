# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What holds for all policies.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from kypello.model import Kind, Question
from kypello.policy.actions import OF_LISTING
from kypello.policy.document import Policy, merged, parse_policy
from kypello.policy.evaluate import NOTHING, Asker, Grants, Policies, Verdict, decide, lookup
from kypello.policy.publicaccess import PublicAccessBlock
from tests.cases import SyncCase
from tests.policy.asking import ALICE, ANYBODY, ARN, BOB, ROOT, ask, of_bucket, policy

Statement = Mapping[str, Any]

_ACTIONS = [
    "*",
    "s3:*",
    "s3:Get*",
    "s3:*Object",
    "s3:*Version*",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:ListBucket",
]
_RESOURCES = ["*", *(ARN + path for path in ("*", "b", "b/*", "b/x*", "*/y", "b*"))]
#: Not for policies of buckets: the bucket itself has to match.
_OF_USERS = [ARN + "b?x", ARN + "b*y", ARN + "c"]
_OF_WHOM = [ARN + "b/${aws:username}", ARN + "b/${jwt:sub}*", ARN + "b/${aws:username, 'x'}*"]
_CONDITIONS: list[dict[str, Any]] = [
    {},
    {},
    {"StringEquals": {"aws:username": "alice"}},
    {"StringNotLike": {"aws:UserAgent": ["a*", "${aws:username}"]}},
    {"Null": {"aws:UserAgent": "true"}},
    {"ForAllValues:StringEquals": {"aws:groups": ["dev", "ops"]}},
    {"IpAddressIfExists": {"aws:SourceIp": "192.0.2.0/24"}},
]
_PRINCIPALS = [
    {"Principal": "*"},
    {"Principal": {"AWS": ["alice"]}},
    {"NotPrincipal": {"AWS": ["bob", "123456789012"]}},
]


def _some(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2)


@st.composite
def statements(draw: st.DrawFn, bucket: bool = False) -> Statement:
    """
    One statement, of a user or of the bucket ``b``.
    """
    resources = _RESOURCES if bucket else [*_RESOURCES, *_OF_USERS, *_OF_WHOM]
    return {
        "Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"])),
        draw(st.sampled_from(["Action", "Action", "NotAction"])): draw(_some(_ACTIONS)),
        draw(st.sampled_from(["Resource", "Resource", "NotResource"])): draw(_some(resources)),
        "Condition": draw(st.sampled_from(_CONDITIONS)),
        **(draw(st.sampled_from(_PRINCIPALS)) if bucket else {}),
    }


several = st.lists(statements(), max_size=5)
of_buckets = st.lists(statements(bucket=True), min_size=1, max_size=4)
askers = st.sampled_from(
    [
        ANYBODY,
        ALICE,
        BOB,
        ROOT,
        Asker(Kind.SESSION, "x", ("dev",), {"jwt:sub": ("alice",)}),
        Asker(Kind.SERVICE, "*", ("dev", "qa")),
    ]
)
questions = st.builds(
    ask,
    st.sampled_from(
        [
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            "s3:ListBucket",
            "s3:ListBucketVersions",
            "s3:PutBucketPolicy",
            "admin:ServerInfo",
        ]
    ),
    st.sampled_from(["", "b", "b/x", "b/y", "b/x/y", "b/alice", "b/*", "c", "c/y"]),
    st.fixed_dictionaries(
        {},
        optional={
            "aws:useragent": st.sampled_from([("alice",), ("bob",), ()]),
            "aws:sourceip": st.sampled_from([("192.0.2.1",), ("203.0.113.1",)]),
        },
    ),
)
blocks = st.builds(PublicAccessBlock, restrict_public_buckets=st.booleans())


def allowed(
    question: Question,
    asker: Asker,
    own: Sequence[Statement],
    bucket: Sequence[Statement],
    limit: Sequence[Statement] | None = None,
    block: PublicAccessBlock | None = None,
) -> bool:
    """
    A decision from scratch.
    """
    limits = () if limit is None else (Policies([policy(*limit)]),)
    whole = Grants(asker is ROOT, Policies([policy(*own)]), limits)
    return decide(
        question,
        asker,
        NOTHING if asker is ANYBODY else whole,
        of_bucket(*bucket) if bucket else None,
        block,
    )


def defined(policies: Sequence[Policy], question: Question, asker: Asker) -> Verdict:
    """
    What policies say by definition: all statements are looked at, one after the other.
    """
    find = lookup(question, asker, NOTHING)
    forms = [question.resource]
    if question.action in OF_LISTING:
        forms.append(question.resource + "/")
    verdict = Verdict.NONE
    for statement in (one for each in policies for one in each.statements):
        named = any(
            resource.template.matches(form, find)
            for resource in statement.resources
            for form in forms
            # What is not of S3 is no resource of S3, but for everything.
            if question.action.startswith("s3:") or resource.template.everything
        )
        if (
            question.action in statement.actions
            and named != statement.excluding
            and not (statement.allows and any(not find(key) for key in statement.needed))
            and all(condition.holds(find) for condition in statement.conditions)
        ):
            if not statement.allows:
                return Verdict.DENY
            verdict = Verdict.ALLOW
    return verdict


class PropertyTests(SyncCase):
    """
    What changes of policies do to a decision.
    """

    @given(questions, askers, several, of_buckets, statements(), statements(bucket=True))
    def test_another_deny(
        self,
        question: Question,
        asker: Asker,
        own: list[Statement],
        bucket: list[Statement],
        more: Statement,
        more_of_bucket: Statement,
    ) -> None:
        """
        One more statement that denies, of the user or of the bucket, allows nothing more.
        """
        assume(not allowed(question, asker, own, bucket))
        more = {**more, "Effect": "Deny"}
        more_of_bucket = {**more_of_bucket, "Effect": "Deny"}
        self.assertFalse(allowed(question, asker, [more, *own], bucket))
        self.assertFalse(allowed(question, asker, own, [more_of_bucket, *bucket]))

    @given(questions, askers, several, of_buckets)
    def test_an_allow_less(
        self,
        question: Question,
        asker: Asker,
        own: list[Statement],
        bucket: list[Statement],
    ) -> None:
        """
        One statement less that allows, of the user or of the bucket, allows nothing more.
        """
        assume(not allowed(question, asker, own, bucket))
        for number, statement in enumerate(own):
            if statement["Effect"] == "Allow":
                self.assertFalse(
                    allowed(question, asker, [*own[:number], *own[number + 1 :]], bucket)
                )
        for number, statement in enumerate(bucket):
            if statement["Effect"] == "Allow":
                self.assertFalse(
                    allowed(question, asker, own, [*bucket[:number], *bucket[number + 1 :]])
                )

    @given(questions, askers, several, of_buckets, several, blocks, st.randoms())
    def test_order(
        self,
        question: Question,
        asker: Asker,
        own: list[Statement],
        bucket: list[Statement],
        limit: list[Statement],
        block: PublicAccessBlock,
        random: Any,
    ) -> None:
        """
        The order of statements, and in how many documents they are, changes nothing.
        """
        answer = allowed(question, asker, own, bucket, limit, block)
        shuffled = [random.sample(part, len(part)) for part in (own, bucket, limit)]
        self.assertIs(
            allowed(question, asker, shuffled[0], shuffled[1], shuffled[2], block), answer
        )
        separate = [policy(statement) for statement in shuffled[0]]
        find = lookup(question, asker, NOTHING)
        together = Policies([policy(*own)])
        for policies in (
            Policies(separate),
            Policies([*separate, *separate]),
            Policies([policy(*own), policy(*own)]),
            Policies([parse_policy(merged(separate))]),
        ):
            self.assertIs(
                policies.verdict(question.action, question.resource, find),
                together.verdict(question.action, question.resource, find),
            )

    @given(st.lists(questions, min_size=1), askers, st.lists(several, max_size=3))
    def test_definition(
        self, asked: list[Question], asker: Asker, documents: list[list[Statement]]
    ) -> None:
        """
        Looking up what can match, and remembering it, gives what is defined.
        """
        parsed = [policy(*each) for each in documents]
        compiled = Policies(parsed)
        for question in [*asked, *asked]:
            self.assertIs(
                compiled.verdict(
                    question.action, question.resource, lookup(question, asker, NOTHING)
                ),
                defined(parsed, question, asker),
            )

    @given(questions, askers, several, of_buckets, several)
    def test_a_limit(
        self,
        question: Question,
        asker: Asker,
        own: list[Statement],
        bucket: list[Statement],
        limit: list[Statement],
    ) -> None:
        """
        A limit allows nothing more, and nothing that it does not allow by itself.
        """
        assume(asker is not ANYBODY)
        if allowed(question, asker, own, bucket, limit):
            self.assertTrue(allowed(question, asker, own, bucket))
            alone = Asker(asker.kind, asker.user, asker.groups, asker.claims)
            self.assertTrue(allowed(question, alone, limit, []))

    @given(questions, askers, several, of_buckets)
    def test_a_block(
        self,
        question: Question,
        asker: Asker,
        own: list[Statement],
        bucket: list[Statement],
    ) -> None:
        """
        A public access block allows nothing more, and changes nothing for users.
        """
        block = PublicAccessBlock(True, True, True, True)
        before = allowed(question, asker, own, bucket)
        after = allowed(question, asker, own, bucket, block=block)
        self.assertLessEqual(after, before)
        if asker is not ANYBODY:
            self.assertIs(after, before)

    @given(questions, askers, several)
    def test_admin(self, question: Question, asker: Asker, own: list[Statement]) -> None:
        """
        No statement about S3 lets anybody into the administration.
        """
        assume(asker is not ROOT)
        self.assertFalse(allowed(ask("admin:ServerInfo", ""), asker, own, []))

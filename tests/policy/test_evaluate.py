# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.evaluate``: rules of the decision.
"""

from itertools import product
from typing import Any

from kypello.model import Kind
from kypello.policy.document import parse_bucket_policy, parse_session_policy
from kypello.policy.evaluate import (
    NOTHING,
    Asker,
    Grants,
    Policies,
    decide,
    lookup,
)
from tests.cases import SyncCase
from tests.policy.asking import (
    ALICE,
    ANYBODY,
    ARN,
    BOB,
    KMS_ARN,
    ROOT,
    UNLIMITED,
    allow,
    ask,
    deny,
    document,
    grants,
    of_bucket,
    policies,
)


class DecideTests(SyncCase):
    """
    Rules of the decision.
    """

    def check(
        self,
        expected: bool,
        action: str,
        resource: str = "b/k",
        who: Asker = ALICE,
        given: Grants = NOTHING,
        bucket: Policies | None = None,
        **values: tuple[str, ...],
    ) -> None:
        """
        Expect a decision.
        """
        keys = {name.replace("_", ":"): value for name, value in values.items()}
        self.assertIs(
            decide(ask(action, resource, keys), who, given, bucket), expected, (action, resource)
        )

    def test_anonymous(self) -> None:
        """
        Only a bucket allows anonymous requests anything, and nothing beyond itself.
        """
        everything = of_bucket(allow("*", "*"))
        self.check(True, "s3:GetObject", who=ANYBODY, bucket=everything)
        self.check(False, "s3:GetObject", who=ANYBODY)
        self.check(False, "s3:ListAllMyBuckets", "", ANYBODY, bucket=everything)
        for action in ("admin:ServerInfo", "kms:Status", "sts:AssumeRoleWithWebIdentity"):
            self.check(False, action, "", ANYBODY, bucket=everything)

    def test_root(self) -> None:
        """
        The root user may do everything that its buckets do not deny; their policies it always
        may read, set and remove.
        """
        locked = of_bucket(deny("s3:*"))
        for action in ("s3:GetObject", "s3:ListBucket", "admin:ServerInfo", "kms:CreateKey"):
            self.check(True, action, who=ROOT, given=UNLIMITED)
        for action in ("s3:GetObject", "s3:PutBucketPublicAccessBlock", "s3:DeleteBucket"):
            self.check(False, action, "b", ROOT, UNLIMITED, locked)
        for action in ("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"):
            self.check(True, action, "b", ROOT, UNLIMITED, locked)
            self.check(False, action, "b", ALICE, grants(allow("s3:*")), locked)

    def test_limited_root(self) -> None:
        """
        A session of the root user is limited by its policy.
        """
        limit = Policies([parse_session_policy(document(allow("s3:GetObject")))])
        session = Grants(True, Policies(()), (limit,))
        self.check(True, "s3:GetObject", who=ROOT, given=session)
        for action in ("s3:PutObject", "admin:ServerInfo", "s3:PutBucketPolicy"):
            self.check(False, action, who=ROOT, given=session)
        self.check(False, "s3:PutObject", who=ROOT, given=session, bucket=of_bucket(allow("s3:*")))

    def test_empty_limit(self) -> None:
        """
        A limit without statements allows nothing.
        """
        empty = Policies([parse_session_policy(document())])
        limited = Grants(False, policies(allow("s3:*")), (empty,))
        self.check(False, "s3:GetObject", given=limited)

    def test_other_services(self) -> None:
        """
        Only statements that name a service allow its actions; one that denies all denies them.
        """
        asked = (
            ("admin:ServerInfo", ""),
            ("kms:CreateKey", "key"),
            ("sts:AssumeRoleWithWebIdentity", ""),
        )
        for statement in (
            allow("*", "*"),
            allow("*"),
            allow("*:*", "*"),
            allow("s3:*"),
            {"Effect": "Allow", "NotAction": "s3:DeleteBucket", "Resource": "*"},
            {"Effect": "Allow", "NotAction": "admin:CreateUser", "Resource": "*"},
            allow("??*", "*"),
        ):
            for action, resource in asked:
                self.check(False, action, resource, given=grants(statement))
            self.check(True, "s3:GetObject", given=grants(statement))
        every = (allow("admin:*"), allow("kms:*", KMS_ARN + "*"), allow("sts:*"))
        for action, resource in asked:
            self.check(True, action, resource, given=grants(*every))
            for statement in (
                deny("*", "*"),
                deny("*"),
                {"Effect": "Deny", "NotAction": "s3:GetObject", "Resource": "*"},
                {"Effect": "Deny", "Action": "*", "NotResource": ARN + "b/*"},
            ):
                self.check(False, action, resource, given=grants(*every, statement))
            for statement in (
                deny("*", ARN + "b/*"),
                deny("s3:*"),
                {"Effect": "Deny", "Action": "*", "NotResource": "*"},
                {"Effect": "Deny", "NotAction": [action, "s3:*"], "Resource": "*"},
            ):
                self.check(True, action, resource, given=grants(*every, statement))

    def test_admin_resources(self) -> None:
        """
        Statements about the server mean all of it, whatever resource they name.
        """
        self.check(True, "admin:ServerInfo", "", given=grants(allow("admin:*", ARN + "b")))
        self.check(False, "admin:CreateUser", "", given=grants(allow("admin:ServerInfo")))

    def test_master_keys(self) -> None:
        """
        Statements about master keys may name some; without a resource they mean all.
        """
        some = grants(allow("kms:*", KMS_ARN + "team-*"))
        self.check(True, "kms:CreateKey", "team-1", given=some)
        self.check(False, "kms:CreateKey", "other", given=some)
        every = grants({"Effect": "Allow", "Action": "kms:CreateKey"})
        self.check(True, "kms:CreateKey", "other", given=every)
        self.check(True, "kms:CreateKey", "x", given=grants(allow("kms:CreateKey", "*")))

    def test_unknown_action(self) -> None:
        """
        An action that no policy can name is the root user's only.
        """
        self.check(False, "s3:Nope", given=grants(allow("s3:*")))
        self.check(True, "s3:Nope", who=ROOT, given=UNLIMITED)

    def test_spellings(self) -> None:
        """
        The CORS actions are the same in AWS's and in MinIO's spelling.
        """
        for written, asked in product(("CORS", "Cors"), repeat=2):
            self.check(
                True, f"s3:PutBucket{asked}", "b", given=grants(allow(f"s3:PutBucket{written}"))
            )
            self.check(
                False,
                f"s3:PutBucket{asked}",
                "b",
                given=grants(allow("s3:*"), deny(f"s3:PutBucket{written}")),
            )

    def test_not_action(self) -> None:
        """
        ``NotAction`` means all other actions of S3.
        """
        given = grants({"Effect": "Allow", "NotAction": "s3:Delete*", "Resource": ARN + "b/*"})
        self.check(True, "s3:GetObject", given=given)
        self.check(False, "s3:DeleteObject", given=given)
        self.check(False, "s3:GetObject", "c/k", given=given)

    def test_not_resource(self) -> None:
        """
        ``NotResource`` means all others.
        """
        given = grants(
            {"Effect": "Allow", "Action": "s3:*", "NotResource": [ARN + "b/x*", ARN + "c"]}
        )
        self.check(True, "s3:GetObject", "b/k", given=given)
        self.check(False, "s3:GetObject", "b/x1", given=given)
        self.check(False, "s3:DeleteBucket", "c", given=given)
        self.check(True, "s3:GetObject", "c/k", given=given)

    def test_folder(self) -> None:
        """
        A pattern for the objects of a bucket lets users list it, but not change it; and the
        policy of a bucket says what it says.
        """
        given = grants(allow("s3:*", ARN + "b/*"))
        for action in ("s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketVersions"):
            self.check(True, action, "b", given=given)
            self.check(False, action, "b", given=grants(allow("s3:*"), deny("s3:*", ARN + "b/*")))
            self.check(False, action, "b", ANYBODY, bucket=of_bucket(allow("s3:*", ARN + "b/*")))
        for action in ("s3:DeleteBucket", "s3:PutBucketPolicy", "s3:GetBucketPolicy"):
            self.check(False, action, "b", given=given)
        self.check(False, "s3:ListBucket", "c", given=given)
        self.check(False, "s3:ListBucket", "bb", given=given)

    def test_bucket_resource(self) -> None:
        """
        A bucket is none of its objects, unless a wildcard says so.
        """
        self.check(False, "s3:GetObject", "b/k", given=grants(allow("s3:*", ARN + "b")))
        self.check(True, "s3:GetObject", "b/k", given=grants(allow("s3:*", ARN + "b*")))
        self.check(True, "s3:DeleteBucket", "b", given=grants(allow("s3:*", ARN + "b")))
        self.check(True, "s3:ListAllMyBuckets", "", given=grants(allow("s3:*")))
        self.check(False, "s3:ListAllMyBuckets", "", given=grants(allow("s3:*", ARN + "b")))

    def test_variables(self) -> None:
        """
        A policy can be about whoever has it.
        """
        given = grants(allow("s3:*", ARN + "home/${aws:username}/*"))
        self.check(True, "s3:GetObject", "home/alice/x", given=given)
        self.check(False, "s3:GetObject", "home/bob/x", given=given)
        self.check(True, "s3:GetObject", "home/bob/x", BOB, given)
        star = Asker(Kind.USER, "*")
        self.check(False, "s3:GetObject", "home/bob/x", star, given)

    def test_old_version(self) -> None:
        """
        The old version of the language has no variables.
        """
        statement = allow("s3:GetObject", ARN + "b/${aws:username}", Principal="*")
        for version, user, resource, expected in (
            ("2012-10-17", ALICE, "b/alice", True),
            ("2008-10-17", ALICE, "b/alice", False),
            ("2008-10-17", ALICE, "b/${aws:username}", True),
        ):
            text = document(statement, version=version)
            bucket = Policies([parse_bucket_policy(text, "b")])
            self.check(expected, "s3:GetObject", resource, user, bucket=bucket)

    def test_missing_variable(self) -> None:
        """
        What is allowed but for somebody's own is not allowed who has nothing of their own.
        """
        for statement in (
            {"Effect": "Allow", "Action": "s3:*", "NotResource": ARN + "b/${jwt:sub}/*"},
            allow("s3:*", Condition={"StringNotLike": {"aws:UserAgent": "${jwt:sub}*"}}),
        ):
            given = grants(statement)
            self.check(False, "s3:GetObject", given=given)
            known = Asker(Kind.SESSION, "x", claims={"jwt:sub": ("s",)})
            self.check(True, "s3:GetObject", who=known, given=given)
        locked = grants(
            allow("s3:*"),
            {"Effect": "Deny", "Action": "s3:*", "NotResource": ARN + "b/${jwt:sub}/*"},
        )
        self.check(False, "s3:GetObject", given=locked)

    def test_conditions(self) -> None:
        """
        All conditions of a statement have to hold.
        """
        condition = {
            "StringLike": {"s3:prefix": ["home/*", ""], "s3:delimiter": "/"},
            "Bool": {"aws:SecureTransport": "true"},
        }
        given = grants(allow("s3:ListBucket", ARN + "b", Condition=condition))
        fitting: dict[str, Any] = {
            "s3_prefix": ("home/x",),
            "s3_delimiter": ("/",),
            "aws_securetransport": ("true",),
        }
        self.check(True, "s3:ListBucket", "b", given=given, **fitting)
        for name in fitting:
            self.check(False, "s3:ListBucket", "b", given=given, **{**fitting, name: ("x",)})
            self.check(False, "s3:ListBucket", "b", given=given, **{**fitting, name: ()})

    def test_who_asks(self) -> None:
        """
        What depends on who asks comes from who signs, never from the request.
        """
        claims = {"jwt:sub": ("subject",), "ldap:user": ("uid=x",)}
        session = Asker(Kind.SESSION, "alice", ("dev", "ops"), claims)
        forged: dict[str, tuple[str, ...]] = {}
        for key in (
            "aws:username",
            "aws:userid",
            "aws:principaltype",
            "aws:principalarn",
            "aws:groups",
            "jwt:sub",
            "jwt:iss",
            "ldap:user",
            "s3:existingobjecttag/a",
        ):
            forged[key] = ("forged",)
        question = ask("s3:GetObject", "b/k", {**forged, "aws:useragent": ("mc",)})
        find = lookup(question, session, NOTHING, {"b": "c"})
        for key, expected in (
            ("aws:username", ["alice"]),
            ("aws:userid", ["alice"]),
            ("aws:principaltype", ["AssumedRole"]),
            ("aws:principalarn", ["arn:aws:iam:::user/alice"]),
            ("aws:groups", ["dev", "ops"]),
            ("jwt:sub", ["subject"]),
            ("jwt:iss", []),
            ("ldap:user", ["uid=x"]),
            ("s3:existingobjecttag/a", []),
            ("s3:existingobjecttag/b", ["c"]),
            ("aws:useragent", ["mc"]),
            ("aws:referer", []),
        ):
            self.assertEqual(list(find(key)), expected, key)
        anonymous = lookup(question, ANYBODY, NOTHING)
        for key in forged:
            expected = ["Anonymous"] if key == "aws:principaltype" else []
            self.assertEqual(list(anonymous(key)), expected, key)
        root = lookup(question, ROOT, UNLIMITED)
        self.assertEqual(list(root("aws:principalarn")), ["arn:aws:iam:::root"])
        self.assertEqual(list(root("aws:principaltype")), ["Account"])

    def test_empty_value(self) -> None:
        """
        The empty text is a value.
        """
        given = grants(allow("s3:ListBucket", Condition={"StringEquals": {"s3:prefix": ""}}))
        self.check(True, "s3:ListBucket", "b", given=given, s3_prefix=("",))
        self.check(False, "s3:ListBucket", "b", given=given)


class RememberedTests(SyncCase):
    """
    What is remembered changes no answer.
    """

    def test_many(self) -> None:
        """
        More resources than are remembered are decided as before, in any order.
        """
        given = grants(
            allow("s3:*", ARN + "b/${aws:username}/*"),
            allow("s3:GetObject", ARN + "b/?7*"),
            deny("s3:*", ARN + "b/*13*"),
        )

        def answers(who: Asker, numbers: range) -> list[bool]:
            return [decide(ask("s3:GetObject", f"b/{n}"), who, given) for n in numbers]

        first = answers(ALICE, range(1000))
        self.assertEqual(sum(first), len([n for n in range(10, 1000) if str(n)[1] == "7"]))
        self.assertEqual(answers(BOB, range(999, -1, -1))[::-1], first)
        self.assertEqual(answers(ALICE, range(1000)), first)
        self.assertEqual(len(given.policies._found), 256)

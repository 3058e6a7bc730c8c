# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.evaluate``.
"""

from collections.abc import Awaitable, Mapping
from itertools import product
from typing import Any

from attrs import evolve

from kypello.auth.request import RequestHead
from kypello.auth.values import RequestValues
from kypello.model import Kind, Question
from kypello.policy.canned import CANNED
from kypello.policy.compiled import Whom
from kypello.policy.document import parse_session_policy
from kypello.policy.evaluate import (
    NOTHING,
    Asker,
    Grants,
    Policies,
    Verdict,
    decide,
    decide_key,
    lookup,
    needs_tags,
)
from kypello.policy.publicaccess import PublicAccessBlock
from tests.cases import SyncCase
from tests.policy.asking import (
    ALICE,
    ANYBODY,
    ARN,
    BOB,
    ROOT,
    allow,
    ask,
    deny,
    document,
    grants,
    of_bucket,
    policies,
)

UNLIMITED = Grants(True, Policies(()))
_RESTRICT = PublicAccessBlock(restrict_public_buckets=True)
_KMS = "arn:minio:kms:::"

#: What policies of one side say about the question of the table.
_OWN: Mapping[str, Grants] = {
    "nothing": grants(allow("s3:PutObject")),
    "allow": grants(allow("s3:GetObject")),
    "deny": grants(allow("s3:*"), deny("s3:GetObject")),
}
_LIMITS: Mapping[str, tuple[Policies, ...]] = {
    "none": (),
    "allow": (policies(allow("s3:*")),),
    "silent": (policies(allow("s3:*")), policies(allow("s3:PutObject"))),
    "deny": (policies(allow("s3:*"), deny("s3:GetObject")),),
}
_ALICE = {"Principal": {"AWS": "alice"}}
_BUCKET: Mapping[str, Policies | None] = {
    "none": None,
    "silent": of_bucket(allow("s3:PutObject")),
    "allow everyone": of_bucket(allow("s3:GetObject")),
    "allow alice": of_bucket(allow("s3:GetObject", **_ALICE)),
    "deny everyone": of_bucket(allow("s3:*"), deny("s3:GetObject")),
    "deny alice": of_bucket(allow("s3:*"), deny("s3:GetObject", **_ALICE)),
}
_ASKERS = {"anonymous": ANYBODY, "alice": ALICE, "bob": BOB, "root": ROOT}


def documented(asker: str, own: str, limit: str, bucket: str, restricted: bool) -> bool:
    """
    The decision as AWS documents it for principals of one account.
    """
    denied = bucket in ("deny everyone", f"deny {asker}")
    # What denies alice only, allows everybody else.
    granted = bucket in ("allow everyone", f"allow {asker}", "deny alice")
    if asker == "anonymous":
        return granted and not denied and not restricted
    if denied or (own == "deny" and asker != "root"):
        return False
    if limit in ("silent", "deny"):
        return False
    return granted or own == "allow" or asker == "root"


class TableTests(SyncCase):
    """
    The decision for every kind of asker, policy, limit and bucket.
    """

    def test_table(self) -> None:
        """
        It is the documented one.
        """
        allowed = 0
        for asker, own, limit, bucket, restricted in product(
            _ASKERS, _OWN, _LIMITS, _BUCKET, (False, True)
        ):
            if asker == "anonymous" and (own, limit) != ("nothing", "none"):
                continue
            given = evolve(UNLIMITED if asker == "root" else _OWN[own], limits=_LIMITS[limit])
            if asker == "anonymous":
                given = NOTHING
            answer = decide(
                ask("s3:GetObject"),
                _ASKERS[asker],
                given,
                _BUCKET[bucket],
                PublicAccessBlock(restrict_public_buckets=restricted),
            )
            expected = documented(asker, own, limit, bucket, restricted)
            self.assertIs(answer, expected, (asker, own, limit, bucket, restricted))
            allowed += answer
        self.assertGreater(allowed, 50)


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
        every = (allow("admin:*"), allow("kms:*", _KMS + "*"), allow("sts:*"))
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
        some = grants(allow("kms:*", _KMS + "team-*"))
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


class IncludedTests(SyncCase):
    """
    Some actions are included in others.
    """

    def answers(
        self, action: str, given: Grants, bucket: Policies | None = None, who: Asker = ALICE
    ) -> bool:
        """
        A decision about a bucket or an object.
        """
        resource = "b" if "Bucket" in action else "b/k"
        return decide(ask(action, resource), who, given, bucket)

    def test_listings(self) -> None:
        """
        Who may list a bucket may see that it is there, and list versions unless that is denied.
        """
        for action in ("s3:ListBucketVersions", "s3:HeadBucket"):
            listing = allow("s3:ListBucket", ARN + "b")
            self.assertTrue(self.answers(action, grants(listing)))
            self.assertTrue(self.answers(action, grants(allow(action, ARN + "b"))))
            self.assertFalse(self.answers("s3:ListBucket", grants(allow(action, ARN + "b"))))
            self.assertFalse(self.answers(action, grants(listing, deny(action))))
            self.assertFalse(self.answers(action, grants(listing), of_bucket(deny(action))))
            self.assertTrue(self.answers(action, NOTHING, of_bucket(listing), ANYBODY))
            limited = Grants(False, policies(allow("s3:*")), (policies(listing),))
            self.assertTrue(self.answers(action, limited))

    def test_reading_versions(self) -> None:
        """
        Who may read versions may read objects, not the other way round.
        """
        self.assertTrue(self.answers("s3:GetObject", grants(allow("s3:GetObjectVersion"))))
        self.assertFalse(self.answers("s3:GetObjectVersion", grants(allow("s3:GetObject"))))
        given = grants(allow("s3:GetObjectVersion"), deny("s3:GetObject"))
        self.assertFalse(self.answers("s3:GetObject", given))
        given = grants(allow("s3:GetObject"), deny("s3:GetObjectVersion"))
        self.assertTrue(self.answers("s3:GetObject", given))

    def test_deleting_versions(self) -> None:
        """
        Who may delete objects may delete versions, unless that is denied.
        """
        version, plain = "s3:DeleteObjectVersion", "s3:DeleteObject"
        self.assertTrue(self.answers(version, grants(allow(plain))))
        self.assertTrue(self.answers(version, grants(allow(version))))
        self.assertFalse(self.answers(plain, grants(allow(version))))
        self.assertFalse(self.answers(version, grants(allow(plain), deny(version))))
        self.assertFalse(self.answers(version, grants(allow(plain)), of_bucket(deny(version))))
        self.assertFalse(self.answers(version, grants(allow(plain)), of_bucket(deny(plain))))
        self.assertTrue(self.answers(version, grants(allow(version), deny(plain))))


class PrincipalTests(SyncCase):
    """
    Whom statements of a bucket mean.
    """

    def meant(self, effect: str, **element: object) -> set[str]:
        """
        Those that a statement means.
        """
        statement = {"Effect": effect, "Action": "s3:GetObject", "Resource": ARN + "b/*"}
        bucket = of_bucket({**statement, **element})
        question = ask("s3:GetObject")
        return {
            who
            for who, asker in _ASKERS.items()
            if bucket.verdict(
                question.action,
                question.resource,
                lookup(question, asker, NOTHING),
                Whom(asker.user if asker.kind else None, asker is ROOT),
            )
            is (Verdict.ALLOW if effect == "Allow" else Verdict.DENY)
        }

    def test_everyone(self) -> None:
        """
        A star means everyone, anonymous or not.
        """
        for element in ("*", {"AWS": "*"}, {"AWS": ["bob", "*"]}):
            for effect in ("Allow", "Deny"):
                self.assertEqual(self.meant(effect, Principal=element), set(_ASKERS))
                self.assertEqual(self.meant(effect, NotPrincipal=element), set())

    def test_users(self) -> None:
        """
        A user is meant by name or by ARN, with an account or without.
        """
        for name in ("alice", "arn:aws:iam:::user/alice", "arn:aws:iam::123456789012:user/alice"):
            for element in ({"AWS": name}, {"AWS": ["x", name]}):
                for effect in ("Allow", "Deny"):
                    self.assertEqual(self.meant(effect, Principal=element), {"alice"})
                    self.assertEqual(
                        self.meant(effect, NotPrincipal=element), {"anonymous", "bob", "root"}
                    )

    def test_account(self) -> None:
        """
        The account is its root user, and all of its users where something is denied.
        """
        for name in ("arn:aws:iam::123456789012:root", "arn:aws:iam:::root", "123456789012"):
            element = {"AWS": name}
            self.assertEqual(self.meant("Allow", Principal=element), {"root"})
            self.assertEqual(self.meant("Deny", Principal=element), {"alice", "bob", "root"})
            for effect in ("Allow", "Deny"):
                self.assertEqual(
                    self.meant(effect, NotPrincipal=element), {"anonymous", "alice", "bob"}
                )

    def test_root_by_name(self) -> None:
        """
        The root user is meant by its name, too.
        """
        self.assertEqual(self.meant("Deny", Principal={"AWS": "admin"}), {"root"})

    def test_in_the_name_of(self) -> None:
        """
        Sessions and service accounts are meant with their user, and limited all the same.
        """
        bucket = of_bucket(allow("s3:GetObject", Principal={"AWS": "alice"}))
        question = ask("s3:GetObject")
        for kind in (Kind.SERVICE, Kind.SESSION):
            asker = Asker(kind, "alice")
            self.assertTrue(decide(question, asker, NOTHING, bucket))
            limited = evolve(NOTHING, limits=(policies(allow("s3:PutObject")),))
            self.assertFalse(decide(question, asker, limited, bucket))


class PublicAccessTests(SyncCase):
    """
    What a public access block changes.
    """

    def test_restricted(self) -> None:
        """
        A public policy allows anonymous requests nothing any more, and users what it did.
        """
        bucket = of_bucket(allow("s3:GetObject"), allow("s3:PutObject", Principal={"AWS": "bob"}))
        question = ask("s3:GetObject")
        self.assertTrue(decide(question, ANYBODY, NOTHING, bucket, PublicAccessBlock()))
        self.assertFalse(decide(question, ANYBODY, NOTHING, bucket, _RESTRICT))
        self.assertTrue(decide(question, ALICE, NOTHING, bucket, _RESTRICT))

    def test_not_public(self) -> None:
        """
        What a policy allows that is not public stays allowed.
        """
        condition = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
        bucket = of_bucket(allow("s3:GetObject", Condition=condition))
        question = ask("s3:GetObject", values={"aws:sourceip": ("192.0.2.1",)})
        self.assertTrue(decide(question, ANYBODY, NOTHING, bucket, _RESTRICT))

    def test_others(self) -> None:
        """
        The other settings change no decision.
        """
        block = PublicAccessBlock(
            block_public_acls=True, ignore_public_acls=True, block_public_policy=True
        )
        bucket = of_bucket(allow("s3:GetObject"))
        self.assertTrue(decide(ask("s3:GetObject"), ANYBODY, NOTHING, bucket, block))


class KeyTests(SyncCase):
    """
    Whether somebody may have a master key used.
    """

    def check(self, expected: bool, given: Grants, name: str = "key", who: Asker = ALICE) -> None:
        """
        Expect a decision about both ways to use a key.
        """
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            self.assertIs(decide_key(ask(action, name), who, given), expected, action)

    def test_unmentioned(self) -> None:
        """
        They may where no policy speaks of that.
        """
        self.check(True, NOTHING, who=ANYBODY)
        self.check(True, grants(allow("s3:*"), deny("s3:PutObject"), allow("*", "*")))
        self.check(True, grants(allow("kms:CreateKey", _KMS + "other")))

    def test_mentioned(self) -> None:
        """
        Where a policy speaks of it, it has to be allowed.
        """
        given = grants(allow("kms:*", _KMS + "team-*"))
        self.check(True, given, "team-1")
        self.check(False, given, "other")
        self.check(False, grants(deny("kms:Decrypt", _KMS + "other")))
        self.check(True, Grants(False, Policies([CANNED["consoleAdmin"]])))

    def test_one_of_both(self) -> None:
        """
        Who speaks of one way to use a key speaks of the other one.
        """
        given = grants(allow("kms:Decrypt", "*"))
        self.assertTrue(decide_key(ask("kms:Decrypt", "key"), ALICE, given))
        self.assertFalse(decide_key(ask("kms:GenerateDataKey", "key"), ALICE, given))

    def test_denied(self) -> None:
        """
        A statement that denies all actions denies that, too.
        """
        self.check(False, grants(deny("*", "*")))
        self.check(True, grants(deny("*", ARN + "b/*")))

    def test_limits(self) -> None:
        """
        Limits that speak of it have to allow it, too; also for the root user.
        """
        limit = policies(allow("kms:*", _KMS + "team-*"))
        for unlimited in (False, True):
            given = Grants(
                unlimited, policies(allow("kms:*", "*")), (limit, policies(allow("s3:*")))
            )
            self.check(True, given, "team-1")
            self.check(False, given, "other")
        self.check(True, UNLIMITED, who=ROOT)


class TagTests(SyncCase):
    """
    Tags of the object are read only where a statement asks for them.
    """

    def test_needs(self) -> None:
        """
        They are needed when a statement about that action on that object asks for them.
        """
        condition = {"Condition": {"StringEquals": {"s3:ExistingObjectTag/Team": "a"}}}
        tagged = allow("s3:GetObject", ARN + "b/*", **condition)
        question = evolve(ask("s3:GetObject"), existing_tags=_no_tags)
        limited = Grants(False, policies(allow("s3:*")), (policies(tagged),))
        self.assertTrue(needs_tags(question, grants(tagged)))
        self.assertTrue(needs_tags(question, limited))
        self.assertTrue(needs_tags(question, NOTHING, of_bucket(tagged)))
        self.assertFalse(needs_tags(ask("s3:GetObject"), grants(tagged)))
        self.assertFalse(needs_tags(question, grants(allow("s3:*"))))
        self.assertFalse(needs_tags(evolve(question, resource="c/k"), grants(tagged)))
        self.assertFalse(needs_tags(evolve(question, action="s3:PutObject"), grants(tagged)))
        version = allow("s3:GetObjectVersion", ARN + "b/*", **condition)
        self.assertTrue(needs_tags(question, grants(version)))

    def test_decide(self) -> None:
        """
        With their values the statement counts or not.
        """
        condition = {"Condition": {"StringEquals": {"s3:ExistingObjectTag/Team": "a"}}}
        given = grants(allow("s3:GetObject", **condition))
        question = ask("s3:GetObject", values={"s3:existingobjecttag/Team": ("a",)})
        for tags, expected in (
            ({"Team": "a"}, True),
            ({"Team": "b"}, False),
            ({"team": "a"}, False),
            ({}, False),
            (None, False),
        ):
            self.assertIs(decide(question, ALICE, given, tags=tags), expected, tags)


class RequestTests(SyncCase):
    """
    Conditions ask real requests.
    """

    def test_headers(self) -> None:
        """
        What a request says decides, with keys of policies in any case.
        """
        condition = {
            "StringEquals": {
                "s3:RequestObjectTag/Team": "red",
                "s3:x-amz-Server-Side-Encryption": "aws:kms",
            },
            "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["Team", "Year"]},
            "Null": {"s3:if-none-match": "false"},
            "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
        }
        given = grants(allow("s3:PutObject", Condition=condition))
        headers = {
            "x-amz-tagging": "Team=red&Year=2026",
            "x-amz-server-side-encryption": "aws:kms",
            "if-none-match": "*",
        }
        for changed, expected in (
            ({}, True),
            ({"x-amz-tagging": "Team=blue"}, False),
            ({"x-amz-tagging": "team=red"}, False),
            ({"x-amz-tagging": "Team=red&Other=1"}, False),
            ({"x-amz-server-side-encryption": "AES256"}, False),
            ({"if-none-match": None}, False),
        ):
            sent = tuple(
                (name, value) for name, value in {**headers, **changed}.items() if value is not None
            )
            head = RequestHead("PUT", "/b/k", (), sent, False, "192.0.2.1")
            values = RequestValues(head, 0.0, "AWS4-HMAC-SHA256", "REST-HEADER")
            question = Question("s3:PutObject", "b/k", values)
            self.assertIs(decide(question, ALICE, given), expected, changed)


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


def _no_tags() -> Awaitable[Mapping[str, str]]:
    raise AssertionError("nobody reads tags here")

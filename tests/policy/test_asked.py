# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.evaluate``: what is asked about, and of whom.
"""

from collections.abc import Awaitable, Mapping

from attrs import evolve

from kypello.auth.request import RequestHead
from kypello.auth.values import RequestValues
from kypello.model import Question
from kypello.policy.canned import CANNED
from kypello.policy.evaluate import (
    NOTHING,
    Asker,
    Grants,
    Policies,
    decide,
    decide_key,
    needs_tags,
)
from tests.cases import SyncCase
from tests.policy.asking import (
    ALICE,
    ANYBODY,
    ARN,
    KMS_ARN,
    ROOT,
    UNLIMITED,
    allow,
    ask,
    deny,
    grants,
    of_bucket,
    policies,
)


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
        Who may read versions may read objects, and the other way round, unless that is denied.
        """
        version, plain = "s3:GetObjectVersion", "s3:GetObject"
        for asked, other in ((plain, version), (version, plain)):
            self.assertTrue(self.answers(asked, grants(allow(other))))
            self.assertFalse(self.answers(asked, grants(allow(other), deny(asked))))
            self.assertTrue(self.answers(asked, grants(allow(asked), deny(other))))
            self.assertFalse(self.answers(asked, grants(allow(other)), of_bucket(deny(asked))))
            self.assertTrue(self.answers(asked, NOTHING, of_bucket(allow(other)), ANYBODY))

    def test_tags_of_versions(self) -> None:
        """
        Who may do something with the tags of objects may do so with those of versions, unless that
        is denied.
        """
        for verb in ("Get", "Put", "Delete"):
            version, plain = f"s3:{verb}ObjectVersionTagging", f"s3:{verb}ObjectTagging"
            self.assertTrue(self.answers(version, grants(allow(plain))))
            self.assertFalse(self.answers(plain, grants(allow(version))))
            self.assertFalse(self.answers(version, grants(allow(plain), deny(version))))
            self.assertFalse(self.answers(version, grants(allow("s3:GetObject"))))

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
        self.check(True, grants(allow("kms:CreateKey", KMS_ARN + "other")))

    def test_mentioned(self) -> None:
        """
        Where a policy speaks of it, it has to be allowed.
        """
        given = grants(allow("kms:*", KMS_ARN + "team-*"))
        self.check(True, given, "team-1")
        self.check(False, given, "other")
        self.check(True, Grants(False, Policies([CANNED["consoleAdmin"]])))

    def test_denied_one(self) -> None:
        """
        What is only denied for one key is not for the others.
        """
        given = grants(deny("kms:*", KMS_ARN + "other"))
        self.check(False, given, "other")
        self.check(True, given, "key")

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
        limit = policies(allow("kms:*", KMS_ARN + "team-*"))
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
            ({"x-amz-server-side-encryption": "aws:kms:dsse"}, False),
            ({"if-none-match": None}, False),
        ):
            sent = tuple(
                (name, value) for name, value in {**headers, **changed}.items() if value is not None
            )
            head = RequestHead("PUT", "/b/k", (), sent, False, "192.0.2.1")
            values = RequestValues(head, 0.0, "AWS4-HMAC-SHA256", "REST-HEADER")
            question = Question("s3:PutObject", "b/k", values)
            self.assertIs(decide(question, ALICE, given), expected, changed)


def _no_tags() -> Awaitable[Mapping[str, str]]:
    raise AssertionError("nobody reads tags here")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.principal``, and for what a public access block changes.
"""

from attrs import evolve

from kypello.model import Kind
from kypello.policy.compiled import Whom
from kypello.policy.evaluate import (
    NOTHING,
    Asker,
    Verdict,
    decide,
    lookup,
)
from kypello.policy.publicaccess import PublicAccessBlock
from tests.cases import SyncCase
from tests.policy.asking import (
    ALICE,
    ANYBODY,
    ARN,
    ASKERS,
    ROOT,
    allow,
    ask,
    of_bucket,
    policies,
)

_RESTRICT = PublicAccessBlock(restrict_public_buckets=True)


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
            for who, asker in ASKERS.items()
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
                self.assertEqual(self.meant(effect, Principal=element), set(ASKERS))
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

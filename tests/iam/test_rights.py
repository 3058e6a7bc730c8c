# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.rights`` and ``kypello.iam.standing``.
"""

import json

from zope.interface.verify import verifyObject

from kypello.errors import NoSuchAccessKey
from kypello.iam.values import Holder, HolderKind
from kypello.interfaces import (
    BUCKET_POLICY,
    IAuthorizer,
    IIdentities,
)
from kypello.model import Identity, Question
from kypello.policy.document import parse_policy
from tests.iam.case import NOW, ROOT, SECRET, AccountsCase, bucket_policy, limit, policy
from tests.iam.test_policies import ALICE, SUBJECT, TEAM


class RightsTests(AccountsCase):
    """
    Who may do what.
    """

    async def prepare(self) -> None:
        """
        Make a user in a group, and policies that read and write.
        """
        await self.accounts.set_user("alice", SECRET)
        await self.accounts.add_members("team", ["alice"])
        await self.accounts.put_policy("read", policy("s3:GetObject"))
        await self.accounts.put_policy("write", policy("s3:PutObject"))
        await self.accounts.put_policy("no-reading", policy("s3:GetObject", "Deny"))

    def test_provides(self) -> None:
        """
        Accounts are those who may sign, and decide what each may do.
        """
        verifyObject(IIdentities, self.accounts)
        verifyObject(IAuthorizer, self.accounts)

    async def test_root(self) -> None:
        """
        The root user may do everything, as long as the bucket does not deny it.
        """
        for action in ("s3:GetObject", "admin:CreateUser", "s3:DeleteBucket"):
            self.assertTrue(await self.allowed(ROOT.access_key, action))
        denied = {BUCKET_POLICY: bucket_policy("Deny")}
        self.assertFalse(await self.allowed(ROOT.access_key, settings=denied))
        self.assertEqual(self.kms.calls, [])

    async def test_nobody(self) -> None:
        """
        Who is not there, or has no policy, may nothing.
        """
        await self.prepare()
        for access_key in (None, "nobody", "alice"):
            self.assertFalse(await self.allowed(access_key))

    async def test_user(self) -> None:
        """
        A user may what its policies allow, and a statement that denies decides; each change
        counts at once in every process.
        """
        await self.prepare()
        await self.accounts.attach(["read"], ALICE)
        self.assertTrue(await self.allowed("alice"))
        self.assertFalse(await self.allowed("alice", "s3:PutObject"))
        await self.other.attach(["no-reading"], ALICE)
        self.assertFalse(await self.allowed("alice"))
        await self.accounts.detach(["no-reading"], ALICE)
        self.assertTrue(await self.allowed("alice"))
        await self.other.put_policy("read", policy("s3:GetObject", resource="other/*"))
        self.assertFalse(await self.allowed("alice"))
        self.assertTrue(await self.allowed("alice", resource="other/key"))
        await self.accounts.set_user_enabled("alice", False)
        self.assertFalse(await self.allowed("alice", resource="other/key"))

    async def test_canned(self) -> None:
        """
        Canned policies count, until one of the name takes their place.
        """
        await self.prepare()
        await self.accounts.attach(["readwrite"], ALICE)
        self.assertTrue(await self.allowed("alice", "s3:PutObject"))
        await self.accounts.put_policy("readwrite", policy("s3:GetObject"))
        self.assertFalse(await self.allowed("alice", "s3:PutObject"))

    async def test_group(self) -> None:
        """
        A group gives its members its policies, while it is enabled.
        """
        await self.prepare()
        await self.accounts.attach(["write"], TEAM)
        self.assertTrue(await self.allowed("alice", "s3:PutObject"))
        for enabled in (False, True):
            await self.other.set_group_enabled("team", enabled)
            self.assertIs(await self.allowed("alice", "s3:PutObject"), enabled)
        await self.accounts.remove_members("team", ["alice"])
        self.assertFalse(await self.allowed("alice", "s3:PutObject"))

    async def test_key(self) -> None:
        """
        A service account may what its parent may, and what limits it allows, too.
        """
        await self.prepare()
        await self.accounts.set_policies(["read", "write"], ALICE)
        await self.make_key()
        for action in ("s3:GetObject", "s3:PutObject"):
            self.assertTrue(await self.allowed("service-key", action))
        await self.accounts.update_key("service-key", policy=limit("s3:GetObject s3:DeleteObject"))
        rights = [
            await self.allowed("service-key", action)
            for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        ]
        self.assertEqual(rights, [True, False, False])
        await self.other.detach(["read"], ALICE)
        self.assertFalse(await self.allowed("service-key"))
        await self.other.update_key("service-key", policy=None)
        self.assertTrue(await self.allowed("service-key", "s3:PutObject"))
        await self.accounts.set_user_enabled("alice", False)
        self.assertFalse(await self.allowed("service-key", "s3:PutObject"))

    async def test_key_of_root(self) -> None:
        """
        What acts for the root user may everything within its limits.
        """
        await self.make_key(parent=ROOT.access_key)
        self.assertTrue(await self.allowed("service-key", "admin:CreateUser", ""))
        await self.accounts.update_key("service-key", policy=limit("s3:GetObject"))
        self.assertFalse(await self.allowed("service-key", "admin:CreateUser", ""))
        self.assertTrue(await self.allowed("service-key"))
        session = await self.accounts.create_session(
            ROOT.access_key, duration=900, policy=limit("s3:PutObject")
        )
        self.assertTrue(await self.allowed(session.access_key, "s3:PutObject"))
        self.assertFalse(await self.allowed(session.access_key))

    async def test_expired(self) -> None:
        """
        What has expired may nothing.
        """
        await self.make_key(parent=ROOT.access_key, expires=NOW + 900)
        session = await self.accounts.create_session(ROOT.access_key, duration=900)
        for access_key in ("service-key", session.access_key):
            self.assertTrue(await self.allowed(access_key))
        self.clock.advance(900)
        for access_key in ("service-key", session.access_key):
            self.assertFalse(await self.allowed(access_key))

    async def test_bound(self) -> None:
        """
        Policies that a session was made with are its own: those of its parent, or of another
        session of that, do not matter; the policies themselves are as they are now.
        """
        await self.prepare()
        make, name = self.accounts.create_session, SUBJECT.name
        reader = await make(name, duration=900, policies=["read", "gone"], provider="openid")
        writer = await make(name, duration=900, policies=["write"], provider="openid")
        nothing = await make(name, duration=900, policies=[], provider="openid")
        inherits = await make(name, duration=900, provider="openid")
        await self.accounts.attach(["read"], SUBJECT)
        sessions = (reader, writer, nothing, inherits)
        rights = [await self.allowed(each.access_key) for each in sessions]
        self.assertEqual(rights, [True, False, False, True])
        await self.other.put_policy("read", policy("s3:PutObject"))
        self.assertFalse(await self.allowed(reader.access_key))
        root = await make(ROOT.access_key, duration=900, policies=["write"])
        self.assertFalse(await self.allowed(root.access_key))

    async def test_subject(self) -> None:
        """
        A subject has its own policies and those of the groups that its identity provider named.
        """
        await self.prepare()
        group = Holder(HolderKind.SUBJECT, "cn=group,dc=example")
        session = await self.accounts.create_session(
            SUBJECT.name, duration=900, groups=[group.name, "cn=other"], provider="ldap"
        )
        self.assertFalse(await self.allowed(session.access_key))
        await self.other.attach(["read"], group)
        self.assertTrue(await self.allowed(session.access_key))
        await self.other.attach(["write"], SUBJECT)
        self.assertTrue(await self.allowed(session.access_key, "s3:PutObject"))
        await self.other.set_policies([], group)
        self.assertFalse(await self.allowed(session.access_key))
        # A group of our own that happens to have the name gives nothing.
        await self.accounts.attach(["read"], TEAM)
        session = await self.accounts.create_session(
            "tls:client", duration=900, groups=["team"], provider="tls"
        )
        self.assertFalse(await self.allowed(session.access_key))

    async def test_claims(self) -> None:
        """
        Policies see who asks: name, groups and claims.
        """
        await self.prepare()
        text = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],'
            '"Resource":["arn:aws:s3:::${aws:username}/*"],'
            '"Condition":{"StringEquals":{"jwt:sub":"carol"}}}]}'
        )
        await self.accounts.put_policy("claims", parse_policy(text.encode()))
        make = self.accounts.create_session
        options = {"duration": 900, "policies": ["claims"], "provider": "openid"}
        right = await make("subject-c", claims={"jwt:sub": ["carol"]}, **options)
        wrong = await make("subject-c", claims={"jwt:sub": ["dave"]}, **options)
        self.assertTrue(await self.allowed(right.access_key, resource="subject-c/key"))
        self.assertFalse(await self.allowed(right.access_key, resource="subject-d/key"))
        self.assertFalse(await self.allowed(wrong.access_key, resource="subject-c/key"))

    async def test_own(self) -> None:
        """
        Everybody may care for their own account, unless their policies or what limits them say
        otherwise.
        """
        await self.prepare()
        await self.make_key()
        question = Question("admin:CreateServiceAccount")

        async def allowed(access_key: str) -> bool:
            """
            Whether both processes allow it.
            """
            identity = Identity(access_key, "")
            told = {
                await each.allows_own(identity, question) for each in (self.accounts, self.other)
            }
            self.assertEqual(len(told), 1)
            return told.pop()

        for access_key in ("alice", "service-key", ROOT.access_key):
            self.assertTrue(await allowed(access_key))
        self.assertFalse(await allowed("nobody"))
        self.assertFalse(await self.allowed("alice", "admin:CreateServiceAccount", ""))
        await self.accounts.update_key("service-key", policy=limit("s3:GetObject"))
        self.assertFalse(await allowed("service-key"))
        await self.accounts.update_key("service-key", policy=None)
        text = (
            b'{"Version":"2012-10-17","Statement":[{"Effect":"Deny",'
            b'"Action":["admin:CreateServiceAccount"]}]}'
        )
        await self.accounts.put_policy("no-keys", parse_policy(text))
        await self.other.attach(["no-keys"], ALICE)
        for access_key in ("alice", "service-key"):
            self.assertFalse(await allowed(access_key))
        await self.other.detach(["no-keys"], ALICE)
        await self.accounts.set_user_enabled("alice", False)
        for access_key in ("alice", "service-key"):
            self.assertFalse(await allowed(access_key))

    async def test_effective(self) -> None:
        """
        The policy that somebody has is told as one document.
        """
        await self.prepare()
        await self.accounts.attach(["read"], ALICE)
        await self.accounts.attach(["write"], TEAM)
        await self.make_key()
        for access_key in ("alice", "service-key"):
            document = json.loads(await self.other.effective_policy(access_key))
            actions = {action for each in document["Statement"] for action in each["Action"]}
            self.assertEqual(actions, {"s3:GetObject", "s3:PutObject"})
        await self.accounts.update_key("service-key", policy=limit("s3:ListBucket", resource="b"))
        document = json.loads(await self.other.effective_policy("service-key"))
        self.assertEqual(document["Statement"][0]["Action"], ["s3:ListBucket"])
        for access_key in ("nobody", ROOT.access_key):
            await self.refused(NoSuchAccessKey, self.accounts.effective_policy(access_key))

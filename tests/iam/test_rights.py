# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.rights`` and ``kypello.iam.standing``.
"""

import json
from collections.abc import Mapping, Sequence

from attrs import define
from zope.interface.verify import verifyObject

from kypello.errors import Damaged, KMSUnavailable, NoSuchAccessKey
from kypello.iam.values import Holder, HolderKind
from kypello.interfaces import (
    BUCKET_POLICY,
    PUBLIC_ACCESS_BLOCK,
    IAuthorizer,
    IIdentities,
)
from kypello.model import Identity, Question
from kypello.policy.document import parse_policy
from kypello.policy.publicaccess import PublicAccessBlock
from kypello.store.memory import MemoryIndex
from tests.iam.case import KEY, NOW, ROOT, SECRET, AccountsCase, limit, policy
from tests.iam.test_policies import ALICE, SUBJECT, TEAM


def bucket_policy(
    effect: str = "Allow",
    action: str = "s3:GetObject",
    resource: str = "bucket/*",
    condition: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """
    The policy of a bucket, for everybody.
    """
    statement = {
        "Effect": effect,
        "Principal": "*",
        "Action": action,
        "Resource": f"arn:aws:s3:::{resource}",
        **({} if condition is None else {"Condition": condition}),
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()


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


class BucketTests(AccountsCase):
    """
    What buckets say.
    """

    async def test_anonymous(self) -> None:
        """
        Somebody who does not sign may what the bucket allows, unless that is restricted.
        """
        settings = {BUCKET_POLICY: bucket_policy()}
        self.assertTrue(await self.allowed(None, settings=settings))
        self.assertFalse(await self.allowed(None, "s3:PutObject", settings=settings))
        self.assertFalse(await self.allowed(None, settings={}))
        settings[PUBLIC_ACCESS_BLOCK] = PublicAccessBlock(restrict_public_buckets=True).to_bytes()
        self.assertFalse(await self.allowed(None, settings=settings))

    async def test_signed(self) -> None:
        """
        The policy of a bucket counts for users, too, unless that is switched off.
        """
        await self.accounts.set_user("alice", SECRET)
        settings = {BUCKET_POLICY: bucket_policy()}
        self.assertTrue(await self.allowed("alice", settings=settings))
        await self.accounts.attach(["readwrite"], ALICE)
        settings = {BUCKET_POLICY: bucket_policy("Deny")}
        self.assertFalse(await self.allowed("alice", settings=settings))
        self.accounts = self.process(0, bucket_policies_for_all=False)
        self.other = self.process(1, bucket_policies_for_all=False)
        self.assertTrue(await self.allowed("alice", settings=settings))
        self.assertTrue(await self.allowed(ROOT.access_key, settings=settings))
        self.assertFalse(await self.allowed(None, settings=settings))
        self.assertTrue(await self.allowed(None, settings={BUCKET_POLICY: bucket_policy()}))

    async def test_changed(self) -> None:
        """
        Another policy of a bucket counts at once, and that of one bucket for no other.
        """
        allowed, denied = bucket_policy(), bucket_policy("Deny")
        for _ in range(2):
            self.assertTrue(await self.allowed(None, settings={BUCKET_POLICY: allowed}))
            self.assertFalse(await self.allowed(None, settings={BUCKET_POLICY: denied}))

    async def test_malformed(self) -> None:
        """
        Settings that cannot be read allow nothing, and are told.
        """
        for settings in (
            {BUCKET_POLICY: b"{}"},
            {BUCKET_POLICY: b""},
            {BUCKET_POLICY: bucket_policy(resource="other/*")},
            {BUCKET_POLICY: bucket_policy(), PUBLIC_ACCESS_BLOCK: b"x"},
        ):
            for identity in (None, ROOT):
                question = Question("s3:GetObject", "bucket/key")
                work = self.accounts.allows(identity, question, settings)
                await self.refused(Damaged, work)

    async def test_tags(self) -> None:
        """
        The tags of an object are read when a policy asks for them, and not otherwise.
        """
        read: list[str] = []

        async def tags() -> Mapping[str, str]:
            """
            Tell the tags.
            """
            read.append("tags")
            return {"public": "yes"}

        question = Question("s3:GetObject", "bucket/key", existing_tags=tags)
        plain = {BUCKET_POLICY: bucket_policy()}
        self.assertTrue(await self.accounts.allows(None, question, plain))
        self.assertEqual(read, [])
        for value in ("yes", "no"):
            condition = {"StringEquals": {"s3:ExistingObjectTag/public": value}}
            settings = {BUCKET_POLICY: bucket_policy(condition=condition)}
            allowed = await self.accounts.allows(None, question, settings)
            self.assertIs(allowed, value == "yes")
        self.assertEqual(read, ["tags", "tags"])


class MasterKeyTests(AccountsCase):
    """
    Who may have master keys used.
    """

    async def test_keys(self) -> None:
        """
        Everybody may, unless their policies speak of it: then these decide.
        """
        await self.accounts.set_user("alice", SECRET)
        question = Question("kms:GenerateDataKey", "my-key")
        identities: Sequence[Identity | None] = (None, ROOT, Identity("alice", ""))
        for identity in identities:
            self.assertTrue(await self.accounts.allows_key(identity, question))
        text = (
            b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
            b'"Action":["kms:GenerateDataKey"],"Resource":["arn:minio:kms:::other-*"]}]}'
        )
        await self.accounts.put_policy("keys", parse_policy(text))
        await self.accounts.attach(["keys"], ALICE)
        self.assertFalse(await self.other.allows_key(Identity("alice", ""), question))
        question = Question("kms:GenerateDataKey", "other-key")
        self.assertTrue(await self.other.allows_key(Identity("alice", ""), question))
        self.assertFalse(await self.other.allows_key(Identity("nobody", ""), question))


@define(eq=False)
class OvertakenIndex(MemoryIndex):
    """
    An index where something happens after a read of choice.

    :ivar reads: How many are to come until then; each is answered before.
    """

    reads: int = 0
    meanwhile: object = None

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read, and perhaps let something happen.
        """
        found = await super().get(space, keys)
        self.reads -= 1
        if not self.reads:
            await self.meanwhile()
        return found


class InstantTests(AccountsCase):
    """
    What is told is so at one instant.
    """

    async def test_moved(self) -> None:
        """
        Rights that somebody had at no time are not told: here the group gets a policy just
        after the user has left it.
        """
        for reads in range(1, 8):
            self.setUp()
            self.below = overtaken = OvertakenIndex()
            self.accounts, self.other = self.process(0), self.process(1)
            await self.other.set_user("alice", SECRET)
            await self.other.add_members("team", ["alice"])

            async def meanwhile() -> None:
                """
                Leave the group, which may read then.
                """
                await self.other.remove_members("team", ["alice"])
                await self.other.attach(["readonly"], TEAM)

            overtaken.meanwhile, overtaken.reads = meanwhile, reads
            question = Question("s3:GetObject", "bucket/key")
            allowed = await self.accounts.allows(Identity("alice", ""), question, {})
            self.assertFalse(allowed, reads)
            self.assertFalse(await self.allowed("alice"))

    async def test_outage(self) -> None:
        """
        Who is known is not told any more when the data key cannot be opened.
        """
        await self.accounts.set_user("alice", SECRET)
        await self.accounts.attach(["readonly"], ALICE)
        await self.accounts.create_key(KEY)
        self.assertTrue(await self.allowed("alice"))
        self.kms.down = True
        self.clock.advance(301)
        question = Question("s3:GetObject", "bucket/key")
        for access_key in ("alice", "service-key"):
            identity = Identity(access_key, "")
            await self.refused(KMSUnavailable, self.accounts.allows(identity, question, {}))
            await self.refused(KMSUnavailable, self.accounts.allows_key(identity, question))
            self.assertIsNone(self.accounts._standings.get(access_key))
        self.assertTrue(await self.accounts.allows(ROOT, question, {}))
        allowing = {BUCKET_POLICY: bucket_policy()}
        self.assertTrue(await self.accounts.allows(None, question, allowing))

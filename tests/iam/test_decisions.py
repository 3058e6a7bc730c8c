# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.rights``: buckets, master keys, and what is so at one instant.
"""

from collections.abc import Mapping, Sequence

from attrs import define

from kypello.errors import Damaged, KMSUnavailable
from kypello.interfaces import (
    BUCKET_POLICY,
    PUBLIC_ACCESS_BLOCK,
)
from kypello.model import Identity, Question
from kypello.policy.document import parse_policy
from kypello.policy.publicaccess import PublicAccessBlock
from kypello.store.memory import MemoryIndex
from tests.iam.case import KEY, ROOT, SECRET, AccountsCase, bucket_policy
from tests.iam.test_policies import ALICE, TEAM


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
        Settings that cannot be read allow nothing, and are told; but the root user can put that
        right.
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
            for action in ("s3:GetBucketPolicy", "s3:DeleteBucketPolicy"):
                question = Question(action, "bucket")
                self.assertTrue(await self.accounts.allows(ROOT, question, settings))

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

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.policies``.
"""

from kypello.errors import (
    InvalidAccount,
    NoPolicyChange,
    NoSuchGroup,
    NoSuchPolicy,
    NoSuchUser,
    PolicyInUse,
    PolicyProtected,
)
from kypello.iam.limits import POLICY_SIZE
from kypello.iam.values import Holder, HolderKind, PolicyInfo
from kypello.policy.canned import CANNED
from kypello.policy.document import parse_policy
from tests.iam.case import NOW, ROOT, SECRET, AccountsCase, policy, statement

ALICE = Holder(HolderKind.USER, "alice")
TEAM = Holder(HolderKind.GROUP, "team")
SUBJECT = Holder(HolderKind.SUBJECT, "uid=carol,dc=example")

_NS = int(NOW) * 1_000_000_000


class PolicyTests(AccountsCase):
    """
    Policies by name.
    """

    async def test_put(self) -> None:
        """
        A policy is told as it was put, and when it was made and changed.
        """
        first, second = policy("s3:GetObject"), policy("s3:PutObject")
        await self.accounts.put_policy("mine", first)
        self.assertEqual(await self.other.policy("mine"), PolicyInfo("mine", first, _NS, _NS))
        self.clock.advance(1)
        await self.other.put_policy("mine", second)
        expected = PolicyInfo("mine", second, _NS, _NS + 1_000_000_000)
        self.assertEqual(await self.accounts.policy("mine"), expected)
        names = [info.name for info in await self.accounts.policies()]
        self.assertEqual(names, sorted([*CANNED, "mine"]))

    async def test_canned(self) -> None:
        """
        Canned policies are there without being kept; one that takes the place of such counts
        until it is removed.
        """
        canned = PolicyInfo("readonly", CANNED["readonly"], None, None)
        self.assertEqual(await self.accounts.policy("readonly"), canned)
        self.assertIn(canned, await self.accounts.policies())
        await self.unchanged(PolicyProtected, self.accounts.remove_policy("readonly"))
        ours = policy("s3:ListBucket")
        await self.accounts.put_policy("readonly", ours)
        self.assertEqual((await self.other.policy("readonly")).policy, ours)
        self.assertIn(ours, [info.policy for info in await self.other.policies()])
        await self.accounts.remove_policy("readonly")
        self.assertEqual(await self.other.policy("readonly"), canned)

    async def test_refused(self) -> None:
        """
        Names with a comma, and documents that are too large, are refused.
        """
        for name in ("a,b", "", " a", "a\n"):
            error = await self.unchanged(
                InvalidAccount, self.accounts.put_policy(name, policy("s3:GetObject"))
            )
            self.assertEqual(error.what, "policy name")
        text = statement("s3:GetObject")
        largest = parse_policy(text + b" " * (POLICY_SIZE - len(text)))
        await self.accounts.put_policy("large", largest)
        self.assertEqual((await self.other.policy("large")).policy, largest)
        error = await self.unchanged(
            InvalidAccount,
            self.accounts.put_policy("large", parse_policy(largest.text + b" ")),
        )
        self.assertEqual(error.what, "policy")

    async def test_removed(self) -> None:
        """
        A policy that somebody has stays; one that nobody has goes.
        """
        await self.accounts.set_user("alice", SECRET)
        await self.accounts.add_members("team", [])
        await self.accounts.put_policy("mine", policy("s3:GetObject"))
        for holder in (ALICE, TEAM, SUBJECT):
            await self.accounts.attach(["mine"], holder)
            error = await self.unchanged(PolicyInUse, self.other.remove_policy("mine"))
            self.assertEqual(error.name, "mine")
            await self.accounts.detach(["mine"], holder)
        await self.other.remove_policy("mine")
        for work in (self.accounts.policy("mine"), self.accounts.remove_policy("mine")):
            await self.unchanged(NoSuchPolicy, work)


class HolderTests(AccountsCase):
    """
    Who has policies.
    """

    async def prepare(self) -> None:
        """
        Make a user, a group and a policy.
        """
        await self.accounts.set_user("alice", SECRET)
        await self.accounts.add_members("team", ["alice"])
        await self.accounts.put_policy("mine", policy("s3:GetObject"))

    async def test_attached(self) -> None:
        """
        Policies are attached and detached, to users, groups and subjects; what had an effect
        is told.
        """
        await self.prepare()
        for holder in (ALICE, TEAM, SUBJECT):
            attach, detach = self.accounts.attach, self.other.detach
            self.assertEqual(await attach(["readonly", "mine"], holder), ("readonly", "mine"))
            self.assertEqual(await attach(["mine", "writeonly", "mine"], holder), ("writeonly",))
            held = await self.other.holders()
            self.assertEqual(held, {holder: ("mine", "readonly", "writeonly")})
            await self.unchanged(NoPolicyChange, attach(["mine", "readonly"], holder))
            self.assertEqual(await detach(["mine", "nothing", "mine"], holder), ("mine",))
            await self.unchanged(NoPolicyChange, detach(["mine", "nothing"], holder))
            await self.accounts.set_policies(["mine", "diagnostics"], holder)
            self.assertEqual(await self.other.holders(), {holder: ("diagnostics", "mine")})
            await self.accounts.set_policies([], holder)
            self.assertEqual(await self.other.holders(), {})
        self.assertNotIn(b"subject/", b"".join(await self.keys_below()))

    async def test_told(self) -> None:
        """
        Users and groups tell the policies they have.
        """
        await self.prepare()
        await self.accounts.attach(["mine"], ALICE)
        await self.accounts.attach(["readonly"], TEAM)
        self.assertEqual((await self.other.user("alice")).policies, ("mine",))
        self.assertEqual((await self.other.group("team")).policies, ("readonly",))

    async def test_refused(self) -> None:
        """
        Nothing is attached of policies that are not there, nor to somebody who is not there.
        """
        await self.prepare()
        for change in (self.accounts.attach, self.accounts.set_policies):
            for holder in (ALICE, TEAM, SUBJECT):
                error = await self.unchanged(NoSuchPolicy, change(["mine", "other"], holder))
                self.assertEqual(error.name, "other")
        for change in (self.accounts.attach, self.accounts.detach, self.accounts.set_policies):
            for name in ("bob", "team", ROOT.access_key):
                work = change(["mine"], Holder(HolderKind.USER, name))
                await self.unchanged(NoSuchUser, work)
            work = change(["mine"], Holder(HolderKind.GROUP, "alice"))
            await self.unchanged(NoSuchGroup, work)
            work = change(["mine"], Holder(HolderKind.SUBJECT, "a\x00b"))
            await self.unchanged(InvalidAccount, work)

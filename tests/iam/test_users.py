# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.users``.
"""

from kypello.errors import (
    AccessKeyTaken,
    GroupNotEmpty,
    InvalidAccount,
    NoSuchGroup,
    NoSuchUser,
)
from kypello.iam.values import GroupInfo, Holder, HolderKind, UserInfo
from kypello.model import Identity, Kind
from tests.iam.case import NOW, ROOT, SECRET, AccountsCase

_NS = int(NOW) * 1_000_000_000


class UserTests(AccountsCase):
    """
    Users.
    """

    async def test_made(self) -> None:
        """
        A user that was made can sign, in every process.
        """
        self.assertIsNone(await self.enabled("alice"))
        await self.accounts.set_user("alice", SECRET)
        identity = Identity("alice", SECRET, Kind.USER, "alice")
        for each in (self.accounts, self.other):
            self.assertEqual(await each.identity("alice"), identity)
            self.assertEqual(await each.user("alice"), UserInfo("alice", True, (), (), _NS))
            for name in ("Alice", "alic", "alice ", "", "\udcff", "a\x00", "x" * 10_000):
                self.assertIsNone(await each.identity(name), name)

    async def test_again(self) -> None:
        """
        Who is made again gets another secret, and keeps the rest.
        """
        await self.accounts.set_user("alice", SECRET)
        await self.accounts.add_members("team", ["alice"])
        await self.accounts.attach(["readonly"], Holder(HolderKind.USER, "alice"))
        await self.other.set_user("alice", "other-secret", enabled=False)
        identity = await self.accounts.identity("alice")
        assert identity is not None
        self.assertEqual((identity.secret_key, identity.enabled), ("other-secret", False))
        info = await self.accounts.user("alice")
        self.assertEqual(info, UserInfo("alice", False, ("readonly",), ("team",), _NS))

    async def test_disabled(self) -> None:
        """
        Who is disabled in one process is so in the other before its next answer.
        """
        await self.accounts.set_user("alice", SECRET)
        for enabled in (False, True, False):
            await self.accounts.set_user_enabled("alice", enabled)
            self.assertIs(await self.enabled("alice"), enabled)
        await self.unchanged(NoSuchUser, self.accounts.set_user_enabled("bob", True))

    async def test_listed(self) -> None:
        """
        All users are told by name, however many there are; the root user is none of them.
        """
        names = [f"user-{number:04}" for number in range(600)]
        for name in reversed(names):
            await self.accounts.set_user(name, SECRET)
        self.assertEqual([user.name for user in await self.other.users()], names)
        error = await self.refused(NoSuchUser, self.accounts.user(ROOT.access_key))
        self.assertEqual(error.name, ROOT.access_key)
        secrets = await self.accounts.secrets()
        self.assertEqual({each.secret_key for each in secrets}, {SECRET})
        self.assertEqual([each.about for each in secrets], await self.accounts.users())

    async def test_removed(self) -> None:
        """
        With a user go its keys, its sessions and its memberships, at once.
        """
        for name in ("alice", "bob"):
            await self.accounts.set_user(name, SECRET)
        await self.accounts.add_members("team", ["alice", "bob"])
        kept = await self.keys_below()
        kept.remove(b"user/alice")
        await self.make_key()
        session = await self.accounts.create_session("alice", duration=900)
        self.assertTrue(await self.enabled(session.access_key))
        await self.other.remove_user("alice")
        for name in ("alice", "service-key", session.access_key):
            self.assertIsNone(await self.enabled(name), name)
        self.assertEqual((await self.accounts.group("team")).members, ("bob",))
        left = [key for key in await self.keys_below() if not key.startswith(b"expiry/")]
        self.assertEqual(left, kept)
        await self.unchanged(NoSuchUser, self.accounts.remove_user("alice"))
        self.clock.advance(900 + 86401)
        self.assertEqual(await self.accounts.sweep(), 1)
        self.assertEqual(await self.keys_below(), kept)

    async def test_refused(self) -> None:
        """
        Names and secrets that nobody could use are refused, and so is what is taken.
        """
        await self.accounts.set_user("alice", SECRET)
        key = await self.make_key()
        session = await self.accounts.create_session("alice", duration=900)
        for name, secret, what, reason in (
            (ROOT.access_key, SECRET, "reserved access key", "same as admin access key"),
            ("ab", SECRET, "access key", "between 3 and 20"),
            ("a" * 21, SECRET, "access key", "between 3 and 20"),
            ("a,bc", SECRET, "access key", "reserved characters '=' or ','"),
            ("a=bc", SECRET, "access key", "reserved characters '=' or ','"),
            ("a\nbc", SECRET, "access key", "not allowed"),
            ("a\x00bc", SECRET, "access key", "not allowed"),
            ("a\udcffbc", SECRET, "access key", "not allowed"),
            (" abc", SECRET, "access key", "not allowed"),
            ("bob", "", "secret key", "between 8 and 40"),
            ("bob", "1234567", "secret key", "between 8 and 40"),
            ("bob", "1" * 41, "secret key", "between 8 and 40"),
            ("bob", "12345678\n", "secret key", "not allowed"),
        ):
            error = await self.unchanged(InvalidAccount, self.accounts.set_user(name, secret))
            self.assertEqual(error.what, what)
            self.assertIn(reason, error.reason)
        for taken in (key.access_key, session.access_key):
            await self.unchanged(AccessKeyTaken, self.accounts.set_user(taken, SECRET))
        for name, secret in (("abc", "12345678"), ("ä" * 20, "1" * 40), ("a/b c", SECRET)):
            await self.accounts.set_user(name, secret)
            self.assertTrue(await self.enabled(name))


class GroupTests(AccountsCase):
    """
    Groups.
    """

    async def prepare(self) -> None:
        """
        Make two users and a group of one.
        """
        for name in ("alice", "bob"):
            await self.accounts.set_user(name, SECRET)
        await self.accounts.add_members("team", ["alice"])

    async def test_members(self) -> None:
        """
        Users come and go, and each is told its groups.
        """
        await self.prepare()
        self.clock.advance(1)
        await self.other.add_members("team", ["bob", "alice", "bob"])
        await self.accounts.add_members("other", ["bob"])
        told = await self.accounts.group("team")
        self.assertEqual(told, GroupInfo("team", True, ("alice", "bob"), (), _NS + 1_000_000_000))
        self.assertEqual((await self.other.user("bob")).groups, ("other", "team"))
        await self.accounts.remove_members("team", ["bob"])
        self.assertEqual((await self.other.group("team")).members, ("alice",))
        self.assertEqual((await self.other.user("bob")).groups, ("other",))
        await self.accounts.remove_members("team", ["bob"])
        self.assertEqual((await self.other.group("team")).members, ("alice",))
        self.assertEqual(await self.other.groups(), ["other", "team"])
        told = [await self.other.group(name) for name in ("other", "team")]
        self.assertEqual(await self.other.all_groups(), told)

    async def test_refused(self) -> None:
        """
        Members that do not exist, names that are reserved, and groups that are not there are
        refused; of several members none is added then.
        """
        await self.prepare()
        accounts = self.accounts
        await self.unchanged(NoSuchUser, accounts.add_members("team", ["bob", "carol"]))
        await self.unchanged(NoSuchUser, accounts.add_members("team", [ROOT.access_key]))
        await self.unchanged(NoSuchUser, accounts.remove_members("team", ["alice", "carol"]))
        for name in ("a,b", "a=b", "", " a", "a\n"):
            error = await self.unchanged(InvalidAccount, accounts.add_members(name, ["bob"]))
            self.assertEqual(error.what, "group name")
        for work in (
            accounts.remove_members("nobody", ["alice"]),
            accounts.remove_group("nobody"),
            accounts.set_group_enabled("nobody", False),
            accounts.group("nobody"),
        ):
            error = await self.unchanged(NoSuchGroup, work)
            self.assertEqual(error.name, "nobody")

    async def test_removed(self) -> None:
        """
        A group goes when nobody is in it, and its policies with it.
        """
        await self.prepare()
        await self.accounts.attach(["readonly"], Holder(HolderKind.GROUP, "team"))
        await self.unchanged(GroupNotEmpty, self.accounts.remove_group("team"))
        await self.accounts.remove_members("team", ["alice"])
        await self.other.remove_group("team")
        self.assertEqual(await self.accounts.groups(), [])
        await self.accounts.add_members("team", [])
        told = await self.other.group("team")
        self.assertEqual((told.members, told.policies), ((), ()))

    async def test_disabled(self) -> None:
        """
        A group tells whether it is enabled.
        """
        await self.prepare()
        await self.accounts.set_group_enabled("team", False)
        self.assertFalse((await self.other.group("team")).enabled)
        self.assertEqual((await self.other.group("team")).members, ("alice",))
        self.assertTrue(await self.enabled("alice"))
        await self.other.set_group_enabled("team", True)
        self.assertTrue((await self.accounts.group("team")).enabled)

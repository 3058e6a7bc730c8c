# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.ledger``: changes at the same time, and changes that fail.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import cycle

from attrs import define, evolve
from twisted.internet.defer import Deferred, gatherResults

from kypello.errors import AccessKeyTaken, Conflict, StorageFailed
from kypello.iam.accounts import Accounts
from kypello.iam.sealing import Boxes
from kypello.model import Write
from kypello.objects.datakeys import DataKeys
from kypello.store.memory import MemoryIndex
from kypello.store.sqlite import SQLiteIndex
from tests.iam.case import KEY, ROOT, SECRET, AccountsCase
from tests.store.disk import DiskCase
from tests.store.faults import InterruptedIndex, Killed
from tests.store.test_remembering import WatchedIndex


@define(eq=False)
class RestlessIndex(MemoryIndex):
    """
    An index where something always came between.
    """

    async def commit(
        self,
        space: str,
        writes: Sequence[Write],
        expect: Mapping[bytes, bytes | None],
        empty: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """
        Find something else than was expected.
        """
        raise Conflict(b"generation")


class LedgerTests(AccountsCase):
    """
    Changes.
    """

    async def prepare(self) -> None:
        """
        Make two users and a key.
        """
        for name in ("alice", "bob"):
            await self.accounts.set_user(name, SECRET)
        await self.accounts.add_members("team", ["alice"])
        await self.make_key()

    def changes(self) -> list[Callable[[Accounts], Awaitable[object]]]:
        """
        One change of each kind, each possible after :meth:`prepare`.
        """
        return [
            lambda accounts: accounts.set_user("carol", SECRET),
            lambda accounts: accounts.set_user_enabled("alice", False),
            lambda accounts: accounts.remove_user("alice"),
            lambda accounts: accounts.add_members("team", ["bob"]),
            lambda accounts: accounts.remove_members("team", ["alice"]),
            lambda accounts: accounts.set_group_enabled("team", False),
            lambda accounts: accounts.create_key(evolve(KEY, access_key="another-key")),
            lambda accounts: accounts.update_key("service-key", enabled=False),
            lambda accounts: accounts.remove_key("service-key"),
            lambda accounts: accounts.create_session("bob", duration=900),
        ]

    async def test_failing(self) -> None:
        """
        A change that fails, or whose process dies, leaves nothing; one that nobody
        acknowledged may be there, whole.
        """
        for error in (lambda: StorageFailed("device"), Killed):
            for after in (False, True):
                for number in range(len(self.changes())):
                    self.setUp()
                    await self.prepare()
                    await self.fail_one(self.changes()[number], error, after)

    async def fail_one(
        self,
        change: Callable[[Accounts], Awaitable[object]],
        error: Callable[[], BaseException],
        after: bool,
    ) -> None:
        """
        Let a commit fail; each change is one.
        """
        before = await self.below.scan("accounts", b"", None, 1000)
        self.below.at, self.below.error, self.below.after = self.below.commits + 1, error, after
        with self.assertRaises((StorageFailed, Killed)):
            await change(self.accounts)
        rows = await self.below.scan("accounts", b"", None, 1000)
        self.assertEqual(rows != before, after)
        # A process that starts afterwards sees one of both.
        self.accounts, self.other = self.process(0), self.process(1)
        users = {user.name: user for user in await self.other.users()}
        for group in await self.other.groups():
            members = (await self.other.group(group)).members
            self.assertEqual(
                set(members), {name for name, user in users.items() if group in user.groups}
            )
        for key in await self.other.keys():
            self.assertIn(key.parent, users)
            self.assertIn(key, await self.accounts.keys(key.parent))
            self.assertIsNotNone(await self.enabled(key.access_key))

    async def test_between(self) -> None:
        """
        A change that finds another one in between is made over that.
        """
        for change in self.changes():
            self.setUp()
            self.below = interrupted = InterruptedIndex()
            self.accounts, self.other = self.process(0), self.process(1)
            await self.prepare()
            interrupted.commits = 1
            interrupted.meanwhile = lambda: self.other.set_user("dave", SECRET)
            await change(self.accounts)
            self.assertTrue(await self.enabled("dave"))

    async def test_at_once(self) -> None:
        """
        Of many changes at once through several processes none is lost.
        """
        names = [f"user-{number}" for number in range(20)]
        await gatherResults(
            [
                Deferred.fromCoroutine(each.set_user(name, SECRET))
                for name in names
                for each in (self.accounts, self.other)
            ]
        )
        await gatherResults(
            [
                Deferred.fromCoroutine(each.add_members("g", [name]))
                for each, name in zip(cycle((self.accounts, self.other)), names, strict=False)
            ]
        )
        self.assertEqual(set((await self.other.group("g")).members), set(names))
        self.assertEqual(self.kms.calls.count("generate"), 1)

    async def test_one_meaning(self) -> None:
        """
        Of a user and a key of the same name, made at the same time, one is made.
        """
        for first in (True, False):
            self.setUp()
            self.below = interrupted = InterruptedIndex()
            self.accounts, self.other = self.process(0), self.process(1)
            await self.prepare()

            def user(accounts: Accounts) -> Awaitable[None]:
                """
                Make the user.
                """
                return accounts.set_user("same-name", SECRET)

            def key(accounts: Accounts) -> Awaitable[None]:
                """
                Make the service account.
                """
                return accounts.create_key(evolve(KEY, access_key="same-name"))

            early, late = (user, key) if first else (key, user)
            interrupted.commits = 1
            interrupted.meanwhile = lambda early=early: early(self.other)
            await self.refused(AccessKeyTaken, late(self.accounts))
            names = [name for name in await self.keys_below() if name.endswith(b"/same-name")]
            self.assertEqual(names, [b"user/same-name" if first else b"key/same-name"])

    async def test_data_key(self) -> None:
        """
        Nothing is written under a data key that is not kept.
        """
        self.below = interrupted = InterruptedIndex()
        self.accounts, self.other = self.process(0), self.process(1)
        made = await Boxes(DataKeys(self.kms, self.clock), os.urandom).make()
        await self.accounts.add_members("team", [])
        interrupted.commits = 1
        interrupted.meanwhile = lambda: interrupted.commit(
            "accounts", [Write(b"datakey", made)], {}, ()
        )
        await self.process(0).create_session(ROOT.access_key, duration=900)
        (key,) = [key for key in await self.keys_below() if key.startswith(b"key/")]
        self.assertIsNotNone(await self.process(1).identity(key[4:].decode()))

    async def test_restless(self) -> None:
        """
        A change that others always overtake fails in the end.
        """
        accounts = self.process(below=RestlessIndex())
        error = await self.refused(StorageFailed, accounts.set_user("alice", SECRET))
        self.assertIn("all the time", error.reason)

    async def test_cheap(self) -> None:
        """
        Who was looked up once is known without asking the index again.
        """
        self.below = watched = WatchedIndex()
        self.accounts, self.other = self.process(0), self.process(1)
        await self.prepare()
        await self.enabled("service-key")
        watched.asked.clear()
        for _ in range(10):
            await self.enabled("service-key")
        self.assertEqual(watched.asked, [])

    async def test_unknown(self) -> None:
        """
        Nothing is remembered of access keys that nobody has, however many are tried.
        """
        self.below = watched = WatchedIndex()
        self.accounts, self.other = self.process(0), self.process(1)
        await self.prepare()
        await self.enabled("alice")
        watched.asked.clear()
        for number in range(100):
            self.assertIsNone(await self.enabled(f"nobody-{number}"))
        self.assertTrue(await self.enabled("alice"))
        self.assertEqual(watched.asked, [])


class DiskTests(DiskCase):
    """
    Accounts in a database.
    """

    async def test_again(self) -> None:
        """
        What was made is there for the next process, and for one beside it.
        """
        case = AccountsCase()
        case.setUp()
        self.addCleanup(case.doCleanups)
        path = self.directory()
        for worker in range(2):
            index = SQLiteIndex(path, self.lanes)
            self.addCleanup(lambda index=index: Deferred.fromCoroutine(index.close()))
            accounts = case.process(worker, below=index)
            if not worker:
                await accounts.set_user("alice", SECRET)
                await accounts.add_members("team", ["alice"])
                await accounts.create_key(KEY)
                session = await accounts.create_session("alice", duration=900)
            self.assertEqual((await accounts.group("team")).members, ("alice",))
            for name in ("alice", "service-key", session.access_key):
                self.assertIsNotNone(await accounts.identity(name))
            keys = [key.access_key for key in await accounts.keys("alice")]
            self.assertEqual(keys, sorted(["service-key", session.access_key]))

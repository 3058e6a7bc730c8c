# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.sealing``: accounts at rest, and key servers that do not open them.
"""

from attrs import evolve

from kypello.errors import (
    Damaged,
    KeyMismatch,
    KeyNotFound,
    KMSNotConfigured,
    KMSUnavailable,
    NotAuthentic,
)
from kypello.iam.accounts import Accounts
from kypello.iam.sealing import Box, Boxes
from kypello.model import Write
from kypello.objects.canary import GuardedKMS
from tests.iam.case import KEY, ROOT, SECRET, AccountsCase
from tests.objects.keyservice import MemoryKMS


class RestCase(AccountsCase):
    """
    A test of what is kept.
    """

    async def prepare(self) -> None:
        """
        Make a user with a service account and a session.
        """
        await self.accounts.set_user("alice", SECRET)
        await self.accounts.add_members("team", ["alice"])
        await self.make_key(description="a description")
        self.session = await self.accounts.create_session("alice", duration=900)

    async def rows(self) -> dict[bytes, bytes]:
        """
        All that is kept.
        """
        return dict(await self.below.scan("accounts", b"", None, 1000))

    async def plant(self, key: bytes, value: bytes | None) -> None:
        """
        Change what is kept, as somebody who can write to the disk.
        """
        await self.below.commit("accounts", [Write(key, value)], {}, ())
        self.accounts, self.other = self.process(0), self.process(1)


class RestTests(RestCase):
    """
    What is kept.
    """

    async def test_secret(self) -> None:
        """
        Nothing but names and the sealed data key lies in clear.
        """
        await self.prepare()
        rows = await self.rows()
        kept = b"".join(rows.values())
        told = (SECRET, "service-secret", "a description", self.session.secret_key)
        for text in (*told, self.session.token, "alice", "team", "builtin"):
            self.assertNotIn(text.encode(), kept)
        # The generation is random.
        sealed = {key for key, value in rows.items() if value[:1] == b"\x02"} - {b"generation"}
        plain = {key for key in rows if key in {b"generation", b"datakey"} or not rows[key]}
        self.assertEqual(sealed | plain, set(rows))
        self.assertEqual(
            sealed,
            {
                b"user/alice",
                b"group/team",
                b"key/service-key",
                b"key/" + self.session.access_key.encode(),
            },
        )

    async def test_damaged(self) -> None:
        """
        Whatever byte changes, nothing is told of the record.
        """
        await self.prepare()
        for key in (b"user/alice", b"datakey"):
            value = (await self.rows())[key]
            for place in range(len(value)):
                changed = bytearray(value)
                changed[place] ^= 1
                await self.plant(key, bytes(changed))
                with self.assertRaises((Damaged, KMSNotConfigured)) as caught:
                    await self.accounts.identity("alice")
                self.assertNotIn("secret", str(caught.exception))
            for cut in (b"", value[:1], value[:12], value[:-1]):
                await self.plant(key, cut)
                await self.refused(Damaged, self.accounts.identity("alice"))
            await self.plant(key, value)
            self.assertTrue(await self.enabled("alice"))

    async def test_moved(self) -> None:
        """
        A record counts where it was written, and nowhere else.
        """
        await self.prepare()
        rows = await self.rows()
        await self.plant(b"user/bob", rows[b"user/alice"])
        await self.refused(Damaged, self.accounts.identity("bob"))
        await self.plant(b"key/another", rows[b"key/service-key"])
        await self.refused(Damaged, self.accounts.identity("another"))
        self.assertTrue(await self.enabled("alice"))

    async def test_planted(self) -> None:
        """
        Where records are sealed, one that is not counts for nothing.
        """
        elsewhere = AccountsCase()
        elsewhere.setUp()
        self.addCleanup(elsewhere.doCleanups)
        plain = elsewhere.process(sealed=False)
        await plain.set_user("mallory", SECRET)
        (row,) = await elsewhere.below.get("accounts", [b"user/mallory"])
        await self.prepare()
        await self.plant(b"user/mallory", row)
        await self.refused(Damaged, self.accounts.identity("mallory"))
        await self.plant(b"datakey", None)
        await self.refused(Damaged, self.accounts.identity("mallory"))
        await self.unchanged(Damaged, self.accounts.set_user("bob", SECRET))

    async def test_plain(self) -> None:
        """
        Without a key service records are kept as they are; one cannot be added or taken away.
        """
        self.accounts, self.other = self.process(0, sealed=False), self.process(1, sealed=False)
        await self.prepare()
        self.assertTrue(await self.enabled("alice"))
        self.assertIn(SECRET.encode(), (await self.rows())[b"user/alice"])
        value = (await self.rows())[b"user/alice"]
        for place in range(len(value)):
            changed = value[:place] + bytes([value[place] ^ 3]) + value[place + 1 :]
            await self.below.commit("accounts", [Write(b"user/alice", changed)], {}, ())
            process = self.process(sealed=False)
            with self.assertRaises((Damaged, KMSNotConfigured)):
                await process.identity("alice")
        sealing = self.process()
        await self.refused(Damaged, sealing.identity("alice"))
        await self.unchanged(Damaged, sealing.set_user("bob", SECRET))

    async def test_unsealed(self) -> None:
        """
        What is sealed needs a key service.
        """
        await self.prepare()
        process = self.process(sealed=False)
        await self.refused(KMSNotConfigured, process.identity("alice"))
        await self.unchanged(KMSNotConfigured, process.set_user("bob", SECRET))
        self.assertEqual(await process.identity(ROOT.access_key), ROOT)

    async def test_lost_generation(self) -> None:
        """
        A generation that is lost is made anew by the next change; nothing else is.
        """
        await self.prepare()
        await self.plant(b"generation", None)
        datakey = (await self.rows())[b"datakey"]
        self.assertTrue(await self.enabled("alice"))
        await self.accounts.set_user_enabled("alice", False)
        self.assertIs(await self.enabled("alice"), False)
        self.assertEqual((await self.rows())[b"datakey"], datakey)

    async def test_repr(self) -> None:
        """
        Keys are in no representation.
        """
        await self.prepare()
        plaintext = await self.accounts._ledger._boxes._keys.open(*await self.opening())
        boxes = self.accounts._ledger._boxes
        self.assertIsInstance(boxes, Boxes)
        shown = repr((boxes, await boxes.open((await self.rows())[b"datakey"])))
        self.assertNotIn(repr(plaintext), shown)
        self.assertIn(Box.__name__, shown)

    async def opening(self) -> tuple[str, bytes, bytes]:
        """
        What opens the data key.
        """
        await self.accounts.identity("alice")
        record = self.accounts._ledger._boxes._record
        return record[1].key_name, record[1].sealed, b'{"kypello":"accounts"}'


class OutageTests(RestCase):
    """
    Key services that do not open what is kept.
    """

    async def test_calls(self) -> None:
        """
        The data key is made once, and opened once by each process.
        """
        await self.prepare()
        for _ in range(3):
            for access_key in ("alice", "service-key", self.session.access_key):
                await self.enabled(access_key)
            await self.accounts.set_user("bob", SECRET)
            await self.other.users()
        self.assertEqual(self.kms.calls, ["generate", "decrypt"])

    async def test_down(self) -> None:
        """
        While no key server answers, what was opened goes on for a bounded time; after it users
        are unavailable, nobody is nobody, and the root user works.
        """
        await self.prepare()
        await self.enabled("alice")
        self.kms.down = True
        self.clock.advance(299)
        self.assertTrue(await self.enabled("alice"))
        await self.accounts.set_user_enabled("alice", False)
        self.assertIs(await self.enabled("alice"), False)
        self.clock.advance(2)
        for process in (self.accounts, self.other, self.process()):
            await self.unavailable(process)
        self.kms.down = False
        self.assertIs(await self.enabled("alice"), False)

    async def unavailable(self, accounts: Accounts) -> None:
        """
        Assert what an outage does.
        """
        for work in (
            accounts.identity("alice"),
            accounts.identity("service-key"),
            accounts.user("alice"),
            accounts.users(),
            accounts.keys(),
        ):
            await self.refused(KMSUnavailable, work)
        for work in (
            accounts.set_user("bob", SECRET),
            accounts.remove_user("alice"),
            accounts.create_key(evolve(KEY, access_key="another-key")),
            accounts.create_session("alice", duration=900),
        ):
            await self.unchanged(KMSUnavailable, work)
        self.assertIsNone(await accounts.identity("nobody"))
        self.assertEqual(await accounts.identity(ROOT.access_key), ROOT)

    async def test_down_at_first(self) -> None:
        """
        Without any accounts nobody is asked for, and none is made while no key server answers.
        """
        self.kms.down = True
        self.assertIsNone(await self.enabled("alice"))
        self.assertEqual(await self.accounts.users(), [])
        self.assertEqual(self.kms.calls, [])
        await self.unchanged(KMSUnavailable, self.accounts.set_user("alice", SECRET))
        self.kms.down = False
        await self.accounts.set_user("alice", SECRET)
        self.assertTrue(await self.enabled("alice"))

    async def test_other_material(self) -> None:
        """
        A key server with another key of the name is told so, and nothing is overwritten.
        """
        await self.prepare()
        right, self.kms = self.kms, MemoryKMS.with_default_key()
        process = self.process()
        for work in (process.identity("alice"), process.set_user("bob", SECRET), process.users()):
            error = await self.unchanged(NotAuthentic, work)
            self.assertIn("the data key of the accounts", error.what)
            self.assertIn("my-key", error.what)
        self.kms = MemoryKMS()
        await self.unchanged(KeyNotFound, self.process().set_user("bob", SECRET))
        self.kms = right
        identity = await self.process().identity("alice")
        self.assertIsNotNone(identity)

    async def test_guarded(self) -> None:
        """
        The guard over the key service tells which key is wrong.
        """
        right = self.kms
        self.kms = GuardedKMS(right, self.below, self.clock)
        self.accounts = self.process()
        await self.prepare()
        self.kms = GuardedKMS(MemoryKMS.with_default_key(), self.below, self.clock)
        error = await self.unchanged(KeyMismatch, self.process().identity("alice"))
        self.assertEqual(error.name, "my-key")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.sessions``.
"""

import os
import re

from attrs import evolve

from kypello.errors import InvalidAccount, KeyNotAllowed, NoSuchAccessKey, NoSuchUser
from kypello.iam.accounts import Accounts
from kypello.iam.limits import LONGEST
from kypello.iam.values import Session
from kypello.model import Identity, Kind
from kypello.objects.datakeys import DataKeys
from tests.iam.case import KEY, NOW, ROOT, SECRET, AccountsCase
from tests.store.faults import InterruptedIndex


class SessionTests(AccountsCase):
    """
    Sessions.
    """

    async def prepare(self) -> None:
        """
        Make a user.
        """
        await self.accounts.set_user("alice", SECRET)

    async def session(
        self, parent: str = "alice", duration: float = 900, **options: str
    ) -> Session:
        """
        Make a session.
        """
        return await self.accounts.create_session(parent, duration=duration, **options)

    async def test_made(self) -> None:
        """
        A session signs in the name of its parent, with a token, until it expires.
        """
        await self.prepare()
        session = await self.session()
        self.assertRegex(session.access_key, "^[A-Z2-7]{20}$")
        self.assertRegex(session.secret_key, "^[A-Za-z0-9+/]{40}$")
        self.assertRegex(session.token, "^[A-Za-z0-9_-]{43}$")
        expected = Identity(
            session.access_key,
            session.secret_key,
            Kind.SESSION,
            "alice",
            token=session.token,
            expires=NOW + 900,
        )
        for each in (self.accounts, self.other):
            self.assertEqual(await each.identity(session.access_key), expected)
            (told,) = await each.keys("alice", Kind.SESSION)
            self.assertEqual(told, await each.key(session.access_key))
            self.assertEqual((told.kind, told.parent), (Kind.SESSION, "alice"))
            self.assertEqual(await each.keys(kind=Kind.SERVICE), [])

    async def test_generation(self) -> None:
        """
        To make a session, or to sweep, changes nothing that is known of others.
        """
        await self.prepare()
        (before,) = await self.below.get("accounts", [b"generation"])
        await self.session()
        self.clock.advance(900 + 86401)
        self.assertEqual(await self.accounts.sweep(), 1)
        self.assertEqual(list(await self.below.get("accounts", [b"generation"])), [before])

    async def test_parents(self) -> None:
        """
        The root user, users and subjects have sessions; keys have none, nor has nobody.
        """
        session = await self.session(ROOT.access_key)
        self.assertTrue(await self.enabled(session.access_key))
        await self.prepare()
        await self.make_key()
        for parent in ("service-key", session.access_key):
            await self.unchanged(KeyNotAllowed, self.session(parent))
        await self.unchanged(NoSuchUser, self.session("bob"))
        subject = await self.session("tls:client", provider="tls")
        identity = await self.other.identity(subject.access_key)
        assert identity is not None
        self.assertEqual(identity.user, "tls:client")
        for duration in (0, -1, LONGEST + 1, float("nan")):
            error = await self.unchanged(InvalidAccount, self.session(duration=duration))
            self.assertEqual(error.what, "duration")

    async def test_disabled_parent(self) -> None:
        """
        A session is disabled with its parent, and ends with it: it does not come back with
        another user of the same name.
        """
        await self.prepare()
        session = await self.session()
        await self.accounts.set_user_enabled("alice", False)
        self.assertIs(await self.enabled(session.access_key), False)
        await self.accounts.set_user_enabled("alice", True)
        self.assertIs(await self.enabled(session.access_key), True)
        await self.accounts.remove_user("alice")
        await self.prepare()
        self.assertIsNone(await self.enabled(session.access_key))

    async def test_born_beside_removal(self) -> None:
        """
        A session that is made while its parent is removed and made again belongs to nobody.
        """
        interrupted = InterruptedIndex()
        self.below = interrupted
        self.accounts, self.other = self.process(0), self.process(1)
        await self.prepare()
        made: list[Session] = []

        async def meanwhile() -> None:
            """
            Make a session when the removal has looked for all there are.
            """
            made.append(await self.other.create_session("alice", duration=900))

        interrupted.commits, interrupted.meanwhile = 1, meanwhile
        await self.accounts.remove_user("alice")
        self.assertIsNone(await self.enabled(made[0].access_key))
        await self.prepare()
        self.assertIsNone(await self.enabled(made[0].access_key))

    async def test_removal_beside_birth(self) -> None:
        """
        No session is made for a user who is removed just then.
        """
        interrupted = InterruptedIndex()
        self.below = interrupted
        self.accounts, self.other = self.process(0), self.process(1)
        await self.prepare()
        interrupted.commits = 1
        interrupted.meanwhile = lambda: self.other.remove_user("alice")
        await self.refused(NoSuchUser, self.session())
        self.assertEqual(await self.keys_below(), [])

    async def test_same_random(self) -> None:
        """
        A session takes the place of no other, even if chance gives it the same access key.
        """
        given = [b"\x01" * 15] * 3 + [b"\x02" * 15]

        def random(size: int) -> bytes:
            """
            Give the same access keys some times.
            """
            return given.pop(0) if size == 15 else os.urandom(size)

        await self.prepare()
        changed = Accounts(self.below, DataKeys(self.kms, self.clock), ROOT, self.clock, random)
        first = await changed.create_session("alice", duration=900)
        second = await changed.create_session("alice", duration=900)
        self.assertEqual(given, [])
        self.assertNotEqual(first.access_key, second.access_key)
        for session in (first, second):
            identity = await self.accounts.identity(session.access_key)
            assert identity is not None
            self.assertEqual(identity.token, session.token)

    async def test_root_credentials(self) -> None:
        """
        Sessions of the root user end when its credentials change.
        """
        session = await self.session(ROOT.access_key)
        for root, alive in (
            (ROOT, True),
            (evolve(ROOT, secret_key="other"), False),
            (evolve(ROOT, access_key="other"), False),
        ):
            process = self.process(root=root)
            self.assertIs(await process.identity(session.access_key) is not None, alive)

    async def test_expired(self) -> None:
        """
        What has expired is told so for a day, and then swept, the oldest ones first.
        """
        await self.prepare()
        kept = await self.keys_below()
        sessions = [await self.session(duration=900 + number) for number in range(150)]
        lasting = await self.session(duration=100_000)
        self.clock.advance(86400 + 900)
        self.assertEqual(await self.accounts.sweep(), 0)
        identity = await self.accounts.identity(sessions[0].access_key)
        assert identity is not None
        self.assertEqual(identity.expires, NOW + 900)
        self.clock.advance(150)
        swept = [await self.other.sweep() for _ in range(3)]
        self.assertEqual(swept, [100, 50, 0])
        for session in sessions:
            self.assertIsNone(await self.enabled(session.access_key))
        self.assertTrue(await self.enabled(lasting.access_key))
        await self.accounts.remove_key(lasting.access_key)
        self.assertEqual(await self.keys_below(), kept)

    async def test_sweep_at_once(self) -> None:
        """
        Two processes that sweep at the same time do no harm.
        """
        self.below = interrupted = InterruptedIndex()
        self.accounts, self.other = self.process(0), self.process(1)
        await self.prepare()
        kept = await self.keys_below()
        for _ in range(5):
            await self.session()
        self.clock.advance(86400 + 901)
        interrupted.commits = 1
        interrupted.meanwhile = self.other.sweep
        self.assertEqual(await self.accounts.sweep(), 5)
        self.assertEqual(await self.keys_below(), kept)

    async def test_ended(self) -> None:
        """
        A session can be ended by its access key.
        """
        await self.prepare()
        kept = await self.keys_below()
        session = await self.session()
        await self.other.remove_key(session.access_key)
        self.assertIsNone(await self.enabled(session.access_key))
        self.assertEqual(await self.keys_below(), kept)
        await self.unchanged(NoSuchAccessKey, self.accounts.key(session.access_key))

    async def test_revoked(self) -> None:
        """
        Sessions of somebody are revoked all, or by their type; keys and other sessions stay.
        """
        await self.prepare()
        await self.accounts.set_user("bob", SECRET)
        await self.make_key()
        plain = await self.session()
        typed = await self.session(revoke_type="app")
        foreign = await self.session("alice", provider="ldap", revoke_type="app")
        others = await self.session("bob", revoke_type="app")
        self.assertEqual(await self.other.revoke("alice", "builtin", "app"), 1)
        alive = {
            each.access_key: await self.enabled(each.access_key)
            for each in (plain, typed, foreign, others, KEY)
        }
        self.assertEqual([key for key, enabled in alive.items() if not enabled], [typed.access_key])
        self.assertEqual(await self.accounts.revoke("alice", "builtin", "app"), 0)
        self.assertEqual(await self.accounts.revoke("alice", "builtin", None), 1)
        self.assertIsNone(await self.enabled(plain.access_key))
        self.assertTrue(await self.enabled(foreign.access_key))

    async def test_pairs(self) -> None:
        """
        Fresh pairs of keys are as they have to be, and never the same.
        """
        pairs = [self.accounts.fresh_pair() for _ in range(100)]
        self.assertEqual(len({key for pair in pairs for key in pair}), 200)
        for access_key, secret_key in pairs:
            await self.accounts.set_user(access_key, secret_key)
            self.assertTrue(re.fullmatch("[A-Z2-7]{20}", access_key))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.keys``.
"""

from attrs import evolve

from kypello.errors import (
    AccessKeyTaken,
    InvalidAccount,
    KeyNotAllowed,
    NoSuchAccessKey,
    NoSuchUser,
)
from kypello.iam.limits import LONGEST, SHORTEST
from kypello.iam.values import KeyInfo
from kypello.model import Identity, Kind
from tests.iam.case import KEY, NOW, ROOT, SECRET, AccountsCase, limit

_INFO = KeyInfo(
    access_key="service-key",
    parent="alice",
    kind=Kind.SERVICE,
    enabled=True,
    policy=None,
    policies=None,
    name="",
    description="",
    expires=None,
    groups=(),
    provider="builtin",
    claims={},
    revoke_type="",
    updated=int(NOW) * 1_000_000_000,
)


class KeyTests(AccountsCase):
    """
    Service accounts.
    """

    async def prepare(self) -> None:
        """
        Make two users.
        """
        for name in ("alice", "bob"):
            await self.accounts.set_user(name, SECRET)

    async def test_made(self) -> None:
        """
        A service account signs in the name of its parent, in every process, and is told.
        """
        await self.prepare()
        await self.make_key()
        await self.make_key(
            access_key="another-key",
            parent=ROOT.access_key,
            name="Backup_1",
            description="tape \n drive",
            expires=NOW + SHORTEST,
            enabled=False,
        )
        other = evolve(
            _INFO,
            access_key="another-key",
            parent=ROOT.access_key,
            name="Backup_1",
            description="tape \n drive",
            expires=NOW + SHORTEST,
            enabled=False,
        )
        for each in (self.accounts, self.other):
            identity = await each.identity("service-key")
            self.assertEqual(
                identity, Identity("service-key", "service-secret", Kind.SERVICE, "alice")
            )
            identity = await each.identity("another-key")
            assert identity is not None
            self.assertEqual((identity.user, identity.enabled), (ROOT.access_key, False))
            self.assertEqual(identity.expires, NOW + SHORTEST)
            self.assertEqual(await each.key("service-key"), _INFO)
            self.assertEqual(await each.keys(), [other, _INFO])
            self.assertEqual(await each.keys("alice"), [_INFO])
            self.assertEqual(await each.keys(ROOT.access_key, Kind.SERVICE), [other])
            self.assertEqual(await each.keys("alice", Kind.SESSION), [])
            self.assertEqual(await each.keys("bob"), [])
            self.assertEqual(await each.keys("alic"), [])

    async def test_limit_kept(self) -> None:
        """
        What limits a service account is told as it was given.
        """
        await self.prepare()
        policy = limit("s3:GetObject")
        await self.make_key(policy=policy)
        self.assertEqual((await self.other.key("service-key")).policy, policy)

    async def test_parent(self) -> None:
        """
        Who is disabled disables what acts for it.
        """
        await self.prepare()
        await self.make_key()
        for enabled in (False, True):
            await self.other.set_user_enabled("alice", enabled)
            self.assertIs(await self.enabled("service-key"), enabled)

    async def test_subject(self) -> None:
        """
        Somebody whom an identity provider knows can have service accounts without being a user.
        """
        name = "uid=alice,dc=example"
        claims = {"ldap:user": (name,)}
        await self.make_key(parent=name, provider="ldap", groups=("cn=g",), claims=claims)
        (told,) = await self.other.keys(name)
        self.assertEqual((told.parent, told.provider, told.groups), (name, "ldap", ("cn=g",)))
        self.assertEqual(told.claims, claims)
        identity = await self.accounts.identity("service-key")
        assert identity is not None
        self.assertEqual((identity.user, identity.kind), (name, Kind.SERVICE))
        error = await self.unchanged(
            InvalidAccount,
            self.make_key(access_key="another-key", parent="a\x00b", provider="ldap"),
        )
        self.assertEqual(error.what, "name")

    async def test_refused(self) -> None:
        """
        An access key means one thing; parents have to be there and must not be keys themselves;
        limits hold.
        """
        await self.prepare()
        await self.make_key()
        session = await self.accounts.create_session("alice", duration=900)
        create = self.accounts.create_key
        for taken in ("bob", "service-key", session.access_key):
            await self.unchanged(AccessKeyTaken, create(evolve(KEY, access_key=taken)))
        fresh = evolve(KEY, access_key="fresh-key")
        for parent in ("service-key", session.access_key):
            await self.unchanged(KeyNotAllowed, create(evolve(fresh, parent=parent)))
        await self.unchanged(NoSuchUser, create(evolve(fresh, parent="carol")))
        for what, changes in (
            ("reserved access key", {"access_key": ROOT.access_key}),
            ("access key", {"access_key": "ab"}),
            ("access key", {"access_key": "a=b"}),
            ("secret key", {"secret_key": "short"}),
            ("name", {"name": "1st"}),
            ("name", {"name": "a b"}),
            ("name", {"name": "a\n"}),
            ("name", {"name": "a" * 33}),
            ("description", {"description": "ä" * 129}),
            ("description", {"description": "\udcff"}),
            ("expiration", {"expires": NOW + SHORTEST - 1}),
            ("expiration", {"expires": NOW + LONGEST + 1}),
            ("expiration", {"expires": float("nan")}),
        ):
            error = await self.unchanged(InvalidAccount, create(evolve(fresh, **changes)))
            self.assertEqual(error.what, what, changes)

    async def test_updated(self) -> None:
        """
        What is given changes, and all else stays.
        """
        await self.prepare()
        await self.make_key(policy=limit("s3:GetObject"))
        await self.accounts.update_key("service-key", secret_key="other-secret", name="New")
        identity = await self.other.identity("service-key")
        assert identity is not None
        self.assertEqual(identity.secret_key, "other-secret")
        self.clock.advance(1)
        await self.other.update_key("service-key", enabled=False, expires=NOW + 7200)
        expected = evolve(
            _INFO,
            name="New",
            enabled=False,
            expires=NOW + 7200,
            policy=limit("s3:GetObject"),
            updated=_INFO.updated + 1_000_000_000,
        )
        self.assertEqual(await self.accounts.key("service-key"), expected)
        self.assertFalse(await self.enabled("service-key"))
        await self.accounts.update_key(
            "service-key", enabled=True, description="d", policy=None, expires=None
        )
        told = await self.other.key("service-key")
        self.assertEqual((told.policy, told.expires, told.description), (None, None, "d"))
        self.assertTrue(await self.enabled("service-key"))

    async def test_update_refused(self) -> None:
        """
        What is wrong changes nothing; sessions do not change, nor does what is not there.
        """
        await self.prepare()
        await self.make_key()
        session = await self.accounts.create_session("alice", duration=900)
        update = self.accounts.update_key
        for work in (
            update("service-key", secret_key="short"),
            update("service-key", name="a b"),
            update("service-key", description="a" * 257),
            update("service-key", expires=NOW),
        ):
            await self.unchanged(InvalidAccount, work)
        for access_key in ("nobody", "alice", session.access_key, ROOT.access_key):
            error = await self.unchanged(NoSuchAccessKey, update(access_key, enabled=False))
            self.assertEqual(error.access_key, access_key)

    async def test_removed(self) -> None:
        """
        A service account that was removed is gone everywhere, and nothing is left of it.
        """
        await self.prepare()
        before = await self.keys_below()
        await self.make_key()
        self.assertTrue(await self.enabled("service-key"))
        await self.other.remove_key("service-key")
        self.assertIsNone(await self.enabled("service-key"))
        self.assertEqual(await self.keys_below(), before)
        for work in (self.accounts.remove_key("service-key"), self.accounts.key("service-key")):
            await self.unchanged(NoSuchAccessKey, work)

    async def test_other_root(self) -> None:
        """
        When the root user gets another name, its service accounts stay its own, and those of a
        user who has that name do not become its own.
        """
        await self.prepare()
        await self.make_key()
        await self.make_key(access_key="root-service", parent=ROOT.access_key)
        self.accounts = self.other = self.process(root=Identity("alice", "new-secret"))
        identity = await self.accounts.identity("alice")
        assert identity is not None
        self.assertEqual(identity.secret_key, "new-secret")
        told = await self.accounts.keys()
        self.assertEqual([each.parent for each in told], ["alice", "alice"])
        self.assertTrue(await self.allowed("root-service", "s3:DeleteBucket", "bucket"))
        self.assertFalse(await self.allowed("service-key", "s3:DeleteBucket", "bucket"))

    async def test_exported(self) -> None:
        """
        Service accounts are told with their secrets to nobody but an export, sessions never.
        """
        await self.prepare()
        await self.make_key()
        await self.accounts.create_session("alice", duration=900)
        (secret,) = await self.other.key_secrets()
        self.assertEqual((secret.about, secret.secret_key), (_INFO, "service-secret"))

    async def test_reprs(self) -> None:
        """
        No representation shows a secret.
        """
        await self.prepare()
        await self.make_key()
        session = await self.accounts.create_session("alice", duration=900)
        await self.enabled(session.access_key)
        shown = repr(
            (
                KEY,
                session,
                await self.accounts.identity("alice"),
                await self.accounts.identity("service-key"),
                await self.accounts.identity(session.access_key),
                await self.accounts.secrets(),
                await self.accounts.keys(),
                self.accounts,
            )
        )
        for secret in (SECRET, KEY.secret_key, session.secret_key, session.token, "rootsecret"):
            self.assertNotIn(secret, shown)
        self.assertIn("service-key", shown)

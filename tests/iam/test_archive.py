# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.archive``: accounts that move in and out.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import NoSuchAccessKey, NoSuchUser, StorageFailed
from kypello.iam.accounts import Accounts
from kypello.iam.archive import export_archive, import_archive
from kypello.iam.importing import Importer
from kypello.iam.importreport import Outcome, Report, Thing
from kypello.iam.values import Holder, HolderKind
from kypello.policy.canned import CANNED
from kypello.store.memory import MemoryIndex
from kypello.testing.fakes import InlineLane
from tests.cases import SyncCase
from tests.iam.archives import (
    EMBEDDED,
    TEAM,
    key,
    mapping,
    minio_assets,
    unzipped,
    zipped,
)
from tests.iam.case import NOW, ROOT, AccountsCase, limit, policy

#: Until when keys of tests live; MinIO's examples end a few weeks later.
_LATER = "2026-12-01T00:00:00Z"


class ArchiveCase(AccountsCase):
    """
    A test that imports and exports.
    """

    def importer(
        self,
        *actions: str,
        unlimited: bool = True,
        user: str = ROOT.access_key,
        derived: bool = False,
    ) -> Importer:
        """
        Who imports.

        :param actions: What they may do; all when there are none.
        """
        asked: Callable[[str], bool] = (lambda action: action in actions) if actions else bool

        async def may(action: str) -> bool:
            """
            Tell what policies would.
            """
            return asked(action)

        return Importer(user, may, unlimited, derived)

    async def bring(
        self,
        assets: Mapping[str, Any] | bytes,
        importer: Importer | None = None,
        *,
        dry_run: bool = False,
        old_root: str = "",
    ) -> Report:
        """
        Import an archive.
        """
        return await import_archive(
            self.accounts,
            assets if isinstance(assets, bytes) else zipped(assets),
            importer or self.importer(),
            root=ROOT.access_key,
            clock=self.clock,
            lane=InlineLane(),
            dry_run=dry_run,
            old_root=old_root,
        )

    async def export(self) -> bytes:
        """
        Export all accounts.
        """
        return await export_archive(self.accounts, InlineLane())

    def told(self, report: Report, outcome: Outcome) -> set[str]:
        """
        The things that had an outcome, such as ``user alice``.
        """
        return {f"{item.thing} {item.name}" for item in report.of(outcome)}

    def reason(self, report: Report, name: str) -> str:
        """
        Why something is not here as it was there.
        """
        [item] = [
            item
            for item in report.items
            if item.name == name and item.outcome in (Outcome.LEFT_OUT, Outcome.FAILED)
        ]
        return item.reason

    async def kept(self) -> list[tuple[bytes, bytes]]:
        """
        All that is kept.
        """
        return list(await self.below.scan("accounts", b"", None, 10_000))


class MoveInTests(ArchiveCase):
    """
    An archive of MinIO.
    """

    async def test_all(self) -> None:
        """
        Users, groups, policies, mappings and service accounts are here as they were there: they
        sign with the same keys, may do the same, and are refused the same.
        """
        report = await self.bring(minio_assets(), old_root="oldroot")
        self.assertEqual(
            self.told(report, Outcome.ADDED),
            {
                "policy team",
                "user alice",
                "user bob",
                "user carol",
                "group gone",
                "group staff",
                "policies of user bob",
                "policies of group staff",
                "policies of subject uid=dora,ou=people",
                "key ALICEKEY000000000001",
                "key BOBKEY0000000000001",
                "key ROOTKEY0000000000001",
            },
        )
        self.assertEqual(self.told(report, Outcome.UNCHANGED), {"policy readonly"})
        self.assertEqual(len(report.items), 13)
        identity = await self.other.identity("ALICEKEY000000000001")
        assert identity is not None
        self.assertEqual((identity.secret_key, identity.user), ("secret-of-alice", "alice"))
        self.assertIs(await self.enabled("carol"), False)
        for access_key, action, resource, expected in (
            ("alice", "s3:PutObject", "projects/alice/a", True),
            ("alice", "s3:PutObject", "projects/bob/a", False),
            ("alice", "s3:GetObject", "other/a", False),
            ("ALICEKEY000000000001", "s3:PutObject", "projects/alice/a", True),
            ("bob", "s3:GetObject", "other/a", True),
            ("bob", "s3:PutObject", "other/a", False),
            ("BOBKEY0000000000001", "s3:GetObject", "projects/x", True),
            ("BOBKEY0000000000001", "s3:GetObject", "other/x", False),
            ("BOBKEY0000000000001", "s3:PutObject", "projects/bob/a", False),
            ("ROOTKEY0000000000001", "s3:DeleteBucket", "other", True),
        ):
            told = await self.allowed(access_key, action, resource)
            self.assertIs(told, expected, (access_key, action, resource))
        group = await self.accounts.group("gone")
        self.assertEqual((group.enabled, group.members), (False, ("carol",)))
        info = await self.accounts.key("ALICEKEY000000000001")
        self.assertEqual((info.name, info.description), ("first", "from the move"))
        self.assertEqual(
            (await self.accounts.holders())[Holder(HolderKind.SUBJECT, "uid=dora,ou=people")],
            ("team",),
        )

    async def test_again(self) -> None:
        """
        The same again changes nothing, not a byte.
        """
        await self.bring(minio_assets(), old_root="oldroot")
        before = await self.kept()
        self.clock.advance(60)
        report = await self.bring(minio_assets(), old_root="oldroot")
        self.assertEqual({item.outcome for item in report.items}, {Outcome.UNCHANGED})
        self.assertEqual(len(report.items), 13)
        self.assertEqual(await self.kept(), before)

    async def test_dry_run(self) -> None:
        """
        A dry run changes nothing and tells what the import then does, failures too.
        """
        assets = minio_assets()
        assets["users"]["x"] = {"secretKey": "short"}
        assets["groups"]["staff"]["members"].append("nobody")
        assets["group_mappings"]["none"] = mapping("team")
        assets["svcaccts"]["x"] = key("x")
        before = await self.kept()
        dry = await self.bring(assets, dry_run=True)
        self.assertEqual(await self.kept(), before)
        self.assertTrue(dry.dry_run)
        report = await self.bring(assets)
        self.assertEqual(report.items, dry.items)
        self.assertTrue(report.of(Outcome.FAILED) and report.of(Outcome.LEFT_OUT))

    async def test_changed(self) -> None:
        """
        What has changed there since is changed here, and what was removed there stays.
        """
        await self.bring(minio_assets())
        assets = minio_assets()
        assets["policies"]["team"] = EMBEDDED
        assets["users"]["alice"]["secretKey"] = "another-secret"
        assets["users"]["carol"]["status"] = "enabled"
        del assets["users"]["bob"]
        assets["groups"]["staff"]["members"] = ["carol"]
        assets["groups"]["gone"]["status"] = "enabled"
        assets["user_mappings"] = {"alice": mapping("team,readonly")}
        first = assets["svcaccts"]["ALICEKEY000000000001"]
        first |= {"status": "off", "sessionPolicy": EMBEDDED, "expiration": _LATER, "name": "new"}
        del assets["svcaccts"]["BOBKEY0000000000001"]
        report = await self.bring(assets)
        self.assertEqual(
            self.told(report, Outcome.CHANGED),
            {
                "policy team",
                "user alice",
                "user carol",
                "group gone",
                "group staff",
                "key ALICEKEY000000000001",
            },
        )
        self.assertEqual(self.told(report, Outcome.ADDED), {"policies of user alice"})
        self.assertEqual(await self.enabled("carol"), True)
        self.assertEqual((await self.accounts.group("staff")).members, ("alice", "bob", "carol"))
        self.assertIs((await self.accounts.group("gone")).enabled, True)
        info = await self.accounts.key("ALICEKEY000000000001")
        self.assertEqual(
            (info.enabled, info.name, info.description), (False, "new", "from the move")
        )
        self.assertIsNotNone(info.policy)
        self.assertIsNotNone(info.expires)
        self.assertIs(await self.enabled("BOBKEY0000000000001"), True)

    async def test_cut(self) -> None:
        """
        An import that the storage cuts off, at whichever commit, is completed by the next one.
        """
        await self.bring(minio_assets(), old_root="oldroot")
        commits = self.below.commits
        content = await self.export()
        for at in range(1, commits + 1):
            self.setUp()
            self.below.at, self.below.error = at, lambda: StorageFailed("cut")
            with self.assertRaises(StorageFailed):
                await self.bring(minio_assets(), old_root="oldroot")
            report = await self.bring(minio_assets(), old_root="oldroot")
            self.assertEqual(report.of(Outcome.FAILED), [])
            self.assertEqual(await self.export(), content)

    async def test_turns(self) -> None:
        """
        An import of very many things lets others have their turn, and goes on.
        """
        users = {f"user{number}": {"secretKey": "12345678"} for number in range(200)}
        waiting = Deferred.fromCoroutine(self.bring({"users": users}, dry_run=True))
        self.assertNoResult(waiting)
        self.clock.advance(0)
        report = self.successResultOf(waiting)
        self.assertEqual(len(report.of(Outcome.ADDED)), 200)

    async def test_report(self) -> None:
        """
        The answer tells MinIO's tools what was done, and ours everything; a dry run has done
        nothing.
        """
        assets = minio_assets()
        assets["users"]["x"] = {"secretKey": "short"}
        assets["user_mappings"]["x"] = mapping("team")
        dry = json.loads((await self.bring(assets, dry_run=True)).to_json())
        told = json.loads((await self.bring(assets)).to_json())
        self.assertEqual(dry["details"], told["details"])
        self.assertEqual([dry[place] for place in ("added", "skipped", "failed")], [{}, {}, {}])
        self.assertEqual(told["added"]["users"], ["alice", "bob", "carol"])
        self.assertEqual(told["added"]["groupPolicies"], [{"staff": ["team"]}])
        self.assertEqual(told["skipped"]["policies"], ["readonly"])
        self.assertEqual(told["failed"]["users"], [{"name": "x"}])
        self.assertEqual(told["failed"]["userPolicies"], [{"name": "x", "policies": ["team"]}])
        self.assertIn(
            {
                "kind": "user",
                "name": "x",
                "outcome": "failed",
                "reason": "access key length should be between 3 and 20",
            },
            told["details"],
        )


class CareTests(ArchiveCase):
    """
    Nobody gets more by a move than they had.
    """

    async def test_root_keys(self) -> None:
        """
        The keys of the old root user come over only when they are wanted, and then for the root
        user alone.
        """
        report = await self.bring(minio_assets())
        self.assertIn("--old-root", self.reason(report, "ROOTKEY0000000000001"))
        other = self.importer(unlimited=False)
        report = await self.bring(minio_assets(), other, old_root="oldroot")
        self.assertIn("root user", self.reason(report, "ROOTKEY0000000000001"))
        assets = {"svcaccts": {"ROOTKEY0000000000002": key(ROOT.access_key)}}
        report = await self.bring(assets, other)
        self.assertIn("root user", self.reason(report, "ROOTKEY0000000000002"))
        self.assertEqual(await self.accounts.keys(ROOT.access_key), [])
        report = await self.bring(assets)
        self.assertEqual(self.told(report, Outcome.ADDED), {"key ROOTKEY0000000000002"})

    async def test_user_named_as_root(self) -> None:
        """
        Somebody who was a user there and has the name of the root user here becomes nothing, and
        so do their keys.
        """
        name = ROOT.access_key
        report = await self.bring(
            {
                "users": {name: {"secretKey": "user-secret", "status": "enabled"}},
                "svcaccts": {"USERKEY": key(name)},
            }
        )
        self.assertEqual(self.told(report, Outcome.FAILED), {f"user {name}"})
        self.assertEqual(self.told(report, Outcome.LEFT_OUT), {"key USERKEY"})
        self.assertIsNone(await self.accounts.identity("USERKEY"))
        identity = await self.accounts.identity(name)
        self.assertEqual(identity, ROOT)

    async def test_root_named_as_user(self) -> None:
        """
        Keys of the old root user do not become those of a user here who has its name.
        """
        await self.accounts.set_user("oldroot", "user-secret")
        report = await self.bring(minio_assets())
        self.assertIn("key ROOTKEY0000000000001", self.told(report, Outcome.LEFT_OUT))

    async def test_lost_policies(self) -> None:
        """
        A mapping that needs a policy that did not come over fails: the policy may forbid things.
        """
        deny = json.loads(json.dumps(TEAM))
        deny["Statement"][0] |= {"Effect": "Deny", "Action": ["s3:NoSuchThing"]}
        assets = minio_assets()
        assets["policies"] |= {"deny": deny, "number": 7, "readwrite": EMBEDDED, "empty": {}}
        assets["user_mappings"] = {
            "alice": mapping("readonly,deny"),
            "bob": mapping("number"),
            "carol": mapping("readwrite"),
        }
        report = await self.bring(assets)
        self.assertEqual(
            self.told(report, Outcome.FAILED),
            {"policy deny", "policy number"}
            | {f"policies of user {name}" for name in ("alice", "bob", "carol")},
        )
        self.assertIn("by itself", self.reason(report, "readwrite"))
        self.assertIn("statements", self.reason(report, "empty"))
        self.assertIn("deny", self.reason(report, "alice"))
        self.assertFalse(await self.allowed("carol", "s3:PutObject", "any/thing"))
        self.assertEqual((await self.accounts.policy("readwrite")).policy, CANNED["readwrite"])

    async def test_gone_policies(self) -> None:
        """
        A policy that was gone there gives nothing here, also when there is one of its name.
        """
        await self.accounts.put_policy("wide", policy("s3:*"))
        assets = minio_assets()
        assets["user_mappings"] = {
            "alice": mapping("wide"),
            "bob": mapping("wide,readonly"),
        }
        report = await self.bring(assets)
        self.assertIn("wide", self.reason(report, "alice"))
        self.assertEqual((await self.accounts.user("alice")).policies, ())
        self.assertEqual((await self.accounts.user("bob")).policies, ("readonly",))
        [item] = [each for each in report.items if each.name == "bob" and each.reason]
        self.assertEqual(item.outcome, Outcome.ADDED)
        report = await self.bring({"user_mappings": {"alice": mapping("wide")}})
        self.assertEqual(self.told(report, Outcome.ADDED), {"policies of user alice"})

    async def test_bad_limit(self) -> None:
        """
        A key whose limit cannot be kept does not come over without it.
        """
        broken = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["x:y"]}]}
        assets = minio_assets()
        assets["svcaccts"] = {"LIMITED": key("alice", policy=broken)}
        report = await self.bring(assets)
        self.assertEqual(self.told(report, Outcome.FAILED), {"key LIMITED"})
        with self.assertRaises(NoSuchAccessKey):
            await self.accounts.key("LIMITED")

    async def test_rights(self) -> None:
        """
        Each thing needs its own right; without it nothing is told of what is here.
        """
        rights: dict[str, set[str]] = {
            "admin:CreatePolicy": {"policy team"},
            "admin:CreateUser": {"user alice", "user bob", "user carol"},
            "admin:AddUserToGroup": {"group gone", "group staff"},
            # These need what the others make.
            "admin:AttachUserOrGroupPolicy": set(),
            "admin:UpdatePolicyAssociation": set(),
            "admin:CreateServiceAccount": set(),
        }
        for right, expected in rights.items():
            allowed = self.importer(right, unlimited=False)
            report = await self.bring(minio_assets(), allowed, dry_run=True)
            self.assertEqual(self.told(report, Outcome.ADDED), expected, right)
        assets = {"stsuser_mappings": {"uid=dora": mapping("readonly")}}
        for right in ("admin:AttachUserOrGroupPolicy", "admin:UpdatePolicyAssociation"):
            allowed = self.importer(right, unlimited=False)
            report = await self.bring(assets, allowed, dry_run=True)
            self.assertEqual([item.outcome for item in report.items], [Outcome.ADDED])
        await self.bring(minio_assets())
        report = await self.bring(minio_assets(), self.importer("none", unlimited=False))
        self.assertEqual(self.told(report, Outcome.UNCHANGED), {"policy readonly", "policy team"})
        self.assertEqual(len(report.of(Outcome.FAILED)), 11)

    async def test_switching(self) -> None:
        """
        To enable or disable what is here needs the right to that, too.
        """
        await self.bring(minio_assets())
        assets = minio_assets()
        assets["users"]["carol"]["status"] = "enabled"
        assets["groups"]["staff"]["status"] = "disabled"
        report = await self.bring(
            assets, self.importer("admin:CreateUser", "admin:AddUserToGroup", unlimited=False)
        )
        self.assertIn("admin:EnableUser", self.reason(report, "carol"))
        reasons = [item.reason for item in report.of(Outcome.FAILED) if item.thing is Thing.GROUP]
        self.assertEqual(reasons, ["whoever imports may not do admin:DisableGroup"])
        self.assertIs(await self.enabled("carol"), False)

    async def test_own_credentials(self) -> None:
        """
        A key of a user cannot become the user, nor get another key of it, by an import.
        """
        await self.bring(minio_assets())
        assets = minio_assets()
        assets["users"]["alice"]["secretKey"] = "known-to-me"
        del assets["svcaccts"]["ALICEKEY000000000001"]["description"]
        assets["svcaccts"]["NEWKEY"] = key("alice")
        derived = self.importer(unlimited=False, user="alice", derived=True)
        report = await self.bring(assets, derived)
        self.assertEqual(
            self.told(report, Outcome.FAILED),
            {"user alice", "key ALICEKEY000000000001", "key NEWKEY"},
        )
        identity = await self.accounts.identity("alice")
        assert identity is not None
        self.assertEqual(identity.secret_key, "alice-secret-1")


class TakenTests(ArchiveCase):
    """
    Names that mean somebody else here, and limits of ours.
    """

    async def test_taken(self) -> None:
        """
        Neither users nor keys take the place of somebody else.
        """
        await self.bring(minio_assets())
        session = await self.accounts.create_session("alice", policy=None, duration=3600)
        assets = {
            "users": {
                "alice": {"secretKey": "alice-secret-1", "status": "enabled"},
                "bob": {"secretKey": "bob-secret-12", "status": "enabled"},
                "BOBKEY0000000000001": {"secretKey": "bob-secret-12"},
            },
            "svcaccts": {
                "bob": key("alice"),
                "ALICEKEY000000000001": key("bob"),
                session.access_key: key("alice"),
            },
        }
        report = await self.bring(assets, dry_run=True)
        self.assertEqual((await self.bring(assets)).items, report.items)
        self.assertEqual(len(report.of(Outcome.FAILED)), 4)
        self.assertEqual(
            {item.reason for item in report.of(Outcome.FAILED)},
            {"its access key is that of somebody else here"},
        )

    async def test_limits(self) -> None:
        """
        What breaks a limit of this server is told, and the rest comes over.
        """
        assets = {
            "users": {
                "ab": {"secretKey": "12345678"},
                "alice": {"secretKey": "1234567", "status": "enabled"},
                "bob": {"secretKey": "12345678", "status": "enabled"},
            },
            "groups": {"a,b": {"members": []}, "staff": {"members": ["alice", "bob"]}},
            "svcaccts": {
                "past": key("bob", expiration="2020-01-01T00:00:00Z"),
                "soon": key("bob", expiration="2026-09-21T14:15:00Z"),
                "plain": key("bob"),
            },
        }
        self.assertEqual(NOW, 1790000000.0)  # 2026-09-21T14:13:20Z
        report = await self.bring(assets)
        self.assertEqual(
            self.told(report, Outcome.FAILED), {"user ab", "user alice", "group a,b", "key soon"}
        )
        self.assertIn("8 and 40", self.reason(report, "alice"))
        self.assertEqual(self.told(report, Outcome.LEFT_OUT), {"member staff", "key past"})
        self.assertEqual(self.told(report, Outcome.ADDED), {"user bob", "group staff", "key plain"})
        with self.assertRaises(NoSuchUser):
            await self.accounts.user("alice")

    async def test_names(self) -> None:
        """
        A key whose name is none here comes over, with the name in its description; a second
        import finds it the same.
        """
        assets = minio_assets()
        assets["svcaccts"] = {
            "LABELLED": key("alice", name="my laptop", description="é" * 250),
        }
        report = await self.bring(assets)
        self.assertIn("key LABELLED", self.told(report, Outcome.ADDED))
        info = await self.accounts.key("LABELLED")
        self.assertEqual((info.name, info.description[:12]), ("", "my laptop: é"))
        report = await self.bring(assets)
        self.assertEqual({item.outcome for item in report.items}, {Outcome.UNCHANGED})


class SubjectTests(ArchiveCase):
    """
    People whom an identity provider knows.
    """

    async def test_keys(self) -> None:
        """
        Service accounts of LDAP and OpenID users come over with what was said of them, and go out
        again as they were.
        """
        ldap = {"ldapUser": "uid=dora,ou=people", "ldapUsername": "dora"}
        openid = {"sub": "s-1", "iss": "https://id", "groups": ["a", "b"], "policy": "team"}
        assets = minio_assets()
        assets["svcaccts"] = {
            "DORAKEY": key("uid=dora,ou=people", claims=ldap, groups=["cn=staff"]),
            "WEBKEY": key("hash-of-subject", claims=openid),
        }
        report = await self.bring(assets)
        self.assertEqual(report.of(Outcome.FAILED), [])
        dora, web = [await self.accounts.key(name) for name in ("DORAKEY", "WEBKEY")]
        self.assertEqual((dora.provider, dora.groups), ("ldap", ("cn=staff",)))
        self.assertEqual(
            dora.claims, {"ldap:user": ("uid=dora,ou=people",), "ldap:username": ("dora",)}
        )
        self.assertEqual((web.provider, web.policies), ("openid", ("team",)))
        self.assertEqual(web.claims["jwt:groups"], ("a", "b"))
        out = unzipped(await self.export())["svcaccts"]
        for name, said in (("DORAKEY", ldap), ("WEBKEY", openid)):
            self.assertEqual({**out[name]["claims"], **said}, out[name]["claims"])
        report = await self.bring(await self.export())
        self.assertEqual({item.outcome for item in report.items}, {Outcome.UNCHANGED})

    async def test_bound(self) -> None:
        """
        A key that has policies by what the archive says of it needs the right to give policies,
        and gets none that is not here as it was there.
        """
        await self.accounts.put_policy("wide", policy("s3:*"))
        said = {"sub": "s-1", "iss": "https://id"}
        assets = minio_assets()
        assets["policies"] |= {"lost": 7}
        assets["svcaccts"] = {
            "ADMIN": key("hash", claims={**said, "policy": "consoleAdmin"}),
            "WIDE": key("hash", claims={**said, "policy": "wide"}),
            "LOST": key("hash", claims={**said, "policy": "team,lost"}),
        }
        importer = self.importer("admin:CreateServiceAccount", unlimited=False)
        report = await self.bring(assets, importer)
        self.assertEqual(report.of(Outcome.ADDED), [])
        self.assertIn("admin:AttachUserOrGroupPolicy", self.reason(report, "ADMIN"))
        report = await self.bring(assets)
        self.assertIn("lost", self.reason(report, "LOST"))
        self.assertEqual((await self.accounts.key("WIDE")).policies, ())
        self.assertFalse(await self.allowed("WIDE"))

    async def test_groups(self) -> None:
        """
        The policies of a group of LDAP, which is a name with signs that no group here has, are
        those of a subject.
        """
        assets = {"group_mappings": {"cn=staff,ou=groups": mapping("readonly")}}
        await self.bring(assets)
        holders = await self.accounts.holders()
        holder = Holder(HolderKind.SUBJECT, "cn=staff,ou=groups")
        self.assertEqual(holders, {holder: ("readonly",)})


#: Names and secrets, good ones and others, few enough to meet again.
_WORDS = st.sampled_from(
    [
        "",
        "alice",
        "bob",
        "rootkey",
        "a,b",
        "x",
        "uid=a,b",
        "readwrite",
        "é" * 30,
        "\x00",
        "12345678",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _WORDS,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(_WORDS, each, max_size=3),
    max_leaves=6,
)


def _object(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """
    Objects with such fields, or with some of them odd.
    """
    return st.fixed_dictionaries({}, optional={name: each | _JSON for name, each in fields.items()})


_STATUS = st.sampled_from(["enabled", "disabled", "on", "off"])
_DOCUMENT = st.sampled_from([EMBEDDED, TEAM]) | _JSON
_ASSETS = st.fixed_dictionaries(
    {},
    optional={
        "policies": st.dictionaries(_WORDS, _DOCUMENT) | _JSON,
        "users": st.dictionaries(_WORDS, _object(secretKey=_WORDS, status=_STATUS)) | _JSON,
        "groups": st.dictionaries(_WORDS, _object(members=st.lists(_WORDS), status=_STATUS)),
        "user_mappings": st.dictionaries(_WORDS, _object(policy=_WORDS)) | _JSON,
        "group_mappings": st.dictionaries(_WORDS, _object(policy=_WORDS)),
        "stsuser_mappings": st.dictionaries(_WORDS, _object(policy=_WORDS)),
        "svcaccts": st.dictionaries(
            _WORDS,
            _object(
                parent=_WORDS,
                secretKey=_WORDS,
                status=_STATUS,
                name=_WORDS,
                description=_WORDS,
                expiration=st.sampled_from(["", _LATER, "9999-12-31T23:59:59Z"]) | _WORDS,
                groups=st.lists(_WORDS),
                claims=_object(ldapUser=_WORDS, sub=_WORDS, iss=_WORDS, policy=_WORDS),
                sessionPolicy=_DOCUMENT,
            ),
        )
        | _JSON,
    },
)


class AnyTests(SyncCase):
    """
    Archives of all kinds.
    """

    @settings(deadline=None)
    @given(_ASSETS)
    def test_any(self, assets: Mapping[str, Any]) -> None:
        """
        Whatever an archive holds, it is imported as far as it can be: a dry run tells the same, a
        second import finds the same, and the root user stays who it is.
        """
        clock = Clock()
        clock.advance(NOW)
        accounts = Accounts(MemoryIndex(), None, ROOT, clock, os.urandom)

        async def may(_action: str) -> bool:
            """
            Allow everything.
            """
            return True

        def bring(dry_run: bool) -> Report:
            """
            Import the archive.
            """
            work = import_archive(
                accounts,
                zipped(assets),
                Importer(ROOT.access_key, may, True),
                root=ROOT.access_key,
                clock=clock,
                lane=InlineLane(),
                dry_run=dry_run,
                old_root="bob",
            )
            return self.successResultOf(Deferred.fromCoroutine(work))

        dry = bring(True)
        report = bring(False)
        self.assertEqual(report.items, dry.items)
        self.assertIsInstance(json.loads(report.to_json()), dict)
        again = bring(False)
        self.assertEqual(again.of(Outcome.ADDED) + again.of(Outcome.CHANGED), [])
        for outcome in (Outcome.FAILED, Outcome.LEFT_OUT):
            self.assertEqual(again.of(outcome), report.of(outcome))
        identity = self.successResultOf(Deferred.fromCoroutine(accounts.identity(ROOT.access_key)))
        self.assertEqual(identity, ROOT)


class ExportTests(ArchiveCase):
    """
    What goes out.
    """

    async def test_moved(self) -> None:
        """
        What was exported and is imported elsewhere is the same there, but for sessions; with the
        same root user its keys are its keys.
        """
        await self.bring(minio_assets(), old_root="oldroot")
        await self.accounts.create_session("alice", policy=limit("s3:*"), duration=3600)
        content = await self.export()
        self.setUp()
        report = await self.bring(content)
        self.assertEqual(report.of(Outcome.FAILED), [])
        self.assertEqual(report.of(Outcome.LEFT_OUT), [])
        self.assertEqual(await self.export(), content)
        self.assertEqual(len(await self.accounts.keys()), 3)
        self.assertTrue(await self.allowed("ROOTKEY0000000000001", "s3:DeleteBucket", "other"))

    async def test_format(self) -> None:
        """
        The files and their fields are those of MinIO, canned policies included.
        """
        assets = minio_assets()
        await self.bring(assets, old_root="oldroot")
        told = unzipped(await self.export())
        self.assertEqual(told.keys(), assets.keys())
        self.assertEqual(told["policies"].keys(), CANNED.keys() | {"team"})
        self.assertEqual(told["users"], assets["users"])
        for name, exported in told["svcaccts"].items():
            self.assertEqual(exported.keys(), assets["svcaccts"][name].keys())
        self.assertEqual(told["svcaccts"]["BOBKEY0000000000001"]["sessionPolicy"], EMBEDDED)
        self.assertEqual(told["svcaccts"]["ROOTKEY0000000000001"]["parent"], ROOT.access_key)
        self.assertEqual(
            told["svcaccts"]["BOBKEY0000000000001"]["expiration"], "2026-12-06T10:44:29Z"
        )

    async def test_nothing(self) -> None:
        """
        A server without accounts exports the canned policies.
        """
        told = unzipped(await self.export())
        self.assertEqual(told["policies"].keys(), CANNED.keys())
        self.assertEqual([each for name, each in told.items() if each and name != "policies"], [])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.vault`` against OpenBao.
"""

import atexit
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyNotFound,
    KeyStoreFailed,
    KeyStoreUnreachable,
)
from kypello.keystore.vault import VaultKeyStore, make_vault
from kypello.keystore.vaultconfig import AppRole, Token, Transit, VaultSettings
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME, KeyStoreContract
from tests.integration.bao import ROOT, Bao

_POLICY_2 = """
path "kv2/data/*" { capabilities = ["create", "read"] }
path "kv2/metadata/*" { capabilities = ["list", "delete"] }
"""

_numbers = count()


@cache
def shared() -> Bao:
    """
    The server of all tests, which ends with them.

    :raises SkipTest: There is no such program.
    """
    bao = Bao.develop(Path("_bao").resolve())
    atexit.register(bao.end)
    bao.ask("POST", "sys/namespaces/team", {})
    for namespace in ("", "team"):
        bao.mount("kv2", "kv", 2, namespace)
    bao.mount("kv1", "kv", 1)
    bao.mount("transit", "transit")
    bao.ask("POST", "transit/keys/wrap", {})
    return bao


def write(file: Path, text: str | None) -> None:
    """
    Write a small file, or remove it.
    """
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


class BaoCase(AsyncCase):
    """
    A test with a server in memory, which all tests share.
    """

    bao: Bao

    def setUp(self) -> None:
        """
        Start the server, unless it runs.
        """
        self.bao = shared()

    def settings(self, **changes: Any) -> VaultSettings:
        """
        Those of an empty store in the engine of version 2.
        """
        settings = VaultSettings(
            self.bao.url, Token("", ROOT), "kv2", 2, prefix=f"folder/{next(_numbers)}"
        )
        return evolve(settings, **changes)

    def store(self, settings: VaultSettings) -> VaultKeyStore:
        """
        A store that is closed after the test.
        """
        store = make_vault(settings, reactor, InlineLanes())
        self.addCleanup(store.close)
        return store


class SecondVersionTests(KeyStoreContract, BaoCase):
    """
    The contract of a key store, in a K/V engine of version 2.
    """

    def make_store(self) -> VaultKeyStore:
        """
        An empty store.
        """
        return self.store(self.settings())


class FirstVersionTests(KeyStoreContract, BaoCase):
    """
    The contract of a key store, in a K/V engine of version 1.
    """

    def make_store(self) -> VaultKeyStore:
        """
        An empty store.
        """
        return self.store(self.settings(engine="kv1", version=1))


class TransitTests(KeyStoreContract, BaoCase):
    """
    The contract of a key store whose entries a transit engine encrypts.
    """

    def make_store(self) -> VaultKeyStore:
        """
        An empty store.
        """
        return self.store(self.settings(transit=Transit("transit", "wrap")))

    async def test_entry(self) -> None:
        """
        What is stored is encrypted, and is opened after the transit key was replaced, too.
        """
        settings = self.settings(transit=Transit("transit", "wrap"))
        store = self.store(settings)
        await store.create(NAME, b"first")
        self.bao.ask("POST", "transit/keys/wrap/rotate", {})
        await store.create("other", b"second")
        entries = [
            self.bao.ask("GET", f"kv2/data/{settings.prefix}/{name}")["data"]["data"][name]
            for name in (NAME, "other")
        ]
        self.assertEqual([entry.rpartition(":")[0][:7] for entry in entries], ["vault:v"] * 2)
        self.assertNotEqual(entries[0].split(":")[1], entries[1].split(":")[1])
        self.assertEqual([await store.get(name) for name in (NAME, "other")], [b"first", b"second"])

    async def test_plain_entry(self) -> None:
        """
        An entry that was made before there was a transit engine is read as it is.
        """
        settings = self.settings(transit=Transit("transit", "wrap"))
        await self.store(evolve(settings, transit=None)).create(NAME, b"value")
        self.assertEqual(await self.store(settings).get(NAME), b"value")

    async def test_no_transit(self) -> None:
        """
        An encrypted entry is not taken for a key where no transit engine is configured.
        """
        settings = self.settings(transit=Transit("transit", "wrap"))
        await self.store(settings).create(NAME, b"value")
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.store(evolve(settings, transit=None)).get(NAME)
        self.assertIn("transit", caught.exception.reason)

    async def test_no_key(self) -> None:
        """
        With a transit key that does not exist nothing is stored.
        """
        settings = self.settings(transit=Transit("transit", "nobody"))
        self.bao.ask("POST", "transit/keys/nobody", {})
        self.bao.ask("POST", "transit/keys/nobody/config", {"deletion_allowed": True})
        self.bao.ask("DELETE", "transit/keys/nobody")
        self.bao.mount("strict", "transit")
        self.bao.ask("POST", "strict/config/keys", {"disable_upsert": True})
        store = self.store(evolve(settings, transit=Transit("strict", "nobody")))
        with self.assertRaises(KeyStoreFailed):
            await store.create(NAME, b"value")
        self.assertEqual(await store.names(), [])


class NamespaceTests(KeyStoreContract, BaoCase):
    """
    The contract of a key store in a namespace, with the rights that the documentation names.
    """

    def make_store(self) -> VaultKeyStore:
        """
        An empty store.
        """
        return self.store(self.settings(namespace="team", login=self.login))

    def setUp(self) -> None:
        """
        Make a role in the namespace.
        """
        super().setUp()
        role, secret = self.bao.app_role(_POLICY_2, "team", token_period="5m")
        self.login = AppRole("approle", "team", role, secret)

    async def test_elsewhere(self) -> None:
        """
        A role of another namespace is not let in, and its secret is not told.
        """
        store = self.store(self.settings(login=evolve(self.login, namespace="")))
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.prepare()
        self.assertIn("the login is refused", caught.exception.reason)
        self.assertNotIn(self.login.secret, repr(caught.exception) + repr(store))


class EntryTests(BaoCase):
    """
    Entries of the K/V engine.
    """

    async def test_layout(self) -> None:
        """
        An entry has one field, named like the key.
        """
        for version in (1, 2):
            settings = self.settings(engine=f"kv{version}", version=version)
            await self.store(settings).create(NAME, b"value")
            middle = "/data" if version == 2 else ""
            path = f"{settings.engine}{middle}/{settings.prefix}/{NAME}"
            found = self.bao.ask("GET", path)["data"]
            self.assertEqual(found["data"] if version == 2 else found, {NAME: "value"})

    async def test_first_version(self) -> None:
        """
        A key is what was stored first, whatever somebody has put over it.
        """
        settings = self.settings()
        store = self.store(settings)
        await store.create(NAME, b"value")
        path = f"kv2/data/{settings.prefix}/{NAME}"
        self.bao.ask("PUT", path, {"data": {NAME: "other"}})
        self.assertEqual(await store.get(NAME), b"value")

    async def test_deleted_elsewhere(self) -> None:
        """
        A key whose version was deleted in the engine is not reported as missing: it can be
        brought back.
        """
        settings = self.settings()
        store = self.store(settings)
        await store.create(NAME, b"value")
        path = f"kv2/data/{settings.prefix}/{NAME}"
        self.bao.ask("DELETE", path)
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn("undelete", caught.exception.reason)
        with self.assertRaises(KeyExists):
            await store.create(NAME, b"second")
        self.bao.ask("POST", f"kv2/undelete/{settings.prefix}/{NAME}", {"versions": [1]})
        self.assertEqual(await store.get(NAME), b"value")
        self.bao.ask("DELETE", path)
        await store.delete(NAME)
        with self.assertRaises(KeyNotFound):
            await store.get(NAME)

    async def test_other_fields(self) -> None:
        """
        An entry without the field of the key is a failure, and no missing key.
        """
        settings = self.settings()
        path = f"kv2/data/{settings.prefix}/{NAME}"
        self.bao.ask("PUT", path, {"data": {"password": "opensesame"}})
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.store(settings).get(NAME)
        self.assertNotIn("opensesame", str(caught.exception))

    async def test_folders(self) -> None:
        """
        Folders are not listed.
        """
        settings = self.settings()
        store = self.store(settings)
        await store.create(NAME, b"value")
        self.bao.ask("PUT", f"kv2/data/{settings.prefix}/deep/er", {"data": {"er": "x"}})
        self.assertEqual(await store.names(), [NAME])

    async def test_names(self) -> None:
        """
        A name that leads elsewhere is refused by all calls.
        """
        store = self.store(self.settings())
        for name in ("", "../a", "a/b", "a.b"):
            for call in (store.get(name), store.delete(name), store.create(name, b"v")):
                with self.assertRaises(InvalidKeyName):
                    await call

    async def test_no_text(self) -> None:
        """
        What JSON cannot carry is refused instead of being stored in another form.
        """
        store = self.store(self.settings())
        with self.assertRaises(KeyStoreFailed):
            await store.create(NAME, b"\xff\x00")
        self.assertEqual(await store.names(), [])


class EngineTests(BaoCase):
    """
    An engine that is not what the configuration says.
    """

    async def test_no_engine(self) -> None:
        """
        Without the engine no key is reported as missing.
        """
        for version in (1, 2):
            store = self.store(self.settings(engine="nowhere", version=version))
            for call in (store.get(NAME), store.names(), store.create(NAME, b"v")):
                with self.assertRaises(KeyStoreFailed):
                    await call

    async def test_other_version(self) -> None:
        """
        The wrong version is told at the start, with what to write, and nothing is stored.
        """
        for engine, version, right in (("kv1", 2, "v1"), ("kv2", 1, "v2")):
            store = self.store(self.settings(engine=engine, version=version))
            with self.assertRaises(KeyStoreFailed) as caught:
                await store.prepare()
            self.assertIn(f"write version: {right}", caught.exception.reason)

    async def test_policy(self) -> None:
        """
        What the policy does not allow is told with the path; the role stays logged in.
        """
        policy = 'path "kv2/*" { capabilities = ["list"] }'
        role, secret = self.bao.app_role(policy)
        settings = self.settings(login=AppRole("approle", "", role, secret))
        store = self.store(settings)
        await store.prepare()
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.create(NAME, b"value")
        self.assertIn(f"PUT kv2/data/{settings.prefix}/{NAME}", caught.exception.reason)
        self.assertEqual(await store.names(), [])


class LoginTests(BaoCase):
    """
    Getting a token, and losing it.
    """

    def role(self, **role: Any) -> AppRole:
        """
        A role that may use the store.
        """
        return AppRole("approle", "", *self.bao.app_role(_POLICY_2, **role))

    def accessors(self) -> set[str]:
        """
        What stands for all tokens there are.
        """
        return set(self.bao.ask("GET", "auth/token/accessors?list=true")["data"]["keys"])

    async def test_once(self) -> None:
        """
        One login serves all calls, also those that begin at the same time.
        """
        store = self.store(self.settings(login=self.role(token_ttl="1h")))
        before = self.accessors()
        await store.prepare()
        await store.create(NAME, b"value")
        self.assertEqual(await store.get(NAME), b"value")
        self.assertEqual(len(self.accessors() - before), 1)

    async def test_revoked(self) -> None:
        """
        A token that the server knows no more is replaced, and the call succeeds.
        """
        store = self.store(self.settings(login=self.role(token_ttl="1h")))
        before = self.accessors()
        await store.prepare()
        (accessor,) = self.accessors() - before
        self.bao.ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})
        await store.create(NAME, b"value")
        self.assertEqual(await store.get(NAME), b"value")

    async def test_short_life(self) -> None:
        """
        Tokens that end soon are replaced or renewed, and no call fails.
        """
        for role in ({"token_period": "2s"}, {"token_ttl": "1s", "token_max_ttl": "1s"}):
            store = self.store(self.settings(login=self.role(**role)))
            await store.create(NAME, b"value")
            for _ in range(12):
                await deferLater(reactor, 0.25)
                self.assertEqual(await store.get(NAME), b"value")
            await store.close()

    async def test_token_file(self) -> None:
        """
        A token from a file is renewed, and read again when the server refuses it.
        """
        self.role()  # for its policy
        file = Path(self.mktemp())
        tokens = []
        for _ in range(2):
            made = self.bao.ask(
                "POST", "auth/token/create", {"policies": ["kypello"], "period": "1h"}
            )
            tokens.append(made["auth"]["client_token"])
        write(file, f"{tokens[0]}\n")
        store = self.store(self.settings(login=Token("", file=file)))
        await store.create(NAME, b"value")
        self.bao.ask("POST", "auth/token/revoke", {"token": tokens[0]})
        write(file, tokens[1])
        self.assertEqual(await store.get(NAME), b"value")
        self.bao.ask("POST", "auth/token/revoke", {"token": tokens[1]})
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn("the token is refused", caught.exception.reason)
        self.assertNotIn(tokens[1], repr(caught.exception))
        write(file, None)
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn(str(file), caught.exception.reason)


class StateTests(BaoCase):
    """
    A server that is sealed or away.
    """

    async def test_sealed(self) -> None:
        """
        While the server is sealed the store is unreachable, and says why.
        """
        folder = Path(self.mktemp())
        bao = await deferToThread(lambda: Bao.develop(folder.resolve()))
        self.addCleanup(bao.end)
        store = self.store(self.settings(endpoint=bao.url))
        await store.prepare()
        bao.ask("PUT", "sys/seal")
        for call in (store.get(NAME), store.status(), store.names()):
            with self.assertRaises(KeyStoreUnreachable) as caught:
                await call
            self.assertIn("sealed", caught.exception.reason)

    async def test_away(self) -> None:
        """
        A server that is not there makes the store unreachable.
        """
        store = self.store(self.settings(endpoint="http://127.0.0.1:1"))
        for call in (store.get(NAME), store.create(NAME, b"v"), store.prepare()):
            with self.assertRaises(KeyStoreUnreachable) as caught:
                await call
            self.assertIn("refuses connections", caught.exception.reason)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.gemalto`` against a server of the tests, over TLS.  The original KES judges that
in ``test_keystore_clouds_kes``.
"""

import time
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory

from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyNotFound,
    KeyStoreFailed,
    KeyStoreUnreachable,
)
from kypello.keystore.gemalto import GemaltoKeyStore
from kypello.keystore.gemaltoconfig import GemaltoSettings
from kypello.keystore.webtls import TLSFiles
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME, KeyStoreContract
from tests.integration.ciphertrust import TOKEN, CipherTrust, refused
from tests.integration.emulators import Served, Told
from tests.integration.test_kes_server import Person


class GemaltoCase(AsyncCase):
    """
    A test with a service.
    """

    def setUp(self) -> None:
        """
        Start the server.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.files = Person.make(folder, "server")
        self.service = CipherTrust(now=time.time())
        self.served = Served(self.service)
        self.served.start(DefaultOpenSSLContextFactory(str(self.files.key), str(self.files.cert)))
        self.addCleanup(self.served.stop)

    def settings(self, **changes: Any) -> GemaltoSettings:
        """
        Those of the service.
        """
        settings = GemaltoSettings(self.served.url, TOKEN, tls=TLSFiles(ca=self.files.cert))
        return evolve(settings, **changes)

    def store(self, **changes: Any) -> GemaltoKeyStore:
        """
        A store that is closed after the test.
        """
        store = GemaltoKeyStore.make(self.settings(**changes), reactor, InlineLanes())
        self.addCleanup(store.close)
        return store


class ContractTests(KeyStoreContract, GemaltoCase):
    """
    The contract of a key store, in a domain.
    """

    def make_store(self) -> GemaltoKeyStore:
        """
        An empty store.
        """
        self.service.domain = "team"
        self.service.secrets.clear()
        return self.store(domain="team")


class TokenTests(GemaltoCase):
    """
    Tokens.
    """

    async def test_kept(self) -> None:
        """
        One token serves many calls; one that is refused is replaced, once for each call.
        """
        store = self.store()
        await store.prepare()
        await store.create(NAME, b"value")
        self.assertEqual(self.service.given, 1)
        self.service.tokens.clear()
        self.assertEqual(await store.get(NAME), b"value")
        self.assertEqual(self.service.given, 2)
        self.service.refusal = refused(401, "NCERRUnauthorized")
        with self.assertRaises(KeyStoreFailed):
            await store.get(NAME)
        self.assertEqual(self.service.given, 3)

    async def test_refused(self) -> None:
        """
        A wrong token or domain is refused, and no token is told.
        """
        for changes in ({"token": "wrong-token"}, {"domain": "other"}):
            store = self.store(**changes)
            with self.assertRaises(KeyStoreFailed) as caught:
                await store.prepare()
            self.assertIn("Authentication failed", caught.exception.reason)
            told = repr(caught.exception) + repr(store) + repr(self.settings(**changes))
            self.assertNotIn("wrong-token", told)
            self.assertNotIn(TOKEN, told)

    async def test_no_token(self) -> None:
        """
        An answer without a token, its life or its kind is a failure.
        """
        good = {"jwt": "x", "duration": 1, "token_type": "Bearer"}
        for wrong in ({"jwt": 1}, {"duration": "x"}, {"token_type": "Basic"}):
            self.served.answers = lambda _, wrong=wrong: Told({**good, **wrong})
            with self.assertRaises(KeyStoreFailed):
                await self.store().prepare()


class AnswerTests(GemaltoCase):
    """
    Answers that mean something else than what was asked for.
    """

    async def test_hidden(self) -> None:
        """
        What we may not see is not found, and its deletion is not reported as done.
        """
        store = self.store()
        await store.create(NAME, b"value")
        self.service.hidden = True
        for call in (store.get, store.delete):
            with self.assertRaises(KeyNotFound):
                await call(NAME)
        with self.assertRaises(KeyExists):
            await store.create(NAME, b"value")

    async def test_prefix(self) -> None:
        """
        With a prefix a store sees its own secrets only.
        """
        self.service.secrets["other"] = "value"
        store = self.store(prefix="kypello-")
        await store.create(NAME, b"value")
        self.assertEqual(list(self.service.secrets), ["other", f"kypello-{NAME}"])
        self.assertEqual(await store.names(), [NAME])
        self.assertEqual(await store.get(NAME), b"value")
        await store.delete(NAME)
        self.assertEqual(list(self.service.secrets), ["other"])

    async def test_forbidden(self) -> None:
        """
        Who may do nothing is told so, and the store is not well.
        """
        self.service.refusal = refused(403, "NCERRInsufficientPermissions")
        store = self.store()
        calls = (
            store.prepare(),
            store.status(),
            store.get(NAME),
            store.create(NAME, b"v"),
            store.delete(NAME),
            store.names(),
        )
        for call in calls:
            with self.assertRaises(KeyStoreFailed) as caught:
                await call
            self.assertIn("403 NCERRInsufficientPermissions", caught.exception.reason)

    async def test_trouble_of_the_service(self) -> None:
        """
        When the service itself is not well, or is asked too often, it is unreachable.
        """
        for status in (503, 429):
            self.service.refusal = Told(b"<html>", status)
            with self.assertRaises(KeyStoreUnreachable):
                await self.store().create(NAME, b"value")

    async def test_nonsense(self) -> None:
        """
        What is no secret is a failure, and no missing key.
        """
        for content in (b"hello", {}, {"material": 1}):
            self.service.refusal = Told(content)
            with self.assertRaises(KeyStoreFailed):
                await self.store().get(NAME)

    async def test_listing(self) -> None:
        """
        A listing that breaks off, or repeats itself, is no shorter list but a failure.
        """
        store = self.store()
        for page in (
            {"skip": 0, "total": 5, "resources": []},
            {"skip": 0, "total": 5, "resources": None},
            {"skip": 0, "total": 1, "resources": "a"},
            {"skip": 0, "total": 500, "resources": [{"name": "a"}]},
            {"skip": 0, "resources": []},
            {},
        ):
            self.service.refusal = Told(page)
            with self.assertRaises(KeyStoreFailed):
                await store.names()

    async def test_no_names(self) -> None:
        """
        What is no name of a key is refused by all calls.
        """
        store = self.store()
        for name in ("", "a/b", "..", "a.b"):
            with self.assertRaises(InvalidKeyName):
                await store.create(name, b"value")
            for call in (store.get, store.delete):
                with self.assertRaises(InvalidKeyName):
                    await call(name)

    async def test_stranger(self) -> None:
        """
        A service with a certificate of nobody whom we trust gets no token.
        """
        store = self.store(tls=TLSFiles())
        with self.assertRaises(KeyStoreUnreachable) as caught:
            await store.prepare()
        self.assertIn("certificate", caught.exception.reason)
        self.assertEqual(self.served.asked, [])

    async def test_nobody(self) -> None:
        """
        Where nobody listens, the store is unreachable.
        """
        store = self.store()
        await self.served.stop()
        for call in (store.prepare(), store.get(NAME), store.create(NAME, b"v")):
            with self.assertRaises(KeyStoreUnreachable):
                await call

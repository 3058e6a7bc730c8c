# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.gcp`` against a server of the tests, which Google's own client judges.
"""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyStoreFailed,
    KeyStoreUnreachable,
)
from kypello.keystore.gcp import GCPKeyStore
from kypello.keystore.gcpconfig import (
    GCPSettings,
    ServiceAccount,
    Source,
)
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME, KeyStoreContract
from tests.integration.emulators import Served, Told, run
from tests.integration.google import EMAIL, PROJECT, SCOPE, Google, refused
from tests.integration.tools import client

_JUDGE = """
import sys, json
import google.auth
from google.api_core import exceptions
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports.rest import (
    SecretManagerServiceRestTransport)
host, parent = sys.argv[1:]
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
client = SecretManagerServiceClient(transport=SecretManagerServiceRestTransport(
    host=host, url_scheme="http", credentials=credentials))
def create(name):
    return client.create_secret(request={
        "parent": parent, "secret_id": name, "secret": {"replication": {"automatic": {}}}})
made = [create(name).name for name in ("a", "b", "c", "d", "e")]
try:
    create("a")
except exceptions.Conflict:
    made.append("exists")
secret = f"{parent}/secrets/a"
try:
    client.access_secret_version(name=f"{secret}/versions/1")
except exceptions.NotFound:
    made.append("missing")
client.add_secret_version(request={"parent": secret, "payload": {"data": b"theirs"}})
found = client.access_secret_version(name=f"{secret}/versions/1").payload
client.delete_secret(name=f"{parent}/secrets/b")
names = [one.name.rpartition("/")[2]
         for one in client.list_secrets(request={"parent": parent, "page_size": 2})]
ours = client.access_secret_version(name=f"{parent}/secrets/ours/versions/1").payload.data
print(json.dumps([made[-2:], found.data.decode(), found.data_crc32c, sorted(names), ours.decode()]))
"""


class GCPCase(AsyncCase):
    """
    A test with a project.
    """

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.google = Google()
        self.served = Served(self.google)
        self.served.start()
        self.addCleanup(self.served.stop)
        self.account = ServiceAccount(EMAIL, "id", self.google.pem, f"{self.served.url}/token")

    def settings(self, *sources: Source, **changes: Any) -> GCPSettings:
        """
        Those of the project.
        """
        found = sources or (self.account,)
        return evolve(GCPSettings(self.served.url, PROJECT, "", (), (SCOPE,), found), **changes)

    def store(self, settings: GCPSettings | None = None) -> GCPKeyStore:
        """
        A store in the project, which is closed after the test.
        """
        store = GCPKeyStore.make(settings or self.settings(), reactor, InlineLanes())
        self.addCleanup(store.close)
        return store

    def file(self, content: Any) -> Path:
        """
        A file of credentials.
        """
        path = Path(self.mktemp()).absolute()
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path


class ContractTests(KeyStoreContract, GCPCase):
    """
    The contract of a key store.
    """

    def make_store(self) -> GCPKeyStore:
        """
        An empty store, whose names come in several pages.
        """
        self.google.secrets.clear()
        self.google.page = 250
        return self.store()


class JudgeTests(GCPCase):
    """
    Google's own client.
    """

    async def test_judge(self) -> None:
        """
        It finds the server of the tests right, reads what the store has written, and writes what
        the store reads.
        """
        await self.store().create("ours", b"value of ours")
        self.google.page = 3
        file = self.file(
            {
                "type": "service_account",
                "client_email": EMAIL,
                "private_key_id": "id",
                "private_key": self.google.pem,
                "token_uri": f"{self.served.url}/token",
                "project_id": PROJECT,
            }
        )
        python = str(client("google-secret-manager") / "bin" / "python")
        host = self.served.url.removeprefix("http://")
        for environment in (
            {"GOOGLE_APPLICATION_CREDENTIALS": str(file)},
            {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "HOME": "/nowhere"},
        ):
            for name in "abcde":
                self.google.secrets.pop(name, None)
            command = (python, "-c", _JUDGE, host, f"projects/{PROJECT}")
            printed = await deferToThread(run, command, environment)
            made, value, checksum, names, ours = json.loads(printed)
            self.assertEqual(made, ["exists", "missing"])
            self.assertEqual((value, ours), ("theirs", "value of ours"))
            self.assertEqual(names, ["a", "c", "d", "e", "ours"])
            self.assertTrue(checksum)
            self.assertEqual(await self.store().get("a"), b"theirs")


class SecretTests(GCPCase):
    """
    Secrets as they are.
    """

    async def test_replication(self) -> None:
        """
        Where secrets are kept is left to Google, or to the configuration.
        """
        await self.store().create("one", b"value")
        settings = self.settings(locations=("europe-west1", "europe-west3"))
        await self.store(settings).create("two", b"value")
        self.assertEqual(self.google.made["one"], {"replication": {"automatic": {}}})
        replicas = [{"location": "europe-west1"}, {"location": "europe-west3"}]
        self.assertEqual(
            self.google.made["two"], {"replication": {"userManaged": {"replicas": replicas}}}
        )

    async def test_prefix(self) -> None:
        """
        With a prefix a store sees its own secrets only.
        """
        self.google.secrets["other"] = [b"value"]
        store = self.store(self.settings(prefix="kypello_"))
        await store.create(NAME, b"value")
        self.assertEqual(sorted(self.google.secrets), [f"kypello_{NAME}", "other"])
        self.assertEqual(await store.names(), [NAME])
        self.assertEqual(await store.get(NAME), b"value")
        await store.delete(NAME)
        self.assertEqual(sorted(self.google.secrets), ["other"])

    async def test_first_version(self) -> None:
        """
        A key is the first version, whatever was added.
        """
        self.google.secrets[NAME] = [b"first", b"second"]
        self.assertEqual(await self.store().get(NAME), b"first")

    async def test_interrupted(self) -> None:
        """
        A secret without a value is reported as what it is: no missing key, and no free name.  It
        can be removed.
        """
        self.google.secrets[NAME] = []
        self.google.made[NAME] = {}
        store = self.store()
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn("interrupted", caught.exception.reason)
        with self.assertRaises(KeyExists):
            await store.create(NAME, b"value")
        self.assertEqual(self.google.secrets[NAME], [])
        await store.delete(NAME)
        await store.create(NAME, b"value")

    async def test_value_refused(self) -> None:
        """
        When the value is refused the name is free again.
        """
        self.google.refusals["addVersion"] = refused(403, "PERMISSION_DENIED")
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.store().create(NAME, b"value")
        self.assertIn("PERMISSION_DENIED", caught.exception.reason)
        self.assertEqual(self.google.secrets, {})

    async def test_value_too_often(self) -> None:
        """
        So it is when Google was asked too often.
        """
        self.google.refusals["addVersion"] = refused(429, "RESOURCE_EXHAUSTED")
        with self.assertRaises(KeyStoreUnreachable):
            await self.store().create(NAME, b"value")
        self.assertEqual(self.google.secrets, {})

    async def test_value_unknown(self) -> None:
        """
        When nobody knows whether the value was stored, nothing is removed.
        """
        self.google.refusals["addVersion"] = refused(503, "UNAVAILABLE")
        with self.assertRaises(KeyStoreUnreachable):
            await self.store().create(NAME, b"value")
        self.assertEqual(self.google.secrets, {NAME: []})

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


class AnswerTests(GCPCase):
    """
    Answers of a service that does not do what was asked.
    """

    async def test_forbidden(self) -> None:
        """
        Who may not read is told so, and the store is not well.
        """
        self.google.refusals["access"] = refused(403, "PERMISSION_DENIED", "no access")
        store = self.store()
        for call in (store.prepare(), store.status(), store.get(NAME)):
            with self.assertRaises(KeyStoreFailed) as caught:
                await call
            self.assertIn("PERMISSION_DENIED no access", caught.exception.reason)

    async def test_trouble_of_the_service(self) -> None:
        """
        When Google itself is not well, or is asked too often, the store is unreachable.
        """
        store = self.store()
        for told in (
            refused(503, "UNAVAILABLE"),
            refused(429, "RESOURCE_EXHAUSTED"),
            Told(b"<html>", 502),
        ):
            self.google.refusals["access"] = told
            with self.assertRaises(KeyStoreUnreachable):
                await store.get(NAME)

    async def test_nonsense(self) -> None:
        """
        What does not answer as Google does is a failure, and no missing key.
        """
        store = self.store()
        for told in (
            Told(b"hello"),
            Told(b"hello", 404),
            Told({}),
            Told({"payload": 1}),
            Told({"payload": {"data": "%"}}),
            Told({"payload": {"data": b64encode(b"value").decode(), "dataCrc32c": "1"}}),
        ):
            self.google.refusals["access"] = told
            with self.assertRaises(KeyStoreFailed):
                await store.get(NAME)

    async def test_endless_listing(self) -> None:
        """
        A listing that goes round in a circle comes to an end.
        """
        store = self.store()
        await store.prepare()
        self.served.answers = lambda _: Told({"nextPageToken": "again"})
        with self.assertRaises(KeyStoreFailed):
            await store.names()

    async def test_nobody(self) -> None:
        """
        Where nobody listens, the store is unreachable.
        """
        store = self.store()
        await self.served.stop()
        for call in (store.prepare(), store.get(NAME), store.create(NAME, b"v")):
            with self.assertRaises(KeyStoreUnreachable):
                await call

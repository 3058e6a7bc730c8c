# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.aws`` against emulators of AWS, with boto3 as the judge.
"""

import atexit
import re
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import boto3
from attrs import evolve
from botocore.config import Config
from botocore.exceptions import ClientError
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from kypello.auth.signer import Keys
from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyStoreFailed,
)
from kypello.keystore.aws import AWSKeyStore
from kypello.keystore.awsconfig import AWSSettings, WebIdentity
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME, KeyStoreContract
from tests.integration.emulators import Emulator

REGION = "eu-central-1"
KEYS = Keys("test", "test")

_DOCUMENT = Path(__file__).parents[2] / "docs" / "keystores.md"

_numbers = count()


@cache
def emulator(make: Callable[[Path], Emulator]) -> Emulator:
    """
    An emulator for all tests, which ends with them.

    :raises SkipTest: It is not installed.
    """
    made = make(Path(f"_aws_{make.__name__}").resolve())
    atexit.register(made.end)
    return made


def documented() -> str:
    """
    The policy of the documentation.
    """
    text = _DOCUMENT.read_text(encoding="utf-8")
    found = re.search(r"^    \{\n.*?^    \}$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group()


def random(size: int) -> bytes:
    """
    Bytes that are others each time.
    """
    return next(_numbers).to_bytes(size, "big")


class AWSCase(AsyncCase):
    """
    A test with an emulator, which all tests share.
    """

    make: Callable[[Path], Emulator] = Emulator.moto

    def setUp(self) -> None:
        """
        Start the emulator, unless it runs.
        """
        self.aws = emulator(type(self).make)

    def settings(self, **changes: Any) -> AWSSettings:
        """
        Those of an empty store.
        """
        settings = AWSSettings(self.aws.url, REGION, "", f"kypello/{next(_numbers)}/", (KEYS,))
        return evolve(settings, **changes)

    def store(self, settings: AWSSettings) -> AWSKeyStore:
        """
        A store that is closed after the test.
        """
        store = AWSKeyStore.make(settings, reactor, InlineLanes(), random)
        self.addCleanup(store.close)
        return store

    def client(self, service: str, keys: Keys = KEYS) -> Any:
        """
        AWS's own client.
        """
        return boto3.client(
            service,
            endpoint_url=self.aws.url,
            region_name=REGION,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )


class MotoTests(KeyStoreContract, AWSCase):
    """
    The contract of a key store, in moto.
    """

    def make_store(self) -> AWSKeyStore:
        """
        An empty store.
        """
        return self.store(self.settings())


class MiniStackTests(KeyStoreContract, AWSCase):
    """
    The contract of a key store, in MiniStack.
    """

    make = Emulator.ministack

    def make_store(self) -> AWSKeyStore:
        """
        An empty store.
        """
        return self.store(self.settings())


class SecretTests(AWSCase):
    """
    Secrets as they are.
    """

    async def test_layout(self) -> None:
        """
        A secret is a string with the name of the key behind the prefix, under the KMS key.
        """
        secrets = self.client("secretsmanager")
        key = (await deferToThread(self.client("kms").create_key))["KeyMetadata"]["Arn"]
        settings = self.settings(kms_key=key)
        store = self.store(settings)
        await store.create(NAME, b"value")
        name = settings.prefix + NAME
        found = await deferToThread(secrets.get_secret_value, SecretId=name)
        self.assertEqual(found["SecretString"], "value")
        told = await deferToThread(secrets.describe_secret, SecretId=name)
        self.assertEqual(told["KmsKeyId"], key)

    async def test_without_prefix(self) -> None:
        """
        As with the original, keys can be all secrets of the account; those whose names cannot be
        names of keys are left out.
        """
        self.aws.post("/moto-api/reset")
        secrets = self.client("secretsmanager")
        for name in ("other/thing", "dotted.name", "theirs"):
            await deferToThread(secrets.create_secret, Name=name, SecretString="x")
        store = self.store(self.settings(prefix=""))
        await store.create("ours", b"value")
        self.assertEqual(await store.names(), ["ours", "theirs"])

    async def test_binary(self) -> None:
        """
        A secret of bytes is read, too.
        """
        settings = self.settings()
        await deferToThread(
            self.client("secretsmanager").create_secret,
            Name=settings.prefix + NAME,
            SecretBinary=b"value",
        )
        self.assertEqual(await self.store(settings).get(NAME), b"value")

    async def test_scheduled(self) -> None:
        """
        A secret that is scheduled for deletion is not reported as missing: it can be brought
        back.  Until then its name is not used again.
        """
        secrets = self.client("secretsmanager")
        settings = self.settings()
        store = self.store(settings)
        await store.create(NAME, b"value")
        name = settings.prefix + NAME
        await deferToThread(secrets.delete_secret, SecretId=name, RecoveryWindowInDays=7)
        for call in (store.get, store.delete):
            with self.assertRaises(KeyStoreFailed) as caught:
                await call(NAME)
            self.assertIn("restore-secret", caught.exception.reason)
        with self.assertRaises((KeyExists, KeyStoreFailed)):
            await store.create(NAME, b"second")
        self.assertEqual(await store.names(), [])
        await deferToThread(secrets.restore_secret, SecretId=name)
        self.assertEqual(await store.get(NAME), b"value")

    async def test_deleted_for_good(self) -> None:
        """
        A deleted key leaves no secret that waits for its end.
        """
        settings = self.settings()
        store = self.store(settings)
        await store.create(NAME, b"value")
        await store.delete(NAME)
        with self.assertRaises(ClientError):
            await deferToThread(
                self.client("secretsmanager").describe_secret, SecretId=settings.prefix + NAME
            )

    async def test_no_text(self) -> None:
        """
        What is no text is not stored, and not told.
        """
        store = self.store(self.settings())
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.create(NAME, b"\xffhidden")
        self.assertNotIn("hidden", repr(caught.exception))
        self.assertIsNone(caught.exception.__cause__)
        self.assertEqual(await store.names(), [])

    async def test_role(self) -> None:
        """
        A role that moto's token service gives for a token is good for secrets.
        """
        file = Path(self.mktemp())
        await deferToThread(file.write_text, "token")
        role = "arn:aws:iam::123456789012:role/keys"
        source = WebIdentity(file, role, "kypello", self.aws.url)
        store = self.store(self.settings(sources=(source,)))
        await store.create(NAME, b"value")
        self.assertEqual(await store.get(NAME), b"value")

    async def test_no_names(self) -> None:
        """
        What is no name of a key is refused by all calls.
        """
        store = self.store(self.settings())
        for name in ("", "a/b", "..", "a.b"):
            with self.assertRaises(InvalidKeyName):
                await store.create(name, b"value")
            for call in (store.get, store.delete):
                with self.assertRaises(InvalidKeyName):
                    await call(name)


class RightsTests(AWSCase):
    """
    Who may do what, in MiniStack, which checks signatures and policies.
    """

    make = Emulator.ministack

    def setUp(self) -> None:
        """
        Make a user with the rights that the documentation names, and one without any.
        """
        super().setUp()
        iam = self.client("iam")
        self.users: list[Keys] = []
        for rights in (True, False):
            name = f"user{next(_numbers)}"
            iam.create_user(UserName=name)
            if rights:
                iam.put_user_policy(UserName=name, PolicyName="keys", PolicyDocument=self.policy())
            made = iam.create_access_key(UserName=name)["AccessKey"]
            self.users.append(Keys(made["AccessKeyId"], made["SecretAccessKey"]))

    def policy(self) -> str:
        """
        What the documentation says that is needed.
        """
        return documented()

    async def test_enough(self) -> None:
        """
        The rights of the documentation are enough.
        """
        store = self.store(self.settings(sources=(self.users[0],)))
        await store.prepare()
        await store.create(NAME, b"value")
        self.assertEqual(await store.get(NAME), b"value")
        self.assertEqual(await store.names(), [NAME])
        await store.delete(NAME)

    async def test_refused(self) -> None:
        """
        Without rights, with a wrong secret key or as a stranger nothing works, and the store is
        not well: no key is reported as missing.
        """
        right, powerless = self.users
        for keys in (powerless, evolve(right, secret_key="wrong-secret"), Keys("A" * 20, "s")):
            store = self.store(self.settings(sources=(keys,)))
            for call in (store.prepare(), store.get(NAME), store.create(NAME, b"v"), store.names()):
                with self.assertRaises(KeyStoreFailed) as caught:
                    await call
                self.assertNotIn(keys.secret_key + "'", repr(caught.exception))


class MotoRightsTests(RightsTests):
    """
    The same in moto, which checks signatures and policies when it is told to.
    """

    make = Emulator.moto

    def setUp(self) -> None:
        """
        Let it check while the test runs.
        """
        super().setUp()
        self.aws.post("/moto-api/reset-auth", b"0")
        self.addCleanup(self.aws.post, "/moto-api/reset-auth", b"inf")

    def policy(self) -> str:
        """
        The same for all secrets: moto asks whether something is allowed for every one.
        """
        return documented().replace("arn:aws:secretsmanager:*:*:secret:kypello/*", "*")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IKMS`` must do.
"""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from kypello.errors import InvalidKeyName, KeyExists, KeyNotFound, NotAuthentic
from kypello.interfaces import IKMS

KEY = "my-key"
CONTEXT = b'{"bucket":"bucket/object"}'


class KMSContract:
    """
    The contract of a key service.  Subclasses provide ``make_kms``.
    """

    # Those of trial's TestCase, which the subclass brings.
    assertEqual: Any
    assertNotEqual: Any
    assertNotIn: Any
    assertRaises: Any
    assertTrue: Any
    assertIn: Any

    async def make_kms(self) -> IKMS:
        """
        One that holds its default key, which is :data:`KEY`, and no other.
        """
        raise NotImplementedError

    async def test_interface(self) -> None:
        """
        It provides ``IKMS``.
        """
        kms = await self.make_kms()
        self.assertTrue(verifyObject(IKMS, kms))
        self.assertEqual(kms.default_key, KEY)

    async def test_round(self) -> None:
        """
        What is generated is opened, as often as one likes.
        """
        kms = await self.make_kms()
        key = await kms.generate_key(KEY, CONTEXT)
        self.assertEqual(key.key_name, KEY)
        self.assertEqual(len(key.plaintext), 32)
        for _ in range(2):
            self.assertEqual(await kms.decrypt_key(KEY, key.sealed, CONTEXT), key.plaintext)

    async def test_fresh(self) -> None:
        """
        No two data keys are alike, and none can be seen in its sealed form.
        """
        kms = await self.make_kms()
        made = [await kms.generate_key(KEY, CONTEXT) for _ in range(3)]
        self.assertEqual(len({key.plaintext for key in made}), 3)
        self.assertEqual(len({key.sealed for key in made}), 3)
        for key in made:
            self.assertNotIn(key.plaintext, key.sealed)
            self.assertNotIn(repr(key.plaintext), repr(key))

    async def test_not_authentic(self) -> None:
        """
        With another context, or any other bytes, nothing is opened.
        """
        kms = await self.make_kms()
        key = await kms.generate_key(KEY, CONTEXT)
        for sealed, context in (
            (key.sealed, b"{}"),
            (key.sealed, CONTEXT + b" "),
            (key.sealed[:-1] + bytes([key.sealed[-1] ^ 1]), CONTEXT),
            (bytes([key.sealed[0] ^ 1]) + key.sealed[1:], CONTEXT),
            (key.sealed[:-1], CONTEXT),
            (b"", CONTEXT),
            (b"short", CONTEXT),
            (b'{"aead":1}' + bytes(80), CONTEXT),
        ):
            with self.assertRaises(NotAuthentic):
                await kms.decrypt_key(KEY, sealed, context)

    async def test_empty_context(self) -> None:
        """
        No context, and one of no entries, are the same.
        """
        kms = await self.make_kms()
        for made, opened in ((b"", b"{}"), (b"{}", b"")):
            key = await kms.generate_key(KEY, made)
            self.assertEqual(await kms.decrypt_key(KEY, key.sealed, opened), key.plaintext)

    async def test_unknown_key(self) -> None:
        """
        A master key that is not there is told by its name.
        """
        kms = await self.make_kms()
        for call in (
            lambda: kms.generate_key("unknown", CONTEXT),
            lambda: kms.decrypt_key("unknown", bytes(76), CONTEXT),
            lambda: kms.describe_key("unknown"),
        ):
            with self.assertRaises(KeyNotFound) as caught:
                await call()
            self.assertEqual(caught.exception.name, "unknown")

    async def test_existing_key(self) -> None:
        """
        A master key that is there is not made again.
        """
        kms = await self.make_kms()
        key = await kms.generate_key(KEY, CONTEXT)
        with self.assertRaises(KeyExists) as caught:
            await kms.create_key(KEY)
        self.assertEqual(caught.exception.name, KEY)
        self.assertEqual(await kms.decrypt_key(KEY, key.sealed, CONTEXT), key.plaintext)

    async def test_describe(self) -> None:
        """
        A master key is told about, and not told.
        """
        info = await (await self.make_kms()).describe_key(KEY)
        self.assertEqual(info.name, KEY)
        self.assertIn(info.algorithm, ("AES256", "ChaCha20"))
        self.assertTrue(info.created_at.endswith("Z"))

    async def test_list(self) -> None:
        """
        Names are listed by how they begin.
        """
        kms = await self.make_kms()
        for prefix in ("", "m", "my-", KEY):
            self.assertEqual(list(await kms.list_keys(prefix)), [KEY])
        for prefix in ("x", "my-keys", "y", "-", "no name begins so"):
            self.assertEqual(list(await kms.list_keys(prefix)), [])

    async def test_status(self) -> None:
        """
        The status names the default key.
        """
        status = await (await self.make_kms()).status()
        self.assertEqual(status.default_key, KEY)
        self.assertTrue(all(endpoint.online for endpoint in status.endpoints))

    async def test_at_once(self) -> None:
        """
        Many calls at once do not mix.
        """
        kms = await self.make_kms()

        async def go_round(number: int) -> None:
            context = b'{"bucket":"%d"}' % number
            key = await kms.generate_key(KEY, context)
            self.assertEqual(await kms.decrypt_key(KEY, key.sealed, context), key.plaintext)

        await gatherResults([Deferred.fromCoroutine(go_round(number)) for number in range(100)])


class CreatingKMSContract(KMSContract):
    """
    What a key service does that can make master keys.
    """

    async def test_create(self) -> None:
        """
        A new master key is listed, and seals what no other opens.
        """
        kms = await self.make_kms()
        await kms.create_key("another")
        self.assertEqual(list(await kms.list_keys("")), ["another", KEY])
        self.assertEqual((await kms.describe_key("another")).name, "another")
        key = await kms.generate_key("another", CONTEXT)
        self.assertEqual(await kms.decrypt_key("another", key.sealed, CONTEXT), key.plaintext)
        with self.assertRaises(NotAuthentic):
            await kms.decrypt_key(KEY, key.sealed, CONTEXT)

    async def test_names(self) -> None:
        """
        What can be no name is refused as such.
        """
        kms = await self.make_kms()
        for name in ("", ".", "..", "a/b", "../version", "a b", "ä", "a" * 81, "-a", "a%2Fb", "*"):
            for call in (
                lambda name=name: kms.create_key(name),
                lambda name=name: kms.generate_key(name, CONTEXT),
                lambda name=name: kms.describe_key(name),
            ):
                with self.assertRaises(InvalidKeyName) as caught:
                    await call()
                self.assertEqual(caught.exception.name, name)
        self.assertEqual(list(await kms.list_keys("")), [KEY])

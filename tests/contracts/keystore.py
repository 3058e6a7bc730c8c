# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IKeyStore`` must do.
"""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from kypello.errors import KeyExists, KeyNotFound
from kypello.interfaces import IKeyStore

NAME = "my-key"


class KeyStoreContract:
    """
    The contract of a key store.  Subclasses provide ``make_store``.
    """

    # Those of trial's TestCase, which the subclass brings.
    assertEqual: Any
    assertRaises: Any
    assertTrue: Any
    assertGreaterEqual: Any

    def make_store(self) -> IKeyStore:
        """
        An empty store.
        """
        raise NotImplementedError

    async def test_interface(self) -> None:
        """
        The store provides ``IKeyStore``.
        """
        self.assertTrue(verifyObject(IKeyStore, self.make_store()))

    async def test_prepare_twice(self) -> None:
        """
        Making ready again changes nothing.
        """
        store = self.make_store()
        await store.prepare()
        await store.create(NAME, b"value")
        await store.prepare()
        self.assertEqual(await store.get(NAME), b"value")

    async def test_create_and_get(self) -> None:
        """
        What was created is read back, byte for byte.
        """
        store = self.make_store()
        await store.create(NAME, b"a value with \n and =")
        self.assertEqual(await store.get(NAME), b"a value with \n and =")

    async def test_create_twice(self) -> None:
        """
        The second ``create`` of one name fails and leaves the first value alone.
        """
        store = self.make_store()
        await store.create(NAME, b"first")
        with self.assertRaises(KeyExists) as caught:
            await store.create(NAME, b"second")
        self.assertEqual(caught.exception.name, NAME)
        self.assertEqual(await store.get(NAME), b"first")

    async def test_create_at_once(self) -> None:
        """
        Of several concurrent ``create`` calls with one name exactly one wins, and its value stays.
        """
        store = self.make_store()
        won: list[bytes] = []

        async def attempt(value: bytes) -> None:
            try:
                await store.create(NAME, value)
            except KeyExists:
                return
            won.append(value)

        values = [b"%d" % number * 100 for number in range(8)]
        await gatherResults([Deferred.fromCoroutine(attempt(value)) for value in values])
        self.assertEqual(won, [await store.get(NAME)])
        self.assertEqual(await store.names(), [NAME])

    async def test_get_missing(self) -> None:
        """
        A name that was never created is not found.
        """
        with self.assertRaises(KeyNotFound) as caught:
            await self.make_store().get(NAME)
        self.assertEqual(caught.exception.name, NAME)

    async def test_delete(self) -> None:
        """
        A deleted key is gone, and its name is free again.
        """
        store = self.make_store()
        await store.create(NAME, b"first")
        await store.delete(NAME)
        with self.assertRaises(KeyNotFound):
            await store.get(NAME)
        self.assertEqual(await store.names(), [])
        await store.create(NAME, b"second")
        self.assertEqual(await store.get(NAME), b"second")

    async def test_delete_missing(self) -> None:
        """
        A key that does not exist cannot be deleted.
        """
        with self.assertRaises(KeyNotFound):
            await self.make_store().delete(NAME)

    async def test_names(self) -> None:
        """
        Names are listed all and in the order of their bytes.
        """
        store = self.make_store()
        self.assertEqual(await store.names(), [])
        for name in ("b", "a-b", "B", "_x", "0", "a"):
            await store.create(name, b"value")
        self.assertEqual(await store.names(), ["0", "B", "_x", "a", "a-b", "b"])

    async def test_many_names(self) -> None:
        """
        There is no limit at 1024 names.
        """
        store = self.make_store()
        names = [f"key-{number:04d}" for number in range(1100)]
        for name in names:
            await store.create(name, b"value")
        self.assertEqual(await store.names(), names)

    async def test_status(self) -> None:
        """
        A store that works tells how long its answer took.
        """
        self.assertGreaterEqual(await self.make_store().status(), 0.0)

    async def test_close_twice(self) -> None:
        """
        Closing is idempotent.
        """
        store = self.make_store()
        await store.close()
        await store.close()

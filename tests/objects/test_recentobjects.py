# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the objects that are kept in memory as they were opened.
"""

from attrs import evolve

from kypello.errors import KMSUnavailable, NotAuthentic
from kypello.model import ObjectInfo, ObjectMetadata, PartInfo
from kypello.objects.access import Opened
from kypello.objects.recentobjects import RecentObjects
from kypello.objects.shown import OpenedObject
from tests.cases import SyncCase
from tests.objects.case import CUSTOMER, CUSTOMER_KEY, EncryptedCase

STORED = ObjectInfo("b", "k", "null", 1, 1, ObjectMetadata(sealed=b"sealed"))


def opened(name: str) -> Opened[OpenedObject]:
    """
    What an object was opened to.
    """
    return Opened(OpenedObject(evolve(STORED, key=name), ()), None, None)


class RecentObjectsTests(SyncCase):
    """
    What is kept.
    """

    def test_same(self) -> None:
        """
        An object is found as long as it is stored exactly so.
        """
        recent = RecentObjects()
        first = opened("k")
        recent.put(STORED, first)
        self.assertIs(recent.get(STORED), first)
        self.assertIs(recent.get(evolve(STORED)), first)
        for changed in (
            evolve(STORED, metadata=ObjectMetadata(sealed=b"other")),
            evolve(STORED, size=2),
            evolve(STORED, key="other"),
            evolve(STORED, bucket="other"),
        ):
            recent.put(STORED, first)
            self.assertIsNone(recent.get(changed), changed)

    def test_last_used(self) -> None:
        """
        Those that were used last are kept, up to a number.
        """
        recent = RecentObjects(2)
        stored = [evolve(STORED, key=key) for key in "abc"]
        for each in stored[:2]:
            recent.put(each, opened(each.key))
        recent.get(stored[0])
        recent.put(stored[2], opened("c"))
        found = [recent.get(each) is not None for each in stored]
        self.assertEqual(found, [True, False, True])

    def test_parts(self) -> None:
        """
        Objects of parts are not kept.
        """
        recent = RecentObjects()
        stored = evolve(STORED, parts=(PartInfo(1, 1),))
        recent.put(stored, opened("k"))
        self.assertIsNone(recent.get(stored))


class ReadingAgainTests(EncryptedCase):
    """
    Reading of what was read before.
    """

    async def setUp(self) -> None:
        """
        Have read an object.
        """
        await self.prepare()
        await self.put("k", b"first")
        self.assertEqual(await self.get("k"), b"first")

    async def test_replaced(self) -> None:
        """
        What was stored since is read.
        """
        await self.put("k", b"second")
        self.assertEqual(await self.get("k"), b"second")
        await self.put("k", b"plain", None)
        self.assertEqual(await self.get("k"), b"plain")

    async def test_keys_are_forgotten(self) -> None:
        """
        The key of an object is kept no longer than the data key that opened it, whenever it was
        opened.
        """
        store = self.process(opened_seconds=10)
        self.assertEqual(await self.get("k", store=store), b"first")
        self.clock.advance(9)
        await self.put("other", b"other", store=store)
        self.kms.down = True
        self.assertEqual(await self.get("k", store=store), b"first")
        self.clock.advance(1)
        with self.assertRaises(KMSUnavailable):
            await self.get("k", store=store)
        self.assertEqual((await store.head("b", "k")).size, 5)
        self.kms.down = False
        self.assertEqual(await self.get("k", store=store), b"first")

    async def test_opened_late(self) -> None:
        """
        An object key that is opened when its data key has little time left has no more.
        """
        store = self.process(opened_seconds=10)
        await self.put("k", b"again", store=store)
        await self.put("l", b"later", store=store)
        self.assertEqual(await self.get("k", store=store), b"again")
        self.clock.advance(9)
        self.assertEqual(await self.get("l", store=store), b"later")
        self.clock.advance(1)
        self.kms.down = True
        for key in ("k", "l"):
            with self.assertRaises(KMSUnavailable):
                await self.get(key, store=store)

    async def test_other_bucket(self) -> None:
        """
        What an earlier bucket of the same name held is not known in a later one.
        """
        info, data = await self.raw("k")
        await self.store.delete("b", "k")
        await self.store.delete_bucket("b")
        await self.store.create_bucket("b", {})
        await self.put("other", b"other")
        await self.plant("k", data, info.metadata)
        with self.assertRaises(NotAuthentic):
            await self.get("k")

    async def test_customer_key(self) -> None:
        """
        What has a key of its client needs it each time.
        """
        await self.put("c", b"client's", CUSTOMER)
        for _ in range(2):
            self.assertEqual(await self.get("c", customer_key=CUSTOMER_KEY), b"client's")
            with self.assertRaisesRegex(Exception, "InvalidRequest"):
                await self.get("c")

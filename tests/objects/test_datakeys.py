# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of data keys and their reuse.
"""

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kypello.errors import KeyNotFound, KMSUnavailable, NotAuthentic
from kypello.kmsconfig import Reuse
from kypello.objects.datakeys import DataKeys, SealedLayer, Workers, bucket_context
from kypello.objects.keytable import PARTS, shared_bucket_keys, shared_opened_keys
from tests.cases import AsyncCase
from tests.objects.keyservice import MemoryKMS


class DataKeysTests(AsyncCase):
    """
    How often the key service is asked.
    """

    def setUp(self) -> None:
        """
        Start with a key service and a clock.
        """
        self.kms = MemoryKMS.with_default_key()
        self.clock = Clock()

    def data_keys(self, **reuse: float) -> DataKeys:
        """
        Data keys with that reuse.
        """
        return DataKeys(self.kms, self.clock, Reuse(**reuse))

    async def test_bucket_key(self) -> None:
        """
        Objects of one bucket share a data key that is bound to the bucket, other buckets have
        their own.
        """
        keys = self.data_keys()
        first = await keys.for_object("b", "1")
        second = await keys.for_object("b", "2")
        other = await keys.for_object("c", "1")
        self.assertTrue(first.bucket_key)
        self.assertEqual(first, second)
        self.assertNotEqual(first.key.plaintext, other.key.plaintext)
        self.assertEqual(
            await self.kms.decrypt_key("my-key", first.key.sealed, b'{"b":"b"}'),
            first.key.plaintext,
        )

    async def test_time(self) -> None:
        """
        A bucket has a new data key after the time set.
        """
        keys = self.data_keys(bucket_seconds=10)
        first = await keys.for_object("b", "1")
        self.clock.advance(9)
        self.assertEqual(await keys.for_object("b", "2"), first)
        self.clock.advance(1)
        self.assertNotEqual(await keys.for_object("b", "3"), first)

    async def test_objects(self) -> None:
        """
        A bucket has a new data key after the number of objects set.
        """
        keys = self.data_keys(bucket_objects=2)
        made = [await keys.for_object("b", "k") for _ in range(5)]
        self.assertEqual([made.index(key) for key in made], [0, 0, 2, 2, 4])

    async def test_strict(self) -> None:
        """
        Zero time, or zero objects, gives every object a data key bound to its path.
        """
        for reuse in ({"bucket_seconds": 0}, {"bucket_objects": 0}):
            keys = self.data_keys(**reuse)
            first, second = await keys.for_object("b", "/x"), await keys.for_object("b", "/x")
            self.assertFalse(first.bucket_key)
            self.assertNotEqual(first, second)
            self.assertEqual(
                await self.kms.decrypt_key("my-key", first.key.sealed, b'{"b":"b/x"}'),
                first.key.plaintext,
            )

    async def test_named(self) -> None:
        """
        A bucket has a data key for each master key, and an unknown one is never created.
        """
        keys = self.data_keys()
        await self.kms.create_key("other")
        first = await keys.for_object("b", "1")
        other = await keys.for_object("b", "1", "other")
        self.assertEqual((first.key.key_name, other.key.key_name), ("my-key", "other"))
        self.assertEqual(await keys.for_object("b", "2", "my-key"), first)
        self.assertEqual(await keys.for_object("b", "2", "other"), other)
        with self.assertRaises(KeyNotFound):
            await keys.for_object("b", "1", "absent")
        self.assertEqual(sorted(self.kms.keys), ["my-key", "other"])

    async def test_context(self) -> None:
        """
        A data key with a context of the client is bound to that and the path, and never shared,
        whatever is asked for; an entry named as the bucket takes the place of the path.
        """
        keys = self.data_keys()
        for context, expected in (
            ({"a": "1"}, b'{"a":"1","b":"b/x"}'),
            ({"b": "mine"}, b'{"b":"mine"}'),
        ):
            made = [
                await keys.for_object("b", "x", context=context, share=share)
                for share in (True, True, False)
            ]
            self.assertEqual([each.bucket_key for each in made], [False] * 3)
            self.assertEqual(len({each.key.sealed for each in made}), 3)
            for each in made:
                await self.kms.decrypt_key("my-key", each.key.sealed, expected)
        alone = await keys.for_object("b", "x", share=False)
        self.assertFalse(alone.bucket_key)
        await self.kms.decrypt_key("my-key", alone.key.sealed, b'{"b":"b/x"}')

    async def test_shared_making(self) -> None:
        """
        Many who need a new bucket key at once share the call, and its limit still holds.
        """
        keys = self.data_keys(bucket_objects=2)
        pause = self.kms.pause = Deferred()
        waiting = [Deferred.fromCoroutine(keys.for_object("b", str(n))) for n in range(5)]
        self.assertEqual(len(self.kms.calls), 1)
        self.kms.pause = None
        pause.callback(None)
        made = [await each for each in waiting]
        self.assertEqual(len(self.kms.calls), 3)
        self.assertEqual(len({key.key.sealed for key in made}), 3)

    async def test_opened(self) -> None:
        """
        An opened key is kept for its time and no longer; one that was made needs no opening.
        """
        keys = self.data_keys(opened_seconds=10)
        made = (await keys.for_object("b", "k")).key
        context = bucket_context("b")
        for _ in range(2):
            self.assertEqual(await keys.open("my-key", made.sealed, context), made.plaintext)
        self.assertEqual(self.kms.calls, ["generate"])
        self.clock.advance(10)
        for _ in range(2):
            self.assertEqual(await keys.open("my-key", made.sealed, context), made.plaintext)
        self.assertEqual(self.kms.calls, ["generate", "decrypt"])

    async def test_outage(self) -> None:
        """
        Opened keys live on without the key service, for their time.
        """
        keys = self.data_keys(opened_seconds=10)
        made = await keys.generate(b"")
        self.kms.down = True
        self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)
        self.clock.advance(10)
        with self.assertRaises(KMSUnavailable):
            await keys.open("my-key", made.sealed, b"")
        self.kms.down = False
        self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)

    async def test_outage_time(self) -> None:
        """
        With a time for outages, opened keys serve so much longer while the service is down, with a
        call from time to time only, and no longer than that; when it is back it is asked.
        """
        keys = self.data_keys(opened_seconds=10, outage_seconds=100)
        made = await keys.generate(b"")
        self.clock.advance(10)
        self.kms.down = True
        self.kms.calls.clear()
        for _ in range(9):
            self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)
            self.clock.advance(1)
        self.assertEqual(self.kms.calls, ["decrypt"])
        self.clock.advance(90)
        self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)
        self.clock.advance(1)
        with self.assertRaises(KMSUnavailable):
            await keys.open("my-key", made.sealed, b"")
        self.kms.down = False
        self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)

    async def test_refused_in_time(self) -> None:
        """
        What the service refuses is not opened from memory, nor in an outage that follows.
        """
        keys = self.data_keys(opened_seconds=10, outage_seconds=100)
        made = await keys.generate(b"")
        self.clock.advance(10)
        kept = self.kms.keys.pop("my-key")
        with self.assertRaises(KeyNotFound):
            await keys.open("my-key", made.sealed, b"")
        self.kms.keys["my-key"], self.kms.down = kept, True
        with self.assertRaises(KMSUnavailable):
            await keys.open("my-key", made.sealed, b"")

    async def test_no_cache_no_outage(self) -> None:
        """
        Who keeps no opened keys keeps none for outages.
        """
        keys = self.data_keys(opened_seconds=0, outage_seconds=100)
        made = await keys.generate(b"")
        self.kms.down = True
        with self.assertRaises(KMSUnavailable):
            await keys.open("my-key", made.sealed, b"")

    async def test_not_kept(self) -> None:
        """
        Zero time, or zero keys, keeps none.
        """
        for reuse in ({"opened_seconds": 0}, {"opened_keys": 0}):
            keys = self.data_keys(**reuse)
            made = await keys.generate(b"")
            self.kms.calls.clear()
            for _ in range(2):
                self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)
            self.assertEqual(self.kms.calls, ["decrypt", "decrypt"])

    async def test_limit(self) -> None:
        """
        The oldest keys make room for new ones.
        """
        keys = self.data_keys(opened_keys=2)
        made = [await keys.generate(b"") for _ in range(3)]
        self.kms.calls.clear()
        for key in made[1:]:
            await keys.open("my-key", key.sealed, b"")
        self.assertEqual(self.kms.calls, [])
        await keys.open("my-key", made[0].sealed, b"")
        self.assertEqual(self.kms.calls, ["decrypt"])

    async def test_other_context(self) -> None:
        """
        An opened key is not given for another context, and the refusal is not remembered.
        """
        keys = self.data_keys()
        made = await keys.generate(b"right")
        for _ in range(2):
            with self.assertRaises(NotAuthentic):
                await keys.open("my-key", made.sealed, b"wrong")
        self.assertEqual(self.kms.calls, ["generate", "decrypt", "decrypt"])

    async def test_repr(self) -> None:
        """
        No key shows in the repr.
        """
        keys = self.data_keys()
        made = await keys.for_object("b", "k")
        for shown in (repr(keys), repr(made)):
            self.assertNotIn(repr(made.key.plaintext), shown)

    async def test_cancelled(self) -> None:
        """
        A client that goes away while the service does not answer takes no key from the others.
        """
        keys = self.data_keys(opened_seconds=10, outage_seconds=100)
        made = await keys.generate(b"")
        self.clock.advance(10)
        self.kms.pause, self.kms.down = Deferred(), True
        opening = Deferred.fromCoroutine(keys.open("my-key", made.sealed, b""))
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.kms.pause = None
        self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)

    async def test_expired(self) -> None:
        """
        What has expired is forgotten though nobody asks for it, in shared memory by the one who is
        to.
        """
        keys = self.data_keys(opened_seconds=10, bucket_seconds=10)
        made = (await keys.for_object("b", "k")).key
        layer = SealedLayer("my-key", made.sealed, bucket_context("b"), bytes)
        await keys.open_object_key("owner", layer)
        self.clock.advance(10)
        keys.expire(shared=False)
        self.assertEqual((keys._bucket_keys._values, keys._object_keys._values), ({}, {}))
        self.assertIn(made.plaintext, keys._opened._memory[:])
        for _ in range(PARTS):
            keys.expire(shared=True)
        self.assertNotIn(made.plaintext, keys._opened._memory[:])


class SharedKeysTests(AsyncCase):
    """
    Two processes that share what they open.
    """

    def setUp(self) -> None:
        """
        Start with a key service, and a clock.
        """
        self.kms = MemoryKMS.with_default_key()
        self.clock = Clock()
        self.descriptors = shared_opened_keys(), shared_bucket_keys()
        for descriptor in self.descriptors:
            self.addCleanup(os.close, descriptor)
        self.one, self.two = self.two_of(opened_seconds=10, outage_seconds=100)

    def two_of(self, **reuse: float) -> list[DataKeys]:
        """
        The data keys of two processes.
        """
        return [self.worker(number, **reuse) for number in range(2)]

    def worker(self, number: int, **reuse: float) -> DataKeys:
        """
        Those of one of them.
        """
        workers = Workers(number, 2, *self.descriptors)
        return DataKeys(self.kms, self.clock, Reuse(**reuse), workers=workers)

    async def test_outage(self) -> None:
        """
        What one has opened both have, also in an outage, in which one of them asks from time to
        time.
        """
        made = await self.one.generate(b"")
        self.assertEqual(await self.two.open("my-key", made.sealed, b""), made.plaintext)
        self.assertEqual(self.kms.calls, ["generate"])
        self.clock.advance(10)
        self.kms.down = True
        for keys in (self.two, self.one, self.two):
            self.assertEqual(await keys.open("my-key", made.sealed, b""), made.plaintext)
        self.assertEqual(self.kms.calls, ["generate", "decrypt"])
        self.clock.advance(100)
        for keys in (self.two, self.one):
            with self.assertRaises(KMSUnavailable):
                await keys.open("my-key", made.sealed, b"")

    async def test_renewed(self) -> None:
        """
        Whoever writes after a renewal takes no key of before from the other, but shares a new one.
        """
        before = [(await keys.for_object("b", "k")).key for keys in (self.one, self.two)]
        renewed = [
            (await keys.for_object("b", "k", renewal=b"new")).key for keys in (self.two, self.one)
        ]
        self.assertEqual((before[0], renewed[0]), (before[1], renewed[1]))
        self.assertNotEqual(before, renewed)
        self.assertEqual(self.kms.calls, ["generate"] * 2)

    async def test_nothing_kept(self) -> None:
        """
        Who keeps no opened keys leaves none to others.
        """
        for reuse in ({"opened_seconds": 0.0}, {"opened_keys": 0}):
            one, two = self.two_of(outage_seconds=100, **reuse)
            made = await one.generate(b"")
            await one.open("my-key", made.sealed, b"", lasting=True)
            self.kms.calls.clear()
            await two.open("my-key", made.sealed, b"")
            self.assertEqual(self.kms.calls, ["decrypt"])

    async def test_lasting(self) -> None:
        """
        What one keeps for as long as it runs, the other one has for as long, until it is
        forgotten.
        """
        made = await self.one.generate(b"")
        await self.one.open("my-key", made.sealed, b"", lasting=True)
        self.clock.advance(1e6)
        self.kms.down = True
        self.assertEqual(await self.two.open("my-key", made.sealed, b""), made.plaintext)
        self.two.forget("my-key", made.sealed, b"")
        with self.assertRaises(KMSUnavailable):
            await self.one.open("my-key", made.sealed, b"")

    async def test_revoked(self) -> None:
        """
        A master key that is refused to one process opens nothing in the other one either, which
        forgets object keys and makes new data keys, too.
        """
        await self.kms.create_key("other")
        for refuse in (self.refuse_opening, self.refuse_making):
            made = (await self.one.for_object("b", "k")).key
            opening = ("my-key", made.sealed, bucket_context("b"))
            other = await self.one.generate(b"", "other")
            for keys in (self.one, self.two):
                await keys.open(*opening, lasting=True)
                await keys.open_object_key("owner", SealedLayer(*opening, bytes))
                await keys.for_object("b", "k")
            kept = self.kms.keys.pop("my-key")
            await refuse()
            for keys in (self.two, self.one):
                self.assertIsNone(keys.object_key("owner"))
                with self.assertRaises(KeyNotFound):
                    await keys.open(*opening)
                with self.assertRaises(KeyNotFound):
                    await keys.for_object("b", "k")
            self.kms.calls.clear()
            self.assertEqual(await self.two.open("other", other.sealed, b""), other.plaintext)
            self.assertEqual(self.kms.calls, [])
            self.kms.keys["my-key"] = kept

    async def test_bucket_key(self) -> None:
        """
        A key for new objects serves both for their share of the objects, and no worker gets it
        twice, not even one that was started anew; nor is it used longer than by who made it.
        """
        self.one, self.two = self.two_of(bucket_objects=4, bucket_seconds=10)
        made = [await keys.for_object("b", "k") for keys in (self.one, self.two) for _ in range(2)]
        self.assertEqual([made.index(each) for each in made], [0] * 4)
        self.assertEqual(self.kms.calls, ["generate"])
        again = await self.worker(1, bucket_objects=4, bucket_seconds=10).for_object("b", "k")
        self.assertNotEqual(again, made[0])
        self.clock.advance(9)
        self.assertEqual(await self.one.for_object("b", "k"), again)
        self.clock.advance(1)
        self.assertNotEqual(await self.one.for_object("b", "k"), again)

    async def test_bucket_key_alone(self) -> None:
        """
        What is for fewer objects than there are workers is not shared, and nothing is where no
        objects share data keys.
        """
        for reuse in ({"bucket_objects": 1}, {"bucket_objects": 0}, {"bucket_seconds": 0}):
            one, two = self.two_of(**reuse)
            made = [await keys.for_object("b", "k") for keys in (one, two, one, two)]
            self.assertEqual([made.index(each) for each in made], [0, 1, 2, 3])

    async def test_bucket_key_renewed(self) -> None:
        """
        Who is to use no key of before takes none of before from the other one, but one that came
        since.
        """
        first = await self.one.for_object("b", "k")
        self.clock.advance(1)
        self.two.renew()
        self.clock.advance(1)
        second = await self.two.for_object("b", "k")
        self.assertNotEqual(second, first)
        self.one.renew()
        self.clock.advance(1)
        third = await self.one.for_object("b", "k")
        self.assertNotIn(third, (first, second))
        self.two._bucket_keys.drop(lambda _sharing: True)
        self.assertEqual(await self.two.for_object("b", "k"), third)

    async def refuse_opening(self) -> None:
        """
        Have the first process open what nobody has opened yet.
        """
        with self.assertRaises(KeyNotFound):
            await self.one.open("my-key", b"another one", b"")

    async def refuse_making(self) -> None:
        """
        Have the first process make a data key.
        """
        with self.assertRaises(KeyNotFound):
            await self.one.generate(b"another one")

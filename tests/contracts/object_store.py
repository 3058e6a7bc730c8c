# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IObjectStore`` must do.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kypello.errors import (
    BodyTruncated,
    BucketExists,
    BucketNotEmpty,
    KypelloError,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    Refused,
)
from kypello.interfaces import Condition, IBodySource, IObjectStore, IOpenObject
from kypello.model import (
    BucketInfo,
    Buffer,
    ByteRange,
    CustomerKey,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
)
from kypello.store.layout import INLINE
from kypello.testing.fakes import BytesSource

#: Sizes around the limits of stores and of encryption, in bytes.
SIZES = (0, 1, 1000, 65536, 65537, INLINE, INLINE + 1, 3 * 1024 * 1024 + 5)


def pattern(size: int, seed: int = 0) -> bytes:
    """
    Bytes that look like no other place of themselves.
    """
    return hashlib.shake_128(b"%d" % seed).digest(size)


def blocks(data: bytes, size: int = 100_000) -> list[Buffer]:
    """
    Cut *data* into blocks.
    """
    return [data[start : start + size] for start in range(0, len(data), size)]


def metadata_of(data: bytes) -> ObjectMetadata:
    """
    Metadata such as a front makes, all different from their defaults.
    """
    return ObjectMetadata(
        hashlib.md5(data).hexdigest(),
        {"content-type": "text/plain", "cache-control": "no-cache"},
        {"colour": "blue", "city": "Zürich"},
        {"crc32": "AAAAAA=="},
        "FULL_OBJECT",
        {"tag": "value"},
        storage_class="REDUCED_REDUNDANCY",
    )


@implementer(IBodySource)
@define(eq=False)
class StuckSource:
    """
    A body whose next block comes when the test says so.

    :ivar waiting: The read that is being awaited.
    """

    _blocks: list[Buffer]
    size: int | None = None
    waiting: "Deferred[Buffer] | None" = field(init=False, default=None)
    closed: bool = field(init=False, default=False)

    async def read(self) -> Buffer:
        """
        Give the blocks there are, then wait.
        """
        if self._blocks:
            return self._blocks.pop(0)
        self.waiting = Deferred()
        return await self.waiting

    def close(self) -> None:
        """
        Note it.
        """
        self.closed = True


def if_none_match(current: ObjectInfo | None) -> None:
    """
    The condition that nothing is there.
    """
    if current is not None:
        raise PreconditionFailed("If-None-Match")


def if_match(etag: str) -> Condition:
    """
    The condition that the object is a certain one.
    """

    def condition(current: ObjectInfo | None) -> None:
        """
        Compare.
        """
        if current is None or current.etag != etag:
            raise PreconditionFailed("If-Match")

    return condition


class ObjectStoreCase:
    """
    What tests of any object store have in common.  Subclasses provide ``make_store``.
    """

    # Those of trial's TestCase, which the subclass brings.
    assertEqual: Any
    assertGreater: Any
    assertRaises: Any
    assertTrue: Any
    assertIn: Any
    assertIsNone: Any

    async def make_store(self) -> IObjectStore:
        """
        An empty store.
        """
        raise NotImplementedError

    async def with_bucket(self) -> IObjectStore:
        """
        A store with the bucket ``b``.
        """
        store = await self.make_store()
        await store.create_bucket("b", {})
        return store

    async def put(
        self,
        store: IObjectStore,
        key: str,
        data: bytes = b"data",
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Store an object in the bucket ``b``.
        """
        body = BytesSource(blocks(data))
        told: list[int] = []

        def describe(size: int) -> ObjectMetadata:
            """
            Describe the data.
            """
            told.append(size)
            return metadata_of(data)

        try:
            info = await store.put("b", key, body, describe, condition=condition)
        finally:
            self.assertTrue(body.closed)
        self.assertEqual(told, [len(data)])
        return info

    async def get(self, store: IObjectStore, key: str, wanted: ByteRange | None = None) -> bytes:
        """
        Read an object of the bucket ``b``.
        """
        opened = await store.open("b", key)
        try:
            return await self.drain(opened, wanted)
        finally:
            opened.close()

    async def drain(self, opened: IOpenObject, wanted: ByteRange | None = None) -> bytes:
        """
        Read what is open.
        """
        source = await opened.read(wanted)
        try:
            found = bytearray()
            while block := await source.read():
                self.assertTrue(len(block) <= 4 * 1024 * 1024)
                found += block
            self.assertEqual(bytes(await source.read()), b"")
            self.assertEqual(source.size, len(found))
            return bytes(found)
        finally:
            source.close()
            source.close()

    async def keys(self, store: IObjectStore, query: ListQuery | None = None) -> list[str]:
        """
        The keys of a page of the bucket ``b``.
        """
        listing = await store.list("b", query or ListQuery())
        return [info.key for info in listing.objects]

    async def raises(self, error: type[KypelloError], call: Any) -> Any:
        """
        Await what must fail.
        """
        with self.assertRaises(error) as caught:
            await call
        return caught.exception

    async def settle(self, store: IObjectStore) -> None:
        """
        Let the store remove what nothing refers to.  Subclasses that sweep override it.
        """

    async def turn(self) -> None:
        """
        Let the reactor turn, for stores that work in threads.
        """


class ObjectStoreContract(ObjectStoreCase):
    """
    The contract of an object store, but for uploads in parts.

    It looks from above only: sizes and ETags are those that ``describe`` saw and gave.
    """

    async def test_interface(self) -> None:
        """
        The store provides ``IObjectStore``, and what it opens ``IOpenObject``.
        """
        store = await self.with_bucket()
        self.assertTrue(verifyObject(IObjectStore, store))
        for data in (b"small", pattern(100_000)):
            await self.put(store, "k", data)
            opened = await store.open("b", "k")
            self.assertTrue(verifyObject(IOpenObject, opened))
            source = await opened.read(None)
            self.assertTrue(verifyObject(IBodySource, source))
            source.close()
            opened.close()
            opened.close()

    async def test_buckets(self) -> None:
        """
        Buckets are listed in the order of their names, with what they were made with.
        """
        store = await self.make_store()
        self.assertEqual(list(await store.buckets()), [])
        made = [
            await store.create_bucket(name, {"setting": name.encode()})
            for name in ("bb", "a", "b-b")
        ]
        self.assertEqual([info.name for info in await store.buckets()], ["a", "b-b", "bb"])
        self.assertEqual(list(await store.buckets()), sorted(made, key=lambda info: info.name))
        self.assertEqual(await store.bucket("bb"), made[0])
        self.assertEqual(made[0], BucketInfo("bb", made[0].created, {"setting": b"bb"}))

    async def test_create_bucket_twice(self) -> None:
        """
        A name is taken once; the existing bucket does not change.
        """
        store = await self.make_store()
        info = await store.create_bucket("b", {"a": b"1"})
        await self.raises(BucketExists, store.create_bucket("b", {"a": b"2"}))
        self.assertEqual(await store.bucket("b"), info)

    async def test_create_bucket_at_once(self) -> None:
        """
        Of several who make one bucket at once, exactly one succeeds.
        """
        store = await self.make_store()
        won: list[BucketInfo] = []

        async def attempt(number: int) -> None:
            """
            Try it.
            """
            try:
                won.append(await store.create_bucket("b", {"by": b"%d" % number}))
            except BucketExists:
                return

        await gatherResults([Deferred.fromCoroutine(attempt(number)) for number in range(6)])
        self.assertEqual(won, [await store.bucket("b")])

    async def test_delete_bucket(self) -> None:
        """
        A deleted bucket is gone, and one that is made again is empty and has fresh settings.
        """
        store = await self.make_store()
        await store.create_bucket("b", {"old": b"1"})
        await self.put(store, "k", pattern(100_000))
        await self.raises(BucketNotEmpty, store.delete_bucket("b"))
        self.assertEqual(await self.get(store, "k"), pattern(100_000))
        await store.delete("b", "k")
        await store.delete_bucket("b")
        self.assertEqual(list(await store.buckets()), [])
        await store.create_bucket("b", {"new": b"2"})
        self.assertEqual((await store.bucket("b")).settings, {"new": b"2"})
        self.assertEqual(await self.keys(store), [])
        await self.put(store, "k2")
        self.assertEqual(await self.keys(store), ["k2"])

    async def test_no_such_bucket(self) -> None:
        """
        Whatever is done with a bucket that does not exist says so, before a body is read.
        """
        store = await self.with_bucket()
        await self.put(store, "k")
        await store.delete("b", "k")
        await store.delete_bucket("b")
        body = BytesSource([b"data"])
        put = store.put("b", "k", body, lambda size: metadata_of(b"data"))
        for call in (
            store.bucket("b"),
            store.delete_bucket("b"),
            store.change_bucket("b", lambda settings: settings),
            put,
            store.head("b", "k"),
            store.open("b", "k"),
            store.delete("b", "k"),
            store.list("b", ListQuery()),
            store.list("b", ListQuery(limit=0)),
        ):
            error = await self.raises(NoSuchBucket, call)
            self.assertEqual(error.bucket, "b")
        self.assertEqual((body.reads, body.closed), (0, True))

    async def test_change_bucket(self) -> None:
        """
        Changes of settings build on each other, also when they come at once.
        """
        store = await self.with_bucket()

        def add(number: int) -> Callable[[Any], dict[str, bytes]]:
            """
            A change that adds one setting.
            """
            return lambda settings: {**settings, f"s{number}": b"%d" % number}

        await gatherResults(
            [Deferred.fromCoroutine(store.change_bucket("b", add(number))) for number in range(8)]
        )
        expected = {f"s{number}": b"%d" % number for number in range(8)}
        self.assertEqual((await store.bucket("b")).settings, expected)
        info = await store.change_bucket("b", lambda _: {"only": b"this"})
        self.assertEqual(info.settings, {"only": b"this"})
        self.assertEqual(await store.bucket("b"), info)

    async def test_put_and_get(self) -> None:
        """
        Objects of all sizes are read back with their metadata, whole and in ranges.
        """
        store = await self.with_bucket()
        for size in SIZES:
            data = pattern(size)
            info = await self.put(store, "k", data)
            self.assertEqual((info.size, info.etag), (size, hashlib.md5(data).hexdigest()))
            self.assertEqual(await store.head("b", "k"), info)
            opened = await store.open("b", "k")
            self.assertEqual(opened.info, info)
            self.assertEqual(await self.drain(opened), data)
            opened.close()
            seen, given = info.metadata, metadata_of(data)
            for name in ("headers", "user", "checksums", "checksum_type", "tags", "storage_class"):
                self.assertEqual(getattr(seen, name), getattr(given, name))
            for start, stop in ((0, 1), (size // 2, size // 2 + 70_000), (size - 1, size)):
                if 0 <= start < min(stop, size):
                    wanted = ByteRange(start, min(stop, size))
                    self.assertEqual(
                        await self.get(store, "k", wanted), data[wanted.start : wanted.stop]
                    )

    async def test_overwrite(self) -> None:
        """
        A later version replaces the one before, and its time is later.
        """
        store = await self.with_bucket()
        before = -1
        for number, size in enumerate((10, 50_000, 0, 50_000, 50_001, 20)):
            info = await self.put(store, "k", pattern(size, number))
            self.assertGreater(info.modified, before)
            before = info.modified
            self.assertEqual(await self.get(store, "k"), pattern(size, number))
        self.assertEqual(await self.keys(store), ["k"])

    async def test_delete(self) -> None:
        """
        A deleted object is gone; deleting it again is no error.
        """
        store = await self.with_bucket()
        for data in (b"", b"data", pattern(100_000)):
            await self.put(store, "k", data)
            await store.delete("b", "k")
            await store.delete("b", "k")
            await self.raises(NoSuchKey, store.head("b", "k"))
            await self.raises(NoSuchKey, store.open("b", "k"))
            self.assertEqual(await self.keys(store), [])

    async def test_keys_are_bytes(self) -> None:
        """
        Keys that look like paths, or like each other, are different.
        """
        store = await self.with_bucket()
        keys = [
            "/a",
            "a",
            "a/",
            "a//b",
            "a/./b",
            "a/../b",
            "é",
            "e\u0301",
            "\U0001f600",
            "A",
            "z" * 1024,
        ]
        for key in keys:
            await self.put(store, key, key.encode())
        self.assertEqual(await self.keys(store), sorted(keys))
        for key in keys:
            self.assertEqual(await self.get(store, key), key.encode())

    async def test_customer_key(self) -> None:
        """
        The key of a client is refused for an object that was stored without one.
        """
        store = await self.with_bucket()
        await self.put(store, "k")
        for call in (store.head, store.open):
            error = await self.raises(Refused, call("b", "k", CustomerKey(b"k" * 32, "md5")))
            self.assertEqual(error.code, "InvalidRequest")
            await self.raises(NoSuchKey, call("b", "other", CustomerKey(b"k" * 32, "md5")))

    async def test_list(self) -> None:
        """
        Pages follow each other without gap, with prefix, delimiter and groups.
        """
        store = await self.with_bucket()
        keys = ["a", "b/1", "b/2", "b/c/3", "d", "e/4", "f"]
        for key in keys:
            await self.put(store, key)
        listing = await store.list("b", ListQuery(delimiter="/", limit=3))
        self.assertEqual([info.key for info in listing.objects], ["a", "d"])
        self.assertEqual((listing.prefixes, listing.next), (("b/",), "d"))
        listing = await store.list("b", ListQuery(delimiter="/", limit=3, start_after="d"))
        self.assertEqual([info.key for info in listing.objects], ["f"])
        self.assertEqual((listing.prefixes, listing.next), (("e/",), None))
        listing = await store.list("b", ListQuery(prefix="b/", delimiter="/"))
        self.assertEqual([info.key for info in listing.objects], ["b/1", "b/2"])
        self.assertEqual((listing.prefixes, listing.next), (("b/c/",), None))
        listing = await store.list("b", ListQuery(delimiter="/", start_after="b/1"))
        self.assertEqual((listing.prefixes, listing.next), (("e/",), None))
        self.assertEqual(await store.list("b", ListQuery(limit=0)), Listing())
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            listing = await store.list("b", ListQuery(start_after=after, limit=2))
            found += [info.key for info in listing.objects]
            after = listing.next
        self.assertEqual(found, keys)

    async def test_list_shows_objects(self) -> None:
        """
        A listing tells sizes, times and ETags as HEAD does.
        """
        store = await self.with_bucket()
        for size in (0, 10, 100_000):
            await self.put(store, f"k{size}", pattern(size))
        listing = await store.list("b", ListQuery())
        for info in listing.objects:
            head = await store.head("b", info.key)
            self.assertEqual(
                (info.size, info.modified, info.etag), (head.size, head.modified, head.etag)
            )
        brief = await store.list("b", ListQuery(brief=True))
        self.assertEqual(
            [(info.key, info.size, info.modified) for info in brief.objects],
            [(info.key, info.size, info.modified) for info in listing.objects],
        )

    async def test_pinned(self) -> None:
        """
        What was opened reads the same bytes although it is overwritten or deleted meanwhile.
        """
        store = await self.with_bucket()
        for size in (1000, 3_000_000):
            await self.put(store, "k", pattern(size))
            first, second = [await store.open("b", "k") for _ in range(2)]
            source = await first.read(None)
            first.close()
            found = bytearray(await source.read())
            await self.put(store, "k", pattern(size, 1))
            await store.delete("b", "k")
            await self.settle(store)
            while block := await source.read():
                found += block
            source.close()
            self.assertEqual(bytes(found), pattern(size))
            self.assertEqual(await self.drain(second), pattern(size))
            second.close()

    async def test_failed_put(self) -> None:
        """
        A put whose body, description or condition fails raises that and leaves what was there.
        """
        store = await self.with_bucket()
        before = await self.put(store, "k", b"before")

        def refuse(size: int) -> ObjectMetadata:
            """
            Find a wrong digest.
            """
            raise Refused("BadDigest")

        for size in (100, 100_000):
            data = pattern(size)

            def describe(_: int, data: bytes = data) -> ObjectMetadata:
                """
                Describe the data.
                """
                return metadata_of(data)

            for key, failure, described, condition, error in (
                ("k", BodyTruncated(), describe, None, BodyTruncated),
                ("other", BodyTruncated(), describe, None, BodyTruncated),
                ("k", None, refuse, None, Refused),
                ("other", None, refuse, None, Refused),
                ("k", None, describe, if_none_match, PreconditionFailed),
            ):
                body = BytesSource(blocks(data), failure)
                await self.raises(error, store.put("b", key, body, described, condition=condition))
                self.assertTrue(body.closed)
        self.assertEqual(await store.head("b", "k"), before)
        self.assertEqual(await self.keys(store), ["k"])
        await store.delete("b", "k")
        await store.delete_bucket("b")

    async def test_cancelled_put(self) -> None:
        """
        A put that is cancelled while it waits for its body ends at once and leaves nothing.
        """
        store = await self.with_bucket()
        for size in (100, 200_000):
            body = StuckSource(blocks(pattern(size)))
            put = Deferred.fromCoroutine(store.put("b", "k", body, lambda _: metadata_of(b"")))
            while body.waiting is None:
                await self.turn()
            put.cancel()
            with self.assertRaises(CancelledError):
                await put
            self.assertTrue(body.closed)
            self.assertEqual(await self.keys(store), [])

    async def test_conditions(self) -> None:
        """
        Conditions see the current object as HEAD tells it, and decide.
        """
        store = await self.with_bucket()
        await self.raises(PreconditionFailed, self.put(store, "k", b"1", if_match("x")))
        first = await self.put(store, "k", b"1", if_none_match)
        await self.raises(PreconditionFailed, self.put(store, "k", b"2", if_none_match))
        seen: list[ObjectInfo | None] = []
        second = await self.put(store, "k", b"2", seen.append)
        self.assertIn(first, seen)
        await self.raises(PreconditionFailed, store.delete("b", "k", if_match(first.etag)))
        await store.delete("b", "k", if_match(second.etag))
        await self.raises(PreconditionFailed, store.delete("b", "k", if_match(second.etag)))

    async def test_one_winner(self) -> None:
        """
        Of many who write one key if it does not exist, exactly one succeeds.
        """
        store = await self.with_bucket()
        for size in (10, 40_000):
            won: list[int] = []

            async def attempt(number: int, size: int = size, won: list[int] = won) -> None:
                """
                Try it.
                """
                try:
                    await self.put(store, f"k{size}", pattern(size, number), if_none_match)
                except PreconditionFailed:
                    return
                won.append(number)

            await gatherResults([Deferred.fromCoroutine(attempt(number)) for number in range(8)])
            self.assertEqual(len(won), 1)
            self.assertEqual(await self.get(store, f"k{size}"), pattern(size, won[0]))

    async def test_counting(self) -> None:
        """
        Increments that are conditional on the version they read are never lost.
        """
        store = await self.with_bucket()
        await self.put(store, "k", b"0")

        async def increment() -> None:
            """
            Read, add one, write; again if somebody was quicker.
            """
            while True:
                opened = await store.open("b", "k")
                value = int(await self.drain(opened))
                opened.close()
                try:
                    await self.put(store, "k", b"%d" % (value + 1), if_match(opened.info.etag))
                except PreconditionFailed:
                    continue
                return

        await gatherResults([Deferred.fromCoroutine(increment()) for _ in range(6)])
        self.assertEqual(await self.get(store, "k"), b"6")

    async def test_torn(self) -> None:
        """
        Readers beside writers see one whole version, whose metadata are its own.
        """
        store = await self.with_bucket()
        sizes = (5, 30_000, 70_000)
        known = {
            metadata_of(pattern(size, number)).etag: pattern(size, number)
            for number, size in enumerate(sizes)
        }
        await self.put(store, "k", pattern(sizes[0], 0))

        async def write(number: int) -> None:
            """
            Overwrite and overwrite.
            """
            for _ in range(4):
                await self.put(store, "k", pattern(sizes[number], number))

        async def read() -> None:
            """
            Read and compare.
            """
            for _ in range(8):
                opened = await store.open("b", "k")
                self.assertEqual(await self.drain(opened), known[opened.info.etag])
                opened.close()

        work: Iterable[Any] = [write(number) for number in range(3)] + [read() for _ in range(3)]
        await gatherResults([Deferred.fromCoroutine(each) for each in work])
        await self.settle(store)
        opened = await store.open("b", "k")
        self.assertEqual(await self.drain(opened), known[opened.info.etag])
        opened.close()

    async def test_bucket_vanishes(self) -> None:
        """
        A put whose bucket is deleted, and made again, while the body flows fails.
        """
        store = await self.with_bucket()
        for size in (100, 200_000):
            for again in (False, True):
                body = StuckSource(blocks(pattern(size)))
                put = Deferred.fromCoroutine(store.put("b", "k", body, lambda _: metadata_of(b"")))
                while body.waiting is None:
                    await self.turn()
                await store.delete_bucket("b")
                if again:
                    await store.create_bucket("b", {})
                body.waiting.callback(b"")
                await self.raises(NoSuchBucket, put)
                if not again:
                    await store.create_bucket("b", {})
                self.assertEqual(await self.keys(store), [])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.uploads``, ``endings`` and ``parts``: what the contract of
uploads does not see.
"""

import os
from collections.abc import Sequence
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kypello.errors import (
    Conflict,
    Damaged,
    KMSNotConfigured,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    StorageFailed,
)
from kypello.model import (
    EncryptionRequest,
    ListQuery,
    ObjectMetadata,
    UploadInfo,
    UploadQuery,
    Write,
)
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryIndex
from kypello.store.records import PartsRecord, pack
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from tests.cases import AsyncCase
from tests.contracts.object_store import pattern
from tests.contracts.uploads import BEGUN, UploadsCase
from tests.store.faults import FailingBlobs, FailingIndex, InterruptedIndex, Killed, whats_wrong

DAY = 24 * 3600


@define(eq=False)
class HeldIndex(MemoryIndex):
    """
    An index that holds back what it has read while *held* is there.
    """

    held: "Deferred[None] | None" = None
    reads: int = 0

    async def get(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """
        Read now, and tell later.
        """
        self.reads += 1
        values = await super().get(space, keys)
        if self.held is not None:
            await self.held
        return values


class UploadsTests(UploadsCase, AsyncCase):
    """
    Uploads, and what is left of them.
    """

    def setUp(self) -> None:
        """
        Nothing is stored.
        """
        self.index: MemoryIndex = MemoryIndex()
        self.blobs, self.clock = FailingBlobs(), Clock()

    async def make_store(self) -> LayoutStore:
        """
        A process that begins over the same data.
        """
        store = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        self.sweeper = Sweeper(self.index, self.blobs, store.intents)
        return store

    async def with_parts(self, store: LayoutStore, count: int, data: bytes = b"data") -> UploadInfo:
        """
        Begin an upload, and store parts.
        """
        upload = await self.begin(store)
        for number in range(1, count + 1):
            await self.put_part(store, upload, number, data)
        return upload

    async def assert_clean(self) -> None:
        """
        After a sweep nothing is left but live data.
        """
        await self.sweeper.sweep()
        self.assertEqual(await whats_wrong(self.index, self.blobs), [])

    async def records(self, kind: bytes) -> list[bytes]:
        """
        The keys of all records of a kind.
        """
        return [
            key
            for space in await self.index.spaces()
            for key, _ in await self.index.scan(space, kind, None, 10**6)
            if key.startswith(kind)
        ]

    async def test_encryption(self) -> None:
        """
        A store that encrypts nothing refuses a request for encryption.
        """
        store = await self.with_bucket()
        creation = store.create_upload("b", "k", BEGUN, "", EncryptionRequest("AES256"))
        await self.raises(KMSNotConfigured, creation)
        self.assertEqual((await store.uploads("b", UploadQuery())).uploads, ())

    async def test_overtaken(self) -> None:
        """
        A part that comes after the parts were read and before the commit is in the object, or
        goes with the upload: none is lost sight of.
        """
        self.index = index = InterruptedIndex()
        for number in (1, 2, 3, 4, 6, 10_000):
            for end in (self.complete, self.abort):
                store = await self.make_store()
                await store.create_bucket("b", {})
                upload = await self.begin(store)
                for other in (2, 3, 5):
                    await self.put_part(store, upload, other, b"first")

                async def put(
                    store: LayoutStore = store, upload: UploadInfo = upload, number: int = number
                ) -> None:
                    """
                    Store another part.
                    """
                    await self.put_part(store, upload, number, b"other")

                index.commits, index.meanwhile = 1, put
                await end(store, upload)
                await self.assert_clean()
                if end == self.complete:
                    content = {2: b"first", 3: b"first", 5: b"first", number: b"other"}
                    expected = b"".join(content[each] for each in sorted(content))
                    self.assertEqual(await self.get(store, "k"), expected)
                    await store.delete("b", "k")
                await store.delete_bucket("b")
                await self.assert_clean()
                self.assertEqual(await self.blobs.names("", 10), [])

    async def test_overtaken_part(self) -> None:
        """
        A part that is stored by another one just before its own commit replaces that; a bucket
        that is deleted then is no more.
        """
        self.index = index = InterruptedIndex()
        store = await self.with_bucket()
        upload = await self.with_parts(store, 1)

        async def put() -> None:
            """
            Store the part.
            """
            await self.put_part(store, upload, 1, b"other")

        async def delete() -> None:
            """
            Delete the bucket.
            """
            await store.delete_bucket("b")

        index.commits, index.meanwhile = 2, put
        await self.put_part(store, upload, 1, b"latest")
        await self.assert_clean()
        self.assertEqual([part.size for part in await self.parts(store, upload)], [6])
        for commits, call in (
            (1, lambda store, _: self.begin(store)),
            (1, lambda store, upload: self.put_part(store, upload, 1, b"data")),
            (2, lambda store, upload: self.put_part(store, upload, 1, b"data")),
            (1, self.complete),
            (1, self.abort),
        ):
            index.commits, index.meanwhile = commits, delete
            await self.raises(NoSuchBucket, call(store, upload))
            await self.assert_clean()
            await store.create_bucket("b", {})
            upload = await self.with_parts(store, 2)

    async def test_changed_meanwhile(self) -> None:
        """
        An upload that is changed before any commit of a part, of its end or of another change does
        not disturb them, and one that ends before any commit of a change has ended; nothing is left
        over.
        """
        self.index = index = InterruptedIndex()
        calls = {
            "part": lambda store, upload: self.put_part(store, upload, 2, b"other"),
            "change": lambda store, upload: changed(store, upload, "second"),
            "complete": self.complete,
            "abort": self.abort,
        }

        async def changed(store: LayoutStore, upload: UploadInfo, name: str) -> None:
            """
            Change the upload.
            """
            await store.change_upload(
                "b", "k", upload.upload_id, lambda info: evolve(info.metadata, user={"is": name})
            )

        for name, call in calls.items():
            for at in range(1, 4):
                store = await self.make_store()
                await store.create_bucket("b", {})
                upload = await self.with_parts(store, 1)

                async def change(store: LayoutStore = store, upload: UploadInfo = upload) -> None:
                    """
                    Change it first.
                    """
                    await changed(store, upload, "first")

                index.commits, index.meanwhile = at, change
                await call(store, upload)
                index.meanwhile = None
                await self.assert_clean()
                if name in ("part", "change"):
                    known = await store.upload("b", "k", upload.upload_id)
                    # A part takes two commits.
                    last = "second" if name == "change" else "first" if at < 3 else None
                    self.assertEqual(known.metadata.user.get("is"), last)
                    self.assertEqual(len(await self.parts(store, upload)), 1 + (name == "part"))
                    await self.complete(store, upload)
                await self.assert_clean()
                await store.delete("b", "k")
                await store.delete_bucket("b")
        for end in (self.complete, self.abort):
            for at in (1, 2):
                store = await self.make_store()
                await store.create_bucket("b", {})
                upload = await self.with_parts(store, 1)

                async def finish(
                    store: LayoutStore = store, upload: UploadInfo = upload, end: Any = end
                ) -> None:
                    """
                    End it first.
                    """
                    await end(store, upload)

                index.commits, index.meanwhile = at, finish
                await self.raises(NoSuchUpload, changed(store, upload, "late"))
                index.meanwhile = None
                await self.assert_clean()
                await store.delete("b", "k")
                await store.delete_bucket("b")
                await self.assert_clean()
                self.assertEqual(await self.blobs.names("", 10), [])

    async def test_deleted_with_its_bucket(self) -> None:
        """
        What describes a changed upload goes with the bucket.
        """
        store = await self.with_bucket()
        upload = await self.with_parts(store, 2)
        await store.change_upload("b", "k", upload.upload_id, lambda _: ObjectMetadata("x"))
        self.assertEqual(len(await self.blobs.names("", 10)), 3 + 1)
        await store.delete_bucket("b")
        await self.assert_clean()
        self.assertEqual(await self.blobs.names("", 10), [])

    async def test_ended_while_looking(self) -> None:
        """
        An upload that ends between the look at its record and that at its parts has ended: it
        is not taken for one without parts.
        """
        self.index = index = HeldIndex()
        store = await self.with_bucket()
        calls = {
            "same": self.complete,
            "other": lambda store, upload: self.complete(store, upload, request=b"other"),
            "abort": self.abort,
            "parts": self.parts,
        }
        for name, call in calls.items():
            upload = await self.with_parts(store, 2)
            index.held = Deferred()
            calling = Deferred.fromCoroutine(call(store, upload))
            released, index.held = index.held, None
            info = await self.complete(store, upload)
            released.callback(None)
            if name == "same":
                self.assertEqual(await calling, info)
            else:
                await self.raises(NoSuchUpload, calling)

    async def test_too_many(self) -> None:
        """
        A call that is overtaken again and again gives up at last.
        """
        self.index = index = InterruptedIndex()
        store = await self.with_bucket()
        upload = await self.with_parts(store, 2)

        async def put() -> None:
            """
            Store the part beneath, with every commit of the call.
            """
            index.meanwhile = None
            await self.put_part(store, upload, 1, b"other")
            index.commits, index.meanwhile = 1, put

        for commits, call in (
            (2, lambda store, upload: self.put_part(store, upload, 1, b"data")),
            (1, self.complete),
            (1, self.abort),
        ):
            index.commits, index.meanwhile = commits, put
            await self.raises(StorageFailed, call(store, upload))
            index.meanwhile = None
            await self.assert_clean()
        await self.complete(store, upload)
        self.assertEqual(await self.get(store, "k"), b"otherdata")

    async def test_killed(self) -> None:
        """
        Whichever commit a process is killed at, before it happens or after, the next process
        finds uploads and objects whole, can complete what was to be completed, and removes the
        rest.
        """
        for after in (False, True):
            at = 0
            while True:
                self.setUp()
                self.index = index = FailingIndex()
                self.wanted: UploadInfo | None = None
                store = await self.with_bucket()
                at += 1
                index.commits, index.at, index.after = 0, at, after
                done: list[bytes] = []
                try:
                    await self.work(store, done)
                except Killed:
                    pass
                else:
                    break
                index.at = 0
                store = await self.make_store()
                await self.assert_clean()
                await self.check_whole(store, done)
                await self.assert_clean()
            # The intents and commits of 26 parts and of two objects, and what else there is.
            self.assertEqual(at, 2 * 26 + 2 * 2 + 9 + 1)

    async def work(self, store: LayoutStore, done: list[bytes]) -> None:
        """
        Do a bit of everything.

        :param done: Gets what the object must hold, or hold soon.
        """
        first = await self.with_parts(store, 2, b"first")
        await self.put_part(store, first, 2, b"again")
        self.wanted = first
        await self.complete(store, first)
        done.append(b"firstagain")
        second = await self.with_parts(store, 20, b"second")
        await self.put_part(store, second, 30, b"not used")
        self.wanted = second
        await self.complete(store, second)
        done.append(b"second" * 20 + b"not used")
        third = await self.with_parts(store, 1, b"third")
        await self.abort(store, third)
        await self.put(store, "k", b"small")
        done.append(b"small")
        await self.with_parts(store, 1, b"fourth")
        await store.delete("b", "k")
        done.append(b"")
        await store.delete_bucket("b")

    async def check_whole(self, store: LayoutStore, done: list[bytes]) -> None:
        """
        The object is what was acknowledged, or what was to come next; and an upload that was
        to be completed can be.
        """
        try:
            await store.bucket("b")
        except NoSuchBucket:
            self.assertEqual(done[-1], b"")
            return
        expected = [done[-1] if done else b""]
        following = [b"firstagain", b"second" * 20 + b"not used", b"small", b""]
        expected.append(following[len(done)] if len(done) < 4 else b"")
        self.assertIn(await self.content(store), expected)
        if len(done) < 2 and self.wanted is not None:
            # The last Complete that was begun, whether it has happened or not.
            info = await self.complete(store, self.wanted)
            self.assertEqual(await store.head("b", "k"), info)
            self.assertIn(await self.content(store), following[:2])
            await self.assert_ended(store, self.wanted)
        for upload in (await store.uploads("b", UploadQuery())).uploads:
            await self.put_part(store, upload, 1, b"more")
            await self.complete(store, upload)

    async def content(self, store: LayoutStore) -> bytes:
        """
        What the object holds.
        """
        try:
            return await self.get(store, "k")
        except NoSuchKey:
            return b""

    async def test_failed_commit(self) -> None:
        """
        A commit that fails, whether it happened or not, leaves an upload that can be completed,
        or its object, which a repeated Complete tells.
        """
        for after in (False, True):
            self.setUp()
            self.index = index = FailingIndex()
            store = await self.with_bucket()
            upload = await self.with_parts(store, 3)
            index.error = lambda: StorageFailed("the device")
            for at, call in (
                (1, lambda store, upload: self.put_part(store, upload, 3, b"more")),
                (2, lambda store, upload: self.put_part(store, upload, 3, b"more")),
                (1, self.complete),
            ):
                index.commits, index.at, index.after = 0, at, after
                await self.raises(StorageFailed, call(store, upload))
                index.at = 0
                await self.assert_clean()
            await self.complete(store, upload)
            expected = b"datadata" + (b"more" if after else b"data")
            self.assertEqual(await self.get(store, "k"), expected)

    async def test_forgotten(self) -> None:
        """
        What became of an upload is remembered for seven days, and then forgotten bit by bit by
        those that are completed later.
        """
        store = await self.with_bucket()
        begun = await self.with_parts(store, 1)
        for number in range(40):
            upload = await self.begin(store, f"k{number}")
            await self.put_part(store, upload, 1, b"data")
            info = await self.complete(store, upload)
        self.clock.advance(7 * DAY - 1)
        late = await self.with_parts(store, 1)
        await self.complete(store, begun)
        self.assertEqual(await self.complete(store, upload), info)
        self.assertEqual(len(await self.records(b"d")), 41)
        self.clock.advance(2)
        await self.complete(store, late)
        self.assertLess(len(await self.records(b"d")), 42)
        await self.complete(store, await self.with_parts(store, 1))
        # Those that were completed of late stay, also the one that began long ago.
        self.assertEqual(len(await self.records(b"d")), 3)
        await self.raises(NoSuchUpload, self.complete(store, upload))
        self.assertEqual((await store.list("b", ListQuery(limit=1))).objects[0].key, "k")

    async def test_apart(self) -> None:
        """
        The parts of an object that has many lie in a record of their own, as long as it does.
        """
        store = await self.with_bucket()
        for count, apart in ((16, 0), (17, 1), (40, 1), (1, 0), (40, 1)):
            await self.complete(store, await self.with_parts(store, count))
            self.assertEqual(len(await self.records(b"l")), apart)
            self.assertEqual(len((await store.head("b", "k")).parts), count)
            await self.assert_clean()
        await self.put(store, "k", b"small")
        self.assertEqual(await self.records(b"l"), [])
        await self.assert_clean()

    async def test_known(self) -> None:
        """
        The parts of an object that is read again and again are read from the index once.
        """
        self.index = index = HeldIndex()
        store = await self.with_bucket()
        await self.complete(store, await self.with_parts(store, 40))
        first = await store.head("b", "k")
        index.reads = 0
        self.assertIs((await store.head("b", "k")).parts, first.parts)
        (await store.open("b", "k")).close()
        self.assertEqual(index.reads, 2)
        await self.complete(store, await self.with_parts(store, 40))
        second = await store.head("b", "k")
        self.assertNotEqual(second.modified, first.modified)
        self.assertEqual(second.parts[0].modified, 0)

    async def test_replaced_while_looking(self) -> None:
        """
        An object that is replaced between the look at its record and that at its parts is told
        as it is now.
        """
        for data in (b"small", pattern(100_000), b""):
            self.index = index = HeldIndex()
            store = await self.with_bucket()
            await self.complete(store, await self.with_parts(store, 40))
            index.held = Deferred()
            heading = Deferred.fromCoroutine(store.head("b", "k"))
            opening = Deferred.fromCoroutine(store.open("b", "k"))
            released, index.held = index.held, None
            # Another process, so that this one does not know the parts.
            other = LayoutStore(self.index, self.blobs, self.clock, os.urandom, 1)
            if data:
                await self.put(other, "k", data)
            else:
                await other.delete("b", "k")
            released.callback(None)
            if not data:
                await self.raises(NoSuchKey, heading)
                await self.raises(NoSuchKey, opening)
                continue
            self.assertEqual((await heading).size, len(data))
            opened = await opening
            self.assertEqual(await self.drain(opened), data)
            opened.close()

    async def test_damaged(self) -> None:
        """
        Parts that are missing, or not as large as they were, are damaged, and so is an object
        whose list of parts is.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        for number in (1, 2, 3):
            await self.put_part(store, upload, number, b"data%d" % number)
        await self.complete(store, upload)
        (space,) = [space for space in await self.index.spaces() if space != "system"]
        for name in await self.blobs.names("", 10):
            if bytes(await (await self.blobs.open(name)).read(0, 5).read()) == b"data2":
                second = name
        await self.blobs.delete([second])
        for content in (None, b"data"):
            if content is not None:
                await self.blobs.write(second, BytesSource([content]), lambda _: b"")
            opened = await store.open("b", "k")
            source = await opened.read(None)
            self.assertEqual(bytes(await source.read()), b"data1")
            with self.assertRaises(Damaged):
                await source.read()
            self.assertEqual(bytes(await source.read()), b"")
            opened.close()
        await store.delete("b", "k")
        await self.assert_clean()
        await self.complete(store, await self.with_parts(store, 20))
        (key,) = await self.records(b"l")
        for value in (None, pack(PartsRecord(()))):
            await self.index.commit(space, [Write(key, value)], {}, ())
            await self.raises(Damaged, store.head("b", "k"))
            await self.raises(Damaged, store.open("b", "k"))
        self.assertEqual((await store.list("b", ListQuery())).objects[0].size, 80)

    async def test_pinned(self) -> None:
        """
        A sweep leaves alone what is open, and removes the rest; a later one removes it.
        """
        store = await self.with_bucket()
        for count in (3, 40):
            await self.complete(store, await self.with_parts(store, count))
            opened = [await store.open("b", "k") for _ in range(2)]
            await self.complete(store, await self.with_parts(store, 2))
            await self.put(store, "k", b"small")
            for each in opened:
                await self.sweeper.sweep()
                # With the manifest, and the description of the bucket.
                self.assertEqual(len(await self.blobs.names("", 1000)), count + 2)
                self.assertEqual(len(await self.records(b"g")), 1)
                source = await each.read(None)
                each.close()
                await self.sweeper.sweep()
                self.assertEqual(bytes(await source.read()), b"data")
                source.close()
                each.close()
                source.close()
            await self.assert_clean()

    async def test_opening(self) -> None:
        """
        Who has found an object that is swept before it is pinned finds it no more.
        """
        self.index = index = HeldIndex()
        store = await self.with_bucket()
        await self.complete(store, await self.with_parts(store, 3))
        await store.head("b", "k")
        index.held = Deferred()
        opening = Deferred.fromCoroutine(store.open("b", "k"))
        released, index.held = index.held, None
        await store.delete("b", "k")
        await self.sweeper.sweep()
        await self.raises(NoSuchKey, store.open("b", "k"))
        released.callback(None)
        with self.assertRaises(NoSuchKey):
            await opening
        await self.assert_clean()

    async def test_sweep_cancelled(self) -> None:
        """
        A sweep that is cancelled while it waits disturbs nobody, and is made up for.
        """
        self.index = index = HeldIndex()
        store = await self.with_bucket()
        await self.complete(store, await self.with_parts(store, 3))
        await store.delete("b", "k")
        index.held = Deferred()
        sweeping = Deferred.fromCoroutine(self.sweeper.sweep())
        sweeping.cancel()
        with self.assertRaises(CancelledError):
            await sweeping
        index.held = None
        await self.assert_clean()

    async def test_large_garbage(self) -> None:
        """
        The blobs of a large object are removed bit by bit: a sweep that is interrupted does not
        begin anew.
        """
        store = await self.with_bucket()
        await self.complete(store, await self.with_parts(store, 2500))
        await store.delete("b", "k")
        self.assertEqual(len(await self.records(b"g")), 1)
        self.blobs.broken_at = 2200
        await self.sweeper.sweep()
        self.assertEqual(len(await self.blobs.names("", 10_000)), 301 + 2)
        self.blobs.broken_at = self.blobs.deletions = 0
        await self.assert_clean()
        self.assertEqual(self.blobs.deletions, 500 + 1)

    async def test_large_garbage_contended(self) -> None:
        """
        Two sweepers that remove the same blobs do not disturb each other.
        """
        for count in (3, 1200):
            self.setUp()
            self.index = index = InterruptedIndex()
            store = await self.with_bucket()
            await self.complete(store, await self.with_parts(store, count))
            await store.delete("b", "k")
            first = self.sweeper
            await self.make_store()
            index.commits, index.meanwhile = 1, self.sweeper.sweep
            await first.sweep()
            await self.assert_clean()
            await first.sweep()
            self.assertEqual(store.intents.left, set())

    async def test_bucket_deleted(self) -> None:
        """
        The parts of unfinished uploads go before the space of a deleted bucket, whatever sweep
        is interrupted.
        """
        for at in range(1, 5):
            for after in (False, True):
                self.setUp()
                self.index = index = FailingIndex()
                store = await self.with_bucket()
                await self.with_parts(store, 1200)
                await self.with_parts(store, 2)
                await store.delete_bucket("b")
                index.commits, index.at, index.after = 0, at, after
                try:
                    await self.sweeper.sweep()
                except Killed:
                    pass
                else:
                    self.assertEqual(at, 4)
                await self.make_store()
                await self.sweeper.sweep()
                await self.assert_clean()
                self.assertEqual(await self.blobs.names("", 10), [])
                self.assertEqual(list(await self.index.spaces()), ["system"])

    async def test_bucket_deleted_contended(self) -> None:
        """
        Two sweepers that remove the parts of a deleted bucket do not make its space anew.
        """
        self.index = index = InterruptedIndex()
        store = await self.with_bucket()
        await self.with_parts(store, 3)
        await store.delete_bucket("b")
        first = self.sweeper
        await self.make_store()
        index.commits, index.meanwhile = 1, self.sweeper.sweep
        await first.sweep()
        self.assertEqual(list(await self.index.spaces()), ["system"])
        self.assertEqual(index.drops, 1)
        await first.sweep()
        await self.assert_clean()

    async def test_writes_conflict(self) -> None:
        """
        The fake that overtakes does what its name says.
        """
        index = InterruptedIndex()

        async def other() -> None:
            """
            Write first.
            """
            await index.commit("s", [Write(b"k", b"1")], {}, ())

        index.commits, index.meanwhile = 1, other
        with self.assertRaises(Conflict):
            await index.commit("s", [Write(b"k", b"2")], {b"k": None}, ())

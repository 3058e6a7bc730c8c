# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the encrypting store.
"""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from kypello.crypto.dare import encrypted_size
from kypello.crypto.sse import ServerSideEncryption
from kypello.errors import (
    Damaged,
    KMSNotConfigured,
    KMSUnavailable,
    NoSuchBucket,
    NotAuthentic,
    PreconditionFailed,
    Refused,
)
from kypello.interfaces import IObjectStore, IOpenObject
from kypello.model import (
    ByteRange,
    EncryptionRequest,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
)
from kypello.store.layout import LayoutStore
from kypello.testing.fakes import BytesSource
from tests.objects.case import DATA, SEALING, SSE_S3, EncryptedCase, metadata

#: As it is.
_PUT = LayoutStore.put


class ContentTests(EncryptedCase):
    """
    What is stored and what is read.
    """

    async def test_provides(self) -> None:
        """
        The wrapper, and what it opens, provide the interfaces of a store.
        """
        await self.prepare()
        verifyObject(IObjectStore, self.store)
        await self.put("k")
        opened = await self.store.open("b", "k")
        verifyObject(IOpenObject, opened)
        opened.close()

    async def test_bucket_made_anew(self) -> None:
        """
        What was encrypted for a bucket is not stored in one that has taken its place meanwhile,
        whose metadata key is another.
        """
        for size in (1, 200_000):
            await self.prepare()
            await self.put("before", b"x")

            async def late(below: LayoutStore, *arguments: Any) -> ObjectInfo:
                """
                Replace the bucket, and go on.
                """
                await self.store.delete("b", "before")
                await self.store.delete_bucket("b")
                self.clock_below.advance(1)
                await self.store.create_bucket("b", {})
                return await _PUT(below, *arguments)

            self.patch(LayoutStore, "put", late)
            with self.assertRaises(NoSuchBucket):
                await self.put("k", bytes(size))
            self.patch(LayoutStore, "put", _PUT)
            self.assertEqual((await self.store.list("b", ListQuery())).objects, ())
            await self.put("k", b"new")
            self.assertEqual((await self.store.head("b", "k")).size, 3)

    async def test_round_trip(self) -> None:
        """
        Objects of any size come back with size and metadata; the store below holds a DARE
        stream and none of it.
        """
        await self.prepare()
        for size in (0, 1, 65535, 65536, 65537, len(DATA)):
            data = DATA[:size]
            stored = await self.put("k", data)
            expected = evolve(metadata(data), sealing=SEALING)
            self.assertEqual((stored.size, stored.metadata), (size, expected))
            self.assertEqual(await self.store.head("b", "k"), stored)
            self.assertEqual((await self.store.list("b", ListQuery())).objects, (stored,))
            self.assertEqual(await self.get("k"), data)
            info, raw = await self.raw("k")
            self.assertEqual(info.size, encrypted_size(size))
            self.assertEqual(raw[:1], b"\x20" if size else b"")
            self.assertEqual(evolve(info.metadata, sealed=b"", internal={}), ObjectMetadata())
            self.assertNotIn(stored.etag, repr(info))

    async def test_ranges(self) -> None:
        """
        Ranges around package boundaries are those of the plaintext.
        """
        await self.prepare()
        await self.put("k", DATA)
        for start in (0, 1, 65535, 65536, 65537, 131072, len(DATA) - 1):
            for stop in (start + 1, start + 65536, len(DATA)):
                if stop <= len(DATA):
                    wanted = ByteRange(start, stop)
                    self.assertEqual(await self.get("k", wanted), DATA[start:stop])

    async def test_other_process(self) -> None:
        """
        Another process reads what was written, whatever the reuse of data keys.
        """
        await self.prepare()
        for reuse in ({}, {"bucket_seconds": 0, "opened_seconds": 0}):
            await self.put("dir//x", DATA, store=self.process(**reuse))
            reader = self.process()
            self.assertEqual(await self.get("dir//x", store=reader), DATA)
            self.assertEqual((await reader.head("b", "dir//x")).size, len(DATA))

    async def test_fresh_keys(self) -> None:
        """
        The same bytes under the same key are never stored the same way twice.
        """
        await self.prepare()
        seen = set()
        for _ in range(3):
            await self.put("k", DATA)
            seen.add((await self.raw("k"))[1])
        self.assertEqual(len(seen), 3)

    async def test_plain(self) -> None:
        """
        What nobody wants encrypted is stored as it is, with no trace of a copied encryption.
        """
        await self.prepare()
        copied = (await self.put("source")).metadata
        await self.store.put("b", "k", BytesSource([b"data"]), lambda _size: copied)
        info, raw = await self.raw("k")
        self.assertEqual(raw, b"data")
        self.assertEqual(info.metadata, metadata(b"data"))
        self.assertEqual(await self.store.head("b", "k"), info)
        self.assertEqual(await self.get("k"), b"data")

    async def test_delete(self) -> None:
        """
        Objects and buckets are removed; a new bucket of the name has a new metadata key.
        """
        await self.prepare()
        await self.put("k")
        await self.store.delete("b", "k")
        self.assertEqual((await self.store.list("b", ListQuery())).objects, ())
        other = self.process()
        self.assertEqual((await other.list("b", ListQuery())).objects, ())
        await other.delete_bucket("b")
        await other.create_bucket("b", {})
        stored = await self.put("k", store=other)
        self.assertEqual(await self.store.head("b", "k"), stored)
        self.assertEqual((await self.store.list("b", ListQuery())).objects, (stored,))

    async def test_missing_bucket(self) -> None:
        """
        A bucket that does not exist is told before the body is read.
        """
        await self.prepare()
        with self.assertRaises(NoSuchBucket):
            await self.put("k", bucket="absent")
        with self.assertRaises(NoSuchBucket):
            await self.store.list("absent", ListQuery())


class ChoiceTests(EncryptedCase):
    """
    Which encryption applies.
    """

    async def encrypted(self, request: EncryptionRequest | None) -> bool:
        """
        Whether an object is stored encrypted.
        """
        return (await self.put("k", encryption=request)).metadata.sealing is not None

    async def test_precedence(self) -> None:
        """
        The client's wish counts, else the bucket's setting, else nothing is encrypted.
        """
        await self.prepare()
        self.assertTrue(await self.encrypted(SSE_S3))
        self.assertFalse(await self.encrypted(None))
        setting = ServerSideEncryption("AES256").to_bytes()
        await self.store.change_bucket("b", lambda old: {**old, "encryption": setting})
        self.assertTrue(await self.encrypted(None))

    async def test_auto_encryption(self) -> None:
        """
        With automatic encryption everything is encrypted.
        """
        self.auto_encryption = True
        await self.prepare()
        self.assertTrue(await self.encrypted(None))

    async def test_refused(self) -> None:
        """
        An unknown algorithm and a damaged setting refuse the write.
        """
        await self.prepare()
        with self.assertRaises(Refused):
            await self.put("k", encryption=EncryptionRequest("AES128"))
        await self.store.change_bucket("b", lambda old: {**old, "encryption": b"x"})
        with self.assertRaises(Damaged):
            await self.put("k", encryption=None)
        self.assertEqual((await self.store.list("b", ListQuery())).objects, ())


class SettingsTests(EncryptedCase):
    """
    The metadata key among the settings of a bucket.
    """

    async def test_made_once(self) -> None:
        """
        Only an encrypted write makes a metadata key, and one process wins.
        """
        await self.prepare()
        await self.put("plain", encryption=None)
        self.assertNotIn("metadata-key", (await self.store.bucket("b")).settings)
        pause = self.kms.pause = Deferred()
        other = self.process()
        waiting = [
            Deferred.fromCoroutine(self.put(key, store=store))
            for key, store in (("1", self.store), ("2", self.store), ("3", other))
        ]
        self.kms.pause = None
        pause.callback(None)
        for each in waiting:
            await each
        for store in (self.store, other, self.process()):
            objects = (await store.list("b", ListQuery(prefix=""))).objects
            self.assertEqual({info.etag for info in objects}, {metadata(b"data").etag})

    async def test_made_together(self) -> None:
        """
        Writes that come at once to a new bucket have its metadata key made by one call, and the
        key that seals theirs by another.
        """
        await self.prepare()
        pause = self.kms.pause = Deferred()
        waiting = [Deferred.fromCoroutine(self.put(str(number))) for number in range(32)]
        self.kms.pause = None
        pause.callback(None)
        for each in waiting:
            await each
        self.assertEqual(self.kms.calls, ["generate", "generate"])

    async def test_protected(self) -> None:
        """
        Who changes the settings of a bucket neither loses nor sets its metadata key.
        """
        await self.prepare()
        await self.put("k")
        before = (await self.store.bucket("b")).settings
        for change in (lambda _old: {}, lambda _old: {"metadata-key": b"x"}):
            info = await self.store.change_bucket("b", change)
            self.assertEqual(info.settings, before)
        info = await self.store.create_bucket("c", {"metadata-key": b"x", "other": b"y"})
        self.assertEqual(info.settings, {"other": b"y"})
        self.assertEqual([each.name for each in await self.store.buckets()], ["b", "c"])


class CallTests(EncryptedCase):
    """
    How often the key service is asked, and what goes on without it.
    """

    async def test_calls(self) -> None:
        """
        Many requests on one bucket need two calls: its metadata key and its data key.
        """
        await self.prepare()
        for number in range(20):
            await self.put(f"k{number}")
            await self.store.head("b", f"k{number}")
            await self.get(f"k{number}")
            await self.store.list("b", ListQuery())
        self.assertEqual(self.kms.calls, ["generate", "generate"])
        self.kms.calls.clear()
        reader = self.process()
        await reader.list("b", ListQuery())
        for number in range(20):
            await reader.head("b", f"k{number}")
        self.assertEqual(self.kms.calls, ["decrypt"])

    async def test_outage(self) -> None:
        """
        Without the key service a process that opened the metadata key tells everything, and
        reads as long as it keeps the data key.
        """
        await self.prepare()
        stored = await self.put("k")
        self.kms.down = True
        self.assertEqual(await self.store.head("b", "k"), stored)
        self.assertEqual((await self.store.list("b", ListQuery())).objects, (stored,))
        self.assertEqual(await self.get("k"), b"data")
        self.clock.advance(1_000_000)
        self.assertEqual(await self.store.head("b", "k"), stored)
        with self.assertRaises(KMSUnavailable):
            await self.get("k")
        with self.assertRaises(KMSUnavailable):
            await self.put("k2")

    async def test_started_in_outage(self) -> None:
        """
        A process that starts without the key service lists sizes and opaque ETags, serves plain
        objects, raises for encrypted ones, and recovers by itself.
        """
        await self.prepare()
        await self.put("k", DATA)
        plain = await self.put("plain", encryption=None)
        self.kms.down = True
        store = self.process()
        shown, also_plain = (await store.list("b", ListQuery())).objects
        self.assertEqual(also_plain, plain)
        self.assertEqual((shown.size, shown.metadata.sealing), (len(DATA), SEALING))
        self.assertRegex(shown.etag, "^[0-9a-f]{32}$")
        self.assertNotEqual(shown.etag, metadata(DATA).etag)
        self.assertEqual(await self.get("plain", store=store), b"data")
        await self.put("plain", encryption=None, store=store)
        for call in (store.head, store.open):
            with self.assertRaises(KMSUnavailable):
                await call("b", "k")
        await store.delete("b", "plain")
        self.kms.down = False
        self.assertEqual((await store.head("b", "k")).etag, metadata(DATA).etag)

    async def test_damage_in_outage(self) -> None:
        """
        An object that cannot be opened does not cost the others their metadata key.
        """
        await self.prepare()
        stored = await self.put("k")
        await self.put("damaged")
        info, raw = await self.raw("damaged")
        await self.plant("damaged", raw, evolve(info.metadata, sealed=b"x"))
        self.kms.down = True
        self.clock.advance(1_000_000)
        with self.assertRaises(NotAuthentic):
            await self.store.head("b", "damaged")
        self.assertEqual(await self.store.head("b", "k"), stored)

    async def test_not_configured(self) -> None:
        """
        Without key service plain objects pass, and encryption and encrypted objects are
        refused, but listed.
        """
        await self.prepare()
        await self.put("k")
        store = self.process(configured=False)
        await self.put("plain", encryption=None, store=store)
        self.assertEqual(await self.get("plain", store=store), b"data")
        self.assertEqual(len((await store.list("b", ListQuery())).objects), 2)
        for call in (store.head, store.open):
            with self.assertRaises(KMSNotConfigured):
                await call("b", "k")
        with self.assertRaises(KMSNotConfigured):
            await self.put("k", store=store)
        await store.delete("b", "k")
        await store.delete("b", "plain")
        await store.delete_bucket("b")


class ConditionTests(EncryptedCase):
    """
    Conditions see what the client knows.
    """

    async def test_seen(self) -> None:
        """
        A condition is given the plain view of what is current, for any kind of write.
        """
        await self.prepare()
        stored = await self.put("k")
        seen: list[ObjectInfo | None] = []
        await self.put("k", condition=seen.append)
        self.assertEqual(seen, [stored])
        await self.put("k", encryption=None, condition=seen.append)
        self.assertEqual(seen[1].etag, stored.etag)
        await self.put("k2", condition=seen.append)
        self.assertEqual(seen[2:], [None])
        stored = await self.put("k")
        await self.store.delete("b", "k", seen.append)
        self.assertEqual(seen[3:], [stored])

    async def test_refused(self) -> None:
        """
        A condition that raises leaves everything as it was.
        """
        await self.prepare()
        stored = await self.put("k")

        def refuse(_current: ObjectInfo | None) -> None:
            """
            Refuse.
            """
            raise PreconditionFailed("If-Match")

        for encryption in (None, SSE_S3):
            with self.assertRaises(PreconditionFailed):
                await self.put("k", b"other", encryption, condition=refuse)
        with self.assertRaises(PreconditionFailed):
            await self.store.delete("b", "k", refuse)
        self.assertEqual(await self.store.head("b", "k"), stored)

    async def test_outage(self) -> None:
        """
        Without the key service a condition on an encrypted object cannot be checked, one on a
        plain or absent object can.
        """
        await self.prepare()
        await self.put("k")
        await self.put("plain", encryption=None)
        self.kms.down = True
        store = self.process()
        seen: list[ObjectInfo | None] = []
        with self.assertRaises(KMSUnavailable):
            await store.delete("b", "k", seen.append)
        with self.assertRaises(KMSUnavailable):
            await self.put("k", encryption=None, store=store, condition=seen.append)
        self.assertEqual(seen, [])
        await store.delete("b", "plain", seen.append)
        await store.delete("b", "absent", seen.append)
        self.assertEqual(len(seen), 2)


class TamperTests(EncryptedCase):
    """
    What was changed below is refused.
    """

    async def refused(self, key: str) -> None:
        """
        Reading raises, and a listing shows every object.
        """
        with self.assertRaises(NotAuthentic):
            await self.get(key)
        self.assertTrue((await self.store.list("b", ListQuery())).objects)

    async def test_content(self) -> None:
        """
        Content with a flipped bit, swapped packages or a lost end is refused.
        """
        await self.prepare()
        await self.put("k", DATA)
        info, raw = await self.raw("k")
        package = 65568
        for tampered in (
            raw[:70_000] + bytes([raw[70_000] ^ 1]) + raw[70_001:],
            raw[package : 2 * package] + raw[:package] + raw[2 * package :],
            raw[:package],
            raw[:20],
            b"",
        ):
            await self.plant("k", tampered, info.metadata)
            await self.refused("k")

    async def test_shorter_range(self) -> None:
        """
        A lost end is noticed even by who reads only the beginning.
        """
        await self.prepare()
        await self.put("k", DATA)
        info, raw = await self.raw("k")
        await self.plant("k", raw[: 2 * 65568], info.metadata)
        with self.assertRaises(NotAuthentic):
            await self.get("k", ByteRange(0, 10))

    async def test_moved(self) -> None:
        """
        An object that was moved under another key below is refused, an alias of its path too.
        """
        await self.prepare()
        await self.put("a/k", DATA)
        info, raw = await self.raw("a/k")
        for key in ("other", "a//k"):
            await self.plant(key, raw, info.metadata)
            await self.refused(key)

    async def test_mixed(self) -> None:
        """
        Metadata, entries or content of another write are refused.
        """
        await self.prepare()
        await self.put("k", DATA)
        old, old_raw = await self.raw("k")
        await self.put("k", DATA)
        new, new_raw = await self.raw("k")
        for data, stored in (
            (old_raw, new.metadata),
            (new_raw, evolve(new.metadata, sealed=old.metadata.sealed)),
            (new_raw, evolve(new.metadata, internal=old.metadata.internal)),
        ):
            await self.plant("k", data, stored)
            await self.refused("k")

    async def test_entries(self) -> None:
        """
        An entry that was removed or changed is refused.
        """
        await self.prepare()
        await self.put("k", DATA)
        info, raw = await self.raw("k")
        entries = info.metadata.internal
        for name in entries:
            without = {other: value for other, value in entries.items() if other != name}
            changed = {**entries, name: "AAAA"}
            for internal in (without, changed):
                if name.endswith("Key-Id") and internal is changed:
                    continue
                await self.plant("k", raw, evolve(info.metadata, internal=internal))
                await self.refused("k")

    async def test_one_of_many(self) -> None:
        """
        One object that cannot be opened is listed with what can be told, the others as ever.
        """
        await self.prepare()
        first, third = await self.put("1"), await self.put("3")
        await self.put("2", DATA)
        info, raw = await self.raw("2")
        await self.plant("2", raw, evolve(info.metadata, sealed=b"damaged"))
        shown = (await self.store.list("b", ListQuery())).objects
        self.assertEqual((shown[0], shown[2]), (first, third))
        self.assertEqual(shown[1].size, len(DATA))
        await self.plant("2", raw[:65568] + b"x", info.metadata)
        self.assertEqual((await self.store.list("b", ListQuery())).objects[1].size, 65569)

    async def test_metadata_key(self) -> None:
        """
        A metadata key that is damaged, or another bucket's, breaks no listing.
        """
        await self.prepare()
        await self.put("k")
        await self.store.create_bucket("c", {})
        await self.put("k", bucket="c")
        theirs = (await self.below.bucket("c")).settings["metadata-key"]
        for value, error in ((theirs, NotAuthentic), (b"x", Damaged)):
            await self.below.change_bucket("b", lambda _old, new=value: {"metadata-key": new})
            store = self.process()
            self.assertEqual(len((await store.list("b", ListQuery())).objects), 1)
            with self.assertRaises(error):
                await store.head("b", "k")
        await self.below.change_bucket("b", lambda _old: {})
        with self.assertRaises(NotAuthentic):
            await self.process().head("b", "k")

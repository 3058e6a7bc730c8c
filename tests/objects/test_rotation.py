# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.objects.rotation``.
"""

import os
from hashlib import md5
from typing import Any
from zlib import crc32

from attrs import define, evolve
from twisted.internet.task import Clock

from kypello.crypto.checksums import encode
from kypello.crypto.masterkey import MasterKey
from kypello.errors import Damaged, KeyNotFound, KMSUnavailable, NotAuthentic
from kypello.model import (
    EncryptionRequest,
    Lock,
    ObjectInfo,
    ObjectMetadata,
    UploadListing,
    UploadQuery,
    VersionQuery,
)
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.rotation import Page, Plan, Rotation
from kypello.quota import SETTING as QUOTA
from kypello.quota import Quota
from kypello.store.limited import LimitedStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource, InlineLane
from kypello.versioning import SETTING, Versioning
from tests.objects.case import CUSTOMER, CUSTOMER_KEY, DATA, KMS, PLANNED, SSE_S3, metadata
from tests.objects.keyservice import MemoryKMS
from tests.objects.test_rewrapping import RewrappingCase

_CONTEXT = EncryptionRequest("aws:kms", context={"team": "red"})
_SHARED = EncryptionRequest("aws:kms", bucket_key=True)
TO_NEW = Plan("new-key")
_DATA_KEY = "X-Minio-Internal-Server-Side-Encryption-S3-Kms-Sealed-Key"


def fresh_key() -> MasterKey:
    """
    A master key that has sealed nothing.
    """
    return MasterKey.generate(os.urandom, 0.0, "tests")


@define(eq=False)
class VersionedKMS(MemoryKMS):
    """
    A key service whose keys have versions: the present one seals, an earlier one opens, too.

    :ivar earlier: Of the default key; ``None`` when it is gone.
    """

    earlier: MasterKey | None = None

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a data key with either version.
        """
        try:
            return await super().decrypt_key(key_name, sealed, context)
        except NotAuthentic:
            if self.earlier is None:
                raise
            return self.earlier.open(sealed, context)


@define(eq=False)
class Listing:
    """
    A store whose uploads are listed in another way.
    """

    _store: EncryptedStore
    uploads: Any

    def __getattr__(self, name: str) -> Any:
        """
        All else is the store's.
        """
        return getattr(self._store, name)


class RotationCase(RewrappingCase):
    """
    A test of many objects.
    """

    async def prepare(self) -> None:
        """
        Have what gives them other keys.
        """
        await super().prepare()
        self.rotation = Rotation(self.store, self.rewrapping, InlineLane())

    async def run_pages(self, plan: Plan, *, dry: bool = False, limit: int = 2) -> Page:
        """
        Change all pages; give what became of them together.
        """
        query, whole = VersionQuery(limit=limit), Page()
        for _ in range(1000):
            page = await self.rotation.page("b", query, plan, dry=dry)
            whole.troubles += page.troubles
            for name in ("seen", "changed", "encrypted", "plain", "customers"):
                setattr(whole, name, getattr(whole, name) + getattr(page, name))
            if page.next is None:
                return whole
            query = evolve(query, after_key=page.next[0], after_version=page.next[1])
        raise AssertionError("no end")

    async def run_uploads(self, plan: Plan, *, dry: bool = False) -> Page:
        """
        Change all pages of uploads; give what became of them together.
        """
        query, whole = UploadQuery(limit=2), Page()
        for _ in range(1000):
            page = await self.rotation.uploads("b", query, plan, dry=dry)
            whole.troubles += page.troubles
            for name in ("seen", "changed", "plain", "customers"):
                setattr(whole, name, getattr(whole, name) + getattr(page, name))
            if page.next is None:
                return whole
            query = evolve(query, after_key=page.next[0], after_upload=page.next[1])
        raise AssertionError("no end")

    async def put_plain(self, key: str, data: bytes) -> ObjectInfo:
        """
        Store an object that is not encrypted, with the checksum that it has.
        """
        checksum = encode(crc32(data).to_bytes(4, "big"))
        known = evolve(metadata(data), checksums={"crc32": checksum})
        return await self.store.put("b", key, BytesSource([data]), lambda _size: known)

    async def version(self) -> None:
        """
        Enable versions.
        """
        setting = Versioning("Enabled").to_bytes()
        await self.store.change_bucket("b", lambda settings: {**settings, SETTING: setting})

    async def fill(self) -> None:
        """
        Store an object of every kind.
        """
        for key, kind in (
            ("a", SSE_S3),
            ("b", KMS),
            ("c", _CONTEXT),
            ("d", _SHARED),
            ("e", CUSTOMER),
            ("f", None),
        ):
            await self.put(key, DATA[:100], kind)


class RotationTests(RotationCase):
    """
    Other keys for many objects.
    """

    async def test_retired(self) -> None:
        """
        Every object, version and part moves to another master key; the old one can be deleted,
        and everything is read as before by a process that never saw it.
        """
        await self.prepare()
        await self.version()
        await self.fill()
        await self.fill()
        began = await self.upload({1: DATA, 2: b"end"}, KMS, "parts")
        await self.complete(began, (1, 2))
        await self.store.delete("b", "a")
        before = (await self.store.list_versions("b", VersionQuery())).versions
        dry = await self.run_pages(TO_NEW, dry=True)
        page = await self.run_pages(TO_NEW)
        self.assertEqual(page, dry)
        self.assertEqual((page.seen, page.changed), (13, 9))
        self.assertEqual((page.plain, page.customers, page.troubles), (2, 2, []))
        store = await self.retire()
        after = (await store.list_versions("b", VersionQuery())).versions
        self.assertEqual(len(after), len(before))
        for old, new in zip(before, after, strict=True):
            info, was = new.info, old.info
            self.assertEqual((new.latest, new.marker), (old.latest, old.marker))
            if new.marker:
                continue
            brought = CUSTOMER_KEY if info.key == "e" else None
            opened = await store.open("b", info.key, brought, info.version_id)
            content = await self.drain(await opened.read(None))
            opened.close()
            self.assertEqual(content, DATA + b"end" if info.key == "parts" else DATA[:100])
            sealing, earlier = info.metadata.sealing, was.metadata.sealing
            if sealing is not None and earlier is not None and info.key != "e":
                self.assertIn("new-key", sealing.key_id)
                self.assertEqual(
                    (sealing.algorithm, sealing.context, sealing.bucket_key),
                    (earlier.algorithm, earlier.context, earlier.bucket_key),
                )
            self.assertEqual(
                evolve(info, metadata=evolve(info.metadata, sealing=None)),
                evolve(was, metadata=evolve(was.metadata, sealing=None)),
            )

    async def test_again(self) -> None:
        """
        What is done is done: nothing is changed twice, unless that is asked for, which makes new
        data keys.
        """
        await self.prepare()
        await self.fill()
        await self.run_pages(TO_NEW)
        first = await self.raw("a")
        calls = len(self.kms.calls)
        self.assertEqual((await self.run_pages(TO_NEW)).changed, 0)
        self.assertEqual((await self.raw("a"), len(self.kms.calls)), (first, calls))
        page = await self.run_pages(evolve(TO_NEW, again=True), limit=1000)
        self.assertEqual(page.changed, 4)
        old, new = first[0].metadata.internal, (await self.raw("a"))[0].metadata.internal
        self.assertEqual(old.keys(), new.keys())
        self.assertEqual(sum(old[name] != new[name] for name in old), 2)
        self.assertEqual(await self.get("a", store=self.process()), DATA[:100])

    async def test_new_version_of_a_key(self) -> None:
        """
        When a master key has another version under the same name, all can be sealed with that,
        and the earlier version is needed no more.
        """
        await self.prepare()
        await self.fill()
        self.kms = VersionedKMS(keys={"my-key": fresh_key()}, earlier=self.kms.keys["my-key"])
        self.store, self.rewrapping = self.process(), self.rewrapper()
        self.rotation = Rotation(self.store, self.rewrapping, InlineLane())
        self.assertEqual((await self.run_pages(Plan("my-key"))).changed, 0)
        self.assertEqual((await self.run_pages(Plan("my-key", again=True))).changed, 4)
        await self.rewrapping.rewrap_bucket("b", "my-key")
        self.kms.earlier = None
        for key in "abcd":
            self.assertEqual(await self.get(key, store=self.process()), DATA[:100])

    async def test_source(self) -> None:
        """
        Only what is under one master key may be meant.
        """
        await self.prepare()
        await self.kms.create_key("third")
        await self.put("a", encryption=EncryptionRequest("aws:kms", "third"))
        await self.put("b", encryption=KMS)
        page = await self.run_pages(Plan("new-key", "third"))
        self.assertEqual((page.seen, page.changed), (2, 1))
        told = [await self.store.head("b", key) for key in ("a", "b")]
        named = [info.metadata.sealing.key_id for info in told if info.metadata.sealing]
        self.assertEqual(named, ["arn:aws:kms:new-key", "arn:aws:kms:my-key"])

    async def test_kinds(self) -> None:
        """
        The kind of encryption may change, or what keys are bound to.
        """
        await self.prepare()
        await self.fill()
        for plan, changed, kind, context in (
            (Plan("my-key", algorithm="aws:kms"), 1, "aws:kms", None),
            (Plan("my-key", algorithm="aws:kms", context={"x": "y"}), 4, "aws:kms", {"x": "y"}),
            (Plan("my-key", algorithm="AES256"), 4, "AES256", {}),
            (Plan("my-key"), 0, "AES256", {}),
        ):
            self.assertEqual((await self.run_pages(plan)).changed, changed)
            self.assertEqual((await self.run_pages(plan)).changed, 0)
            for key in "abcd":
                sealing = (await self.store.head("b", key)).metadata.sealing
                assert sealing is not None
                self.assertEqual(sealing.algorithm, kind)
                if context is not None:
                    self.assertEqual(sealing.context, context)
                self.assertEqual(await self.get(key, store=self.process()), DATA[:100])

    async def test_plain(self) -> None:
        """
        What is not encrypted is written again if that is asked for, with all that is known of it;
        otherwise it is counted.
        """
        await self.prepare()
        old = await self.put_plain("k", DATA)
        page = await self.run_pages(TO_NEW)
        self.assertEqual((page.changed, page.plain), (0, 1))
        self.assertEqual(await self.store.head("b", "k"), old)
        plan = evolve(TO_NEW, plain=True)
        dry = await self.run_pages(plan, dry=True)
        page = await self.run_pages(plan)
        self.assertEqual(page, dry)
        self.assertEqual((page.changed, page.encrypted, page.plain), (1, 1, 0))
        new = await self.store.head("b", "k")
        assert new.metadata.sealing is not None
        self.assertEqual(new.metadata.sealing.key_id, "new-key")
        self.assertEqual(evolve(new.metadata, sealing=None), old.metadata)
        self.assertNotIn(DATA[:100], (await self.raw("k"))[1])
        self.assertEqual(await self.get("k"), DATA)

    async def test_plain_parts(self) -> None:
        """
        What was uploaded in parts becomes one piece, with the ETag and the checksums of that.
        """
        await self.prepare()
        began = await self.upload({1: DATA, 2: b"end"}, None, checksum="crc32")
        await self.complete(began, (1, 2))
        await self.run_pages(evolve(TO_NEW, plain=True))
        info = await self.store.head("b", "k")
        self.assertEqual(info.parts, ())
        self.assertEqual(info.etag, md5(DATA + b"end").hexdigest())
        checksum = encode(crc32(DATA + b"end").to_bytes(4, "big"))
        self.assertEqual(info.metadata.checksums, {"crc32": checksum})
        self.assertEqual(await self.get("k"), DATA + b"end")

    async def test_plain_with_a_quota(self) -> None:
        """
        Under a quota what is written again needs room for one object beside those that there are,
        not for several; without that it is told, and stays.
        """
        await self.prepare()
        contents = {f"{number}": os.urandom(100_000) for number in range(5)}
        clock = Clock()
        clock.advance(1_700_000_000)
        self.below = LimitedStore(MemoryIndex(), MemoryBlobs(), clock, os.urandom)
        self.store, self.rewrapping = self.process(), self.rewrapper()
        self.rotation = Rotation(self.store, self.rewrapping, InlineLane())
        await self.store.create_bucket("b", {})
        for key, content in contents.items():
            await self.put_plain(key, content)
        plan = evolve(TO_NEW, plain=True)
        for room, failed in ((99_000, 5), (110_000, 0)):
            quota = Quota(500_000 + room, 1).to_bytes()
            await self.store.change_bucket("b", lambda old, new=quota: {**old, QUOTA: new})
            page = await self.run_pages(plan, limit=1000)
            self.assertEqual((page.seen, page.encrypted), (5, 5 - failed))
            self.assertEqual(len(page.troubles), failed)
            for trouble in page.troubles:
                self.assertIn("the quota of the bucket b leaves no room", str(trouble.error))
        for key, content in contents.items():
            self.assertEqual(await self.get(key, store=self.process()), content)

    async def test_plain_damaged(self) -> None:
        """
        What is not what it was is not made to look sound.
        """
        await self.prepare()
        await self.put("k", DATA, None)
        page = await self.run_pages(evolve(TO_NEW, plain=True))
        (trouble,) = page.troubles
        self.assertEqual((page.changed, type(trouble.error)), (0, Damaged))
        self.assertIsNone((await self.store.head("b", "k")).metadata.sealing)

    async def test_opaque(self) -> None:
        """
        The ETag stays, also that of SSE-KMS, which says nothing of the content; that is marked
        where it would be taken for one that does.
        """
        await self.prepare()
        for key, kind in (("kms", KMS), ("s3", SSE_S3)):
            await self.put(key, DATA, kind)
        await self.run_pages(Plan("new-key", algorithm="AES256"))
        await self.run_pages(Plan("my-key"))
        opaque = []
        for key in ("kms", "s3"):
            sealing = (await self.process().head("b", key)).metadata.sealing
            assert sealing is not None
            opaque.append(sealing.opaque)
        self.assertEqual(opaque, [True, False])

    async def test_plain_versions(self) -> None:
        """
        Where there are versions the current one is written again as a new one; what lies below
        stays, and is told.
        """
        await self.prepare()
        await self.version()
        for content in (b"old", b"new"):
            await self.put_plain("k", content)
        plan = evolve(TO_NEW, plain=True, algorithm="aws:kms")
        page = await self.run_pages(plan, limit=1)
        self.assertEqual((page.changed, page.encrypted, page.plain), (1, 1, 2))
        listed = (await self.store.list_versions("b", VersionQuery())).versions
        kinds = [each.info.metadata.sealing is not None for each in listed]
        self.assertEqual(kinds, [True, False, False])
        page = await self.run_pages(plan)
        self.assertEqual((page.changed, page.plain), (0, 2))
        self.assertEqual(await self.get("k"), b"new")

    async def test_locked(self) -> None:
        """
        Versions that are locked get other keys, too, as nothing of what is locked changes; what is
        written again keeps its lock.
        """
        await self.prepare()
        await self.version()
        lock = Lock("COMPLIANCE", 2**62, hold=True)

        def locked(info: ObjectInfo) -> ObjectMetadata:
            """
            Lock a version.
            """
            return evolve(info.metadata, lock=lock)

        await self.put("kms", DATA)
        await self.put_plain("plain", DATA)
        for key in ("kms", "plain"):
            await self.store.change_version("b", key, "", locked)
        page = await self.run_pages(evolve(TO_NEW, plain=True))
        self.assertEqual((page.changed, page.plain, page.troubles), (2, 1, []))
        store = await self.retire()
        for key in ("kms", "plain"):
            self.assertEqual((await store.head("b", key)).metadata.lock, lock)
            self.assertEqual(await self.get(key, store=store), DATA)

    async def test_troubles(self) -> None:
        """
        What cannot be opened is told and left; the others go on.
        """
        await self.prepare()
        for key in "abc":
            await self.put(key)
        other, data = await self.raw("c")
        await self.plant("b", data, other.metadata)
        page = await self.run_pages(TO_NEW)
        self.assertEqual((page.seen, page.changed), (3, 2))
        (trouble,) = page.troubles
        self.assertEqual((trouble.key, type(trouble.error)), ("b", NotAuthentic))

    async def test_for_all(self) -> None:
        """
        What concerns all ends it: the new key is not there, or the key service.
        """
        await self.prepare()
        await self.put("a")
        with self.assertRaises(KeyNotFound):
            await self.run_pages(Plan("absent"))
        self.kms.down = True
        with self.assertRaises(KMSUnavailable):
            await self.run_pages(TO_NEW)
        self.kms.down = False
        self.assertEqual((await self.run_pages(TO_NEW)).changed, 1)

    async def test_old_key_lost(self) -> None:
        """
        Objects whose master key is gone are told one by one.
        """
        await self.prepare()
        await self.put("a", encryption=EncryptionRequest("aws:kms", "new-key"))
        await self.put("b")
        del self.kms.keys["new-key"]
        await self.kms.create_key("third")
        self.store = self.process()
        self.rewrapping = self.rewrapper()
        self.rotation = Rotation(self.store, self.rewrapping, InlineLane())
        page = await self.run_pages(Plan("third"))
        self.assertEqual((page.changed, [one.key for one in page.troubles]), (1, ["a"]))

    async def test_uploads(self) -> None:
        """
        Unfinished uploads move like objects, page by page; those with keys of their clients and
        those in clear are counted.  Then they are completed without the old key.
        """
        await self.prepare()
        began = {}
        for key, kind in (("a", KMS), ("b", _SHARED), ("c", SSE_S3), ("d", CUSTOMER), ("e", None)):
            began[key] = await self.upload({1: DATA}, kind, key)
        await self.upload({1: DATA}, EncryptionRequest("aws:kms", "new-key"), "new")
        for dry in (True, False):
            page = await self.run_uploads(TO_NEW, dry=dry)
            self.assertEqual((page.seen, page.changed, page.troubles), (6, 3, []))
            self.assertEqual((page.customers, page.plain), (1, 1))
        self.assertEqual((await self.run_uploads(TO_NEW)).changed, 0)
        store = await self.retire()
        for key, upload in began.items():
            brought = CUSTOMER_KEY if key == "d" else None
            await self.part(upload, 2, b"end", brought, store)
            await self.complete(upload, (1, 2), brought, store)
            content = await self.get(key, store=self.process(), customer_key=brought)
            self.assertEqual(content, DATA + b"end")
        self.assertEqual((await self.run_pages(TO_NEW)).changed, 0)

    async def test_uploads_troubles(self) -> None:
        """
        An upload that cannot be opened is told by its id and left; the others go on.
        """
        await self.prepare()
        upload = await self.upload({}, KMS, "a")
        await self.upload({}, KMS, "b")
        await self.below.change_upload(
            "b", "a", upload.upload_id, lambda info: evolve(info.metadata, sealed=b"x")
        )
        page = await self.run_uploads(TO_NEW)
        self.assertEqual((page.seen, page.changed), (2, 1))
        (trouble,) = page.troubles
        self.assertEqual((trouble.key, trouble.id), ("a", upload.upload_id))
        self.assertIsInstance(trouble.error, NotAuthentic)

    async def test_completed_between(self) -> None:
        """
        An upload that is completed after its page was read and before it is changed is an object
        for the versions, which come later.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, KMS)
        stored = self.store.uploads

        async def listed(bucket: str, query: UploadQuery) -> UploadListing:
            """
            Complete it as soon as it was listed.
            """
            listing = await stored(bucket, query)
            await self.complete(upload, (1,))
            return listing

        rotation = Rotation(Listing(self.store, listed), self.rewrapping, InlineLane())
        page = await rotation.uploads("b", UploadQuery(), TO_NEW, dry=False)
        self.assertEqual((page.seen, page.changed, page.troubles), (1, 0, []))
        self.assertEqual((await self.run_pages(TO_NEW)).changed, 1)
        self.assertEqual(await self.get("k", store=await self.retire()), DATA)

    async def test_renewed_in_all(self) -> None:
        """
        When new data keys were asked for, no process that writes afterwards uses one that objects
        shared before, whichever did the work.
        """
        await self.prepare()
        others = [self.process() for _ in range(2)]
        for number, other in enumerate(others):
            await self.put(f"{number}", store=other)
        before = {await self.sealed(f"{number}") for number in range(2)}
        await self.run_uploads(evolve(TO_NEW, again=True))
        for number, other in enumerate(others):
            await self.put(f"{number}", store=other)
            began = await other.create_upload("b", "k", PLANNED, "", _SHARED)
            made = (await self.below.upload("b", "k", began.upload_id)).metadata.internal
            self.assertNotIn(made[_DATA_KEY], before)
        after = {await self.sealed(f"{number}") for number in range(2)}
        self.assertEqual((len(after), after & before), (2, set()))
        # Nothing is renewed for those who only look.
        await self.run_pages(evolve(TO_NEW, again=True), dry=True)
        await self.put("2", store=others[0])
        self.assertIn(await self.sealed("2"), after)

    async def sealed(self, key: str) -> str:
        """
        The data key of an object, as it is sealed.
        """
        return (await self.raw(key))[0].metadata.internal[_DATA_KEY]

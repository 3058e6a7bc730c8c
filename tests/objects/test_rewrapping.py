# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.objects.rewrapping``.
"""

import os
from collections.abc import Callable
from typing import Any

from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kypello.errors import (
    KeyNotFound,
    KMSUnavailable,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    NotAuthentic,
    Refused,
    StorageFailed,
)
from kypello.interfaces import IBodySource, IRewrapping
from kypello.model import (
    SSE_C,
    Buffer,
    EncryptionRequest,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    UploadInfo,
    VersionQuery,
)
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.rewrapping import Rewrapping
from kypello.versioning import SETTING, Versioning
from tests.cases import SyncCase
from tests.objects.case import (
    CUSTOMER,
    CUSTOMER_KEY,
    DATA,
    KMS,
    OTHER_KEY,
    SSE_S3,
    EncryptedCase,
    part_metadata,
)

TO_S3 = EncryptionRequest("AES256", "new-key", bucket_key=True)
TO_KMS = EncryptionRequest("aws:kms", "new-key")
TO_SHARED = EncryptionRequest("aws:kms", "arn:aws:kms:new-key", bucket_key=True)
TO_CONTEXT = EncryptionRequest("aws:kms", "new-key", {"team": "blue"})
TO_OTHER = EncryptionRequest(SSE_C, customer_key=OTHER_KEY)

#: Encryptions with keys of the KMS.
_FROM = (
    SSE_S3,
    KMS,
    EncryptionRequest("aws:kms", "alias/my-key", bucket_key=True),
    EncryptionRequest("aws:kms", context={"team": "red"}),
)
_TO = (TO_S3, TO_KMS, TO_SHARED, TO_CONTEXT)


@implementer(IBodySource)
@define(eq=False)
class WaitingSource:
    """
    A body whose last block is awaited.
    """

    _blocks: list[bytes]
    _rest: "Deferred[bytes]"
    size: int | None = None

    async def read(self) -> Buffer:
        """
        Give the next block.
        """
        if self._blocks:
            return self._blocks.pop(0)
        rest, self._rest = self._rest, succeed(b"")
        return await rest

    def close(self) -> None:
        """
        There is nothing to release.
        """


def always(
    wanted: EncryptionRequest | None,
) -> Callable[[ObjectInfo | UploadInfo], EncryptionRequest | None]:
    """
    A choice that looks at nothing.
    """
    return lambda _info: wanted


class RewrappingCase(EncryptedCase):
    """
    A test of rewrapping, with a second master key ``new-key``.
    """

    async def prepare(self) -> None:
        """
        Make the bucket, and the keys.
        """
        await super().prepare()
        await self.kms.create_key("new-key")
        self.rewrapping = self.rewrapper()

    def rewrapper(self) -> Rewrapping:
        """
        What a process that starts rewraps with.
        """
        return Rewrapping(self.below, DataKeys(self.kms, self.clock), os.urandom)

    async def retire(self, name: str = "my-key") -> EncryptedStore:
        """
        Remove a master key for good; give a process that has opened nothing before.
        """
        await self.rewrapping.rewrap_bucket("b", "new-key")
        del self.kms.keys[name]
        return self.process()

    async def change_below(self, change: Any) -> None:
        """
        Change settings of the bucket below the encryption.
        """
        await self.below.change_bucket("b", change)


class RewrappingTests(RewrappingCase):
    """
    Keys of objects that are sealed anew.
    """

    async def test_interface(self) -> None:
        """
        It provides what it says.
        """
        await self.prepare()
        verifyObject(IRewrapping, self.rewrapping)

    async def test_every_kind(self) -> None:
        """
        From every encryption with a key of the KMS to every other: the content is the same byte
        for byte below, and all that is known of the object is the same but for its encryption;
        without the old master key it is read by a process that never saw it before.
        """
        await self.prepare()
        stored = {}
        for one, before in enumerate(_FROM):
            for two, after in enumerate(_TO):
                key = f"k{one}{two}"
                old = await self.put(key, DATA[:1000], before)
                below, content = await self.raw(key)
                new = await self.rewrapping.rewrap("b", key, "", always(after))
                stored[key] = new
                self.assertEqual(
                    evolve(new, metadata=evolve(new.metadata, sealing=None)),
                    evolve(old, metadata=evolve(old.metadata, sealing=None)),
                )
                sealing = new.metadata.sealing
                assert sealing is not None
                self.assertEqual(sealing.algorithm, after.algorithm)
                self.assertEqual((sealing.key_id, sealing.context), (after.key_id, after.context))
                self.assertEqual(sealing.bucket_key, bool(after is TO_SHARED))
                changed, same = await self.raw(key)
                self.assertEqual((same, changed.modified), (content, below.modified))
        store = await self.retire()
        for key, info in stored.items():
            self.assertEqual(await store.head("b", key), info)
            self.assertEqual(await self.get(key, store=store), DATA[:1000])
        listing = await store.list("b", ListQuery())
        self.assertEqual({info.key: info for info in listing.objects}, stored)

    async def test_parts(self) -> None:
        """
        An object in parts stays whole, with its parts, whatever its encryption becomes.
        """
        await self.prepare()
        parts = {1: DATA, 3: b"end"}
        for number, after in enumerate(_TO):
            key = f"k{number}"
            began = await self.upload(parts, _FROM[number], key, checksum="crc32")
            await self.complete(began, (1, 3))
            old = await self.store.head("b", key)
            await self.rewrapping.rewrap("b", key, "", always(after))
            new = await self.process().head("b", key)
            self.assertEqual((new.parts, new.size, new.etag), (old.parts, old.size, old.etag))
            self.assertEqual(new.metadata.checksums, old.metadata.checksums)
        store = await self.retire()
        for number in range(len(_TO)):
            self.assertEqual(await self.get(f"k{number}", store=store), DATA + b"end")

    async def test_empty_object(self) -> None:
        """
        An object without content has a key all the same.
        """
        await self.prepare()
        await self.put("k", b"")
        await self.rewrapping.rewrap("b", "k", "", always(TO_KMS))
        store = await self.retire()
        self.assertEqual(await self.get("k", store=store), b"")

    async def test_versions(self) -> None:
        """
        Each version has a key of its own, and the others stay as they are.
        """
        await self.prepare()
        setting = Versioning("Enabled").to_bytes()
        await self.store.change_bucket("b", lambda settings: {**settings, SETTING: setting})
        old, new = await self.put("k", b"old"), await self.put("k", b"new", KMS)
        rewrapped = await self.rewrapping.rewrap("b", "k", old.version_id, always(TO_KMS))
        self.assertEqual(rewrapped.version_id, old.version_id)
        listing = await self.store.list_versions("b", VersionQuery())
        self.assertEqual([each.info for each in listing.versions], [new, rewrapped])
        with self.assertRaises(NoSuchVersion):
            await self.rewrapping.rewrap("b", "k", "0" * 32, always(TO_KMS))
        with self.assertRaises(NoSuchKey):
            await self.rewrapping.rewrap("b", "absent", "", always(TO_KMS))

    async def test_left(self) -> None:
        """
        What is chosen to stay does, without a call of the KMS.
        """
        await self.prepare()
        stored = await self.put("k")
        await self.rewrapping.rewrap("b", "k", "", always(None))
        before, calls = (await self.raw("k"))[0], len(self.kms.calls)
        self.assertEqual(await self.rewrapping.rewrap("b", "k", "", always(None)), stored)
        self.assertEqual(((await self.raw("k"))[0], len(self.kms.calls)), (before, calls))

    async def test_customer_key(self) -> None:
        """
        A client exchanges its key for another one: the old one opens nothing any more, and
        objects, also in parts, and completed without the key, are as they were.
        """
        await self.prepare()
        await self.put("k", DATA, CUSTOMER)
        for key, brought in (("parts", CUSTOMER_KEY), ("carried", None)):
            began = await self.upload({1: DATA, 2: b"end"}, CUSTOMER, key)
            await self.complete(began, (1, 2), brought)
        for key, data in (("k", DATA), ("parts", DATA + b"end"), ("carried", DATA + b"end")):
            old = await self.store.head("b", key, CUSTOMER_KEY)
            await self.rewrapping.rewrap("b", key, "", always(TO_OTHER), CUSTOMER_KEY)
            new = await self.store.head("b", key, OTHER_KEY)
            self.assertEqual((new.etag, new.parts, new.size), (old.etag, old.parts, old.size))
            self.assertEqual(await self.get(key, customer_key=OTHER_KEY), data)
            with self.assertRaises(Refused) as caught:
                await self.get(key, customer_key=CUSTOMER_KEY)
            self.assertEqual(caught.exception.code, "AccessDenied")

    async def test_wrong_customer_key(self) -> None:
        """
        Who does not know the key of a client cannot exchange it.
        """
        await self.prepare()
        await self.put("k", b"data", CUSTOMER)
        for brought, code in ((OTHER_KEY, "AccessDenied"), (None, "InvalidRequest")):
            with self.assertRaises(Refused) as caught:
                await self.rewrapping.rewrap("b", "k", "", always(TO_OTHER), brought)
            self.assertEqual(caught.exception.code, code)
        self.assertEqual(await self.get("k", customer_key=CUSTOMER_KEY), b"data")

    async def test_other_keeper(self) -> None:
        """
        What has no key, or one that somebody else keeps, is refused and stays as it is.
        """
        await self.prepare()
        await self.put("plain", encryption=None)
        await self.put("customer", encryption=CUSTOMER)
        await self.put("kms")
        for key, wanted, brought in (
            ("plain", TO_KMS, None),
            ("plain", TO_OTHER, None),
            ("customer", TO_KMS, None),
            ("customer", TO_S3, CUSTOMER_KEY),
            ("kms", TO_OTHER, None),
        ):
            before = await self.raw(key)
            with self.assertRaises(Refused) as caught:
                await self.rewrapping.rewrap("b", key, "", always(wanted), brought)
            self.assertEqual(caught.exception.code, "InvalidRequest")
            self.assertEqual(await self.raw(key), before)

    async def test_tampered(self) -> None:
        """
        What is not what was written is not sealed anew.
        """
        await self.prepare()
        for key in ("k", "other"):
            await self.put(key)
        other, data = await self.raw("other")
        await self.plant("k", data, other.metadata)
        with self.assertRaises(NotAuthentic):
            await self.rewrapping.rewrap("b", "k", "", always(TO_KMS))

    async def test_no_key(self) -> None:
        """
        Without the old key, the new key or the key service nothing changes.
        """
        await self.prepare()
        await self.put("k")
        before = await self.raw("k")
        absent = EncryptionRequest("aws:kms", "absent")
        with self.assertRaises(KeyNotFound):
            await self.rewrapping.rewrap("b", "k", "", always(absent))
        kept = self.kms.keys.pop("my-key")
        with self.assertRaises(KeyNotFound):
            await self.rewrapper().rewrap("b", "k", "", always(TO_KMS))
        self.kms.keys["my-key"], self.kms.down = kept, True
        with self.assertRaises(KMSUnavailable):
            await self.rewrapper().rewrap("b", "k", "", always(TO_KMS))
        self.assertEqual(await self.raw("k"), before)

    async def test_tags_changed_meanwhile(self) -> None:
        """
        Tags that are set while the key service is asked are there afterwards.
        """
        await self.prepare()
        await self.put("k")
        await self.rewrapping.rewrap("b", "k", "", always(None))
        self.kms.pause = pause = Deferred()
        waiting = Deferred.fromCoroutine(self.rewrapping.rewrap("b", "k", "", always(TO_CONTEXT)))
        self.assertFalse(waiting.called)

        def tagged(info: ObjectInfo) -> ObjectMetadata:
            """
            Set a tag.
            """
            return evolve(info.metadata, tags={"late": "yes"})

        await self.store.change_version("b", "k", "", tagged)
        self.kms.pause = None
        pause.callback(None)
        info = await waiting
        self.assertEqual(info.metadata.tags, {"late": "yes"})
        self.assertEqual(await self.process().head("b", "k"), info)
        self.assertEqual(await self.get("k", store=self.process()), b"data")

    async def test_replaced_meanwhile(self) -> None:
        """
        An object that is written while the key service is asked has its own key sealed anew, and
        what was sealed of the one before it is dropped.
        """
        await self.prepare()
        await self.put("k", b"old")
        await self.rewrapping.rewrap("b", "k", "", always(None))
        self.kms.pause = pause = Deferred()
        waiting = Deferred.fromCoroutine(self.rewrapping.rewrap("b", "k", "", always(TO_CONTEXT)))
        self.kms.pause = None
        await self.put("k", b"new")
        pause.callback(None)
        await waiting
        self.assertEqual(await self.get("k", store=await self.retire()), b"new")

    async def test_restless(self) -> None:
        """
        It gives up when what is wanted never stays the same.
        """
        await self.prepare()
        await self.put("k")
        wanted = [TO_KMS, TO_S3]

        def choose(_info: ObjectInfo) -> EncryptionRequest:
            """
            Want something else each time.
            """
            wanted.reverse()
            return wanted[0]

        with self.assertRaises(StorageFailed):
            await self.rewrapping.rewrap("b", "k", "", choose)
        self.assertEqual(await self.get("k"), b"data")

    async def test_new_data_keys(self) -> None:
        """
        Objects share a data key, until new ones are asked for.
        """
        await self.prepare()
        for key in ("a", "b", "c"):
            await self.put(key)
        made = []
        for key in ("a", "b", "c"):
            if key == "c":
                await self.rewrapping.renew("b")
            await self.rewrapping.rewrap("b", key, "", always(TO_S3))
            entries = (await self.raw(key))[0].metadata.internal
            made.append(next(value for name, value in entries.items() if "S3-Kms-S" in name))
        self.assertEqual(made[0], made[1])
        self.assertNotEqual(made[1], made[2])
        self.assertEqual(await self.get("c", store=self.process()), b"data")


class UploadTests(RewrappingCase):
    """
    Keys of unfinished uploads that are sealed anew.
    """

    async def test_every_kind(self) -> None:
        """
        From every encryption with a key of the KMS to every other: what is known of the upload is
        the same but for its encryption, its parts are as they were, further ones come, and without
        the old master key the object is made of all of them by a process that never saw it.
        """
        await self.prepare()
        began = {}
        for one, before in enumerate(_FROM):
            for two, after in enumerate(_TO):
                key = f"k{one}{two}"
                upload = began[key] = await self.upload({1: DATA}, before, key, checksum="crc32")
                where = "b", key, upload.upload_id
                parts = await self.store.parts(*where, 0, 10)
                new = await self.rewrapping.rewrap_upload(*where, always(after))
                sealing = new.metadata.sealing
                assert sealing is not None
                self.assertEqual(
                    (sealing.algorithm, sealing.key_id, sealing.context, sealing.bucket_key),
                    (after.algorithm, after.key_id, after.context, after is TO_SHARED),
                )
                self.assertEqual(
                    evolve(new, metadata=evolve(new.metadata, sealing=None)),
                    evolve(upload, metadata=evolve(upload.metadata, sealing=None)),
                )
                process = self.process()
                self.assertEqual(await process.upload(*where), new)
                self.assertEqual(await process.parts(*where, 0, 10), parts)
        store = await self.retire()
        for key, upload in began.items():
            await self.part(upload, 2, b"end", store=store)
            made = await self.complete(upload, (1, 2), store=store)
            self.assertEqual([part.size for part in made.parts], [len(DATA), 3])
            self.assertEqual(await self.get(key, store=self.process()), DATA + b"end")

    async def test_while_a_part_comes(self) -> None:
        """
        A part that is being sent while the key of its upload is sealed anew belongs to it.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, KMS)
        rest = Deferred[bytes]()
        body = WaitingSource([b"first"], rest)
        sending = Deferred.fromCoroutine(
            self.store.put_part(
                "b", "k", upload.upload_id, 2, body, lambda size: part_metadata(b"firstlast", size)
            )
        )
        self.assertFalse(sending.called)
        await self.rewrapping.rewrap_upload("b", "k", upload.upload_id, always(TO_S3))
        rest.callback(b"last")
        await sending
        store = await self.retire()
        await self.complete(upload, (1, 2), store=store)
        self.assertEqual(await self.get("k", store=self.process()), DATA + b"firstlast")

    async def test_completed_meanwhile(self) -> None:
        """
        An upload that is completed while the key service is asked is complete, and gone.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, SSE_S3)
        await self.rewrapping.rewrap_upload("b", "k", upload.upload_id, always(None))
        self.kms.pause = pause = Deferred()
        rewrapping = self.rewrapping.rewrap_upload("b", "k", upload.upload_id, always(TO_CONTEXT))
        waiting = Deferred.fromCoroutine(rewrapping)
        self.assertFalse(waiting.called)
        self.kms.pause = None
        await self.complete(upload, (1,))
        pause.callback(None)
        with self.assertRaises(NoSuchUpload):
            await waiting
        self.assertEqual(await self.get("k", store=self.process()), DATA)

    async def test_changed_meanwhile(self) -> None:
        """
        Two that seal one upload anew at once: the keys fit together, whoever is last.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, SSE_S3)
        where = "b", "k", upload.upload_id
        await self.rewrapping.rewrap_upload(*where, always(None))
        self.kms.pause = pause = Deferred()
        waiting = Deferred.fromCoroutine(self.rewrapping.rewrap_upload(*where, always(TO_CONTEXT)))
        self.kms.pause = None
        await self.rewrapper().rewrap_upload(*where, always(TO_KMS))
        pause.callback(None)
        sealing = (await waiting).metadata.sealing
        assert sealing is not None
        self.assertEqual(sealing.context, TO_CONTEXT.context)
        store = await self.retire()
        await self.complete(upload, (1,), store=store)
        self.assertEqual(await self.get("k", store=self.process()), DATA)

    async def test_left(self) -> None:
        """
        What is chosen to stay does, and so does what has no key that could be sealed so.
        """
        await self.prepare()
        for number, (kind, shown) in enumerate(((KMS, None), (CUSTOMER, SSE_C), (None, None))):
            upload = await self.upload({1: DATA}, kind, f"k{number}")
            where = "b", upload.key, upload.upload_id
            before = await self.below.upload(*where)
            told = await self.rewrapping.rewrap_upload(*where, always(None))
            if shown is not None:
                assert told.metadata.sealing is not None
                self.assertEqual(told.metadata.sealing.algorithm, shown)
            if kind is not KMS:
                with self.assertRaises(Refused) as caught:
                    await self.rewrapping.rewrap_upload(*where, always(TO_KMS))
                self.assertEqual(caught.exception.code, "InvalidRequest")
            self.assertEqual(await self.below.upload(*where), before)

    async def test_tampered(self) -> None:
        """
        An upload whose keys are those of another is not sealed anew.
        """
        await self.prepare()
        upload, other = await self.upload({1: DATA}, KMS), await self.upload({}, KMS, "other")
        theirs = (await self.below.upload("b", "other", other.upload_id)).metadata
        await self.below.change_upload("b", "k", upload.upload_id, lambda _: theirs)
        with self.assertRaises(NotAuthentic):
            await self.rewrapping.rewrap_upload("b", "k", upload.upload_id, always(TO_KMS))

    async def test_opaque(self) -> None:
        """
        The parts of an upload that had random ETags make an object whose ETag is marked.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, KMS)
        await self.rewrapping.rewrap_upload("b", "k", upload.upload_id, always(TO_S3))
        await self.part(upload, 2, b"end")
        made = await self.complete(upload, (1, 2))
        assert made.metadata.sealing is not None
        self.assertTrue(made.metadata.sealing.opaque)


class BucketKeyTests(RewrappingCase):
    """
    Metadata keys of buckets that are sealed anew.
    """

    async def test_again_and_again(self) -> None:
        """
        However often the master key changes, the metadata key is the same.
        """
        await self.prepare()
        stored = await self.put("k", encryption=CUSTOMER)
        self.assertEqual(await self.rewrapping.master_key("b"), "")
        await self.rewrapping.rewrap_bucket("b", "new-key")
        self.assertEqual(await self.rewrapping.master_key("b"), "")
        stored = await self.put("k")
        for name in ("new-key", "third", "third", "my-key"):
            if name not in self.kms.keys:
                await self.kms.create_key(name)
            await self.rewrapping.rewrap_bucket("b", name)
            self.assertEqual(await self.rewrapping.master_key("b"), name)
            self.assertEqual(await self.process().head("b", "k"), stored)
            self.assertEqual(await self.store.head("b", "k"), stored)

    async def test_set_meanwhile(self) -> None:
        """
        Settings that change while the key service is asked are there afterwards.
        """
        await self.prepare()
        stored = await self.put("k")
        self.kms.pause = pause = Deferred()
        waiting = Deferred.fromCoroutine(self.rewrapper().rewrap_bucket("b", "new-key"))
        await self.store.change_bucket("b", lambda settings: {**settings, "x": b"y"})
        self.kms.pause = None
        pause.callback(None)
        await waiting
        self.assertEqual((await self.store.bucket("b")).settings["x"], b"y")
        self.assertEqual(await self.rewrapping.master_key("b"), "new-key")
        self.assertEqual(await self.process().head("b", "k"), stored)

    async def test_other_bucket_of_the_name(self) -> None:
        """
        A bucket that is made anew meanwhile keeps its own key.
        """
        await self.prepare()
        await self.put("k")
        self.kms.pause = pause = Deferred()
        waiting = Deferred.fromCoroutine(self.rewrapper().rewrap_bucket("b", "new-key"))
        self.kms.pause = None
        await self.store.delete("b", "k")
        await self.store.delete_bucket("b")
        await self.store.create_bucket("b", {})
        stored = await self.put("k")
        pause.callback(None)
        await waiting
        self.assertEqual(await self.process().head("b", "k"), stored)

    async def test_swapped(self) -> None:
        """
        What was wrapped for one bucket opens in no other.
        """
        await self.prepare()
        await self.store.create_bucket("c", {})
        for bucket in ("b", "c"):
            await self.put("k", bucket=bucket)
            await self.rewrapping.rewrap_bucket(bucket, "new-key")
        other = (await self.below.bucket("c")).settings
        await self.change_below(
            lambda settings: {**settings, "metadata-key": other["metadata-key"]}
        )
        with self.assertRaises(NotAuthentic):
            await self.process().head("b", "k")


class PropertyTests(SyncCase):
    """
    Rewrapping in any order.
    """

    @settings(max_examples=25, deadline=None)
    @given(
        st.sampled_from(_FROM),
        st.lists(st.sampled_from((*_TO, *_FROM[1:], "tags", "bucket")), max_size=6),
        st.booleans(),
    )
    def test_any_order(self, first: EncryptionRequest, steps: list[Any], parts: bool) -> None:
        """
        Whatever is done, and however often: content, ETag and checksums stay, and the last
        encryption and the last tags count.
        """
        case = RewrappingCase()

        async def work() -> None:
            """
            Do it.
            """
            await case.prepare()
            if parts:
                await case.complete(await case.upload({1: DATA[:70_000]}, first), (1,))
            else:
                await case.put("k", DATA[:70_000], first)
            old = await case.store.head("b", "k")
            algorithm, tags = first.algorithm, old.metadata.tags
            for number, step in enumerate(steps):
                if step == "tags":
                    tags = {"number": str(number)}
                    changed = evolve(old.metadata, tags=tags)
                    await case.store.change_version("b", "k", "", lambda _, new=changed: new)
                elif step == "bucket":
                    await case.rewrapping.rewrap_bucket("b", ("my-key", "new-key")[number % 2])
                else:
                    algorithm = step.algorithm
                    await case.rewrapping.rewrap("b", "k", "", always(step))
            store = case.process()
            new = await store.head("b", "k")
            assert new.metadata.sealing is not None
            self.assertEqual(new.metadata.sealing.algorithm, algorithm)
            metadata = evolve(old.metadata, tags=tags, sealing=new.metadata.sealing)
            self.assertEqual(new, evolve(old, metadata=metadata))
            self.assertEqual(await case.get("k", store=store), DATA[:70_000])

        self.successResultOf(Deferred.fromCoroutine(work()))

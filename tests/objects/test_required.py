# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of required encryption in the store that all writes pass.
"""

from collections.abc import Awaitable, Callable
from hashlib import md5

from attrs import define

from kypello.crypto.required import SETTING, RequiredEncryption
from kypello.errors import NoSuchKey, NoSuchUpload, Refused
from kypello.interfaces import IBodySource
from kypello.model import (
    CustomerKey,
    EncryptionRequest,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    UploadQuery,
    VersionQuery,
)
from kypello.objects.datakeys import DataKeys
from kypello.objects.rewrapping import Rewrapping
from kypello.objects.rotation import Page, Plan, Rotation
from kypello.testing.fakes import BytesSource, InlineLane
from tests.objects.case import (
    CUSTOMER,
    DATA,
    KINDS,
    KMS,
    SSE_S3,
    EncryptedCase,
    customer,
    described,
)


@define
class Meanwhile:
    """
    A body during which something happens: behind its first block.
    """

    _body: IBodySource
    _happen: Callable[[], Awaitable[object]]
    _happened: bool = False

    @property
    def size(self) -> int | None:
        """
        That of the body.
        """
        return self._body.size

    async def read(self) -> bytes:
        """
        Give the next block.
        """
        block = await self._body.read()
        if not self._happened:
            self._happened = True
            await self._happen()
        return bytes(block)

    def close(self) -> None:
        """
        Give up the body.
        """
        self._body.close()


class RequiredCase(EncryptedCase):
    """
    A test with a bucket that comes to require something.
    """

    async def require(self, *kinds: str, keys: tuple[str, ...] = ()) -> None:
        """
        Have the bucket require it, by another process.
        """
        value = RequiredEncryption(kinds, keys).to_bytes()
        await self.process().change_bucket("b", lambda old: {**old, SETTING: value})

    async def refused(self, doing: Awaitable[object]) -> None:
        """
        See that something is refused for what the bucket requires.
        """
        with self.assertRaises(Refused) as caught:
            await doing
        self.assertEqual(caught.exception.code, "AccessDenied")
        self.assertIn("requires encryption", caught.exception.message)


class WritingTests(RequiredCase):
    """
    New objects and uploads.
    """

    async def test_put(self) -> None:
        """
        Each kind is stored where it is required, and everything else is refused; nothing of it is
        there.
        """
        await self.prepare()
        for kind, accepted in zip(("sse-s3", "sse-kms", "sse-c", "dsse-kms"), KINDS, strict=True):
            await self.require(kind)
            for wanted in (None, *KINDS):
                if wanted is accepted:
                    await self.put(kind, DATA, wanted)
                    continue
                await self.refused(self.put("k", DATA, wanted))
                await self.refused(self.upload({}, wanted))
                with self.assertRaises(NoSuchKey):
                    await self.below.head("b", "k")
        self.assertEqual(len((await self.below.list("b", ListQuery())).objects), 4)
        self.assertEqual((await self.below.uploads("b", UploadQuery())).uploads, ())

    async def test_keys(self) -> None:
        """
        A master key that is not listed is refused, and the default key counts by its name.
        """
        await self.prepare()
        await self.kms.create_key("other")
        await self.require("sse-kms", keys=("my-key",))
        await self.put("k", DATA, KMS)
        await self.put("k", DATA, EncryptionRequest("aws:kms", "alias/my-key"))
        await self.refused(self.put("k", DATA, EncryptionRequest("aws:kms", "other")))
        await self.require("sse-kms", keys=("other",))
        await self.refused(self.put("k", DATA, KMS))

    async def test_without_kms(self) -> None:
        """
        Without a KMS nothing is stored in clear either.
        """
        await self.prepare()
        await self.require("sse-s3", "sse-kms", "sse-c")
        store = self.process(configured=False)
        await self.refused(self.put("k", DATA, None, store))
        await self.put("k", DATA, CUSTOMER, store)

    async def test_meanwhile(self) -> None:
        """
        A rule that comes while a body is read holds for it, small or large, in clear or encrypted.
        """
        await self.prepare()
        for data in (b"small", DATA):
            for number, wanted in enumerate((None, SSE_S3)):
                value = RequiredEncryption(("sse-c",)).to_bytes()
                await self.store.change_bucket(
                    "b", lambda old: {name: old[name] for name in old if name != SETTING}
                )
                body = Meanwhile(
                    BytesSource([data]),
                    lambda value=value: self.below.change_bucket(
                        "b", lambda old: {**old, SETTING: value}
                    ),
                )
                key = f"{len(data)}/{number}"
                await self.refused(self.store.put("b", key, body, described(data), wanted))
        self.assertEqual((await self.below.list("b", ListQuery())).objects, ())

    async def test_rule_ends(self) -> None:
        """
        What was refused is stored when nothing is required any more.
        """
        await self.prepare()
        await self.require("sse-kms")
        await self.refused(self.put("k", DATA, None))
        await self.store.change_bucket("b", lambda old: {})
        await self.put("k", DATA, None)


class UploadTests(RequiredCase):
    """
    Uploads that began before the rule.
    """

    async def test_earlier(self) -> None:
        """
        Of an upload that does not meet the rule no part is taken, and no object is made; it can be
        aborted.  One that meets it goes on.
        """
        await self.prepare()
        for wanted in (None, *KINDS):
            await self.store.change_bucket(
                "b", lambda old: {name: old[name] for name in old if name != SETTING}
            )
            upload = await self.upload({1: DATA}, wanted, "k")
            await self.require("sse-kms")
            key = customer(wanted)
            if wanted is KMS:
                await self.part(upload, 2, DATA, key)
                await self.complete(upload, [1, 2], key)
                continue
            await self.refused(self.part(upload, 2, DATA, key))
            await self.refused(self.complete(upload, [1], key))
            await self.store.abort_upload("b", "k", upload.upload_id)
            with self.assertRaises(NoSuchUpload):
                await self.complete(upload, [1], key)

    async def test_keys(self) -> None:
        """
        An upload has the master key that it began with.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, KMS)
        await self.require("sse-kms", keys=("other",))
        await self.refused(self.complete(upload, [1]))
        await self.require("sse-kms", keys=("other", "my-key"))
        await self.complete(upload, [1])

    async def test_repeated(self) -> None:
        """
        The end of an upload that was made before the rule is answered again.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, None)
        made = await self.complete(upload, [1])
        await self.require("sse-s3")
        self.assertEqual((await self.complete(upload, [1])).etag, made.etag)


class RewrappingTests(RequiredCase):
    """
    Other keys for what is there.
    """

    async def prepare(self) -> None:
        """
        Store an object of each kind, and one in clear.
        """
        await super().prepare()
        await self.kms.create_key("other")
        for wanted, key in ((SSE_S3, "s3"), (KMS, "kms"), (CUSTOMER, "c")):
            await self.put(key, DATA, wanted)
        known = ObjectMetadata(md5(DATA).hexdigest())
        await self.store.put("b", "plain", BytesSource([DATA]), lambda _size: known)
        self.rewrapping = Rewrapping(self.below, DataKeys(self.kms, self.clock), self.random)

    def random(self, size: int) -> bytes:
        """
        Bytes that nobody has to guess here.
        """
        return bytes(size)

    async def rewrap(
        self, key: str, wanted: EncryptionRequest, customer_key: CustomerKey | None = None
    ) -> ObjectInfo:
        """
        Give an object another key.
        """
        return await self.rewrapping.rewrap("b", key, "", lambda _: wanted, customer_key)

    async def test_rewrap(self) -> None:
        """
        A key is sealed anew only if the bucket accepts what comes of it.
        """
        await self.prepare()
        await self.require("sse-kms", keys=("other",))
        await self.refused(self.rewrap("s3", SSE_S3))
        await self.refused(self.rewrap("kms", KMS))
        new = EncryptionRequest("aws:kms", "other")
        for key in ("s3", "kms"):
            sealing = (await self.rewrap(key, new)).metadata.sealing
            assert sealing is not None
            self.assertEqual((sealing.algorithm, sealing.key_id), ("aws:kms", "other"))
        await self.refused(self.rewrap("c", CUSTOMER, customer(CUSTOMER)))

    async def rotate(self, plan: Plan, *, dry: bool) -> Page:
        """
        Give all objects other keys.
        """
        rotation = Rotation(self.store, self.rewrapping, InlineLane())
        return await rotation.page("b", VersionQuery(), plan, dry=dry)

    async def test_rotation(self) -> None:
        """
        A rotation tells what the bucket would not accept, with and without a dry run, and does
        the rest.
        """
        await self.prepare()
        await self.require("sse-kms", keys=("other",))
        for dry in (True, False):
            page = await self.rotate(Plan("other", plain=True), dry=dry)
            self.assertEqual([one.key for one in page.troubles], ["plain", "s3"])
            self.assertEqual((page.changed, page.encrypted), (1, 0))
            for trouble in page.troubles:
                self.assertIn("requires encryption", str(trouble.error))
        for dry in (True, False):
            page = await self.rotate(Plan("other", algorithm="aws:kms", plain=True), dry=dry)
            self.assertEqual((page.troubles, page.changed, page.encrypted), ([], 2, 1))

    async def test_uploads(self) -> None:
        """
        Of unfinished uploads a rotation tells the same, and gives them what is required.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, SSE_S3)
        await self.require("sse-kms", keys=("other",))
        rotation = Rotation(self.store, self.rewrapping, InlineLane())
        for dry in (True, False):
            page = await rotation.uploads("b", UploadQuery(), Plan("other"), dry=dry)
            self.assertEqual(([one.key for one in page.troubles], page.changed), (["k"], 0))
        await self.refused(self.complete(upload, [1]))
        plan = Plan("other", algorithm="aws:kms")
        for dry in (True, False):
            page = await rotation.uploads("b", UploadQuery(), plan, dry=dry)
            self.assertEqual((page.troubles, page.changed), ([], 1))
        made = await self.complete(upload, [1])
        assert made.metadata.sealing is not None
        self.assertEqual(made.metadata.sealing.algorithm, "aws:kms")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what brief listings tell of encrypted objects.
"""

import msgspec
from attrs import evolve

from kypello.crypto.dare import encrypted_size
from kypello.crypto.metadata import CUSTOMERS_KEY, IV, MULTIPART
from kypello.model import (
    EncryptionRequest,
    Listing,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    VersionQuery,
)
from kypello.store.outlines import OutlineMetadata, OutlineRecord
from kypello.store.records import MetadataRecord, ObjectRecord
from kypello.versioning import SETTING, Versioning
from tests.cases import SyncCase
from tests.objects.case import CUSTOMER, KMS, SSE_S3, EncryptedCase, customer


def _shown(info: ObjectInfo) -> object:
    """
    What every listing tells of an object.
    """
    metadata = info.metadata
    return (
        (info.bucket, info.key, info.version_id, info.size, info.modified),
        (metadata.etag, metadata.storage_class, metadata.checksums, metadata.checksum_type),
    )


class OutlineTests(EncryptedCase):
    """
    Brief listings tell the same as others, but for what they leave out.
    """

    async def listings(self) -> tuple[Listing, Listing]:
        """
        A brief listing of all objects, and another one, which tells the same.
        """
        brief = await self.store.list("b", ListQuery(brief=True))
        whole = await self.store.list("b", ListQuery())
        self.assertEqual(list(map(_shown, brief.objects)), list(map(_shown, whole.objects)))
        self.assertEqual((brief.prefixes, brief.next), (whole.prefixes, whole.next))
        return brief, whole

    async def outlined(self) -> list[str]:
        """
        The keys of which no more is told than is wanted; of all others all is.
        """
        brief, whole = await self.listings()
        short = []
        for told, known in zip(brief.objects, whole.objects, strict=True):
            if told != known:
                short.append(told.key)
                self.assertEqual((told.metadata.user, told.metadata.sealing), ({}, None))
        return short

    async def made(self, key: str, encryption: EncryptionRequest) -> None:
        """
        Upload an object in parts.
        """
        upload = await self.upload({1: b"one", 3: b"three"}, encryption, key)
        await self.complete(upload, [1, 3], customer(encryption))

    async def test_kinds(self) -> None:
        """
        All kinds of objects are told, and those with a key of the KMS briefly.
        """
        await self.prepare()
        kinds = {"plain": None, "s3": SSE_S3, "kms": KMS, "customer": CUSTOMER}
        for name, encryption in kinds.items():
            for size in (0, 1, 65_536, 70_000):
                await self.put(f"{name}{size}", bytes(size), encryption)
            if encryption is not None:
                await self.made(f"{name}-parts", encryption)
        expected = [
            f"{name}{rest}" for name in ("kms", "s3") for rest in ("-parts", 0, 1, 65_536, 70_000)
        ]
        self.assertEqual(await self.outlined(), expected)

    async def test_versions(self) -> None:
        """
        Versions are told as objects are, among delete markers.
        """
        await self.prepare()
        await self.put("k")
        setting = {SETTING: Versioning("Enabled").to_bytes()}
        await self.store.change_bucket("b", lambda old: {**old, **setting})
        for encryption in (SSE_S3, KMS, CUSTOMER, None):
            await self.put("k", encryption=encryption)
        await self.store.delete("b", "k")
        brief = (await self.store.list_versions("b", VersionQuery(brief=True))).versions
        whole = (await self.store.list_versions("b", VersionQuery())).versions
        self.assertEqual(
            [(_shown(each.info), each.latest, each.marker) for each in brief],
            [(_shown(each.info), each.latest, each.marker) for each in whole],
        )
        self.assertEqual([each.marker for each in brief], [True, *[False] * 5])
        short = [one != other for one, other in zip(brief, whole, strict=True)]
        self.assertEqual(short, [False, False, False, True, True, True])

    async def test_key_not_open(self) -> None:
        """
        A process that has not opened the key of the bucket yet tells all, and then briefly.
        """
        await self.prepare()
        await self.put("k")
        self.store = self.process()
        (told,) = (await self.store.list("b", ListQuery(brief=True))).objects
        self.assertEqual(told, await self.store.head("b", "k"))
        self.assertEqual(await self.outlined(), ["k"])

    async def test_earlier_bucket(self) -> None:
        """
        With the key of an earlier bucket of the name nothing is told that is not so.
        """
        await self.prepare()
        await self.put("k")
        other = self.process()
        await other.delete("b", "k")
        await other.delete_bucket("b")
        await other.create_bucket("b", {})
        stored = await self.put("k", store=other)
        self.assertEqual((await self.store.list("b", ListQuery(brief=True))).objects, (stored,))
        self.assertEqual(await self.outlined(), ["k"])

    async def test_without_kms(self) -> None:
        """
        Without a KMS encrypted objects are listed by what they tell themselves.
        """
        await self.prepare()
        await self.put("k", encryption=SSE_S3)
        self.store = self.process(configured=False)
        self.assertEqual(await self.outlined(), [])

    async def test_tampered(self) -> None:
        """
        What was not written so is told as in other listings: by what it tells without a key.
        """
        await self.prepare()
        await self.put("k", b"data")
        await self.put("other", b"data")
        stored, raw = await self.raw("k")
        other = (await self.raw("other"))[0].metadata
        entries = stored.metadata.internal
        for data, metadata in (
            (raw[:-1], stored.metadata),
            (raw, evolve(stored.metadata, sealed=other.sealed)),
            (raw, evolve(stored.metadata, sealed=b"")),
            (raw, evolve(stored.metadata, sealed=stored.metadata.sealed[:28])),
            (raw, evolve(stored.metadata, sealed=b"\x02" + stored.metadata.sealed[1:])),
            (raw, evolve(stored.metadata, internal={**entries, IV: other.internal[IV]})),
            (raw, evolve(stored.metadata, internal={**entries, IV: ""})),
            (raw, evolve(stored.metadata, internal={**entries, MULTIPART: ""})),
            (raw, evolve(other, sealed=stored.metadata.sealed)),
        ):
            await self.plant("k", data, metadata)
            self.assertEqual(await self.outlined(), ["other"])
            told = (await self.store.list("b", ListQuery(brief=True))).objects[0]
            self.assertEqual(told.metadata.checksums, {})
        await self.plant("k", raw, stored.metadata)
        self.assertEqual(await self.outlined(), ["k", "other"])

    async def test_two_keys(self) -> None:
        """
        What claims to have a key of its client, too, is left to those who know what that means.
        """
        await self.prepare()
        await self.put("k", b"data")
        stored, raw = await self.raw("k")
        claimed = {**stored.metadata.internal, CUSTOMERS_KEY: "x"}
        await self.plant("k", raw, evolve(stored.metadata, internal=claimed))
        self.assertEqual(await self.outlined(), [])

    async def test_left_out(self) -> None:
        """
        Nothing of an object of parts is taken for one of one piece.
        """
        await self.prepare()
        await self.made("k", SSE_S3)
        stored = await self.below.head("b", "k")
        entries = dict(stored.metadata.internal)
        del entries[MULTIPART]
        whole = bytes(encrypted_size(len(b"onethree")))
        await self.plant("k", whole, evolve(stored.metadata, internal=entries))
        self.assertEqual(await self.outlined(), [])

    async def test_plain(self) -> None:
        """
        In a bucket without encryption all is told of objects.
        """
        await self.prepare()
        await self.put("k", encryption=None)
        brief, whole = await self.listings()
        self.assertEqual(brief, whole)
        self.assertNotEqual(brief.objects[0].metadata, ObjectMetadata())


class OutlineRecordTests(SyncCase):
    """
    Records as far as brief listings need them.
    """

    def test_fields(self) -> None:
        """
        They have the first fields of what is kept, in that order.
        """
        for short, whole in ((OutlineRecord, ObjectRecord), (OutlineMetadata, MetadataRecord)):
            fields = msgspec.structs.fields(whole)
            names = [field.encode_name for field in msgspec.structs.fields(short)]
            self.assertEqual(names, [field.encode_name for field in fields][: len(names)])

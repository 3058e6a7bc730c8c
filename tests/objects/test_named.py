# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of objects with a master key that clients name.
"""

from attrs import evolve

from kypello.crypto.sse import ServerSideEncryption
from kypello.errors import KeyNotFound, KMSUnavailable, NotAuthentic, Refused
from kypello.model import EncryptionRequest, ListQuery, Sealing
from tests.objects.case import DATA, KMS, SSE_S3, EncryptedCase, metadata

ARN = "arn:aws:kms:eu-central-1:123456789012:key/other"
CONTEXT = {"project": "blue", "a<": "ü"}


class NamedKeyTests(EncryptedCase):
    """
    SSE-KMS.
    """

    async def prepare(self) -> None:
        """
        Make the bucket, and another key.
        """
        await super().prepare()
        await self.kms.create_key("other")
        self.kms.calls.clear()

    async def test_round_trip(self) -> None:
        """
        Objects come back for anybody, with the key as it was named and an opaque ETag.
        """
        await self.prepare()
        for request, sealing in (
            (KMS, Sealing("aws:kms", "arn:aws:kms:my-key")),
            (EncryptionRequest("aws:kms", "other"), Sealing("aws:kms", "other")),
            (EncryptionRequest("aws:kms", ARN, CONTEXT), Sealing("aws:kms", ARN, CONTEXT)),
            (
                EncryptionRequest("aws:kms", "alias/other", {}, True),
                Sealing("aws:kms", "alias/other", {}, True),
            ),
            (
                EncryptionRequest("aws:kms", "", {"b": "mine"}, True),
                Sealing("aws:kms", "arn:aws:kms:my-key", {"b": "mine"}),
            ),
        ):
            stored = await self.put("k", DATA, request)
            expected = evolve(metadata(DATA), etag=stored.etag, sealing=sealing)
            self.assertEqual((stored.size, stored.metadata), (len(DATA), expected))
            self.assertRegex(stored.etag, "^[0-9a-f]{32}$")
            self.assertNotEqual(stored.etag, metadata(DATA).etag)
            reader = self.process()
            self.assertEqual(await reader.head("b", "k"), stored)
            self.assertEqual((await reader.list("b", ListQuery())).objects, (stored,))
            self.assertEqual(await self.get("k", store=reader), DATA)

    async def test_bucket_setting(self) -> None:
        """
        A bucket may name the key, and have data keys shared.
        """
        await self.prepare()
        setting = ServerSideEncryption("aws:kms", ARN, True).to_bytes()
        await self.store.change_bucket("b", lambda old: {**old, "encryption": setting})
        stored = await self.put("k", DATA, None)
        self.assertEqual(stored.metadata.sealing, Sealing("aws:kms", ARN, {}, True))
        stored = await self.put("k", DATA, EncryptionRequest("aws:kms", "other", CONTEXT))
        self.assertEqual(stored.metadata.sealing, Sealing("aws:kms", "other", CONTEXT))
        stored = await self.put("k", DATA, SSE_S3)
        self.assertEqual(stored.etag, metadata(DATA).etag)

    async def test_calls(self) -> None:
        """
        Each object costs a call, unless data keys are shared; to tell and to list costs none.
        """
        await self.prepare()
        for number in range(5):
            await self.put(f"k{number}", encryption=KMS)
        self.assertEqual(self.kms.calls, ["generate"] * 6)
        self.kms.calls.clear()
        shared = EncryptionRequest("aws:kms", "other", bucket_key=True)
        for number in range(5, 10):
            await self.put(f"k{number}", encryption=shared)
        self.assertEqual(self.kms.calls, ["generate"])
        self.kms.calls.clear()
        reader = self.process()
        await reader.list("b", ListQuery())
        for number in range(10):
            await reader.head("b", f"k{number}")
        self.assertEqual(self.kms.calls, ["decrypt"])
        for number in range(10):
            await self.get(f"k{number}", store=reader)
        self.assertEqual(self.kms.calls, ["decrypt"] * 7)

    async def test_unknown(self) -> None:
        """
        A key that does not exist, or cannot, refuses the write before the body is read, leaves
        nothing and is not created.
        """
        await self.prepare()
        for key_id, error in (("absent", KeyNotFound), ("a b", Refused), ("..", Refused)):
            with self.assertRaises(error):
                await self.put("k", encryption=EncryptionRequest("aws:kms", key_id))
        self.assertEqual((await self.store.list("b", ListQuery())).objects, ())
        self.assertEqual((await self.store.bucket("b")).settings, {})
        self.assertEqual(sorted(self.kms.keys), ["my-key", "other"])

    async def test_outage(self) -> None:
        """
        Without the key service an object is told, and listed under its name for the key.
        """
        await self.prepare()
        stored = await self.put("k", encryption=EncryptionRequest("aws:kms", ARN, CONTEXT))
        self.kms.down = True
        self.assertEqual(await self.store.head("b", "k"), stored)
        (listed,) = (await self.process().list("b", ListQuery())).objects
        self.assertEqual((listed.size, listed.metadata.sealing.algorithm), (4, "aws:kms"))
        with self.assertRaises(KMSUnavailable):
            await self.process().head("b", "k")

    async def test_tampered(self) -> None:
        """
        A context, a name or a kind that was changed below does not open.
        """
        await self.prepare()
        prefix = "X-Minio-Internal-Server-Side-Encryption-"
        for request in (EncryptionRequest("aws:kms", "", CONTEXT), KMS):
            await self.put("k", DATA, request)
            info, raw = await self.raw("k")
            entries = dict(info.metadata.internal)
            as_sse_s3 = {
                name.replace(prefix + "Kms-Sealed", prefix + "S3-Sealed"): value
                for name, value in entries.items()
            }
            for internal in (
                {**entries, prefix + "Context": "eyJhIjoiYiJ9"},
                {**entries, prefix + "S3-Kms-Key-Id": "other"},
                {name: value for name, value in entries.items() if "Kms-Sealed-Key" not in name},
                as_sse_s3,
            ):
                await self.plant("k", raw, evolve(info.metadata, internal=internal))
                with self.assertRaises(NotAuthentic):
                    await self.get("k")
                self.assertEqual(len((await self.store.list("b", ListQuery())).objects), 1)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of encrypted uploads in parts.
"""

from collections.abc import Mapping
from itertools import pairwise

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kypello.crypto.dare import decrypt, encrypted_size
from kypello.crypto.keys import open_object_key, part_key
from kypello.crypto.metadata import read_entries
from kypello.crypto.sse import ServerSideEncryption
from kypello.errors import KMSUnavailable, NoSuchUpload, NotAuthentic, Refused
from kypello.model import (
    DSSE,
    SSE_C,
    ByteRange,
    EncryptionRequest,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    Sealing,
    UploadQuery,
)
from kypello.objects.shown import etag_of_parts
from kypello.testing.fakes import BytesSource
from tests.objects.case import (
    CUSTOMER,
    CUSTOMER_KEY,
    DATA,
    DUAL,
    KINDS,
    KMS,
    OTHER_KEY,
    PLANNED,
    SSE_S3,
    EncryptedCase,
    customer,
    part_metadata,
)

PARTS = {1: DATA[:70_000], 3: DATA[70_000:70_001], 10_000: DATA[70_001:]}
SEALINGS = {
    "AES256": Sealing("AES256", "my-key"),
    "aws:kms": Sealing("aws:kms", "arn:aws:kms:my-key"),
    SSE_C: Sealing(SSE_C),
    DSSE: Sealing(DSSE, "arn:aws:kms:my-key"),
}


def flip(stored: ObjectInfo | PartInfo, at: int) -> ObjectMetadata:
    """
    The metadata with one byte of what is sealed changed.
    """
    sealed = bytearray(stored.metadata.sealed)
    sealed[at] ^= 1
    return evolve(stored.metadata, sealed=bytes(sealed))


class UploadCase(EncryptedCase):
    """
    What the tests of uploads have in common.
    """

    async def made(
        self,
        encryption: EncryptionRequest | None,
        parts: Mapping[int, bytes] = PARTS,
        key: str = "k",
    ) -> ObjectInfo:
        """
        Upload an object in parts.
        """
        upload = await self.upload(parts, encryption, key)
        return await self.complete(upload, sorted(parts), customer(encryption))

    async def blobs(self) -> list[bytes]:
        """
        All blobs that have content.
        """
        found = []
        for name in await self.blobs_below.names("", 1000):
            blob = await self.blobs_below.open(name)
            found.append(await self.drain(blob.read(0, blob.size)))
            blob.close()
        return [content for content in found if content]


class UploadTests(UploadCase):
    """
    From the first call to the last.
    """

    async def test_round_trip(self) -> None:
        """
        An object of parts has their content, sizes, ETags and checksums, and the metadata that
        it began with; its encryption is told all along.
        """
        await self.prepare()
        for encryption in (None, *KINDS):
            key = customer(encryption)
            upload = await self.upload({}, encryption)
            sealing = encryption and SEALINGS[encryption.algorithm]
            known = sealing and evolve(sealing, customer_md5=key.md5 if key else "")
            self.assertEqual(upload.metadata, evolve(PLANNED, sealing=known))
            parts = [await self.part(upload, number, data, key) for number, data in PARTS.items()]
            for part, data in zip(parts, PARTS.values(), strict=True):
                expected = part_metadata(data, len(data))
                self.assertEqual(part.size, len(data))
                self.assertEqual(part.metadata, evolve(expected, etag=part.etag))
                opaque = encryption in (KMS, CUSTOMER, DUAL)
                self.assertEqual(part.etag != expected.etag, opaque)
                self.assertRegex(part.etag, "^[0-9a-f]{32}$")
            made = await self.complete(upload, list(PARTS), key)
            self.assertEqual(made.size, len(DATA))
            etag = etag_of_parts([part.etag for part in parts])
            self.assertEqual(made.metadata, evolve(PLANNED, etag=etag, sealing=known))
            self.assertEqual(made.parts, tuple(parts))
            self.assertEqual(await self.store.head("b", "k", key), made)
            self.assertEqual(await self.get("k", None, self.process(), key), DATA)
            (listed,) = (await self.store.list("b", ListQuery())).objects
            self.assertEqual((listed.size, listed.etag), (len(DATA), etag))

    async def test_ranges(self) -> None:
        """
        Ranges around the borders of parts and packages are those of the whole.
        """
        await self.prepare()
        for encryption in KINDS:
            await self.made(encryption)
            borders = (0, 65536, 70_000, 70_001, 70_001 + 65536, len(DATA))
            for start in {max(0, border + step) for border in borders for step in (-1, 0, 1)}:
                for stop in (start + 1, start + 2, start + 70_000, len(DATA)):
                    if start < stop <= len(DATA):
                        found = await self.get(
                            "k", ByteRange(start, stop), customer_key=customer(encryption)
                        )
                        self.assertEqual(found, DATA[start:stop])

    @given(st.lists(st.integers(0, 140_000), min_size=1, max_size=5), st.data())
    @settings(max_examples=40, deadline=None)
    def test_any_cut(self, sizes: list[int], data: st.DataObject) -> None:
        """
        However content is cut into parts, any range is the slice, and no package is read that
        holds nothing of it.
        """
        cuts = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
        content = (DATA * 4)[: cuts[-1]]
        start = data.draw(st.integers(0, max(0, len(content) - 1)))
        stop = data.draw(st.integers(start, len(content)))
        encryption = data.draw(st.sampled_from(KINDS))

        async def check() -> None:
            """
            Upload and read.
            """
            await self.prepare()
            parts = {
                index + 1: content[begin:end] for index, (begin, end) in enumerate(pairwise(cuts))
            }
            await self.made(encryption, parts)
            key = customer(encryption)
            self.assertEqual(await self.get("k", customer_key=key), content)
            if start < stop:
                wanted = ByteRange(start, stop)
                self.assertEqual(await self.get("k", wanted, customer_key=key), content[start:stop])

        self.successResultOf(Deferred.fromCoroutine(check()))

    async def test_chosen(self) -> None:
        """
        Parts that are not chosen, and those that were sent anew, have no part in the object.
        """
        await self.prepare()
        for encryption in KINDS:
            key = customer(encryption)
            upload = await self.upload({2: b"two", 1: b"old", 3: b"three", 4: b""}, encryption)
            await self.part(upload, 1, b"new!", key)
            made = await self.complete(upload, [1, 3, 4], key)
            self.assertEqual([part.number for part in made.parts], [1, 3, 4])
            self.assertEqual(await self.get("k", customer_key=key), b"new!three")

    async def test_empty(self) -> None:
        """
        An object of an empty part is empty, and its client's key is checked all the same.
        """
        await self.prepare()
        for encryption in KINDS:
            made = await self.made(encryption, {1: b""})
            self.assertEqual(made.size, 0)
            self.assertEqual(await self.get("k", customer_key=customer(encryption)), b"")
        with self.assertRaises(Refused):
            await self.store.head("b", "k", OTHER_KEY)

    async def test_format(self) -> None:
        """
        A part is a stream under the key of its number, and the entries are those of MinIO.
        """
        await self.prepare()
        await self.made(CUSTOMER)
        info, raw = await self.raw("k")
        entries = info.metadata.internal
        self.assertEqual(entries["X-Minio-Internal-Encrypted-Multipart"], "")
        self.assertEqual(entries["X-Minio-Internal-actual-size"], str(len(DATA)))
        object_key = open_object_key(CUSTOMER_KEY.key, read_entries(entries).object_key, "b/k")
        at = 0
        for part, (number, data) in zip(info.parts, PARTS.items(), strict=True):
            self.assertEqual((part.number, part.size), (number, encrypted_size(len(data))))
            stream = raw[at : at + part.size]
            self.assertEqual(decrypt(part_key(object_key, number), stream), data)
            at += part.size

    async def test_nonces(self) -> None:
        """
        A part that is sent again is never encrypted with the nonce of the one before.
        """
        for encryption in KINDS:
            await self.prepare()
            upload = await self.upload({}, encryption)
            for _ in range(10):
                await self.part(upload, 1, b"same", customer(encryption))
            blobs = await self.blobs()
            self.assertEqual(len(blobs), 10)
            self.assertEqual(len({blob[4:16] for blob in blobs}), 10)

    async def test_defaults(self) -> None:
        """
        What the bucket wants, and then the server, counts when the upload begins.
        """
        self.auto_encryption = True
        await self.prepare()
        upload = await self.upload({}, None)
        self.assertEqual(upload.metadata.sealing, SEALINGS["AES256"])
        setting = ServerSideEncryption("aws:kms", "alias/my-key", True).to_bytes()
        await self.store.change_bucket("b", lambda old: {**old, "encryption": setting})
        await self.part(upload, 1, b"data")
        made = await self.complete(upload, [1])
        self.assertEqual(made.metadata.sealing, SEALINGS["AES256"])
        upload = await self.upload({}, None)
        self.assertEqual(upload.metadata.sealing, Sealing("aws:kms", "alias/my-key", {}, True))

    async def test_again(self) -> None:
        """
        Who completes again gets the same answer, unless something else was asked for.
        """
        await self.prepare()
        for encryption in (None, *KINDS):
            key = customer(encryption)
            upload = await self.upload(PARTS, encryption)
            made = await self.complete(upload, list(PARTS), key)
            for store in (self.store, self.process()):
                self.assertEqual(await self.complete(upload, list(PARTS), key, store), made)
            with self.assertRaises(NoSuchUpload):
                await self.complete(upload, [1], key)

    async def test_conditions(self) -> None:
        """
        A condition sees what the client knows of the object that is replaced.
        """
        await self.prepare()
        seen: list[ObjectInfo | None] = []
        for encryption in (SSE_S3, KMS):
            before = await self.made(encryption)
            upload = await self.upload({1: b"data"}, None)
            await self.complete(upload, [1], condition=seen.append)
            self.assertEqual(evolve(seen[-1], parts=()), evolve(before, parts=()))

    async def test_calls(self) -> None:
        """
        An upload costs no more calls than an object in one piece, and one with its client's
        key none.
        """
        await self.prepare()
        await self.made(CUSTOMER)
        self.assertEqual(self.kms.calls, [])
        for encryption in (SSE_S3, KMS):
            self.kms.calls.clear()
            await self.made(encryption, dict.fromkeys(range(1, 20), b"data"))
            self.assertLessEqual(len(self.kms.calls), 2)
        self.kms.calls.clear()
        reader = self.process()
        await reader.head("b", "k")
        await reader.list("b", ListQuery())
        self.assertEqual(self.kms.calls, ["decrypt"])

    async def test_repr(self) -> None:
        """
        No key shows in what is given or held.
        """
        await self.prepare()
        made = await self.made(CUSTOMER)
        info, _ = await self.raw("k")
        object_key = open_object_key(
            CUSTOMER_KEY.key, read_entries(info.metadata.internal).object_key, "b/k"
        )
        opened = await self.store.open("b", "k", CUSTOMER_KEY)
        source = await opened.read(ByteRange(69_990, 70_010))
        await source.read()
        shown = repr((self.store, made, opened, source, source._reading))
        source.close()
        opened.close()
        for secret in (CUSTOMER_KEY.key, object_key, part_key(object_key, 1)):
            self.assertNotIn(repr(secret), shown)


class ShownTests(UploadCase):
    """
    What is told of uploads that are under way.
    """

    async def test_upload(self) -> None:
        """
        An upload is told as it began; of one with its client's key the others see less.
        """
        await self.prepare()
        for encryption in (None, SSE_S3, KMS):
            upload = await self.upload({}, encryption, checksum="crc32")
            for store in (self.store, self.process()):
                found = await store.upload("b", "k", upload.upload_id)
                self.assertEqual(found, upload)
        upload = await self.upload({}, CUSTOMER, checksum="crc32")
        reduced = evolve(
            upload, metadata=evolve(PLANNED, headers={}, user={}, sealing=Sealing(SSE_C))
        )
        store = self.process(configured=False)
        self.assertEqual(await store.upload("b", "k", upload.upload_id), reduced)
        with self.assertRaises(NoSuchUpload):
            await self.store.upload("b", "other", upload.upload_id)

    async def test_parts(self) -> None:
        """
        Parts are told as they were answered; those with their client's key without checksums.
        """
        await self.prepare()
        for encryption in (None, *KINDS):
            upload = await self.upload({}, encryption)
            sent = [
                await self.part(upload, number, data, customer(encryption))
                for number, data in PARTS.items()
            ]
            if encryption is CUSTOMER:
                sent = [evolve(part, metadata=evolve(part.metadata, checksums={})) for part in sent]
            for store in (self.store, self.process()):
                found = await store.parts("b", "k", upload.upload_id, 0, 10)
                self.assertEqual(list(found), sent)
                found = await store.parts("b", "k", upload.upload_id, 1, 1)
                self.assertEqual(list(found), sent[1:2])

    async def test_uploads(self) -> None:
        """
        Uploads of all kinds are listed beside each other, with one call.
        """
        await self.prepare()
        began = [
            await self.upload({}, encryption, f"k{number}")
            for number, encryption in enumerate((None, *KINDS))
        ]
        began[3] = await self.store.upload("b", "k3", began[3].upload_id)
        self.kms.calls.clear()
        listing = await self.process().uploads("b", UploadQuery())
        self.assertEqual(list(listing.uploads), began)
        self.assertEqual(self.kms.calls, ["decrypt"])

    async def test_outage(self) -> None:
        """
        Without the key service uploads are listed with what can be told; parts are not.
        """
        await self.prepare()
        upload = await self.upload(PARTS, KMS)
        self.kms.down = True
        store = self.process()
        (listed,) = (await store.uploads("b", UploadQuery())).uploads
        self.assertEqual(
            (listed.upload_id, listed.metadata.sealing, listed.metadata.etag),
            (upload.upload_id, SEALINGS["aws:kms"], ""),
        )
        with self.assertRaises(KMSUnavailable):
            await store.upload("b", "k", upload.upload_id)
        with self.assertRaises(KMSUnavailable):
            await store.parts("b", "k", upload.upload_id, 0, 10)
        with self.assertRaises(KMSUnavailable):
            await self.part(upload, 1, b"data", store=store)
        await store.abort_upload("b", "k", upload.upload_id)

    async def test_damaged(self) -> None:
        """
        An upload or part that does not open costs the others nothing.
        """
        await self.prepare()
        upload = await self.upload(PARTS, SSE_S3)
        below = await self.below.upload("b", "k", upload.upload_id)
        damaged = evolve(below.metadata, sealed=b"\x02damaged")
        await self.below.create_upload("b", "k2", damaged)
        first, second = (await self.store.uploads("b", UploadQuery())).uploads
        self.assertEqual((first, second.metadata.user), (upload, {}))
        with self.assertRaises(NotAuthentic):
            await self.store.upload("b", "k2", second.upload_id)
        sent = await self.store.parts("b", "k", upload.upload_id, 0, 10)
        await self.below.put_part(
            "b", "k", upload.upload_id, 1, BytesSource([]), lambda _size: evolve(PLANNED, tags={})
        )
        found = await self.store.parts("b", "k", upload.upload_id, 0, 10)
        self.assertEqual((found[0].number, list(found[1:])), (1, list(sent[1:])))
        with self.assertRaises(NotAuthentic):
            await self.complete(upload, list(PARTS))
        await self.part(upload, 1, PARTS[1])
        await self.complete(upload, list(PARTS))
        self.assertEqual(await self.get("k"), DATA)


class CustomerUploadTests(UploadCase):
    """
    Uploads with a key of the client.
    """

    async def test_part_refused(self) -> None:
        """
        Each part needs the key, before its body is read, and the same one.
        """
        await self.prepare()
        upload = await self.upload({}, CUSTOMER)
        for key, message in (
            (
                None,
                "The multipart upload initiate requested encryption. Subsequent part requests"
                " must include the appropriate encryption parameters.",
            ),
            (
                OTHER_KEY,
                "The provided encryption parameters did not match the ones used originally.",
            ),
        ):
            with self.assertRaises(Refused) as caught:
                await self.part(upload, 1, b"data", key)
            error = caught.exception
            self.assertEqual((error.code, error.message), ("InvalidRequest", message))
        self.assertEqual(await self.store.parts("b", "k", upload.upload_id, 0, 10), ())

    async def test_not_applicable(self) -> None:
        """
        A key for an upload that has none is refused, and never stores a part in clear.
        """
        await self.prepare()
        for encryption in (None, SSE_S3, KMS):
            upload = await self.upload({1: b"data"}, encryption)
            for call in (
                self.part(upload, 1, b"other", CUSTOMER_KEY),
                self.complete(upload, [1], CUSTOMER_KEY),
            ):
                with self.assertRaises(Refused) as caught:
                    await call
                self.assertEqual(caught.exception.code, "InvalidRequest")
            await self.complete(upload, [1])
            self.assertEqual(await self.get("k"), b"data")

    async def test_completed_without_key(self) -> None:
        """
        An upload without checksums is completed without the key: what it began with is kept,
        and the ETag is that of its parts.
        """
        await self.prepare()
        upload = await self.upload(PARTS, CUSTOMER)
        parts = await self.store.parts("b", "k", upload.upload_id, 0, 10)
        made = await self.complete(upload, list(PARTS))
        etag = etag_of_parts([part.etag for part in parts])
        self.assertEqual((made.size, made.etag), (len(DATA), etag))
        self.assertEqual(made.metadata.sealing, Sealing(SSE_C))
        found = await self.store.head("b", "k", CUSTOMER_KEY)
        sealing = Sealing(SSE_C, customer_md5=CUSTOMER_KEY.md5)
        self.assertEqual(found.metadata, evolve(PLANNED, etag=etag, sealing=sealing))
        self.assertEqual(
            found.parts[0].metadata.checksums, part_metadata(PARTS[1], 70_000).checksums
        )
        self.assertEqual(await self.get("k", customer_key=CUSTOMER_KEY), DATA)
        self.assertEqual(await self.complete(upload, list(PARTS)), made)
        (listed,) = (await self.store.list("b", ListQuery())).objects
        self.assertEqual((listed.size, listed.etag), (len(DATA), etag))
        self.assertEqual(self.kms.calls, [])

    async def test_completed_with_key(self) -> None:
        """
        With checksums the key is needed; a wrong one is refused in any case.
        """
        await self.prepare()
        upload = await self.upload(PARTS, CUSTOMER, checksum="crc32")
        for key, code in ((None, "InvalidArgument"), (OTHER_KEY, "InvalidRequest")):
            with self.assertRaises(Refused) as caught:
                await self.complete(upload, list(PARTS), key)
            self.assertEqual(caught.exception.code, code)
        made = await self.complete(upload, list(PARTS), CUSTOMER_KEY)
        self.assertEqual(made.metadata.checksums, {"crc32": "AAAAAA==-3"})
        self.assertEqual(await self.store.head("b", "k", CUSTOMER_KEY), made)


class TamperTests(UploadCase):
    """
    What was changed below is refused.
    """

    async def refused(self, encryption: EncryptionRequest, key: str = "k") -> None:
        """
        Reading raises, and a listing shows the object.
        """
        with self.assertRaises(NotAuthentic):
            await self.get(key, customer_key=customer(encryption))
        listed = (await self.store.list("b", ListQuery())).objects
        self.assertIn(key, [info.key for info in listed])

    async def stored(self, key: str = "k") -> tuple[ObjectInfo, list[bytes]]:
        """
        What is below: the object, and the content of each part.
        """
        info, raw = await self.raw(key)
        contents, at = [], 0
        for part in info.parts:
            contents.append(raw[at : at + part.size])
            at += part.size
        return info, contents

    async def objects(self):
        """
        An object of each kind, also one that was completed without its key.
        """
        for encryption, keyless in (*((kind, False) for kind in KINDS), (CUSTOMER, True)):
            upload = await self.upload(PARTS, encryption)
            await self.complete(upload, list(PARTS), None if keyless else customer(encryption))
            yield encryption

    async def test_untouched(self) -> None:
        """
        What the tests put below opens when nothing was changed.
        """
        await self.prepare()
        async for encryption in self.objects():
            info, raw = await self.stored()
            await self.replace("k", info, raw)
            found = await self.get("k", customer_key=customer(encryption))
            self.assertEqual(found, DATA)

    async def test_parts(self) -> None:
        """
        A part that was dropped, added, moved, swapped or cut is refused.
        """
        await self.prepare()
        async for encryption in self.objects():
            info, raw = await self.stored()
            one, two, three = info.parts
            moved = evolve(two, number=2)
            for parts, contents in (
                ((one, two), raw[:2]),
                ((two, three), raw[1:]),
                ((one, three), [raw[0], raw[2]]),
                ((), []),
                ((one, two, moved, three), [*raw[:2], raw[1], raw[2]]),
                ((one, moved, three), raw),
                ((one, evolve(two, metadata=one.metadata), three), [raw[0], raw[0], raw[2]]),
                ((one, two, three), [raw[0], raw[1], raw[2][:65568]]),
                ((one, two, three), [raw[0][:-1], raw[1], raw[2]]),
                ((one, two, three), [raw[2], raw[1], raw[0]]),
                ((evolve(one, metadata=PLANNED), two, three), raw),
                ((three, two, one), raw[::-1]),
                ((two, one, three), [raw[1], raw[0], raw[2]]),
            ):
                if parts:
                    await self.replace("k", evolve(info, parts=parts), contents)
                    await self.refused(encryption)

    async def test_cut(self) -> None:
        """
        A part that lost its end is noticed by HEAD, too.
        """
        await self.prepare()
        async for encryption in self.objects():
            info, raw = await self.stored()
            await self.replace("k", info, [*raw[:2], raw[2][:65568]])
            with self.assertRaises(NotAuthentic):
                await self.store.head("b", "k", customer(encryption))

    async def test_flipped(self) -> None:
        """
        A flipped byte anywhere in content or in what is sealed is refused.
        """
        await self.prepare()
        async for encryption in self.objects():
            info, raw = await self.stored()
            for index, content in enumerate(raw):
                for at in (0, 1, 2, 4, 10, 15, 16, len(content) // 2, len(content) - 1):
                    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
                    await self.replace("k", info, [*raw[:index], flipped, *raw[index + 1 :]])
                    await self.refused(encryption)
            for at in range(len(info.metadata.sealed)):
                await self.replace("k", evolve(info, metadata=flip(info, at)), raw)
                await self.refused(encryption)
            one = info.parts[0]
            for at in range(len(one.metadata.sealed)):
                parts = (evolve(one, metadata=flip(one, at)), *info.parts[1:])
                await self.replace("k", evolve(info, parts=parts), raw)
                await self.refused(encryption)

    async def test_foreign(self) -> None:
        """
        A part of another upload is refused, with its metadata or without, also one of the same
        number, content and client's key.
        """
        await self.prepare()
        for encryption in KINDS:
            await self.made(encryption)
            other, theirs = await self.stored()
            await self.made(encryption)
            info, raw = await self.stored()
            for parts in (info.parts, (other.parts[0], *info.parts[1:])):
                for content in (theirs[0], raw[0]):
                    if parts is not info.parts or content is not raw[0]:
                        await self.replace("k", evolve(info, parts=parts), [content, *raw[1:]])
                        await self.refused(encryption)
            for stored in (
                evolve(info.metadata, sealed=other.metadata.sealed),
                evolve(info.metadata, internal=other.metadata.internal),
            ):
                await self.replace("k", evolve(info, metadata=stored), raw)
                await self.refused(encryption)

    async def test_earlier_part(self) -> None:
        """
        An earlier part of the same number and size is refused, with its metadata or without.
        """
        for encryption, keyless in (*((kind, False) for kind in KINDS), (CUSTOMER, True)):
            await self.prepare()
            key = customer(encryption)
            upload = await self.upload({1: b"old"}, encryption)
            (old,) = await self.below.parts("b", "k", upload.upload_id, 0, 10)
            content = await self.blobs()
            await self.part(upload, 1, b"new", key)
            await self.complete(upload, [1], None if keyless else key)
            info, raw = await self.stored()
            self.assertNotEqual(raw, content)
            await self.replace("k", info, content)
            await self.refused(encryption)
            await self.replace("k", evolve(info, parts=(old,)), content)
            await self.refused(encryption)
            await self.replace("k", info, raw)
            self.assertEqual(await self.get("k", customer_key=key), b"new")

    async def test_upload_for_object(self) -> None:
        """
        What was sealed for an upload, or a part, does not pass for an object, nor one kind of
        object for another.
        """
        await self.prepare()
        for encryption in (SSE_S3, KMS, DUAL):
            upload = await self.upload({1: DATA}, encryption)
            began = await self.below.upload("b", "k", upload.upload_id)
            await self.complete(upload, [1])
            info, raw = await self.stored()
            entries = dict(info.metadata.internal)
            single = {name: value for name, value in entries.items() if "Multipart" not in name}
            for stored in (
                evolve(info.metadata, sealed=began.metadata.sealed),
                evolve(info.metadata, sealed=b"\x01" + began.metadata.sealed[1:]),
                evolve(info.metadata, sealed=info.parts[0].metadata.sealed),
                evolve(info.metadata, internal=single),
            ):
                await self.replace("k", evolve(info, metadata=stored), raw)
                await self.refused(encryption)
                with self.assertRaises(NotAuthentic):
                    await self.store.head("b", "k")
            await self.put("k", DATA, encryption)
            whole, content = await self.raw("k")
            marked = {**whole.metadata.internal, "X-Minio-Internal-Encrypted-Multipart": ""}
            await self.plant("k", content, evolve(whole.metadata, internal=marked))
            await self.refused(encryption)

    async def test_moved(self) -> None:
        """
        An object under another key is refused.
        """
        await self.prepare()
        for encryption in (SSE_S3, KMS, DUAL):
            await self.made(encryption)
            info, raw = await self.stored()
            await self.replace("other", info, raw)
            await self.refused(encryption, "other")

    async def test_told_size(self) -> None:
        """
        The size that is in clear counts only where nothing else can be known.
        """
        await self.prepare()
        await self.made(SSE_S3)
        info, raw = await self.stored()
        for told, shown in (("5", 5), ("x", info.size), ("9" * 50, info.size)):
            entries = {**info.metadata.internal, "X-Minio-Internal-actual-size": told}
            stored = evolve(info.metadata, internal=entries)
            await self.replace("k", evolve(info, metadata=stored), raw)
            self.assertEqual((await self.store.head("b", "k")).size, len(DATA))
            self.kms.down = True
            (listed,) = (await self.process().list("b", ListQuery())).objects
            self.assertEqual(listed.size, shown)
            self.kms.down = False

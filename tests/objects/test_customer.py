# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of objects whose keys their clients keep.
"""

from attrs import evolve

from kypello.crypto.sse import ServerSideEncryption
from kypello.errors import KMSNotConfigured, NotAuthentic, Refused
from kypello.model import (
    SSE_C,
    ByteRange,
    CustomerKey,
    EncryptionRequest,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    Sealing,
)
from tests.objects.case import (
    CUSTOMER,
    CUSTOMER_KEY,
    DATA,
    KMS,
    OTHER_KEY,
    SSE_S3,
    EncryptedCase,
    metadata,
)

SEALING = Sealing(SSE_C, customer_md5=CUSTOMER_KEY.md5)


class ObjectTests(EncryptedCase):
    """
    Objects in one piece.
    """

    async def refused(self, code: str, key: str, customer_key: CustomerKey | None) -> str:
        """
        HEAD and reading are refused alike.
        """
        messages = set()
        for call in (self.store.head, self.store.open):
            with self.assertRaises(Refused) as caught:
                await call("b", key, customer_key)
            self.assertEqual(caught.exception.code, code)
            messages.add(caught.exception.message)
        (message,) = messages
        return message

    async def test_round_trip(self) -> None:
        """
        Objects of any size come back for the key, in ranges too, with or without a key service
        that works, which is never called; the ETag is not that of the content.
        """
        await self.prepare()
        self.kms.down = True
        for store in (self.store, self.process(configured=False)):
            for size in (0, 1, 65536, len(DATA)):
                data = DATA[:size]
                stored = await self.put("k", data, CUSTOMER, store)
                self.assertRegex(stored.etag, "^[0-9a-f]{32}$")
                self.assertNotEqual(stored.etag, metadata(data).etag)
                expected = evolve(metadata(data), etag=stored.etag, sealing=SEALING)
                self.assertEqual((stored.size, stored.metadata), (size, expected))
                self.assertEqual(await store.head("b", "k", CUSTOMER_KEY), stored)
                self.assertEqual(await self.get("k", None, store, CUSTOMER_KEY), data)
            for start, stop in ((0, 1), (65535, 65537), (70_000, len(DATA))):
                wanted = ByteRange(start, stop)
                found = await self.get("k", wanted, store, CUSTOMER_KEY)
                self.assertEqual(found, DATA[start:stop])
        self.assertEqual(self.kms.calls, [])

    async def test_without_key(self) -> None:
        """
        A listing shows size, ETag, tags and storage class; HEAD and reading want the key.
        """
        await self.prepare()
        for size in (0, len(DATA)):
            stored = await self.put("k", DATA[:size], CUSTOMER)
            (listed,) = (await self.store.list("b", ListQuery())).objects
            self.assertEqual((listed.size, listed.modified), (size, stored.modified))
            shown = ObjectMetadata(
                stored.etag,
                tags={"tag": "value"},
                sealing=Sealing(SSE_C),
                storage_class=stored.metadata.storage_class,
            )
            self.assertEqual(listed.metadata, shown)
            self.assertEqual(
                await self.refused("InvalidRequest", "k", None),
                "The object was stored using a form of Server Side Encryption. The correct"
                " parameters must be provided to retrieve the object.",
            )
            await self.refused("AccessDenied", "k", OTHER_KEY)
        await self.store.delete("b", "k")

    async def test_not_applicable(self) -> None:
        """
        A key for an object that has none is refused.
        """
        await self.prepare()
        for encryption in (None, SSE_S3, KMS):
            await self.put("k", encryption=encryption)
            self.assertEqual(
                await self.refused("InvalidRequest", "k", CUSTOMER_KEY),
                "The encryption parameters are not applicable to this object.",
            )

    async def test_precedence(self) -> None:
        """
        The client's key counts, whatever the bucket and the server want.
        """
        self.auto_encryption = True
        await self.prepare()
        setting = ServerSideEncryption("aws:kms", "absent").to_bytes()
        await self.store.change_bucket("b", lambda old: {**old, "encryption": setting})
        stored = await self.put("k", encryption=CUSTOMER)
        self.assertEqual(stored.metadata.sealing, SEALING)
        self.assertEqual(self.kms.calls, [])

    async def test_hidden(self) -> None:
        """
        The store below sees tags, storage class and a random ETag; no two are alike.
        """
        await self.prepare()
        seen = set()
        for _ in range(3):
            await self.put("k", DATA, CUSTOMER)
            info, raw = await self.raw("k")
            self.assertEqual(dict(info.metadata.tags), {"tag": "value"})
            for secret in (b"blue", b"text/plain", CUSTOMER_KEY.md5.encode()):
                self.assertNotIn(secret, info.metadata.sealed)
            self.assertNotIn(CUSTOMER_KEY.md5, repr(info))
            seen |= {raw, info.metadata.etag, info.metadata.sealed}
        self.assertEqual(len(seen), 9)

    async def test_tampered(self) -> None:
        """
        Metadata, ETag, entries and content that were changed or moved are refused.
        """
        await self.prepare()
        await self.put("k", DATA, CUSTOMER)
        old, _ = await self.raw("k")
        await self.put("k", DATA, CUSTOMER)
        new, raw = await self.raw("k")
        sealed = new.metadata.sealed
        flipped = sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:]
        for stored in (
            evolve(new.metadata, sealed=flipped),
            evolve(new.metadata, sealed=b"\x02" + sealed[1:]),
            evolve(new.metadata, sealed=old.metadata.sealed),
            evolve(new.metadata, etag=old.metadata.etag),
            evolve(new.metadata, internal=old.metadata.internal),
        ):
            await self.plant("k", raw, stored)
            with self.assertRaises(NotAuthentic):
                await self.store.head("b", "k", CUSTOMER_KEY)
            self.assertEqual(len((await self.store.list("b", ListQuery())).objects), 1)
        await self.plant("k", raw[:70_000] + b"x" + raw[70_001:], new.metadata)
        with self.assertRaises(NotAuthentic):
            await self.get("k", customer_key=CUSTOMER_KEY)
        await self.plant("other", raw, new.metadata)
        await self.refused("AccessDenied", "other", CUSTOMER_KEY)

    async def test_tags_changed(self) -> None:
        """
        Tags may change without the key.
        """
        await self.prepare()
        await self.put("k", DATA, CUSTOMER)
        info, raw = await self.raw("k")
        await self.plant("k", raw, evolve(info.metadata, tags={"new": "tag"}))
        found = await self.store.head("b", "k", CUSTOMER_KEY)
        self.assertEqual(
            (found.metadata.tags, found.metadata.user), ({"new": "tag"}, {"colour": "blue"})
        )

    async def test_conditions(self) -> None:
        """
        A condition sees what a listing shows, and needs no key.
        """
        await self.prepare()
        stored = await self.put("k", encryption=CUSTOMER)
        (listed,) = (await self.store.list("b", ListQuery())).objects
        seen: list[ObjectInfo | None] = []
        for encryption in (None, CUSTOMER):
            await self.put("k", encryption=encryption, condition=seen.append)
        await self.store.delete("b", "k", seen.append)
        self.assertEqual(seen[0], listed)
        self.assertEqual(seen[0].etag, stored.etag)
        self.assertEqual(self.kms.calls, [])

    async def test_beside_others(self) -> None:
        """
        Objects of every kind lie beside each other, and a listing opens what it can.
        """
        await self.prepare()
        plain = await self.put("1", encryption=None)
        theirs = await self.put("2", encryption=CUSTOMER)
        ours = [await self.put("3", encryption=SSE_S3), await self.put("4", encryption=KMS)]
        listed = (await self.process().list("b", ListQuery())).objects
        self.assertEqual([*listed[:1], *listed[2:]], [plain, *ours])
        self.assertEqual(listed[1].etag, theirs.etag)
        unconfigured = self.process(configured=False)
        shown = (await unconfigured.list("b", ListQuery())).objects
        self.assertEqual([info.size for info in shown], [4, 4, 4, 4])
        self.assertEqual(shown[1].etag, theirs.etag)
        with self.assertRaises(KMSNotConfigured):
            await unconfigured.head("b", "3")

    async def test_repr(self) -> None:
        """
        The key does not show in what is kept or given.
        """
        await self.prepare()
        stored = await self.put("k", DATA, CUSTOMER)
        opened = await self.store.open("b", "k", CUSTOMER_KEY)
        source = await opened.read(ByteRange(0, 10))
        await source.read()
        shown = repr((self.store, stored, opened, source, CUSTOMER, EncryptionRequest("AES256")))
        opened.close()
        self.assertNotIn(repr(CUSTOMER_KEY.key), shown)
        self.assertNotIn("\\x", repr(source).replace("memoryview", ""))

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.objects.changing``.
"""

from attrs import evolve

from kypello.errors import KMSUnavailable, NotAuthentic, Refused
from kypello.model import ListQuery, ObjectInfo, ObjectMetadata
from tests.contracts.locks import LOCK, keep_locked, locked, watching
from tests.objects.case import CUSTOMER, CUSTOMER_KEY, KINDS, EncryptedCase


def changed(info: ObjectInfo) -> ObjectMetadata:
    """
    The same with a tag more.
    """
    return evolve(info.metadata, tags={**info.metadata.tags, "new": "SECRET-TAG"})


class ChangingTests(EncryptedCase):
    """
    Changes of tags.
    """

    async def test_kinds(self) -> None:
        """
        Whatever the encryption is, tags are changed without the key of a client; the content and
        its keys stay as they are, and tags with a key of the KMS are sealed.
        """
        await self.prepare()
        for number, kind in enumerate((None, *KINDS)):
            key = f"k{number}"
            stored = await self.put(key, encryption=kind)
            before, content = await self.raw(key)
            made = await self.store.change_version("b", key, "", changed)
            self.assertEqual(made.metadata.tags, {"tag": "value", "new": "SECRET-TAG"})
            after, same = await self.raw(key)
            self.assertEqual((content, before.metadata.internal), (same, after.metadata.internal))
            self.assertEqual(before.modified, after.modified)
            if kind is not None and kind is not CUSTOMER:
                self.assertNotIn("SECRET-TAG", repr(after))
            brought = CUSTOMER_KEY if kind is CUSTOMER else None
            expected = evolve(stored.metadata, tags=made.metadata.tags)
            self.assertEqual(
                await self.store.head("b", key, brought), evolve(stored, metadata=expected)
            )
            self.assertEqual(await self.get(key, customer_key=brought), b"data")

    async def test_outage(self) -> None:
        """
        Without the key service tags that are sealed cannot be changed, others can.
        """
        await self.prepare()
        stored = await self.put("k")
        await self.put("plain", encryption=None)
        await self.put("customer", encryption=CUSTOMER)
        self.kms.down = True
        store = self.process()
        for key in ("plain", "customer"):
            made = await store.change_version("b", key, "", changed)
            self.assertIn("new", made.metadata.tags)
        with self.assertRaises(KMSUnavailable):
            await store.change_version("b", "k", "", changed)
        self.kms.down = False
        self.assertEqual(await self.store.head("b", "k"), stored)

    async def test_lock(self) -> None:
        """
        A lock is kept in clear and told without any key: what was sealed stays as it was.
        """
        await self.prepare()
        for number, kind in enumerate((None, *KINDS)):
            key = f"k{number}"
            await self.put(key, encryption=kind)
            before, _content = await self.raw(key)
            made = await self.store.change_version("b", key, "", locked(LOCK))
            self.assertEqual(made.metadata.lock, LOCK)
            after, _content = await self.raw(key)
            self.assertEqual(after.metadata, evolve(before.metadata, lock=LOCK))

    async def test_guard_in_outage(self) -> None:
        """
        Without the key service a guard sees what can be told, and the lock is part of that;
        versions can be removed.
        """
        await self.prepare()
        kinds = (None, *KINDS)
        for number, kind in enumerate(kinds):
            await self.put(f"k{number}", encryption=kind)
            await self.store.change_version("b", f"k{number}", "", locked(LOCK))
        self.kms.down = True
        store = self.process()
        seen: list[ObjectInfo | None] = []
        for number in range(len(kinds)):
            with self.assertRaises(Refused):
                await store.delete("b", f"k{number}", None, "null", keep_locked)
            await store.delete("b", f"k{number}", None, "null", watching(seen))
        self.assertEqual([info and info.metadata.lock for info in seen], [LOCK] * len(kinds))
        self.assertEqual((await store.list("b", ListQuery())).objects, ())

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
            await self.store.change_version("b", "k", "", changed)
        listing = await self.store.list("b", ListQuery(prefix="k"))
        self.assertEqual(listing.objects[0].metadata.tags, {})

    async def test_replaced_meanwhile(self) -> None:
        """
        A change that comes while the object is replaced is made to what is there then, however
        that is encrypted.
        """
        await self.prepare()
        await self.put("k")
        seen: list[str] = []

        def change(info: ObjectInfo) -> ObjectMetadata:
            """
            Note what is seen.
            """
            seen.append(info.etag)
            return changed(info)

        for kind in (None, CUSTOMER, KINDS[0]):
            stored = await self.put("k", b"new", kind)
            made = await self.store.change_version("b", "k", "", change)
            self.assertEqual((seen[-1], made.etag), (stored.etag, stored.etag))

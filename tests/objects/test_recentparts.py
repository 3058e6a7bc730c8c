# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the parts that are kept in memory.
"""

from attrs import evolve

from kypello.errors import NotAuthentic
from kypello.model import ByteRange, PartInfo
from kypello.objects.recentparts import KnownParts, RecentParts, Stream
from tests.cases import SyncCase
from tests.objects.case import CUSTOMER, KINDS, EncryptedCase, customer


def known(count: int) -> KnownParts:
    """
    So many parts.
    """
    return KnownParts((PartInfo(1, 1),) * count, (Stream(1),) * count)


class RecentPartsTests(SyncCase):
    """
    What is kept.
    """

    def test_kept(self) -> None:
        """
        What was used last is kept, up to a number of parts.
        """
        recent = RecentParts(2, 10)
        for digest, count in ((b"1", 4), (b"2", 4), (b"few", 1), (b"many", 11)):
            recent.put(digest, known(count))
        recent.put(b"1", known(4))
        self.assertEqual(recent.get(b"1"), known(4))
        recent.put(b"3", known(6))
        found = [recent.get(digest) is not None for digest in (b"1", b"2", b"3", b"few", b"many")]
        self.assertEqual(found, [True, False, True, False, False])


class LargeObjectTests(EncryptedCase):
    """
    Objects of many parts.
    """

    async def test_read(self) -> None:
        """
        They are read the same the second time, and what was exchanged below meanwhile is
        refused when it is read; what their clients have the keys of is not kept.
        """
        await self.prepare()
        contents = {number: b"%04d" % number for number in range(1, 101)}
        for encryption in KINDS:
            key = customer(encryption)
            upload = await self.upload(contents, encryption)
            made = await self.complete(upload, list(contents), key)
            self.store = self.process()
            for _ in range(2):
                self.assertEqual(await self.store.head("b", "k", key), made)
                found = await self.get("k", ByteRange(2, 10), customer_key=key)
                self.assertEqual(found, b"01000200")
            self.assertEqual(len(self.store._recent._known), encryption is not CUSTOMER)
            info, raw = await self.raw("k")
            size = info.parts[0].size
            pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
            pieces[:2] = pieces[1::-1]
            parts = (info.parts[1], info.parts[0], *info.parts[2:])
            await self.replace("k", evolve(info, parts=parts), pieces)
            with self.assertRaises(NotAuthentic):
                await self.get("k", customer_key=key)

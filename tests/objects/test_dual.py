# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of objects that are encrypted in two layers.
"""

import os
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve

from kypello.crypto import dare, metadata
from kypello.crypto.dare import StreamKey, decrypt, encrypted_size
from kypello.crypto.keys import Domain, part_key
from kypello.crypto.sse import ServerSideEncryption
from kypello.errors import KeyNotFound, KMSNotConfigured, KMSUnavailable, NotAuthentic
from kypello.model import DSSE, ByteRange, EncryptionRequest, ListQuery, ObjectInfo, Sealing
from kypello.objects.datakeys import DataKeys
from kypello.objects.objectkeys import ObjectKeys
from kypello.testing.fakes import BytesSource
from tests.objects.case import DATA, DUAL, KMS, EncryptedCase
from tests.objects.case import metadata as described

_PREFIX = "X-Minio-Internal-Server-Side-Encryption-"
_OWN = "X-Kypello-Internal-Server-Side-Encryption-"
_INNER, _OUTER = f"{_OWN}Inner-Sealed-Key", f"{_OWN}Outer-Sealed-Key"
_DATA, _OUTER_DATA = f"{_PREFIX}S3-Kms-Sealed-Key", f"{_OWN}Outer-Sealed-Data-Key"
_TOLD = Sealing(DSSE, "arn:aws:kms:my-key")
_PACKAGE = dare.PACKAGE_SIZE

#: Around what fills a package, and around what does with what the inner layer adds.
_SIZES = (0, 1, 65503, 65504, 65505, 65535, 65536, 65537, 131007, 131008, 131009, len(DATA))


def flipped(content: bytes, at: int) -> bytes:
    """
    Content with one bit changed.
    """
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


class DualCase(EncryptedCase):
    """
    A test of objects in two layers.
    """

    async def keys(self, key: str, bucket: str = "b") -> tuple[bytes, bytes]:
        """
        The keys of an object: of the inner layer, and of the outer one.
        """
        entries = (await self.below.head(bucket, key)).metadata.internal
        opened: StreamKey = await ObjectKeys(DataKeys(self.kms, self.clock), os.urandom).opening(
            bucket, key, entries
        )()
        assert opened.outer is not None
        return opened.secret, opened.outer.secret

    async def layers(self, key: str) -> tuple[ObjectInfo, bytes, bytes]:
        """
        An object as it is kept, and its streams: the outer one, and the inner one.
        """
        info, outer = await self.raw(key)
        _, outer_key = await self.keys(key)
        return info, outer, decrypt(outer_key, outer)

    async def with_entries(self, key: str, changed: Mapping[str, str | None]) -> None:
        """
        Change entries of an object below; ``None`` removes one.
        """
        info, content = await self.raw(key)
        entries = {**info.metadata.internal, **changed}
        kept = {name: value for name, value in entries.items() if value is not None}
        await self.plant(key, content, evolve(info.metadata, internal=kept))

    async def refused(self, key: str = "k", *, whole: bool = True) -> None:
        """
        Reading raises, in whole and at both ends, and a listing shows the object.

        :param whole: Also its first byte cannot be read.
        """
        with self.assertRaises(NotAuthentic):
            await self.get(key)
        with self.assertRaises(NotAuthentic):
            await self.get(key, ByteRange(len(DATA) - 1, len(DATA)))
        if whole:
            with self.assertRaises(NotAuthentic):
                await self.get(key, ByteRange(0, 1))
        listed = (await self.store.list("b", ListQuery())).objects
        self.assertIn(key, [info.key for info in listed])


class ContentTests(DualCase):
    """
    What is stored, and what is read.
    """

    async def test_round_trip(self) -> None:
        """
        Objects of any size come back for anybody, in whole and in ranges around all borders; what
        lies below is a stream in a stream, whose size follows from that of the content.
        """
        await self.prepare()
        for size in _SIZES:
            data = DATA[:size]
            stored = await self.put("k", data, DUAL)
            expected = evolve(described(data), etag=stored.etag, sealing=_TOLD)
            self.assertEqual((stored.size, stored.metadata), (size, expected))
            self.assertRegex(stored.etag, "^[0-9a-f]{32}$")
            self.assertNotEqual(stored.etag, described(data).etag)
            reader = self.process()
            self.assertEqual(await reader.head("b", "k"), stored)
            self.assertEqual((await reader.list("b", ListQuery())).objects, (stored,))
            self.assertTrue(await self.get("k", store=reader) == data)
            info, outer, inner = await self.layers("k")
            self.assertEqual(info.size, encrypted_size(encrypted_size(size)))
            self.assertEqual(len(outer), info.size)
            self.assertTrue(decrypt((await self.keys("k"))[0], inner) == data)
            for start in (0, 65503, 65504, 65535, 65536, 131008, size - 1):
                for stop in (start + 1, start + 33, start + 65536, size):
                    if 0 <= start < stop <= size:
                        found = await self.get("k", ByteRange(start, stop), reader)
                        self.assertTrue(found == data[start:stop], f"{size}: {start} to {stop}")

    async def test_fresh_keys(self) -> None:
        """
        No two objects share a key in any layer, nor do the layers of one, whoever wants keys
        shared; the same content is never stored in the same way twice.
        """
        await self.prepare()
        setting = ServerSideEncryption(DSSE, bucket_key=True).to_bytes()
        await self.store.change_bucket("b", lambda old: {**old, "encryption": setting})
        keys, streams, sealed = set(), set(), set()
        for request in (DUAL, evolve(DUAL, bucket_key=True), None):
            await self.put("k", DATA, request)
            info, outer, inner = await self.layers("k")
            keys |= set(await self.keys("k"))
            streams |= {outer, inner}
            entries = info.metadata.internal
            self.assertNotIn(f"{_OWN}Bucket-Key", entries)
            sealed |= {entries[name] for name in (_INNER, _OUTER, _DATA, _OUTER_DATA)}
        self.assertEqual((len(keys), len(streams), len(sealed)), (6, 6, 12))

    async def test_calls(self) -> None:
        """
        An object costs two calls of the key service to write and two to read, which are
        remembered; to tell and to list costs none.
        """
        await self.prepare()
        for number in range(3):
            await self.put(f"k{number}", encryption=DUAL)
        self.assertEqual(self.kms.calls, ["generate"] * 7)
        reader = self.process()
        self.kms.calls.clear()
        await reader.list("b", ListQuery())
        for number in range(3):
            await reader.head("b", f"k{number}")
        self.assertEqual(self.kms.calls, ["decrypt"])
        for _ in range(2):
            for number in range(3):
                await self.get(f"k{number}", store=reader)
        self.assertEqual(self.kms.calls, ["decrypt"] * 7)

    async def test_outage(self) -> None:
        """
        Without the key service objects are told and listed, with their sizes also by a process
        that has opened nothing; what needs a key is not to be had, until it is back.
        """
        await self.prepare()
        stored = await self.put("k", DATA, DUAL)
        upload = await self.upload({1: DATA, 2: b"end"}, DUAL, "parts")
        self.kms.down = True
        self.assertEqual(await self.store.head("b", "k"), stored)
        other = self.process()
        (listed,) = (await other.list("b", ListQuery())).objects
        self.assertEqual((listed.size, listed.metadata.sealing), (len(DATA), _TOLD))
        with self.assertRaises(KMSUnavailable):
            await other.head("b", "k")
        self.clock.advance(1_000_000)
        for call in (self.get("k"), self.put("new", DATA, DUAL), self.part(upload, 1, DATA)):
            with self.assertRaises(KMSUnavailable):
                await call
        self.kms.down = False
        await self.complete(upload, [1, 2], store=other)
        self.assertTrue(await self.get("parts") == DATA + b"end")
        with self.assertRaises(KMSNotConfigured):
            await self.get("k", store=self.process(configured=False))

    async def test_damaged_parts(self) -> None:
        """
        Of parts that cannot be opened the size of their content is told.
        """
        await self.prepare()
        upload = await self.upload({1: DATA}, DUAL)
        (stored,) = await self.below.parts("b", "k", upload.upload_id, 0, 10)
        self.assertEqual(stored.size, encrypted_size(encrypted_size(len(DATA))))
        shorter = BytesSource([bytes(encrypted_size(encrypted_size(len(DATA) - 100)))])
        await self.below.put_part(
            "b", "k", upload.upload_id, 1, shorter, lambda _size: stored.metadata
        )
        (shown,) = await self.store.parts("b", "k", upload.upload_id, 0, 10)
        self.assertEqual(shown.size, len(DATA) - 100)

    async def test_lost_key(self) -> None:
        """
        Without the master key nothing is read, and it is named.
        """
        await self.prepare()
        await self.kms.create_key("other")
        await self.put("k", DATA, EncryptionRequest(DSSE, "other", {"a": "b"}))
        self.assertEqual(
            (await self.store.head("b", "k")).metadata.sealing, Sealing(DSSE, "other", {"a": "b"})
        )
        del self.kms.keys["other"]
        with self.assertRaises(KeyNotFound):
            await self.get("k", store=self.process())
        with self.assertRaises(KeyNotFound):
            await self.put("new", encryption=EncryptionRequest(DSSE, "other"))


class TamperTests(DualCase):
    """
    What was changed below is refused.
    """

    async def test_outer(self) -> None:
        """
        A changed bit anywhere in the outer stream, and packages that are swapped, repeated, lost or
        another object's, are refused, and a lost end by who reads only the beginning, too.
        """
        await self.prepare()
        await self.put("k", DATA, DUAL)
        await self.put("other", DATA, DUAL)
        info, raw = await self.raw("k")
        _, theirs = await self.raw("other")
        rest = raw[3 * _PACKAGE :]
        middle = raw[_PACKAGE : 2 * _PACKAGE]
        for changed, whole in (
            *((flipped(raw, at), True) for at in (0, 1, 2, 4, 15, 16, 70, _PACKAGE - 1)),
            (flipped(raw, len(raw) - 1), False),
            (middle + raw[:_PACKAGE] + raw[2 * _PACKAGE :], True),
            (middle + middle + raw[2 * _PACKAGE :], True),
            (raw[: 3 * _PACKAGE], True),
            (raw[:-1], True),
            (raw[:_PACKAGE], True),
            (raw + raw[-len(rest) :], True),
            (theirs[:_PACKAGE] + raw[_PACKAGE:], True),
            (raw[: 3 * _PACKAGE] + theirs[3 * _PACKAGE :], False),
            (theirs, True),
        ):
            await self.plant("k", changed, info.metadata)
            if changed[: len(raw)] != raw[: len(changed)] or len(changed) != len(raw):
                with self.assertRaises(NotAuthentic):
                    await self.get("k")
            if whole:
                with self.assertRaises(NotAuthentic):
                    await self.get("k", ByteRange(0, 1))

    async def test_inner(self) -> None:
        """
        Who has the key of the outer layer, and so can make it anew, passes nothing off: the inner
        layer is authenticated by itself, and says nothing of the content.
        """
        await self.prepare()
        await self.put("k", DATA, DUAL)
        await self.put("other", DATA, DUAL)
        info, outer, inner = await self.layers("k")
        _, _, theirs = await self.layers("other")
        _, outer_key = await self.keys("k")
        self.assertNotIn(DATA[:32], inner)
        nonce = outer[4:16]

        def again(stream: bytes) -> bytes:
            """
            The outer layer around another stream.
            """
            return dare.encrypt(outer_key, nonce, stream)

        self.assertEqual(again(inner), outer)
        middle = inner[_PACKAGE : 2 * _PACKAGE]
        for changed in (
            *(flipped(inner, at) for at in (0, 1, 2, 4, 15, 16, 70, _PACKAGE - 1)),
            middle + inner[:_PACKAGE] + inner[2 * _PACKAGE :],
            middle + middle + inner[2 * _PACKAGE :],
            theirs,
            theirs[:_PACKAGE] + inner[_PACKAGE:],
            bytes(len(inner)),
        ):
            await self.plant("k", again(changed), info.metadata)
            with self.assertRaises(NotAuthentic):
                await self.get("k")
            with self.assertRaises(NotAuthentic):
                await self.get("k", ByteRange(0, 1))
        for changed in (inner[: 3 * _PACKAGE], inner[:-1], inner + b"x"):
            await self.plant("k", again(changed), info.metadata)
            with self.assertRaises(NotAuthentic):
                await self.store.head("b", "k")
            await self.refused()

    async def test_one_layer(self) -> None:
        """
        A layer does not pass for the object: neither the inner stream without the outer one, nor
        the outer one around the content, nor one in place of the other, nor one layer more.
        """
        await self.prepare()
        await self.put("k", DATA, DUAL)
        info, outer, inner = await self.layers("k")
        inner_key, outer_key = await self.keys("k")
        nonce = outer[4:16]
        for changed in (
            inner,
            dare.encrypt(outer_key, nonce, DATA),
            dare.encrypt(inner_key, nonce, dare.encrypt(outer_key, nonce, DATA)),
            dare.encrypt(inner_key, nonce, dare.encrypt(inner_key, nonce, DATA)),
            dare.encrypt(outer_key, nonce, dare.encrypt(outer_key, nonce, DATA)),
            dare.encrypt(outer_key, nonce, outer),
            DATA,
        ):
            await self.plant("k", changed, info.metadata)
            await self.refused()
        await self.plant("k", outer, info.metadata)
        self.assertTrue(await self.get("k") == DATA)

    async def test_entries(self) -> None:
        """
        Keys that are missing, swapped, another object's, or claimed to be those of an object in
        one layer, open nothing.
        """
        await self.prepare()
        await self.put("other", DATA, DUAL)
        theirs = (await self.below.head("b", "other")).metadata.internal
        await self.put("single", DATA, KMS)
        single = (await self.below.head("b", "single")).metadata.internal
        one = f"{_PREFIX}Kms-Sealed-Key"
        nothing: Mapping[str, str | None] = {_INNER: None, _OUTER: None, _OUTER_DATA: None}
        changes: Sequence[Callable[[Mapping[str, str]], Mapping[str, str | None]]] = (
            lambda _: {_OUTER: None},
            lambda _: {_OUTER_DATA: None},
            lambda _: {_INNER: None},
            lambda _: {_OUTER: None, _OUTER_DATA: None},
            lambda mine: {_INNER: mine[_OUTER], _OUTER: mine[_INNER]},
            lambda mine: {_DATA: mine[_OUTER_DATA], _OUTER_DATA: mine[_DATA]},
            lambda mine: {_DATA: mine[_OUTER_DATA]},
            lambda _: {_OUTER: theirs[_OUTER]},
            lambda _: {_INNER: theirs[_INNER]},
            lambda _: {_OUTER: theirs[_OUTER], _OUTER_DATA: theirs[_OUTER_DATA]},
            lambda _: {_INNER: theirs[_INNER], _DATA: theirs[_DATA]},
            lambda _: {f"{_PREFIX}Iv": theirs[f"{_PREFIX}Iv"]},
            lambda _: {f"{_PREFIX}Context": "eyJhIjoiYiJ9"},
            lambda _: {f"{_OWN}Bucket-Key": "true"},
            lambda mine: {**nothing, one: mine[_INNER]},
            lambda _: {**nothing, one: single[one]},
        )
        for change in changes:
            await self.put("k", DATA, DUAL)
            mine = (await self.below.head("b", "k")).metadata.internal
            await self.with_entries("k", change(mine))
            self.store = self.process()
            await self.refused()

    async def test_single_for_dual(self) -> None:
        """
        An object in one layer does not become one in two by what is claimed of it.
        """
        await self.prepare()
        await self.put("k", DATA, KMS)
        await self.put("other", DATA, DUAL)
        theirs = (await self.below.head("b", "other")).metadata.internal
        mine = (await self.below.head("b", "k")).metadata.internal
        one = f"{_PREFIX}Kms-Sealed-Key"
        for changed in (
            {one: None, _INNER: mine[one]},
            {_OUTER: theirs[_OUTER], _OUTER_DATA: theirs[_OUTER_DATA]},
            {name: theirs[name] for name in (_INNER, _OUTER, _OUTER_DATA)},
            {one: None, **{name: theirs[name] for name in (_INNER, _OUTER, _OUTER_DATA)}},
        ):
            await self.put("k", DATA, KMS)
            await self.with_entries("k", changed)
            self.store = self.process()
            await self.refused()

    async def test_part_layers(self) -> None:
        """
        In the parts of an object, too, each layer is authenticated by itself: a part of another
        number or upload is refused, however its outer layer was made anew.
        """
        await self.prepare()
        for key in ("k", "other"):
            began = await self.upload({1: DATA, 2: DATA[::-1]}, DUAL, key)
            await self.complete(began, (1, 2))
        info, raw = await self.raw("k")
        half = info.parts[0].size
        outer_key = (await self.keys("k"))[1]
        part_keys = [part_key(outer_key, number) for number in (1, 2)]
        outers = (raw[:half], raw[half:])
        first, second = map(decrypt, part_keys, outers)
        _, theirs = await self.raw("other")
        other_key = part_key((await self.keys("other"))[1], 1)
        foreign = decrypt(other_key, theirs[:half])
        for streams in (
            (second, first),
            (first, first),
            (foreign, second),
            (flipped(first, 100), second),
            (first, flipped(second, len(second) - 1)),
        ):
            made = [
                dare.encrypt(secret, outer[4:16], stream)
                for secret, outer, stream in zip(part_keys, outers, streams, strict=True)
            ]
            await self.replace("k", info, made)
            with self.assertRaises(NotAuthentic):
                await self.get("k")
        await self.replace("k", info, outers)
        self.assertTrue(await self.get("k") == DATA + DATA[::-1])

    async def test_unknown(self) -> None:
        """
        Who does not know of layers finds no sealed key, and refuses the object.
        """
        await self.prepare()
        await self.put("k", DATA, DUAL)
        known = {
            domain: name
            for domain, name in metadata._SEALED_KEYS.items()
            if domain is not Domain.DSSE_KMS
        }
        self.patch(metadata, "_SEALED_KEYS", known)
        store = self.process()
        with self.assertRaises(NotAuthentic):
            await self.get("k", store=store)
        self.assertEqual(len((await store.list("b", ListQuery())).objects), 1)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IObjectStore`` must do with uploads in parts.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from kypello.errors import (
    BodyTruncated,
    KypelloError,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    Refused,
)
from kypello.interfaces import Assemble, Condition, IObjectStore
from kypello.model import (
    Assembly,
    ByteRange,
    CustomerKey,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    UploadListing,
    UploadQuery,
)
from kypello.testing.fakes import BytesSource
from tests.contracts.object_store import (
    ObjectStoreCase,
    StuckSource,
    blocks,
    if_match,
    if_none_match,
    pattern,
)

#: What an upload begins with.
BEGUN = ObjectMetadata(
    headers={"content-type": "text/plain"},
    user={"colour": "blue", "city": "Zürich"},
    tags={"tag": "value"},
    checksum_type="COMPOSITE",
    storage_class="REDUCED_REDUNDANCY",
)

#: Sizes of the parts of objects: few and many, small and large, empty ones in all places.
SHAPES: Sequence[Sequence[int]] = (
    (0,),
    (5,),
    (0, 0),
    (0, 10, 0),
    (1_100_000,),
    (1_100_000, 1_200_001, 0, 70_000, 3),
    (65_536, 65_537),
    tuple(range(40)),
)

#: Names that no upload has, but perhaps the last one.
UNKNOWN = ("", "x", "../x", "a\x00b", "ü", "0" * 47, "g" * 48, "0" * 10_000, "0" * 48)


def part_metadata(data: bytes) -> ObjectMetadata:
    """
    What a front tells of a part.
    """
    digest = hashlib.md5(data).hexdigest()
    return ObjectMetadata(digest, checksums={"crc32c": digest[:8]})


def choose(*numbers: int, etag: str = "made") -> Assemble:
    """
    Make an object of these parts, or of all.
    """

    def assemble(upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Take over what the upload began with.
        """
        metadata = ObjectMetadata(
            etag,
            upload.metadata.headers,
            upload.metadata.user,
            {"crc32c": "AAAAAA=="},
            upload.metadata.checksum_type,
            upload.metadata.tags,
            storage_class=upload.metadata.storage_class,
        )
        return Assembly(numbers or tuple(part.number for part in parts), metadata)

    return assemble


def seen(part: PartInfo) -> tuple[int, int, str, dict[str, str]]:
    """
    What a client sees of a part.
    """
    return part.number, part.size, part.etag, dict(part.metadata.checksums)


class UploadsCase(ObjectStoreCase):
    """
    What tests of uploads in parts have in common.
    """

    async def begin(self, store: IObjectStore, key: str = "k", bucket: str = "b") -> UploadInfo:
        """
        Begin an upload.
        """
        return await store.create_upload(bucket, key, BEGUN, "crc32c")

    async def put_part(
        self, store: IObjectStore, upload: UploadInfo, number: int, data: bytes
    ) -> PartInfo:
        """
        Store a part.
        """
        body = BytesSource(blocks(data))
        told: list[int] = []

        def describe(size: int) -> ObjectMetadata:
            """
            Describe the data.
            """
            told.append(size)
            return part_metadata(data)

        try:
            part = await store.put_part(
                upload.bucket, upload.key, upload.upload_id, number, body, describe
            )
        finally:
            self.assertTrue(body.closed)
        self.assertEqual(told, [len(data)])
        self.assertEqual(seen(part), (number, len(data), *seen_of(data)))
        return part

    async def complete(
        self,
        store: IObjectStore,
        upload: UploadInfo,
        assemble: Assemble | None = None,
        request: bytes = b"request",
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Complete an upload.
        """
        return await store.complete_upload(
            upload.bucket,
            upload.key,
            upload.upload_id,
            request,
            assemble or choose(),
            condition,
        )

    async def parts(
        self, store: IObjectStore, upload: UploadInfo, after: int = 0, limit: int = 10_000
    ) -> Sequence[PartInfo]:
        """
        The parts of an upload.
        """
        return await store.parts(upload.bucket, upload.key, upload.upload_id, after, limit)

    async def abort(self, store: IObjectStore, upload: UploadInfo) -> None:
        """
        Abort an upload.
        """
        await store.abort_upload(upload.bucket, upload.key, upload.upload_id)

    async def uploaded(self, store: IObjectStore, *contents: bytes, key: str = "k") -> ObjectInfo:
        """
        Upload an object in parts.
        """
        upload = await self.begin(store, key)
        for number, data in enumerate(contents, 1):
            await self.put_part(store, upload, number, data)
        return await self.complete(store, upload)

    async def stuck_part(
        self, store: IObjectStore, upload: UploadInfo, number: int, size: int
    ) -> tuple[StuckSource, "Deferred[PartInfo]"]:
        """
        Begin to store a part whose body waits.
        """
        data = pattern(size, number)
        body = StuckSource(blocks(data))
        putting = Deferred.fromCoroutine(
            store.put_part(
                upload.bucket,
                upload.key,
                upload.upload_id,
                number,
                body,
                lambda _: part_metadata(data),
            )
        )
        while body.waiting is None:
            await self.turn()
        return body, putting

    async def assert_ended(self, store: IObjectStore, upload: UploadInfo) -> None:
        """
        An upload is known no more.
        """
        where = upload.bucket, upload.key, upload.upload_id
        body = BytesSource([b"data"])
        for call in (
            store.upload(*where),
            store.put_part(*where, 1, body, lambda _: part_metadata(b"data")),
            store.parts(*where, 0, 1000),
            store.complete_upload(*where, b"another request", choose()),
            store.abort_upload(*where),
        ):
            error = await self.raises(NoSuchUpload, call)
            self.assertEqual(error.upload_id, upload.upload_id)
        self.assertEqual((body.reads, body.closed), (0, True))
        listing = await store.uploads(upload.bucket, UploadQuery())
        self.assertTrue(upload.upload_id not in [each.upload_id for each in listing.uploads])


class UploadsContract(UploadsCase):
    """
    The contract of uploads in parts.

    It looks from above only, as that of an object store does.
    """

    async def test_upload(self) -> None:
        """
        An upload keeps what it began with, and changes nothing until it is complete.
        """
        store = await self.with_bucket()
        before = await self.put(store, "k", b"before")
        upload = await self.begin(store)
        self.assertEqual((upload.bucket, upload.key, upload.checksum), ("b", "k", "crc32c"))
        for name in ("headers", "user", "tags", "checksum_type", "storage_class"):
            self.assertEqual(getattr(upload.metadata, name), getattr(BEGUN, name))
        self.assertTrue(upload.upload_id.replace("-", "").replace("_", "").isalnum())
        self.assertEqual(await store.upload("b", "k", upload.upload_id), upload)
        self.assertEqual(await store.uploads("b", UploadQuery()), UploadListing((upload,)))
        self.assertEqual(list(await self.parts(store, upload)), [])
        await self.put_part(store, upload, 1, b"after")
        self.assertEqual(await store.head("b", "k"), before)
        info = await self.complete(store, upload)
        self.assertGreater(info.modified, before.modified)
        self.assertEqual(await self.get(store, "k"), b"after")
        await self.assert_ended(store, upload)

    async def test_shapes(self) -> None:
        """
        Objects of parts of all sizes are read back, whole and in ranges, with their metadata.
        """
        store = await self.with_bucket()
        for shape in SHAPES:
            contents = [pattern(size, number) for number, size in enumerate(shape, 1)]
            data = b"".join(contents)
            info = await self.uploaded(store, *contents)
            self.assertEqual((info.size, info.etag), (len(data), "made"))
            for name in ("headers", "user", "tags", "checksum_type", "storage_class"):
                self.assertEqual(getattr(info.metadata, name), getattr(BEGUN, name))
            self.assertEqual(info.metadata.checksums, {"crc32c": "AAAAAA=="})
            self.assertEqual(
                [seen(part) for part in info.parts],
                [(number, len(each), *seen_of(each)) for number, each in enumerate(contents, 1)],
            )
            self.assertEqual(await store.head("b", "k"), info)
            opened = await store.open("b", "k")
            self.assertEqual(opened.info, info)
            self.assertEqual(await self.drain(opened), data)
            opened.close()
            borders = {0, len(data)}
            for number in range(len(contents)):
                border = sum(map(len, contents[:number]))
                borders |= {border - 1, border, border + 1}
            places = sorted(border for border in borders if 0 <= border <= len(data))
            some = places[:: max(1, len(places) // 6)]
            for start in some:
                for stop in some:
                    if start < stop:
                        found = await self.get(store, "k", ByteRange(start, stop))
                        self.assertEqual(found, data[start:stop])

    async def test_listed(self) -> None:
        """
        A listing tells of an object what HEAD does, but for its parts.
        """
        store = await self.with_bucket()
        for shape in ((10,), (10, 20), (5,) * 40):
            info = await self.uploaded(store, *(pattern(size) for size in shape))
            (listed,) = (await store.list("b", ListQuery())).objects
            self.assertEqual(
                (listed.size, listed.modified, listed.etag), (info.size, info.modified, info.etag)
            )
            self.assertEqual(listed.parts, ())

    async def test_kinds(self) -> None:
        """
        Objects in one piece and in parts replace each other, and can be deleted.
        """
        store = await self.with_bucket()
        kinds: Sequence[Sequence[int]] = ((10,), (300_000,), (10, 20), (7,) * 40)
        modified = -1
        for first in range(len(kinds)):
            for second in range(len(kinds)):
                for number in (first, second):
                    contents = [pattern(size, number) for size in kinds[number]]
                    if len(contents) == 1:
                        info = await self.put(store, "k", contents[0])
                    else:
                        info = await self.uploaded(store, *contents)
                    self.assertGreater(info.modified, modified)
                    modified = info.modified
                    self.assertEqual(await self.get(store, "k"), b"".join(contents))
                    self.assertEqual(await store.head("b", "k"), info)
            await store.delete("b", "k")
            await self.raises(NoSuchKey, store.head("b", "k"))
            modified = -1

    async def test_parts(self) -> None:
        """
        Parts are told in the order of their numbers, page after page.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        numbers = [7, 10_000, 1, 2, 256, 255]
        for number in numbers:
            await self.put_part(store, upload, number, pattern(number, number))
        numbers.sort()
        found = await self.parts(store, upload)
        self.assertEqual(
            [seen(part) for part in found],
            [(number, number, *seen_of(pattern(number, number))) for number in numbers],
        )
        for after in (0, 1, 2, 3, 255, 9999, 10_000, 70_000):
            for limit in (0, 1, 3, 1000):
                self.assertEqual(
                    [part.number for part in await self.parts(store, upload, after, limit)],
                    [number for number in numbers if number > after][:limit],
                )
        await self.complete(store, upload)
        expected = b"".join(pattern(number, number) for number in numbers)
        self.assertEqual(await self.get(store, "k"), expected)

    async def test_chosen(self) -> None:
        """
        The object is made of the chosen parts in their order; all that there are may be chosen.
        """
        store = await self.with_bucket()
        for size in (10, 200_000):
            upload = await self.begin(store)
            for number in (5, 4, 3, 2, 1):
                await self.put_part(store, upload, number, pattern(size, number))
            shown: list[tuple[UploadInfo, list[int]]] = []

            def assemble(
                info: UploadInfo,
                parts: Sequence[PartInfo],
                shown: list[tuple[UploadInfo, list[int]]] = shown,
            ) -> Assembly:
                """
                Choose two.
                """
                shown.append((info, [part.number for part in parts]))
                return choose(2, 4)(info, parts)

            info = await self.complete(store, upload, assemble)
            self.assertEqual(shown, [(upload, [1, 2, 3, 4, 5])])
            self.assertEqual([part.number for part in info.parts], [2, 4])
            self.assertEqual(await self.get(store, "k"), pattern(size, 2) + pattern(size, 4))
            await self.settle(store)
            self.assertEqual(await self.get(store, "k"), pattern(size, 2) + pattern(size, 4))

    async def test_chosen_wrongly(self) -> None:
        """
        Parts that are not there, or there once, are not chosen: that is a defect of the caller.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, b"data")
        for numbers in ((1, 2), (1, 1), (0,)):
            with self.assertRaises(ValueError):
                await self.complete(store, upload, choose(*numbers))
        with self.assertRaises(ValueError):
            await self.complete(store, upload, lambda *_: Assembly((), BEGUN))
        self.assertEqual(len(await self.parts(store, upload)), 1)

    async def test_again(self) -> None:
        """
        A part that is stored again replaces the earlier one.
        """
        store = await self.with_bucket()
        for sizes in ((10, 20), (1_100_000, 5), (5, 1_100_000), (0, 5), (5, 0)):
            upload = await self.begin(store)
            await self.put_part(store, upload, 2, b"end")
            for number, size in enumerate(sizes):
                await self.put_part(store, upload, 1, pattern(size, number))
            await self.settle(store)
            self.assertEqual([part.size for part in await self.parts(store, upload)], [sizes[1], 3])
            await self.complete(store, upload)
            self.assertEqual(await self.get(store, "k"), pattern(sizes[1], 1) + b"end")

    async def test_at_once(self) -> None:
        """
        Parts may be stored at once; of one number one is kept, and whole.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        contents = {size: pattern(size, size) for size in (10, 20_000, 100_000, 1_200_000)}
        work = [
            self.put_part(store, upload, number, data)
            for data in contents.values()
            for number in (1, 1, 1 + len(data) // 10)
            if number <= 10_000
        ]
        await gatherResults([Deferred.fromCoroutine(each) for each in work])
        await self.settle(store)
        parts = await self.parts(store, upload)
        self.assertEqual([part.number for part in parts], [1, 2, 2001])
        for part in parts:
            self.assertEqual(seen(part)[1:], (part.size, *seen_of(contents[part.size])))
        self.assertEqual([part.size for part in parts[1:]], [10, 20_000])
        await self.complete(store, upload)
        expected = b"".join(contents[part.size] for part in parts)
        self.assertEqual(await self.get(store, "k"), expected)

    async def test_unknown(self) -> None:
        """
        An upload is known by its own name, under its own key, in its own bucket.
        """
        store = await self.with_bucket()
        await store.create_bucket("other", {})
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, b"data")
        for name in UNKNOWN:
            await self.assert_ended(store, with_id(upload, name))
        for bucket, key in (("b", "k2"), ("b", ""), ("b", "k\x00"), ("other", "k")):
            elsewhere = UploadInfo(bucket, key, upload.upload_id, 0, BEGUN)
            for call in (
                store.upload(bucket, key, upload.upload_id),
                self.put_part(store, elsewhere, 1, b"data"),
                self.parts(store, elsewhere),
                self.complete(store, elsewhere),
                self.abort(store, elsewhere),
            ):
                await self.raises(NoSuchUpload, call)
        self.assertEqual(len(await self.parts(store, upload)), 1)
        await self.complete(store, upload)
        for bucket, key in (("b", "k2"), ("other", "k")):
            elsewhere = UploadInfo(bucket, key, upload.upload_id, 0, BEGUN)
            await self.raises(NoSuchUpload, self.complete(store, elsewhere))

    async def test_no_bucket_for_uploads(self) -> None:
        """
        Whatever is done with a bucket that does not exist says so, before a body is read.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, b"data")
        await store.delete_bucket("b")
        for name in (upload.upload_id, "x"):
            body = BytesSource([b"data"])
            where = "b", "k", name
            for call in (
                self.begin(store),
                store.upload(*where),
                store.put_part(*where, 1, body, lambda _: part_metadata(b"data")),
                store.parts(*where, 0, 1000),
                store.complete_upload(*where, b"request", choose()),
                store.abort_upload(*where),
                store.uploads("b", UploadQuery()),
                store.uploads("b", UploadQuery(limit=0)),
            ):
                error = await self.raises(NoSuchBucket, call)
                self.assertEqual(error.bucket, "b")
            self.assertEqual((body.reads, body.closed), (0, True))

    async def test_bucket_deleted(self) -> None:
        """
        Unfinished uploads do not hinder that a bucket is deleted, and go with it.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, pattern(100_000))
        body, putting = await self.stuck_part(store, upload, 2, 200_000)
        await store.delete_bucket("b")
        await store.create_bucket("b", {})
        body.waiting.callback(b"")
        await self.raises(NoSuchBucket, putting)
        await self.settle(store)
        await self.assert_ended(store, upload)
        self.assertEqual(await store.uploads("b", UploadQuery()), UploadListing())

    async def test_failed_part(self) -> None:
        """
        A part whose body or description fails raises that, and leaves what was there.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        before = await self.put_part(store, upload, 1, b"before")
        where = "b", "k", upload.upload_id

        def refuse(_: int) -> ObjectMetadata:
            """
            Find a wrong digest.
            """
            raise Refused("BadDigest")

        for size in (100, 200_000):
            data = pattern(size)

            def describe(_: int, data: bytes = data) -> ObjectMetadata:
                """
                Describe the data.
                """
                return part_metadata(data)

            for number in (1, 2):
                for failure, described, error in (
                    (BodyTruncated(), describe, BodyTruncated),
                    (None, refuse, Refused),
                ):
                    body = BytesSource(blocks(data), failure)
                    await self.raises(error, store.put_part(*where, number, body, described))
                    self.assertTrue(body.closed)
        self.assertEqual(list(await self.parts(store, upload)), [before])

    async def test_cancelled_part(self) -> None:
        """
        A part that is cancelled while it waits for its body ends at once and leaves nothing.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        for size in (100, 200_000):
            body, putting = await self.stuck_part(store, upload, 1, size)
            putting.cancel()
            with self.assertRaises(CancelledError):
                await putting
            self.assertTrue(body.closed)
            self.assertEqual(list(await self.parts(store, upload)), [])

    async def test_ended_meanwhile(self) -> None:
        """
        A part whose upload is aborted or completed meanwhile finds it no more, and leaves
        nothing.
        """
        store = await self.with_bucket()
        for size in (100, 300_000):
            for end in (self.abort, self.complete):
                for number in (1, 2):
                    upload = await self.begin(store)
                    await self.put_part(store, upload, 1, pattern(size, 7))
                    body, putting = await self.stuck_part(store, upload, number, size)
                    await end(store, upload)
                    body.waiting.callback(b"")
                    error = await self.raises(NoSuchUpload, putting)
                    self.assertEqual(error.upload_id, upload.upload_id)
                    self.assertTrue(body.closed)
                    await self.settle(store)
                    await self.assert_ended(store, upload)
            self.assertEqual(await self.get(store, "k"), pattern(size, 7))

    async def test_failed_complete(self) -> None:
        """
        When assembling or a condition refuses, the upload is as it was, and so is the object.
        """
        store = await self.with_bucket()
        before = await self.put(store, "k", b"before")
        upload = await self.begin(store)
        parts = [await self.put_part(store, upload, number, b"data") for number in (1, 2)]

        def refuse(_: UploadInfo, __: Sequence[PartInfo]) -> Assembly:
            """
            Miss a part.
            """
            raise Refused("InvalidPart")

        await self.raises(Refused, self.complete(store, upload, refuse))
        await self.raises(PreconditionFailed, self.complete(store, upload, condition=if_none_match))
        self.assertEqual(await store.head("b", "k"), before)
        self.assertEqual(list(await self.parts(store, upload)), parts)
        seen_before: list[ObjectInfo | None] = []
        first = await self.complete(store, upload, condition=seen_before.append)
        self.assertEqual(seen_before[-1], before)
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, b"more")
        info = await self.complete(store, upload, condition=if_match(first.etag))
        self.assertEqual(await store.head("b", "k"), info)

    async def test_conditions_of_parts(self) -> None:
        """
        Conditions see an object of parts as HEAD tells it.
        """
        store = await self.with_bucket()
        for count in (1, 3, 40):
            info = await self.uploaded(store, *[b"data"] * count)
            shown: list[ObjectInfo | None] = []
            await self.put(store, "k", b"data", shown.append)
            self.assertEqual(shown, [info])
            info = await self.uploaded(store, *[b"data"] * count)
            await store.delete("b", "k", shown.append)
            self.assertEqual(shown[1:], [info])

    async def test_repeated(self) -> None:
        """
        The same request gives the same answer again, as long as what it made is current.
        """
        store = await self.with_bucket()

        async def remove() -> None:
            """
            Delete the object.
            """
            await store.delete("b", "k")

        async def replace() -> None:
            """
            Put another object.
            """
            await self.put(store, "k", b"data")

        async def make_alike() -> None:
            """
            Make one that looks the same, as the first version of its key.
            """
            await store.delete("b", "k")
            await self.uploaded(store, *[b"data"] * count)

        changes: Sequence[Callable[[], Any]] = (remove, replace, make_alike)
        for count in (1, 3, 40):
            for change in changes:
                await store.delete("b", "k")
                upload = await self.begin(store)
                for number in range(count):
                    await self.put_part(store, upload, number + 1, b"data")
                info = await self.complete(store, upload)
                for _ in range(2):
                    self.assertEqual(await self.complete(store, upload), info)
                # It is there as it was made: the condition held once.
                again = self.complete(store, upload, condition=if_none_match)
                self.assertEqual(await again, info)
                await self.raises(NoSuchUpload, self.complete(store, upload, request=b"other"))
                await self.assert_ended(store, upload)
                await change()
                await self.raises(NoSuchUpload, self.complete(store, upload))

    async def test_completes_at_once(self) -> None:
        """
        Of several who complete an upload at once, one does; the others get the same answer for
        the same request, and else find no upload.
        """
        store = await self.with_bucket()
        for size in (10, 100_000):
            for requests in ([b"same"] * 6, [b"%d" % number for number in range(6)]):
                upload = await self.begin(store)
                for number in (1, 2):
                    await self.put_part(store, upload, number, pattern(size, number))
                made: list[ObjectInfo] = []
                refused: list[NoSuchUpload] = []

                async def attempt(
                    request: bytes,
                    upload: UploadInfo = upload,
                    made: list[ObjectInfo] = made,
                    refused: list[NoSuchUpload] = refused,
                ) -> None:
                    """
                    Try it.
                    """
                    try:
                        made.append(await self.complete(store, upload, request=request))
                    except NoSuchUpload as error:
                        refused.append(error)

                await gatherResults([Deferred.fromCoroutine(attempt(each)) for each in requests])
                self.assertEqual(len(refused), len(set(requests)) - 1)
                self.assertEqual(made, [await store.head("b", "k")] * len(made))
                await self.settle(store)
                self.assertEqual(await self.get(store, "k"), pattern(size, 1) + pattern(size, 2))

    async def test_completed_under_way(self) -> None:
        """
        Completing beside parts that come and come again loses none that is acknowledged: the
        object is made of those that were there in one instant.
        """
        store = await self.with_bucket()
        for round_ in range(6):
            upload = await self.begin(store)
            for number in (1, 2, 3):
                await self.put_part(store, upload, number, b"first")
            late: list[int] = []

            async def put(number: int, upload: UploadInfo = upload, late: list[int] = late) -> None:
                """
                Store another part, if it is not too late.
                """
                try:
                    await self.put_part(store, upload, number, b"other")
                except NoSuchUpload:
                    late.append(number)

            async def complete(turns: int = round_, upload: UploadInfo = upload) -> ObjectInfo:
                """
                Complete after a while.
                """
                for _ in range(turns):
                    await self.turn()
                return await self.complete(store, upload)

            work: Iterable[Any] = [*(put(number) for number in (2, 3, 4, 5)), complete()]
            *_, info = await gatherResults([Deferred.fromCoroutine(each) for each in work])
            await self.settle(store)
            there = [number for number in (1, 2, 3, 4, 5) if number < 4 or number not in late]
            self.assertEqual([part.number for part in info.parts], there)
            expected = [b"first" if number in (1, *late) else b"other" for number in there]
            self.assertEqual(await self.get(store, "k"), b"".join(expected))
            await self.assert_ended(store, upload)

    async def test_abort(self) -> None:
        """
        An aborted upload is gone; the object and other uploads are not touched.
        """
        store = await self.with_bucket()
        await self.put(store, "k", b"before")
        uploads = [await self.begin(store) for _ in range(3)]
        for number, upload in enumerate(uploads):
            for part in (1, 2):
                await self.put_part(store, upload, part, pattern(100_000, number))
        await self.abort(store, uploads[1])
        await self.assert_ended(store, uploads[1])
        self.assertEqual(await self.get(store, "k"), b"before")
        info = await self.complete(store, uploads[2])
        await self.raises(NoSuchUpload, self.abort(store, uploads[2]))
        await self.settle(store)
        self.assertEqual(await store.head("b", "k"), info)
        self.assertEqual(await self.get(store, "k"), pattern(100_000, 2) * 2)
        self.assertEqual(await store.uploads("b", UploadQuery()), UploadListing((uploads[0],)))
        self.assertEqual(len(await self.parts(store, uploads[0])), 2)
        empty = await self.begin(store)
        await self.abort(store, empty)
        await self.assert_ended(store, empty)

    async def test_parts_pinned(self) -> None:
        """
        An object of parts that was opened reads the same bytes although it is replaced or
        deleted meanwhile.
        """
        store = await self.with_bucket()
        for shape in ((1_500_000, 1_500_000, 10), (1000,) * 40):
            contents = [pattern(size, number) for number, size in enumerate(shape)]
            data = b"".join(contents)
            await self.uploaded(store, *contents)
            first, second, third = [await store.open("b", "k") for _ in range(3)]
            source = await first.read(None)
            first.close()
            found = bytearray(await source.read())
            await self.uploaded(store, b"other", b"content")
            await self.settle(store)
            self.assertEqual(await self.drain(second), data)
            second.close()
            await store.delete("b", "k")
            await self.settle(store)
            while block := await source.read():
                found += block
            source.close()
            self.assertEqual(bytes(found), data)
            wanted = ByteRange(len(data) - 20, len(data))
            self.assertEqual(await self.drain(third, wanted), data[-20:])
            third.close()
            third.close()
            await self.settle(store)

    async def test_read_in_part(self) -> None:
        """
        Who stops to read an object of parts in the middle may close it at any point.
        """
        store = await self.with_bucket()
        contents = [pattern(300_000, number) for number in range(3)]
        await self.uploaded(store, *contents)
        for blocks_read in range(6):
            opened = await store.open("b", "k")
            source = await opened.read(ByteRange(1, 900_000))
            for _ in range(blocks_read):
                await source.read()
            source.close()
            self.assertEqual(bytes(await source.read()), b"")
            opened.close()
        opened = await store.open("b", "k")
        opened.close()

    async def test_uploads(self) -> None:
        """
        Uploads are listed by key, then as they began, page after page, with groups.
        """
        store = await self.with_bucket()
        keys = ["a", "a", "b/1", "b/1", "b/2", "b/c/3", "a/", "d", "ü", "a\x01", "a0"]
        begun = [await self.begin(store, key) for key in keys]
        begun.sort(key=lambda each: (each.key.encode(), each.began, each.upload_id))
        listing = await store.uploads("b", UploadQuery())
        self.assertEqual(listing, UploadListing(tuple(begun)))
        self.assertEqual(await store.uploads("b", UploadQuery(limit=0)), UploadListing())
        for prefix, delimiter in (("", ""), ("", "/"), ("b/", "/"), ("b/", ""), ("a", "")):
            query = UploadQuery(prefix, delimiter)
            whole = await store.uploads("b", query)
            self.assertEqual(whole.next, None)
            skip = len(prefix)
            under = [each for each in begun if each.key.startswith(prefix)]
            self.assertEqual(
                list(whole.uploads),
                [each for each in under if not delimiter or delimiter not in each.key[skip:]],
            )
            for limit in (1, 2, 3):
                uploads: list[UploadInfo] = []
                groups: list[str] = []
                after: tuple[str, str] | None = ("", "")
                while after is not None:
                    page = await store.uploads(
                        "b", UploadQuery(prefix, delimiter, *after, limit=limit)
                    )
                    self.assertTrue(len(page.uploads) + len(page.prefixes) <= limit)
                    uploads += page.uploads
                    groups += page.prefixes
                    after = page.next
                self.assertEqual((uploads, groups), (list(whole.uploads), list(whole.prefixes)))
        grouped = await store.uploads("b", UploadQuery(delimiter="/"))
        self.assertEqual(grouped.prefixes, ("a/", "b/"))

    async def test_upload_markers(self) -> None:
        """
        A key alone hides all its uploads; with an upload, those up to it.
        """
        store = await self.with_bucket()
        begun = [await self.begin(store, key) for key in ("a", "b", "b", "b", "c/1", "c/2", "d")]
        begun.sort(key=lambda each: (each.key.encode(), each.began, each.upload_id))
        middle = begun[2]
        for after, delimiter, expected in (
            (("b", ""), "", begun[4:]),
            (("b", middle.upload_id), "", begun[3:]),
            (("a", begun[0].upload_id), "", begun[1:]),
            (("aa", middle.upload_id), "", begun[1:]),
            (("b", "zzz"), "", begun[4:]),
            (("b\x00", middle.upload_id), "", begun[4:]),
            (("", middle.upload_id), "", begun),
            (("c/1", ""), "", begun[5:]),
            (("c/1", ""), "/", begun[6:]),
            (("c/", ""), "/", begun[6:]),
            (("c/1", begun[4].upload_id), "/", begun[6:]),
            (("d", ""), "", []),
        ):
            query = UploadQuery("", delimiter, *after)
            listing = await store.uploads("b", query)
            shown = [each for each in listing.uploads if each.key[:2] != "c/"]
            self.assertEqual(shown, [each for each in expected if each.key[:2] != "c/"], after)
            if not delimiter:
                self.assertEqual(list(listing.uploads), expected)
        for prefix in ("b\x00", "b\x00" + middle.upload_id[:2], "b" * 2000, "\x00"):
            listing = await store.uploads("b", UploadQuery(prefix))
            self.assertEqual(listing, UploadListing())

    async def test_key_of_client(self) -> None:
        """
        The key of a client is refused for an upload that began without one.
        """
        store = await self.with_bucket()
        upload = await self.begin(store)
        await self.put_part(store, upload, 1, b"data")
        where = "b", "k", upload.upload_id
        key = CustomerKey(b"k" * 32, "md5")
        body = BytesSource([b"data"])
        for call in (
            store.put_part(*where, 1, body, lambda _: part_metadata(b"data"), key),
            store.complete_upload(*where, b"request", choose(), None, key),
        ):
            error: KypelloError = await self.raises(Refused, call)
            self.assertEqual(error.code, "InvalidRequest")
        self.assertEqual((body.reads, body.closed), (0, True))
        self.assertEqual(len(await self.parts(store, upload)), 1)


def seen_of(data: bytes) -> tuple[str, dict[str, str]]:
    """
    What a client sees of a part beside number and size.
    """
    metadata = part_metadata(data)
    return metadata.etag, dict(metadata.checksums)


def with_id(upload: UploadInfo, upload_id: str) -> UploadInfo:
    """
    An upload under another name.
    """
    return UploadInfo(
        upload.bucket, upload.key, upload_id, upload.began, upload.metadata, upload.checksum
    )

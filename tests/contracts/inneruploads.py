# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IInnerStore`` must do beside what every object store does.
"""

from attrs import evolve
from zope.interface.verify import verifyObject

from kypello.errors import NoSuchUpload
from kypello.interfaces import IInnerStore, IOpenObject
from kypello.model import ObjectMetadata, UploadInfo, UploadListing, UploadQuery
from tests.contracts.object_store import pattern
from tests.contracts.uploads import UploadsCase, choose

_AFTER = ObjectMetadata(
    headers={"content-type": "text/html"},
    internal={"key": "new"},
    sealed=b"new",
    storage_class="STANDARD_IA",
)


def after(_upload: UploadInfo) -> ObjectMetadata:
    """
    What an upload is changed to.
    """
    return _AFTER


class InnerUploadsContract(UploadsCase):
    """
    Unfinished uploads that are changed, and parts of them that are read.
    """

    async def make_inner(self) -> IInnerStore:
        """
        An empty store.
        """
        store = await self.with_bucket()
        verifyObject(IInnerStore, store)
        return store

    async def change(self, store: IInnerStore, upload: UploadInfo) -> UploadInfo:
        """
        Change an upload.
        """
        changed: UploadInfo = await store.change_upload("b", "k", upload.upload_id, after)
        self.assertEqual(changed, evolve(upload, metadata=_AFTER))
        return changed

    async def test_upload_changed(self) -> None:
        """
        All metadata of an upload are replaced, again and again; its parts stay, and so do others.
        The object that it becomes has the last ones.
        """
        store = await self.make_inner()
        upload, other = await self.begin(store), await self.begin(store, "other")
        part = await self.put_part(store, upload, 1, b"first")
        first = await self.change(store, upload)
        self.assertEqual(await self.change(store, upload), first)
        back = await store.change_upload("b", "k", upload.upload_id, lambda _: upload.metadata)
        self.assertEqual(back, upload)
        changed = await self.change(store, upload)
        self.assertEqual(await store.upload("b", "k", upload.upload_id), changed)
        self.assertEqual(await store.uploads("b", UploadQuery()), UploadListing((changed, other)))
        for behind in (-1, 0):
            self.assertEqual(list(await self.parts(store, upload, behind)), [part])
        await self.put_part(store, upload, 2, b"second")
        made = await self.complete(store, upload)
        self.assertEqual(dict(made.metadata.headers), dict(_AFTER.headers))
        self.assertEqual([part.number for part in made.parts], [1, 2])
        self.assertEqual(await self.get(store, "k"), b"firstsecond")
        await self.assert_ended(store, upload)

    async def test_part_while_changed(self) -> None:
        """
        A part that is being sent when its upload is changed is stored.
        """
        store = await self.make_inner()
        upload = await self.begin(store)
        body, putting = await self.stuck_part(store, upload, 1, 200_000)
        await self.change(store, upload)
        assert body.waiting is not None
        body.waiting.callback(b"")
        await putting
        await self.complete(store, upload)
        self.assertEqual(await self.get(store, "k"), pattern(200_000, 1))

    async def test_change_of_none(self) -> None:
        """
        What has ended cannot be changed, and what a change raises changes nothing.
        """
        store = await self.make_inner()
        upload = await self.begin(store)

        def refuse(_upload: UploadInfo) -> ObjectMetadata:
            """
            Change nothing.
            """
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            await store.change_upload("b", "k", upload.upload_id, refuse)
        self.assertEqual(await store.upload("b", "k", upload.upload_id), upload)
        await self.change(store, upload)
        await self.abort(store, upload)
        await self.assert_ended(store, upload)
        for upload_id in (upload.upload_id, "absent"):
            await self.raises(NoSuchUpload, store.change_upload("b", "k", upload_id, after))

    async def test_part_read(self) -> None:
        """
        A part is read as it was when it was opened; it tells its metadata.
        """
        store = await self.make_inner()
        upload = await self.begin(store)
        for size in (0, 10, 1_100_000):
            part = await self.put_part(store, upload, 3, pattern(size))
            opened: IOpenObject = await store.open_part("b", "k", upload.upload_id, 3)
            await self.put_part(store, upload, 3, b"another")
            self.assertEqual(opened.info.parts, (part,))
            self.assertEqual((opened.info.size, opened.info.metadata), (size, part.metadata))
            self.assertEqual(await self.drain(opened), pattern(size))
            opened.close()
        missing = store.open_part("b", "k", upload.upload_id, 2)
        await self.raises(NoSuchUpload, missing)
        await self.complete(store, upload, choose(3))
        await self.raises(NoSuchUpload, store.open_part("b", "k", upload.upload_id, 3))

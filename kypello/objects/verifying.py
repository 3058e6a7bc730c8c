# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether every encrypted object can be opened as it lies on the disk, with the keys at hand.

Each version is opened on its own, whatever it is remembered as: its data key by the KMS, its
sealed key, its metadata, and then all of its packages, whose plaintext must have the checksums
and the ETag that were sealed with it.  So is each part of each unfinished upload.  Of what a client
has the key of, the packages are looked at.
"""

from collections.abc import Sequence

from attrs import define, evolve, field

from kypello.crypto.keys import Domain
from kypello.crypto.metadata import domain_of, is_encrypted
from kypello.errors import Damaged, NoSuchBucket, StorageFailed
from kypello.interfaces import IInnerStore, IObjectStore
from kypello.model import (
    BucketInfo,
    ListedVersion,
    ObjectInfo,
    PartInfo,
    UploadInfo,
    UploadQuery,
    VersionQuery,
)
from kypello.objects.access import Access
from kypello.objects.contents import Contents, Streams
from kypello.objects.demands import Demands, Server
from kypello.objects.judging import Finding, Judge, Kind, Position, Verified, Wanted
from kypello.objects.multipart import open_part
from kypello.objects.objectkeys import READING, ObjectKeys
from kypello.objects.shown import opened_upload
from kypello.store.findings import told

#: Versions, or parts, that are listed at once.
_PAGE = 1000


@define(eq=False)
class Verifier:
    """
    Opens objects one after the other, in the order of their names, newest versions first, and in
    each bucket unfinished uploads after that.

    :ivar _below: The store, as it keeps objects.
    :ivar _above: The same store, decrypted.
    :ivar _keys: Opens the keys of objects.
    :ivar _access: Opens what is known of uploads.
    :ivar _judge: Tells what is wrong.
    :ivar _server: What it demands of objects beside their buckets.
    :ivar position: Where it is.
    """

    _below: IInnerStore
    _above: IObjectStore
    _keys: ObjectKeys
    _access: Access
    _judge: Judge
    _server: Server
    position: Position = field(factory=Position)

    @property
    def figures(self) -> Verified:
        """
        What was seen so far.
        """
        return self._judge.figures

    async def run(self, wanted: Wanted) -> None:
        """
        Look at what is wanted and comes after :attr:`position`.

        :raises NoSuchBucket: There is no such bucket.
        :raises KMSUnavailable: Nobody opens keys, as with :class:`KeyStoreUnreachable`.  What was
            seen so far counts.
        :raises KypelloError: The buckets cannot be listed.
        """
        if wanted.bucket:
            buckets: Sequence[BucketInfo] = [await self._below.bucket(wanted.bucket)]
        else:
            buckets = sorted(await self._below.buckets(), key=lambda each: each.name)
        for info in buckets:
            if info.name >= self.position.bucket:
                await self._bucket(info, wanted.prefix)

    async def _bucket(self, info: BucketInfo, prefix: str) -> None:
        if info.name != self.position.bucket:
            self.position = Position(info.name)
            self.figures.buckets += 1
        demands = Demands.of(info, self._server)
        for what in demands.unreadable:
            unreadable = f"{what} cannot be read"
            self._judge.found(Finding(Kind.DAMAGED, info.name), Kind.DAMAGED, unreadable)
        for what, walk in (("versions", self._versions), ("uploads", self._uploads)):
            try:
                await walk(info, prefix, demands)
            except (Damaged, StorageFailed) as error:
                found = f"not all {what} can be listed: {told(error)}"
                self._judge.found(Finding(Kind.DAMAGED, info.name), Kind.DAMAGED, found)
            except NoSuchBucket:
                # It was empty, or is by now.
                self.figures.vanished += 1
                return

    async def _versions(self, info: BucketInfo, prefix: str, demands: Demands) -> None:
        if self.position.upload:
            return
        following: tuple[str, str] | None = self.position.key, self.position.version
        while following is not None:
            query = VersionQuery(prefix, "", *following, limit=_PAGE)
            page = await self._below.list_versions(info.name, query)
            for each in page.versions:
                if not each.marker:
                    await self._version(demands, each)
                self.position = Position(info.name, each.info.key, each.info.version_id)
            following = page.next

    async def _version(self, demands: Demands, listed: ListedVersion) -> None:
        """
        Look at one version.

        :raises KypelloError: It says nothing of this version.
        """
        bucket, key, version = listed.info.bucket, listed.info.key, listed.info.version_id
        where = Finding(Kind.DAMAGED, bucket, key, version)

        async def verify() -> None:
            """
            Look at it as it is now: its keys may be others than when it was listed.
            """
            stored = await self._below.head(bucket, key, None, version)
            await self._verify(stored)
            self._see_accepted(where, demands, stored)

        await self._judge.look(where, verify)
        self.figures.versions += 1

    async def _verify(self, stored: ObjectInfo) -> None:
        entries = stored.metadata.internal
        if not is_encrypted(entries):
            self.figures.plain += 1
        elif domain_of(entries) is Domain.SSE_C:
            await self._look_at_packages(stored)
            self.figures.structure += 1
        else:
            await self._open(stored)
            self.figures.opened += 1

    def _see_accepted(
        self, where: Finding, demands: Demands, stored: ObjectInfo | UploadInfo
    ) -> None:
        """
        Tell what is against the encryption of something that is sound.
        """
        against = demands.against(stored)
        if against:
            encrypted = is_encrypted(stored.metadata.internal)
            kind = Kind.REFUSED if encrypted else Kind.PLAINTEXT
            self._judge.found(where, kind, against)

    async def _open(self, stored: ObjectInfo) -> None:
        """
        Open a version with a key of the KMS, and read it to its end.
        """
        bucket, key, version = stored.bucket, stored.key, stored.version_id
        # Also of what has no content the key must open.
        await self._keys.opening(bucket, key, stored.metadata.internal)()
        opened = await self._above.open(bucket, key, None, version)
        try:
            contents = Contents(opened.info)
            await self._judge.drain(await opened.read(None), contents.feed)
        finally:
            opened.close()
        contents.finish()

    async def _look_at_packages(self, stored: ObjectInfo) -> None:
        opened = await self._below.open(stored.bucket, stored.key, None, stored.version_id)
        try:
            streams = Streams(opened.info)
            await self._judge.drain(await opened.read(None), streams.feed)
        finally:
            opened.close()
        streams.finish()

    async def _uploads(self, info: BucketInfo, prefix: str, demands: Demands) -> None:
        following: tuple[str, str] | None = "", ""
        if self.position.upload:
            following = self.position.key, self.position.upload
        while following is not None:
            page = await self._below.uploads(info.name, UploadQuery(prefix, "", *following))
            for each in page.uploads:
                await self._upload(demands, each)
                self.position = Position(info.name, each.key, "", each.upload_id)
            following = page.next

    async def _upload(self, demands: Demands, listed: UploadInfo) -> None:
        """
        Look at one upload, and at its parts if its keys open.

        :raises KypelloError: It says nothing of this upload.
        """
        bucket, key = listed.bucket, listed.key
        where = Finding(Kind.DAMAGED, bucket, key, upload=listed.upload_id)

        async def verify() -> None:
            """
            Look at it as it is now.
            """
            stored = await self._below.upload(bucket, key, listed.upload_id)
            entries = stored.metadata.internal
            if is_encrypted(entries) and domain_of(entries) is not Domain.SSE_C:
                await self._keys.opening(bucket, key, entries)()
            self._see_accepted(where, demands, stored)

        if await self._judge.look(where, verify) and is_encrypted(listed.metadata.internal):
            await self._parts(where)
        self.figures.uploads += 1

    async def _parts(self, where: Finding) -> None:
        name, after = (where.bucket, where.key, where.upload), 0
        parts: Sequence[PartInfo] = ()

        async def list_parts() -> None:
            """
            List the next ones.
            """
            nonlocal parts
            parts = await self._below.parts(*name, after, _PAGE)

        while await self._judge.look(where, list_parts) and parts:
            for part in parts:
                await self._part(where, part.number)
            after = parts[-1].number

    async def _part(self, where: Finding, number: int) -> None:
        name = where.bucket, where.key, where.upload

        async def verify() -> None:
            """
            Read it to its end.
            """
            upload = await self._below.upload(*name)
            below = await self._below.open_part(*name, number)
            try:
                if domain_of(upload.metadata.internal) is Domain.SSE_C:
                    streams = Streams(below.info)
                    await self._judge.drain(await below.read(None), streams.feed)
                    streams.finish()
                    self.figures.parts_structure += 1
                    return
                opened = open_part(
                    await self._access.open(upload, opened_upload, None, READING), upload, below
                )
                contents = Contents(opened.info)
                await self._judge.drain(await opened.read(None), contents.feed)
                contents.finish()
                self.figures.parts += 1
            finally:
                below.close()

        await self._judge.look(evolve(where, part=number), verify)

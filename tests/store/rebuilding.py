# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A data directory that tests fill, damage and rebuild.
"""

import io
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import Clock

from kypello.model import Assembly, EncryptionRequest, ListQuery, ObjectInfo, UploadQuery
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.rewrapping import Rewrapping
from kypello.store.check import Checker
from kypello.store.directory import DataDirectory
from kypello.store.files import FileBlobs
from kypello.store.findings import Problem
from kypello.store.layout import LayoutStore
from kypello.store.records import SYSTEM, BucketRecord, bucket_key, unpack
from kypello.store.sqlite import SQLiteIndex
from kypello.store.sweep import Sweeper
from kypello.storerebuild import rebuild_directory
from kypello.storereport import Report
from kypello.testing.fakes import BytesSource
from tests.contracts.object_store import blocks, metadata_of, pattern
from tests.contracts.versions import tagged
from tests.http.resources import read_all
from tests.objects.keyservice import MemoryKMS
from tests.store.disk import DiskCase

SMALL, BIG = 700, 100_000
SSE_S3 = EncryptionRequest("AES256")

#: Everything that is told of an object, and its content.
Contents = dict[tuple[str, str], tuple[ObjectInfo, bytes]]


class RebuildCase(DiskCase):
    """
    A test with a store on disk that encrypts.
    """

    def setUp(self) -> None:
        """
        An empty directory.
        """
        super().setUp()
        self.path = self.directory() / "data"
        DataDirectory(self.path).close()
        self.kms, self.clock = MemoryKMS.with_default_key(), Clock()
        self.clock.advance(1_700_000_000)
        self.open()

    def open(self) -> None:
        """
        Begin as a new process.
        """
        self.index = SQLiteIndex(self.path / "index", self.lanes)
        self.blobs = FileBlobs(self.path / "blobs", self.lanes)
        self.layout = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        guarded = GuardedKMS(self.kms, self.index, self.clock)
        self.store = EncryptedStore(self.layout, DataKeys(guarded, self.clock), os.urandom)

    async def sweep(self) -> None:
        """
        Remove what is garbage.
        """
        await Sweeper(self.index, self.blobs, self.layout.intents).sweep()

    async def put(
        self,
        key: str,
        size: int,
        encryption: EncryptionRequest | None = None,
        bucket: str = "b",
        seed: int = 0,
    ) -> None:
        """
        Store an object, a second later.
        """
        self.clock.advance(1)
        data = pattern(size, seed)
        body = BytesSource(blocks(data))
        await self.store.put(bucket, key, body, lambda _: metadata_of(data), encryption)

    async def upload(
        self,
        key: str,
        parts: int,
        encryption: EncryptionRequest | None = None,
        bucket: str = "b",
    ) -> str:
        """
        Begin an upload and send parts.
        """
        self.clock.advance(1)
        metadata = metadata_of(b"")
        made = await self.store.create_upload(bucket, key, metadata, "", encryption)
        for number in range(1, parts + 1):
            await self.part(key, made.upload_id, number, bucket)
        return made.upload_id

    async def part(
        self, key: str, upload: str, number: int, bucket: str = "b", seed: int = 0
    ) -> None:
        """
        Send a part.
        """
        self.clock.advance(1)
        data = pattern(4000 + number, seed)
        body = BytesSource(blocks(data))
        await self.store.put_part(bucket, key, upload, number, body, lambda _: metadata_of(data))

    async def complete(
        self, key: str, upload: str, numbers: tuple[int, ...], bucket: str = "b"
    ) -> ObjectInfo:
        """
        Make the object of an upload.
        """
        self.clock.advance(1)
        request = b",".join(b"%d" % number for number in numbers)
        return await self.store.complete_upload(
            bucket, key, upload, request, lambda info, _: Assembly(numbers, info.metadata)
        )

    async def assemble(
        self,
        key: str,
        parts: int,
        encryption: EncryptionRequest | None = None,
        bucket: str = "b",
    ) -> str:
        """
        Store an object in parts.
        """
        upload = await self.upload(key, parts, encryption, bucket)
        await self.complete(key, upload, tuple(range(1, parts + 1)), bucket)
        return upload

    async def amend(self, key: str, upload: str, encryption: EncryptionRequest | None) -> None:
        """
        Change an unfinished upload twice; of one that is encrypted the key is sealed anew.
        """
        for name in ("first-key", "second-key"):
            self.clock.advance(1)
            if encryption is None:
                await self.layout.change_upload(
                    "b", key, upload, lambda info, new=name: evolve(info.metadata, user={"a": new})
                )
                continue
            if name not in self.kms.keys:
                await self.kms.create_key(name)
            guarded = GuardedKMS(self.kms, self.index, self.clock)
            keys = Rewrapping(self.layout, DataKeys(guarded, self.clock), os.urandom)
            wanted = EncryptionRequest("AES256", name)
            await keys.rewrap_upload("b", key, upload, lambda _, new=wanted: new)

    async def copy(self, source: str, target: str, bucket: str = "b") -> None:
        """
        Store a copy of an object.
        """
        self.clock.advance(1)
        opened = await self.store.open(bucket, source)
        try:
            body = await opened.read(None)
            info = opened.info.metadata
            await self.store.put(bucket, target, body, lambda _: info, SSE_S3)
        finally:
            opened.close()

    async def contents(self) -> Contents:
        """
        All objects, read to their ends.
        """
        found: Contents = {}
        for bucket in await self.store.buckets():
            listing = await self.store.list(bucket.name, ListQuery())
            for info in listing.objects:
                opened = await self.store.open(bucket.name, info.key)
                try:
                    told = opened.info
                    found[bucket.name, info.key] = told, await read_all(await opened.read(None))
                finally:
                    opened.close()
        return found

    async def unfinished(self) -> Any:
        """
        All unfinished uploads with their parts.
        """
        found = []
        for bucket in await self.store.buckets():
            for each in (await self.store.uploads(bucket.name, UploadQuery())).uploads:
                parts = await self.store.parts(bucket.name, each.key, each.upload_id, 0, 1000)
                found.append((each, [(part.number, part.size, part.metadata) for part in parts]))
        return found

    async def space(self, bucket: str = "b") -> str:
        """
        The space of a bucket.
        """
        (raw,) = await self.index.get(SYSTEM, [bucket_key(bucket)])
        assert raw is not None
        return unpack(BucketRecord, raw).space

    async def database(self, bucket: str = "b") -> Path:
        """
        The database of a bucket.
        """
        space = await self.space(bucket)
        return self.path / "index" / space[:2] / f"{space}.sqlite"

    async def rebuild(self, dry_run: bool = False) -> tuple[Any, list[Any]]:
        """
        Make the index anew: the summary, and the problems.
        """
        await self.index.close()
        out = io.StringIO()
        report = Report(out, io.StringIO(), True)
        await rebuild_directory(reactor, self.path, dry_run, report)
        self.open()
        *problems, summary = map(json.loads, out.getvalue().splitlines())
        found = [each["problem"] for each in problems]
        lost = [each for each in found if not each.get("orphan")]
        self.assertEqual(len(lost), summary["summary"]["problems"], found)
        self.assertEqual(len(found) - len(lost), summary["summary"]["unused"], found)
        return summary["summary"], found

    async def assert_sound(self) -> None:
        """
        See that a deep check finds nothing, and that nothing is left to be swept.
        """
        problems: list[Problem] = []
        checker = Checker(
            self.index,
            self.blobs,
            self.lanes,
            problems.append,
            deep=True,
            store=self.store,
        )
        figures = await checker.run()
        self.assertEqual(problems, [])
        self.assertEqual(figures.not_decrypted, 0)


class LosingCase(RebuildCase):
    """
    A test with a store that holds something of all kinds.
    """

    async def fill(self) -> None:
        """
        Store it.
        """
        for name in ("b", "other", "empty"):
            await self.store.create_bucket(name, {"made": b"x"})
        for name, encryption in (("plain", None), ("sealed", SSE_S3)):
            for size in (0, SMALL, BIG):
                await self.put(f"{name}/{size}", size, encryption)
            await self.assemble(f"{name}/few", 3, encryption)
            await self.assemble(f"{name}/many", 20, encryption)
            upload = await self.upload(f"{name}/chosen", 4, encryption)
            await self.complete(f"{name}/chosen", upload, (2, 4))
            await self.upload(f"{name}/unfinished", 2, encryption)
            upload = await self.upload(f"{name}/changed", 2, encryption)
            await self.amend(f"{name}/changed", upload, encryption)
            await self.part(f"{name}/changed", upload, 3)
            # What comes last counts, however it came.
            await self.put(f"{name}/again", BIG, encryption, seed=1)
            await self.put(f"{name}/again", BIG + 1, encryption, seed=2)
            await self.assemble(f"{name}/one", 2, encryption)
            await self.put(f"{name}/one", BIG, encryption, seed=3)
            await self.put(f"{name}/parts", BIG, encryption)
            await self.assemble(f"{name}/parts", 2, encryption)
            await self.put(f"{name}/grown", SMALL, encryption)
            await self.put(f"{name}/grown", BIG, encryption)
            await self.put(f"{name}/shrunk", BIG, encryption)
            await self.put(f"{name}/shrunk", SMALL, encryption)
            await self.put(f"{name}/deleted", BIG, encryption)
            await self.store.delete("b", f"{name}/deleted")
            await self.assemble(f"{name}/gone", 2, encryption)
            await self.store.delete("b", f"{name}/gone")
            aborted = await self.upload(f"{name}/aborted", 2, encryption)
            await self.store.abort_upload("b", f"{name}/aborted", aborted)
            for key in (f"{name}/few", f"{name}/{BIG}", f"{name}/many", f"{name}/{BIG}"):
                self.clock.advance(1)
                await self.store.change_version("b", key, "", tagged(key=key))
            await self.copy(f"{name}/{BIG}", f"{name}/copy")
            await self.copy(f"{name}/many", f"{name}/copied parts")
            await self.put(name, BIG, encryption, "other")
        again = await self.upload("resent", 2)
        await self.part("resent", again, 1, seed=9)
        await self.store.change_bucket("other", lambda old: {**old, "changed": b"y"})
        await self.store.create_bucket("away", {})
        await self.put("k", BIG, None, "away")
        await self.store.delete("away", "k")
        await self.store.delete_bucket("away")
        await self.sweep()

    async def as_before(self, *, without: frozenset[str] = frozenset()) -> None:
        """
        See that all is as it was when it was remembered, but for some keys of the bucket ``b``.
        """
        await self.assert_sound()
        kept = {
            where: what
            for where, what in self.remembered.items()
            if where[0] != "b" or where[1] not in without
        }
        found = await self.contents()
        self.assertEqual(sorted(found), sorted(kept))
        for where, (info, content) in kept.items():
            self.assertEqual(found[where][1], content, where)
            self.assertEqual(found[where][0].metadata, info.metadata, where)
            self.assertEqual(
                [(part.number, part.size, part.metadata) for part in found[where][0].parts],
                [(part.number, part.size, part.metadata) for part in info.parts],
            )
        self.assertEqual(await self.unfinished(), self.uploads)
        self.assertEqual(await self.store.buckets(), self.buckets)

    async def remember(self) -> None:
        """
        Keep in mind what there is.
        """
        self.remembered = await self.contents()
        self.uploads = await self.unfinished()
        self.buckets = await self.store.buckets()

    @property
    def small(self) -> frozenset[str]:
        """
        The keys of the bucket ``b`` whose contents lie in the index.
        """
        small = {key for (_, key), (info, _) in self.remembered.items() if info.size <= SMALL}
        return frozenset(small)


def write_row(path: Path, key: bytes, value: bytes | None) -> None:
    """
    Write a row behind the store's back, or remove it.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM records WHERE key = ?", (key,))
        if value is not None:
            connection.execute("INSERT INTO records VALUES (?, ?)", (key, value))


def lose(path: Path) -> None:
    """
    Remove a database, or a directory of them.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        for each in path.parent.glob(path.name + "*"):
            each.unlink()

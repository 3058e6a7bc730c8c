# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Processes of a store that do the operations of the model, and what they answer.
"""

import hashlib
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import KypelloError, PreconditionFailed, Refused, StorageFailed
from kypello.interfaces import IBlobs, IBodySource, IIndex, IOpenObject
from kypello.model import (
    NULL_VERSION,
    Assembly,
    ListQuery,
    ObjectInfo,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    UploadQuery,
    VersionQuery,
)
from kypello.store.changes import Changes
from kypello.store.layout import INLINE, LayoutStore
from kypello.store.remembering import RememberingIndex
from kypello.store.sweep import Sweeper
from kypello.versioning import SETTING, Versioning
from tests.contracts.object_store import pattern
from tests.store import model
from tests.store.history import History, Operation
from tests.store.stepping import Gate, SteppedBlobs, SteppedIndex, SteppedSource

#: Groups of keys whose changes are told together: few, so that many keys share one.
GROUPS = 16

#: Content of a label that begins so lies in a blob; other content in the index.
LARGE = "L"

#: Said of an operation that may have happened.
UNKNOWN = "unknown"


def content(label: str) -> bytes:
    """
    What is stored under a label.
    """
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")
    return pattern(INLINE + 1 + seed % 999 if label.startswith(LARGE) else seed % 40, seed)


def whole(label: str, parts: model.Parts) -> bytes:
    """
    The content of an object.
    """
    return b"".join(content(part) for _, part in parts) if parts else content(label)


@define(eq=False)
class Reader:
    """
    A version that is open.
    """

    opened: IOpenObject
    label: str
    parts: model.Parts
    tags: str


@define(eq=False)
class Task:
    """
    Something that a process does.

    :ivar number: Of the operation in the history that is under way; 0 for none.
    """

    work: "Deferred[Any]" = field(init=False)
    number: int = 0


@define(eq=False)
class Process:
    """
    One process over the seams.

    :ivar _forgiving: Whether an operation may fail without a reason of its own.
    :ivar _versions: The ids of versions and delete markers, by their labels, as far as they were
        told; empty for labels of several.
    :ivar sweeping: Whether one is under way.
    """

    _index: IIndex
    _blobs: IBlobs
    _clock: Clock
    _random: Callable[[int], bytes]
    _history: History
    worker: int
    _workers: int
    _table: int
    _versions: dict[str, str]
    _forgiving: Callable[[], bool]
    gate: Gate = field(init=False, factory=Gate)
    tasks: list[Task] = field(init=False, factory=list)
    readers: list[Reader] = field(init=False, factory=list)
    sweeping: bool = field(init=False, default=False)
    store: LayoutStore = field(init=False)
    _sweeper: Sweeper = field(init=False)
    _changes: Changes = field(init=False)
    _stepped: SteppedBlobs = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Start.
        """
        self._changes = Changes(self.worker, self._workers, self._table, GROUPS)
        index = RememberingIndex(SteppedIndex(self._index, self.gate), changes=self._changes)
        self._stepped = SteppedBlobs(self._blobs, self.gate)
        self.store = LayoutStore(
            index, self._stepped, self._clock, self._random, self.worker, self._workers
        )
        self._sweeper = Sweeper(index, self._stepped, self.store.intents)

    def begin(self, work: Callable[[Task], Coroutine[Any, Any, None]]) -> Task:
        """
        Begin to do something.
        """
        task = Task()
        self.tasks.append(task)
        task.work = Deferred.fromCoroutine(work(task))
        return task

    def kill(self) -> None:
        """
        End without doing anything more.
        """
        self.gate.dead = True
        self._stepped.die()
        # What is left of it must not tell the others anything more.
        self._changes._numbers = memoryview(bytearray(self._changes.stamps)).cast("Q")
        for task in self.tasks:
            if task.number:
                self._history.lose(task.number)

    def settle(self) -> None:
        """
        Do to its end whatever has begun, and raise what it raised.
        """
        while self.tasks:
            task = self.tasks.pop()
            self.gate.finish(task.work)
            raised: list[Any] = []
            task.work.addErrback(raised.append)
            for failure in raised:
                failure.raiseException()

    async def answer(
        self, task: Task, operation: Operation, call: Coroutine[Any, Any, Hashable]
    ) -> Hashable:
        """
        Make a call of the store that stands for an operation of the model.
        """
        task.number = self._history.begin(operation)
        try:
            answer = await call
        except StorageFailed:
            if not self._forgiving():
                raise
            answer = UNKNOWN
        except (PreconditionFailed, Refused) as error:
            answer = type(error).__name__
        except KypelloError as error:
            answer = str(type(error).__name__)
        number, task.number = task.number, 0
        if answer == UNKNOWN:
            self._history.lose(number)
        else:
            self._history.end(number, answer)
        return answer

    async def create_bucket(self, name: str) -> Hashable:
        """
        Make a bucket.
        """
        await self.store.create_bucket(name, {"s": b""})
        return "done"

    async def delete_bucket(self, name: str) -> Hashable:
        """
        Remove a bucket.
        """
        await self.store.delete_bucket(name)
        return "done"

    async def buckets(self) -> Hashable:
        """
        All buckets.
        """
        return tuple(
            (info.name, info.settings["s"].decode()) for info in await self.store.buckets()
        )

    async def change(self, name: str, label: str) -> Hashable:
        """
        Append to the settings.
        """
        await self.store.change_bucket(name, lambda old: {**old, "s": old["s"] + label.encode()})
        return "done"

    async def set_versioning(self, operation: model.SetVersioning) -> Hashable:
        """
        Enable or suspend versioning.
        """
        status: Any = operation.status
        setting = Versioning(status).to_bytes()
        await self.store.change_bucket(operation.bucket, lambda old: {**old, SETTING: setting})
        return "done"

    async def put(self, operation: model.Put, body: IBodySource | None = None) -> Hashable:
        """
        Store an object.

        :param body: What its label stands for, if it comes from elsewhere.
        """

        def fresh(current: ObjectInfo | None) -> None:
            """
            See that there is none.
            """
            if current is not None:
                raise PreconditionFailed("If-None-Match")

        label = operation.label
        if body is not None:
            # Two versions have this label now.
            self._versions[label] = ""
        body = body or SteppedSource(content(label), self.gate)
        condition = fresh if operation.fresh else None
        where = operation.bucket, operation.key
        made = await self.store.put(
            *where, body, lambda _: ObjectMetadata(label), condition=condition
        )
        return self._note(label, made.version_id)

    def _note(self, label: str, version_id: str) -> str:
        if version_id == NULL_VERSION:
            return "null"
        if self._versions.get(label) != "":
            self._versions[label] = version_id
        return "own"

    async def delete(self, operation: model.Delete) -> Hashable:
        """
        Remove an object, or hide it.
        """
        made = await self.store.delete(operation.bucket, operation.key)
        if not made.marker:
            return "done"
        return f"{self._note(operation.label, made.version_id)} marker"

    def _id(self, operation: model.OfVersion) -> str:
        return self._versions[operation.label] if operation.label else NULL_VERSION

    async def delete_version(self, operation: model.DeleteVersion) -> Hashable:
        """
        Remove a version.
        """
        where = operation.bucket, operation.key
        done = await self.store.delete(*where, None, self._id(operation))
        return "marker" if done.marker else "done"

    async def head_version(self, operation: model.GetVersion) -> Hashable:
        """
        Look at a version.
        """
        where = operation.bucket, operation.key
        return _told(await self.store.head(*where, None, self._id(operation)))

    async def tag(self, operation: model.Tag) -> Hashable:
        """
        Replace the tags of a version.
        """

        def change(info: ObjectInfo) -> ObjectMetadata:
            """
            Replace them.
            """
            return evolve(info.metadata, tags={"t": operation.tags})

        where = operation.bucket, operation.key, self._id(operation)
        return _told(await self.store.change_version(*where, change))

    async def versions(self, operation: model.ListVersions) -> Hashable:
        """
        All versions of a key.
        """
        query = VersionQuery(operation.key)
        found = (await self.store.list_versions(operation.bucket, query)).versions
        times = [each.info.modified for each in found]
        assert times == sorted(set(times), reverse=True), "the times of versions go backwards"
        assert [each.latest for each in found] == [True, *[False] * (len(found) - 1)][: len(found)]
        told = []
        for each in found:
            info = each.info
            if not each.marker:
                # A listing leaves parts out.
                info = await self.store.head(info.bucket, info.key, None, info.version_id)
            told.append(("marker" if each.marker else _told(info), info.version_id == NULL_VERSION))
        return tuple(told)

    async def open_version(self, operation: model.GetVersion) -> Hashable:
        """
        Open a version by its id.
        """
        return await self.open(operation.bucket, operation.key, self._id(operation))

    async def head(self, bucket: str, key: str) -> Hashable:
        """
        Look at an object.
        """
        return _told(await self.store.head(bucket, key))

    async def open(self, bucket: str, key: str, version_id: str = "") -> Hashable:
        """
        Open a version, to read it by and by.
        """
        opened = await self.store.open(bucket, key, None, version_id)
        told = _told(opened.info)
        self.readers.append(Reader(opened, *told))
        return told

    async def list(self, query: model.List) -> Hashable:
        """
        One page of a listing.
        """
        page = await self.store.list(
            query.bucket, ListQuery(query.prefix, query.delimiter, query.after, query.limit)
        )
        entries = [(info.key, info.etag) for info in page.objects]
        entries += [(prefix, "") for prefix in page.prefixes]
        return tuple(sorted(entries)), page.next is not None

    async def uploads(self, bucket: str) -> Hashable:
        """
        All uploads.
        """
        found = await self.store.uploads(bucket, UploadQuery())
        return frozenset((upload.metadata.etag, upload.key) for upload in found.uploads)

    async def begin_upload(
        self, operation: model.CreateUpload, ids: dict[str, tuple[str, str, str]]
    ) -> Hashable:
        """
        Begin an upload, and note its id.
        """
        where = operation.bucket, operation.key
        info = await self.store.create_upload(*where, ObjectMetadata(operation.label))
        ids[operation.label] = *where, info.upload_id
        return "done"

    async def put_part(self, operation: model.PutPart, upload_id: str) -> Hashable:
        """
        Store a part.
        """
        label = operation.label
        await self.store.put_part(
            operation.bucket,
            operation.key,
            upload_id,
            operation.number,
            SteppedSource(content(label), self.gate),
            lambda _: ObjectMetadata(label),
        )
        return "done"

    async def parts(self, operation: model.ListParts, upload_id: str) -> Hashable:
        """
        All parts.
        """
        where = operation.bucket, operation.key, upload_id
        return _parts(tuple(await self.store.parts(*where, 0, 1000)))

    async def complete(self, operation: model.Complete, upload_id: str) -> Hashable:
        """
        Make the object of an upload.
        """

        def assemble(_: UploadInfo, parts: tuple[PartInfo, ...]) -> Assembly:
            """
            Choose parts.
            """
            chosen = tuple(part.number for part in parts if operation.choose(part.number))
            if not chosen:
                raise Refused("InvalidPart")
            return Assembly(chosen, ObjectMetadata(operation.label))

        where = operation.bucket, operation.key, upload_id
        return _told(await self.store.complete_upload(*where, operation.request.encode(), assemble))

    async def abort(self, operation: model.Abort, upload_id: str) -> Hashable:
        """
        End an upload.
        """
        await self.store.abort_upload(operation.bucket, operation.key, upload_id)
        return "done"

    async def sweep(self) -> None:
        """
        Remove leftovers.
        """
        self.sweeping = True
        try:
            await self._sweeper.sweep()
        finally:
            self.sweeping = False


def _told(info: ObjectInfo) -> tuple[str, model.Parts, str]:
    return info.etag, _parts(info.parts), info.metadata.tags.get("t", "")


def _parts(parts: tuple[PartInfo, ...]) -> model.Parts:
    return tuple((part.number, part.etag) for part in parts)

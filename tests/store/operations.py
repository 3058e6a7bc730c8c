# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The operations of a store, as hypothesis likes them.
"""

from collections.abc import Callable, Hashable

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.store import model
from tests.store.machine import ALL, PROCESSES, STEPS, Machine
from tests.store.processes import LARGE, Process, Reader, Task, whole

BUCKETS = st.sampled_from(["a", "a", "a", "b"])
KEYS = st.sampled_from(["k", "k", "k", "k", "d/k", "d/l", "e"])
SIZES = st.sampled_from(["s", LARGE])
NUMBERS = st.integers(1, 3)
VERSIONS = st.integers(0, 4)


def all_parts(number: int) -> bool:
    """
    Choose every part.
    """
    return True


def odd_parts(number: int) -> bool:
    """
    Choose some parts.
    """
    return number % 2 == 1


#: Which parts a request asks for.
CHOICES: dict[str, Callable[[int], bool]] = {"1": all_parts, "2": odd_parts}


class StoreMachine(Machine):
    """
    Processes that do all that a store can do.
    """

    @initialize()
    def begin(self) -> None:
        """
        There is a bucket.
        """
        self.create_bucket(0, "a", ALL)

    @rule(which=PROCESSES, bucket=BUCKETS, steps=STEPS)
    def create_bucket(self, which: int, bucket: str, steps: int) -> None:
        """
        Make a bucket.
        """
        self.do(which, model.CreateBucket(bucket), lambda p: p.create_bucket(bucket), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, steps=STEPS)
    def delete_bucket(self, which: int, bucket: str, steps: int) -> None:
        """
        Remove a bucket.
        """
        self.run(which, lambda p, task: self._delete_bucket(p, task, bucket), steps)

    async def _delete_bucket(self, process: Process, task: Task, bucket: str) -> None:
        self.half_deleted.append(bucket)
        await process.answer(task, model.DeleteBucket(bucket), process.delete_bucket(bucket))
        self.half_deleted.remove(bucket)

    @rule(which=PROCESSES, bucket=BUCKETS, steps=STEPS)
    def change_settings(self, which: int, bucket: str, steps: int) -> None:
        """
        Change the settings of a bucket, unless it is half deleted: it can be seen to the end.
        """
        if bucket in self.half_deleted:
            return
        operation = model.ChangeSettings(bucket, self.label())
        self.do(which, operation, lambda p: p.change(bucket, operation.label), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, size=SIZES, fresh=st.booleans(), steps=STEPS)
    def put(self, which: int, bucket: str, key: str, size: str, fresh: bool, steps: int) -> None:
        """
        Store an object.
        """
        operation = model.Put(bucket, key, self.label(size), fresh)
        self.do(which, operation, lambda p: p.put(operation), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, steps=STEPS)
    def delete(self, which: int, bucket: str, key: str, steps: int) -> None:
        """
        Remove an object.
        """
        operation = model.Delete(bucket, key, self.label("m"))
        self.do(which, operation, lambda p: p.delete(operation), steps)

    @rule(
        which=PROCESSES,
        bucket=BUCKETS,
        status=st.sampled_from(["Enabled", "Enabled", "Suspended"]),
        steps=STEPS,
    )
    def set_versioning(self, which: int, bucket: str, status: str, steps: int) -> None:
        """
        Enable or suspend versioning, unless the bucket is half deleted.
        """
        if bucket in self.half_deleted:
            return
        operation = model.SetVersioning(bucket, status)
        self.do(which, operation, lambda p: p.set_versioning(operation), steps)

    def version(self, number: int) -> str:
        """
        The label of a version; empty for that with the id ``null``.
        """
        labels = ["", *(label for label in reversed(self.versions) if self.versions[label])]
        return labels[number % len(labels)]

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, version=VERSIONS, steps=STEPS)
    def delete_version(self, which: int, bucket: str, key: str, version: int, steps: int) -> None:
        """
        Remove a version.
        """
        operation = model.DeleteVersion(bucket, key, self.version(version))
        self.do(which, operation, lambda p: p.delete_version(operation), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, version=VERSIONS, steps=STEPS)
    def head_version(self, which: int, bucket: str, key: str, version: int, steps: int) -> None:
        """
        Look at a version.
        """
        operation = model.GetVersion(bucket, key, self.version(version))
        self.do(which, operation, lambda p: p.head_version(operation), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, version=VERSIONS, steps=STEPS)
    def open_version(self, which: int, bucket: str, key: str, version: int, steps: int) -> None:
        """
        Open a version.
        """
        operation = model.GetVersion(bucket, key, self.version(version))
        self.do(which, operation, lambda p: p.open_version(operation), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, version=VERSIONS, steps=STEPS)
    def tag(self, which: int, bucket: str, key: str, version: int, steps: int) -> None:
        """
        Replace the tags of a version.
        """
        operation = model.Tag(bucket, key, self.version(version), self.label("t"))
        self.do(which, operation, lambda p: p.tag(operation), steps)

    def list_versions(self, which: int, bucket: str, key: str) -> None:
        """
        Look at all versions of a key, while nothing else goes on.
        """
        operation = model.ListVersions(bucket, key)
        self.do(which, operation, lambda p: p.versions(operation))

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, steps=STEPS)
    def head(self, which: int, bucket: str, key: str, steps: int) -> None:
        """
        Look at an object.
        """
        operation = model.Get(bucket, key)
        self.do(which, operation, lambda p: p.head(bucket, key), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, steps=STEPS)
    def open(self, which: int, bucket: str, key: str, steps: int) -> None:
        """
        Open an object.
        """
        self.run(which, lambda p, task: self._open(p, task, bucket, key), steps)

    async def _open(self, process: Process, task: Task, bucket: str, key: str) -> Hashable:
        return await process.answer(task, model.Get(bucket, key), process.open(bucket, key))

    @rule(which=PROCESSES, number=st.integers(0, 5), steps=STEPS)
    def read(self, which: int, number: int, steps: int) -> None:
        """
        Read an object that is open.
        """
        readers = self.processes[which % self.COUNT].readers
        if readers:
            reader = readers.pop(number % len(readers))
            self.run(which, lambda *_: self._read(reader), steps)

    async def _read(self, reader: Reader) -> None:
        data = bytearray()
        try:
            source = await reader.opened.read(None)
            while block := await source.read():
                data += block
            assert data == whole(reader.label, reader.parts), f"other content of {reader.label}"
        finally:
            reader.opened.close()

    @rule(which=PROCESSES, number=st.integers(0, 5), bucket=BUCKETS, key=KEYS, steps=STEPS)
    def copy(self, which: int, number: int, bucket: str, key: str, steps: int) -> None:
        """
        Copy an object that is open.
        """
        readers = self.processes[which % self.COUNT].readers
        whole_ones = [reader for reader in readers if len(reader.parts) < 2]
        if whole_ones:
            reader = whole_ones[number % len(whole_ones)]
            readers.remove(reader)
            self.run(which, lambda p, task: self._copy(p, task, reader, bucket, key), steps)

    async def _copy(
        self, process: Process, task: Task, reader: Reader, bucket: str, key: str
    ) -> None:
        label = reader.parts[0][1] if reader.parts else reader.label
        operation = model.Put(bucket, key, label)
        try:
            body = await reader.opened.read(None)
            await process.answer(task, operation, process.put(operation, body))
        finally:
            reader.opened.close()

    @rule(
        which=PROCESSES,
        bucket=BUCKETS,
        prefix=st.sampled_from(["", "", "d", "d/", "k"]),
        delimiter=st.sampled_from(["", "/"]),
        after=st.sampled_from(["", "d/", "d/k", "e"]),
        limit=st.sampled_from([1000, 2, 1]),
        steps=STEPS,
    )
    def list(
        self,
        which: int,
        bucket: str,
        prefix: str,
        delimiter: str,
        after: str,
        limit: int,
        steps: int,
    ) -> None:
        """
        Read one page of a listing.
        """
        query = model.List(bucket, prefix, delimiter, after, limit)
        self.do(which, query, lambda p: p.list(query), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, key=KEYS, steps=STEPS)
    def create_upload(self, which: int, bucket: str, key: str, steps: int) -> None:
        """
        Begin an upload.
        """
        operation = model.CreateUpload(bucket, key, self.label("u"))
        self.do(which, operation, lambda p: p.begin_upload(operation, self.ids), steps)

    def chosen(self, number: int) -> tuple[tuple[str, str, str], str] | None:
        """
        An upload: bucket, key and label; and its id.
        """
        if not self.ids:
            return None
        label = sorted(self.ids, key=lambda label: int(label[1:-1]))[-1 - number % len(self.ids)]
        bucket, key, upload_id = self.ids[label]
        return (bucket, key, label), upload_id

    @rule(which=PROCESSES, upload=st.integers(0, 3), number=NUMBERS, size=SIZES, steps=STEPS)
    def put_part(self, which: int, upload: int, number: int, size: str, steps: int) -> None:
        """
        Store a part.
        """
        if found := self.chosen(upload):
            where, upload_id = found
            operation = model.PutPart(*where, number, self.label(size))
            self.do(which, operation, lambda p: p.put_part(operation, upload_id), steps)

    @rule(which=PROCESSES, upload=st.integers(0, 3))
    def put_many_parts(self, which: int, upload: int) -> None:
        """
        Store so many parts that they are kept apart from the record of the object.
        """
        for number in range(1, 19):
            self.put_part(which, upload, number, "s", ALL)

    @rule(which=PROCESSES, upload=st.integers(0, 3), steps=STEPS)
    def list_parts(self, which: int, upload: int, steps: int) -> None:
        """
        Look at the parts of an upload.
        """
        if found := self.chosen(upload):
            where, upload_id = found
            operation = model.ListParts(*where)
            self.do(which, operation, lambda p: p.parts(operation, upload_id), steps)

    @rule(
        which=PROCESSES,
        upload=st.integers(0, 3),
        request=st.sampled_from(["1", "1", "1", "2"]),
        steps=STEPS,
    )
    def complete(self, which: int, upload: int, request: str, steps: int) -> None:
        """
        Complete an upload, with all parts or some, perhaps again.
        """
        if found := self.chosen(upload):
            where, upload_id = found
            operation = model.Complete(*where, request, self.label("o"), CHOICES[request])
            self.do(which, operation, lambda p: p.complete(operation, upload_id), steps)

    @rule(which=PROCESSES, upload=st.integers(0, 3), steps=STEPS)
    def abort(self, which: int, upload: int, steps: int) -> None:
        """
        Abort an upload.
        """
        if found := self.chosen(upload):
            where, upload_id = found
            operation = model.Abort(*where)
            self.do(which, operation, lambda p: p.abort(operation, upload_id), steps)

    @rule(which=PROCESSES, bucket=BUCKETS, steps=STEPS)
    def list_uploads(self, which: int, bucket: str, steps: int) -> None:
        """
        Look at all uploads.
        """
        operation = model.ListUploads(bucket)
        self.do(which, operation, lambda p: p.uploads(bucket), steps)

    def look_at_everything(self, worker: int) -> None:
        """
        Compare all that can be seen with the model.
        """
        process = self.processes[worker]
        self.do(worker, model.ListBuckets(), lambda p: p.buckets())
        for bucket in ("a", "b"):
            self.list(worker, bucket, "", "", "", 1000, ALL)
            self.list_uploads(worker, bucket, ALL)
            for key in ("k", "d/k", "d/l", "e"):
                self.open(worker, bucket, key, ALL)
                while process.readers:
                    self.read(worker, 0, ALL)
                self.list_versions(worker, bucket, key)
        for number in range(len(self.ids)):
            self.list_parts(worker, number, ALL)
            if self.is_ended(number):
                self.complete(worker, number, "1", ALL)

    def is_ended(self, number: int) -> bool:
        """
        Whether an upload is there no more, so that completing it changes nothing.
        """
        found = self.chosen(number)
        assert found is not None
        bucket, _, label = found[0]
        return not any(
            label in dict(dict(world.state.buckets).get(bucket, model.Bucket()).uploads)
            for world in self.history.worlds
        )

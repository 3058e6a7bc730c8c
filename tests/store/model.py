# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an object store is: a value, and what each operation makes of it.

Everything that is written has a label, which is kept as its ETag and tells its content.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias, TypeVar

from attrs import evolve, field, frozen

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)

#: A mapping that has a hash: sorted pairs.
Map: TypeAlias = tuple[tuple[K, V], ...]

#: The labels of what an object or a part consists of.
Parts: TypeAlias = Map[int, str]


def with_(mapping: Map[K, V], key: K, value: V | None) -> Map[K, V]:
    """
    A mapping with another value for a key; ``None`` for no value.
    """
    changed: dict[Any, Any] = {**dict(mapping), key: value}
    return tuple(sorted((k, v) for k, v in changed.items() if v is not None))


@frozen
class Object:
    """
    A version of an object, or a delete marker.

    :ivar parts: Empty for one that came in one piece.
    :ivar upload: Which made it.
    :ivar tags: A label.
    :ivar null: Whether its id is ``null``.
    """

    label: str
    parts: Parts = ()
    upload: str = ""
    tags: str = ""
    null: bool = True
    marker: bool = False

    @property
    def told(self) -> Hashable:
        """
        What is told of it.
        """
        return "marker" if self.marker else (self.label, self.parts, self.tags)


@frozen
class Bucket:
    """
    A bucket.

    :ivar settings: The labels of all changes, in order.
    :ivar versioning: ``Enabled`` or ``Suspended``, once it was set.
    :ivar stacks: The versions of each key, the newest first.
    :ivar uploads: By their labels: key and parts.
    :ivar ended: Completed ones: key and request.
    """

    settings: str = ""
    versioning: str = ""
    stacks: Map[str, tuple[Object, ...]] = ()
    uploads: Map[str, tuple[str, Parts]] = ()
    ended: Map[str, tuple[str, str]] = ()

    @property
    def objects(self) -> Map[str, Object]:
        """
        The current versions.
        """
        return tuple((key, stack[0]) for key, stack in self.stacks if not stack[0].marker)

    def stack(self, key: str) -> tuple[Object, ...]:
        """
        The versions of a key.
        """
        return dict(self.stacks).get(key, ())

    def stacked(self, key: str, stack: tuple[Object, ...]) -> "Bucket":
        """
        With other versions of a key.
        """
        return evolve(self, stacks=with_(self.stacks, key, stack or None))

    def added(self, key: str, made: Object) -> tuple["Bucket", Object]:
        """
        With a version above the others; and that version.
        """
        stack = self.stack(key)
        if self.versioning != "Enabled":
            stack = tuple(each for each in stack if not each.null)
        made = evolve(made, null=self.versioning != "Enabled")
        return self.stacked(key, (made, *stack)), made


@frozen
class State:
    """
    A whole store.
    """

    buckets: Map[str, Bucket] = ()


Answer: TypeAlias = tuple[State, Hashable]


@frozen
class InBucket:
    """
    An operation in a bucket.
    """

    bucket: str

    def apply(self, state: State) -> Answer:
        """
        Do it, if there is such a bucket.
        """
        bucket = dict(state.buckets).get(self.bucket)
        if bucket is None:
            return state, "NoSuchBucket"
        changed, answer = self.within(bucket)
        return State(with_(state.buckets, self.bucket, changed)), answer

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        What becomes of the bucket, and what the answer is.
        """
        raise NotImplementedError


@frozen
class CreateBucket:
    """
    Make a bucket.
    """

    bucket: str

    def apply(self, state: State) -> Answer:
        """
        Make it, if there is none.
        """
        if self.bucket in dict(state.buckets):
            return state, "BucketExists"
        return State(with_(state.buckets, self.bucket, Bucket())), "done"


@frozen
class DeleteBucket(InBucket):
    """
    Remove a bucket.
    """

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Remove it with its uploads, if it has no objects.
        """
        return (bucket, "BucketNotEmpty") if bucket.stacks else (None, "done")


@frozen
class ListBuckets:
    """
    Look at all buckets.
    """

    def apply(self, state: State) -> Answer:
        """
        Their names and settings.
        """
        return state, tuple((name, bucket.settings) for name, bucket in state.buckets)


@frozen
class ChangeSettings(InBucket):
    """
    Append to the settings.
    """

    label: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Append a label.
        """
        return evolve(bucket, settings=bucket.settings + self.label), "done"


@frozen
class SetVersioning(InBucket):
    """
    Enable or suspend versioning.
    """

    status: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Set it.
        """
        return evolve(bucket, versioning=self.status), "done"


@frozen
class Put(InBucket):
    """
    Store an object.

    :ivar fresh: Only if there is none.
    """

    key: str
    label: str
    fresh: bool = False

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Store it.
        """
        if self.fresh and self.key in dict(bucket.objects):
            return bucket, "PreconditionFailed"
        changed, made = bucket.added(self.key, Object(self.label))
        return changed, "null" if made.null else "own"


@frozen
class Delete(InBucket):
    """
    Remove an object, or hide it.

    :ivar label: Of the delete marker.
    """

    key: str
    label: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Remove it, if it is there and no version is to stay.
        """
        if not bucket.versioning:
            return bucket.stacked(self.key, ()), "done"
        changed, made = bucket.added(self.key, Object(self.label, marker=True))
        return changed, "null marker" if made.null else "own marker"


@frozen
class OfVersion(InBucket):
    """
    An operation on a version.

    :ivar label: Of a version with an id of its own; empty for the one whose id is ``null``.
    """

    key: str
    label: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Do it, if there is such a version.
        """
        for version in bucket.stack(self.key):
            if version.null if not self.label else version.label == self.label:
                return self.of(bucket, version)
        return bucket, "NoSuchVersion"

    def of(self, bucket: Bucket, version: Object) -> tuple[Bucket | None, Hashable]:
        """
        What becomes of the bucket, and what the answer is.
        """
        raise NotImplementedError


@frozen
class DeleteVersion(OfVersion):
    """
    Remove a version for good.
    """

    def of(self, bucket: Bucket, version: Object) -> tuple[Bucket | None, Hashable]:
        """
        Remove it.
        """
        left = tuple(each for each in bucket.stack(self.key) if each != version)
        return bucket.stacked(self.key, left), "marker" if version.marker else "done"

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        One that is not there is removed already.
        """
        changed, answer = super().within(bucket)
        return changed, "done" if answer == "NoSuchVersion" else answer


@frozen
class GetVersion(OfVersion):
    """
    Look at a version.
    """

    def of(self, bucket: Bucket, version: Object) -> tuple[Bucket | None, Hashable]:
        """
        What is told of it.
        """
        return bucket, "IsDeleteMarker" if version.marker else version.told


@frozen
class Tag(OfVersion):
    """
    Replace the tags of a version.
    """

    tags: str

    def of(self, bucket: Bucket, version: Object) -> tuple[Bucket | None, Hashable]:
        """
        Replace them.
        """
        if version.marker:
            return bucket, "IsDeleteMarker"
        changed = evolve(version, tags=self.tags)
        stack = tuple(changed if each == version else each for each in bucket.stack(self.key))
        return bucket.stacked(self.key, stack), changed.told


@frozen
class ListVersions(InBucket):
    """
    All versions of a key.
    """

    key: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        What is told of each, and whether its id is ``null``.
        """
        return bucket, tuple((each.told, each.null) for each in bucket.stack(self.key))


@frozen
class Get(InBucket):
    """
    Look at an object.
    """

    key: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        What is told of it.
        """
        found = dict(bucket.objects).get(self.key)
        return bucket, "NoSuchKey" if found is None else found.told


@frozen
class List(InBucket):
    """
    One page of a listing.
    """

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = 1000

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Names with labels of objects, names of groups, and whether there are more.
        """
        entries: list[tuple[str, str]] = []
        for key, found in bucket.objects:
            if not key.startswith(self.prefix):
                continue
            at = key.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
            entry = (key, found.label) if at < 0 else (key[: at + len(self.delimiter)], "")
            hidden = self.after if at < 0 else max(self.after, _group(self, self.after))
            if entry[0] > hidden and entry not in entries:
                entries.append(entry)
        more = len(entries) > self.limit
        return bucket, (tuple(entries[: self.limit]), more)


def _group(query: List, key: str) -> str:
    at = key.find(query.delimiter, len(query.prefix)) if key.startswith(query.prefix) else -1
    return "" if at < 0 else key[: at + len(query.delimiter)]


@frozen
class CreateUpload(InBucket):
    """
    Begin an upload.
    """

    key: str
    label: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Begin it.
        """
        return evolve(bucket, uploads=with_(bucket.uploads, self.label, (self.key, ()))), "done"


@frozen
class ListUploads(InBucket):
    """
    Look at all uploads.
    """

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Their labels and keys.
        """
        return bucket, frozenset((label, key) for label, (key, _) in bucket.uploads)


@frozen
class OfUpload(InBucket):
    """
    An operation on an upload.

    :ivar upload: Its label.
    """

    key: str
    upload: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Do it, if there is such an upload.
        """
        key, parts = dict(bucket.uploads).get(self.upload, ("", ()))
        if key != self.key:
            return self.otherwise(bucket)
        return self.of(bucket, parts)

    def otherwise(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        What is answered when there is none.
        """
        return bucket, "NoSuchUpload"

    def of(self, bucket: Bucket, parts: Parts) -> tuple[Bucket | None, Hashable]:
        """
        What becomes of the bucket, and what the answer is.
        """
        raise NotImplementedError


@frozen
class PutPart(OfUpload):
    """
    Store a part.
    """

    number: int
    label: str

    def of(self, bucket: Bucket, parts: Parts) -> tuple[Bucket | None, Hashable]:
        """
        Store it in place of one of the same number.
        """
        parts = with_(parts, self.number, self.label)
        return evolve(bucket, uploads=with_(bucket.uploads, self.upload, (self.key, parts))), "done"


@frozen
class ListParts(OfUpload):
    """
    Look at the parts.
    """

    def of(self, bucket: Bucket, parts: Parts) -> tuple[Bucket | None, Hashable]:
        """
        All of them.
        """
        return bucket, parts


@frozen
class Complete(OfUpload):
    """
    Make the object of an upload.

    :ivar label: Of the object.
    :ivar choose: Which of the parts it has, by number.
    """

    request: str
    label: str
    choose: Callable[[int], bool] = field(default=bool, repr=False)

    def of(self, bucket: Bucket, parts: Parts) -> tuple[Bucket | None, Hashable]:
        """
        Make it of its parts, if it has any.
        """
        chosen = tuple(part for part in parts if self.choose(part[0]))
        if not chosen:
            return bucket, "Refused"
        added, made = bucket.added(self.key, Object(self.label, chosen, self.upload))
        changed = evolve(
            added,
            uploads=with_(bucket.uploads, self.upload, None),
            ended=with_(bucket.ended, self.upload, (self.key, self.request)),
        )
        return changed, made.told

    def otherwise(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        The same answer to the same request, while the version is there.
        """
        asked: Mapping[str, tuple[str, str]] = dict(bucket.ended)
        if asked.get(self.upload) == (self.key, self.request):
            for version in bucket.stack(self.key):
                if version.upload == self.upload:
                    return bucket, version.told
        return bucket, "NoSuchUpload"


@frozen
class Abort(OfUpload):
    """
    End an upload.
    """

    def of(self, bucket: Bucket, parts: Parts) -> tuple[Bucket | None, Hashable]:
        """
        Forget it.
        """
        return evolve(bucket, uploads=with_(bucket.uploads, self.upload, None)), "done"

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
    An object.

    :ivar parts: Empty for one that came in one piece.
    :ivar upload: Which made it.
    """

    label: str
    parts: Parts = ()
    upload: str = ""


@frozen
class Bucket:
    """
    A bucket.

    :ivar settings: The labels of all changes, in order.
    :ivar uploads: By their labels: key and parts.
    :ivar ended: Completed ones: key and request.
    """

    settings: str = ""
    objects: Map[str, Object] = ()
    uploads: Map[str, tuple[str, Parts]] = ()
    ended: Map[str, tuple[str, str]] = ()


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
        return (bucket, "BucketNotEmpty") if bucket.objects else (None, "done")


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
        return evolve(bucket, objects=with_(bucket.objects, self.key, Object(self.label))), "done"


@frozen
class Delete(InBucket):
    """
    Remove an object.
    """

    key: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Remove it, if it is there.
        """
        return evolve(bucket, objects=with_(bucket.objects, self.key, None)), "done"


@frozen
class Get(InBucket):
    """
    Look at an object.
    """

    key: str

    def within(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        Its label and its parts.
        """
        found = dict(bucket.objects).get(self.key)
        return bucket, "NoSuchKey" if found is None else (found.label, found.parts)


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
        made = Object(self.label, chosen, self.upload)
        changed = evolve(
            bucket,
            objects=with_(bucket.objects, self.key, made),
            uploads=with_(bucket.uploads, self.upload, None),
            ended=with_(bucket.ended, self.upload, (self.key, self.request)),
        )
        return changed, (self.label, chosen)

    def otherwise(self, bucket: Bucket) -> tuple[Bucket | None, Hashable]:
        """
        The same answer to the same request, while the object is there.
        """
        asked: Mapping[str, tuple[str, str]] = dict(bucket.ended)
        found = dict(bucket.objects).get(self.key)
        if asked.get(self.upload) != (self.key, self.request):
            return bucket, "NoSuchUpload"
        if found is None or found.upload != self.upload:
            return bucket, "NoSuchUpload"
        return bucket, (found.label, found.parts)


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

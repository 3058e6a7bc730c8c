# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What buckets hold: counted by who walks over everything, and kept for all processes to read.

Each bucket has a record in the index, which the walk through it replaces when it has come to its
end.  So it tells how the bucket was some time ago, and says when.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from attrs import define, field, frozen
from msgspec.msgpack import Decoder, Encoder
from twisted.internet.interfaces import IReactorTime

from kypello.errors import Damaged
from kypello.interfaces import IIndex
from kypello.model import NULL_VERSION, BucketInfo, ListedVersion, Write

#: Where the records are: by the name of the bucket.
SPACE = "usage"

_KIB, _MIB = 1024, 1024 * 1024

#: Sizes of objects: names of ranges, and where all but the first begin, in bytes.
SIZES = (
    "LESS_THAN_1024_B",
    "BETWEEN_1024_B_AND_64_KB",
    "BETWEEN_64_KB_AND_256_KB",
    "BETWEEN_256_KB_AND_512_KB",
    "BETWEEN_512_KB_AND_1_MB",
    "BETWEEN_1_MB_AND_10_MB",
    "BETWEEN_10_MB_AND_64_MB",
    "BETWEEN_64_MB_AND_128_MB",
    "BETWEEN_128_MB_AND_512_MB",
    "GREATER_THAN_512_MB",
)
_SIZE_BOUNDS = (
    _KIB,
    64 * _KIB,
    256 * _KIB,
    512 * _KIB,
    *(each * _MIB for each in (1, 10, 64, 128, 512)),
)

#: What older programs show in place of four of these ranges, which are within it.
OLD_RANGE = "BETWEEN_1024B_AND_1_MB"
_OLD_PARTS = slice(1, 5)

#: How many versions keys have: names of ranges, and where all but the first two begin.
STACKS = (
    "UNVERSIONED",
    "SINGLE_VERSION",
    "BETWEEN_2_AND_10",
    "BETWEEN_10_AND_100",
    "BETWEEN_100_AND_1000",
    "BETWEEN_1000_AND_10000",
    "GREATER_THAN_10000",
)
_STACK_BOUNDS = (2, 11, 101, 1001, 10001)

_BATCH = 1000

#: How old a record becomes before the same is written again, in nanoseconds.
_LATELY = 55 * 10**9

#: How long what was counted waits for more to be kept with it, in seconds.
_PATIENCE = 10.0


class BucketUsage(msgspec.Struct, array_like=True, frozen=True):
    """
    What a bucket held.

    Bytes are those that clients have sent, whatever they take on the disk.

    :ivar created: When the bucket was, in nanoseconds since the epoch: another bucket of the name
        has another time.
    :ivar began: When it began to be counted; what was changed after that may be missing.
    :ivar ended: When that had ended.
    :ivar objects: Keys that can be read without naming a version.
    :ivar versions: All that has content, current or not.
    :ivar markers: Delete markers.
    :ivar size: Bytes of all versions.
    :ivar current_size: Bytes of those that are current.
    :ivar sizes: How many objects there are in each range of :data:`SIZES`.
    :ivar stacks: How many keys have so many versions, by ranges of :data:`STACKS`.
    """

    created: int
    began: int
    ended: int
    objects: int = 0
    versions: int = 0
    markers: int = 0
    size: int = 0
    current_size: int = 0
    sizes: tuple[int, ...] = ()
    stacks: tuple[int, ...] = ()

    def size_histogram(self) -> Mapping[str, int]:
        """
        The sizes of objects, by name of the range.
        """
        told = dict(zip(SIZES, self.sizes, strict=True))
        return {**told, OLD_RANGE: sum(self.sizes[_OLD_PARTS])}

    def stack_histogram(self) -> Mapping[str, int]:
        """
        The numbers of versions, by name of the range.
        """
        return dict(zip(STACKS, self.stacks, strict=True))


_ENCODER, _DECODER = Encoder(), Decoder(BucketUsage)


@frozen
class Total:
    """
    What all buckets hold together.

    :ivar since: When the oldest of the counts ended, in nanoseconds since the epoch; ``None`` as
        long as a bucket was never counted.
    :ivar by_bucket: Those that were counted, by name.
    """

    since: int | None
    by_bucket: Mapping[str, BucketUsage]

    @property
    def objects(self) -> int:
        """
        Current objects.
        """
        return sum(each.objects for each in self.by_bucket.values())

    @property
    def versions(self) -> int:
        """
        Versions with content.
        """
        return sum(each.versions for each in self.by_bucket.values())

    @property
    def markers(self) -> int:
        """
        Delete markers.
        """
        return sum(each.markers for each in self.by_bucket.values())

    @property
    def size(self) -> int:
        """
        Bytes of all versions.
        """
        return sum(each.size for each in self.by_bucket.values())


@define(eq=False)
class Usage:
    """
    Reads and writes what was counted.
    """

    _index: IIndex

    async def of(self, bucket: BucketInfo) -> BucketUsage | None:
        """
        What a bucket held; ``None`` when it was not counted yet.

        :raises StorageFailed:
        :raises Damaged:
        """
        (raw,) = await self._index.get(SPACE, [bucket.name.encode()])
        return _belonging(bucket, raw)

    async def total(self, buckets: Sequence[BucketInfo]) -> Total:
        """
        What several buckets held.

        :raises StorageFailed:
        :raises Damaged:
        """
        found: dict[str, BucketUsage] = {}
        for start in range(0, len(buckets), _BATCH):
            some = buckets[start : start + _BATCH]
            raws = await self._index.get(SPACE, [bucket.name.encode() for bucket in some])
            for bucket, raw in zip(some, raws, strict=True):
                usage = _belonging(bucket, raw)
                if usage is not None:
                    found[bucket.name] = usage
        since = None
        if len(found) == len(buckets):
            since = min((usage.ended for usage in found.values()), default=0)
        return Total(since, found)

    async def keep(self, counted: Mapping[str, BucketUsage]) -> None:
        """
        Replace what is known of some buckets, unless the same was known a moment ago: who counts
        often does not make an idle server write.

        :param counted: By name.
        :raises StorageFull:
        :raises StorageFailed:
        """
        names = [name.encode() for name in counted]
        known = await self._index.get(SPACE, names) if names else ()
        writes = [
            Write(name, _ENCODER.encode(usage))
            for name, usage, raw in zip(names, counted.values(), known, strict=True)
            if raw is None or not _told_lately(raw, usage)
        ]
        if writes:
            await self._index.commit(SPACE, writes, {}, ())

    async def forget_others(self, buckets: Sequence[BucketInfo]) -> None:
        """
        Remove what is known of all but some buckets.

        :raises StorageFailed:
        """
        names = {bucket.name.encode() for bucket in buckets}
        start: bytes | None = b""
        while start is not None:
            rows = await self._index.scan(SPACE, start, None, _BATCH)
            gone = [Write(name, None) for name, _ in rows if name not in names]
            if gone:
                await self._index.commit(SPACE, gone, {}, ())
            start = rows[-1][0] + b"\x00" if len(rows) == _BATCH else None


def _belonging(bucket: BucketInfo, raw: bytes | None) -> BucketUsage | None:
    if raw is None:
        return None
    try:
        usage = _DECODER.decode(raw)
    except ValueError:
        raise Damaged(f"the usage of the bucket {bucket.name}") from None
    return usage if usage.created == bucket.created else None


def _told_lately(raw: bytes, usage: BucketUsage) -> bool:
    try:
        known = _DECODER.decode(raw)
    except ValueError:
        # It is replaced by what was counted.
        return False
    same = msgspec.structs.replace(known, began=usage.began, ended=usage.ended) == usage
    return same and 0 <= usage.ended - known.ended < _LATELY


@define(eq=False)
class UsageVisitor:
    """
    Counts what there is.

    :ivar _counted: What is not kept yet, by name: there may be thousands of small buckets, and
        each commit is a sync.
    """

    _usage: Usage
    _clock: IReactorTime
    _counted: dict[str, BucketUsage] = field(init=False, factory=dict)
    _kept: float = field(init=False, default=0.0)

    async def enter(self, bucket: BucketInfo) -> "UsageVisit":
        """
        Begin with a bucket.
        """
        return UsageVisit(bucket, self._clock, self._keep)

    async def finish(self, buckets: Sequence[BucketInfo]) -> None:
        """
        Forget the buckets that are gone.
        """
        await self._flush()
        await self._usage.forget_others(buckets)

    async def _keep(self, bucket: BucketInfo, usage: BucketUsage) -> None:
        self._counted[bucket.name] = usage
        if self._clock.seconds() - self._kept >= _PATIENCE:
            await self._flush()

    async def _flush(self) -> None:
        await self._usage.keep(self._counted)
        self._counted.clear()
        self._kept = self._clock.seconds()


@define(eq=False)
class UsageVisit:
    """
    Counts one bucket.

    :ivar _keep: Called with what was counted.
    :ivar _key: The last key that was met.
    :ivar _depth: How many versions of it there were, delete markers included.
    :ivar _current: The size of the current one; ``None`` when there is none.
    :ivar _plain: Whether the newest of them has no id of its own.
    """

    _bucket: BucketInfo
    _clock: IReactorTime
    _keep: Callable[[BucketInfo, BucketUsage], Awaitable[None]]
    _began: int = field(init=False)
    _objects: int = field(init=False, default=0)
    _versions: int = field(init=False, default=0)
    _markers: int = field(init=False, default=0)
    _size: int = field(init=False, default=0)
    _current_size: int = field(init=False, default=0)
    _sizes: list[int] = field(init=False, factory=lambda: [0] * len(SIZES))
    _stacks: list[int] = field(init=False, factory=lambda: [0] * len(STACKS))
    _key: str = field(init=False, default="")
    _depth: int = field(init=False, default=0)
    _key_markers: int = field(init=False, default=0)
    _key_size: int = field(init=False, default=0)
    _current: int | None = field(init=False, default=None)
    _plain: bool = field(init=False, default=False)

    @_began.default
    def _now(self) -> int:
        return int(self._clock.seconds() * 1e9)

    async def page(self, versions: Sequence[ListedVersion]) -> None:
        """
        Count some versions.
        """
        for version in versions:
            info = version.info
            if info.key != self._key:
                self._close()
            if version.latest or info.key != self._key:
                # A listing tells a key from the beginning when what it was to follow is gone.
                self._key, self._depth = info.key, 0
                self._key_markers = self._key_size = 0
                self._current = None
                self._plain = info.version_id == NULL_VERSION
            self._depth += 1
            if version.marker:
                self._key_markers += 1
                continue
            self._key_size += info.size
            if version.latest:
                self._current = info.size

    async def end(self) -> None:
        """
        Keep what was counted.
        """
        self._close()
        counted = BucketUsage(
            self._bucket.created,
            self._began,
            self._now(),
            self._objects,
            self._versions,
            self._markers,
            self._size,
            self._current_size,
            tuple(self._sizes),
            tuple(self._stacks),
        )
        await self._keep(self._bucket, counted)

    def _close(self) -> None:
        """
        No more versions of the last key follow.
        """
        if self._depth:
            self._versions += self._depth - self._key_markers
            self._markers += self._key_markers
            self._size += self._key_size
            if self._current is not None:
                self._objects += 1
                self._current_size += self._current
                self._sizes[bisect_right(_SIZE_BOUNDS, self._current)] += 1
            single = self._plain and self._depth == 1
            place = 0 if single else 1 + bisect_right(_STACK_BOUNDS, self._depth)
            self._stacks[place] += 1

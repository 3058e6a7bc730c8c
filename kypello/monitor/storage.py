# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The room that a server has, and what it holds, as series for Prometheus.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.errors import StorageFailed
from kypello.interfaces import ILanes, IObjectStore
from kypello.model import BucketInfo, ListQuery
from kypello.monitor.text import Family, by_label, gauge
from kypello.objects.sharing import SharedCalls

#: How many objects are counted at most; a page of a listing stands for :data:`PAGE` at least.
MOST = 10_000
PAGE = 50

#: How long a count is good for, in seconds.
FRESH = 60.0

_PAGE = ListQuery()


@frozen
class Space:
    """
    A file system: bytes, and how many files there may still be.

    :ivar free: What may be written.
    """

    total: int
    free: int
    used: int
    inodes: int


@frozen
class Usage:
    """
    What buckets hold: by name, objects that are current, and their bytes.

    :ivar objects: ``None`` when there are too many to be counted; so are the bytes.
    """

    buckets: int
    objects: dict[str, int] | None
    sizes: dict[str, int] | None


def read_space(path: str) -> Space:
    """
    Ask the file system; blocking.

    :raises StorageFailed:
    """
    try:
        told = os.statvfs(path)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from None
    size = told.f_frsize
    used = (told.f_blocks - told.f_bfree) * size
    return Space(told.f_blocks * size, told.f_bavail * size, used, told.f_favail)


@define(eq=False)
class Storage:
    """
    Tells about a data directory.
    """

    _store: IObjectStore
    _directory: Path
    _lanes: ILanes
    _clock: IReactorTime
    _usage: Usage | None = field(default=None, init=False)
    _counted: float = field(default=0.0, init=False)
    _counting: SharedCalls[str, Usage] = field(factory=SharedCalls, init=False)

    async def cluster(self, well: bool) -> list[Family]:
        """
        The storage as a whole.

        :param well: Whether it can be read.
        """
        space, usage = await self._space(), await self._fresh_usage()
        families = [
            gauge(f"minio_cluster_capacity_{kind}_{which}_bytes", text, value)
            for kind in ("raw", "usable")
            for which, text, value in (
                ("total", "The size of the file system.", space.total),
                ("free", "What may still be written.", space.free),
            )
        ]
        families += [
            gauge("minio_cluster_health_status", "Whether the storage works.", int(well)),
            gauge("minio_cluster_drive_total", "Data directories.", 1),
            gauge("minio_cluster_drive_online_total", "Those that can be read.", int(well)),
            gauge("minio_cluster_drive_offline_total", "Those that cannot.", int(not well)),
            gauge("minio_cluster_nodes_online_total", "Servers of this data directory.", 1),
            gauge("minio_cluster_nodes_offline_total", "Servers that are away.", 0),
            gauge("minio_cluster_bucket_total", "Buckets.", usage.buckets),
        ]
        if usage.objects is not None and usage.sizes is not None:
            objects, size = sum(usage.objects.values()), sum(usage.sizes.values())
            families += [
                gauge("minio_cluster_usage_object_total", "Current objects.", objects),
                gauge("minio_cluster_usage_total_bytes", "Bytes of current objects.", size),
            ]
        return families

    async def drive(self, well: bool) -> list[Family]:
        """
        The file system of the data directory.

        :param well: Whether it can be read.
        """
        space, drive = await self._space(), str(self._directory)
        return [
            gauge("minio_node_drive_total", "Data directories.", 1),
            gauge("minio_node_drive_online_total", "Those that can be read.", int(well)),
            gauge("minio_node_drive_offline_total", "Those that cannot.", int(not well)),
            *(
                by_label(f"minio_node_drive_{name}", "gauge", text, "drive", {drive: value})
                for name, text, value in (
                    ("total_bytes", "The size of the file system.", space.total),
                    ("free_bytes", "What may still be written.", space.free),
                    ("used_bytes", "What is taken.", space.used),
                    ("free_inodes", "How many more files there may be.", space.inodes),
                )
            ),
        ]

    async def infos(self) -> Sequence[BucketInfo]:
        """
        All buckets.
        """
        return await self._store.buckets()

    async def buckets(self) -> list[Family]:
        """
        What each bucket holds; nothing when there are too many objects to be counted.
        """
        usage = await self._fresh_usage()
        objects, sizes = usage.objects or {}, usage.sizes or {}
        name, kind = "minio_bucket_usage", "gauge"
        return [
            by_label(f"{name}_object_total", kind, "Current objects.", "bucket", objects),
            by_label(f"{name}_total_bytes", kind, "Bytes of current objects.", "bucket", sizes),
        ]

    async def _space(self) -> Space:
        space: Space = await self._lanes.lane().run(read_space, str(self._directory))
        return space

    async def _fresh_usage(self) -> Usage:
        if self._usage is None or self._clock.seconds() - self._counted >= FRESH:
            self._usage = await self._counting.run("usage", self._count)
            self._counted = self._clock.seconds()
        return self._usage

    async def _count(self) -> Usage:
        names = [bucket.name for bucket in await self._store.buckets()]
        objects, sizes, cost = dict.fromkeys(names, 0), dict.fromkeys(names, 0), 0
        for name in names:
            query: ListQuery | None = _PAGE
            while query is not None:
                if cost >= MOST:
                    return Usage(len(names), None, None)
                page = await self._store.list(name, query)
                cost += max(len(page.objects), PAGE)
                objects[name] += len(page.objects)
                sizes[name] += sum(info.size for info in page.objects)
                query = None if page.next is None else evolve(_PAGE, start_after=page.next)
        return Usage(len(names), objects, sizes)

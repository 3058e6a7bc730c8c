# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The room that a server has, and what it holds, as series for Prometheus.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from attrs import define
from twisted.internet.interfaces import IReactorTime

from kypello.filesystem import Space, read_space
from kypello.interfaces import ILanes, IObjectStore
from kypello.model import BucketInfo
from kypello.monitor.text import Family, by_label, gauge
from kypello.scanner.usage import BucketUsage, Usage

#: What is told of each bucket.
_BUCKETS: Sequence[tuple[str, str, Callable[[BucketUsage], int]]] = (
    ("object_total", "Current objects.", lambda usage: usage.objects),
    ("version_total", "Versions that have content.", lambda usage: usage.versions),
    ("deletemarker_total", "Delete markers.", lambda usage: usage.markers),
    ("total_bytes", "Bytes of all versions.", lambda usage: usage.size),
)
_DISTRIBUTIONS: Sequence[tuple[str, str, Callable[[BucketUsage], Mapping[str, int]]]] = (
    ("size_distribution", "Current objects by their sizes.", BucketUsage.size_histogram),
    ("version_distribution", "Keys by how many versions they have.", BucketUsage.stack_histogram),
)


@define(eq=False)
class Storage:
    """
    Tells about a data directory.
    """

    _store: IObjectStore
    _usage: Usage
    _directory: Path
    _lanes: ILanes
    _clock: IReactorTime

    async def cluster(self, well: bool) -> list[Family]:
        """
        The storage as a whole.

        :param well: Whether it can be read.
        """
        space, buckets = await self._space(), await self._store.buckets()
        total = await self._usage.total(buckets)
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
            gauge("minio_cluster_bucket_total", "Buckets.", len(buckets)),
        ]
        if total.since is not None:
            name = "minio_cluster_usage"
            families += [
                gauge(f"{name}_object_total", "Current objects.", total.objects),
                gauge(f"{name}_version_total", "Versions that have content.", total.versions),
                gauge(f"{name}_deletemarker_total", "Delete markers.", total.markers),
                gauge(f"{name}_total_bytes", "Bytes of all versions.", total.size),
                by_label(
                    "minio_cluster_objects_size_distribution",
                    "gauge",
                    "Current objects by their sizes.",
                    "range",
                    _sums(each.size_histogram() for each in total.by_bucket.values()),
                ),
                by_label(
                    "minio_cluster_objects_version_distribution",
                    "gauge",
                    "Keys by how many versions they have.",
                    "range",
                    _sums(each.stack_histogram() for each in total.by_bucket.values()),
                ),
            ]
        if total.since:
            families.append(
                gauge(
                    "minio_usage_last_activity_nano_seconds",
                    "How long ago the oldest of the counts ended.",
                    int(self._clock.seconds() * 1e9) - total.since,
                )
            )
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
        What each bucket holds; nothing of one that was not counted yet.
        """
        found = (await self._usage.total(await self._store.buckets())).by_bucket
        families = [
            by_label(
                f"minio_bucket_usage_{name}",
                "gauge",
                text,
                "bucket",
                {bucket: value(usage) for bucket, usage in found.items()},
            )
            for name, text, value in _BUCKETS
        ]
        for name, text, ranges in _DISTRIBUTIONS:
            samples = [
                ("", {"bucket": bucket, "range": range_}, count)
                for bucket, usage in found.items()
                for range_, count in ranges(usage).items()
            ]
            families.append(Family(f"minio_bucket_objects_{name}", "gauge", text, samples))
        return families

    async def _space(self) -> Space:
        space: Space = await self._lanes.lane().run(read_space, str(self._directory))
        return space


def _sums(histograms: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for histogram in histograms:
        sums.update(histogram)
    return dict(sums)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.storage`` and ``kypello.monitor.processes``.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kypello.model import ObjectMetadata
from kypello.monitor.processes import machine_series, process_series
from kypello.monitor.storage import Storage
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.admin.front import AdminCase
from tests.cases import SyncCase
from tests.monitor.test_tally import told


class StorageTests(AdminCase):
    """
    What a store holds.
    """

    def setUp(self) -> None:
        """
        Tell about a store in memory, and the file system of the test.
        """
        super().setUp()
        self.storage = Storage(self.store, self.usage, Path("."), InlineLanes(), self.clock)

    def make(self, bucket: str, *sizes: int) -> None:
        """
        A bucket with objects.
        """
        self.done(self.store.create_bucket(bucket, {}))
        for number, size in enumerate(sizes):
            put(self, bucket, f"k{number}", size)

    def test_buckets(self) -> None:
        """
        Objects and their bytes are told by bucket and in all, empty buckets too, as they were when
        they were counted.
        """
        self.make("a", 10, 2000)
        self.make("b")
        self.scan()
        for _ in range(2):
            found = told(self.done(self.storage.buckets()))
            self.assertEqual(found["minio_bucket_usage_object_total", "a"], 2)
            self.assertEqual(found["minio_bucket_usage_version_total", "a"], 2)
            self.assertEqual(found["minio_bucket_usage_deletemarker_total", "a"], 0)
            self.assertEqual(found["minio_bucket_usage_total_bytes", "a"], 2010)
            self.assertEqual(found["minio_bucket_usage_object_total", "b"], 0)
            name = "minio_bucket_objects_size_distribution"
            self.assertEqual(found[name, "a", "LESS_THAN_1024_B"], 1)
            self.assertEqual(found[name, "a", "BETWEEN_1024B_AND_1_MB"], 1)
            name = "minio_bucket_objects_version_distribution"
            self.assertEqual(found[name, "a", "UNVERSIONED"], 2)
            put(self, "b", "k", 5)
        self.scan()
        self.clock.advance(3)
        found = told(self.done(self.storage.cluster(well=True)))
        self.assertEqual(found["minio_cluster_bucket_total",], 2)
        self.assertEqual(found["minio_cluster_usage_object_total",], 3)
        self.assertEqual(found["minio_cluster_usage_version_total",], 3)
        self.assertEqual(found["minio_cluster_usage_deletemarker_total",], 0)
        self.assertEqual(found["minio_cluster_usage_total_bytes",], 2015)
        self.assertEqual(found["minio_cluster_objects_size_distribution", "LESS_THAN_1024_B"], 2)
        self.assertEqual(found["minio_cluster_objects_version_distribution", "UNVERSIONED"], 3)
        self.assertAlmostEqual(found["minio_usage_last_activity_nano_seconds",], 3e9, delta=1e6)

    def test_not_counted_yet(self) -> None:
        """
        What is not known is not told.
        """
        self.make("a", 10)
        self.scan()
        self.make("b", 20)
        found = told(self.done(self.storage.cluster(well=False)))
        self.assertEqual(found["minio_cluster_bucket_total",], 2)
        self.assertNotIn(("minio_cluster_usage_object_total",), found)
        self.assertNotIn(("minio_usage_last_activity_nano_seconds",), found)
        self.assertEqual(found["minio_cluster_health_status",], 0)
        found = told(self.done(self.storage.buckets()))
        self.assertEqual(found["minio_bucket_usage_total_bytes", "a"], 10)
        self.assertNotIn(("minio_bucket_usage_total_bytes", "b"), found)

    def test_drive(self) -> None:
        """
        The room is that of the file system.
        """
        found = told(self.done(self.storage.drive(well=True)))
        room = os.statvfs(".")
        total = found["minio_node_drive_total_bytes", "."]
        self.assertEqual(total, room.f_blocks * room.f_frsize)
        self.assertLessEqual(found["minio_node_drive_free_bytes", "."], total)
        self.assertEqual(found["minio_node_drive_online_total",], 1)


def put(case: AdminCase, bucket: str, key: str, size: int) -> None:
    """
    Store an object.
    """
    case.done(
        case.store.put(bucket, key, BytesSource([bytes(size)]), lambda _size: ObjectMetadata(""))
    )


class ProcessTests(SyncCase):
    """
    Real processes.
    """

    def start(self) -> Any:
        """
        A child that has worked for a while, and waits.
        """
        program = "import time; t = time.process_time\nwhile t() < 0.2: pass\nprint(); input()"
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None and child.stdout is not None
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.stdout.close)
        child.stdout.readline()
        return child

    def test_ended(self) -> None:
        """
        What a child took counts while it runs and when it has ended, and once only.
        """
        name = ("minio_node_process_cpu_total_seconds_total",)
        before = told(process_series(os.getpid(), [], time.time()))
        child = self.start()
        during = told(process_series(os.getpid(), [os.getpid(), child.pid], time.time()))
        self.assertEqual(during["kypello_processes",], before["kypello_processes",] + 1)
        self.assertGreaterEqual(during[name], before[name] + 0.15)
        child.communicate(b"\n")
        after = told(process_series(os.getpid(), [child.pid], time.time()))
        self.assertEqual(after["kypello_processes",], 1)
        for key, value in during.items():
            if key[0].endswith("_total") and "descriptor" not in key[0]:
                self.assertGreaterEqual(after[key], value, key)

    def test_stranger(self) -> None:
        """
        A process id that belongs to somebody else by now does not count.
        """
        found = told(process_series(os.getpid(), [os.getppid(), 2**22 + 1], time.time()))
        self.assertEqual(found["kypello_processes",], 1)
        self.assertEqual(process_series(2**22 + 1, [], time.time()), [])

    def test_machine(self) -> None:
        """
        The machine has memory.
        """
        found = told(machine_series())
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.assertLess(abs(found["minio_node_mem_total",] - total), total * 0.1)

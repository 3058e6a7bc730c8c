# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A disk that ends in the middle of writes of all kinds, with nothing written any more of what the
system held in memory, its journal included: what was acknowledged before is there afterwards.

``KYPELLO_POWER_CUTS`` says how often, and ``KYPELLO_CRASH_SEED`` what is drawn.
"""

import os
import random
import struct
import subprocess
import threading
import time
from fcntl import ioctl
from pathlib import Path
from unittest import SkipTest

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.crash import BUCKET, SEED, Writer, examine, several_writers
from tests.integration.server import STATIC_KEY, ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_disk_faults import mount
from tests.integration.test_faults import wait_until

_CUTS = int(os.environ.get("KYPELLO_POWER_CUTS", "4"))

#: Has a file system end at once; here, without its journal being written (ext4, as in XFS).
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2


class PowerCutTests(SyncCase):
    """
    A server on a file system of its own.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.work = Path(self.mktemp()).resolve()
        self.disk = self.work / "data"
        self.disk.mkdir(parents=True)
        self.image = self.work / "image"
        with self.image.open("wb") as file:
            file.truncate(1 << 30)
        make = [tools.require("mkfs.ext4"), "-q", "-m", "0", "-b", "4096", self.image]
        subprocess.run(make, check=True, timeout=60)
        if not mount(self, "-o", "loop", str(self.image), str(self.disk)):
            # A container may mount what is in memory and have no such device.
            raise SkipTest("no loop device can be mounted")
        environment = {"MINIO_KMS_SECRET_KEY": STATIC_KEY}
        self.server = ServerProcess(self.disk, environment, ("--workers", "2"))
        self.server.start()
        self.addCleanup(self.server.stop)
        boto3_client(self.server).create_bucket(Bucket=BUCKET)

    def test_cuts(self) -> None:
        """
        Nothing acknowledged is lost, nothing is half there, every completion can be repeated, and
        the server stays up with its disk gone.
        """
        chance, writers = random.Random(SEED), several_writers(self.server)
        for _ in range(_CUTS):
            self.write(writers, chance)
            self.assertTrue(self.server.running)
            self.replace_power()
            for writer in writers:
                writer.cut = False
                writer.check()
                self.assertEqual(writer.wrong, [])
        self.assertGreater(sum(writer.acknowledged for writer in writers), 5 * _CUTS)
        self.assertNotIn("Traceback", self.server.log)
        self.assertEqual(self.server.stop(), 0)
        examine(self.server)

    def write(self, writers: list[Writer], chance: random.Random) -> None:
        """
        Have all write for a while, and cut the power meanwhile.
        """
        stopped = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(stopped,)) for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.3, 1.5))
        for writer in writers:
            writer.cut = True
        self.cut_power()
        time.sleep(chance.uniform(0.0, 0.3))
        stopped.set()
        for thread in threads:
            thread.join()

    def cut_power(self) -> None:
        """
        End the file system.
        """
        descriptor = os.open(self.disk, os.O_RDONLY)
        try:
            ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def replace_power(self) -> None:
        """
        Have the system forget what it held of the disk, and start the server on what is there.
        """
        self.server.kill_and_wait()
        unmount = ["umount", str(self.disk)]
        wait_until(
            lambda: not subprocess.run(unmount, check=False, stderr=subprocess.DEVNULL).returncode
        )
        subprocess.run(["mount", "-o", "loop", self.image, self.disk], check=True)
        self.server.start()
        wait_until(lambda: len(self.server.workers()) == 2)

    def unmounted(self) -> bool:
        """
        Unmount the disk, unless something still uses it.
        """
        unmount = subprocess.run(["umount", self.disk], capture_output=True, check=False)
        return not unmount.returncode

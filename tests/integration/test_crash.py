# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A server whose processes are killed at random, one or all, under writes of all kinds: whatever
it has acknowledged is there afterwards, and nothing else.

``KYPELLO_CRASH_CYCLES`` says how often, and ``KYPELLO_CRASH_SEED`` what is drawn.
"""

import os
import random
import signal
import threading
import time
from pathlib import Path

from tests.cases import SyncCase
from tests.integration.crash import BUCKET, SEED, Writer, examine, several_writers
from tests.integration.server import STATIC_KEY, ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until

_ENVIRONMENT = {"MINIO_KMS_SECRET_KEY": STATIC_KEY}
_CYCLES = int(os.environ.get("KYPELLO_CRASH_CYCLES", "30"))


class CrashTests(SyncCase):
    """
    Kills without number.
    """

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.server = ServerProcess(self.work / "data", _ENVIRONMENT, ("--workers", "2"))
        self.server.start()
        self.addCleanup(self.server.stop)
        boto3_client(self.server).create_bucket(Bucket=BUCKET)

    def test_kills(self) -> None:
        """
        Nothing acknowledged is lost, nothing is half there, every completion can be repeated;
        in the end nothing is left on the disk but what lives.
        """
        chance, writers = random.Random(SEED), several_writers(self.server)
        for _ in range(_CYCLES):
            self.write(writers, chance)
            for writer in writers:
                writer.check()
                self.assertEqual(writer.wrong, [])
        self.assertGreater(sum(writer.acknowledged for writer in writers), 5 * _CYCLES)
        self.assertNotIn("Traceback", self.server.log)
        self.assert_clean(writers)

    def write(self, writers: list[Writer], chance: random.Random) -> None:
        """
        Have all write for a moment, and kill a worker or everything meanwhile.
        """
        stopped = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(stopped,)) for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.05, 0.7))
        workers = self.server.workers()
        if chance.random() < 0.5:
            os.kill(chance.choice(workers), signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 0.3))
        else:
            for pid in chance.sample([*workers, self.server.pid], len(workers) + 1):
                os.kill(pid, signal.SIGKILL)
            self.server.kill()
        stopped.set()
        for thread in threads:
            thread.join()
        if not self.server.running:
            self.server.start()
        wait_until(lambda: len(self.server.workers()) == 2)

    def assert_clean(self, writers: list[Writer]) -> None:
        """
        See that each blob on the disk belongs to an object, and that all are sound.
        """
        s3 = boto3_client(self.server)
        for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        # One describes the bucket.
        live = 1 + sum(
            state[1] for one in writers for (state,) in one.states.values() if state is not None
        )
        blobs = self.work / "data" / "blobs"
        wait_until(lambda: len(list(blobs.glob("*/*"))) == live)
        self.assertEqual(self.server.stop(), 0)
        examine(self.server)

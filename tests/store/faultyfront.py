# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The whole front over a store on disk, whose device fails where a test wants it.
"""

import os
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.task import Clock

from kypello.iam.authenticate import Authenticator
from kypello.kmsconfig import Reuse
from kypello.monitor.health import FRESH, Health
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.s3.call import Front
from kypello.s3.errors import refuse_framing
from kypello.s3.root import S3Resource
from kypello.store.files import FileBlobs
from kypello.store.layout import LayoutStore
from kypello.store.probe import DiskProbe
from kypello.store.remembering import RememberingIndex
from kypello.store.sqlite import SQLiteIndex
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import InlineLanes
from kypello.testing.harness import Answer, Harness
from tests.root import Root
from tests.s3.front import ROOT, FrontCase, at
from tests.store.device import Device, DeviceCalls, DeviceVFS
from tests.store.faults import whats_wrong
from tests.store.seams import drive

#: Calls that change something, and others.
CHANGES = frozenset(
    {
        *("make", "make_directory", "write", "allocate", "sync", "truncate"),
        *("sync_directory", "rename", "unlink"),
    }
)


@define
class FaultyDevice(Device):
    """
    A device that fails.

    :ivar error: With which number of an error.
    :ivar calls: Which calls may fail.
    :ivar at: The first of these that does, counted from 1; 0 for none.
    :ivar lasting: Whether all that follow do, too.
    :ivar count: How many of them there were.
    :ivar failed: Call and name of the file of the first one that failed.
    :ivar made: Calls, and the last parts of the names of their files, since it works again.
    """

    error: int = 0
    calls: frozenset[str] = CHANGES
    at: int = 0
    lasting: bool = False
    count: int = 0
    failed: tuple[str, str] = ("", "")
    made: list[tuple[str, str]] = field(factory=list)

    def before(self, call: str, path: Path, offset: int) -> None:
        """
        Fail if it is time.
        """
        if call not in self.calls or path.suffix == ".sqlite-shm":
            return
        self.count += 1
        if self.at and (self.count == self.at or (self.lasting and self.count > self.at)):
            if self.failed == ("", ""):
                self.failed = call, path.name
            raise OSError(self.error, os.strerror(self.error))

    def break_(self, error: int, at: int = 1, lasting: bool = True, calls: Any = CHANGES) -> None:
        """
        Fail from now on.
        """
        self.error, self.at, self.lasting, self.calls = error, at, lasting, frozenset(calls)
        self.count, self.failed = 0, ("", "")

    def mend(self) -> None:
        """
        Work again.
        """
        self.at, self.count = 0, 0
        self.made.clear()

    def after(self, call: str, path: Path, offset: int, data: bytes) -> None:
        """
        Note a call.
        """
        self.made.append((call, path.suffix))


class FaultyFrontCase(FrontCase):
    """
    A test of a front that encrypts, over a disk that fails.
    """

    def serve(self, **_: Any) -> None:  # type: ignore[override]
        """
        Serve a store in a fresh directory, with a bucket.
        """
        self.path = Path(self.mktemp()).absolute()
        for name in ("index", "blobs"):
            (self.path / name).mkdir(parents=True)
        self.clock = Clock()
        self.clock.advance(time.time())
        self.device = FaultyDevice()
        self.vfs = DeviceVFS(self.device)
        self.addCleanup(self.vfs.close)
        self.start()
        self.addCleanup(lambda: self.drive(self.database.close()))
        self.send("PUT", "/bucket", status=200)

    def start(self) -> None:
        """
        Start a server.
        """
        lanes, calls = InlineLanes(), DeviceCalls(self.device)
        self.database = SQLiteIndex(
            self.path / "index", lanes, connect=self.vfs.connect, calls=calls
        )
        index = RememberingIndex(self.database)
        self.blobs = FileBlobs(self.path / "blobs", lanes, calls)
        layout = LayoutStore(index, self.blobs, self.clock, os.urandom)
        self.sweeper = Sweeper(index, self.blobs, layout.intents)
        store = EncryptedStore(
            layout, DataKeys(self.kms, self.clock, Reuse()), os.urandom, auto_encryption=True
        )
        probe = DiskProbe(self.database, self.blobs, self.path / "probe", lanes, calls)
        root = Root(ROOT)
        self.front = Front(
            store=store,
            authenticator=Authenticator(root, None, self.clock, True),
            authorizer=root,
            lanes=lanes,
            region=None,
            clock=self.clock,
            encrypts=True,
        )
        self.health = Health(probe, self.kms, self.clock)
        self.harness = Harness(
            S3Resource(self.front, self.health.probe),
            access_log=False,
            refusal=partial(refuse_framing, host_id=self.front.host_id),
        )

    def drive(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        Do something that waits for nothing.
        """
        return drive(work)

    def probed(self) -> tuple[int, int, int]:
        """
        What the probes ``live``, ``cluster`` and ``cluster/read`` say now.
        """
        self.clock.advance(FRESH)
        statuses = [
            self.plainly("GET", f"/minio/health/{word}", []).status
            for word in ("live", "cluster", "cluster/read")
        ]
        return statuses[0], statuses[1], statuses[2]

    def code(self, answer: Answer) -> tuple[int, str]:
        """
        Status and error code of an answer.
        """
        if answer.status < 300:
            return answer.status, ""
        assert answer.status != 500 or b"<Code>" in answer.body, answer.body
        code = answer.body.partition(b"<Code>")[2].partition(b"</Code>")[0]
        return answer.status, code.decode()

    def content(self, key: str) -> bytes | None:
        """
        The content of an object; ``None`` for no object.
        """
        answer = self.send("GET", at("bucket", key))
        if answer.status == 404:
            return None
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body

    def assert_clean(self) -> None:
        """
        After a sweep nothing is left but what lives.
        """
        self.drive(self.sweeper.sweep())
        self.assertEqual(self.drive(whats_wrong(self.database, self.blobs)), [])

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A disk that fails for a while: what clients and probes are told, and that all is well after it.
"""

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from tests.contracts.object_store import pattern
from tests.s3.front import at
from tests.store.faultyfront import CHANGES, FaultyFrontCase

_OK, _GONE = (200, ""), (204, "")
_FULL = (507, "XMinioStorageFull")
_FAILED = (503, "ServiceUnavailable")
_SMALL, _LARGE = pattern(500), pattern(120_000)


@frozen
class Fault:
    """
    A fault of the disk.

    :ivar calls: Which ones fail.
    :ivar put: How storing is answered.
    :ivar delete: How deleting is answered.
    :ivar get: How reading a large object is answered.
    :ivar healthy: What the probes ``live``, ``cluster`` and ``cluster/read`` say.
    """

    name: str
    error: int
    calls: Iterable[str]
    put: tuple[int, str] = _FAILED
    delete: tuple[int, str] = _FAILED
    get: tuple[int, str] = _OK
    healthy: tuple[int, int, int] = (200, 503, 200)


_TAKING_ROOM = ("make", "make_directory", "write", "allocate")

FAULTS = (
    # That deleting works on a full disk is seen where one has really no room left.
    Fault("full", errno.ENOSPC, _TAKING_ROOM, put=_FULL, delete=_FULL),
    Fault("quota", errno.EDQUOT, _TAKING_ROOM, put=_FULL, delete=_FULL),
    Fault("full at sync", errno.ENOSPC, ("sync",)),
    Fault("cannot write", errno.EIO, ("write",)),
    Fault("cannot sync", errno.EIO, ("sync",)),
    Fault("cannot sync directories", errno.EIO, ("sync_directory",), delete=_GONE),
    Fault("read-only", errno.EROFS, CHANGES),
    Fault("permission lost", errno.EACCES, {*CHANGES, "open"}),
    Fault("too many files", errno.EMFILE, ("make", "open"), delete=_GONE),
    Fault(
        "cannot read",
        errno.EIO,
        # To change something, free pages of the index are read, which need not be in memory.
        ("read",),
        get=_FAILED,
        healthy=(200, 200, 200),
    ),
)


class LastingTests(FaultyFrontCase):
    """
    Faults that last for some requests.
    """

    def test_faults(self) -> None:
        """
        Each fault is told as what it is, hides nothing that can be had, and leaves nothing.
        """
        for fault in FAULTS:
            for key in ("small", "deleted"):
                self.put(key, _SMALL)
            self.put("large", _LARGE)
            self.assertEqual(self.probed(), (200, 200, 200))
            self.device.break_(fault.error, calls=fault.calls)
            put = self.send("PUT", at("bucket", "new"), _LARGE)
            self.assertEqual(self.code(put), fault.put, fault.name)
            delete = self.send("DELETE", at("bucket", "deleted"))
            self.assertEqual(self.code(delete), fault.delete, fault.name)
            get = self.send("GET", at("bucket", "large"))
            self.assertEqual(self.code(get), fault.get, fault.name)
            self.assertEqual(self.content("small"), _SMALL, fault.name)
            self.assertEqual(self.probed(), fault.healthy, fault.name)
            self.device.mend()
            self.assertEqual(self.probed(), (200, 200, 200), fault.name)
            stored = self.content("new")
            self.assertEqual(stored, _LARGE if fault.put == _OK else None, fault.name)
            if fault.delete == _GONE:
                self.assertIsNone(self.content("deleted"), fault.name)
            self.assertEqual(self.content("large"), _LARGE, fault.name)
            for key in ("new", "deleted"):
                self.send("DELETE", at("bucket", key), status=204)
            self.assert_clean()

    def test_failed_sync(self) -> None:
        """
        After a sync that failed nothing is told or acknowledged before what could be read has been
        written and synced once more, and the log begins anew.
        """
        self.put("k", _SMALL)
        self.device.mend()
        self.device.break_(errno.EIO, lasting=False, calls=("sync",))
        self.assertEqual(self.code(self.send("PUT", at("bucket", "k"), b"lost?")), _FAILED)
        self.assertTrue(self.device.failed[1].endswith(".sqlite-wal"))
        self.assertEqual(
            self.device.made[-3:],
            [("sync", ".sqlite"), ("truncate", ".sqlite-wal"), ("sync", ".sqlite-wal")],
        )
        self.device.mend()
        self.put("other", _SMALL)
        self.assertEqual(self.content("k"), _SMALL)
        self.assertEqual(self.content("other"), _SMALL)

    def test_failing_syncs(self) -> None:
        """
        So it is after several syncs that failed, before the next change.
        """
        self.put("k", _SMALL)
        self.device.break_(errno.EIO, calls=("sync",))
        self.assertEqual(self.code(self.send("PUT", at("bucket", "k"), b"lost?")), _FAILED)
        self.device.mend()
        self.put("other", _SMALL)
        made = self.device.made
        self.assertIn(("open", ".sqlite-wal"), made)
        database = made.index(("sync", ".sqlite"))
        self.assertLess(database, made.index(("write", ".sqlite-wal")))
        self.assertIn(self.content("k"), (_SMALL, b"lost?"))
        self.assertEqual(self.content("other"), _SMALL)

    def test_crash_after_failed_sync(self) -> None:
        """
        What was deleted after it could not be stored stays so when all processes are killed.
        """
        self.put("k", _SMALL)
        self.device.break_(errno.EIO, lasting=False, calls=("sync",))
        self.assertEqual(self.code(self.send("PUT", at("bucket", "new"), _SMALL)), _FAILED)
        self.assertTrue(self.device.failed[1].endswith(".sqlite-wal"))
        self.device.mend()
        self.send("DELETE", at("bucket", "new"), status=204)
        # Whoever comes first after a crash makes the memory anew that processes share.
        left = Path(self.mktemp()).absolute()
        shutil.copytree(self.path, left, ignore=shutil.ignore_patterns("*-shm"))
        self.drive(self.database.close())
        self.path = left
        self.start()
        self.assertIsNone(self.content("new"))
        self.assertEqual(self.content("k"), _SMALL)

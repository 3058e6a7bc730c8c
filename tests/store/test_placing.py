# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.placing``.
"""

import errno
import os
from pathlib import Path

from kypello.errors import StorageFailed
from kypello.store import placing
from kypello.store.placing import Placing
from tests.cases import SyncCase


class PlacingTests(SyncCase):
    """
    A new index takes the place of the old one.
    """

    def setUp(self) -> None:
        """
        A directory with an index and blobs.
        """
        self.path = Path(self.mktemp()).resolve()
        (self.path / "index" / "ab").mkdir(parents=True)
        (self.path / "index" / "ab" / "old").write_bytes(b"old")
        (self.path / "blobs" / "00").mkdir(parents=True)

    def begun(self) -> Placing:
        """
        One whose new index is made.
        """
        made = Placing(self.path)
        made.begin()
        (made.building / "new").write_bytes(b"new")
        return made

    def names(self, path: str = ".") -> list[str]:
        """
        What is in a directory.
        """
        return sorted(os.listdir(self.path / path))

    def test_put(self) -> None:
        """
        It is exchanged for the old one, which is kept, each time in a place of its own.
        """
        for number in (1, 2):
            kept = self.begun().put()
            self.assertEqual(kept, self.path / f"set-aside-{number}" / "index")
            self.assertEqual(self.names("index"), ["new"])
        self.assertEqual(self.names("set-aside-1/index"), ["ab"])
        self.assertEqual(self.names("set-aside-2/index"), ["new"])
        self.assertEqual(self.names(), ["blobs", "index", "set-aside-1", "set-aside-2"])

    def test_no_index(self) -> None:
        """
        Where none was, it is put, and nothing is set aside.
        """
        (self.path / "index").rename(self.path / "elsewhere")
        self.assertIsNone(self.begun().put())
        self.assertEqual(self.names(), ["blobs", "elsewhere", "index"])

    def test_begin(self) -> None:
        """
        What a process left that was killed is removed, as it is when it is given up.
        """
        self.begun()
        made = self.begun()
        made.begin()
        self.assertEqual(self.names("rebuilding"), [])
        made.give_up()
        made.give_up()
        self.assertEqual(self.names(), ["blobs", "index"])

    def test_killed(self) -> None:
        """
        Whoever is killed before the exchange leaves the old index in its place, and the next one
        begins anew.
        """

        def killed(*_: object) -> None:
            """
            End the process here.
            """
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.patch(placing, "_renameat2", killed)
            self.begun().put()
        self.assertEqual(self.names("index"), ["ab"])
        self.assertEqual(self.names("set-aside-1/index"), ["new"])

    def test_no_exchange(self) -> None:
        """
        Where the system cannot exchange directories, or refuses to, it is told what to do.
        """

        def refused(*_: object) -> int:
            """
            Refuse.
            """
            placing.ctypes.set_errno(errno.EINVAL)
            return -1

        for call, why in ((None, "no such call"), (refused, "Invalid argument")):
            self.patch(placing, "_renameat2", call)
            with self.assertRaises(StorageFailed) as caught:
                self.begun().put()
            self.assertIn(why, caught.exception.reason)
            self.assertIn("do it by hand", caught.exception.reason)
            self.assertEqual(self.names("index"), ["ab"])
        self.assertEqual(self.names("set-aside-2/index"), ["new"])

    def test_blobs(self) -> None:
        """
        Blobs are set aside under their names, beside the old index.
        """
        made = self.begun()
        names = ["00" + "a" * 30, "00" + "b" * 30]
        for name in names:
            (self.path / "blobs" / "00" / name).write_bytes(name.encode())
        made.put()
        made.set_aside(names[:1])
        self.assertEqual(self.names("blobs/00"), names[1:])
        self.assertEqual(self.names("set-aside-1"), ["blobs", "index"])
        self.assertEqual(self.names("set-aside-1/blobs/00"), names[:1])
        with self.assertRaises(StorageFailed):
            made.set_aside(names[:1])

    def test_failed(self) -> None:
        """
        What the device refuses is told.
        """
        self.begun()
        (self.path / "rebuilding").rename(self.path / "moved")
        (self.path / "rebuilding").write_bytes(b"a file")
        for call in (Placing(self.path).begin, Placing(self.path).give_up):
            with self.assertRaises(StorageFailed):
                call()

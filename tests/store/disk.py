# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests of the disk store have in common: lanes that run for one test.
"""

from contextlib import suppress
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from kypello.store.lanes import Lanes
from tests.cases import AsyncCase


class DiskCase(AsyncCase):
    """
    A test in a fresh directory, with lanes.
    """

    def setUp(self) -> None:
        """
        Start two threads.
        """
        self.lanes = Lanes(IReactorFromThreads(reactor), 2)
        self.lanes.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.lanes.stop()))

    def directory(self) -> Path:
        """
        A fresh directory.
        """
        path = Path(self.mktemp())
        path.mkdir(parents=True)
        return path


def held_open(root: Path) -> list[Path]:
    """
    The files below *root* that this process holds open.
    """
    held = []
    for link in Path("/proc/self/fd").iterdir():
        # A lane may close it just now.
        with suppress(FileNotFoundError):
            held.append(link.readlink())
    return [path for path in held if path.is_relative_to(root.absolute())]

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How a new index takes the place of the old one; blocking.

It is made in ``DIR/rebuilding``, and when it is whole and durable, it goes to
``DIR/set-aside-N/index``, where N is a new number, and is exchanged for ``DIR/index`` in one
instant.  So at any time there is an index in its place, and it is whole; and what was there is
kept.  What is left in ``DIR/rebuilding`` by a process that was killed is nothing but that.
"""

import ctypes
import os
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from attrs import define, field

from kypello.errors import StorageFailed
from kypello.store.failures import storage_error

_HERE, _EXCHANGE = -100, 2
_renameat2: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


@define(eq=False)
class Placing:
    """
    The places of a data directory between which things are moved.

    All methods raise :class:`StorageFailed` and :class:`StorageFull`.

    :ivar aside: Where everything is that was set aside.
    """

    _directory: Path
    aside: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Find a place that is free.
        """
        paths = (self._directory / f"set-aside-{number}" for number in count(1))
        self.aside = next(path for path in paths if not path.exists())

    @property
    def index(self) -> Path:
        """
        Where the index belongs.
        """
        return self._directory / "index"

    @property
    def building(self) -> Path:
        """
        Where the new one is made.
        """
        return self._directory / "rebuilding"

    def begin(self) -> None:
        """
        Make an empty place for the new index.
        """
        self.give_up()
        try:
            self.building.mkdir(mode=0o700)
        except OSError as error:
            raise storage_error(error, str(self.building)) from error

    def give_up(self) -> None:
        """
        Remove what was made of the new index.
        """
        try:
            shutil.rmtree(self.building)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, str(self.building)) from error

    def put(self) -> Path | None:
        """
        Put the new index, whose databases are closed, in its place.

        :return: Where the old one is; ``None`` if there was none.
        """
        try:
            for path in self.building.rglob("*"):
                _sync(path)
            _sync(self.building)
            if not self.index.exists():
                self.building.rename(self.index)
                _sync(self._directory)
                return None
            old = self._make("index")
            self.building.rename(old)
            _sync(self.aside)
            self._exchange(old)
            _sync(self.aside)
            _sync(self._directory)
        except OSError as error:
            raise storage_error(error, str(self._directory)) from error
        return old

    def set_aside(self, blobs: Sequence[str]) -> None:
        """
        Move blobs out of the way.
        """
        try:
            for name in blobs:
                source = self._directory / "blobs" / name[:2] / name
                target = self._make("blobs") / name[:2]
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
                source.rename(target / name)
                _sync(source.parent)
                _sync(target)
                _sync(target.parent)
        except OSError as error:
            raise storage_error(error, str(self.aside)) from error

    def _make(self, name: str) -> Path:
        """
        The path of what is to be set aside, whose directory is made.
        """
        if not self.aside.exists():
            self.aside.mkdir(mode=0o700)
            _sync(self._directory)
        return self.aside / name

    def _exchange(self, other: Path) -> None:
        paths = os.fsencode(self.index), os.fsencode(other)
        if _renameat2 is None or _renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE):
            why = os.strerror(ctypes.get_errno()) if _renameat2 is not None else "no such call"
            raise StorageFailed(
                f"{self.index} and {other}, which is the new index, cannot be exchanged ({why}):"
                " do it by hand"
            )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

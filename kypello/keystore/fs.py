# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store in a directory: one file per key, as the original KES lays it out.

The values are as they are given, which is not encrypted (``sealedfs.py`` seals them first);
whoever reads the directory has the keys.  Any number of processes may share one.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from kypello.crypto.randomness import Random
from kypello.errors import (
    KeyExists,
    KeyNotFound,
    KeyStoreFailed,
    KeyStoreUnreachable,
)
from kypello.interfaces import IKeyStore, ILanes
from kypello.keystore.names import check, is_name
from kypello.keystore.seal import WrongPassphrase, is_sealed

T = TypeVar("T")

#: The longest value, in bytes.
MAX_VALUE = 1024 * 1024

#: What the system says when the disk, or who serves it, does not answer.
_AWAY = frozenset(
    {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN}
)


@implementer(IKeyStore)
@frozen
class FSKeyStore:
    """
    Keys in files.

    A key is written to a hidden file, synced, and then linked under its name: the name is free
    or holds the whole key, whenever the machine stops.  What begins with a dot is not a key.

    :ivar _path: The directory; it exists, see :meth:`prepare`.
    :ivar _lanes: Where the blocking calls run.
    :ivar _clock: Measures :meth:`status`.
    :ivar _random: Names temporary files.
    """

    _path: Path
    _lanes: ILanes
    _clock: IReactorTime
    _random: Random

    async def prepare(self) -> None:
        """
        Make the directory when it is missing, and look whether its files can be used.

        :raises WrongPassphrase: It has sealed files.
        :raises KeyStoreFailed: It cannot be made, or is no directory.
        """
        await self.make_directory()
        await self._run(self._refuse_sealed)

    async def make_directory(self) -> None:
        """
        Make the directory when it is missing, for its owner alone.

        Only the start of a server does this: a directory that vanishes later is a file system
        that is not mounted, and a fresh one in its place would look like lost keys.

        :raises KeyStoreFailed: It cannot be made, or is no directory.
        """
        await self._run(self._make_directory)

    async def create(self, name: str, value: bytes) -> None:
        """
        Store a value; see :meth:`IKeyStore.create`.

        :raises InvalidKeyName: It is no file name.
        :raises KeyExists:
        """
        check(name)
        await self._run(self._create, name, value)

    async def get(self, name: str) -> bytes:
        """
        Read a value; see :meth:`IKeyStore.get`.

        :raises InvalidKeyName: It is no file name.
        :raises KeyNotFound:
        :raises WrongPassphrase: It is sealed.
        """
        value = await self.raw(name)
        if is_sealed(value):
            raise self._no_passphrase(name)
        return value

    async def raw(self, name: str) -> bytes:
        """
        Read what a file holds.

        :raises InvalidKeyName: It is no file name.
        :raises KeyNotFound:
        """
        check(name)
        return await self._run(self._get, name)

    async def replace(self, name: str, value: bytes) -> None:
        """
        Put another form of the same key in place of the one that is there.

        :raises InvalidKeyName: It is no file name.
        :raises KeyNotFound:
        """
        check(name)
        await self._run(self._replace, name, value)

    async def delete(self, name: str) -> None:
        """
        Remove a value; see :meth:`IKeyStore.delete`.

        :raises InvalidKeyName: It is no file name.
        :raises KeyNotFound:
        """
        check(name)
        await self._run(self._delete, name)

    async def names(self) -> Sequence[str]:
        """
        The names of all files that can be keys, sorted.
        """
        return await self._run(self._names)

    async def status(self) -> float:
        """
        Look whether the directory is there.

        :raises KeyStoreUnreachable: It is not.
        """
        began = self._clock.seconds()
        await self._run(self._check_directory)
        return self._clock.seconds() - began

    async def close(self) -> None:
        """
        There is nothing to release.
        """

    async def _run(self, call: Callable[..., T], *arguments: object) -> T:
        # Calls do not wait for each other: each has a lane of its own.
        try:
            result: T = await self._lanes.lane().run(call, *arguments)
        except OSError as error:
            kind = KeyStoreUnreachable if error.errno in _AWAY else KeyStoreFailed
            raise kind(f"{error.strerror}: {self._path}") from error
        return result

    # From here on in a thread.

    def _make_directory(self) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _refuse_sealed(self) -> None:
        for name in self._names():
            # What cannot be read is told to who asks for it.
            with suppress(OSError), open(self._path / name, "rb") as file:
                if is_sealed(file.read(64)):
                    raise self._no_passphrase(name)

    def _no_passphrase(self, name: str) -> WrongPassphrase:
        return WrongPassphrase(
            f"{self._path / name} is sealed under a passphrase, and none is given"
        )

    def _check_directory(self) -> None:
        try:
            there = stat.S_ISDIR(os.stat(self._path).st_mode)
        except OSError as error:
            raise KeyStoreUnreachable(f"{error.strerror}: {self._path}") from error
        if not there:
            raise KeyStoreUnreachable(f"not a directory: {self._path}")

    def _create(self, name: str, value: bytes) -> None:
        self._check_directory()
        temporary = self._written(value)
        try:
            os.link(temporary, self._path / name)
        except FileExistsError:
            raise KeyExists(name) from None
        finally:
            os.unlink(temporary)
        self._sync()

    def _replace(self, name: str, value: bytes) -> None:
        self._get(name)
        temporary = self._written(value)
        try:
            os.rename(temporary, self._path / name)
        except OSError:
            os.unlink(temporary)
            raise
        self._sync()

    def _written(self, value: bytes) -> Path:
        temporary = self._path / f".{self._random(16).hex()}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            os.unlink(temporary)
            raise
        return temporary

    def _get(self, name: str) -> bytes:
        try:
            with open(self._path / name, "rb") as file:
                value = file.read(MAX_VALUE + 1)
        except FileNotFoundError:
            self._check_directory()
            raise KeyNotFound(name) from None
        if len(value) > MAX_VALUE:
            raise KeyStoreFailed(f"longer than any key: {self._path / name}")
        return value

    def _delete(self, name: str) -> None:
        try:
            os.unlink(self._path / name)
        except FileNotFoundError:
            self._check_directory()
            raise KeyNotFound(name) from None
        self._sync()

    def _names(self) -> list[str]:
        self._check_directory()
        with os.scandir(self._path) as entries:
            return sorted(
                (entry.name for entry in entries if is_name(entry.name) and entry.is_file()),
                key=os.fsencode,
            )

    def _sync(self) -> None:
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

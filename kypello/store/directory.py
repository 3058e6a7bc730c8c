# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The data directory: made, recognized, kept to one server, and where its credentials lie.

::

    DIR/format         which layout this is
    DIR/lock           held by the server that uses the directory
    DIR/index/         records: system.sqlite, and one database for each bucket
    DIR/blobs/         content
    DIR/kes/           keys and certificates of the embedded key server, if it is used
    DIR/credentials    the root credentials that the first start made, if none were given

Everything here blocks; it runs before the reactor does.
"""

import fcntl
import os
import string
import time
from contextlib import suppress
from pathlib import Path

from attrs import define
from twisted.logger import Logger

from kypello.crypto.randomness import Random
from kypello.errors import ConfigurationError
from kypello.model import Identity

_log = Logger()

_FORMAT = b"kypello 1\n"
_CREDENTIALS = "credentials"
_USER, _PASSWORD = "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"  # names, not values
_SIGNS = string.ascii_uppercase + "234567"
_FOREIGN = ".minio.sys"

#: How long a server that was killed may hold its directory, and how often to look, in seconds.
_PATIENCE, _MOMENT = 5.0, 0.05

#: SQLite maps what processes share in pages of this size, in bytes, and makes room for each by
#: writing its last byte.
_PAGE = 4096

#: What may lie in a directory that is used for the first time.
_UNIMPORTANT = frozenset({"lost+found", "lock", "kes"})


@define(eq=False)
class DataDirectory:
    """
    A data directory that this process holds, alone or with those that it gives the lock to.

    :ivar lock: The descriptor of the lock; one that is passed in comes from a process that has
        made everything ready.
    """

    path: Path
    lock: int = -1

    def __attrs_post_init__(self) -> None:
        """
        Make what is missing, durably, and hold it.

        :raises ConfigurationError: It cannot be used; says why.
        """
        if self.lock >= 0:
            return
        try:
            made = not self.path.exists()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if made:
                _sync(self.path.parent)
            self._recognize()
            self.lock = self._hold()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._complete()
            self._warn_of_small_blocks()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ConfigurationError:
        place = "" if error.filename == str(self.path) else f" ({error.filename})"
        return ConfigurationError(
            (f"{self.path} cannot be used as data directory: {error.strerror}{place}.",)
        )

    @property
    def index(self) -> Path:
        """
        Where the databases are.
        """
        return self.path / "index"

    @property
    def blobs(self) -> Path:
        """
        Where the content is.
        """
        return self.path / "blobs"

    @property
    def credentials_file(self) -> Path:
        """
        Where credentials are kept that nobody gave.
        """
        return self.path / _CREDENTIALS

    def credentials(self, random: Random) -> tuple[Identity, bool]:
        """
        The credentials that are kept here, made now if there are none.

        :return: Whether they were made now, too.
        :raises ConfigurationError: The file cannot be used.
        """
        path = self.credentials_file
        try:
            with suppress(FileNotFoundError):
                return _parse_credentials(path), False
            made = Identity(_token(random, 20), _token(random, 40))
            text = f"{_USER}={made.access_key}\n{_PASSWORD}={made.secret_key}\n"
            write_private(path, text.encode(), random)
        except OSError as error:
            raise ConfigurationError((f"{path}: {error.strerror}.",)) from error
        return made, True

    def close(self) -> None:
        """
        Let another server have it.
        """
        os.close(self.lock)

    def _recognize(self) -> None:
        names = set(os.listdir(self.path))
        if "format" in names:
            found = (self.path / "format").read_bytes()
            if found != _FORMAT:
                raise ConfigurationError(
                    (
                        f"{self.path} holds data in a format that this version does not know"
                        f" ({found[:40].decode('ascii', 'replace').strip()}): use the version"
                        " that wrote it, or a newer one.",
                    )
                )
        elif _FOREIGN in names:
            raise ConfigurationError(
                (
                    f"{self.path} holds the data of a MinIO server, which is laid out"
                    " differently. Name an empty directory, and copy the buckets from the"
                    " running MinIO with `mc mirror`.",
                )
            )
        elif names - _UNIMPORTANT:
            raise ConfigurationError(
                (
                    f"{self.path} is not empty and holds no data of Kypello (there is"
                    f" {min(names - _UNIMPORTANT)!r}): name an empty directory.",
                )
            )

    def _hold(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        holder = acquire(lock)
        if holder is not None:
            os.close(lock)
            raise ConfigurationError(
                (f"{self.path} is in use by another server (process {holder}).",)
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        return lock

    def _complete(self) -> None:
        for part in (self.index, self.blobs):
            part.mkdir(mode=0o700, exist_ok=True)
        marker = self.path / "format"
        if not marker.exists():
            write_private(marker, _FORMAT, os.urandom)
        _sync(self.path)

    def _warn_of_small_blocks(self) -> None:
        blocks = os.statvfs(self.path).f_bsize
        if blocks < _PAGE:
            _log.warn(
                "{path} is on a file system with blocks of {blocks} bytes: when it is full, the"
                " system may kill this server (SIGBUS). Use one with blocks of {page} bytes, as"
                " mkfs.ext4 -b {page} makes.",
                path=str(self.path),
                blocks=blocks,
                page=_PAGE,
            )


def write_private(path: Path, content: bytes, random: Random) -> None:
    """
    Write a file durably, all of it or nothing, that nobody else may read.

    :raises OSError:
    """
    temporary = path.with_name(f".{path.name}-{random(8).hex()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def acquire(lock: int) -> str | None:
    """
    Take the lock of a data directory; blocking.

    :param lock: The descriptor of its file.
    :return: Which process holds it; ``None`` when it is taken.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            if Path("/proc", holder).exists() or time.monotonic() > deadline:
                return holder
            # It was killed, and its workers, which share the lock, are about to notice.
            time.sleep(_MOMENT)
        else:
            return None


def _parse_credentials(path: Path) -> Identity:
    found = dict(
        line.split("=", 1) for line in path.read_text("utf-8", "replace").split() if "=" in line
    )
    try:
        return Identity(found[_USER], found[_PASSWORD])
    except KeyError:
        raise ConfigurationError(
            (
                f"{path} must hold {_USER}=... and {_PASSWORD}=...; remove it to have new"
                " credentials made.",
            )
        ) from None


def _token(random: Random, size: int) -> str:
    # 32 signs: every byte gives one of them with the same probability.
    return "".join(_SIGNS[byte % len(_SIGNS)] for byte in random(size))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A data directory that is read, and in which nothing is changed.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field
from twisted.internet.defer import CancelledError

from kypello.errors import ConfigurationError
from kypello.interfaces import ILanes
from kypello.store.directory import acquire

#: What ``store/directory.py`` writes into a directory of this version.
_FORMAT = b"kypello 1\n"

#: How much a database tells of what is wrong with itself.
_FINDINGS = 20


@contextmanager
def held(directory: Path, rebuild: bool = False, beside: bool = False) -> Iterator[bool]:
    """
    Hold a data directory, so that no server uses it, and change nothing.

    :param rebuild: Whether its index may be missing, and nobody may begin to use it.
    :param beside: Whether a server may use it.
    :return: Whether nobody uses it.
    :raises ConfigurationError: It is none, or in use.
    """
    try:
        if (directory / "format").read_bytes() != _FORMAT:
            raise ConfigurationError(
                (f"{directory} holds data in a format that this version does not know.",)
            )
        for part in ("blobs",) if rebuild else ("index", "blobs"):
            os.listdir(directory / part)
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = Path(error.filename)
        what = f"{directory} is no data directory of Kypello: {missing} is not there."
        if missing == directory / "index":
            what += " If it was lost, kypello store rebuild makes it anew."
        raise ConfigurationError((what,)) from error
    except OSError as error:
        raise ConfigurationError((f"{error.filename}: {error.strerror}.",)) from error
    made = os.O_CREAT if rebuild else 0
    try:
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC | made, 0o600)
    except FileNotFoundError:
        # A copy without it, which nobody uses.
        yield True
        return
    except OSError as error:
        raise ConfigurationError((f"{error.filename}: {error.strerror}.",)) from error
    holder = acquire(lock)
    if holder is not None:
        os.close(lock)
        if beside:
            yield False
            return
        raise ConfigurationError(
            (f"{directory} is in use by a server (process {holder}): stop it, or take a copy.",)
        )
    try:
        yield True
    finally:
        os.close(lock)


@define(eq=False)
class ReadOnly:
    """
    Opens databases that nobody uses, and changes none.

    A server that was killed leaves its last commits in a ``-wal`` file beside the database.
    SQLite reads them, too, with the help of a ``-shm`` file, which holds nothing of its own.

    :ivar _made: Such files that were not there before.
    """

    _made: set[Path] = field(init=False, factory=set)

    def connect(self, database: str, **options: Any) -> sqlite3.Connection:
        """
        Do as ``sqlite3.connect`` does, but for reading; blocking.

        :param database: A URI that ends with ``?mode=rw``.
        """
        path = unquote(urlsplit(database).path)
        wal, shm = Path(f"{path}-wal"), Path(f"{path}-shm")
        mode = "?mode=ro"
        if not wal.exists() or not wal.stat().st_size:
            # SQLite would make both files.
            mode += "&immutable=1"
        elif not shm.exists():
            self._made.add(shm)
        connection: sqlite3.Connection = sqlite3.connect(
            database.removesuffix("?mode=rw") + mode, **options
        )
        # Nobody shall try to tidy up there.
        connection.execute("PRAGMA query_only = ON")
        return connection

    def connect_to(self, path: Path) -> sqlite3.Connection:
        """
        Open the database in a file; blocking.
        """
        return self.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False
        )

    def clean(self) -> None:
        """
        Remove what was made, when all is closed.
        """
        for path in self._made:
            path.unlink(missing_ok=True)


def connect_beside(database: str, **options: Any) -> sqlite3.Connection:
    """
    Do as ``sqlite3.connect`` does, for reading beside the server that writes; blocking.

    :param database: A URI that ends with ``?mode=rw``: so the connection takes part in what the
        processes of the server share, and changes nothing all the same.
    """
    connection: sqlite3.Connection = sqlite3.connect(database, **options)
    connection.execute("PRAGMA query_only = ON")
    return connection


async def examine(path: Path, databases: ReadOnly, lanes: ILanes, deep: bool) -> Sequence[str]:
    """
    What a database tells of what is wrong with itself.

    :param deep: Whether it looks at everything, its indexes, too.
    """
    lane = lanes.lane()
    try:
        connection: sqlite3.Connection = await lane.run(databases.connect_to, path)
    except sqlite3.Error as error:
        return [str(error)]
    try:
        findings: Sequence[str] = await lane.run(_findings, connection, deep)
        return findings
    except CancelledError:
        # The lane would be busy for long.
        connection.interrupt()
        raise
    finally:
        await lane.run(connection.close)


def _findings(connection: sqlite3.Connection, deep: bool) -> Sequence[str]:
    kind = "integrity_check" if deep else "quick_check"
    try:
        rows = connection.execute(f"PRAGMA {kind}({_FINDINGS})").fetchall()
    except sqlite3.Error as error:
        return [str(error)]
    return [" ".join(text.split()) for (text,) in rows if text != "ok"]

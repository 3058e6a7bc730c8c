# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How a database gives room back to the disk; blocking, for lanes.

What is removed leaves free pages, which later records use.  If nothing comes, they would be kept
for good: small objects that were deleted would take as much of the disk as before, and a disk
that they filled would stay full.  So pages from the end of the file are moved into free ones, a
few in each transaction, and the file gets shorter.
"""

import sqlite3
from collections.abc import Iterable

from kypello.model import Write

#: How many free pages are kept for what comes next; a page has 4 KiB.
KEPT = 256

#: How many pages one transaction moves at most.  With all that it changes it has to fit into the
#: room that is kept for deleting (``store/reserve.py``).
PIECE = 64

#: How long readers are waited for, in milliseconds.
_PATIENCE = 200

_INCREMENTAL = 2


def make_trimmable(connection: sqlite3.Connection) -> None:
    """
    Have a database that is empty note where its pages belong, so that they can be moved.
    """
    connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")


def removes(writes: Iterable[Write]) -> bool:
    """
    Whether a commit may leave free pages.
    """
    return any(write.value is None for write in writes)


def loose_pages(connection: sqlite3.Connection) -> int:
    """
    How many pages can be given back.

    :return: 0 for a database that was made before they could be moved, and for who only reads.
    """
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free <= KEPT:
        return 0
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (reading,) = connection.execute("PRAGMA query_only").fetchone()
    return free - KEPT if mode == _INCREMENTAL and not reading else 0


def trim(connection: sqlite3.Connection, pages: int) -> None:
    """
    Give back so many pages, but no more than :data:`PIECE`; the file is shorter when the log has
    been written into it.
    """
    # Of a statement without rows only the first step would be made: that is one page.
    connection.executescript(f"PRAGMA incremental_vacuum({min(pages, PIECE)})")


def shorten(connection: sqlite3.Connection) -> None:
    """
    Write the log into the file, which is cut to its length by that.

    Readers of what was before are waited for, but not for long: the next time will do as well.
    """
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
    try:
        connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")

# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Errors of the operating system and of SQLite in the words of the domain.
"""

import sqlite3

from kypello.errors import Damaged, KypelloError, StorageFailed, StorageFull
from kypello.store.reserve import NO_ROOM


def storage_error(error: OSError | sqlite3.Error, what: str) -> KypelloError:
    """
    What to raise instead of *error*.

    :param what: What was being read or written, for the administrator.
    """
    if isinstance(error, OSError):
        full = error.errno in NO_ROOM
        return StorageFull() if full else StorageFailed(f"{what}: {error.strerror or error}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFull()
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Damaged(f"{what}: {error}")
    return StorageFailed(f"{what}: {error}")

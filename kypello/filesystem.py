# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The room on a file system.
"""

import os

from attrs import frozen

from kypello.errors import StorageFailed


@frozen
class Space:
    """
    A file system: bytes, and how many files there may still be.

    :ivar free: What may be written.
    """

    total: int
    free: int
    used: int
    inodes: int


def read_space(path: str) -> Space:
    """
    Ask the file system; blocking.

    :raises StorageFailed:
    """
    try:
        told = os.statvfs(path)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from None
    size = told.f_frsize
    used = (told.f_blocks - told.f_bfree) * size
    return Space(told.f_blocks * size, told.f_bavail * size, used, told.f_favail)
